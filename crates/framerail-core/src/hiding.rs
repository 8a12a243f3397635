//! How a detection is hidden, as plain numbers.

use std::sync::Arc;

use crate::{AxisBlur, BBox, Outline, Region};

/// Which pixels are hidden, and how much; carried out wherever the frame lies.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskPlan {
    /// The pixels that may be covered, inside the frame.
    pub region: Region,
    /// The box after scaling, or that of the contour; may reach beyond the frame.
    pub bounds: BBox,
    /// How much each of the pixels is covered.
    pub cover: MaskCover,
}

/// How much each pixel of a mask is covered: 0 (left as it is) to 255 (hidden).
#[derive(Clone, Debug, PartialEq)]
pub enum MaskCover {
    /// By numbers: a row of pixels is covered whole where it is inside of the outline, and by the soft edge around that: see
    /// [`Outline::distance`].
    Outline {
        /// The outline's middle, in frame pixels.
        center: (f64, f64),
        /// The outline about its middle.
        outline: Outline,
        /// Width of the soft edge in pixels.
        feather: f64,
    },
    /// By a value for each pixel of the region, row by row: what no few numbers say, such as the contour of a face.
    Raster(Arc<[u8]>),
}

/// How one component is blurred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlurPlan {
    /// The samples that are read, in the component's grid.
    pub patch: Region,
    /// Along rows.
    pub across: AxisBlur,
    /// Along columns.
    pub down: AxisBlur,
}

/// How one component is cut into cells of their mean: cell `n` of an axis holds the samples with
/// `floor(((sample << shift) - origin) / cell) = n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MosaicPlan {
    /// The samples that are read, in the component's grid: whole cells, cut at the frame's edges.
    pub source: Region,
    /// Left edge of cell 0 in pixels, within ±1e6.
    pub origin_x: i32,
    /// Top edge of cell 0 in pixels, within ±1e6.
    pub origin_y: i32,
    /// Side of a cell in pixels; at least 1.
    pub cell: u32,
}

/// What replaces a component's samples under a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FillPlan {
    /// One code value, before any shift of the format.
    Solid(u16),
    /// Their blurred neighbourhood.
    Blur(BlurPlan),
    /// The mean of their cell.
    Mosaic(MosaicPlan),
}

/// How one detection is hidden as plain numbers: worked out in one place, carried out wherever the frame lies.
#[derive(Clone, Debug, PartialEq)]
pub struct HidePlan {
    /// Where. A chroma sample is covered as much as the most covered pixel that shares it.
    pub mask: MaskPlan,
    /// With what: one for each colour component of the format, all of one kind, and the same for both components of chroma but for
    /// the code.
    pub fills: Vec<FillPlan>,
}

impl FillPlan {
    /// The samples that are read beyond those that are replaced, in the component's grid.
    pub fn source(&self) -> Option<Region> {
        match self {
            FillPlan::Solid(_) => None,
            FillPlan::Blur(blur) => Some(blur.patch),
            FillPlan::Mosaic(mosaic) => Some(mosaic.source),
        }
    }
}
