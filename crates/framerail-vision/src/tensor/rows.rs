//! Rows of a picture as channels, by the way that suits its format and the tensor.

use framerail_core::{ChannelMix, ColorDescription, DType, FastYuv, HostSurface, PixelFormat, Sampling};

use super::{TensorOptions, output::store, tone::ToneMapper};
use crate::{
    ChannelOrder, ConversionPlan, VisionError,
    channel_rows::RowSource,
    color::{RgbFromSamples, fast_yuv},
    eight_bit::ToBytes,
    fast_yuv::{self, ChromaRow},
    fixed::FixedRows,
    hsv::hsv_row,
    kernels,
    sampling::{Geometry, Window},
};

/// A picture's pixels at their own size, 8-bit Y'CbCr with a chroma sample for two columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnSize {
    pub yuv: FastYuv,
    /// First column and row of the part that is taken. The column is even, so that it starts a pair that shares chroma.
    left: usize,
    top: usize,
    /// Columns before those of the tensor: 0 or 1.
    skipped: usize,
    /// Columns with those.
    width: usize,
    has_pairs: bool,
    chroma_shift_y: u32,
}

impl OwnSize {
    /// When a conversion leaves every pixel in its place, and FFmpeg has a fast way for the format.
    fn new(plan: &ConversionPlan, surface: &HostSurface, color: &ColorDescription) -> Option<Self> {
        let (crop, placement) = (plan.crop, plan.placement);
        let (width, height) = (surface.width(), surface.height());
        let is_whole = [crop.x1, crop.y1, crop.x2, crop.y2].iter().all(|edge| edge.fract() == 0.0 && *edge >= 0.0);
        let is_inside = crop.x2 <= width as f32 && crop.y2 <= height as f32;
        let same_size = crop.x2 - crop.x1 == placement.width as f32 && crop.y2 - crop.y1 == placement.height as f32;
        if !is_whole || !is_inside || !same_size {
            return None;
        }
        let has_pairs = surface.format() == PixelFormat::Nv12;
        let format = if has_pairs { PixelFormat::Yuv420p } else { surface.format() };
        Some(Self {
            yuv: fast_yuv(format, height, color)?,
            left: crop.x1 as usize / 2 * 2,
            skipped: crop.x1 as usize % 2,
            top: crop.y1 as usize,
            width: placement.width as usize + crop.x1 as usize % 2,
            has_pairs,
            chroma_shift_y: format.chroma_shift().1,
        })
    }

    /// Whether rows may be written as they are made.
    pub fn is_aligned(&self) -> bool {
        self.skipped == 0
    }

    /// Row `y` as red, green and blue.
    fn planes(&self, surface: &HostSurface, y: usize, mut out: [&mut [u8]; 3]) {
        let (luma, chroma) = (self.luma(surface, y), self.chroma(surface, y));
        if self.is_aligned() {
            return fast_yuv::planar([luma], chroma, &self.yuv, [out]);
        }
        let mut rows = [0, 1, 2].map(|_| vec![0; self.width]);
        fast_yuv::planar([luma], chroma, &self.yuv, [rows.each_mut().map(Vec::as_mut_slice)]);
        for (out, row) in out.iter_mut().zip(&rows) {
            out.copy_from_slice(&row[self.skipped..]);
        }
    }

    /// Whether output rows `y` and `y + 1` share their chroma.
    pub fn shares_chroma(&self, y: usize) -> bool {
        self.chroma_shift_y == 1 && (self.top + y).is_multiple_of(2)
    }

    pub fn luma<'a>(&self, surface: &'a HostSurface, y: usize) -> &'a [u8] {
        &surface.row(0, self.top + y)[self.left..self.left + self.width]
    }

    pub fn chroma<'a>(&self, surface: &'a HostSurface, y: usize) -> ChromaRow<'a> {
        let (row, samples) = ((self.top + y) >> self.chroma_shift_y, self.left / 2..self.left / 2 + self.width.div_ceil(2));
        if self.has_pairs {
            return ChromaRow::Pairs(&surface.row(1, row)[2 * samples.start..2 * samples.end]);
        }
        ChromaRow::Planes(&surface.row(1, row)[samples.clone()], &surface.row(2, row)[samples])
    }
}

/// The way that rows are made.
#[derive(Debug)]
pub(super) enum Rows {
    /// At their own size, as FFmpeg's vector code makes them.
    OwnSize(OwnSize),
    /// In 16-bit fixed point.
    Fixed(Box<FixedRows>),
    /// In floating point, or by OpenCV's 8-bit resize.
    Other(RowSource),
    /// In floating point, and then from high to standard range.
    ToneMapped(Box<ToneMapped>),
}

/// Rows of red, green and blue of high range, and what turns them into standard range.
#[derive(Debug)]
pub(super) struct ToneMapped {
    rows: RowSource,
    mixes: [ChannelMix; 3],
    mapper: ToneMapper,
    rgb: [Vec<f32>; 3],
}

impl ToneMapped {
    fn new(geometry: Geometry, color: &ColorDescription, mapper: ToneMapper) -> Self {
        // Eight bits before the curve would show as steps.
        let sampling = if geometry.sampling == Sampling::Area { Sampling::Area } else { Sampling::Bilinear };
        let rgb = RgbFromSamples::new(geometry.format, color);
        let mixes = [0, 1, 2].map(|channel| ChannelMix { gain: rgb.gain[channel], bias: rgb.bias[channel], scale: 1.0, shift: 0.0 });
        let channels = [0, 1, 2].map(|_| vec![0.0; geometry.out_width as usize]);
        Self { rows: RowSource::new(Geometry { sampling, ..geometry }), mixes, mapper, rgb: channels }
    }

    /// Fills `rgb` with row `y`, in standard range, in the order of the tensor; grey is in the first.
    fn fill(&mut self, input: &RowInput<'_>, y: usize) {
        let row = self.rows.row(input.surface, y, 3, &ToBytes::Exact(&self.mixes));
        for (channel, (mix, out)) in self.mixes.iter().zip(&mut self.rgb).enumerate() {
            row.write(channel, mix, out);
        }
        let [first, second, third] = &mut self.rgb;
        for ((first, second), third) in first.iter_mut().zip(second).zip(third) {
            let [red, green, blue] = self.mapper.map([*first, *second, *third]);
            [*first, *second, *third] = match input.channel_order {
                ChannelOrder::Bgr => [blue, green, red],
                ChannelOrder::Gray => [0.2126 * red + 0.7152 * green + 0.0722 * blue; 3],
                _ => [red, green, blue],
            };
        }
    }
}

/// Rows between one step and the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    bytes: [Vec<u8>; 3],
    floats: Vec<f32>,
}

/// What rows are made of.
pub(super) struct RowInput<'a> {
    pub surface: &'a HostSurface,
    pub color: &'a ColorDescription,
    pub plan: &'a ConversionPlan,
    pub channel_order: ChannelOrder,
    pub dtype: DType,
}

impl RowInput<'_> {
    fn mixes(&self) -> &[ChannelMix] {
        &self.plan.mixes[..self.channel_order.channels()]
    }

    fn to_bytes(&self) -> ToBytes<'_> {
        match (fast_yuv(self.surface.format(), self.surface.height(), self.color), self.channel_order) {
            (Some(yuv), ChannelOrder::Rgb | ChannelOrder::Hsv) => ToBytes::Fast { yuv, order: [0, 1, 2] },
            (Some(yuv), ChannelOrder::Bgr) => ToBytes::Fast { yuv, order: [2, 1, 0] },
            _ => ToBytes::Exact(self.mixes()),
        }
    }
}

impl Rows {
    /// The way for pictures like this one.
    pub fn new(input: &RowInput<'_>, options: &TensorOptions) -> Self {
        let (plan, surface) = (input.plan, input.surface);
        let in_bytes = options.takes_bytes();
        let is_color = input.channel_order != ChannelOrder::Gray;
        let mapper = options.tone_map.and_then(|tone_map| ToneMapper::new(tone_map, input.color));
        if in_bytes
            && is_color
            && mapper.is_none()
            && let Some(own_size) = OwnSize::new(plan, surface, input.color)
        {
            return Rows::OwnSize(own_size);
        }
        let window =
            Window { x: plan.crop.x1.into(), y: plan.crop.y1.into(), width: plan.crop.width().into(), height: plan.crop.height().into() };
        let geometry = Geometry {
            format: surface.format(),
            width: surface.width(),
            height: surface.height(),
            window,
            out_width: plan.placement.width,
            out_height: plan.placement.height,
            sampling: plan.sampling,
        };
        if let Some(mapper) = mapper {
            return Rows::ToneMapped(Box::new(ToneMapped::new(geometry, input.color, mapper)));
        }
        // 32-bit floats of deep pictures hold more than fixed point does.
        let is_fine = in_bytes || matches!(options.dtype, DType::F16 | DType::Bf16) || surface.format().bits() == 8;
        let in_fixed_point = plan.sampling != Sampling::Bilinear8Bit && is_fine;
        if in_fixed_point && let Some(fixed) = FixedRows::new(&geometry, input.mixes()) {
            return Rows::Fixed(Box::new(fixed));
        }
        Rows::Other(RowSource::new(geometry))
    }

    /// Forgets the picture before.
    pub fn begin(&mut self) {
        match self {
            Rows::OwnSize(_) => (),
            Rows::Fixed(rows) => rows.begin(),
            Rows::Other(rows) => rows.begin(),
            Rows::ToneMapped(mapped) => mapped.rows.begin(),
        }
    }

    /// Writes row `y` of the picture as elements of each channel.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a type that is not known here.
    pub fn elements(&mut self, input: &RowInput<'_>, y: usize, scratch: &mut Scratch, out: &mut [&mut [u8]]) -> Result<(), VisionError> {
        if input.channel_order == ChannelOrder::Hsv {
            return self.hsv_elements(input, y, scratch, out);
        }
        let mixes = input.mixes();
        let is_plain = mixes.iter().all(|mix| (mix.scale, mix.shift) == (1.0, 0.0));
        match self {
            Rows::Fixed(rows) if !is_plain || input.dtype != DType::U8 => rows.elements(input.surface, y, mixes, input.dtype, out),
            Rows::Other(rows) => {
                let size = input.dtype.size_bytes();
                let row = rows.row(input.surface, y, mixes.len(), &input.to_bytes());
                for (channel, (mix, out)) in mixes.iter().zip(out).enumerate() {
                    scratch.floats.resize(out.len() / size, 0.0);
                    row.write(channel, mix, &mut scratch.floats);
                    store(input.dtype, &scratch.floats, out)?;
                }
            }
            Rows::ToneMapped(mapped) => {
                mapped.fill(input, y);
                for ((mix, values), out) in mixes.iter().zip(&mapped.rgb).zip(out) {
                    scratch.floats.clear();
                    scratch.floats.extend(values.iter().map(|value| value * mix.scale + mix.shift));
                    store(input.dtype, &scratch.floats, out)?;
                }
            }
            Rows::OwnSize(_) | Rows::Fixed(_) => self.bytes(input, y, &mut scratch.floats, out),
        }
        Ok(())
    }

    /// Writes row `y` as channels of 8 bits, neither scaled nor shifted.
    fn bytes(&mut self, input: &RowInput<'_>, y: usize, floats: &mut Vec<f32>, out: &mut [&mut [u8]]) {
        match self {
            Rows::OwnSize(own_size) => {
                if let [first, second, third] = out {
                    let blue_first = input.channel_order == ChannelOrder::Bgr;
                    let (red, blue) = if blue_first { (third, first) } else { (first, third) };
                    own_size.planes(input.surface, y, [red, second, blue]);
                }
            }
            Rows::Fixed(rows) => rows.bytes(input.surface, y, out),
            Rows::Other(rows) => {
                let mixes = input.mixes();
                let row = rows.row(input.surface, y, mixes.len(), &input.to_bytes());
                for (channel, (mix, out)) in mixes.iter().zip(out).enumerate() {
                    floats.resize(out.len(), 0.0);
                    row.write(channel, &ChannelMix { scale: 1.0, shift: 0.0, ..*mix }, floats);
                    kernels::clamp_to_bytes(floats, out);
                }
            }
            Rows::ToneMapped(mapped) => {
                mapped.fill(input, y);
                for (values, out) in mapped.rgb.iter().zip(out) {
                    kernels::clamp_to_bytes(values, out);
                }
            }
        }
    }

    fn hsv_elements(&mut self, input: &RowInput<'_>, y: usize, scratch: &mut Scratch, out: &mut [&mut [u8]]) -> Result<(), VisionError> {
        let columns = out.first().map_or(0, |out| out.len() / input.dtype.size_bytes());
        scratch.bytes.iter_mut().for_each(|channel| channel.resize(columns, 0));
        let [hue, saturation, value] = &mut scratch.bytes;
        self.bytes(input, y, &mut scratch.floats, &mut [&mut hue[..], &mut saturation[..], &mut value[..]]);
        hsv_row([hue, saturation, value]);
        for ((bytes, mix), out) in scratch.bytes.iter().zip(input.mixes()).zip(out) {
            if input.dtype == DType::U8 && (mix.scale, mix.shift) == (1.0, 0.0) {
                out.copy_from_slice(bytes);
                continue;
            }
            scratch.floats.resize(columns, 0.0);
            kernels::scale_and_shift(bytes, mix.scale, mix.shift, &mut scratch.floats);
            store(input.dtype, &scratch.floats, out)?;
        }
        Ok(())
    }
}
