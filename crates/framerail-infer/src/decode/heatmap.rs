//! CenterNet-style outputs: a heatmap of centres, and size, offset and landmarks for each of its cells.
//!
//! Source: Zhou et al., "Objects as Points" (2019); Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as
//! Point" (2019) for the exponential sizes and the landmarks relative to the box.

use framerail_core::{BBox, Point};
use serde::Deserialize;

use super::{Candidate, Candidates, Decode, Expected, KeyError, Tensors, ensure, positive};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of a heatmap model. Every output is `[batch, channels, rows, columns]` of the same grid.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapCard {
    /// Output with one channel of scores for each class, 0 to 1.
    pub heatmap: String,
    /// Output with two channels of box sizes.
    pub size: String,
    /// Output with two channels: offset of the centre in the cell.
    pub offset: Option<String>,
    /// Output with two channels for each landmark, relative to the box: 0 is its top left, 1 its bottom right.
    pub landmarks: Option<String>,
    /// Model pixels between cells.
    pub stride: f32,
    /// Order of the axes in size, offset and landmarks.
    #[serde(default)]
    pub axes: AxisOrder,
    /// Coding of sizes.
    #[serde(default)]
    pub size_coding: SizeCoding,
    /// Position of a cell's origin: 0 = top left corner, 0.5 = middle.
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

/// Coding of sizes of a heatmap model.
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

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let grid = |name: &str, channels: usize| Expected::new(name, &[&[None, Some(channels), None, None]]);
        let mut expected = vec![grid(&self.heatmap, card.class_count()), grid(&self.size, 2)];
        expected.extend(self.offset.as_ref().map(|name| grid(name, 2)));
        expected.extend(self.landmarks.as_ref().map(|name| grid(name, 2 * card.landmarks.len())));
        expected
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        [Some(&self.heatmap), Some(&self.size), self.offset.as_ref(), self.landmarks.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }
}

/// Decodes heatmap outputs for one input size.
pub(crate) struct Heatmap {
    card: HeatmapCard,
    landmarks: usize,
    input: InputSize,
}

/// The channels of one output, each a grid of `cells` values.
struct Channels<'a> {
    data: &'a [f32],
    cells: usize,
}

impl Channels<'_> {
    fn value(&self, channel: usize, cell: usize) -> f32 {
        self.data.get(channel * self.cells + cell).copied().unwrap_or(f32::NAN)
    }
}

impl Heatmap {
    pub(crate) fn new(heatmap: &HeatmapCard, card: &ModelCard, input: InputSize) -> Self {
        Self { card: heatmap.clone(), landmarks: card.landmarks.len(), input }
    }

    fn channels<'a>(
        &self,
        tensors: &Tensors<'a>,
        name: &str,
        item: usize,
        grid: (usize, usize),
        channels: usize,
    ) -> Result<Channels<'a>, String> {
        let tensor = tensors.item(name, item, 3)?;
        if tensor.dims != [channels, grid.0, grid.1] {
            return Err(format!(
                "output '{name}' is {:?} for a heatmap of {}x{} cells; expected {channels} channels of them",
                tensor.dims, grid.1, grid.0
            ));
        }
        Ok(Channels { data: tensor.data, cells: grid.0 * grid.1 })
    }

    /// x and y of a pair of channels.
    fn pair(&self, channels: &Channels<'_>, first: usize, cell: usize) -> (f32, f32) {
        let (a, b) = (channels.value(first, cell), channels.value(first + 1, cell));
        match self.card.axes {
            AxisOrder::Xy => (a, b),
            AxisOrder::Yx => (b, a),
        }
    }

    /// The box of a cell. Its corner is clipped to the image before the size is added, as in the published CenterFace code, so a box
    /// that begins beyond an edge keeps its size.
    fn bbox(&self, (column, row): (f32, f32), (width, height): (f32, f32), (dx, dy): (f32, f32)) -> BBox {
        let (stride, origin) = (self.card.stride, self.card.cell_origin);
        let (max_x, max_y) = (self.input.width as f32, self.input.height as f32);
        let (width, height) = match self.card.size_coding {
            SizeCoding::Linear => (width * stride, height * stride),
            SizeCoding::Exp => (width.exp() * stride, height.exp() * stride),
        };
        let inside = |value: f32, max: f32| if value.is_nan() { value } else { value.clamp(0.0, max) };
        let x1 = inside((column + dx + origin) * stride - width / 2.0, max_x);
        let y1 = inside((row + dy + origin) * stride - height / 2.0, max_y);
        BBox::from_xyxy(x1, y1, x1 + width, y1 + height)
    }
}

impl Decode for Heatmap {
    fn decode(&self, tensors: &Tensors<'_>, item: usize, candidates: &mut Candidates) -> Result<(), String> {
        let heatmap = tensors.item(&self.card.heatmap, item, 3)?;
        let [classes, rows, columns] = heatmap.dims[..] else { return Err("the heatmap has no grid".into()) };
        let (grid, cells) = ((rows, columns), rows * columns);
        let size = self.channels(tensors, &self.card.size, item, grid, 2)?;
        let offset = self.card.offset.as_ref().map(|name| self.channels(tensors, name, item, grid, 2)).transpose()?;
        let landmarks =
            self.card.landmarks.as_ref().map(|name| self.channels(tensors, name, item, grid, 2 * self.landmarks)).transpose()?;
        for (index, score) in heatmap.data.iter().copied().enumerate().take(classes * cells) {
            if !candidates.accepts(score) {
                continue;
            }
            let (class, cell) = (index / cells, index % cells);
            let position = ((cell % columns) as f32, (cell / columns) as f32);
            let shift = offset.as_ref().map_or((0.0, 0.0), |offset| self.pair(offset, 0, cell));
            let whole = self.bbox(position, self.pair(&size, 0, cell), shift);
            let points = landmarks.iter().flat_map(|channels| (0..self.landmarks).map(|point| self.pair(channels, 2 * point, cell)));
            let points = points.map(|(x, y)| Point { x: whole.x1 + x * (whole.x2 - whole.x1), y: whole.y1 + y * (whole.y2 - whole.y1) });
            let landmarks = points.collect();
            if !whole.is_finite() {
                candidates.push(Candidate { bbox: whole, score, class, landmarks, row: cell })?;
                continue;
            }
            let bbox = whole.clamped(self.input.width, self.input.height);
            candidates.push(Candidate { bbox, score, class, landmarks, row: cell })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::TensorData, *};
    use crate::decode::{OutputCard, Tensor};

    const CARD: &str = include_str!("../../cards/centerface.toml");

    fn decode(heat: &[f32], size: &[f32], offset: &[f32], landmarks: &[f32], input: InputSize) -> (Vec<Candidate>, u64) {
        let card = ModelCard::parse(CARD, "centerface.toml".as_ref()).expect("own card");
        let (rows, columns) = (input.height as usize / 4, input.width as usize / 4);
        let tensor = |name, channels, data| Tensor { name, dims: vec![1, channels, rows, columns], data: TensorData::F32(data) };
        let tensors =
            Tensors::new(vec![tensor("537", 1, heat), tensor("538", 2, size), tensor("539", 2, offset), tensor("540", 10, landmarks)]);
        assert!(matches!(card.output, OutputCard::Heatmap(_)));
        let mut candidates = Candidates::new(0.2, 1);
        card.output.decoder(&card, input).boxes().decode(&tensors, 0, &mut candidates).expect("fitting shapes");
        (candidates.finish(), candidates.non_finite)
    }

    #[test]
    fn a_cell_becomes_a_box_with_landmarks() {
        let input = InputSize { width: 32, height: 32 };
        let (mut heat, mut size, mut offset, mut landmarks) = (vec![0.0; 64], vec![0.0; 128], vec![0.0; 128], vec![0.0; 640]);
        let cell = 3 * 8 + 4;
        heat[cell] = 0.9;
        (size[cell], size[64 + cell]) = (2.0_f32.ln(), 3.0_f32.ln());
        (offset[cell], offset[64 + cell]) = (0.25, -0.25);
        (landmarks[cell], landmarks[64 + cell]) = (0.5, 0.25);
        let (found, _) = decode(&heat, &size, &offset, &landmarks, input);
        assert_eq!(found.len(), 1);
        let BBox { x1, y1, x2, y2 } = found[0].bbox;
        // Centre ((4 - 0.25 + 0.5) * 4, (3 + 0.25 + 0.5) * 4) = (17, 15); size 12 by 8.
        for (value, expected) in [(x1, 11.0), (y1, 11.0), (x2, 23.0), (y2, 19.0)] {
            assert!((value - expected).abs() < 1e-4, "{value} for {expected}");
        }
        let eye = found[0].landmarks[0];
        assert!((eye.x - 14.0).abs() < 1e-4 && (eye.y - 15.0).abs() < 1e-4, "{eye:?}");
    }

    #[test]
    fn numbers_that_are_none_are_left_out_and_counted() {
        let input = InputSize { width: 32, height: 32 };
        let (mut heat, mut size) = (vec![0.0; 64], vec![0.0; 128]);
        heat[1] = f32::NAN;
        heat[2] = 0.8;
        size[2] = f32::INFINITY;
        heat[3] = 0.8;
        size[3] = f32::NAN;
        let (found, non_finite) = decode(&heat, &size, &[0.0; 128], &[0.0; 640], input);
        assert_eq!((found.len(), non_finite), (0, 3));
    }
}
