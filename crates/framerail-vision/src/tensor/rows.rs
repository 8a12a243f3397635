//! Rows of a tensor: the frame's rows as channels, resized where sizes differ, then as elements.

use framerail_core::{ChannelMix, ColorDescription, DType, HostSurface};

use super::{
    TensorOptions,
    filter::{ByteFilter, FloatFilter},
    output::store,
    source::{FastRows, MOST_CHANNELS, SourceRows},
    tone::ToneMapper,
};
use crate::{ChannelOrder, ConversionPlan, VisionError, fixed_kernels, hsv::hsv_row, kernels};

/// How rows of channels become rows of the output.
#[derive(Debug)]
enum Way {
    /// Bytes without resizing, from this column of the range on.
    AsTheyAre {
        column: usize,
        rows: Vec<u32>,
    },
    Bytes(Box<ByteFilter>),
    Floats(Box<FloatFilter>, Option<Box<ToneMapper>>),
}

/// Computes rows of elements for frames of one kind.
#[derive(Debug)]
pub(super) struct Rows {
    source: SourceRows,
    way: Way,
    order: ChannelOrder,
    dtype: DType,
    mixes: Vec<ChannelMix>,
    columns: usize,
    bytes: [Vec<u8>; MOST_CHANNELS],
    words: Vec<i16>,
    floats: Vec<f32>,
}

/// A row of the output before its channels become elements.
enum ChannelRow<'a> {
    Bytes([&'a [u8]; MOST_CHANNELS]),
    /// With 6 fractional bits.
    Words([&'a [i16]; MOST_CHANNELS]),
    Floats(&'a [Vec<f32>]),
}

impl Rows {
    /// Creates the tables and buffers for frames like this one.
    pub fn new(plan: &ConversionPlan, surface: &HostSurface, color: &ColorDescription, options: &TensorOptions) -> Self {
        let order = options.channel_order;
        let mapper = options.tone_map.and_then(|tone_map| ToneMapper::new(tone_map, color));
        // Tone-mapped grey is computed from RGB.
        let from = if mapper.is_some() && order == ChannelOrder::Gray { ChannelOrder::Rgb } else { order };
        let channels = from.channels();
        let (across, down) = plan.taps(surface.width(), surface.height());
        let columns = across.pixels();
        let in_bytes = plan.in_bytes;
        // Pairs of columns share chroma.
        let start = columns.start & !1;
        let stretch = (start, columns.end - start);
        let mut mixes = plan.mixes[..order.channels().min(plan.mixes.len())].to_vec();
        if order == ChannelOrder::Rgba {
            mixes.push(ChannelMix { scale: options.alpha_scale(), ..ChannelMix::default() });
        }
        let as_they_are = across.keeps_pixels() && down.widest() <= 1 && in_bytes;
        let fixed = || ByteFilter::new(&across, &down, stretch, channels).filter(|_| in_bytes);
        let (way, is_bytes) = if as_they_are {
            let column = (across.at(0).0 - start) as usize;
            (Way::AsTheyAre { column, rows: (0..down.len()).map(|y| down.at(y).0).collect() }, true)
        } else if let Some(filter) = fixed() {
            (Way::Bytes(Box::new(filter)), true)
        } else {
            (Way::Floats(Box::new(FloatFilter::new(&across, &down, stretch, channels)), mapper.map(Box::new)), false)
        };
        Self {
            source: SourceRows::new(surface, color, stretch, from, is_bytes),
            way,
            order,
            dtype: options.dtype,
            mixes,
            columns: across.len(),
            bytes: Default::default(),
            words: Vec::new(),
            floats: Vec::new(),
        }
    }

    /// Discards the rows of the previous frame.
    pub fn begin(&mut self) {
        match &mut self.way {
            Way::AsTheyAre { .. } => (),
            Way::Bytes(filter) => filter.begin(),
            Way::Floats(filter, _) => filter.begin(),
        }
    }

    /// FFmpeg's arithmetic and the source row of row `y`, where 8-bit colours can be written to the output directly.
    pub fn own_size(&self, y: usize) -> Option<(&FastRows, usize)> {
        let is_plain = self.dtype == DType::U8 && matches!(self.order, ChannelOrder::Rgb | ChannelOrder::Bgr) && self.is_unscaled();
        match &self.way {
            Way::AsTheyAre { column: 0, rows } if is_plain && self.columns == self.source.columns() => {
                Some((self.source.fast()?, *rows.get(y)? as usize))
            }
            _ => None,
        }
    }

    fn is_unscaled(&self) -> bool {
        self.mixes.iter().all(|mix| (mix.scale, mix.shift) == (1.0, 0.0))
    }

    /// Writes row `y` of the output as elements of each channel.
    ///
    /// # Errors
    /// `OptionOutOfRange` for an unsupported type.
    pub fn elements(&mut self, surface: &HostSurface, y: usize, out: &mut [&mut [u8]]) -> Result<(), VisionError> {
        let is_unscaled = self.is_unscaled();
        let Self { source, way, order, dtype, mixes, columns, bytes, words, floats } = self;
        if let Way::AsTheyAre { .. } = way {
            bytes.iter_mut().take(order.channels()).for_each(|channel| channel.resize(source.columns(), 0));
        }
        let row = match way {
            Way::AsTheyAre { column, rows } => {
                let mut channels: [&mut [u8]; MOST_CHANNELS] = Default::default();
                channels.iter_mut().zip(bytes.iter_mut()).for_each(|(channel, bytes)| *channel = bytes);
                source.bytes(surface, rows[y] as usize, &mut channels[..order.channels()]);
                let (from, to) = (*column, *column + *columns);
                ChannelRow::Bytes(channels.map(|channel| &channel[from.min(channel.len())..to.min(channel.len())]))
            }
            Way::Bytes(filter) => ChannelRow::Words(filter.row(source, surface, y)),
            Way::Floats(filter, mapper) => {
                let row = filter.row(source, surface, y);
                if let Some(mapper) = mapper {
                    map_row(mapper, row, *order);
                }
                ChannelRow::Floats(row)
            }
        };
        if *order == ChannelOrder::Hsv {
            let mut channels = [0, 1, 2].map(|channel| row.bytes(channel, *columns));
            hsv_row(channels.each_mut().map(Vec::as_mut_slice));
            let channels = channels.each_ref().map(Vec::as_slice);
            let row = ChannelRow::Bytes([channels[0], channels[1], channels[2], &[]]);
            return row.elements(*dtype, mixes, is_unscaled, (words, floats), out);
        }
        row.elements(*dtype, mixes, is_unscaled, (words, floats), out)
    }
}

/// Tone-maps channels of high to standard range, in the tensor's order. Grey is computed from RGB and stored in the first channel.
fn map_row(mapper: &ToneMapper, row: &mut [Vec<f32>], order: ChannelOrder) {
    let [first, second, third, ..] = row else { return };
    for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
        if order == ChannelOrder::Bgr {
            [*third, *second, *first] = mapper.map([*third, *second, *first]);
            continue;
        }
        [*first, *second, *third] = mapper.map([*first, *second, *third]);
        if order == ChannelOrder::Gray {
            *first = 0.2126 * *first + 0.7152 * *second + 0.0722 * *third;
        }
    }
}

impl ChannelRow<'_> {
    /// Converts a channel to 8 bits.
    fn bytes(&self, channel: usize, columns: usize) -> Vec<u8> {
        let mut out = vec![0; columns];
        match self {
            ChannelRow::Bytes(channels) => out.copy_from_slice(channels[channel]),
            ChannelRow::Words(channels) => fixed_kernels::words_to_plain_bytes(channels[channel], &mut out),
            ChannelRow::Floats(channels) => kernels::clamp_to_bytes(&channels[channel], &mut out),
        }
        out
    }

    fn elements(
        &self,
        dtype: DType,
        mixes: &[ChannelMix],
        is_unscaled: bool,
        (widened, floats): (&mut Vec<i16>, &mut Vec<f32>),
        out: &mut [&mut [u8]],
    ) -> Result<(), VisionError> {
        for (channel, (mix, out)) in mixes.iter().zip(out).enumerate() {
            let words = match self {
                ChannelRow::Bytes(channels) if is_unscaled && dtype == DType::U8 => {
                    out.copy_from_slice(channels[channel]);
                    continue;
                }
                ChannelRow::Bytes(channels) => {
                    widened.resize(channels[channel].len(), 0);
                    fixed_kernels::widen(channels[channel], widened);
                    &widened[..]
                }
                ChannelRow::Words(channels) => channels[channel],
                ChannelRow::Floats(channels) => {
                    floats.clear();
                    floats.extend(channels[channel].iter().map(|value| value * mix.scale + mix.shift));
                    store(dtype, floats, out)?;
                    continue;
                }
            };
            match dtype {
                DType::U8 if is_unscaled => fixed_kernels::words_to_plain_bytes(words, out),
                DType::U8 => fixed_kernels::words_to_bytes(words, mix.scale, mix.shift, out),
                DType::U16 => fixed_kernels::words_to_shorts(words, mix.scale, mix.shift, out.as_chunks_mut().0),
                DType::F16 => fixed_kernels::words_to_halves(words, mix.scale, mix.shift, out.as_chunks_mut().0),
                DType::Bf16 => fixed_kernels::words_to_bfloats(words, mix.scale, mix.shift, out.as_chunks_mut().0),
                _ => fixed_kernels::words_to_floats(words, mix.scale, mix.shift, out.as_chunks_mut().0),
            }
        }
        Ok(())
    }
}
