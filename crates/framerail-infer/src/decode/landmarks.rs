//! Points of one thing that fills the picture: faces, hands, poses.

use framerail_core::{AttributeValue, Point};
use serde::Deserialize;

use super::{Activation, Describe, Described, Expected, KeyError, Seen, Tensors, ensure, heatmap::AxisOrder};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of a landmark model. `[thresholds] confidence` is the score of `presence` above which there are any; 0.5 unless the
/// card says otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LandmarksCard {
    /// Output with the points one after the other, whatever its axes: `[batch, points * values]`, `[batch, points, values]`.
    pub output: String,
    /// Number of points; where the card names them, as many as there are names.
    pub points: Option<usize>,
    /// Values for each point: 2 (x, y), or more of which the rest is not read (depth, visibility).
    #[serde(default = "two")]
    pub values: usize,
    /// Whether x or y comes first.
    #[serde(default)]
    pub axes: AxisOrder,
    /// Whether coordinates go from 0 to 1 instead of in model pixels.
    #[serde(default)]
    pub normalized: bool,
    /// Output with one score: whether the thing is there at all.
    pub presence: Option<String>,
    /// What is left to be done to that score.
    #[serde(default)]
    pub presence_activation: Activation,
}

fn two() -> usize {
    2
}

/// More points than any published model has.
const MAX_POINTS: usize = 10_000;

impl LandmarksCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        let named = card.landmarks.len();
        ensure(self.points.is_some() || named > 0, "points", "their number, when the card has no 'landmarks' with their names")?;
        ensure(self.points.is_none_or(|points| named == 0 || points == named), "points", "the number of the card's 'landmarks'")?;
        ensure((1..=MAX_POINTS).contains(&self.count(card)), "points", "1 to 10000")?;
        ensure((2..=16).contains(&self.values), "values", "2 to 16")?;
        ensure(self.presence_activation != Activation::Softmax, "presence_activation", "none or sigmoid: it is one score")
    }

    /// Number of points.
    pub(crate) fn count(&self, card: &ModelCard) -> usize {
        self.points.unwrap_or(card.landmarks.len())
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let values = self.count(card).saturating_mul(self.values);
        let scores = self.presence.as_ref().map(|name| Expected::elements(name, 1));
        std::iter::once(Expected::elements(&self.output, values)).chain(scores).collect()
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        std::iter::once(&self.output).chain(&self.presence).map(String::as_str).collect()
    }
}

/// Reads the points of one input size.
pub(crate) struct Landmarks {
    card: LandmarksCard,
    points: usize,
    input: InputSize,
}

impl Landmarks {
    pub(crate) fn new(landmarks: &LandmarksCard, card: &ModelCard, input: InputSize) -> Self {
        Self { card: landmarks.clone(), points: landmarks.count(card), input }
    }

    fn presence(&self, tensors: &Tensors<'_>, item: usize) -> Result<Option<f32>, String> {
        let Some(name) = &self.card.presence else { return Ok(None) };
        let mut score = [tensors.flat(name, item)?.first().copied().unwrap_or(f32::NAN)];
        self.card.presence_activation.apply(&mut score);
        Ok(Some(score[0]))
    }

    fn point(&self, values: &[f32]) -> Point {
        let value = |index: usize| values.get(index).copied().unwrap_or(f32::NAN);
        let (x, y) = match self.card.axes {
            AxisOrder::Xy => (value(0), value(1)),
            AxisOrder::Yx => (value(1), value(0)),
        };
        let (across, down) = if self.card.normalized { (self.input.width as f32, self.input.height as f32) } else { (1.0, 1.0) };
        Point { x: x * across, y: y * down }
    }
}

impl Describe for Landmarks {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, confidence: f32) -> Result<Described, String> {
        let values = tensors.flat(&self.card.output, item)?;
        if values.len() != self.points * self.card.values {
            let (name, found) = (&self.card.output, values.len());
            return Err(format!("output '{name}' has {found} values; the card makes {} points of {}", self.points, self.card.values));
        }
        let score = self.presence(tensors, item)?;
        let points = values.chunks_exact(self.card.values).map(|values| seen.mapping.point_frame_from_model(self.point(values)));
        let points: Vec<Point> = points.collect();
        let is_finite = points.iter().all(|point| point.x.is_finite() && point.y.is_finite());
        Ok(match score {
            _ if !is_finite || score.is_some_and(|score| !score.is_finite()) => Described::NotFinite,
            Some(score) if score <= confidence => Described::Nothing,
            score => Described::found(AttributeValue::Landmarks(points), score.unwrap_or(1.0)),
        })
    }
}
