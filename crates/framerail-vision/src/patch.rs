//! A rectangle of one component's samples as floats, read from and blended into surfaces of any format.

use std::borrow::Cow;

use framerail_core::{Component, HostSurface, PixelFormat, Region};

use crate::{VisionError, kernels::blend_bytes};

/// Code values of one component in a region of its grid, row by row.
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

    /// Reads a region, in the component's grid, which must lie inside the frame.
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

/// How the coverage of a chroma sample is derived from the pixels that share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChromaCoverage {
    /// The maximum: nothing stays uncovered.
    Most,
    /// The mean: edges keep their position.
    Mean,
}

/// Converts coverage of pixels to coverage on a component's grid, 0 to 255.
pub(crate) fn component_coverage<'a>(
    format: PixelFormat,
    component: usize,
    region: Region,
    coverage: &'a [u8],
    rule: ChromaCoverage,
) -> (Region, Cow<'a, [u8]>) {
    if !format.is_chroma(component) || format.chroma_shift() == (0, 0) {
        return (region, Cow::Borrowed(coverage));
    }
    let own = region.of_component(format, component);
    let (shift_x, shift_y) = format.chroma_shift();
    let (mut totals, mut counts) = (vec![0u16; own.pixels()], vec![0u16; own.height as usize]);
    // The first group of pixels is short when the region starts within a chroma sample.
    let lead = (((region.x >> shift_x) + 1) << shift_x) - region.x;
    for (dy, row) in coverage.chunks_exact(region.width as usize).enumerate() {
        let own_row = (((region.y + dy as u32) >> shift_y) - own.y) as usize;
        counts[own_row] += 1;
        let totals = &mut totals[own_row * own.width as usize..(own_row + 1) * own.width as usize];
        let (first, rest) = row.split_at((lead as usize).min(row.len()));
        let (first_total, totals) = totals.split_at_mut(1);
        gather(first, first_total, rule);
        match shift_x {
            0 => gather_groups::<1>(rest, totals, rule),
            1 => gather_groups::<2>(rest, totals, rule),
            _ => gather_groups::<4>(rest, totals, rule),
        }
    }
    let rows = totals.chunks_exact(own.width as usize).zip(counts);
    let finish = |(row, count): (&[u16], u16)| {
        let divisor = if rule == ChromaCoverage::Mean { count.max(1) } else { 1 };
        row.iter().map(|total| (total / divisor) as u8).collect::<Vec<u8>>()
    };
    (own, Cow::Owned(rows.flat_map(finish).collect()))
}

/// Adds the coverage of the pixels that share a chroma sample to its total.
#[inline]
fn gather(group: &[u8], total: &mut [u16], rule: ChromaCoverage) {
    for total in total.iter_mut().filter(|_| !group.is_empty()) {
        *total = match rule {
            ChromaCoverage::Most => group.iter().fold(*total, |most, &value| most.max(u16::from(value))),
            ChromaCoverage::Mean => *total + group.iter().map(|&value| u16::from(value)).sum::<u16>() / group.len() as u16,
        };
    }
}

/// Like [`gather`], for a row of groups of `N`, the last of which may be short.
fn gather_groups<const N: usize>(row: &[u8], totals: &mut [u16], rule: ChromaCoverage) {
    let (groups, rest) = row.as_chunks::<N>();
    for (total, group) in totals.iter_mut().zip(groups) {
        *total = match rule {
            ChromaCoverage::Most => group.iter().fold(*total, |most, &value| most.max(u16::from(value))),
            ChromaCoverage::Mean => *total + group.iter().map(|&value| u16::from(value)).sum::<u16>() / N as u16,
        };
    }
    gather(rest, totals.get_mut(groups.len()..groups.len() + 1).unwrap_or_default(), rule);
}

/// The values with which samples are blended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    /// One code value.
    Flat(f32),
    /// A code value for each sample of the region, row by row.
    Each(&'a [f32]),
}

/// Blends the samples of a region with target values, by coverage.
///
/// # Errors
/// `NotWritable` when the surface is shared or read-only.
pub(crate) fn blend(
    surface: &mut HostSurface,
    component: usize,
    region: Region,
    coverage: &[u8],
    target: Target<'_>,
) -> Result<(), VisionError> {
    let format = surface.format();
    let place = format.components()[component];
    let width = region.width as usize;
    let (from, to) = (region.x as usize * place.step_bytes, (region.x as usize + width) * place.step_bytes);
    let mut planes = surface.planes_mut().ok_or(VisionError::NotWritable { format })?;
    let flat = if let Target::Flat(value) = target { vec![value; width] } else { Vec::new() };
    for (dy, coverage) in coverage.chunks_exact(width).enumerate() {
        let values = match target {
            Target::Flat(_) => &flat[..],
            Target::Each(values) => &values[dy * width..(dy + 1) * width],
        };
        let row = &mut planes.row(place.plane, region.y as usize + dy)[from..to];
        match (format.sample_bytes(), place.step_bytes) {
            (1, 1) => blend_bytes(row, values, coverage),
            (1, step) => blend_spaced(row, step, place.offset_bytes, values, coverage),
            _ => blend_wide(row, place, format.max_value() as f32, values, coverage),
        }
    }
    Ok(())
}

fn blend_spaced(row: &mut [u8], step: usize, offset: usize, values: &[f32], coverage: &[u8]) {
    for ((sample, &value), &coverage) in row.chunks_exact_mut(step).zip(values).zip(coverage) {
        let old = f32::from(sample[offset]);
        sample[offset] = (old + (value - old) * (f32::from(coverage) * (1.0 / 255.0)) + 0.5) as u8;
    }
}

fn blend_wide(row: &mut [u8], place: Component, max: f32, values: &[f32], coverage: &[u8]) {
    for ((sample, &value), &coverage) in row.chunks_exact_mut(place.step_bytes).zip(values).zip(coverage) {
        let old = f32::from(wide(sample, place.offset_bytes) >> place.shift);
        let mixed = (old + (value - old) * (f32::from(coverage) * (1.0 / 255.0)) + 0.5).min(max) as u16;
        sample[place.offset_bytes..place.offset_bytes + 2].copy_from_slice(&(mixed << place.shift).to_le_bytes());
    }
}

/// Paints one colour (code values, see [`crate::color::samples_from_rgb`]) by coverage. Alpha is unchanged.
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
        blend(surface, component, own, &coverage, Target::Flat(code))?;
    }
    Ok(())
}
