//! Semantic segmentation: a class for each cell of the image; some classes make the mask.

use std::sync::Arc;

use framerail_core::{AttributeValue, TensorLayout};
use serde::Deserialize;

use super::{
    Activation, Describe, Described, Expected, KeyError, Seen, Tensors, ensure,
    seen::{Cells, coverage},
};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of a segmentation model. The card's labels are its channels.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentationCard {
    /// Output with a score for each channel and cell, or `[batch, rows, columns]` with the number of each cell's class. Cells
    /// cover the model's input evenly.
    pub output: String,
    /// Whether channels come before or after rows and columns.
    #[serde(default)]
    pub layout: TensorLayout,
    /// Classes that make the mask, by name; can be omitted if there is only one.
    #[serde(default)]
    pub inside: Vec<String>,
    /// Activation that the scores still need: `softmax` over the channels, `sigmoid` for each separately.
    #[serde(default)]
    pub activation: Activation,
    /// Minimum probability of a cell inside the mask, 0 to 1; scores of several classes are added, with `sigmoid` the highest counts.
    #[serde(default = "half")]
    pub threshold: f32,
}

fn half() -> f32 {
    0.5
}

impl SegmentationCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        let labels = card.label_list();
        ensure(
            labels.len() == 1 || !self.inside.is_empty(),
            "inside",
            "given: the classes that make the mask, since the card has several",
        )?;
        let known = |name: &String| labels.iter().any(|label| *label.name == **name);
        ensure(self.inside.iter().all(known), "inside", "classes of the card by their names")?;
        ensure(self.activation != Activation::Softmax || labels.len() > 1, "activation", "none or sigmoid for a single channel")?;
        ensure(self.threshold > 0.0 && self.threshold <= 1.0, "threshold", "a number above 0, up to 1")
    }

    /// Numbers of the channels that make the mask.
    fn channels(&self, card: &ModelCard) -> Vec<usize> {
        let labels = card.label_list();
        let chosen = labels.iter().filter(|label| self.inside.is_empty() || self.inside.iter().any(|name| **name == *label.name));
        chosen.map(|label| label.id as usize).collect()
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let channels = Some(card.class_count());
        let map: &[Option<usize>] = &[None, None, None];
        let scores = match self.layout {
            TensorLayout::Tchw => [None, channels, None, None],
            TensorLayout::Thwc => [None, None, None, channels],
        };
        vec![Expected::new(&self.output, &[&scores, map])]
    }
}

/// Decodes masks for one input size.
pub(crate) struct Segmentation {
    card: SegmentationCard,
    channels: usize,
    inside: Vec<usize>,
    input: InputSize,
}

/// An output's cells.
struct Grid {
    columns: usize,
    rows: usize,
    /// Elements from a channel to the next, and from a cell to the next.
    channel_step: usize,
    cell_step: usize,
}

impl Segmentation {
    pub(crate) fn new(segmentation: &SegmentationCard, card: &ModelCard, input: InputSize) -> Self {
        Self { card: segmentation.clone(), channels: card.class_count(), inside: segmentation.channels(card), input }
    }

    fn grid(&self, dims: &[usize]) -> Result<Grid, String> {
        let grid = match (self.card.layout, dims) {
            (_, [rows, columns]) => Grid { columns: *columns, rows: *rows, channel_step: 0, cell_step: 1 },
            (TensorLayout::Tchw, [channels, rows, columns]) if *channels == self.channels => {
                Grid { columns: *columns, rows: *rows, channel_step: rows.saturating_mul(*columns), cell_step: 1 }
            }
            (TensorLayout::Thwc, [rows, columns, channels]) if *channels == self.channels => {
                Grid { columns: *columns, rows: *rows, channel_step: 1, cell_step: *channels }
            }
            _ => return Err(format!("output '{}' is {dims:?}; the card names {} channels", self.card.output, self.channels)),
        };
        Ok(grid)
    }

    /// The probability that each cell is inside.
    fn probabilities(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen) -> Result<Option<(Grid, Cells, Vec<f32>)>, String> {
        let name = &self.card.output;
        let is_map = tensors.rank(name)? == 3;
        let dims = tensors.dims(name, item, if is_map { 2 } else { 3 })?;
        let grid = self.grid(&dims)?;
        let Some(cells) = seen.cells((grid.columns, grid.rows), self.input, None) else { return Ok(None) };
        let place = |(column, row): (usize, usize)| (row * grid.columns + column) * grid.cell_step;
        if is_map && self.channels > 1 {
            let classes = tensors.integers(name, item, 2)?;
            let is_inside = |cell| classes.get(place(cell)).is_some_and(|class| self.inside.iter().any(|inside| *inside as i64 == *class));
            let probabilities = cells.iter().map(|cell| f32::from(u8::from(is_inside(cell)))).collect();
            return Ok(Some((grid, cells, probabilities)));
        }
        let data = tensors.item(name, item, dims.len())?.data;
        let mut scores = vec![0.0; self.channels];
        let mut probability = |cell| {
            let value = |channel: usize| data.get(place(cell) + channel * grid.channel_step).copied().unwrap_or(f32::NAN);
            scores.iter_mut().enumerate().for_each(|(channel, score)| *score = value(channel));
            self.card.activation.apply(&mut scores);
            let inside = self.inside.iter().filter_map(|channel| scores.get(*channel).copied());
            match self.card.activation {
                Activation::Sigmoid => inside.fold(f32::NEG_INFINITY, f32::max),
                _ => inside.sum(),
            }
        };
        let probabilities = cells.iter().map(&mut probability).collect();
        Ok(Some((grid, cells, probabilities)))
    }
}

impl Describe for Segmentation {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, _: f32) -> Result<Described, String> {
        let Some((grid, cells, probabilities)) = self.probabilities(tensors, item, seen)? else { return Ok(Described::Nothing) };
        if probabilities.iter().any(|probability| !probability.is_finite()) {
            return Ok(Described::NotFinite);
        }
        let threshold = self.card.threshold;
        let inside = probabilities.iter().copied().filter(|probability| *probability >= threshold);
        let (count, sum) = inside.fold((0_u32, 0.0_f32), |(count, sum), probability| (count + 1, sum + probability));
        if count == 0 {
            return Ok(Described::Nothing);
        }
        let covered = probabilities.iter().map(|probability| coverage(*probability, threshold)).collect();
        let mask = seen.mask(cells, (grid.columns, grid.rows), self.input, covered)?;
        Ok(Described::found(AttributeValue::Mask(Arc::new(mask)), (sum / count as f32).min(1.0)))
    }
}
