//! One thing painted over a frame, as plain numbers: worked out in one place, painted wherever the frame lies.

use std::sync::Arc;

use crate::{Point, Region};

/// What is painted in a stroke's region.
#[derive(Clone, Debug, PartialEq)]
pub enum StrokeShape {
    /// All of it, by the same coverage (0 to 255).
    Flat(u8),
    /// A straight line with round ends: a pixel is covered by `width / 2 - distance + 0.5`, from 0 to 1, of its middle.
    Line {
        /// One end, in frame pixels.
        from: Point,
        /// The other end.
        to: Point,
        /// Width in pixels.
        width: f32,
    },
    /// Letters of `8 * scale` pixels each way, in a row.
    Text {
        /// Left edge of the first letter; may lie outside of the frame.
        x: i64,
        /// Top edge.
        y: i64,
        /// Pixels of a font pixel.
        scale: u32,
        /// Rows of each letter from the top; the lowest bit is the leftmost pixel.
        glyphs: Vec<[u8; 8]>,
    },
    /// By a coverage (0 to 255) for each pixel of the region, row by row.
    Raster(Arc<[u8]>),
}

/// One thing that is painted, over what is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Stroke {
    /// The pixels that it may cover, inside the frame.
    pub region: Region,
    /// Which of them, and how much. A chroma sample is covered by the mean of the region's pixels that share it.
    pub shape: StrokeShape,
    /// Its colour as code values of the format's components, before any shift.
    pub codes: [u16; 3],
}
