//! Parameters for hiding a detection.

use std::sync::Arc;

use crate::{AxisBlur, BBox, Outline, Region};

/// Which pixels are covered, and how much; applied on the CPU or the GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskPlan {
    /// The pixels that may be covered, within the frame.
    pub region: Region,
    /// The scaled box, or the bounding box of the contour; may extend beyond the frame.
    pub bounds: BBox,
    /// Coverage of each pixel.
    pub cover: MaskCover,
}

/// Coverage of each pixel of a mask, from 0 (unchanged) to 255 (hidden).
#[derive(Clone, Debug, PartialEq)]
pub enum MaskCover {
    /// From a shape: full coverage inside the outline, falling off over the soft edge around it; see
    /// [`Outline::distance`].
    Outline {
        /// Centre of the outline, in frame pixels.
        center: (f64, f64),
        /// The outline, relative to its centre.
        outline: Outline,
        /// Width of the soft edge in pixels.
        feather: f64,
    },
    /// One value per pixel of the region, row by row: for shapes without a formula, such as the contour of a face.
    Raster(Arc<[u8]>),
}

/// The blur of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlurPlan {
    /// The samples to read, in the component's grid.
    pub patch: Region,
    /// Blur along rows.
    pub across: AxisBlur,
    /// Blur along columns.
    pub down: AxisBlur,
}

/// The mosaic of one component; each cell is filled with its mean. Cell `n` of an axis holds the samples with
/// `floor(((sample << shift) - origin) / cell) = n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MosaicPlan {
    /// The samples to read, in the component's grid: whole cells, cropped to the frame.
    pub source: Region,
    /// Left edge of cell 0 in pixels, within ±1e6.
    pub origin_x: i32,
    /// Top edge of cell 0 in pixels, within ±1e6.
    pub origin_y: i32,
    /// Side of a cell in pixels; at least 1.
    pub cell: u32,
}

/// The replacement for a component's samples under a mask.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FillPlan {
    /// One code value, before any shift of the format.
    Solid(u16),
    /// The blurred samples.
    Blur(BlurPlan),
    /// The mean of each sample's cell.
    Mosaic(MosaicPlan),
}

/// How to hide one detection: computed in one place, applied wherever the frame is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct HidePlan {
    /// Where to cover. A chroma sample gets the maximum coverage of the pixels that share it.
    pub mask: MaskPlan,
    /// One fill per colour component, all of the same kind. Both chroma components use the same parameters except for
    /// the code value.
    pub fills: Vec<FillPlan>,
}

impl FillPlan {
    /// The samples that are read in addition to those replaced, in the component's grid.
    pub fn source(&self) -> Option<Region> {
        match self {
            FillPlan::Solid(_) => None,
            FillPlan::Blur(blur) => Some(blur.patch),
            FillPlan::Mosaic(mosaic) => Some(mosaic.source),
        }
    }
}
