//! From a model's output tensors to boxes in its own pixels, one file a family of models.

use serde::Deserialize;

pub mod anchor_free;
pub mod anchors;
pub mod boxes;
pub mod heatmap;

pub use anchor_free::AnchorFreeCard;
pub use anchors::{AnchorLevel, AnchorsCard};
pub use boxes::BoxesCard;
pub use heatmap::HeatmapCard;

use crate::card::ModelCard;

/// The family that a model's outputs belong to, with its parameters: `[output.heatmap]` and so on in a card.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputCard {
    /// A heatmap of centres, with size, offset and landmarks for each cell (CenterNet, CenterFace).
    Heatmap(HeatmapCard),
    /// Offsets from fixed anchor boxes (SSD, RetinaFace).
    Anchors(AnchorsCard),
    /// One column a box (YOLOv5, YOLOv8 and their kin).
    AnchorFree(AnchorFreeCard),
    /// Finished boxes with scores; suppression may be inside the model.
    Boxes(BoxesCard),
}

/// A key of the card that makes no sense, and what it takes.
pub(crate) type KeyError = (&'static str, String);

impl OutputCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        match self {
            OutputCard::Heatmap(heatmap) => heatmap.check(card),
            OutputCard::Anchors(anchors) => anchors.check(card),
            OutputCard::AnchorFree(anchor_free) => anchor_free.check(card),
            OutputCard::Boxes(boxes) => boxes.check(card),
        }
    }

    /// The outputs that the decoder reads.
    pub fn output_names(&self) -> Vec<&str> {
        match self {
            OutputCard::Heatmap(heatmap) => heatmap.output_names(),
            OutputCard::Anchors(anchors) => anchors.output_names(),
            OutputCard::AnchorFree(anchor_free) => vec![&anchor_free.output],
            OutputCard::Boxes(boxes) => boxes.output_names(),
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

/// How four numbers stand for a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxForm {
    /// Left, top, right, bottom.
    #[default]
    Xyxy,
    /// Top, left, bottom, right.
    Yxyx,
    /// Centre and size.
    Cxcywh,
    /// Left, top and size.
    Xywh,
}

/// What a model leaves to be done to its scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// Nothing: they are probabilities.
    #[default]
    None,
    /// Each on its own: `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Over the classes of a box: `exp(x) / Σ exp`.
    Softmax,
}
