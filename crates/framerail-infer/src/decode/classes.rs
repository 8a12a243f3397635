//! A score for each class of the whole image: classifiers.

use framerail_core::{AttributeValue, Label, ScoredLabel};
use serde::Deserialize;

use super::{Activation, Describe, Described, Expected, KeyError, Seen, Tensors, ensure};
use crate::card::ModelCard;

/// Parameters of a classifier. `[thresholds] confidence` is the minimum score of a returned class; 0 by default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassesCard {
    /// Output with a score for each class, in the order of the card's: `[batch, classes]`, or with further axes of 1.
    pub output: String,
    /// Activation that the scores still need: `softmax` over the classes, `sigmoid` for classes that are not mutually exclusive.
    #[serde(default)]
    pub activation: Activation,
    /// Maximum number of returned classes, best first.
    #[serde(default = "one")]
    pub top_k: usize,
}

fn one() -> usize {
    1
}

impl ClassesCard {
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        ensure((1..=1000).contains(&self.top_k), "top_k", "1 to 1000")
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let classes = Some(card.class_count());
        let (one, any) = (Some(1), None);
        let shapes: [&[Option<usize>]; 4] = [&[any, classes], &[any, classes, one, one], &[any, one, one, classes], &[classes]];
        vec![Expected::new(&self.output, &shapes)]
    }
}

/// Reads the scores of a classifier.
pub(crate) struct Classes {
    card: ClassesCard,
    labels: Vec<Label>,
}

impl Classes {
    pub(crate) fn new(classes: &ClassesCard, card: &ModelCard) -> Self {
        Self { card: classes.clone(), labels: card.label_list() }
    }
}

impl Describe for Classes {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, _: &Seen, confidence: f32) -> Result<Described, String> {
        let mut scores = tensors.flat(&self.card.output, item)?.to_vec();
        if scores.len() != self.labels.len() {
            return Err(format!("output '{}' has {} scores; the card names {}", self.card.output, scores.len(), self.labels.len()));
        }
        self.card.activation.apply(&mut scores);
        if scores.iter().any(|score| !score.is_finite()) {
            return Ok(Described::NotFinite);
        }
        let scored = |(label, score): (&Label, f32)| ScoredLabel { label: label.clone(), score };
        let mut found: Vec<ScoredLabel> = self.labels.iter().zip(scores).filter(|(_, score)| *score > confidence).map(scored).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(self.card.top_k);
        Ok(match found.first().map(|best| best.score) {
            Some(score) => Described::found(AttributeValue::Classes(found), score),
            None => Described::Nothing,
        })
    }
}
