//! Blurs sample patches at a cost that does not depend on the radius. Beyond a patch, its edge is repeated.

use framerail_core::{AxisBlur, Region};

use crate::patch::Patch;

/// How far a Gaussian reads on each side, in standard deviations.
const GAUSSIAN_REACH: f32 = 3.0;
/// Minimum standard deviation, in samples, of the Gaussian on a shrunk patch. It makes shrinking and growing back invisible.
const NARROWEST_SHRUNK_SIGMA: f32 = 4.0;

/// Number of samples beyond a region that its Gaussian blur reads.
pub(crate) fn gaussian_margin(sigma: f32) -> u32 {
    (sigma * GAUSSIAN_REACH).ceil() as u32 + 1
}

/// A Gaussian of this standard deviation, in samples.
pub(crate) fn gaussian(sigma: f32) -> AxisBlur {
    let step = ((sigma / NARROWEST_SHRUNK_SIGMA) as u32).max(1);
    // Shrinking by means and growing back linearly blur slightly themselves, by the variances of a box and of a triangle.
    let own = if step > 1 { (3.0 * (step * step) as f32 - 1.0) / 12.0 } else { 0.0 };
    AxisBlur { step, widths: box_widths((sigma * sigma - own).max(0.0).sqrt() / step as f32) }
}

/// The mean over this many samples, made odd.
pub(crate) fn mean(width: f32) -> AxisBlur {
    AxisBlur { step: 1, widths: [odd(width), 1, 1] }
}

/// Blurs a patch along both axes and returns the values of `region` inside it. Each running mean repeats the edge.
pub(crate) fn blur(patch: &Patch, across: AxisBlur, down: AxisBlur, region: Region) -> Vec<f32> {
    let mut plane = Plane::shrunk(patch, across.step as usize, down.step as usize);
    across.widths.into_iter().for_each(|width| plane.average_rows(width as usize));
    down.widths.into_iter().for_each(|width| plane.average_columns(width as usize));
    plane.grown(patch.region, across.step as usize, down.step as usize, region)
}

fn odd(width: f32) -> u32 {
    (width.max(1.0) / 2.0) as u32 * 2 + 1
}

/// Widths of three running means whose variances add up to that of a Gaussian.
fn box_widths(sigma: f32) -> [u32; 3] {
    let ideal = (4.0 * sigma * sigma + 1.0).sqrt();
    let mut low = ideal.floor() as u32;
    low -= u32::from(low.is_multiple_of(2));
    let low_f = low as f32;
    let count_low = ((12.0 * sigma * sigma - 3.0 * low_f * low_f - 12.0 * low_f - 9.0) / (-4.0 * low_f - 4.0)).round();
    [0, 1, 2].map(|pass| if (pass as f32) < count_low { low } else { low + 2 })
}

struct Plane {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl Plane {
    /// Shrinks a patch to the means of cells of `step_x` × `step_y` samples. Cells at the right and bottom may be smaller.
    fn shrunk(patch: &Patch, step_x: usize, step_y: usize) -> Plane {
        if (step_x, step_y) == (1, 1) {
            return Plane { width: patch.width(), height: patch.height(), values: patch.values.clone() };
        }
        let (width, height) = (patch.width().div_ceil(step_x), patch.height().div_ceil(step_y));
        let mut values = Vec::with_capacity(width * height);
        let mut column_sums = vec![0.0f32; patch.width()];
        for rows in patch.values.chunks(patch.width() * step_y) {
            column_sums.fill(0.0);
            for row in rows.chunks_exact(patch.width()) {
                column_sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            let row_count = rows.len() / patch.width();
            values.extend(column_sums.chunks(step_x).map(|cell| cell.iter().sum::<f32>() / (cell.len() * row_count) as f32));
        }
        Plane { width, height, values }
    }

    fn average_rows(&mut self, width: usize) {
        if width <= 1 {
            return;
        }
        let radius = width / 2;
        let mut line = vec![0.0f32; self.width + 2 * radius + 1];
        for row in self.values.chunks_exact_mut(self.width) {
            line[..=radius].fill(row[0]);
            line[radius + 1..radius + 1 + self.width].copy_from_slice(row);
            line[radius + 1 + self.width..].fill(row[row.len() - 1]);
            let mut sum: f32 = line[..width].iter().sum();
            for (value, (leaving, entering)) in row.iter_mut().zip(line.iter().zip(&line[width..])) {
                sum += entering - leaving;
                *value = sum / width as f32;
            }
        }
    }

    fn average_columns(&mut self, width: usize) {
        if width <= 1 {
            return;
        }
        let radius = width / 2;
        let source = self.values.clone();
        let row = |y: isize| {
            let y = y.clamp(0, self.height as isize - 1) as usize;
            &source[y * self.width..(y + 1) * self.width]
        };
        let mut sums = vec![0.0f32; self.width];
        for y in -(radius as isize)..=radius as isize {
            sums.iter_mut().zip(row(y)).for_each(|(sum, value)| *sum += value);
        }
        let inverse = 1.0 / width as f32;
        for (y, out) in self.values.chunks_exact_mut(self.width).enumerate() {
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out = sum * inverse);
            let (leaving, entering) = (row(y as isize - radius as isize), row(y as isize + radius as isize + 1));
            for ((sum, leaving), entering) in sums.iter_mut().zip(leaving).zip(entering) {
                *sum += entering - leaving;
            }
        }
    }

    /// Returns the values of `region`, interpolated linearly between cells. `origin` is the region that was shrunk.
    fn grown(&self, origin: Region, step_x: usize, step_y: usize, region: Region) -> Vec<f32> {
        let axis = |first: u32, count: u32, origin: u32, step: usize, cells: usize| -> Vec<(usize, usize, f32)> {
            let position = |sample: u32| {
                let at = ((sample - origin) as f32 + 0.5) / step as f32 - 0.5;
                let at = at.clamp(0.0, (cells - 1) as f32);
                (at as usize, (at as usize + 1).min(cells - 1), at.fract())
            };
            (first..first + count).map(position).collect()
        };
        let columns = axis(region.x, region.width, origin.x, step_x, self.width);
        let rows = axis(region.y, region.height, origin.y, step_y, self.height);
        let mut out = Vec::with_capacity(region.pixels());
        let mut mixed = vec![0.0f32; self.width];
        for (first, second, weight) in rows {
            let (first, second) = (&self.values[first * self.width..], &self.values[second * self.width..]);
            for ((mixed, first), second) in mixed.iter_mut().zip(first).zip(second) {
                *mixed = first + (second - first) * weight;
            }
            out.extend(columns.iter().map(|&(first, second, weight)| mixed[first] + (mixed[second] - mixed[first]) * weight));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaussian(patch: &Patch, sigma_x: f32, sigma_y: f32, region: Region) -> Vec<f32> {
        blur(patch, super::gaussian(sigma_x), super::gaussian(sigma_y), region)
    }

    fn box_mean(patch: &Patch, width_x: f32, width_y: f32, region: Region) -> Vec<f32> {
        blur(patch, super::mean(width_x), super::mean(width_y), region)
    }

    fn noisy_patch(width: u32, height: u32) -> Patch {
        let mut state = 12345u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as f32
        };
        let mut values: Vec<f32> = (0..width * height).map(|i| if (i % width) < width / 2 { 40.0 } else { 200.0 }).collect();
        values.iter_mut().for_each(|value| *value = (*value + next()) / 2.0);
        Patch { region: Region { x: 7, y: 3, width, height }, values }
    }

    /// The definition: every sample weighted by the Gaussian, with edges repeated.
    fn reference(patch: &Patch, sigma: f32) -> Vec<f32> {
        let radius = (sigma * 4.0).ceil() as isize;
        let kernel: Vec<f64> = (-radius..=radius).map(|i| (-((i * i) as f64) / (2.0 * f64::from(sigma).powi(2))).exp()).collect();
        let total: f64 = kernel.iter().sum();
        let (w, h) = (patch.width() as isize, patch.height() as isize);
        let pass = |source: &[f64], dx: isize, dy: isize| -> Vec<f64> {
            let mut out = Vec::new();
            for y in 0..h {
                for x in 0..w {
                    let at = |i: isize| source[((y + i * dy).clamp(0, h - 1) * w + (x + i * dx).clamp(0, w - 1)) as usize];
                    out.push(kernel.iter().zip(-radius..).map(|(k, i)| k * at(i)).sum::<f64>() / total);
                }
            }
            out
        };
        let source: Vec<f64> = patch.values.iter().map(|&v| f64::from(v)).collect();
        pass(&pass(&source, 1, 0), 0, 1).into_iter().map(|v| v as f32).collect()
    }

    #[test]
    fn gaussian_is_close_to_its_definition_at_any_width() {
        let patch = noisy_patch(240, 160);
        for (sigma, inner_tolerance, edge_tolerance) in [(1.5, 2.0, 24.0), (4.0, 1.5, 24.0), (9.0, 1.5, 24.0), (17.0, 2.0, 24.0)] {
            let expected = reference(&patch, sigma);
            let blurred = gaussian(&patch, sigma, sigma, patch.region);
            let (mut worst_inside, mut worst_at_edge) = (0.0f32, 0.0f32);
            let reach = (sigma * 3.0) as usize;
            for (index, (a, b)) in blurred.iter().zip(&expected).enumerate() {
                let (x, y) = (index % 240, index / 240);
                let inside = (reach..240 - reach).contains(&x) && (reach..160 - reach).contains(&y);
                // Each running mean repeats its own edge where the definition repeats the patch's edge, so they differ there.
                let worst = if inside { &mut worst_inside } else { &mut worst_at_edge };
                *worst = worst.max((a - b).abs());
            }
            assert!(worst_inside < inner_tolerance, "sigma {sigma}: off by {worst_inside} of 255 inside");
            assert!(worst_at_edge < edge_tolerance, "sigma {sigma}: off by {worst_at_edge} of 255 at the edge");
        }
    }

    #[test]
    fn box_mean_equals_its_definition() {
        let patch = noisy_patch(31, 20);
        let inner = Region { x: 10, y: 5, width: 20, height: 11 };
        let means = box_mean(&patch, 5.0, 3.0, inner);
        for dy in 0..11isize {
            for dx in 0..20isize {
                let mut sum = 0.0;
                for y in -1..=1 {
                    for x in -2..=2 {
                        let (px, py) = ((dx + 3 + x).clamp(0, 30), (dy + 2 + y).clamp(0, 19));
                        sum += patch.values[(py * 31 + px) as usize];
                    }
                }
                assert!((means[(dy * 20 + dx) as usize] - sum / 15.0).abs() < 0.01);
            }
        }
    }

    #[test]
    fn a_flat_patch_stays_flat_and_single_samples_survive() {
        let patch = Patch { region: Region { x: 0, y: 0, width: 50, height: 1 }, values: vec![77.0; 50] };
        assert!(gaussian(&patch, 30.0, 30.0, patch.region).iter().all(|v| (v - 77.0).abs() < 0.01));
        let dot = Patch { region: Region { x: 0, y: 0, width: 1, height: 1 }, values: vec![5.0] };
        assert!((gaussian(&dot, 200.0, 200.0, dot.region)[0] - 5.0).abs() < 0.01);
    }
}
