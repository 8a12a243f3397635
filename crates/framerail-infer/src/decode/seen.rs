//! A model's view of a frame, and its mapping to the model's input.

use framerail_core::{BBox, InstanceMask};
use framerail_vision::ModelMapping;

use crate::{more_inputs::ViewGeometry, size::InputSize};

/// The part of a frame that the model sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// In frame pixels.
    pub(crate) area: BBox,
    /// From frame pixels to the model's.
    pub(crate) mapping: ModelMapping,
}

/// Cells of a grid over the model's input: first and last (exclusive) column and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cells {
    pub(crate) columns: (usize, usize),
    pub(crate) rows: (usize, usize),
}

impl Cells {
    /// Row by row, each cell by its column and row.
    pub(crate) fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        (self.rows.0..self.rows.1).flat_map(move |row| (self.columns.0..self.columns.1).map(move |column| (column, row)))
    }
}

impl Seen {
    /// The geometry for further inputs, at an input size.
    pub(crate) fn geometry(&self, input: InputSize) -> ViewGeometry {
        ViewGeometry::new(self.area.width(), self.area.height(), &self.mapping, input)
    }

    /// The part in model pixels.
    fn area_in_model(&self) -> BBox {
        let ModelMapping { scale_x, scale_y, offset_x, offset_y } = self.mapping;
        let BBox { x1, y1, x2, y2 } = self.area;
        BBox::from_xyxy(x1 * scale_x + offset_x, y1 * scale_y + offset_y, x2 * scale_x + offset_x, y2 * scale_y + offset_y)
    }

    /// The cells of a grid of `columns` × `rows` over the model's input that cover the part, and within it `bbox` (model pixels) if
    /// given; without padding. `None` if there are none.
    pub(crate) fn cells(&self, (columns, rows): (usize, usize), input: InputSize, bbox: Option<&BBox>) -> Option<Cells> {
        let area = self.area_in_model();
        let bbox = bbox.unwrap_or(&area);
        let span = |from: f32, to: f32, cells: usize, side: u32| {
            let cell = side as f32 / cells.max(1) as f32;
            // Rounding must not add a cell of padding.
            let first = ((from / cell + 1e-3).floor().max(0.0) as usize).min(cells);
            let end = ((to / cell - 1e-3).ceil().max(0.0) as usize).min(cells);
            (end > first).then_some((first, end))
        };
        Some(Cells {
            columns: span(bbox.x1.max(area.x1), bbox.x2.min(area.x2), columns, input.width)?,
            rows: span(bbox.y1.max(area.y1), bbox.y2.min(area.y2), rows, input.height)?,
        })
    }

    /// The box of these cells, in frame pixels.
    pub(crate) fn cells_bbox(&self, cells: Cells, grid: (usize, usize), input: InputSize) -> BBox {
        let (across, down) = (input.width as f32 / grid.0.max(1) as f32, input.height as f32 / grid.1.max(1) as f32);
        let ((left, right), (top, bottom)) = (cells.columns, cells.rows);
        let bbox = BBox::from_xyxy(left as f32 * across, top as f32 * down, right as f32 * across, bottom as f32 * down);
        self.mapping.bbox_frame_from_model(bbox)
    }

    /// The mask of these cells, with a coverage for each of them.
    pub(crate) fn mask(&self, cells: Cells, grid: (usize, usize), input: InputSize, coverage: Vec<u8>) -> Result<InstanceMask, String> {
        let (columns, rows) = (cells.columns.1 - cells.columns.0, cells.rows.1 - cells.rows.0);
        let bbox = self.cells_bbox(cells, grid, input);
        InstanceMask::new(bbox, columns as u32, rows as u32, coverage).map_err(|error| error.to_string())
    }
}

/// A probability as coverage: the threshold becomes one half, so that cutting at one half cuts at the threshold.
pub(crate) fn coverage(probability: f32, threshold: f32) -> u8 {
    let share = if probability < threshold {
        probability / threshold / 2.0
    } else {
        0.5 + (probability - threshold) / (1.0 - threshold).max(f32::EPSILON) / 2.0
    };
    // Rounded up at one half: the threshold itself is inside.
    (share * 255.0 + 0.5).clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const INPUT: InputSize = InputSize { width: 64, height: 64 };

    /// 128x64 pixels from (100, 50) on, letterboxed into 64x64: half the size, 16 rows of padding above and below.
    fn seen() -> Seen {
        let mapping = ModelMapping { scale_x: 0.5, scale_y: 0.5, offset_x: -50.0, offset_y: 16.0 - 25.0 };
        Seen { area: BBox::from_xyxy(100.0, 50.0, 228.0, 114.0), mapping }
    }

    #[test]
    fn padding_has_no_cells() {
        let cells = seen().cells((16, 16), INPUT, None).expect("there are some");
        assert_eq!(cells, Cells { columns: (0, 16), rows: (4, 12) });
        let mask = seen().mask(cells, (16, 16), INPUT, vec![255; 128]).expect("a mask");
        assert_eq!((*mask.bbox(), mask.columns(), mask.rows()), (seen().area, 16, 8));
        let inside = BBox::from_xyxy(8.0, 0.0, 13.0, 20.0);
        assert_eq!(seen().cells((16, 16), INPUT, Some(&inside)), Some(Cells { columns: (2, 4), rows: (4, 5) }));
        assert_eq!(seen().cells((16, 16), INPUT, Some(&BBox::from_xyxy(0.0, 0.0, 64.0, 15.0))), None);
    }

    #[test]
    fn the_threshold_is_half_covered() {
        assert_eq!([0.0, 0.25, 0.5, 1.0].map(|p| coverage(p, 0.5)), [0, 64, 128, 255]);
        assert_eq!([0.0, 0.79, 0.8, 0.9, 1.0].map(|p| coverage(p, 0.8) >= 128), [false, false, true, true, true]);
        assert_eq!(coverage(1.0, 1.0), 128);
    }
}
