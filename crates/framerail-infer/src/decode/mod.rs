//! Decodes a model's outputs to boxes in model pixels, or to a result for the whole image: one file per family of models.

use serde::Deserialize;

pub mod anchor_free;
pub mod anchors;
pub mod boxes;
mod candidates;
pub mod classes;
pub mod dense;
mod describe;
pub mod embedding;
mod expect;
pub mod heatmap;
mod landmark_maps;
pub mod landmarks;
pub mod prototypes;
mod seen;
pub mod segmentation;
pub mod strides;
pub mod tensors;

pub use anchor_free::AnchorFreeCard;
pub use anchors::{AnchorLevel, AnchorsCard};
pub use boxes::{BoxSpace, BoxesCard, RowValue};
pub use classes::ClassesCard;
pub use dense::{DepthCard, DepthValues, FlowCard};
pub use embedding::EmbeddingCard;
pub use framerail_core::{Activation, BoxForm};
pub use heatmap::HeatmapCard;
pub use landmarks::{LandmarkForm, LandmarksCard};
pub use prototypes::PrototypesCard;
pub use segmentation::SegmentationCard;
pub use strides::StridesCard;

pub use tensors::{Tensor, TensorData, Tensors};

pub(crate) use candidates::{Candidate, Candidates};
pub(crate) use describe::{Describe, Described};
pub(crate) use expect::Expected;
pub(crate) use framerail_core::model_output::sigmoid;
pub(crate) use seen::Seen;

use framerail_core::{BBox, InstanceMask, OrientedBox};
use framerail_vision::ModelMapping;

use crate::{card::ModelCard, size::InputSize};

/// Decodes one frame's boxes. Created for one input size.
pub(crate) trait Decode: Send {
    /// Adds every box above the threshold to `candidates`, in model pixels.
    ///
    /// # Errors
    /// What is wrong with the outputs' shapes.
    fn decode(&self, tensors: &Tensors<'_>, item: usize, candidates: &mut Candidates) -> Result<(), String>;

    /// The map from frame pixels to the pixels of boxes; by default model pixels.
    fn mapping(&self, seen: &Seen) -> ModelMapping {
        seen.mapping
    }

    /// The rotated box of a row that [`Decode::decode`] returned, in model pixels. `None` for models without rotated boxes.
    fn oriented(&self, _tensors: &Tensors<'_>, _item: usize, _row: usize) -> Option<OrientedBox> {
        None
    }

    /// The mask of a box that [`Decode::decode`] returned, by its row; `bbox` is in model pixels. `None` for models without masks.
    ///
    /// # Errors
    /// What is wrong with the outputs' shapes.
    fn mask(&self, _tensors: &Tensors<'_>, _item: usize, _row: usize, _bbox: &BBox, _seen: &Seen) -> Result<Option<InstanceMask>, String> {
        Ok(None)
    }
}

/// Decodes the result for one image.
pub(crate) enum Decoder {
    /// Boxes.
    Boxes(Box<dyn Decode>),
    /// A result for the image as a whole.
    Description(Box<dyn Describe>),
}

#[cfg(test)]
impl Decoder {
    /// The decoder of boxes; panics for others.
    pub(crate) fn boxes(self) -> Box<dyn Decode> {
        match self {
            Decoder::Boxes(decoder) => decoder,
            Decoder::Description(_) => unreachable!("a card of boxes"),
        }
    }
}

/// The task of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Task {
    /// Finds objects: boxes with classes, and landmarks and masks if the model has them.
    Detection,
    /// Classifies its input.
    Classification,
    /// Returns points of its input.
    Landmarks,
    /// Returns the pixels that belong to an object.
    Segmentation,
    /// Returns a vector for its input.
    Embedding,
    /// Returns the depth of each cell.
    Depth,
    /// Returns the motion of each cell since the frame before.
    Flow,
}

impl Task {
    /// Whether the result is a value for each cell of the frame.
    pub fn is_dense(self) -> bool {
        matches!(self, Task::Depth | Task::Flow)
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Task::Detection => "detection",
            Task::Classification => "classification",
            Task::Landmarks => "landmarks",
            Task::Segmentation => "segmentation",
            Task::Embedding => "embedding",
            Task::Depth => "depth",
            Task::Flow => "optical flow",
        })
    }
}

/// The family of a model's outputs, with its parameters: `[output.heatmap]` and so on in a card.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputCard {
    /// A heatmap of centres, with size, offset and landmarks for each cell (CenterNet, CenterFace).
    Heatmap(HeatmapCard),
    /// Offsets from fixed anchor boxes (SSD, RetinaFace).
    Anchors(AnchorsCard),
    /// One column per box (YOLOv5, YOLOv8 and similar models).
    AnchorFree(AnchorFreeCard),
    /// A score and a box for each cell of a grid for each stride (SCRFD, YuNet, FCOS).
    Strides(StridesCard),
    /// Final boxes with scores; suppression may be inside the model.
    Boxes(BoxesCard),
    /// A score for each class of the whole image.
    Classes(ClassesCard),
    /// Points of one object that fills the image.
    Landmarks(LandmarksCard),
    /// A class for each cell of the image.
    Segmentation(SegmentationCard),
    /// A vector for the whole image.
    Embedding(EmbeddingCard),
    /// A depth for each cell of the image.
    Depth(DepthCard),
    /// A motion for each cell of the image.
    Flow(FlowCard),
}

/// An invalid key of a card, and its allowed values.
pub(crate) type KeyError = (&'static str, String);

impl OutputCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        match self {
            OutputCard::Heatmap(heatmap) => heatmap.check(card),
            OutputCard::Anchors(anchors) => anchors.check(card),
            OutputCard::AnchorFree(anchor_free) => anchor_free.check(card),
            OutputCard::Strides(strides) => strides.check(card),
            OutputCard::Boxes(boxes) => boxes.check(card),
            OutputCard::Classes(classes) => classes.check(),
            OutputCard::Landmarks(landmarks) => landmarks.check(card),
            OutputCard::Segmentation(segmentation) => segmentation.check(card),
            OutputCard::Embedding(embedding) => embedding.check(),
            OutputCard::Depth(depth) => depth.check(),
            OutputCard::Flow(flow) => flow.check(),
        }
    }

    /// The decoder for inputs of this size.
    pub(crate) fn decoder(&self, card: &ModelCard, input: InputSize) -> Decoder {
        let boxes: Box<dyn Decode> = match self {
            OutputCard::Heatmap(heatmap) => Box::new(heatmap::Heatmap::new(heatmap, card, input)),
            OutputCard::Anchors(anchors) => Box::new(anchors::Anchors::new(anchors, card, input)),
            OutputCard::AnchorFree(anchor_free) => Box::new(anchor_free::AnchorFree::new(anchor_free, card, input)),
            OutputCard::Strides(strides) => Box::new(strides::Strides::new(strides, card, input)),
            OutputCard::Boxes(boxes) => Box::new(boxes::Boxes::new(boxes, card, input)),
            OutputCard::Classes(classes) => return Decoder::Description(Box::new(classes::Classes::new(classes, card))),
            OutputCard::Landmarks(marks) => return Decoder::Description(Box::new(landmarks::Landmarks::new(marks, card, input))),
            OutputCard::Segmentation(card_of) => {
                return Decoder::Description(Box::new(segmentation::Segmentation::new(card_of, card, input)));
            }
            OutputCard::Embedding(embedding) => return Decoder::Description(Box::new(embedding::Embedding(embedding.clone()))),
            OutputCard::Depth(depth) => return Decoder::Description(Box::new(dense::Depth { card: depth.clone(), input })),
            OutputCard::Flow(flow) => return Decoder::Description(Box::new(dense::Flow { card: flow.clone(), input })),
        };
        Decoder::Boxes(boxes)
    }

    /// The task of the model.
    pub fn task(&self) -> Task {
        match self {
            OutputCard::Heatmap(_) | OutputCard::Anchors(_) | OutputCard::AnchorFree(_) | OutputCard::Strides(_) | OutputCard::Boxes(_) => {
                Task::Detection
            }
            OutputCard::Classes(_) => Task::Classification,
            OutputCard::Landmarks(_) => Task::Landmarks,
            OutputCard::Segmentation(_) => Task::Segmentation,
            OutputCard::Embedding(_) => Task::Embedding,
            OutputCard::Depth(_) => Task::Depth,
            OutputCard::Flow(_) => Task::Flow,
        }
    }

    /// Number of landmarks of each object.
    pub fn landmark_count(&self, card: &ModelCard) -> usize {
        match self {
            OutputCard::Landmarks(landmarks) => landmarks.count(card),
            _ => card.landmarks.len(),
        }
    }

    /// The default confidence threshold.
    pub(crate) fn default_confidence(&self) -> f32 {
        match (self, self.task()) {
            (OutputCard::Landmarks(landmarks), _) => landmarks.default_confidence(),
            (_, Task::Detection) => crate::card::Thresholds::default().confidence,
            _ => 0.0,
        }
    }

    /// The expected outputs, to check a model before it runs.
    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        match self {
            OutputCard::Heatmap(heatmap) => heatmap.expected(card),
            OutputCard::Anchors(anchors) => anchors.expected(card),
            OutputCard::AnchorFree(anchor_free) => anchor_free.expected(card),
            OutputCard::Strides(strides) => strides.expected(card),
            OutputCard::Boxes(boxes) => boxes.expected(card),
            OutputCard::Classes(classes) => classes.expected(card),
            OutputCard::Landmarks(landmarks) => landmarks.expected(card),
            OutputCard::Segmentation(segmentation) => segmentation.expected(card),
            OutputCard::Embedding(embedding) => embedding.expected(),
            OutputCard::Depth(depth) => depth.expected(),
            OutputCard::Flow(flow) => flow.expected(),
        }
    }

    /// Whether overlapping boxes are still to be suppressed.
    pub(crate) fn needs_suppression(&self) -> bool {
        !matches!(self, OutputCard::Boxes(BoxesCard { suppressed: true, .. }))
    }

    /// The outputs that the decoder reads.
    pub fn output_names(&self) -> Vec<&str> {
        match self {
            OutputCard::Heatmap(heatmap) => heatmap.output_names(),
            OutputCard::Anchors(anchors) => anchors.output_names(),
            OutputCard::AnchorFree(anchor_free) => anchor_free.output_names(),
            OutputCard::Strides(strides) => strides.output_names(),
            OutputCard::Boxes(boxes) => boxes.output_names(),
            OutputCard::Classes(classes) => vec![&classes.output],
            OutputCard::Landmarks(landmarks) => landmarks.output_names(),
            OutputCard::Segmentation(segmentation) => vec![&segmentation.output],
            OutputCard::Embedding(embedding) => vec![&embedding.output],
            OutputCard::Depth(depth) => vec![&depth.output],
            OutputCard::Flow(flow) => vec![&flow.output],
        }
    }
}

pub(crate) fn ensure(good: bool, key: &'static str, expected: &str) -> Result<(), KeyError> {
    if good { Ok(()) } else { Err((key, expected.to_owned())) }
}

/// Whether a number is finite and above zero.
pub(crate) fn positive(value: f32) -> bool {
    value.is_finite() && value > 0.0
}

/// A box with coordinates from 0 to 1, in pixels.
pub(crate) fn to_pixels(bbox: BBox, input: InputSize) -> BBox {
    let (width, height) = (input.width as f32, input.height as f32);
    BBox::from_xyxy(bbox.x1 * width, bbox.y1 * height, bbox.x2 * width, bbox.y2 * height)
}

/// The class of a score's column; `None` for the background.
pub(crate) fn class_of(column: usize, background: Option<u32>) -> Option<usize> {
    match background.map(|id| id as usize) {
        Some(background) if column == background => None,
        Some(background) if column > background => Some(column - 1),
        _ => Some(column),
    }
}
