//! A value for each cell of a grid over a frame: depth and motion.

use std::sync::Arc;

use crate::{BBox, CoreError, FrameMapping, Point, Rotation, turned_cells};

/// A grid of values over a box of the frame, usually coarser than pixels; a dense model's result for the whole frame.
#[derive(Clone, Debug, PartialEq)]
pub struct DenseMap<T> {
    bbox: BBox,
    columns: u32,
    rows: u32,
    cells: Arc<[T]>,
}

impl<T: Copy> DenseMap<T> {
    /// Creates a map of `columns` × `rows` equal cells that fill the box (frame pixels), row by row.
    ///
    /// # Errors
    /// `BadMask` when the box is empty or not finite, or there are not `columns` × `rows` cells, or none.
    pub fn new(bbox: BBox, columns: u32, rows: u32, cells: Vec<T>) -> Result<Self, CoreError> {
        Self::shared(bbox, columns, rows, cells.into())
    }

    fn shared(bbox: BBox, columns: u32, rows: u32, cells: Arc<[T]>) -> Result<Self, CoreError> {
        let count = (columns as usize).checked_mul(rows as usize);
        if !bbox.is_finite() || bbox.area() <= 0.0 || cells.is_empty() || count != Some(cells.len()) {
            return Err(CoreError::BadMask { columns, rows, values: cells.len(), area: bbox.area() });
        }
        Ok(Self { bbox, columns, rows, cells })
    }

    /// The same cells over another box, sharing memory.
    pub(crate) fn moved(&self, bbox: BBox) -> Result<Self, CoreError> {
        Self::shared(bbox, self.columns, self.rows, Arc::clone(&self.cells))
    }

    /// The cells turned with the frame, over a box of the turned frame.
    pub(crate) fn turned(&self, rotation: Rotation, bbox: BBox) -> Result<Self, CoreError> {
        let (columns, rows) = if rotation.swaps_sides() { (self.rows, self.columns) } else { (self.columns, self.rows) };
        Self::shared(bbox, columns, rows, turned_cells(&self.cells, (self.columns, self.rows), rotation).into())
    }

    /// The box that the grid fills, in frame pixels.
    pub fn bbox(&self) -> &BBox {
        &self.bbox
    }

    /// Cells per row.
    pub fn columns(&self) -> u32 {
        self.columns
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The cells, row by row.
    pub fn cells(&self) -> &[T] {
        &self.cells
    }

    /// The map in the coordinates of a transformed frame, with values changed by `change`.
    fn placed(&self, place: &dyn Fn(Point) -> Point, rotation: Rotation, change: impl Fn(T) -> T) -> Option<Self> {
        let turned = self.turned(rotation, self.bbox.placed(place)).ok()?;
        Some(Self { cells: turned.cells.iter().copied().map(change).collect(), ..turned })
    }
}

/// What the numbers of a depth map mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DepthUnit {
    /// Relative inverse depth, as of MiDaS and Depth Anything: larger is nearer, scale and offset are unknown.
    #[default]
    Inverse,
    /// Relative depth: larger is further away, scale and offset are unknown.
    Relative,
    /// Metres.
    Metres,
}

impl DepthUnit {
    /// The word in model cards and records.
    pub fn name(self) -> &'static str {
        match self {
            DepthUnit::Inverse => "inverse",
            DepthUnit::Relative => "relative",
            DepthUnit::Metres => "metres",
        }
    }

    /// Whether larger numbers are nearer to the camera.
    pub fn grows_towards_camera(self) -> bool {
        self == DepthUnit::Inverse
    }
}

/// Depth of each cell. Values are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct DepthMap {
    /// The depths.
    pub map: DenseMap<f32>,
    /// Their meaning.
    pub unit: DepthUnit,
}

impl DepthMap {
    pub(crate) fn placed(&self, place: &dyn Fn(Point) -> Point, rotation: Rotation) -> Option<Self> {
        Some(Self { map: self.map.placed(place, rotation, |depth| depth)?, unit: self.unit })
    }
}

/// Motion of each cell: across and down, in frame pixels from the frame before to this one. Values are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct FlowMap {
    /// The motions.
    pub map: DenseMap<[f32; 2]>,
}

impl FlowMap {
    pub(crate) fn placed(&self, place: &dyn Fn(Point) -> Point, rotation: Rotation) -> Option<Self> {
        let origin = place(Point::default());
        let moved = |[x, y]: [f32; 2]| {
            let end = place(Point { x, y });
            [end.x - origin.x, end.y - origin.y]
        };
        Some(Self { map: self.map.placed(place, rotation, moved)? })
    }

    /// The map in the coordinates of a transformed frame; `None` if nothing of it is left.
    #[must_use]
    pub fn mapped(&self, mapping: &FrameMapping) -> Option<Self> {
        self.placed(&|point| mapping.point(point), mapping.rotation())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn motions_turn_with_the_frame() {
        let bbox = BBox::from_xyxy(0.0, 0.0, 20.0, 10.0);
        let flow = FlowMap { map: DenseMap::new(bbox, 2, 1, vec![[3.0, 1.0], [0.0, 2.0]]).expect("a map") };
        let mapping = FrameMapping::turned(Rotation::Clockwise90, 20, 10);
        let turned = flow.mapped(&mapping).expect("a map").map;
        assert_eq!((turned.columns(), turned.rows()), (1, 2));
        // Right becomes down, and down becomes left.
        assert_eq!(turned.cells(), [[-1.0, 3.0], [-2.0, 0.0]]);
        assert_eq!(*turned.bbox(), BBox::from_xyxy(0.0, 0.0, 10.0, 20.0));
    }

    #[test]
    fn cells_fill_the_box() {
        let bbox = BBox::from_xyxy(0.0, 0.0, 2.0, 2.0);
        assert!(DenseMap::new(bbox, 2, 2, vec![0.0; 3]).is_err());
        assert!(DenseMap::new(BBox::default(), 1, 1, vec![0.0]).is_err());
        assert!(DenseMap::<f32>::new(bbox, 0, 0, Vec::new()).is_err());
    }
}
