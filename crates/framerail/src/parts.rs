//! Parts of frames that the next model looks at, and what models say of frames as a whole: what `crop`, `regions`, `tiles` and
//! `infer` hang on frames. Found in [`FrameItem::attachments`](framerail_pipeline::FrameItem::attachments) by their type.

use std::sync::Arc;

use framerail_core::{Attribute, BBox, Detection};
use framerail_vision::{MergeOptions, zones::Outline};

/// Parts that the next model is to look at in place of the whole frame. That stage takes them off again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameParts {
    /// In the order in which they are looked at.
    pub parts: Vec<Part>,
    /// Detections, by their places in the list, that are not looked at again: what was said of their track last stays.
    pub kept: Vec<usize>,
    /// How detections of overlapping parts become those of the frame.
    pub merge: Option<MergeOptions>,
}

/// A part of a frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// In frame pixels, within the frame.
    pub area: BBox,
    /// What is there.
    pub of: PartOf,
    /// What of the area counts; `None` for all of it.
    pub outline: Option<Arc<Outline>>,
}

impl Part {
    /// All of an area.
    pub fn new(area: BBox, of: PartOf) -> Self {
        Self { area, of, outline: None }
    }

    /// Takes out what was found beside the outline, and gives how many that are.
    pub fn keep_inside(&self, found: &mut Vec<Detection>) -> u64 {
        let Some(outline) = &self.outline else { return 0 };
        let all = found.len();
        found.retain(|detection| outline.holds(&detection.bbox));
        (all - found.len()) as u64
    }
}

/// What a part shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartOf {
    /// A detection, by its place in the list.
    Detection(usize),
    /// An area that the user named, by its number and name.
    Region(u32, Arc<str>),
    /// Nothing in particular: a tile, or the whole frame beside tiles.
    Frame,
}

/// What models say of a frame as a whole, in the order in which they looked: its class, its embedding.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameAttributes(pub Vec<Attribute>);
