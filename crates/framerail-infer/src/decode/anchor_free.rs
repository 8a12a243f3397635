//! Outputs with one column (or row) for each box, already in pixels: YOLOv5, YOLOv8 and their kin.
//!
//! Source: the documented export format of these models: `4 + classes (+ landmarks)` values for each box, YOLOv5 with an
//! objectness score after the first four.

use serde::Deserialize;

use super::{Activation, BoxForm, KeyError, ensure};
use crate::card::ModelCard;

/// Parameters of an anchor-free model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorFreeCard {
    /// The output.
    pub output: String,
    /// Whether values or boxes come first.
    pub order: ValueOrder,
    /// How the first four values stand for a box.
    #[serde(default = "center_and_size")]
    pub form: BoxForm,
    /// Whether coordinates go from 0 to 1 instead of in model pixels.
    #[serde(default)]
    pub normalized: bool,
    /// Whether an objectness score follows the box; class scores are multiplied by it.
    #[serde(default)]
    pub objectness: bool,
    /// What is left to be done to the scores.
    #[serde(default)]
    pub activation: Activation,
    /// Values for each landmark after the scores: 2 (x, y) or 3 (x, y, visibility); 0 when the model has none.
    #[serde(default)]
    pub landmark_values: usize,
}

/// The order of an output's last two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueOrder {
    /// `[batch, values, boxes]`, as YOLOv8 exports.
    ValuesFirst,
    /// `[batch, boxes, values]`, as YOLOv5 exports.
    BoxesFirst,
}

fn center_and_size() -> BoxForm {
    BoxForm::Cxcywh
}

impl AnchorFreeCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        let fitting: &[usize] = if card.landmarks.is_empty() { &[0] } else { &[2, 3] };
        ensure(fitting.contains(&self.landmark_values), "landmark_values", "2 or 3 when the card names landmarks, else 0")
    }
}
