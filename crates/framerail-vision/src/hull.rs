//! The convex hull of points.

use framerail_core::{BBox, Point};

/// The smallest convex shape around points, in frame pixels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConvexHull {
    /// Corners in order around the shape, at least 3; none lies on the line between its neighbours.
    corners: Vec<(f64, f64)>,
}

impl ConvexHull {
    /// Computes the hull of points; non-finite points are ignored. `None` when the rest lies on one line.
    ///
    /// Source: Andrew: Another efficient algorithm for convex hulls in two dimensions, 1979 (the monotone chain).
    pub fn of(points: &[Point]) -> Option<Self> {
        let finite = points.iter().filter(|point| point.x.is_finite() && point.y.is_finite());
        let mut points: Vec<(f64, f64)> = finite.map(|point| (f64::from(point.x), f64::from(point.y))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        points.dedup();
        let mut corners = chain(points.iter());
        corners.extend(chain(points.iter().rev()));
        (corners.len() >= 3).then_some(Self { corners })
    }

    /// Area in square pixels.
    pub fn area(&self) -> f64 {
        self.edges().map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum::<f64>().abs() / 2.0
    }

    /// The bounding box.
    pub fn bounds(&self) -> BBox {
        let least = |of: fn(&(f64, f64)) -> f64| self.corners.iter().map(of).fold(f64::INFINITY, f64::min) as f32;
        let most = |of: fn(&(f64, f64)) -> f64| self.corners.iter().map(of).fold(f64::NEG_INFINITY, f64::max) as f32;
        BBox::from_xyxy(least(|corner| corner.0), least(|corner| corner.1), most(|corner| corner.0), most(|corner| corner.1))
    }

    fn edges(&self) -> impl Iterator<Item = ((f64, f64), (f64, f64))> {
        let next = self.corners.iter().cycle().skip(1);
        self.corners.iter().zip(next).map(|(a, b)| (*a, *b))
    }

    /// Returns for each of `rows` rows of pixels, from `top` on, the start and end of the hull within the row. Start is greater than end
    /// where the hull does not reach the row.
    pub fn spans(&self, top: u32, rows: u32) -> Vec<(f64, f64)> {
        let mut spans = vec![(f64::INFINITY, f64::NEG_INFINITY); rows as usize];
        for (a, b) in self.edges() {
            let (upper, lower) = if a.1 <= b.1 { (a, b) } else { (b, a) };
            let row = |y: f64| (y - f64::from(top)).clamp(0.0, f64::from(rows)) as usize;
            let (first, end) = (row(upper.1.floor()), row(lower.1.ceil()));
            for (row, span) in (first..end).zip(spans.iter_mut().skip(first)) {
                let y = f64::from(top) + row as f64;
                for x in [on_edge(upper, lower, y), on_edge(upper, lower, y + 1.0)] {
                    *span = (span.0.min(x), span.1.max(x));
                }
            }
        }
        spans
    }
}

/// One side of the hull, without its last corner.
fn chain<'a>(points: impl Iterator<Item = &'a (f64, f64)>) -> Vec<(f64, f64)> {
    let turns_left = |a: (f64, f64), b: (f64, f64), c: (f64, f64)| (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0) > 0.0;
    let mut chain: Vec<(f64, f64)> = Vec::new();
    for point in points {
        while let [.., a, b] = chain[..]
            && !turns_left(a, b, *point)
        {
            chain.pop();
        }
        chain.push(*point);
    }
    chain.pop();
    chain
}

/// Returns x where an edge, whose ends are given from top to bottom, passes `y`; beyond the edge, x of its nearer end.
fn on_edge(upper: (f64, f64), lower: (f64, f64), y: f64) -> f64 {
    let height = lower.1 - upper.1;
    let part = if height > 0.0 { ((y - upper.1) / height).clamp(0.0, 1.0) } else { f64::from(u8::from(y > upper.1)) };
    upper.0 + (lower.0 - upper.0) * part
}

#[cfg(test)]
mod tests {
    use framerail_core::SplitMix64;
    use proptest::prelude::*;

    use super::*;

    fn hull(points: &[(f32, f32)]) -> Option<ConvexHull> {
        ConvexHull::of(&points.iter().map(|(x, y)| Point { x: *x, y: *y }).collect::<Vec<_>>())
    }

    #[test]
    fn corners_are_those_outside() {
        let found = hull(&[(1.0, 1.0), (0.0, 0.0), (4.0, 0.0), (2.0, 0.0), (4.0, 2.0), (0.0, 2.0), (0.0, 0.0)]).expect("a hull");
        assert_eq!(found.corners, [(0.0, 0.0), (4.0, 0.0), (4.0, 2.0), (0.0, 2.0)]);
        assert_eq!((found.area(), found.bounds()), (8.0, BBox::from_xyxy(0.0, 0.0, 4.0, 2.0)));
    }

    #[test]
    fn what_has_no_area_has_no_hull() {
        assert_eq!(hull(&[]), None);
        assert_eq!(hull(&[(1.0, 2.0); 9]), None);
        assert_eq!(hull(&[(0.0, 0.0), (1.0, 1.0), (2.0, 2.0), (5.0, 5.0)]), None);
        assert_eq!(hull(&[(f32::NAN, 0.0), (0.0, 0.0), (1.0, 0.0), (0.0, f32::INFINITY)]), None);
    }

    #[test]
    fn odd_points_are_left_out_and_huge_ones_kept() {
        let found = hull(&[(0.0, 0.0), (f32::NAN, 3.0), (8.0, 0.0), (f32::NEG_INFINITY, 0.0), (0.0, 6.0)]).expect("three remain");
        assert_eq!(found.corners, [(0.0, 0.0), (8.0, 0.0), (0.0, 6.0)]);
        let huge = hull(&[(-f32::MAX, -f32::MAX), (f32::MAX, -f32::MAX), (0.0, f32::MAX)]).expect("a hull");
        assert!(huge.area().is_finite());
        for (from, to) in huge.spans(0, 40) {
            assert!(from < -1e30 && to > 1e30, "{from} {to}");
        }
    }

    /// The part of a pixel that a hull covers: the pixel clipped by each edge in turn.
    fn part_covered(hull: &ConvexHull, x: u32, y: u32) -> f64 {
        let (left, top) = (f64::from(x), f64::from(y));
        let mut shape = vec![(left, top), (left + 1.0, top), (left + 1.0, top + 1.0), (left, top + 1.0)];
        for (a, b) in hull.edges() {
            let side = |p: (f64, f64)| (b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0);
            let mut kept = Vec::new();
            for (p, q) in shape.iter().zip(shape.iter().cycle().skip(1)) {
                let (from, to) = (side(*p), side(*q));
                if from >= 0.0 {
                    kept.push(*p);
                }
                if (from > 0.0) != (to > 0.0) && from != to {
                    let t = from / (from - to);
                    kept.push((p.0 + (q.0 - p.0) * t, p.1 + (q.1 - p.1) * t));
                }
            }
            shape = kept;
        }
        shape.iter().zip(shape.iter().cycle().skip(1)).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum::<f64>().abs() / 2.0
    }

    #[test]
    fn spans_hold_exactly_the_pixels_that_it_touches() {
        let mut random = SplitMix64::new(11);
        for _ in 0..150 {
            let points: Vec<(f32, f32)> =
                (0..3 + random.below(9)).map(|_| (random.between(-6.0, 22.0) as f32, random.between(-6.0, 22.0) as f32)).collect();
            let Some(found) = hull(&points) else { continue };
            let (top, rows) = (2, 12);
            for (y, (from, to)) in (top..).zip(found.spans(top, rows)) {
                for x in 0..16 {
                    let touched = f64::from(x) < to && f64::from(x + 1) > from;
                    let part = part_covered(&found, x, y);
                    assert!(touched == (part > 0.0) || part < 1e-9, "{x},{y}: {part} of it, span {from} to {to} of {points:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_hull_holds_its_points_and_turns_one_way(points in proptest::collection::vec((-50i16..50, -50i16..50), 0..40)) {
            let points: Vec<(f32, f32)> = points.iter().map(|(x, y)| (f32::from(*x), f32::from(*y))).collect();
            let Some(found) = hull(&points) else { return Ok(()) };
            let side = |a: (f64, f64), b: (f64, f64), p: (f64, f64)| (b.0 - a.0) * (p.1 - a.1) - (b.1 - a.1) * (p.0 - a.0);
            for (a, b) in found.edges() {
                for (x, y) in &points {
                    prop_assert!(side(a, b, (f64::from(*x), f64::from(*y))) >= 0.0);
                }
            }
            let corners = found.corners.len();
            for at in 0..corners {
                let [a, b, c] = [0, 1, 2].map(|step| found.corners[(at + step) % corners]);
                prop_assert!(side(a, b, c) > 0.0);
            }
        }
    }
}
