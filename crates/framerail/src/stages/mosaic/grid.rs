//! Layout of the cells of a mosaic.

use framerail_core::Region;

/// Rows and columns of equal cells over a canvas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grid {
    columns: u32,
    rows: u32,
    canvas: (u32, u32),
    gap: u32,
}

/// Aspect ratio for which the layout is optimised: 16:9.
const SHAPE: f64 = 16.0 / 9.0;

impl Grid {
    /// The grid of at least this many cells that shows 16:9 frames largest; with a fixed number of columns if given.
    pub(super) fn new(cells: usize, columns: Option<u32>, canvas: (u32, u32), gap: u32) -> Self {
        let cells = u32::try_from(cells).unwrap_or(u32::MAX).clamp(1, 1024);
        let grid = |columns: u32| Self { columns, rows: cells.div_ceil(columns), canvas, gap };
        if let Some(columns) = columns {
            return grid(columns);
        }
        let image_height = |grid: &Self| {
            let (width, height) = (f64::from(canvas.0) / f64::from(grid.columns), f64::from(canvas.1) / f64::from(grid.rows));
            (width / SHAPE).min(height)
        };
        let grids = (1..=cells).map(grid);
        // The first of equally good grids, with fewer columns.
        grids.reduce(|best, next| if image_height(&next) > image_height(&best) + 1e-9 { next } else { best }).unwrap_or(grid(1))
    }

    pub(super) fn cells(&self) -> usize {
        (self.columns * self.rows) as usize
    }

    pub(super) fn columns_and_rows(&self) -> (u32, u32) {
        (self.columns, self.rows)
    }

    /// The pixels of a cell. Its left and top edges are even: chroma samples belong to one cell.
    pub(super) fn cell(&self, number: usize) -> Option<Region> {
        let number = u32::try_from(number).ok().filter(|_| number < self.cells())?;
        let span = |at: u32, count: u32, side: u32| {
            let edge = |at: u32| (u64::from(side) * u64::from(at) / u64::from(count)) as u32 & !1;
            let from = edge(at) + if at > 0 { self.gap & !1 } else { 0 };
            let end = if at + 1 == count { side } else { edge(at + 1) };
            (end > from + 1).then(|| (from, end - from))
        };
        let (x, width) = span(number % self.columns, self.columns, self.canvas.0)?;
        let (y, height) = span(number / self.columns, self.rows, self.canvas.1)?;
        Some(Region { x, y, width, height })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_as_large_as_they_can_be() {
        let shape = |cells, canvas| Grid::new(cells, None, canvas, 0).columns_and_rows();
        let wide = [1, 2, 3, 4, 5, 6, 9, 10, 16, 17].map(|cells| shape(cells, (1920, 1080)));
        assert_eq!(wide, [(1, 1), (1, 2), (2, 2), (2, 2), (2, 3), (2, 3), (3, 3), (3, 4), (4, 4), (4, 5)]);
        assert_eq!(shape(3, (1080, 1920)), (1, 3));
        assert_eq!(Grid::new(5, Some(5), (1920, 1080), 0).columns_and_rows(), (5, 1));
    }

    #[test]
    fn cells_cover_the_canvas_without_meeting() {
        for (cells, canvas, gap) in [(16, (1920, 1080), 0), (7, (641, 359), 4), (1000, (320, 240), 1)] {
            let grid = Grid::new(cells, None, canvas, gap);
            let mut taken = vec![0u8; (canvas.0 * canvas.1) as usize];
            for region in (0..grid.cells()).filter_map(|number| grid.cell(number)) {
                assert!(region.x % 2 == 0 && region.y % 2 == 0);
                for y in region.y..region.y + region.height {
                    (region.x..region.x + region.width).for_each(|x| taken[(y * canvas.0 + x) as usize] += 1);
                }
            }
            assert!(taken.iter().all(|times| *times <= 1));
            assert!(gap > 1 || taken.iter().all(|times| *times == 1), "{cells}");
            assert_eq!(grid.cell(grid.cells()), None);
        }
    }
}
