//! Conversion of frames in host memory to tensors.

use std::ops::Range;

use framerail_core::{ColorDescription, FastYuv, Frame, HostSurface, PixelAspect, PixelFormat, TensorLayout};

use super::{TensorOptions, output::RowsOut, rows::Rows, source::MOST_CHANNELS};
use crate::{
    ChannelOrder, ConversionPlan, VisionError,
    fast_yuv::{self, ChromaRow},
};

/// Properties of frames that can share one set of tables.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ImageKind {
    width: u32,
    height: u32,
    format: PixelFormat,
    color: ColorDescription,
    pixels: PixelAspect,
}

#[derive(Debug)]
struct Prepared {
    kind: ImageKind,
    plan: ConversionPlan,
    rows: Rows,
}

/// Converts frames to tensors. Keeps its tables between frames of one size, format and colour.
///
/// Each pixel is first converted to channels; these are resized, then scaled, shifted and stored. So a resized tensor equals the
/// unresized tensor after resizing, and elements of any type hold the same number within their rounding:
/// - 8-bit frames become 8-bit channels. 4:2:0 and 4:2:2 become RGB, BGR and HSV in FFmpeg's 16-bit arithmetic, which rounds down up
///   to three times: bit-identical to `ffmpeg -pix_fmt rgb24` for `yuv420p` and `yuv422p` with an even number of rows. Others are
///   rounded to the nearest. Subsampled chroma is repeated. Resizing uses 16-bit fixed point, within 0.1 of 255 before its rounding.
/// - Deeper frames, and all that are tone-mapped, become channels in 32-bit floating point at full depth and stay there. Tone mapping
///   follows resizing; its tables are within 0.3 of 255.
#[derive(Debug)]
pub struct TensorConverter {
    options: TensorOptions,
    prepared: Option<Prepared>,
    /// Elements before they are interleaved.
    channels: [Vec<u8>; MOST_CHANNELS],
}

impl TensorConverter {
    /// Creates a converter for one kind of tensor.
    ///
    /// # Errors
    /// As [`TensorOptions::check`].
    pub fn new(options: TensorOptions) -> Result<Self, VisionError> {
        options.check()?;
        Ok(Self { options, prepared: None, channels: Default::default() })
    }

    /// The options.
    pub fn options(&self) -> &TensorOptions {
        &self.options
    }

    /// Writes one frame's elements, native-endian, to `out`. The frame's rotation is not applied.
    ///
    /// # Errors
    /// `OutputLength` unless `out` holds exactly [`TensorOptions::picture_bytes`]; `Core` for a frame in device memory.
    pub fn convert(&mut self, frame: &Frame, out: &mut [u8]) -> Result<(), VisionError> {
        let surface = frame.surface.host()?;
        let need = self.options.image_bytes(surface.width(), surface.height());
        if out.len() != need {
            return Err(self.wrong_length(surface, out.len(), need));
        }
        let rows = self.options.image_size(surface.width(), surface.height()).1;
        let mut slices: Vec<&mut [u8]> = out.chunks_exact_mut(need / self.slices()).collect();
        self.convert_rows(frame, 0..rows, &mut slices)
    }

    /// Writes some rows of the output, so that several converters can share one frame.
    ///
    /// `out` holds these rows' elements: one slice of interleaved channels, or one slice per channel.
    ///
    /// # Errors
    /// As [`TensorConverter::convert`]; `OptionOutOfRange` for rows beyond the output.
    pub fn convert_rows(&mut self, frame: &Frame, rows: Range<u32>, out: &mut [&mut [u8]]) -> Result<(), VisionError> {
        let surface = frame.surface.host()?;
        let (width, height) = self.options.image_size(surface.width(), surface.height());
        if rows.start > rows.end || rows.end > height {
            return Err(VisionError::option("rows", format!("{rows:?}"), "rows of the frame"));
        }
        let row_elements = width as usize * self.options.channel_order.channels() / self.slices();
        let need = rows.len() * row_elements * self.options.dtype.size_bytes();
        if out.len() != self.slices() || out.iter().any(|slice| slice.len() != need) {
            let have = out.iter().map(|slice| slice.len()).sum();
            return Err(self.wrong_length(surface, have, need * self.slices()));
        }
        let mut prepared = self.prepare(surface, &frame.color, frame.pixel_aspect())?;
        prepared.rows.begin();
        let (layout, dtype, channels) = (self.options.layout, self.options.dtype, self.options.channel_order.channels());
        let mut out = RowsOut { slices: out, layout, dtype, channels, width: width as usize };
        let written = self.write_rows(&mut prepared, surface, rows.start as usize..rows.end as usize, &mut out);
        self.prepared = Some(prepared);
        written
    }

    /// Number of slices of one frame's output.
    fn slices(&self) -> usize {
        if self.options.layout == TensorLayout::Thwc { 1 } else { self.options.channel_order.channels() }
    }

    fn wrong_length(&self, surface: &HostSurface, have: usize, need: usize) -> VisionError {
        let shape = self.options.image_shape(surface.width(), surface.height());
        VisionError::OutputLength { have, need, layout: shape.map(|side| side.to_string()).join("x") }
    }

    /// Returns the tables for this frame, usually those of the previous one.
    fn prepare(&mut self, surface: &HostSurface, color: &ColorDescription, pixels: PixelAspect) -> Result<Prepared, VisionError> {
        let (width, height, format) = (surface.width(), surface.height(), surface.format());
        let kind = ImageKind { width, height, format, color: *color, pixels };
        if let Some(prepared) = self.prepared.take_if(|prepared| prepared.kind == kind) {
            return Ok(prepared);
        }
        let plan = self.options.plan(width, height, format, color, pixels)?;
        let rows = Rows::new(&plan, surface, color, &self.options);
        Ok(Prepared { kind, plan, rows })
    }

    fn write_rows(
        &mut self,
        prepared: &mut Prepared,
        surface: &HostSurface,
        rows: Range<usize>,
        out: &mut RowsOut<'_, '_>,
    ) -> Result<(), VisionError> {
        let Prepared { plan, rows: source, .. } = prepared;
        let [first, second, third] = plan.padding;
        let padding = [first, second, third, if self.options.center_crop.is_some() { 0.0 } else { 255.0 * self.options.alpha_scale() }];
        let (left, top) = (plan.placement.left as usize, plan.placement.top as usize);
        let (columns, bottom) = (plan.placement.width as usize, top + plan.placement.height as usize);
        let mut y = rows.start;
        while y < rows.end {
            let row = y - rows.start;
            if !(top..bottom).contains(&y) {
                out.fill(row, 0, out.width, &padding);
                y += 1;
                continue;
            }
            if columns < out.width {
                out.fill(row, 0, left, &padding);
                out.fill(row, left + columns, out.width - left - columns, &padding);
            }
            if let Some((fast, from)) = source.own_size(y - top)
                && columns == out.width
            {
                let chroma = fast.chroma(surface, from);
                let next = source.own_size(y + 1 - top).map(|(_, next)| next);
                let pair = fast.shares_chroma(from) && next == Some(from + 1) && y + 1 < rows.end.min(bottom);
                if pair {
                    let luma = [fast.luma(surface, from), fast.luma(surface, from + 1)];
                    put_own_size(out, row, luma, chroma, &fast.yuv, self.options.channel_order);
                } else {
                    put_own_size(out, row, [fast.luma(surface, from)], chroma, &fast.yuv, self.options.channel_order);
                }
                y += if pair { 2 } else { 1 };
                continue;
            }
            out.put(row, left, columns, &mut self.channels, |channels| source.elements(surface, y - top, channels))?;
            y += 1;
        }
        Ok(())
    }
}

/// Writes whole rows of pixels that are not resized and share their chroma.
fn put_own_size<const ROWS: usize>(
    out: &mut RowsOut<'_, '_>,
    row: usize,
    luma: [&[u8]; ROWS],
    chroma: ChromaRow<'_>,
    yuv: &FastYuv,
    order: ChannelOrder,
) {
    let blue_first = order == ChannelOrder::Bgr;
    if out.layout == TensorLayout::Thwc {
        let rows = out.rows::<ROWS>(0, row);
        return fast_yuv::interleaved(luma, chroma, yuv, if blue_first { [2, 1, 0] } else { [0, 1, 2] }, rows);
    }
    let [first, second, third] = out.planes::<ROWS>(row);
    let (red, blue) = if blue_first { (third, first) } else { (first, third) };
    let mut rows = red.into_iter().zip(second).zip(blue);
    let rows = std::array::from_fn(|_| rows.next().map_or_else(Default::default, |((red, green), blue)| [red, green, blue]));
    fast_yuv::planar(luma, chroma, yuv, rows);
}
