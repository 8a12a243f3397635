//! Rows of a resized frame as channels, in floats or in 8-bit arithmetic, depending on the sampling.

use framerail_core::{ChannelMix, HostSurface, Sampling};

use crate::{
    eight_bit::{ByteResampler, RowPair, ToBytes},
    hsv::hsv_row,
    kernels,
    sampling::{Geometry, Resampler},
};

/// Resampling tables for one geometry.
#[derive(Debug)]
pub(crate) enum RowSource {
    Floats(Resampler),
    Bytes(Box<ByteResampler>),
}

impl RowSource {
    pub fn new(geometry: Geometry) -> Self {
        match geometry.sampling {
            Sampling::Bilinear8Bit => RowSource::Bytes(Box::new(ByteResampler::new(geometry))),
            Sampling::Bilinear | Sampling::Area | Sampling::Filter(_) => RowSource::Floats(Resampler::new(geometry)),
        }
    }

    pub fn geometry(&self) -> &Geometry {
        match self {
            RowSource::Floats(resampler) => resampler.geometry(),
            RowSource::Bytes(resampler) => resampler.geometry(),
        }
    }

    /// Discards the rows of the previous frame.
    pub fn begin(&mut self) {
        if let RowSource::Bytes(resampler) = self {
            resampler.begin();
        }
    }

    /// Returns row `y` of the output, with `channels` channels.
    pub fn row(&mut self, surface: &HostSurface, y: usize, channels: usize, to_bytes: &ToBytes<'_>) -> ChannelRow<'_> {
        match self {
            RowSource::Floats(resampler) => ChannelRow::Floats(resampler.row(surface, y)),
            RowSource::Bytes(resampler) => ChannelRow::Bytes(resampler.row(surface, y, channels, to_bytes)),
        }
    }
}

/// One output row before its channels are computed.
pub(crate) enum ChannelRow<'a> {
    Floats([&'a [f32]; 3]),
    Bytes(RowPair<'a>),
}

impl ChannelRow<'_> {
    /// Writes the elements of a channel.
    pub fn write(&self, channel: usize, mix: &ChannelMix, out: &mut [f32]) {
        match self {
            ChannelRow::Floats(samples) => kernels::mix_channel(*samples, *mix, out),
            ChannelRow::Bytes(pair) => pair.write(channel, mix.scale, mix.shift, out),
        }
    }
}

/// One row as hue, saturation and value.
#[derive(Debug, Default)]
pub(crate) struct HsvRow {
    values: Vec<f32>,
    channels: [Vec<u8>; 3],
}

impl HsvRow {
    /// Fills the row from a row of red, green and blue.
    pub fn fill(&mut self, row: &ChannelRow<'_>, mixes: &[ChannelMix], columns: usize) -> &Self {
        self.values.resize(columns, 0.0);
        for (channel, (mix, bytes)) in mixes.iter().zip(&mut self.channels).enumerate() {
            row.write(channel, &ChannelMix { scale: 1.0, shift: 0.0, ..*mix }, &mut self.values);
            bytes.resize(columns, 0);
            kernels::round_to_bytes(&self.values, bytes);
        }
        hsv_row(self.channels.each_mut().map(Vec::as_mut_slice));
        self
    }

    /// Writes the elements of a channel.
    pub fn write(&self, channel: usize, mix: &ChannelMix, out: &mut [f32]) {
        kernels::scale_and_shift(&self.channels[channel], mix.scale, mix.shift, out);
    }
}
