//! Thumbnails: any surface, resized by area as RGB.

use framerail_core::{ChannelMix, ColorDescription, FramePool, HostSurface, PixelFormat, Region, Sampling};

use crate::{
    VisionError,
    color::RgbFromSamples,
    kernels::mix_channel,
    sampling::{Geometry, Resampler, Window},
};

/// Returns the largest size with the same aspect ratio that fits in `max_width` × `max_height`; never larger than the original.
pub fn size_within(width: u32, height: u32, max_width: u32, max_height: u32) -> (u32, u32) {
    let scale = (f64::from(max_width) / f64::from(width)).min(f64::from(max_height) / f64::from(height)).min(1.0);
    let side = |length: u32, most: u32| ((f64::from(length) * scale).round() as u32).clamp(1, most.max(1));
    (side(width, max_width), side(height, max_height))
}

/// Resizes a surface to full-range `Rgb24`. Each new pixel is the mean over its area.
///
/// # Errors
/// `Core` for a size out of range.
pub fn thumbnail(
    surface: &HostSurface,
    color: &ColorDescription,
    width: u32,
    height: u32,
    pool: &FramePool,
) -> Result<HostSurface, VisionError> {
    let whole = Region { x: 0, y: 0, width: surface.width(), height: surface.height() };
    thumbnail_of(surface, color, whole, width, height, pool)
}

/// Like [`thumbnail`], for a part of the surface. The part is clipped to the surface.
///
/// # Errors
/// `Core` for a size out of range; `OptionOutOfRange` when the part lies outside the surface.
pub fn thumbnail_of(
    surface: &HostSurface,
    color: &ColorDescription,
    part: Region,
    width: u32,
    height: u32,
    pool: &FramePool,
) -> Result<HostSurface, VisionError> {
    let right = part.x.saturating_add(part.width).min(surface.width());
    let bottom = part.y.saturating_add(part.height).min(surface.height());
    if right <= part.x || bottom <= part.y {
        return Err(VisionError::option("part", format!("{part:?}"), "a region inside the frame"));
    }
    let mut out = pool.surface(PixelFormat::Rgb24, width, height)?;
    let window = Window { x: part.x.into(), y: part.y.into(), width: (right - part.x).into(), height: (bottom - part.y).into() };
    let mut resampler = Resampler::new(Geometry {
        format: surface.format(),
        width: surface.width(),
        height: surface.height(),
        window,
        out_width: width,
        out_height: height,
        sampling: Sampling::Area,
    });
    let conversion = RgbFromSamples::new(surface.format(), color);
    let mut channels = [0, 1, 2].map(|_| vec![0.0f32; width as usize]);
    let mut planes = out.planes_mut().ok_or(VisionError::NotWritable { format: PixelFormat::Rgb24 })?;
    for y in 0..height as usize {
        let samples = resampler.row(surface, y);
        for (channel, row) in channels.iter_mut().enumerate() {
            // Half is added so that truncation rounds.
            let mix = ChannelMix { gain: conversion.gain[channel], bias: conversion.bias[channel], scale: 1.0, shift: 0.5 };
            mix_channel(samples, mix, row);
        }
        let pixels = planes.row(0, y).as_chunks_mut::<3>().0.iter_mut();
        for (((pixel, red), green), blue) in pixels.zip(&channels[0]).zip(&channels[1]).zip(&channels[2]) {
            *pixel = [*red as u8, *green as u8, *blue as u8];
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_images::{code_at, flat, noisy, rgb_at};

    #[test]
    fn sizes_keep_their_shape() {
        assert_eq!(size_within(1920, 1080, 320, 320), (320, 180));
        assert_eq!(size_within(100, 50, 320, 320), (100, 50));
        assert_eq!(size_within(10_000, 2, 100, 100), (100, 1));
    }

    #[test]
    fn halving_gives_the_mean_of_four() {
        let color = ColorDescription::default();
        let pool = FramePool::new(1);
        for format in
            [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Yuv422p10, PixelFormat::Rgb24, PixelFormat::Gbrp12]
        {
            let surface = noisy(format, 64, 32);
            let small = thumbnail(&surface, &color, 32, 16, &pool).expect("size in range");
            for (x, y) in [(0, 0), (31, 15), (7, 9), (20, 3)] {
                let four = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dx, dy)| rgb_at(&surface, &color, 2 * x + dx, 2 * y + dy));
                for channel in 0..3 {
                    let clipped = four.iter().any(|rgb| rgb[channel] == 0.0 || rgb[channel] == 255.0);
                    let mean = four.iter().map(|rgb| rgb[channel]).sum::<f32>() / 4.0;
                    let found = f32::from(code_at(&small, channel, x, y));
                    assert!(clipped || (found - mean).abs() < 0.6, "{format} {x},{y}: {found} for {mean}");
                }
            }
        }
    }

    #[test]
    fn a_flat_frame_keeps_its_colour_at_any_size() {
        let pool = FramePool::new(1);
        for &format in PixelFormat::ALL {
            let surface = flat(format, 37, 23, [180.0; 3]);
            for (width, height) in [(1, 1), (5, 3), (36, 22), (80, 60)] {
                let small = thumbnail(&surface, &ColorDescription::default(), width, height, &pool).expect("size in range");
                let corner = code_at(&small, 1, width as usize - 1, height as usize - 1);
                assert!(corner.abs_diff(180) <= 1, "{format} {width}x{height}: {corner}");
            }
        }
    }
}
