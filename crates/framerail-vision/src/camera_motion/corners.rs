//! Corners that can be followed from one frame to the next.

use super::gray::Gray;

/// Side of the cells of which each gives one corner at most.
const CELL: usize = 20;

/// Reach of the square over which gradients are summed.
const REACH: usize = 2;

/// Corners weaker than this share of the strongest one are left out.
const QUALITY: f32 = 0.01;

/// Minimum strength: a difference of about two grey levels in both directions.
const WEAKEST: f32 = 100.0;

/// The strongest corner of each cell: where the smaller eigenvalue of the gradients' covariance is highest.
///
/// Source: J. Shi and C. Tomasi, Good Features to Track, 1994.
pub(super) fn corners(image: &Gray) -> Vec<(f32, f32)> {
    let strengths = strengths(image);
    let (width, height) = (image.width, image.height);
    let mut found: Vec<(f32, (f32, f32))> = Vec::new();
    for top in (0..height).step_by(CELL) {
        for left in (0..width).step_by(CELL) {
            let mut best = (0.0f32, (0, 0));
            for y in top..(top + CELL).min(height) {
                for (x, strength) in (left..).zip(&strengths[y * width + left..y * width + (left + CELL).min(width)]) {
                    if *strength > best.0 {
                        best = (*strength, (x, y));
                    }
                }
            }
            if best.0 > WEAKEST {
                found.push((best.0, (best.1.0 as f32, best.1.1 as f32)));
            }
        }
    }
    let strongest = found.iter().map(|(strength, _)| *strength).fold(0.0, f32::max);
    found.into_iter().filter(|(strength, _)| *strength >= QUALITY * strongest).map(|(_, place)| place).collect()
}

/// The smaller eigenvalue at each pixel; 0 near the edges.
fn strengths(image: &Gray) -> Vec<f32> {
    let (width, height) = (image.width, image.height);
    let border = REACH + 1;
    let mut strengths = vec![0.0; width * height];
    if width <= 2 * border || height <= 2 * border {
        return strengths;
    }
    // Products of the gradients, summed along each row.
    let mut sums = vec![[0.0f32; 3]; width * height];
    let mut products = vec![[0.0f32; 3]; width];
    for y in 1..height - 1 {
        let (above, row, below) = (image.row(y - 1), image.row(y), image.row(y + 1));
        for (x, product) in products.iter_mut().enumerate().take(width - 1).skip(1) {
            let (across, down) = ((row[x + 1] - row[x - 1]) / 2.0, (below[x] - above[x]) / 2.0);
            *product = [across * across, across * down, down * down];
        }
        for (x, window) in products.windows(2 * REACH + 1).enumerate() {
            let sum = window.iter().fold([0.0; 3], |sum, product| [sum[0] + product[0], sum[1] + product[1], sum[2] + product[2]]);
            sums[y * width + x + REACH] = sum;
        }
    }
    for y in border..height - border {
        for x in border..width - border {
            let mut sum = [0.0f32; 3];
            for row in y - REACH..=y + REACH {
                let part = sums[row * width + x];
                sum = [sum[0] + part[0], sum[1] + part[1], sum[2] + part[2]];
            }
            let [xx, xy, yy] = sum;
            strengths[y * width + x] = (xx + yy) / 2.0 - (((xx - yy) / 2.0).powi(2) + xy * xy).sqrt();
        }
    }
    strengths
}
