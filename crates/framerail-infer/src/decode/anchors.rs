//! Outputs that are offsets from fixed anchor boxes: SSD and RetinaFace.
//!
//! Source: Liu et al., "SSD: Single Shot MultiBox Detector" (2016), section 2.2, for anchors and coding; Deng et al.,
//! "RetinaFace" (2019) for landmarks coded like centres.

use serde::Deserialize;

use super::{Activation, KeyError, ensure, positive};
use crate::card::ModelCard;

/// Parameters of an anchor model. Outputs are `[batch, anchors, values]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorsCard {
    /// Output with four offsets for each anchor: centre x and y, width, height.
    pub boxes: String,
    /// Output with a score for each anchor and class, background included where there is one.
    pub scores: String,
    /// Output with two values for each landmark of each anchor.
    pub landmarks: Option<String>,
    /// What is left to be done to the scores.
    #[serde(default)]
    pub activation: Activation,
    /// Number of the background class among the scores; those after it move down by one. Left out when there is none.
    pub background: Option<u32>,
    /// What the four offsets are multiplied by.
    #[serde(default = "ssd_variances")]
    pub variances: [f32; 4],
    /// Whether anchors are cut off at the input's size.
    #[serde(default)]
    pub clip: bool,
    /// The feature maps, in the order of the outputs.
    pub levels: Vec<AnchorLevel>,
}

/// The anchors of one feature map. Its cells go row by row; the anchors of a cell follow each other: for each of `sizes` a square,
/// then the square of `between`, then for each of `aspect_ratios` the wide box and the tall one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorLevel {
    /// Model pixels from one cell to the next; cells are as many as it takes to cover the input.
    pub step: f32,
    /// Sides of square anchors in model pixels.
    pub sizes: Vec<f32>,
    /// The next level's size: adds a square of `sqrt(sizes[0] * between)`.
    pub between: Option<f32>,
    /// Adds two boxes each: `sizes[0] * sqrt(ratio)` by `sizes[0] / sqrt(ratio)`, and the same turned.
    #[serde(default)]
    pub aspect_ratios: Vec<f32>,
}

fn ssd_variances() -> [f32; 4] {
    [0.1, 0.1, 0.2, 0.2]
}

impl AnchorsCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure(!self.levels.is_empty(), "levels", "one table for each feature map")?;
        for level in &self.levels {
            ensure(level.step >= 1.0 && level.step.is_finite(), "step", "1 or more")?;
            ensure((1..=64).contains(&level.sizes.len()) && level.sizes.iter().copied().all(positive), "sizes", "1 to 64 numbers above 0")?;
            ensure(level.between.is_none_or(positive), "between", "a number above 0")?;
            ensure(
                level.aspect_ratios.len() <= 64 && level.aspect_ratios.iter().copied().all(positive),
                "aspect_ratios",
                "numbers above 0",
            )?;
        }
        ensure(self.variances.iter().copied().all(positive), "variances", "four numbers above 0")?;
        ensure(self.background.is_none_or(|id| id as usize <= card.class_count()), "background", "the number of one of the classes")?;
        ensure(self.landmarks.is_some() || card.landmarks.is_empty(), "landmarks", "the name of an output, since the card names landmarks")
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        [Some(&self.boxes), Some(&self.scores), self.landmarks.as_ref()].into_iter().flatten().map(String::as_str).collect()
    }
}
