//! The contour of a detection, from a model's mask or from landmarks.

use std::sync::Arc;

use framerail_core::{AttributeValue, BBox, Detection, InstanceMask, Region};

use crate::{distance::squared_distances, hull::ConvexHull, mask::soft_edge};

/// Minimum number of landmarks that trace an outline. The five of a face detector and the seventeen of a body mark features inside it.
pub(crate) const OUTLINING_LANDMARKS: usize = 20;

/// Minimum coverage of a cell or pixel that counts as inside.
const INSIDE: u8 = 128;

/// Points whose hull fills less than this fraction of the square around them lie on a line and enclose nothing.
const FLATTEST: f64 = 0.05;

/// Which pixels belong to a detection.
#[derive(Clone, Debug)]
pub(crate) enum Contour {
    /// Pixels where a model's mask is at least half covered.
    Mask(Arc<InstanceMask>),
    /// Pixels that the hull of the landmarks touches.
    Hull(ConvexHull),
}

/// Why a detection has no contour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoContour {
    /// No model returned a mask or enough landmarks.
    Missing,
    /// The mask or hull covers too little of the box.
    TooSmall,
}

impl Contour {
    /// Returns the last mask among the attributes if it covers at least `least_share` of the box. Otherwise returns the hull of the
    /// attributes' last landmarks (3 or more) or, without these, of the detection's own landmarks (20 or more). The hull must cover the
    /// same share, unless it is of 20 landmarks or more.
    pub fn of(detection: &Detection, least_share: f32) -> Result<Self, NoContour> {
        let attributes = || detection.attributes.iter().rev().map(|attribute| &attribute.value);
        let mask = attributes().find_map(|value| if let AttributeValue::Mask(mask) = value { Some(Arc::clone(mask)) } else { None });
        let marks = attributes().find_map(|value| match value {
            AttributeValue::Landmarks(points) if points.len() >= 3 => Some(points),
            _ => None,
        });
        let own = Some(&detection.landmarks).filter(|points| points.len() >= OUTLINING_LANDMARKS);
        let least = f64::from(least_share) * f64::from(detection.bbox.width()) * f64::from(detection.bbox.height());
        let is_large = |area: f64| area > 0.0 && area >= least;
        let hull = marks.or(own);
        let no_contour = if mask.is_none() && hull.is_none() { NoContour::Missing } else { NoContour::TooSmall };
        let mask = mask.filter(|mask| is_large(mask_area(mask))).map(Contour::Mask);
        let hull = || {
            let points = hull?;
            let found = ConvexHull::of(points).filter(|found| !is_flat(found))?;
            (points.len() >= OUTLINING_LANDMARKS || is_large(found.area())).then_some(Contour::Hull(found))
        };
        mask.or_else(hull).ok_or(no_contour)
    }

    /// The box around the inside.
    pub fn extent(&self) -> BBox {
        match self {
            Contour::Hull(hull) => hull.bounds(),
            Contour::Mask(mask) => cells_inside(mask),
        }
    }

    /// How far the inside may reach beyond [`Contour::extent`]: values are interpolated between the centres of two cells.
    fn margin(&self) -> f64 {
        match self {
            Contour::Hull(_) => 0.0,
            Contour::Mask(mask) => cell_width(mask).max(cell_height(mask)),
        }
    }

    /// Returns for each pixel of a region, row by row, whether it is inside.
    pub fn inside(&self, region: Region) -> Vec<bool> {
        match self {
            Contour::Mask(mask) => mask_inside(mask, region),
            Contour::Hull(hull) => {
                let mut inside = vec![false; region.pixels()];
                let rows = inside.chunks_exact_mut((region.width as usize).max(1));
                for (row, (from, to)) in rows.zip(hull.spans(region.y, region.height)) {
                    let column = |x: f64| (x - f64::from(region.x)).clamp(0.0, f64::from(region.width)) as usize;
                    let (first, end) = (column(from.floor()), column(to.ceil()));
                    row.get_mut(first..end).unwrap_or_default().fill(true);
                }
                inside
            }
        }
    }

    /// Returns the coverage within a frame of this size: the inside, grown on every side by `growth` times the mean of its extent's
    /// sides (shrunk when below 0), with a soft edge of `feather` pixels around it. `None` when no pixel in the frame is fully covered.
    pub fn raster(&self, growth: f64, feather: f64, (width, height): (u32, u32)) -> Option<Raster> {
        let extent = self.extent();
        let growth = growth * (f64::from(extent.width()) + f64::from(extent.height())) / 2.0;
        let region = around(&extent, growth.max(0.0) + feather + self.margin() + 1.0, width, height)?;
        let inside = self.inside(region);
        let coverage: Vec<u8> = edge_distances(&inside, region.width as usize, growth < 0.0)
            .map(|distance| if distance <= growth { 255 } else { soft_edge(distance - growth, feather) })
            .collect();
        coverage.contains(&255).then(|| Raster { region, bounds: grown(&extent, growth), coverage: coverage.into() })
    }
}

/// Coverage inside a drawn contour, away from its edge.
const TINT: f64 = 90.0;

impl Contour {
    /// Returns the coverage for drawing: a tint of the inside within a frame of this size, and a line of `line_width` pixels along
    /// its edge, to the inside. `None` when nothing is visible.
    pub fn tinted(&self, line_width: f64, (width, height): (u32, u32)) -> Option<Raster> {
        let extent = self.extent();
        let region = around(&extent, self.margin() + 1.0, width, height)?;
        let coverage = |beyond: f64| match beyond {
            beyond if beyond > 0.0 => 0,
            beyond => (TINT + (255.0 - TINT) * (line_width + beyond + 0.5).clamp(0.0, 1.0)).round() as u8,
        };
        let coverage: Arc<[u8]> = edge_distances(&self.inside(region), region.width as usize, true).map(coverage).collect();
        coverage.iter().any(|coverage| *coverage > 0).then_some(Raster { region, bounds: extent, coverage })
    }
}

/// The pixels that a contour covers.
#[derive(Clone, Debug)]
pub(crate) struct Raster {
    /// The pixels that may be covered.
    pub region: Region,
    /// The contour's box.
    pub bounds: BBox,
    /// 0 to 255 for each pixel of the region, row by row.
    pub coverage: Arc<[u8]>,
}

/// Returns for each pixel how far its centre lies beyond the edge of the inside, in pixels: 0.5 for direct neighbours. Pixels inside
/// have -0.5 or, with `depths`, their depth as a negative value, from -0.5 down.
pub(crate) fn edge_distances(inside: &[bool], width: usize, depths: bool) -> impl Iterator<Item = f64> {
    let outwards = squared_distances(inside, width);
    let outside: Vec<bool> = if depths { inside.iter().map(|inside| !inside).collect() } else { Vec::new() };
    let inwards = if depths { squared_distances(&outside, width) } else { vec![1; inside.len()] };
    outwards.into_iter().zip(inwards).map(|(outwards, inwards)| match (outwards, inwards) {
        (0, u32::MAX) => f64::NEG_INFINITY,
        (0, depth) => 0.5 - f64::from(depth).sqrt(),
        (u32::MAX, _) => f64::INFINITY,
        (distance, _) => f64::from(distance).sqrt() - 0.5,
    })
}

fn grown(bbox: &BBox, by: f64) -> BBox {
    let side = |at: f32, by: f64| (f64::from(at) + by) as f32;
    BBox::from_xyxy(side(bbox.x1, -by), side(bbox.y1, -by), side(bbox.x2, by), side(bbox.y2, by))
}

/// Every pixel within `reach` of a box. An infinite reach covers the whole frame.
fn around(bbox: &BBox, reach: f64, width: u32, height: u32) -> Option<Region> {
    let bound = |at: f32| if at.is_finite() { at } else { at.signum() * f32::MAX };
    let BBox { x1, y1, x2, y2 } = grown(bbox, reach);
    Region::around(&BBox::from_xyxy(bound(x1), bound(y1), bound(x2), bound(y2)), width, height)
}

fn is_flat(hull: &ConvexHull) -> bool {
    let bounds = hull.bounds();
    let side = f64::from(bounds.x2) - f64::from(bounds.x1);
    let side = side.max(f64::from(bounds.y2) - f64::from(bounds.y1));
    hull.area() < FLATTEST * side * side
}

fn cell_width(mask: &InstanceMask) -> f64 {
    (f64::from(mask.bbox().x2) - f64::from(mask.bbox().x1)) / f64::from(mask.columns())
}

fn cell_height(mask: &InstanceMask) -> f64 {
    (f64::from(mask.bbox().y2) - f64::from(mask.bbox().y1)) / f64::from(mask.rows())
}

/// Area of the cells that are inside, in square pixels.
fn mask_area(mask: &InstanceMask) -> f64 {
    let cells = mask.coverage().iter().filter(|coverage| **coverage >= INSIDE).count();
    cells as f64 * cell_width(mask) * cell_height(mask)
}

/// The box around the cells that are inside; empty when there are none.
fn cells_inside(mask: &InstanceMask) -> BBox {
    let is_inside = |cell: &u8| *cell >= INSIDE;
    let (mut columns, mut rows) = ((u32::MAX, 0), (u32::MAX, 0));
    for (row, cells) in (0..).zip(mask.coverage().chunks_exact(mask.columns() as usize)) {
        let (Some(first), Some(last)) = (cells.iter().position(is_inside), cells.iter().rposition(is_inside)) else { continue };
        columns = (columns.0.min(first as u32), columns.1.max(last as u32 + 1));
        rows = (rows.0.min(row), row + 1);
    }
    let at = |origin: f32, cell: f64, count: u32| (f64::from(origin) + cell * f64::from(count)) as f32;
    let (width, height) = (cell_width(mask), cell_height(mask));
    let BBox { x1, y1, .. } = *mask.bbox();
    if columns.0 >= columns.1 {
        return BBox::from_xyxy(x1, y1, x1, y1);
    }
    BBox::from_xyxy(at(x1, width, columns.0), at(y1, height, rows.0), at(x1, width, columns.1), at(y1, height, rows.1))
}

/// The two cells between whose centres a pixel's centre lies.
#[derive(Clone, Copy)]
struct Between {
    first: usize,
    second: usize,
    part: f32,
}

/// Finds the cells of `count` pixels from `first` on. `None` for pixels beyond the box, which starts at `origin`.
fn between(origin: f32, end: f32, cells: u32, first: u32, count: u32) -> Vec<Option<Between>> {
    let (origin, end) = (f64::from(origin), f64::from(end));
    let cell = (end - origin) / f64::from(cells);
    let last = f64::from(cells - 1);
    let place = |pixel: u32| {
        let middle = f64::from(pixel) + 0.5;
        let at = ((middle - origin) / cell - 0.5).clamp(0.0, last);
        let first = at.floor();
        (origin <= middle && middle <= end).then_some(Between {
            first: first as usize,
            second: (first + 1.0).min(last) as usize,
            part: (at - first) as f32,
        })
    };
    (first..first + count).map(place).collect()
}

/// Marks pixels where the mask, interpolated bilinearly between the centres of its cells, is at least half covered.
fn mask_inside(mask: &InstanceMask, region: Region) -> Vec<bool> {
    let bbox = mask.bbox();
    let columns = between(bbox.x1, bbox.x2, mask.columns(), region.x, region.width);
    let rows = between(bbox.y1, bbox.y2, mask.rows(), region.y, region.height);
    let cells_of = |row: usize| mask.coverage().chunks_exact(mask.columns() as usize).nth(row).unwrap_or_default();
    let mut inside = Vec::with_capacity(region.pixels());
    for row in rows {
        let Some(row) = row else {
            inside.resize(inside.len() + columns.len(), false);
            continue;
        };
        let (upper, lower) = (cells_of(row.first), cells_of(row.second));
        let mixed = |column: usize| {
            let cell = |cells: &[u8]| f32::from(cells.get(column).copied().unwrap_or(0));
            cell(upper) + (cell(lower) - cell(upper)) * row.part
        };
        inside.extend(columns.iter().map(|column| {
            column.is_some_and(|Between { first, second, part }| {
                let (left, right) = (mixed(first), mixed(second));
                left + (right - left) * part >= f32::from(INSIDE) - 0.5
            })
        }));
    }
    inside
}

#[cfg(test)]
mod tests;
