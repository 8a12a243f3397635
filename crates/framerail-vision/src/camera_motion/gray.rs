//! Small grey images for optical flow.

use framerail_core::HostSurface;

use crate::histogram_plan;

/// Images whose longer side is above this are reduced.
const LONGER_SIDE: u32 = 480;

/// Levels of a pyramid at most; each has half the size of the previous one.
const LEVELS: usize = 4;

/// Minimum side of a level.
const SHORTEST: usize = 24;

/// A grey image, values 0 to 255.
#[derive(Clone, Debug)]
pub(super) struct Gray {
    pub(super) width: usize,
    pub(super) height: usize,
    values: Vec<f32>,
}

/// Pixels per cell side.
pub(super) fn shrink_factor((width, height): (u32, u32)) -> usize {
    width.max(height).div_ceil(LONGER_SIDE).max(1) as usize
}

impl Gray {
    /// The means of squares of `factor` × `factor` pixels; a remainder at the right and bottom is left out.
    pub(super) fn shrunk(surface: &HostSurface, factor: usize) -> Self {
        let format = surface.format();
        let place = format.components()[histogram_plan(format).component];
        let (width, height) = (surface.width() as usize / factor, surface.height() as usize / factor);
        let is_wide = format.sample_bytes() > 1;
        let greatest = (1u32 << format.bits()) - 1;
        let scale = 255.0 / (greatest as f32 * (factor * factor) as f32);
        let mut values = Vec::with_capacity(width * height);
        let mut totals = vec![0u32; width];
        for y in 0..height {
            totals.fill(0);
            for row in 0..factor {
                let row = surface.row(place.plane, y * factor + row);
                if !is_wide && place.step_bytes == 1 {
                    for (total, cell) in totals.iter_mut().zip(row.chunks_exact(factor)) {
                        *total += cell.iter().map(|value| u32::from(*value)).sum::<u32>();
                    }
                    continue;
                }
                for (total, cell) in totals.iter_mut().zip(row.chunks_exact(factor * place.step_bytes)) {
                    *total += cell
                        .chunks_exact(place.step_bytes)
                        .map(|sample| {
                            let low = u32::from(sample[place.offset_bytes]);
                            let stored = if is_wide { low | u32::from(sample[place.offset_bytes + 1]) << 8 } else { low };
                            (stored >> place.shift) & greatest
                        })
                        .sum::<u32>();
                }
            }
            values.extend(totals.iter().map(|total| *total as f32 * scale));
        }
        Self { width, height, values }
    }

    /// The image and smaller ones.
    pub(super) fn pyramid(first: Self) -> Vec<Self> {
        let mut levels = vec![first];
        while levels.len() < LEVELS
            && let Some(half) = levels.last().filter(|last| last.width.min(last.height) / 2 >= SHORTEST).map(Self::half)
        {
            levels.push(half);
        }
        levels
    }

    fn half(&self) -> Self {
        let (width, height) = (self.width / 2, self.height / 2);
        let mut values = Vec::with_capacity(width * height);
        for y in 0..height {
            let (upper, lower) = (self.row(2 * y), self.row(2 * y + 1));
            let pairs = upper.chunks_exact(2).zip(lower.chunks_exact(2)).take(width);
            values.extend(pairs.map(|(upper, lower)| (upper[0] + upper[1] + lower[0] + lower[1]) / 4.0));
        }
        Self { width, height, values }
    }

    pub(super) fn row(&self, y: usize) -> &[f32] {
        &self.values[y * self.width..][..self.width]
    }

    /// Whether a square of `2 * reach + 1` values around a point lies within the image, with one value around it.
    pub(super) fn holds(&self, (x, y): (f32, f32), reach: usize) -> bool {
        let margin = (reach + 1) as f32;
        x >= margin && y >= margin && x + margin < self.width as f32 - 1.0 && y + margin < self.height as f32 - 1.0
    }

    /// The values of a square around a point, row by row, interpolated. [`Gray::holds`] says whether there are any.
    pub(super) fn square(&self, (x, y): (f32, f32), reach: usize, into: &mut Vec<f32>) {
        into.clear();
        let (left, top) = (x.floor(), y.floor());
        let (across, down) = (x - left, y - top);
        let (first, side) = (left as usize - reach, 2 * reach + 1);
        for row in 0..side {
            let y = top as usize - reach + row;
            let (upper, lower) = (&self.row(y)[first..=first + side], &self.row(y + 1)[first..=first + side]);
            into.extend(upper.windows(2).zip(lower.windows(2)).map(|(upper, lower)| {
                let above = upper[0] + (upper[1] - upper[0]) * across;
                let below = lower[0] + (lower[1] - lower[0]) * across;
                above + (below - above) * down
            }));
        }
    }
}
