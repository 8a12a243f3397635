//! How a detection is hidden, as plain numbers.

use crate::{AxisBlur, BBox, Outline, Region};

/// A mask's outline and place as numbers; what [`Mask::new`] rasterises, for whoever does that elsewhere.
///
/// A row of pixels is covered whole (255) where it is inside of the outline, and by the soft edge around that: see
/// [`Outline::distance`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskPlan {
    /// The pixels that may be covered, inside the frame.
    pub region: Region,
    /// The box after scaling; may reach beyond the frame.
    pub bounds: BBox,
    /// The outline's middle, in frame pixels.
    pub center: (f64, f64),
    /// The outline about its middle.
    pub outline: Outline,
    /// Width of the soft edge in pixels.
    pub feather: f64,
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
