//! Parts of frames on which the next model runs, and model results for whole frames: attachments of `crop`, `regions`, `tiles` and
//! `infer`. Found in [`FrameItem::attachments`](framerail_pipeline::FrameItem::attachments) by their type.

use std::sync::Arc;

use framerail_core::{Attribute, BBox, Detection};
use framerail_vision::{MergeOptions, zones::Outline};

/// Parts on which the next model runs instead of the whole frame. That model's stage removes them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameParts {
    /// In the order of the model runs.
    pub parts: Vec<Part>,
    /// Indices of detections that are skipped in this frame: the last results of their tracks are kept.
    pub kept: Vec<usize>,
    /// How detections of overlapping parts are merged.
    pub merge: Option<MergeOptions>,
}

/// A part of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// In frame pixels, inside the frame.
    pub area: BBox,
    /// The origin of the part.
    pub of: PartOf,
    /// The outline inside which detections count; `None` for the whole area.
    pub outline: Option<Arc<Outline>>,
}

impl Part {
    /// All of an area.
    pub fn new(area: BBox, of: PartOf) -> Self {
        Self { area, of, outline: None }
    }

    /// Removes detections outside of the outline; returns their number.
    pub fn keep_inside(&self, found: &mut Vec<Detection>) -> u64 {
        let Some(outline) = &self.outline else { return 0 };
        let all = found.len();
        found.retain(|detection| outline.holds(&detection.bbox));
        (all - found.len()) as u64
    }
}

/// The origin of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartOf {
    /// A detection, by its index.
    Detection(usize),
    /// An area from the pipeline, by its number and name.
    Region(u32, Arc<str>),
    /// A tile, or the whole frame beside tiles.
    Frame,
}

/// Results of models for a whole frame, in the order of the model runs: its class, its embedding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameAttributes(pub Vec<Attribute>);
