//! Segmentation mask of one detection.

use crate::{BBox, CoreError, DenseMap, Rotation};

/// A grid of coverage values over a box of the frame, usually coarser than pixels; a segmentation model's result for one detection.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceMask {
    map: DenseMap<u8>,
}

impl InstanceMask {
    /// Creates a mask of `columns` × `rows` equal cells that fill the box, row by row: 0 is outside, 255 is inside, values between are the
    /// model's probability. The box is in frame pixels and may extend beyond the frame.
    ///
    /// # Errors
    /// `BadMask` when the box is empty or not finite, or `coverage` is empty or does not have `columns` × `rows` values.
    pub fn new(bbox: BBox, columns: u32, rows: u32, coverage: Vec<u8>) -> Result<Self, CoreError> {
        Ok(Self { map: DenseMap::new(bbox, columns, rows, coverage)? })
    }

    /// The box that the grid fills, in frame pixels.
    pub fn bbox(&self) -> &BBox {
        self.map.bbox()
    }

    /// Cells per row.
    pub fn columns(&self) -> u32 {
        self.map.columns()
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.map.rows()
    }

    /// The cells, row by row: 0 is outside, 255 is inside.
    pub fn coverage(&self) -> &[u8] {
        self.map.cells()
    }

    /// The same cells over another box, sharing memory; for a mask that moves with its detection.
    ///
    /// # Errors
    /// As [`InstanceMask::new`].
    pub fn moved(&self, bbox: BBox) -> Result<Self, CoreError> {
        Ok(Self { map: self.map.moved(bbox)? })
    }

    /// Rotates or mirrors the mask with its frame; `bbox` is its box there.
    ///
    /// # Errors
    /// As [`InstanceMask::new`].
    pub fn turned(&self, rotation: Rotation, bbox: BBox) -> Result<Self, CoreError> {
        if rotation == Rotation::None {
            return self.moved(bbox);
        }
        Ok(Self { map: self.map.turned(rotation, bbox)? })
    }
}

/// The cells of a grid that is rotated or mirrored with its frame; `columns` and `rows` are those before.
pub(crate) fn turned_cells<T: Copy>(cells: &[T], (columns, rows): (u32, u32), rotation: Rotation) -> Vec<T> {
    let (across, down) = if rotation.swaps_sides() { (rows, columns) } else { (columns, rows) };
    let (last_column, last_row) = (across.saturating_sub(1), down.saturating_sub(1));
    let source = |row: u32, column: u32| match rotation {
        Rotation::None => (row, column),
        Rotation::Clockwise90 => (last_column - column, row),
        Rotation::Half => (last_row - row, last_column - column),
        Rotation::Clockwise270 => (column, last_row - row),
        Rotation::FlipHorizontal => (row, last_column - column),
        Rotation::FlipVertical => (last_row - row, column),
        Rotation::Transpose => (column, row),
        Rotation::Transverse => (last_column - column, last_row - row),
    };
    let places = (0..down).flat_map(|row| (0..across).map(move |column| (row, column)));
    let cell = |(row, column): (u32, u32)| cells.get(row as usize * columns as usize + column as usize).copied();
    places.filter_map(|(row, column)| cell(source(row, column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_fill_the_box() {
        let bbox = BBox::from_xyxy(10.0, 20.0, 30.0, 60.0);
        let mask = InstanceMask::new(bbox, 2, 3, vec![0, 50, 100, 150, 200, 255]).expect("a mask");
        let moved = mask.moved(BBox::from_xyxy(0.0, 0.0, 4.0, 4.0)).expect("a mask");
        assert_eq!((moved.columns(), moved.rows(), moved.coverage()), (2, 3, mask.coverage()));
        assert!(InstanceMask::new(bbox, 2, 3, vec![0; 5]).is_err());
        assert!(InstanceMask::new(bbox, 0, 3, Vec::new()).is_err());
        assert!(mask.moved(BBox::from_xyxy(0.0, 0.0, 0.0, 4.0)).is_err());
        assert!(mask.moved(BBox::from_xyxy(0.0, 0.0, f32::NAN, 4.0)).is_err());
    }
}
