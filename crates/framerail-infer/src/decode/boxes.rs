//! Finished boxes with scores: models with their own decoding, and often suppression, inside.

use serde::Deserialize;

use super::{Activation, BoxForm, KeyError, ensure};
use crate::card::ModelCard;

/// Parameters of a model that gives boxes. Outputs may lack the batch axis when the model takes one frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxesCard {
    /// Output `[batch, boxes, 4]`; with more values a box when `scores` is left out: the fifth is the score, the sixth the class.
    pub boxes: String,
    /// Output `[batch, boxes]`, or `[batch, boxes, classes]` when `labels` is left out.
    pub scores: Option<String>,
    /// Output `[batch, boxes]` with the class of each box.
    pub labels: Option<String>,
    /// Output `[batch]` with the number of boxes that count.
    pub count: Option<String>,
    /// How four values stand for a box.
    #[serde(default)]
    pub form: BoxForm,
    /// Whether coordinates go from 0 to 1 instead of in model pixels.
    #[serde(default)]
    pub normalized: bool,
    /// What is left to be done to the scores.
    #[serde(default)]
    pub activation: Activation,
    /// Number of the background class among the scores; those after it move down by one. Left out when there is none.
    pub background: Option<u32>,
    /// Number that the `labels` output gives the card's first class.
    #[serde(default)]
    pub first_label: i64,
    /// Whether the model suppresses overlapping boxes itself.
    #[serde(default)]
    pub suppressed: bool,
}

impl BoxesCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure(self.labels.is_none() || self.scores.is_some(), "labels", "a name only beside 'scores'")?;
        ensure(card.landmarks.is_empty(), "landmarks", "no landmarks: this family has none")?;
        ensure(self.background.is_none_or(|id| id as usize <= card.class_count()), "background", "the number of one of the classes")
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        [Some(&self.boxes), self.scores.as_ref(), self.labels.as_ref(), self.count.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }
}
