//! Mosaic cells, each filled with the mean of the samples that it covers.

use framerail_core::Region;

use crate::patch::Patch;

/// A grid of square cells over the frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CellGrid {
    /// Left edge of a cell.
    pub x: i32,
    /// Top edge of a cell.
    pub y: i32,
    /// Side of a cell.
    pub cell: u32,
}

impl CellGrid {
    /// Extends a range of samples to whole cells. Returns its first sample, and the cell number of each sample.
    fn axis(origin: i32, cell: u32, shift: u32, first: u32, count: u32, samples: u32) -> (u32, Vec<usize>) {
        let cell_of = |sample: u32| ((i64::from(sample) << shift) - i64::from(origin)).div_euclid(i64::from(cell));
        let (mut from, mut end) = (first, first + count);
        while from > 0 && cell_of(from - 1) == cell_of(first) {
            from -= 1;
        }
        while end < samples && cell_of(end) == cell_of(first + count - 1) {
            end += 1;
        }
        let base = cell_of(from);
        (from, (from..end).map(|sample| (cell_of(sample) - base) as usize).collect())
    }

    /// Returns the whole cells that a region touches, cut at the frame's edges.
    pub fn cells(&self, region: Region, (shift_x, shift_y): (u32, u32), (columns, rows): (u32, u32)) -> Cells {
        let (x, column_cells) = Self::axis(self.x, self.cell, shift_x, region.x, region.width, columns);
        let (y, row_cells) = Self::axis(self.y, self.cell, shift_y, region.y, region.height, rows);
        let source = Region { x, y, width: column_cells.len() as u32, height: row_cells.len() as u32 };
        Cells { source, column_cells, row_cells }
    }
}

/// The cell to which each sample of a patch belongs.
#[derive(Debug)]
pub(crate) struct Cells {
    /// The samples that must be read.
    pub source: Region,
    column_cells: Vec<usize>,
    row_cells: Vec<usize>,
}

impl Cells {
    /// Returns the mean of its cell for each sample of `region`; `patch` holds [`Cells::source`].
    pub fn means(&self, patch: &Patch, region: Region) -> Vec<f32> {
        let across = self.column_cells.last().map_or(0, |last| last + 1);
        let down = self.row_cells.last().map_or(0, |last| last + 1);
        let mut cells = vec![(0.0f64, 0u32); across * down];
        let mut column_sums = vec![0.0f32; patch.width()];
        let mut rows = patch.values.chunks_exact(patch.width());
        for same_cells in self.row_cells.chunk_by(|a, b| a == b) {
            column_sums.fill(0.0);
            for row in rows.by_ref().take(same_cells.len()) {
                column_sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            for (sum, &column) in column_sums.iter().zip(&self.column_cells) {
                let (total, count) = &mut cells[same_cells[0] * across + column];
                *total += f64::from(*sum);
                *count += same_cells.len() as u32;
            }
        }
        let means: Vec<f32> = cells.into_iter().map(|(sum, count)| (sum / f64::from(count.max(1))) as f32).collect();
        self.spread(&means, across, region)
    }

    /// Returns the value of its cell for each sample of `region`.
    fn spread(&self, cells: &[f32], across: usize, region: Region) -> Vec<f32> {
        let (skip_x, skip_y) = ((region.x - self.source.x) as usize, (region.y - self.source.y) as usize);
        let columns = &self.column_cells[skip_x..skip_x + region.width as usize];
        let rows = &self.row_cells[skip_y..skip_y + region.height as usize];
        let mut out = Vec::with_capacity(region.pixels());
        for same_cells in rows.chunk_by(|a, b| a == b) {
            let start = out.len();
            out.extend(columns.iter().map(|column| cells[same_cells[0] * across + column]));
            for _ in 1..same_cells.len() {
                out.extend_from_within(start..start + columns.len());
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_their_mean_and_are_cut_at_edges() {
        let grid = CellGrid { x: 0, y: 0, cell: 4 };
        let region = Region { x: 5, y: 1, width: 5, height: 2 };
        let cells = grid.cells(region, (0, 0), (10, 10));
        assert_eq!(cells.source, Region { x: 4, y: 0, width: 6, height: 4 });
        let values = (0..4).flat_map(|y| (4..10).map(move |x| (y * 10 + x) as f32)).collect();
        let means = cells.means(&Patch { region: cells.source, values }, region);
        // Columns 4..8 have the mean 5.5, columns 8..10 the mean 8.5; rows 0..4 the mean 15.
        assert_eq!(means, [20.5, 20.5, 20.5, 23.5, 23.5, 20.5, 20.5, 20.5, 23.5, 23.5]);
    }

    #[test]
    fn chroma_cells_lie_over_the_same_pixels() {
        let grid = CellGrid { x: -3, y: 6, cell: 8 };
        let luma = grid.cells(Region { x: 6, y: 6, width: 2, height: 2 }, (0, 0), (64, 64)).source;
        let chroma = grid.cells(Region { x: 3, y: 3, width: 1, height: 1 }, (1, 1), (32, 32)).source;
        assert_eq!(luma, Region { x: 5, y: 6, width: 8, height: 8 });
        assert_eq!(chroma, Region { x: 3, y: 3, width: 4, height: 4 });
    }
}
