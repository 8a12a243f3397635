//! Polygons and lines: sides, distances, crossings. In pixels, with y downwards.

use framerail_core::Point;

/// A point in double precision.
pub(super) type Place = (f64, f64);

pub(super) fn place(point: Point) -> Place {
    (point.x.into(), point.y.into())
}

/// Twice the signed area of a triangle: above 0 where `c` lies to the right of the path from `a` to `b`.
pub(super) fn turn(a: Place, b: Place, c: Place) -> f64 {
    (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)
}

/// Signed distance in pixels from an infinite line: above 0 to its right.
pub(super) fn distance_to_line(from: Place, to: Place, point: Place) -> f64 {
    turn(from, to, point) / (to.0 - from.0).hypot(to.1 - from.1)
}

/// Where along a line, 0 at its start and 1 at its end, the path from `a` to `b` crosses it; `None` for parallels.
pub(super) fn meeting(from: Place, to: Place, a: Place, b: Place) -> Option<f64> {
    let (before, after) = (turn(from, to, a), turn(from, to, b));
    let part = before / (before - after);
    let (x, y) = (a.0 + (b.0 - a.0) * part, a.1 + (b.1 - a.1) * part);
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let along = ((x - from.0) * dx + (y - from.1) * dy) / (dx * dx + dy * dy);
    along.is_finite().then_some(along)
}

fn distance_to_segment(from: Place, to: Place, point: Place) -> f64 {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let along = (((point.0 - from.0) * dx + (point.1 - from.1) * dy) / (dx * dx + dy * dy).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    (point.0 - from.0 - dx * along).hypot(point.1 - from.1 - dy * along)
}

/// The edges of a closed polygon.
fn edges(corners: &[Place]) -> impl Iterator<Item = (Place, Place)> + '_ {
    corners.iter().copied().zip(corners.iter().copied().cycle().skip(1))
}

/// Signed distance in pixels from a polygon's edge: above 0 inside.
pub(super) fn distance_inside(corners: &[Place], point: Place) -> f64 {
    let nearest = edges(corners).map(|(from, to)| distance_to_segment(from, to, point)).fold(f64::INFINITY, f64::min);
    if is_inside(corners, point) { nearest } else { -nearest }
}

/// Whether a ray to the right crosses the polygon's edge an odd number of times.
fn is_inside(corners: &[Place], (x, y): Place) -> bool {
    let crosses = |&(from, to): &(Place, Place)| {
        let straddles = (from.1 > y) != (to.1 > y);
        straddles && x < from.0 + (y - from.1) / (to.1 - from.1) * (to.0 - from.0)
    };
    edges(corners).filter(crosses).count() % 2 == 1
}

pub(super) fn area(corners: &[Place]) -> f64 {
    edges(corners).map(|(from, to)| from.0 * to.1 - to.0 * from.1).sum::<f64>().abs() / 2.0
}

/// Returns two edges, numbered from 0, that meet anywhere but at a shared corner.
pub(super) fn crossing_edges(corners: &[Place]) -> Option<(usize, usize)> {
    let all: Vec<_> = edges(corners).collect();
    let last = all.len().saturating_sub(1);
    for (a, first) in all.iter().enumerate() {
        for (b, second) in all.iter().enumerate().skip(a + 1) {
            let are_neighbours = b == a + 1 || (a == 0 && b == last);
            let meet = if are_neighbours { folds_back(first, second, b == a + 1) } else { segments_meet(*first, *second) };
            if meet {
                return Some((a, b));
            }
        }
    }
    None
}

/// Whether two edges that share a corner lie on top of each other.
fn folds_back(first: &(Place, Place), second: &(Place, Place), in_order: bool) -> bool {
    let (before, corner, after) = if in_order { (first.0, first.1, second.1) } else { (second.0, second.1, first.1) };
    let (dx, dy) = (before.0 - corner.0, before.1 - corner.1);
    let back = dx * (after.0 - corner.0) + dy * (after.1 - corner.1);
    turn(before, corner, after) == 0.0 && back > 0.0
}

fn segments_meet((a, b): (Place, Place), (c, d): (Place, Place)) -> bool {
    let sides = [turn(c, d, a), turn(c, d, b), turn(a, b, c), turn(a, b, d)];
    if sides[0] * sides[1] < 0.0 && sides[2] * sides[3] < 0.0 {
        return true;
    }
    let lies_on = |from: Place, to: Place, point: Place| {
        let within = |from: f64, to: f64, value: f64| (from.min(to)..=from.max(to)).contains(&value);
        within(from.0, to.0, point.0) && within(from.1, to.1, point.1)
    };
    (sides[0] == 0.0 && lies_on(c, d, a))
        || (sides[1] == 0.0 && lies_on(c, d, b))
        || (sides[2] == 0.0 && lies_on(a, b, c))
        || (sides[3] == 0.0 && lies_on(a, b, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    const L_SHAPE: [Place; 6] = [(0.0, 0.0), (10.0, 0.0), (10.0, 4.0), (4.0, 4.0), (4.0, 10.0), (0.0, 10.0)];

    #[test]
    fn inside_and_outside_of_a_shape_with_a_notch() {
        assert_eq!(distance_inside(&L_SHAPE, (2.0, 2.0)), 2.0);
        assert_eq!(distance_inside(&L_SHAPE, (6.0, 6.0)), -2.0);
        assert_eq!(distance_inside(&L_SHAPE, (-3.0, 5.0)), -3.0);
        assert_eq!(area(&L_SHAPE), 64.0);
    }

    #[test]
    fn right_is_right_when_y_points_down() {
        assert_eq!(distance_to_line((0.0, 0.0), (10.0, 0.0), (3.0, 2.0)), 2.0);
        assert_eq!(meeting((0.0, 0.0), (10.0, 0.0), (2.0, -1.0), (4.0, 1.0)), Some(0.3));
        assert_eq!(meeting((0.0, 0.0), (10.0, 0.0), (2.0, 1.0), (4.0, 1.0)), None);
    }

    #[test]
    fn polygons_that_cross_themselves_are_found() {
        assert_eq!(crossing_edges(&L_SHAPE), None);
        assert_eq!(crossing_edges(&[(0.0, 0.0), (4.0, 4.0), (4.0, 0.0), (0.0, 4.0)]), Some((0, 2)), "a bow tie");
        assert_eq!(crossing_edges(&[(0.0, 0.0), (4.0, 0.0), (2.0, 0.0), (2.0, 4.0)]), Some((0, 1)), "a spike");
        assert_eq!(crossing_edges(&[(0.0, 0.0), (4.0, 0.0), (4.0, 4.0)]), None);
        assert_eq!(crossing_edges(&[(0.0, 0.0), (4.0, 0.0), (0.0, 0.0), (0.0, 4.0)]), Some((0, 1)), "the same corner twice");
    }
}
