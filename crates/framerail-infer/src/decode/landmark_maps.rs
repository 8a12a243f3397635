//! Landmarks as heatmaps: a map for each point, whose highest cell is the point's position.
//!
//! Source: Xiao, Wu and Wei, "Simple Baselines for Human Pose Estimation and Tracking" (2018) and Sun et al., "Deep High-Resolution
//! Representation Learning for Human Pose Estimation" (2019): the highest cell, moved by a quarter of a cell towards the higher of its
//! neighbours on each axis, as in Newell, Yang and Deng, "Stacked Hourglass Networks for Human Pose Estimation" (2016).

use framerail_core::{Point, TensorLayout};

use super::tensors::ItemTensor;

/// The maps of one image.
pub(super) struct LandmarkMaps<'a> {
    data: &'a [f32],
    points: usize,
    columns: usize,
    rows: usize,
    /// Distance in elements between maps, and between cells.
    point_step: usize,
    cell_step: usize,
}

/// The highest cell of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Peak {
    /// In cells, from the first cell on.
    pub(super) at: Point,
    /// The cell's value; NaN when the map holds one.
    pub(super) value: f32,
}

impl<'a> LandmarkMaps<'a> {
    /// `None` if the output has another number of maps, or maps without cells.
    pub(super) fn new(tensor: &ItemTensor<'a>, layout: TensorLayout, points: usize) -> Option<Self> {
        let [first, second, third] = tensor.dims[..] else { return None };
        let (found, rows, columns) = if layout == TensorLayout::Tchw { (first, second, third) } else { (third, first, second) };
        let (point_step, cell_step) = if layout == TensorLayout::Tchw { (rows.checked_mul(columns)?, 1) } else { (1, points) };
        (found == points && rows > 0 && columns > 0).then_some(Self { data: tensor.data, points, columns, rows, point_step, cell_step })
    }

    /// Columns and rows of a map.
    pub(super) fn cells(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// The highest cell of each map.
    pub(super) fn peaks(&self) -> impl Iterator<Item = Peak> {
        (0..self.points).map(|point| self.peak(point))
    }

    fn value(&self, point: usize, column: usize, row: usize) -> f32 {
        let place = point * self.point_step + (row * self.columns + column) * self.cell_step;
        self.data.get(place).copied().unwrap_or(f32::NAN)
    }

    fn peak(&self, point: usize) -> Peak {
        let cells = (0..self.rows).flat_map(|row| (0..self.columns).map(move |column| (column, row)));
        let (mut best, mut value) = ((0, 0), f32::NEG_INFINITY);
        for (column, row) in cells {
            let here = self.value(point, column, row);
            if here.is_nan() {
                return Peak { at: Point { x: 0.0, y: 0.0 }, value: here };
            }
            // The first of several equal cells, as published.
            if here > value {
                (best, value) = ((column, row), here);
            }
        }
        let (column, row) = best;
        let mut at = Point { x: column as f32, y: row as f32 };
        // As published, a cell in the two outermost columns or rows at the top left, or in the last ones, stays in place.
        if (2..self.columns.saturating_sub(1)).contains(&column) && (2..self.rows.saturating_sub(1)).contains(&row) {
            at.x += towards(self.value(point, column - 1, row), self.value(point, column + 1, row));
            at.y += towards(self.value(point, column, row - 1), self.value(point, column, row + 1));
        }
        Peak { at, value }
    }
}

/// A quarter of a cell towards the higher neighbour.
fn towards(before: f32, behind: f32) -> f32 {
    if behind > before {
        0.25
    } else if behind < before {
        -0.25
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of 6x5 cells with these values, 0 elsewhere.
    fn map(values: &[(usize, usize, f32)]) -> Vec<f32> {
        let mut map = vec![0.0; 30];
        values.iter().for_each(|(column, row, value)| map[row * 6 + column] = *value);
        map
    }

    fn peaks(data: &[f32], layout: TensorLayout, dims: [usize; 3], points: usize) -> Vec<Peak> {
        let tensor = ItemTensor { dims: dims.to_vec(), data };
        LandmarkMaps::new(&tensor, layout, points).expect("fitting axes").peaks().collect()
    }

    #[test]
    fn peaks_move_towards_the_higher_neighbour() {
        let maps = [
            map(&[(3, 2, 0.9), (4, 2, 0.5), (2, 2, 0.4), (3, 1, 0.2)]),
            map(&[(2, 3, 0.8)]),
            map(&[(1, 2, 0.7), (2, 2, 0.6)]),
            map(&[(5, 4, 0.6), (4, 4, 0.5)]),
            vec![-1.0; 30],
        ];
        let expected = [(3.25, 1.75, 0.9), (2.0, 3.0, 0.8), (1.0, 2.0, 0.7), (5.0, 4.0, 0.6), (0.0, 0.0, -1.0)];
        let expected = expected.map(|(x, y, value)| Peak { at: Point { x, y }, value });
        assert_eq!(peaks(&maps.concat(), TensorLayout::Tchw, [5, 5, 6], 5), expected);
        let interleaved: Vec<f32> = (0..30).flat_map(|cell| maps.iter().map(move |map| map[cell])).collect();
        assert_eq!(peaks(&interleaved, TensorLayout::Thwc, [5, 6, 5], 5), expected);
        let tensor = ItemTensor { dims: vec![5, 5, 6], data: &interleaved };
        assert!(LandmarkMaps::new(&tensor, TensorLayout::Tchw, 4).is_none(), "another number of points");
    }

    #[test]
    fn a_number_that_is_none_reaches_the_counter() {
        let found = peaks(&map(&[(3, 2, f32::NAN), (1, 1, 0.5)]), TensorLayout::Tchw, [1, 5, 6], 1);
        assert!(found[0].value.is_nan());
    }
}
