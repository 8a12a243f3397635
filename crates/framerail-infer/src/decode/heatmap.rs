//! CenterNet-style outputs: a heatmap of centres, and size, offset and landmarks for each of its cells.
//!
//! Source: Zhou et al., "Objects as Points" (2019); Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as
//! Point" (2019) for the exponential sizes and the landmarks relative to the box.

use serde::Deserialize;

use super::{KeyError, ensure, positive};
use crate::card::ModelCard;

/// Parameters of a heatmap model. Every output is `[batch, channels, rows, columns]` of the same grid.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapCard {
    /// Output with one channel of scores for each class, 0 to 1.
    pub heatmap: String,
    /// Output with two channels of box sizes.
    pub size: String,
    /// Output with two channels: where in the cell the centre lies.
    pub offset: Option<String>,
    /// Output with two channels for each landmark, relative to the box: 0 is its top left, 1 its bottom right.
    pub landmarks: Option<String>,
    /// Model pixels from one cell to the next.
    pub stride: f32,
    /// Which axis comes first in size, offset and landmarks.
    #[serde(default)]
    pub axes: AxisOrder,
    /// How sizes are given.
    #[serde(default)]
    pub size_coding: SizeCoding,
    /// Where a cell's own position lies in it: 0 its top left corner, 0.5 its middle.
    #[serde(default)]
    pub cell_origin: f32,
}

/// Which of x and y comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AxisOrder {
    /// x, then y.
    #[default]
    Xy,
    /// y, then x.
    Yx,
}

/// How a heatmap model gives sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SizeCoding {
    /// In cells.
    #[default]
    Linear,
    /// As the natural logarithm of cells.
    Exp,
}

impl HeatmapCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure(positive(self.stride), "stride", "a number above 0")?;
        ensure((0.0..=1.0).contains(&self.cell_origin), "cell_origin", "0 to 1")?;
        ensure(self.landmarks.is_some() || card.landmarks.is_empty(), "landmarks", "the name of an output, since the card names landmarks")
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        [Some(&self.heatmap), Some(&self.size), self.offset.as_ref(), self.landmarks.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }
}
