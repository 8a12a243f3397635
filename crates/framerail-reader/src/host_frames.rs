//! Converts decoded frames to the output format on the host.

use framerail_core::{DType, Frame, FramePool, HostSurface, PixelFormat, TensorLayout};
use framerail_media::{Converter, ScaleOptions};
use framerail_vision::{ChannelOrder, TensorConverter, TensorOptions, TensorSize};

use crate::{
    OutputOptions, ReaderError,
    batch::{ImageShape, PlanarFrame, PlanePlace},
};

/// Size and format of a reader's frames: those of its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameKind {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) format: PixelFormat,
}

impl FrameKind {
    pub(crate) fn of(surface: &HostSurface) -> Self {
        Self { width: surface.width(), height: surface.height(), format: surface.format() }
    }
}

/// Rejects invalid output options.
pub(crate) fn check_output(output: &OutputOptions) -> Result<(), ReaderError> {
    let refuse = |name, reason: String| Err(ReaderError::BadOption { name, reason });
    match output {
        OutputOptions::Tensor(options) => match TensorConverter::new(*options) {
            Ok(_) => Ok(()),
            Err(error) => refuse("output", error.to_string()),
        },
        OutputOptions::Swscale(options) => {
            let TensorOptions { channel_order, layout, dtype, .. } = *options;
            let plain = TensorOptions { channel_order, layout, dtype, ..TensorOptions::default() };
            let is_given = swscale_format(options).is_some();
            if *options != plain || !is_given {
                return refuse("exact", "swscale only outputs RGB, BGR, RGBA or grey of 8 or 16 bits at the video's own size".into());
            }
            Ok(())
        }
        OutputOptions::Yuv => Ok(()),
    }
}

/// The shape of one converted frame.
pub(crate) fn image_shape(output: &OutputOptions, kind: FrameKind) -> ImageShape {
    match output {
        OutputOptions::Tensor(options) | OutputOptions::Swscale(options) => {
            ImageShape { axes: options.image_shape(kind.width, kind.height), layout: options.layout, dtype: options.dtype, planes: None }
        }
        OutputOptions::Yuv => {
            let planes = planes(kind);
            let bytes = planes.iter().map(|plane| plane.row_bytes * plane.rows).sum();
            let FrameKind { width, height, format } = kind;
            let planes = Some(PlanarFrame { format, width, height, planes });
            ImageShape { axes: [1, 1, bytes], layout: TensorLayout::Tchw, dtype: DType::U8, planes }
        }
    }
}

fn planes(kind: FrameKind) -> Vec<PlanePlace> {
    let mut offset_bytes = 0;
    let plane = |plane| {
        let (row_bytes, rows) = kind.format.plane_size(plane, kind.width, kind.height);
        let place = PlanePlace { offset_bytes, row_bytes, rows };
        offset_bytes += row_bytes * rows;
        place
    };
    (0..kind.format.planes()).map(plane).collect()
}

enum Maker {
    Tensor(Box<TensorConverter>, TensorOptions),
    Swscale(Box<Converter>, FramePool, TensorOptions),
    Yuv,
}

/// Converts frames of one size and format; keeps its tables between frames.
pub(crate) struct HostFrames {
    maker: Maker,
    kind: FrameKind,
    source_name: String,
    /// For frames that differ in size from the first: the same conversion, scaled to the size of the first.
    rescaling: Option<Box<TensorConverter>>,
    rescaled: u64,
}

impl HostFrames {
    pub(crate) fn new(output: &OutputOptions, kind: FrameKind, source_name: &str) -> Result<Self, ReaderError> {
        let maker = match output {
            OutputOptions::Tensor(options) => Maker::Tensor(Box::new(converter(*options, source_name)?), *options),
            OutputOptions::Swscale(options) => {
                Maker::Swscale(Box::new(Converter::new(ScaleOptions::default())), FramePool::new(1), *options)
            }
            OutputOptions::Yuv => Maker::Yuv,
        };
        Ok(Self { maker, kind, source_name: source_name.to_owned(), rescaling: None, rescaled: 0 })
    }

    /// Frames that were rescaled because they differ in size from the first, since the last call.
    pub(crate) fn take_rescaled(&mut self) -> u64 {
        std::mem::take(&mut self.rescaled)
    }

    /// Converts a frame; `out` has the length given by the picture shape.
    pub(crate) fn make(&mut self, number: usize, frame: &Frame, out: &mut [u8]) -> Result<(), ReaderError> {
        let surface = frame.surface.host().map_err(framerail_media::MediaError::from)?;
        let kind = FrameKind::of(surface);
        match &mut self.maker {
            Maker::Tensor(converter, options) => {
                let size = options.image_size(self.kind.width, self.kind.height);
                let converter = if options.image_size(kind.width, kind.height) == size {
                    converter
                } else {
                    self.rescaled += 1;
                    let options = TensorOptions { center_crop: None, cut: None, size: TensorSize::Exact(size.0, size.1), ..*options };
                    match &mut self.rescaling {
                        Some(rescaling) => rescaling,
                        none => none.insert(Box::new(self::converter(options, &self.source_name)?)),
                    }
                };
                let failed = |error| ReaderError::Convert { source_name: self.source_name.clone(), error };
                converter.convert(frame, out).map_err(failed)
            }
            _ if (kind.width, kind.height) != (self.kind.width, self.kind.height) => Err(self.size_changed(number, kind)),
            Maker::Swscale(converter, pool, options) => {
                let format = swscale_format(options).unwrap_or(PixelFormat::Rgb24);
                let converted = converter.convert(surface, &frame.color, format, kind.width, kind.height, pool)?;
                lay_out(&converted, options, out);
                Ok(())
            }
            Maker::Yuv if kind.format != self.kind.format => Err(self.size_changed(number, kind)),
            Maker::Yuv => {
                copy_planes(surface, out);
                Ok(())
            }
        }
    }

    fn size_changed(&self, number: usize, kind: FrameKind) -> ReaderError {
        ReaderError::SizeChanged {
            source_name: self.source_name.clone(),
            number,
            width: kind.width,
            height: kind.height,
            expected_width: self.kind.width,
            expected_height: self.kind.height,
        }
    }
}

fn converter(options: TensorOptions, source_name: &str) -> Result<TensorConverter, ReaderError> {
    TensorConverter::new(options).map_err(|error| ReaderError::Convert { source_name: source_name.to_owned(), error })
}

fn copy_planes(surface: &HostSurface, out: &mut [u8]) {
    let mut rest = out;
    for plane in 0..surface.format().planes() {
        for row in 0..surface.layout(plane).rows {
            let samples = surface.row(plane, row);
            let Some((to, after)) = rest.split_at_mut_checked(samples.len()) else { return };
            to.copy_from_slice(samples);
            rest = after;
        }
    }
}

/// The swscale pixel format for an output.
fn swscale_format(options: &TensorOptions) -> Option<PixelFormat> {
    match (options.dtype, options.channel_order) {
        (DType::U8, ChannelOrder::Rgb) => Some(PixelFormat::Rgb24),
        (DType::U8, ChannelOrder::Bgr) => Some(PixelFormat::Bgr24),
        (DType::U8, ChannelOrder::Gray) => Some(PixelFormat::Gray8),
        (DType::U8, ChannelOrder::Rgba) => Some(PixelFormat::Rgba),
        (DType::U16, ChannelOrder::Rgb | ChannelOrder::Bgr) => Some(PixelFormat::Rgb48),
        (DType::U16, ChannelOrder::Gray) => Some(PixelFormat::Gray16),
        (DType::U16, ChannelOrder::Rgba) => Some(PixelFormat::Rgba64),
        _ => None,
    }
}

/// Copies an interleaved frame into its layout.
fn lay_out(surface: &HostSurface, options: &TensorOptions, out: &mut [u8]) {
    let (width, size) = (surface.width() as usize, options.dtype.size_bytes());
    let channels = options.channel_order.channels();
    // swscale has no 16-bit format in BGR order.
    let turned = options.dtype == DType::U16 && options.channel_order == ChannelOrder::Bgr;
    if (options.layout == TensorLayout::Thwc || channels == 1) && !turned {
        return copy_planes(surface, out);
    }
    let pixels = width * surface.height() as usize;
    for row in 0..surface.height() as usize {
        for (column, pixel) in surface.row(0, row).chunks_exact(channels * size).enumerate() {
            for (channel, element) in pixel.chunks_exact(size).enumerate() {
                let channel = if turned { channels - 1 - channel } else { channel };
                let pixel = row * width + column;
                let place = if options.layout == TensorLayout::Thwc { pixel * channels + channel } else { channel * pixels + pixel };
                if let Some(to) = out.get_mut(place * size..(place + 1) * size) {
                    to.copy_from_slice(element);
                }
            }
        }
    }
}
