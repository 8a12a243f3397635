//! Gaussian blur of planes of floats, mirrored at the edges.

use framerail_core::GaussianBlur;
use multiversion::multiversion;

/// `exp(-d² / 2σ²)` for each tap of the kernel, scaled to a sum of 1.
fn weights(kernel: u32, sigma: f32) -> Vec<f32> {
    let middle = f64::from(kernel / 2);
    let weight = |place: u32| (-((f64::from(place) - middle) / f64::from(sigma)).powi(2) / 2.0).exp();
    let sum: f64 = (0..kernel).map(weight).sum();
    (0..kernel).map(|place| (weight(place) / sum) as f32).collect()
}

/// Mirrors a position that lies less than `side` beyond either end back into the range; the edge itself is not repeated.
fn mirrored(position: isize, side: usize) -> usize {
    let position = position.unsigned_abs();
    if position < side { position } else { 2 * (side - 1) - position }
}

#[multiversion(targets("x86_64+avx2+fma"))]
fn add_row(row: &[f32], weight: f32, sums: &mut [f32]) {
    for (sum, value) in sums.iter_mut().zip(row) {
        *sum += value * weight;
    }
}

/// Blurs planes in place. Keeps its buffers between frames.
#[derive(Debug, Default)]
pub(super) struct Blurrer {
    padded: Vec<f32>,
    across: Vec<f32>,
}

impl Blurrer {
    /// Blurs one plane of `width` columns. On each axis, half the kernel must be smaller than the side.
    pub fn run(&mut self, blur: &GaussianBlur, plane: &mut [f32], width: usize) {
        let [columns, rows] = [0, 1].map(|axis| weights(blur.kernel[axis], blur.sigma[axis]));
        self.across.resize(plane.len(), 0.0);
        for (row, out) in plane.chunks_exact(width).zip(self.across.chunks_exact_mut(width)) {
            let half = columns.len() / 2;
            self.padded.clear();
            self.padded.extend((0..width + 2 * half).map(|x| row[mirrored(x as isize - half as isize, width)]));
            out.fill(0.0);
            for (start, weight) in columns.iter().enumerate() {
                add_row(&self.padded[start..], *weight, out);
            }
        }
        let height = plane.len() / width;
        for (y, out) in plane.chunks_exact_mut(width).enumerate() {
            out.fill(0.0);
            for (place, weight) in rows.iter().enumerate() {
                let from = mirrored(y as isize + place as isize - (rows.len() / 2) as isize, height);
                add_row(&self.across[from * width..], *weight, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_plane_stays_flat_and_a_point_becomes_the_kernel() {
        let blur = GaussianBlur { kernel: [5, 3], sigma: [1.0, 0.5] };
        let mut flat = vec![0.25; 63];
        Blurrer::default().run(&blur, &mut flat, 9);
        assert!(flat.iter().all(|value| (value - 0.25).abs() < 1e-6));
        let mut point = vec![0.0; 63];
        point[3 * 9 + 4] = 1.0;
        Blurrer::default().run(&blur, &mut point, 9);
        let (across, down) = (weights(5, 1.0), weights(3, 0.5));
        for y in 0..3 {
            for x in 0..5 {
                assert!((point[(2 + y) * 9 + 2 + x] - across[x] * down[y]).abs() < 1e-6);
            }
        }
        assert!((point.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn edges_are_mirrored() {
        assert_eq!([-2, -1, 0, 3, 4, 5].map(|position| mirrored(position, 4)), [2, 1, 0, 3, 2, 1]);
        assert_eq!(mirrored(0, 1), 0);
    }
}
