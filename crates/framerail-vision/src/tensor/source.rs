//! Rows of a frame at its own size, as channels.

use framerail_core::{ChannelMix, ColorDescription, FastYuv, HostSurface, PixelFormat, Sampling};

use crate::{
    ChannelOrder,
    color::{RgbFromSamples, fast_yuv},
    fast_yuv::{self, ChromaRow},
    kernels,
    sampling::{Geometry, Resampler, Window},
};

/// Maximum number of channels of a tensor.
pub(super) const MOST_CHANNELS: usize = 4;

/// A range of columns of 8-bit Y'CbCr with one chroma sample per two columns, converted in FFmpeg's arithmetic.
#[derive(Clone, Copy, Debug)]
pub(super) struct FastRows {
    pub yuv: FastYuv,
    /// First column; even, so that it starts a pair that shares chroma.
    start: usize,
    columns: usize,
    has_pairs: bool,
    chroma_shift_y: u32,
    blue_first: bool,
}

impl FastRows {
    /// Whether rows `y` and `y + 1` share their chroma.
    pub fn shares_chroma(&self, y: usize) -> bool {
        self.chroma_shift_y == 1 && y.is_multiple_of(2)
    }

    pub fn luma<'a>(&self, surface: &'a HostSurface, y: usize) -> &'a [u8] {
        &surface.row(0, y)[self.start..self.start + self.columns]
    }

    pub fn chroma<'a>(&self, surface: &'a HostSurface, y: usize) -> ChromaRow<'a> {
        let (row, samples) = (y >> self.chroma_shift_y, self.start / 2..self.start / 2 + self.columns.div_ceil(2));
        if self.has_pairs {
            return ChromaRow::Pairs(&surface.row(1, row)[2 * samples.start..2 * samples.end]);
        }
        ChromaRow::Planes(&surface.row(1, row)[samples.clone()], &surface.row(2, row)[samples])
    }

    fn bytes(&self, surface: &HostSurface, y: usize, out: &mut [&mut [u8]]) {
        let [first, second, third, ..] = out else { return };
        let (red, blue) = if self.blue_first { (third, first) } else { (first, third) };
        fast_yuv::planar([self.luma(surface, y)], self.chroma(surface, y), &self.yuv, [[red, second, blue]]);
    }
}

#[derive(Debug)]
enum Colors {
    Fast(FastRows),
    /// Samples of the range, their mixes, and one channel's values.
    Mixed(Box<Resampler>, Vec<ChannelMix>, Vec<f32>),
}

/// Computes rows of channels, full-range 0 to 255, from a range of a frame's columns.
#[derive(Debug)]
pub(super) struct SourceRows {
    start: usize,
    columns: usize,
    colors: Colors,
    has_alpha: bool,
}

impl SourceRows {
    /// Creates rows of the columns from `start` on, as bytes if `in_bytes`, else as floats.
    pub fn new(surface: &HostSurface, color: &ColorDescription, (start, columns): (u32, u32), order: ChannelOrder, in_bytes: bool) -> Self {
        let (format, width, height) = (surface.format(), surface.width(), surface.height());
        let has_pairs = format == PixelFormat::Nv12;
        let planar = if has_pairs { PixelFormat::Yuv420p } else { format };
        let yuv = (in_bytes && order != ChannelOrder::Gray).then(|| fast_yuv(planar, height, color)).flatten();
        let colors = match yuv {
            Some(yuv) => Colors::Fast(FastRows {
                yuv,
                start: start as usize,
                columns: columns as usize,
                has_pairs,
                chroma_shift_y: planar.chroma_shift().1,
                blue_first: order == ChannelOrder::Bgr,
            }),
            None => {
                let window = Window { x: start.into(), y: 0.0, width: columns.into(), height: height.into() };
                let (out_width, out_height) = (columns, height);
                let geometry = Geometry { format, width, height, window, out_width, out_height, sampling: Sampling::Bilinear };
                let mixes = RgbFromSamples::new(format, color).mixes(order);
                Colors::Mixed(Box::new(Resampler::new(geometry)), mixes, vec![0.0; columns as usize])
            }
        };
        Self { start: start as usize, columns: columns as usize, colors, has_alpha: order == ChannelOrder::Rgba }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// FFmpeg's arithmetic, where it is used for the rows.
    pub fn fast(&self) -> Option<&FastRows> {
        match &self.colors {
            Colors::Fast(rows) => Some(rows),
            Colors::Mixed(..) => None,
        }
    }

    /// Writes row `y` as bytes, one slice per channel.
    pub fn bytes(&mut self, surface: &HostSurface, y: usize, out: &mut [&mut [u8]]) {
        match &mut self.colors {
            Colors::Fast(rows) => rows.bytes(surface, y, out),
            Colors::Mixed(samples, mixes, values) => {
                let samples = samples.row(surface, y);
                for (mix, out) in mixes.iter().zip(out.iter_mut()) {
                    kernels::mix_channel(samples, *mix, values);
                    kernels::round_to_bytes(values, out);
                }
            }
        }
        if let (true, Some(out)) = (self.has_alpha, out.get_mut(3)) {
            self.alpha(surface, y, out, |value| value.round_ties_even() as u8);
        }
    }

    /// Writes row `y` as floats, one slice per channel.
    pub fn floats(&mut self, surface: &HostSurface, y: usize, out: &mut [&mut [f32]]) {
        if let Colors::Mixed(samples, mixes, _) = &mut self.colors {
            let samples = samples.row(surface, y);
            for (mix, out) in mixes.iter().zip(out.iter_mut()) {
                kernels::mix_channel(samples, *mix, out);
            }
        }
        if let (true, Some(out)) = (self.has_alpha, out.get_mut(3)) {
            self.alpha(surface, y, out, |value| value);
        }
    }

    /// Writes the alpha of row `y`; opaque for formats without alpha.
    fn alpha<T: Copy>(&self, surface: &HostSurface, y: usize, out: &mut [T], element: impl Fn(f32) -> T) {
        let format = surface.format();
        let Some(place) = format.components().last().filter(|_| format.has_alpha()) else { return out.fill(element(255.0)) };
        let step = 255.0 / format.max_value() as f32;
        let row = surface.row(place.plane, y).chunks(place.step_bytes).skip(self.start);
        for (out, sample) in out.iter_mut().zip(row) {
            let byte = |at: usize| sample.get(place.offset_bytes + at).copied().unwrap_or(0);
            let code = if format.sample_bytes() == 1 { u16::from(byte(0)) } else { u16::from_le_bytes([byte(0), byte(1)]) >> place.shift };
            *out = element(f32::from(code) * step);
        }
    }
}
