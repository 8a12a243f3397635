//! A rectangle of one component's samples as numbers, read from and blended into a surface of any format.

use framerail_core::{HostSurface, PixelFormat};

use crate::{Region, VisionError};

/// Code values of one component in a region of its own grid, row by row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub region: Region,
    pub values: Vec<f32>,
}

impl Patch {
    pub fn width(&self) -> usize {
        self.region.width as usize
    }

    pub fn height(&self) -> usize {
        self.region.height as usize
    }

    /// Reads a region, in the component's grid, which lies inside the frame.
    pub fn read(surface: &HostSurface, component: usize, region: Region) -> Patch {
        let format = surface.format();
        let place = format.components()[component];
        let (from, to) = (region.x as usize * place.step_bytes, (region.x + region.width) as usize * place.step_bytes);
        let mut values = Vec::with_capacity(region.pixels());
        for y in region.y..region.y + region.height {
            let samples = surface.row(place.plane, y as usize)[from..to].chunks_exact(place.step_bytes);
            match format.sample_bytes() {
                1 => values.extend(samples.map(|sample| f32::from(sample[place.offset_bytes]))),
                _ => values.extend(samples.map(|sample| f32::from(wide(sample, place.offset_bytes) >> place.shift))),
            }
        }
        Patch { region, values }
    }
}

#[inline]
fn wide(sample: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([sample[offset], sample[offset + 1]])
}

/// How the pixels that share a chroma sample decide its coverage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChromaCoverage {
    /// The most covered pixel decides: nothing stays uncovered.
    Most,
    /// The mean: edges keep their place.
    Mean,
}

/// Coverage on a component's own grid, 0 to 255.
pub(crate) fn component_coverage(
    format: PixelFormat,
    component: usize,
    region: Region,
    coverage: &[u8],
    rule: ChromaCoverage,
) -> (Region, Vec<u8>) {
    let own = region.of_component(format, component);
    if own == region && !format.is_chroma(component) || format.chroma_shift() == (0, 0) {
        return (region, coverage.to_vec());
    }
    let (shift_x, shift_y) = format.chroma_shift();
    let (mut sums, mut counts) = (vec![0u32; own.pixels()], vec![0u32; own.pixels()]);
    for (dy, row) in coverage.chunks_exact(region.width as usize).enumerate() {
        let own_row = (((region.y + dy as u32) >> shift_y) - own.y) as usize * own.width as usize;
        for (dx, &value) in row.iter().enumerate() {
            let at = own_row + (((region.x + dx as u32) >> shift_x) - own.x) as usize;
            counts[at] += 1;
            match rule {
                ChromaCoverage::Most => sums[at] = sums[at].max(u32::from(value)),
                ChromaCoverage::Mean => sums[at] += u32::from(value),
            }
        }
    }
    let finish = |(sum, count): (u32, u32)| if rule == ChromaCoverage::Mean { (sum / count.max(1)) as u8 } else { sum as u8 };
    (own, sums.into_iter().zip(counts).map(finish).collect())
}

/// Moves the samples of a region towards `value(index)`, by coverage; `index` counts the region's samples row by row.
///
/// # Errors
/// `NotWritable` when the surface is shared or read-only.
pub(crate) fn blend(
    surface: &mut HostSurface,
    component: usize,
    region: Region,
    coverage: &[u8],
    value: impl Fn(usize) -> f32,
) -> Result<(), VisionError> {
    let format = surface.format();
    let place = format.components()[component];
    let max = format.max_value() as f32;
    let (from, to) = (region.x as usize * place.step_bytes, (region.x + region.width) as usize * place.step_bytes);
    let mut planes = surface.planes_mut().ok_or(VisionError::NotWritable { format })?;
    let mix = |old: f32, new: f32, coverage: u8| (old + (new - old) * (f32::from(coverage) / 255.0) + 0.5).clamp(0.0, max) as u16;
    for dy in 0..region.height as usize {
        let start = dy * region.width as usize;
        let samples = planes.row(place.plane, region.y as usize + dy)[from..to].chunks_exact_mut(place.step_bytes);
        let coverage = &coverage[start..start + region.width as usize];
        for (dx, (sample, &coverage)) in samples.zip(coverage).enumerate().filter(|(_, (_, coverage))| **coverage > 0) {
            let new = value(start + dx);
            if format.sample_bytes() == 1 {
                let old = &mut sample[place.offset_bytes];
                *old = mix(f32::from(*old), new, coverage) as u8;
            } else {
                let old = wide(sample, place.offset_bytes) >> place.shift;
                let code = mix(f32::from(old), new, coverage) << place.shift;
                sample[place.offset_bytes..place.offset_bytes + 2].copy_from_slice(&code.to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Paints one colour (code values, see [`crate::color::samples_from_rgb`]) by coverage; alpha is left alone.
///
/// # Errors
/// `NotWritable` when the surface is shared or read-only.
pub(crate) fn paint(
    surface: &mut HostSurface,
    region: Region,
    coverage: &[u8],
    codes: [u16; 3],
    rule: ChromaCoverage,
) -> Result<(), VisionError> {
    let format = surface.format();
    for (component, code) in codes.into_iter().enumerate().take(format.color_components().len()) {
        let (own, coverage) = component_coverage(format, component, region, coverage, rule);
        let code = f32::from(code);
        blend(surface, component, own, &coverage, |_| code)?;
    }
    Ok(())
}
