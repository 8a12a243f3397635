//! Drawing operations on a frame: computed in one place, drawn wherever the frame is stored.

use std::sync::Arc;

use crate::{Point, Region};

/// The shape drawn within a stroke's region.
#[derive(Clone, Debug, PartialEq)]
pub enum StrokeShape {
    /// The whole region, with constant coverage (0 to 255).
    Flat(u8),
    /// A straight line with round ends. Coverage of a pixel: `width / 2 - distance + 0.5`, clamped to 0..=1, `distance` from its centre.
    Line {
        /// One end, in frame pixels.
        from: Point,
        /// The other end.
        to: Point,
        /// Width in pixels.
        width: f32,
    },
    /// A line of text, with characters of `8 * scale` pixels in both directions.
    Text {
        /// Left edge of the first character; may lie outside the frame.
        x: i64,
        /// Top edge.
        y: i64,
        /// Frame pixels per font pixel.
        scale: u32,
        /// Rows of each character from the top; the lowest bit is the leftmost pixel.
        glyphs: Vec<[u8; 8]>,
    },
    /// One coverage value (0 to 255) per pixel of the region, row by row.
    Raster(Arc<[u8]>),
}

/// One drawing operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Stroke {
    /// The pixels that may be covered, within the frame.
    pub region: Region,
    /// Which pixels, and how much. A chroma sample gets the mean coverage of the region's pixels that share it.
    pub shape: StrokeShape,
    /// Colour as code values of the format's components, before any shift.
    pub codes: [u16; 3],
}
