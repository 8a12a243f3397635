//! Resampling filters: the source pixels and weights of each output pixel. CPU and GPU share these weights.
//!
//! With antialiasing, a filter widens by the downscaling factor, as in Pillow and PyTorch's antialiased
//! interpolation; weights are cut off at the edge and normalised to sum 1. Without it, a filter keeps its width and the edge pixel
//! is repeated, as in OpenCV and PyTorch's plain interpolation.
//!
//! Sources: Pillow's `Resample.c`; PyTorch's `UpSample.h` and `interpolate`; R. Keys, "Cubic Convolution Interpolation for Digital
//! Image Processing" (1981). Pixel centres are at halves.

use std::{f64::consts::PI, ops::Range};

/// Interpolation method for resizing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResizeFilter {
    /// One pixel: the one at `floor(position · scale)`, as PyTorch's `nearest` and OpenCV's `INTER_NEAREST`.
    Nearest,
    /// One pixel: the one with the nearest centre, as PyTorch's `nearest-exact` and Pillow.
    NearestExact,
    /// A triangle filter.
    #[default]
    Bilinear,
    /// Keys' cubic: a = -0.5 with antialiasing, -0.75 without, as in PyTorch.
    Bicubic,
    /// The mean over the covered area, including fractions of edge pixels: OpenCV's `INTER_AREA`.
    Area,
    /// A windowed sinc with three lobes.
    Lanczos,
}

/// A filter, and whether it is antialiased.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Resize {
    /// The interpolation method.
    pub filter: ResizeFilter,
    /// Whether to widen the filter when downscaling. No effect on `Nearest`, `NearestExact` and `Area`, or on `Bilinear` upscaling.
    pub antialias: bool,
}

impl Default for Resize {
    /// Bilinear with antialiasing, as torchvision's `Resize`.
    fn default() -> Self {
        Self { filter: ResizeFilter::Bilinear, antialias: true }
    }
}

/// One axis of a resize operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizeAxis {
    /// Size of the source in pixels.
    pub pixels: u32,
    /// Start of the crop in pixels. Pixels outside the crop have no weight.
    pub origin: f64,
    /// Length of the crop, above 0. Edge pixels are repeated beyond the source.
    pub extent: f64,
    /// Output size in pixels.
    pub out: u32,
}

/// For each output position of an axis, consecutive source pixels and their weights, which sum to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct ResizeTaps {
    first: Vec<u32>,
    /// Start of each position's weights; one more entry than positions.
    starts: Vec<u32>,
    weights: Vec<f32>,
}

impl ResizeTaps {
    /// Computes the taps of a range of output positions.
    pub fn new(resize: Resize, axis: ResizeAxis, positions: Range<u32>) -> Self {
        let mut taps = Self { first: Vec::with_capacity(positions.len()), starts: vec![0], weights: Vec::new() };
        let mut found = Vec::new();
        for position in positions {
            found.clear();
            let first = weights_of(resize, axis, position, &mut found);
            taps.push(first, &mut found, axis.pixels);
        }
        taps
    }

    /// Adds a position whose weights start at pixel `first`, which may lie outside the source.
    fn push(&mut self, first: i64, weights: &mut [f64], pixels: u32) {
        let last = i64::from(pixels) - 1;
        let sum: f64 = weights.iter().sum();
        let clamped = first.clamp(0, last);
        let begin = self.weights.len();
        for (index, weight) in weights.iter().enumerate() {
            // Pixels outside the source repeat the edge pixel: add their weights to it.
            let place = ((first + index as i64).clamp(0, last) - clamped) as usize;
            let weight = (weight / sum) as f32;
            match self.weights.get_mut(begin + place) {
                Some(known) => *known += weight,
                None => self.weights.push(weight),
            }
        }
        let leading = self.weights[begin..].iter().take_while(|weight| **weight == 0.0).count().min(self.weights.len() - begin - 1);
        self.weights.drain(begin..begin + leading);
        while self.weights.len() > begin + 1 && self.weights.last() == Some(&0.0) {
            self.weights.pop();
        }
        self.first.push(clamped as u32 + leading as u32);
        self.starts.push(self.weights.len() as u32);
    }

    /// Number of output positions.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether there are no positions.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The first pixel of a position, and the weights of this and the following pixels.
    pub fn at(&self, position: usize) -> (u32, &[f32]) {
        (self.first[position], &self.weights[self.starts[position] as usize..self.starts[position + 1] as usize])
    }

    /// Maximum number of taps of a position.
    pub fn widest(&self) -> usize {
        self.starts.windows(2).map(|ends| (ends[1] - ends[0]) as usize).max().unwrap_or(0)
    }

    /// Range of all pixels with a weight.
    pub fn pixels(&self) -> Range<u32> {
        let start = self.first.iter().min().copied().unwrap_or(0);
        let end = (0..self.len()).map(|position| self.at(position)).map(|(first, weights)| first + weights.len() as u32).max();
        start..end.unwrap_or(0).max(start)
    }

    /// Whether every position copies one pixel, and these pixels are consecutive.
    pub fn keeps_pixels(&self) -> bool {
        self.widest() <= 1 && self.first.windows(2).all(|pair| pair[1] == pair[0] + 1)
    }

    /// First pixels, start of each position's weights, and the weights, for code that applies the filter elsewhere.
    pub fn tables(&self) -> (&[u32], &[u32], &[f32]) {
        (&self.first, &self.starts, &self.weights)
    }
}

/// Writes the unnormalised weights of a position and returns its first pixel.
fn weights_of(resize: Resize, axis: ResizeAxis, position: u32, weights: &mut Vec<f64>) -> i64 {
    let ResizeAxis { origin, extent, out, .. } = axis;
    let scale = extent / f64::from(out);
    let position = f64::from(position);
    // Whole pixels of the crop.
    let (low, high) = (origin.floor() as i64, (origin + extent).ceil() as i64);
    let one = |at: f64, weights: &mut Vec<f64>| {
        weights.push(1.0);
        (at as i64).clamp(low, high - 1)
    };
    match resize.filter {
        // Single precision, as in PyTorch: the result for exact multiples depends on rounding.
        ResizeFilter::Nearest => one((origin + f64::from((position as f32 * scale as f32).floor())).floor(), weights),
        ResizeFilter::NearestExact => one((origin + f64::from(((position as f32 + 0.5) * scale as f32).floor())).floor(), weights),
        ResizeFilter::Area => {
            let (from, to) = (origin + scale * position, origin + scale * (position + 1.0));
            let first = from.floor() as i64;
            let overlap = |pixel: i64| to.min(pixel as f64 + 1.0) - from.max(pixel as f64);
            weights.extend((first..(to.ceil() as i64).max(first + 1)).map(|pixel| overlap(pixel).max(0.0)));
            first
        }
        ResizeFilter::Bilinear => windowed(1.0, |x| 1.0 - x.abs(), resize.antialias, scale, (origin, position), (low, high), weights),
        ResizeFilter::Bicubic => {
            let a = if resize.antialias { -0.5 } else { -0.75 };
            windowed(2.0, |x| cubic(x.abs(), a), resize.antialias, scale, (origin, position), (low, high), weights)
        }
        ResizeFilter::Lanczos => windowed(3.0, lanczos, resize.antialias, scale, (origin, position), (low, high), weights),
    }
}

/// The weights of a filter with a radius of `reach` pixels.
fn windowed(
    reach: f64,
    filter: impl Fn(f64) -> f64,
    antialias: bool,
    scale: f64,
    (origin, position): (f64, f64),
    (low, high): (i64, i64),
    weights: &mut Vec<f64>,
) -> i64 {
    let center = origin + (position + 0.5) * scale;
    let weight = |pixel: i64, width: f64| {
        let x = (pixel as f64 + 0.5 - center) / width;
        // Zeros of the filter that are inexact due to rounding count as zero.
        if x.abs() < reach { Some(filter(x)).filter(|weight| weight.abs() > 1e-9).unwrap_or(0.0) } else { 0.0 }
    };
    if antialias {
        let width = scale.max(1.0);
        let first = ((center - reach * width + 0.5).floor() as i64).max(low);
        let end = ((center + reach * width + 0.5).floor() as i64).min(high).max(first + 1);
        weights.extend((first..end).map(|pixel| weight(pixel, width)));
        if weights.iter().all(|weight| *weight == 0.0) {
            weights.fill(1.0);
        }
        return first;
    }
    // Edge pixels of the crop replace those beyond it.
    let reach = reach as i64;
    let near = (center - 0.5).floor() as i64;
    let first = (near - reach + 1).clamp(low, high - 1);
    for pixel in near - reach + 1..=near + reach {
        let place = (pixel.clamp(low, high - 1) - first) as usize;
        if place == weights.len() {
            weights.push(0.0);
        }
        if let Some(known) = weights.get_mut(place) {
            *known += weight(pixel, 1.0);
        }
    }
    first
}

fn cubic(x: f64, a: f64) -> f64 {
    if x < 1.0 { ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0 } else { (((x - 5.0) * x + 8.0) * x - 4.0) * a }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (PI * x).sin() / (PI * x) };
    sinc(x) * sinc(x / 3.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILTERS: [ResizeFilter; 6] = [
        ResizeFilter::Nearest,
        ResizeFilter::NearestExact,
        ResizeFilter::Bilinear,
        ResizeFilter::Bicubic,
        ResizeFilter::Area,
        ResizeFilter::Lanczos,
    ];

    fn taps(filter: ResizeFilter, antialias: bool, pixels: u32, out: u32) -> ResizeTaps {
        let axis = ResizeAxis { pixels, origin: 0.0, extent: pixels.into(), out };
        ResizeTaps::new(Resize { filter, antialias }, axis, 0..out)
    }

    #[test]
    fn weights_add_up_to_one_and_stay_inside() {
        for filter in FILTERS {
            for antialias in [true, false] {
                for (pixels, out) in [(1, 1), (1, 9), (9, 1), (7, 7), (640, 33), (33, 640), (2, 3), (1920, 224), (5000, 2)] {
                    let found = taps(filter, antialias, pixels, out);
                    assert_eq!(found.len(), out as usize);
                    for position in 0..found.len() {
                        let (first, weights) = found.at(position);
                        assert!(first + weights.len() as u32 <= pixels && !weights.is_empty(), "{filter:?} {pixels} to {out}");
                        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-4, "{filter:?} {antialias} {pixels} to {out}");
                    }
                    assert!(found.pixels().end <= pixels);
                }
            }
        }
    }

    #[test]
    fn the_same_size_keeps_every_pixel() {
        for filter in FILTERS {
            for antialias in [true, false] {
                assert!(taps(filter, antialias, 31, 31).keeps_pixels(), "{filter:?} {antialias}");
                let part = ResizeAxis { pixels: 40, origin: -3.0, extent: 50.0, out: 50 };
                let taps = ResizeTaps::new(Resize { filter, antialias }, part, 0..50);
                let places: Vec<u32> = (0..50).map(|position| taps.at(position).0).collect();
                let expected: Vec<u32> = (-3_i64..47).map(|pixel| pixel.clamp(0, 39) as u32).collect();
                assert_eq!((places, taps.widest()), (expected, 1), "{filter:?}");
            }
        }
    }

    #[test]
    fn known_weights() {
        let near = |found: (u32, &[f32]), first: u32, expected: &[f32]| {
            assert_eq!((found.0, found.1.len()), (first, expected.len()), "{found:?}");
            assert!(found.1.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
        };
        // 4 to 2: a triangle four pixels wide, cut off at the left edge.
        near(taps(ResizeFilter::Bilinear, true, 4, 2).at(0), 0, &[3.0 / 7.0, 3.0 / 7.0, 1.0 / 7.0]);
        near(taps(ResizeFilter::Bilinear, false, 4, 2).at(0), 0, &[0.5, 0.5]);
        near(taps(ResizeFilter::Area, true, 3, 2).at(0), 0, &[2.0 / 3.0, 1.0 / 3.0]);
        // Keys' cubic halfway between two pixels: -a/8 for the outer two.
        near(taps(ResizeFilter::Bicubic, false, 8, 4).at(1), 1, &[-0.09375, 0.59375, 0.59375, -0.09375]);
        // The edge pixel is repeated.
        near(taps(ResizeFilter::Bicubic, false, 8, 4).at(0), 0, &[0.5, 0.59375, -0.09375]);
        let nearest = |filter, pixels, out| (0..out).map(|at| taps(filter, true, pixels, out as u32).at(at).0).collect::<Vec<_>>();
        assert_eq!(nearest(ResizeFilter::Nearest, 4, 2), [0, 2]);
        assert_eq!(nearest(ResizeFilter::NearestExact, 4, 2), [1, 3]);
        assert_eq!(nearest(ResizeFilter::Nearest, 3, 9), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn some_positions_are_those_of_all() {
        let axis = ResizeAxis { pixels: 100, origin: 3.5, extent: 80.25, out: 30 };
        let all = ResizeTaps::new(Resize::default(), axis, 0..30);
        let some = ResizeTaps::new(Resize::default(), axis, 7..20);
        assert!((0..13).all(|position| some.at(position) == all.at(position + 7)));
    }
}
