//! Points of one object that fills the image: faces, hands, poses.

use framerail_core::{AttributeValue, Point, TensorLayout};
use serde::Deserialize;

use super::{Activation, Describe, Described, Expected, KeyError, Seen, Tensors, ensure, heatmap::AxisOrder, landmark_maps::LandmarkMaps};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of a landmark model. `[thresholds] confidence` is the minimum of the `presence` score, 0.5 by default, or for heatmaps of
/// the mean of their highest values, 0.2 by default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LandmarksCard {
    /// Output with the points in order, in any shape: `[batch, points * values]`, `[batch, points, values]`; or with a heatmap for each
    /// point, `[batch, points, rows, columns]`, whose cells cover the model's input evenly.
    pub output: String,
    /// Which of these it is.
    #[serde(default)]
    pub form: LandmarkForm,
    /// Number of points; by default the number of the card's names.
    pub points: Option<usize>,
    /// Values per point: 2 (x, y), or more, of which the rest is ignored (depth, visibility).
    #[serde(default = "two")]
    pub values: usize,
    /// Whether x or y comes first.
    #[serde(default)]
    pub axes: AxisOrder,
    /// Whether coordinates go from 0 to 1 instead of in model pixels.
    #[serde(default)]
    pub normalized: bool,
    /// For heatmaps: whether points come before or after rows and columns.
    #[serde(default)]
    pub layout: TensorLayout,
    /// For heatmaps: activation that their values still need.
    #[serde(default)]
    pub activation: Activation,
    /// For heatmaps: position of a cell's origin: 0 = top left corner, 0.5 = middle.
    #[serde(default)]
    pub cell_origin: f32,
    /// Output with one score: whether the object is present.
    pub presence: Option<String>,
    /// Activation that this score still needs.
    #[serde(default)]
    pub presence_activation: Activation,
}

/// Form of a landmark model's points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LandmarkForm {
    /// By their coordinates.
    #[default]
    Points,
    /// By a heatmap for each.
    Heatmaps,
}

fn two() -> usize {
    2
}

/// More points than any published model has.
const MAX_POINTS: usize = 10_000;

impl LandmarksCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        let named = card.landmarks.len();
        ensure(self.points.is_some() || named > 0, "points", "the number of landmarks, if the card has no 'landmarks' with names")?;
        ensure(self.points.is_none_or(|points| named == 0 || points == named), "points", "the number of the card's 'landmarks'")?;
        ensure((1..=MAX_POINTS).contains(&self.count(card)), "points", "1 to 10000")?;
        ensure((2..=16).contains(&self.values), "values", "2 to 16")?;
        let has_maps = self.form == LandmarkForm::Heatmaps;
        ensure(!has_maps || !self.normalized, "normalized", "left out for heatmaps: their cells cover the model's input")?;
        ensure(self.activation != Activation::Softmax, "activation", "none or sigmoid")?;
        ensure(has_maps || self.activation == Activation::None, "activation", "left out unless form is heatmaps")?;
        ensure((0.0..=1.0).contains(&self.cell_origin), "cell_origin", "0 to 1")?;
        ensure(self.presence_activation != Activation::Softmax, "presence_activation", "none or sigmoid: it is one score")
    }

    /// Number of points.
    pub(crate) fn count(&self, card: &ModelCard) -> usize {
        self.points.unwrap_or(card.landmarks.len())
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let points = self.count(card);
        let output = match (self.form, self.layout) {
            (LandmarkForm::Points, _) => Expected::elements(&self.output, points.saturating_mul(self.values)),
            (LandmarkForm::Heatmaps, TensorLayout::Tchw) => Expected::new(&self.output, &[&[None, Some(points), None, None]]),
            (LandmarkForm::Heatmaps, TensorLayout::Thwc) => Expected::new(&self.output, &[&[None, None, None, Some(points)]]),
        };
        let scores = self.presence.as_ref().map(|name| Expected::elements(name, 1));
        std::iter::once(output).chain(scores).collect()
    }

    /// The default confidence threshold.
    pub(crate) fn default_confidence(&self) -> f32 {
        match (self.form, &self.presence) {
            // HRNet's threshold for a visible point.
            (LandmarkForm::Heatmaps, None) => 0.2,
            _ => 0.5,
        }
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        std::iter::once(&self.output).chain(&self.presence).map(String::as_str).collect()
    }
}

/// Decodes the points of one input size.
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

impl Landmarks {
    /// The points in model pixels, and the score if there is no `presence` output.
    fn points(&self, tensors: &Tensors<'_>, item: usize) -> Result<(Vec<Point>, Option<f32>), String> {
        let name = &self.card.output;
        if self.card.form == LandmarkForm::Heatmaps {
            let tensor = tensors.item(name, item, 3)?;
            let maps = LandmarkMaps::new(&tensor, self.card.layout, self.points);
            let maps = maps.ok_or_else(|| format!("output '{name}' is {:?}; the card makes {} points", tensor.dims, self.points))?;
            return Ok(self.points_of_maps(&maps));
        }
        let values = tensors.flat(name, item)?;
        if values.len() != self.points * self.card.values {
            let found = values.len();
            return Err(format!("output '{name}' has {found} values; the card makes {} points of {}", self.points, self.card.values));
        }
        Ok((values.chunks_exact(self.card.values).map(|values| self.point(values)).collect(), None))
    }

    /// The score is the mean over the maps, as published.
    fn points_of_maps(&self, maps: &LandmarkMaps<'_>) -> (Vec<Point>, Option<f32>) {
        let (columns, rows) = maps.cells();
        let (across, down) = (self.input.width as f32 / columns as f32, self.input.height as f32 / rows as f32);
        let origin = self.card.cell_origin;
        let (mut points, mut scores) = (Vec::with_capacity(self.points), Vec::with_capacity(self.points));
        for peak in maps.peaks() {
            points.push(Point { x: (peak.at.x + origin) * across, y: (peak.at.y + origin) * down });
            scores.push(peak.value);
        }
        self.card.activation.apply(&mut scores);
        let mean = scores.iter().sum::<f32>() / self.points as f32;
        (points, Some(if mean.is_finite() { mean.clamp(0.0, 1.0) } else { mean }))
    }
}

impl Describe for Landmarks {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, confidence: f32) -> Result<Described, String> {
        let (points, own_score) = self.points(tensors, item)?;
        let score = self.presence(tensors, item)?.or(own_score);
        let points: Vec<Point> = points.into_iter().map(|point| seen.mapping.point_frame_from_model(point)).collect();
        let is_finite = points.iter().all(|point| point.x.is_finite() && point.y.is_finite());
        Ok(match score {
            _ if !is_finite || score.is_some_and(|score| !score.is_finite()) => Described::NotFinite,
            Some(score) if score <= confidence => Described::Nothing,
            score => Described::found(AttributeValue::Landmarks(points), score.unwrap_or(1.0)),
        })
    }
}
