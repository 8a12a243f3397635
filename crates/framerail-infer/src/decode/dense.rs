//! A value for each cell of the image: depth and optical flow.

use std::sync::Arc;

use framerail_core::{AttributeValue, DenseMap, DepthMap, DepthUnit, FlowMap, TensorLayout};
use serde::Deserialize;

use super::{Describe, Described, Expected, KeyError, Seen, Tensors, ensure, seen::Cells};
use crate::size::InputSize;

/// Parameters of a depth model. Cells cover the model's input evenly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DepthCard {
    /// Output with a depth for each cell: `[batch, rows, columns]`, or with a further axis of 1.
    pub output: String,
    /// What the values mean.
    #[serde(default)]
    pub values: DepthValues,
    /// Multiplies the values: 0.001 for millimetres.
    #[serde(default = "one")]
    pub scale: f32,
}

/// What a model's depths mean, as spelled in cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DepthValues {
    /// Larger is nearer, scale and offset are unknown.
    #[default]
    Inverse,
    /// Larger is further away, scale and offset are unknown.
    Relative,
    /// Metres, once scaled.
    Metres,
}

impl From<DepthValues> for DepthUnit {
    fn from(values: DepthValues) -> Self {
        match values {
            DepthValues::Inverse => DepthUnit::Inverse,
            DepthValues::Relative => DepthUnit::Relative,
            DepthValues::Metres => DepthUnit::Metres,
        }
    }
}

/// Parameters of an optical flow model: one that compares two frames.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowCard {
    /// Output with the motion across and down for each cell, in pixels of the model's input: `[batch, 2, rows, columns]`.
    pub output: String,
    /// Whether the two values come before or after rows and columns.
    #[serde(default)]
    pub layout: TensorLayout,
    /// Multiplies the values: 20 for FlowNet and PWC-Net.
    #[serde(default = "one")]
    pub scale: f32,
}

fn one() -> f32 {
    1.0
}

fn check_scale(scale: f32) -> Result<(), KeyError> {
    ensure(scale.is_finite() && scale != 0.0, "scale", "a number other than 0")
}

impl DepthCard {
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        check_scale(self.scale)
    }

    pub(crate) fn expected(&self) -> Vec<Expected> {
        let (one, any) = (Some(1), None);
        vec![Expected::new(&self.output, &[&[any, any, any], &[any, one, any, any], &[any, any, any, one]])]
    }
}

impl FlowCard {
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        check_scale(self.scale)
    }

    pub(crate) fn expected(&self) -> Vec<Expected> {
        let (two, any) = (Some(2), None);
        let shape: &[Option<usize>] = match self.layout {
            TensorLayout::Tchw => &[any, two, any, any],
            TensorLayout::Thwc => &[any, any, any, two],
        };
        vec![Expected::new(&self.output, &[shape])]
    }
}

/// Reads depths at one input size.
pub(crate) struct Depth {
    pub(crate) card: DepthCard,
    pub(crate) input: InputSize,
}

/// Reads motions at one input size.
pub(crate) struct Flow {
    pub(crate) card: FlowCard,
    pub(crate) input: InputSize,
}

/// The cells of a grid that cover the part of the frame, each read by `value` from its column and row.
fn read<T: Copy>(
    seen: &Seen,
    grid: (usize, usize),
    input: InputSize,
    value: impl Fn((usize, usize)) -> T,
) -> Result<Option<DenseMap<T>>, String> {
    let Some(cells) = seen.cells(grid, input, None) else { return Ok(None) };
    let Cells { columns: (left, right), rows: (top, bottom) } = cells;
    let values = cells.iter().map(value).collect();
    let map = DenseMap::new(seen.cells_bbox(cells, grid, input), (right - left) as u32, (bottom - top) as u32, values);
    map.map(Some).map_err(|error| error.to_string())
}

impl Describe for Depth {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, _: f32) -> Result<Described, String> {
        let name = &self.card.output;
        let rank = if tensors.rank(name)? > 3 { 3 } else { 2 };
        let found = tensors.item(name, item, rank)?;
        let grid = match found.dims[..] {
            [rows, columns] | [1, rows, columns] | [rows, columns, 1] => (columns, rows),
            _ => return Err(format!("output '{name}' is {:?}; one depth for each row and column was expected", found.dims)),
        };
        let value = |(column, row)| found.data.get(row * grid.0 + column).map_or(f32::NAN, |depth| depth * self.card.scale);
        let Some(map) = read(seen, grid, self.input, value)? else { return Ok(Described::Nothing) };
        if map.cells().iter().any(|depth| !depth.is_finite()) {
            return Ok(Described::NotFinite);
        }
        Ok(Described::found(AttributeValue::Depth(Arc::new(DepthMap { map, unit: self.card.values.into() })), 1.0))
    }
}

impl Describe for Flow {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, _: f32) -> Result<Described, String> {
        let name = &self.card.output;
        let found = tensors.item(name, item, 3)?;
        let (grid, channel_step, cell_step) = match (self.card.layout, &found.dims[..]) {
            (TensorLayout::Tchw, [2, rows, columns]) => ((*columns, *rows), rows * columns, 1),
            (TensorLayout::Thwc, [rows, columns, 2]) => ((*columns, *rows), 1, 2),
            _ => return Err(format!("output '{name}' is {:?}; a motion across and down for each row and column was expected", found.dims)),
        };
        // From model to frame pixels.
        let across = self.card.scale / seen.mapping.scale_x;
        let down = self.card.scale / seen.mapping.scale_y;
        let value = |(column, row): (usize, usize)| {
            let place = (row * grid.0 + column) * cell_step;
            let read = |place: usize| found.data.get(place).copied().unwrap_or(f32::NAN);
            [read(place) * across, read(place + channel_step) * down]
        };
        let Some(map) = read(seen, grid, self.input, value)? else { return Ok(Described::Nothing) };
        if map.cells().iter().flatten().any(|motion| !motion.is_finite()) {
            return Ok(Described::NotFinite);
        }
        Ok(Described::found(AttributeValue::Flow(Arc::new(FlowMap { map })), 1.0))
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::BBox;
    use framerail_vision::ModelMapping;

    use super::*;
    use crate::decode::{Tensor, TensorData};

    const INPUT: InputSize = InputSize { width: 8, height: 8 };

    /// 16x8 pixels, letterboxed into 8x8: half the size, two rows of padding above and below.
    fn seen() -> Seen {
        let mapping = ModelMapping { scale_x: 0.5, scale_y: 0.5, offset_x: 0.0, offset_y: 2.0 };
        Seen { area: BBox::from_xyxy(0.0, 0.0, 16.0, 8.0), mapping }
    }

    fn described(output: &dyn Describe, dims: &[usize], data: &[f32]) -> Result<Described, String> {
        let tensors = Tensors::new(vec![Tensor { name: "out", dims: dims.to_vec(), data: TensorData::F32(data) }]);
        output.describe(&tensors, 0, &seen(), 0.0)
    }

    #[test]
    fn depths_are_those_of_the_frame_without_padding() {
        let card = DepthCard { output: "out".into(), values: DepthValues::Metres, scale: 0.001 };
        let depth = Depth { card, input: INPUT };
        let data: Vec<f32> = (0..16).map(|cell| cell as f32 * 1000.0).collect();
        for dims in [&[1, 4, 4][..], &[1, 1, 4, 4], &[1, 4, 4, 1]] {
            let Ok(Described::Found { value: AttributeValue::Depth(found), .. }) = described(&depth, dims, &data) else {
                panic!("{dims:?}")
            };
            assert_eq!((found.unit, found.map.columns(), found.map.rows()), (DepthUnit::Metres, 4, 2));
            assert_eq!(*found.map.bbox(), BBox::from_xyxy(0.0, 0.0, 16.0, 8.0));
            assert!(found.map.cells().iter().zip(4..12).all(|(found, expected)| (found - expected as f32).abs() < 1e-5));
        }
        assert!(described(&depth, &[1, 2, 4, 4], &[0.0; 32]).is_err());
        let mut broken = data;
        broken[5] = f32::NAN;
        assert_eq!(described(&depth, &[1, 4, 4], &broken), Ok(Described::NotFinite));
        broken[5] = 0.0;
        broken[0] = f32::NAN;
        assert!(matches!(described(&depth, &[1, 4, 4], &broken), Ok(Described::Found { .. })), "padding does not count");
    }

    #[test]
    fn motions_are_in_frame_pixels() {
        let flow = |layout| Flow { card: FlowCard { output: "out".into(), layout, scale: 3.0 }, input: INPUT };
        let planes: Vec<f32> = (0..32).map(|value| value as f32).collect();
        let pairs: Vec<f32> = (0..16).flat_map(|cell| [cell as f32, (cell + 16) as f32]).collect();
        for (layout, dims, data) in [(TensorLayout::Tchw, [1, 2, 4, 4], &planes), (TensorLayout::Thwc, [1, 4, 4, 2], &pairs)] {
            let Ok(Described::Found { value: AttributeValue::Flow(found), .. }) = described(&flow(layout), &dims, data) else {
                panic!("{layout:?}")
            };
            assert_eq!(found.map.cells()[0], [4.0 * 6.0, 20.0 * 6.0]);
            assert_eq!(found.map.cells().len(), 8);
        }
        assert!(described(&flow(TensorLayout::Tchw), &[1, 3, 4, 4], &[0.0; 48]).is_err());
    }
}
