//! Distances of pixels to the nearest marked pixel.

/// Larger than any distance between two pixels of a frame; its square fits an `i64`.
const FAR: i64 = 1 << 20;

/// Returns the squared distance in pixels, between centres, of each pixel to the nearest marked pixel. `marked` holds rows of `width`;
/// sides up to 32,768. All values are `u32::MAX` when no pixel is marked.
///
/// Exact and linear in the number of pixels. Source: Meijster, Roerdink, Hesselink: A General Algorithm for Computing Distance
/// Transforms in Linear Time, 2000.
pub(crate) fn squared_distances(marked: &[bool], width: usize) -> Vec<u32> {
    if width == 0 || !marked.contains(&true) {
        return vec![u32::MAX; marked.len()];
    }
    let mut vertical: Vec<i64> = marked.iter().map(|marked| if *marked { 0 } else { FAR }).collect();
    for at in width..vertical.len() {
        vertical[at] = vertical[at].min(vertical[at - width] + 1);
    }
    for at in (0..vertical.len().saturating_sub(width)).rev() {
        vertical[at] = vertical[at].min(vertical[at + width] + 1);
    }
    let mut out = vec![0; marked.len()];
    let mut envelope = Vec::with_capacity(width);
    for (row, out) in vertical.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        nearest_in_row(row, &mut envelope, out);
    }
    out
}

/// A column whose marked pixel is the nearest one for positions from `from` on.
struct Nearest {
    column: i64,
    from: i64,
}

/// Computes the minimum of `(x - column)² + vertical²` over all columns, for each x: the lower envelope of parabolas.
fn nearest_in_row(vertical: &[i64], envelope: &mut Vec<Nearest>, out: &mut [u32]) {
    let squared = |x: i64, column: i64| (x - column) * (x - column) + vertical[column as usize] * vertical[column as usize];
    envelope.clear();
    // Of a run of marked pixels, only the ends can be nearest to an unmarked pixel.
    let is_amid = |column: i64| vertical.get((column - 1).max(0) as usize..=(column + 1) as usize).is_some_and(|near| near == [0; 3]);
    for column in (0..vertical.len() as i64).filter(|column| !is_amid(*column)) {
        while envelope.last().is_some_and(|last| squared(last.from, last.column) > squared(last.from, column)) {
            envelope.pop();
        }
        let from = envelope.last().map_or(0, |last| {
            let (a, b) = (vertical[last.column as usize], vertical[column as usize]);
            (column * column - last.column * last.column + b * b - a * a).div_euclid(2 * (column - last.column)) + 1
        });
        if from < vertical.len() as i64 {
            envelope.push(Nearest { column, from });
        }
    }
    for (x, out) in out.iter_mut().enumerate().rev() {
        while envelope.len() > 1 && envelope.last().is_some_and(|last| last.from > x as i64) {
            envelope.pop();
        }
        if vertical[x] == 0 {
            *out = 0;
            continue;
        }
        *out = envelope.last().map_or(u32::MAX, |last| squared(x as i64, last.column).min(i64::from(u32::MAX)) as u32);
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::SplitMix64;

    use super::*;

    /// Compares each pixel with each marked one.
    fn by_brute_force(marked: &[bool], width: usize) -> Vec<u32> {
        let place = |at: usize| ((at % width) as i64, (at / width) as i64);
        let distance = |at: usize, to: usize| {
            let ((x, y), (u, v)) = (place(at), place(to));
            ((x - u).pow(2) + (y - v).pow(2)) as u32
        };
        let nearest = |at| (0..marked.len()).filter(|to| marked[*to]).map(|to| distance(at, to)).min().unwrap_or(u32::MAX);
        (0..marked.len()).map(nearest).collect()
    }

    #[test]
    fn every_distance_is_the_least() {
        let mut random = SplitMix64::new(5);
        for round in 0..200 {
            let (width, height) = (1 + random.below(24) as usize, 1 + random.below(24) as usize);
            let density = [0.002, 0.02, 0.2, 0.8][round % 4];
            let marked: Vec<bool> = (0..width * height).map(|_| random.chance(density)).collect();
            assert_eq!(squared_distances(&marked, width), by_brute_force(&marked, width), "{width}x{height} {marked:?}");
        }
    }

    #[test]
    fn nothing_marked_is_infinitely_far() {
        assert_eq!(squared_distances(&[false; 6], 3), [u32::MAX; 6]);
        assert!(squared_distances(&[], 0).is_empty());
    }

    #[test]
    fn long_rows_do_not_overflow() {
        let mut marked = vec![false; 32_768];
        marked[0] = true;
        let distances = squared_distances(&marked, 32_768);
        assert_eq!(distances[32_767], 32_767 * 32_767);
        assert_eq!(squared_distances(&marked, 1)[32_767], 32_767 * 32_767);
    }
}
