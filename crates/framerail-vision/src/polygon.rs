//! Fixed areas as masks: every pixel that a polygon touches.

use framerail_core::{BBox, Point, Region};

use crate::mask::{Mask, MaskSource};

impl Mask {
    /// Fully covers every pixel that a polygon touches. Corners are in frame pixels and in order; the last is joined with the first. The
    /// polygon is clipped to the frame. `None` when it lies outside, has fewer than 3 corners, or is not finite.
    pub fn of_polygon(corners: &[Point], frame_width: u32, frame_height: u32) -> Option<Mask> {
        let corners: Vec<(f64, f64)> = corners.iter().map(|point| (f64::from(point.x), f64::from(point.y))).collect();
        if corners.len() < 3 || corners.iter().any(|(x, y)| !x.is_finite() || !y.is_finite()) {
            return None;
        }
        let bound = |of: fn(&(f64, f64)) -> f64, pick: fn(f64, f64) -> f64, from: f64| corners.iter().map(of).fold(from, pick) as f32;
        let bounds = BBox::from_xyxy(
            bound(|c| c.0, f64::min, f64::INFINITY),
            bound(|c| c.1, f64::min, f64::INFINITY),
            bound(|c| c.0, f64::max, f64::NEG_INFINITY),
            bound(|c| c.1, f64::max, f64::NEG_INFINITY),
        );
        let region = Region::around(&bounds, frame_width, frame_height)?;
        let mut coverage = vec![0; region.pixels()];
        for (row, y) in coverage.chunks_exact_mut(region.width as usize).zip(region.y..) {
            cover_row(&corners, f64::from(y), f64::from(region.x), row);
        }
        coverage.contains(&255).then(|| Mask { region, coverage: coverage.into(), bounds, source: MaskSource::Area })
    }

    /// Removes the pixels that other masks cover; `None` when nothing is left.
    pub fn without(mut self, others: &[Mask]) -> Option<Mask> {
        let mut coverage = self.coverage.to_vec();
        for (row, y) in coverage.chunks_exact_mut(self.region.width as usize).zip(self.region.y..) {
            for (value, x) in row.iter_mut().zip(self.region.x..) {
                if others.iter().any(|other| other.at(x, y) > 0) {
                    *value = 0;
                }
            }
        }
        self.coverage = coverage.into();
        self.coverage.iter().any(|value| *value > 0).then_some(self)
    }
}

/// Covers the pixels of a row that a polygon touches. `y` is the top of the row, `left` the left edge of its first pixel.
fn cover_row(corners: &[(f64, f64)], y: f64, left: f64, row: &mut [u8]) {
    let width = row.len() as f64;
    let column = |x: f64| (x - left).clamp(0.0, width) as usize;
    let (middle, mut crossings, mut spans) = (y + 0.5, Vec::new(), Vec::new());
    for (a, b) in corners.iter().zip(corners.iter().cycle().skip(1)) {
        let (upper, lower) = if a.1 <= b.1 { (a, b) } else { (b, a) };
        let at = |y: f64| {
            let part = if lower.1 > upper.1 { ((y - upper.1) / (lower.1 - upper.1)).clamp(0.0, 1.0) } else { 0.0 };
            upper.0 + (lower.0 - upper.0) * part
        };
        if upper.1 <= middle && middle < lower.1 {
            crossings.push(at(middle));
        }
        // The part of the edge within this row of pixels.
        if upper.1 < y + 1.0 && lower.1 > y {
            let ends = (at(y), at(y + 1.0));
            spans.push((ends.0.min(ends.1), ends.0.max(ends.1)));
        }
    }
    crossings.sort_by(f64::total_cmp);
    spans.extend(crossings.chunks_exact(2).map(|pair| (pair[0], pair[1])));
    for (from, to) in spans {
        let (first, end) = (column(from.floor()), column(to.ceil()));
        row.get_mut(first..end).unwrap_or_default().fill(255);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mask(corners: &[(f32, f32)], width: u32, height: u32) -> Option<Mask> {
        Mask::of_polygon(&corners.iter().map(|(x, y)| Point { x: *x, y: *y }).collect::<Vec<_>>(), width, height)
    }

    #[test]
    fn a_box_covers_its_pixels_and_no_more() {
        let mask = mask(&[(2.0, 1.0), (6.0, 1.0), (6.0, 4.0), (2.0, 4.0)], 8, 6).expect("inside");
        for (x, y) in (0..6).flat_map(|y| (0..8).map(move |x| (x, y))) {
            assert_eq!(mask.at(x, y) == 255, (2..6).contains(&x) && (1..4).contains(&y), "{x},{y}");
        }
        assert_eq!(mask.source, MaskSource::Area);
    }

    #[test]
    fn parts_of_pixels_count_and_notches_do_not() {
        let sliver = mask(&[(2.2, 1.2), (2.4, 1.2), (2.4, 3.1), (2.2, 3.1)], 8, 6).expect("inside");
        assert_eq!((0..6).map(|y| sliver.at(2, y)).collect::<Vec<_>>(), [0, 255, 255, 255, 0, 0]);
        let notched = [(0.0, 0.0), (10.0, 0.0), (10.0, 4.0), (4.0, 4.0), (4.0, 10.0), (0.0, 10.0)];
        let notched = mask(&notched, 12, 12).expect("inside");
        assert_eq!([notched.at(3, 9), notched.at(9, 3), notched.at(5, 5), notched.at(4, 4)], [255, 255, 0, 0]);
        assert!(mask(&[(20.0, 0.0), (30.0, 0.0), (30.0, 5.0)], 8, 6).is_none());
        assert!(mask(&[(f32::NAN, 0.0), (3.0, 0.0), (3.0, 5.0)], 8, 6).is_none());
    }

    #[test]
    fn an_area_within_an_area_is_left_out() {
        let whole = mask(&[(0.0, 0.0), (8.0, 0.0), (8.0, 6.0), (0.0, 6.0)], 8, 6).expect("inside");
        let hole = mask(&[(2.0, 2.0), (4.0, 2.0), (4.0, 4.0), (2.0, 4.0)], 8, 6).expect("inside");
        let rest = whole.clone().without(&[hole]).expect("something is left");
        assert_eq!([rest.at(1, 1), rest.at(2, 2), rest.at(3, 3), rest.at(4, 4)], [255, 0, 0, 255]);
        assert!(rest.without(&[whole]).is_none());
    }

    proptest! {
        /// Every point inside a triangle is covered.
        #[test]
        fn points_inside_are_covered(corners in prop::array::uniform3((-5.0f32..45.0, -5.0f32..35.0)), u in 0.0f32..1.0, v in 0.0f32..1.0) {
            let (u, v) = if u + v > 1.0 { (1.0 - u, 1.0 - v) } else { (u, v) };
            let along = |a: f32, b: f32, c: f32| a + (b - a) * u + (c - a) * v;
            let [(ax, ay), (bx, by), (cx, cy)] = corners;
            let (x, y) = (along(ax, bx, cx), along(ay, by, cy));
            let area = ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).abs();
            // Rounding may put a point of a very thin triangle on either side.
            prop_assume!(area > 1.0 && u > 0.001 && v > 0.001 && u + v < 0.999);
            if (0.0..40.0).contains(&x) && (0.0..30.0).contains(&y) {
                let mask = mask(&corners, 40, 30).expect("a point of it is inside");
                prop_assert_eq!(mask.at(x as u32, y as u32), 255);
            }
        }
    }
}
