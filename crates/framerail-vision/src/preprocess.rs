//! One pass from a decoded frame to a model's input: crop, resize or letterbox, YUV to RGB, normalise, lay out.

pub use framerail_core::ChannelOrder;
use framerail_core::{
    BBox, ChannelMix, ColorDescription, DType, Frame, HostSurface, PixelAspect, PixelFormat, Placement, Point, Sampling, TensorLayout,
    TensorSpec, surface::MAX_SIDE,
};

use crate::{
    TensorConverter, TensorOptions, TensorSize, VisionError,
    channel_rows::{HsvRow, RowSource},
    color::{RgbFromSamples, fast_yuv},
    eight_bit::ToBytes,
    plan::{ConversionPlan, placement},
    sampling::{Geometry, Window},
};

/// Crops beyond this many pixels from the frame's corner are rejected, as only broken boxes lead to them.
const CROP_LIMIT: f32 = 1e6;

/// How a frame fills an input of a different shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// Both sides are scaled independently; the aspect ratio is lost.
    Stretch,
    /// The display aspect ratio is kept: non-square pixels become square. The rest is padded.
    Letterbox {
        /// Padding value of every channel, 0 to 255.
        pad: u8,
        /// Whether the frame is centred; otherwise it is at the top left.
        centered: bool,
    },
}

/// The input that a model expects.
///
/// An element is `(value * scale - mean[c]) / std[c]`, with `value` full-range in 0..=255 and `c` the channel in `channel_order`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Width of the model input in pixels.
    pub width: u32,
    /// Height of the model input in pixels.
    pub height: u32,
    /// How a frame of a different shape is fitted.
    pub fit: Fit,
    /// The channels and their order.
    pub channel_order: ChannelOrder,
    /// Planar or interleaved channels.
    pub layout: TensorLayout,
    /// Factor applied first to the values 0..=255; usually 1 or 1/255.
    pub scale: f32,
    /// Subtracted from each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel last; never 0.
    pub std: [f32; 3],
}

impl Preprocess {
    /// Elements of one frame.
    pub fn elements(&self) -> usize {
        self.width as usize * self.height as usize * self.channel_order.channels()
    }

    /// Returns the format of this input as a tensor with elements of type `dtype`.
    pub fn tensor_spec(&self, dtype: DType) -> TensorSpec {
        TensorSpec { width: self.width, height: self.height, layout: self.layout, dtype, channel_order: self.channel_order }
    }
}

/// Maps frame pixels to model pixels: `model = frame * scale + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelMapping {
    /// Model pixels per frame pixel, across.
    pub scale_x: f32,
    /// Model pixels per frame pixel, down.
    pub scale_y: f32,
    /// Model pixels from the input's left edge to the frame's.
    pub offset_x: f32,
    /// Model pixels from the input's top edge to the frame's.
    pub offset_y: f32,
}

impl ModelMapping {
    /// Converts a point from model pixels to frame pixels.
    pub fn point_frame_from_model(&self, point: Point) -> Point {
        Point { x: (point.x - self.offset_x) / self.scale_x, y: (point.y - self.offset_y) / self.scale_y }
    }

    /// Converts a box from model pixels to frame pixels.
    pub fn bbox_frame_from_model(&self, bbox: BBox) -> BBox {
        let (from, to) = (Point { x: bbox.x1, y: bbox.y1 }, Point { x: bbox.x2, y: bbox.y2 });
        let (from, to) = (self.point_frame_from_model(from), self.point_frame_from_model(to));
        BBox::from_xyxy(from.x, from.y, to.x, to.y)
    }
}

/// Converts frames to model inputs. Keeps its tables between frames of one size and format.
#[derive(Debug)]
pub struct Preprocessor {
    spec: Preprocess,
    sampling: Sampling,
    rows: Option<RowSource>,
    /// Used for filters, which resample channels.
    filtered: Option<(BBox, Box<TensorConverter>)>,
    /// One row of each channel, for interleaved output.
    channel_rows: [Vec<f32>; 3],
    hsv: HsvRow,
}

impl Preprocessor {
    /// Creates a preprocessor for one kind of input.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a side of 0 or above 32768, RGBA channels, a `std` of 0, or numbers that are not finite.
    pub fn new(spec: Preprocess) -> Result<Self, VisionError> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&spec.width) || !sides.contains(&spec.height) {
            return Err(VisionError::option("model input size", format!("{}x{}", spec.width, spec.height), "sides from 1 to 32768"));
        }
        if spec.channel_order == ChannelOrder::Rgba {
            return Err(VisionError::option("channel_order", "rgba", "rgb, bgr, gray or hsv; models do not take alpha"));
        }
        if !spec.scale.is_finite() || spec.mean.iter().any(|mean| !mean.is_finite()) {
            return Err(VisionError::option("scale or mean", format!("{} {:?}", spec.scale, spec.mean), "finite numbers"));
        }
        if spec.std.iter().any(|std| !std.is_normal()) {
            return Err(VisionError::option("std", format!("{:?}", spec.std), "finite numbers other than 0"));
        }
        Ok(Self {
            spec,
            sampling: Sampling::default(),
            rows: None,
            filtered: None,
            channel_rows: Default::default(),
            hsv: HsvRow::default(),
        })
    }

    /// Sets the sampling; the default is bilinear.
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        (self.sampling, self.rows, self.filtered) = (sampling, None, None);
        self
    }

    /// The specification.
    pub fn spec(&self) -> &Preprocess {
        &self.spec
    }

    /// Writes one frame's elements to `out` and returns where the frame lies in it.
    ///
    /// Resizing is bilinear between the nearest four pixels, with pixel centres at halves, unless [`Preprocessor::with_sampling`] set
    /// another sampling.
    ///
    /// # Errors
    /// `OutputLength` unless `out` holds exactly [`Preprocess::elements`]; `Core` for a frame in device memory.
    pub fn run(&mut self, frame: &Frame, out: &mut [f32]) -> Result<ModelMapping, VisionError> {
        let surface = frame.surface.host()?;
        let whole = BBox::from_xyxy(0.0, 0.0, surface.width() as f32, surface.height() as f32);
        self.run_crop(frame, whole, out)
    }

    /// Like [`Preprocessor::run`], for a part of the frame in frame pixels. Beyond the frame, its edge pixels are repeated.
    ///
    /// # Errors
    /// As [`Preprocessor::run`], and `OptionOutOfRange` for an empty, far-off or non-finite crop.
    pub fn run_crop(&mut self, frame: &Frame, crop: BBox, out: &mut [f32]) -> Result<ModelMapping, VisionError> {
        let surface = frame.surface.host()?;
        let (width, height, format) = (surface.width(), surface.height(), surface.format());
        let plan = self.plan(width, height, format, &frame.color, frame.pixel_aspect(), Some(crop))?;
        if out.len() != self.spec.elements() {
            let layout = format!("{}x{}x{}", self.spec.channel_order.channels(), self.spec.height, self.spec.width);
            return Err(VisionError::OutputLength { have: out.len(), need: self.spec.elements(), layout });
        }
        if let Sampling::Filter(_) = self.sampling {
            self.write_filtered(frame, crop, out)?;
            return Ok(plan.mapping);
        }
        self.fill_padding(&plan, out);
        self.write_image(frame, surface, crop, &plan, out);
        Ok(plan.mapping)
    }

    /// Returns the parameters of the conversion that [`Preprocessor::run_crop`] performs, for other implementations. It is for frames of
    /// this size, format, colour and pixel aspect ratio, or for a part of them in frame pixels.
    ///
    /// NV12 stands for the planar 4:2:0 to which the same stream decodes on the host. So with [`Sampling::Bilinear8Bit`] it uses
    /// that format's arithmetic.
    ///
    /// # Errors
    /// `OptionOutOfRange` for an empty, far-off or non-finite crop, or a frame without a size.
    pub fn plan(
        &self,
        width: u32,
        height: u32,
        format: PixelFormat,
        color: &ColorDescription,
        pixels: PixelAspect,
        crop: Option<BBox>,
    ) -> Result<ConversionPlan, VisionError> {
        let crop = crop.unwrap_or(BBox::from_xyxy(0.0, 0.0, width as f32, height as f32));
        let within = [crop.x1, crop.y1, crop.x2, crop.y2].iter().all(|v| v.abs() <= CROP_LIMIT);
        if !within || crop.width() <= 0.0 || crop.height() <= 0.0 {
            return Err(VisionError::option("crop", format!("{crop:?}"), "a box with some area near the frame"));
        }
        let placement = placement(&self.spec, &crop, pixels);
        let (scale_x, scale_y) = (placement.width as f32 / crop.width(), placement.height as f32 / crop.height());
        let mapping = ModelMapping {
            scale_x,
            scale_y,
            offset_x: placement.left as f32 - crop.x1 * scale_x,
            offset_y: placement.top as f32 - crop.y1 * scale_y,
        };
        let mut mixes = [ChannelMix::default(); 3];
        for (mix, found) in mixes.iter_mut().zip(self.channel_mixes(&RgbFromSamples::new(format, color))) {
            *mix = found;
        }
        let planar = if format == PixelFormat::Nv12 { PixelFormat::Yuv420p } else { format };
        let in_bytes = matches!(self.sampling, Sampling::Filter(_)) && format.bits() == 8;
        let in_eight_bits = (in_bytes || self.sampling == Sampling::Bilinear8Bit) && self.spec.channel_order != ChannelOrder::Gray;
        let fast = in_eight_bits.then(|| fast_yuv(planar, height, color)).flatten();
        let padding = [0, 1, 2].map(|channel| self.padding(channel));
        let resized = (placement.width, placement.height);
        Ok(ConversionPlan { crop, placement, resized, cut: (0, 0), sampling: self.sampling, mixes, padding, fast, in_bytes, mapping })
    }

    /// The element outside the placement.
    fn padding(&self, channel: usize) -> f32 {
        let Fit::Letterbox { pad, .. } = self.spec.fit else { return 0.0 };
        let (scale, shift) = self.normalisation(channel);
        f32::from(pad) * scale + shift
    }

    /// Returns `scale` and `shift` of a channel: a value of 0 to 255 becomes the element `value * scale + shift`.
    fn normalisation(&self, channel: usize) -> (f32, f32) {
        (self.spec.scale / self.spec.std[channel], -self.spec.mean[channel] / self.spec.std[channel])
    }

    fn channel_mixes(&self, rgb: &RgbFromSamples) -> Vec<ChannelMix> {
        let mut mixes = rgb.mixes(self.spec.channel_order);
        for (channel, mix) in mixes.iter_mut().enumerate() {
            (mix.scale, mix.shift) = self.normalisation(channel);
        }
        mixes
    }

    fn fill_padding(&self, plan: &ConversionPlan, out: &mut [f32]) {
        if (plan.placement.width, plan.placement.height) == (self.spec.width, self.spec.height) {
            return;
        }
        let channels = self.spec.channel_order.channels();
        match self.spec.layout {
            TensorLayout::Tchw => {
                for (padding, plane) in plan.padding.iter().zip(out.chunks_exact_mut(self.spec.elements() / channels)) {
                    plane.fill(*padding);
                }
            }
            TensorLayout::Thwc => {
                for out in out.chunks_exact_mut(channels) {
                    out.copy_from_slice(&plan.padding[..channels]);
                }
            }
        }
    }

    fn write_filtered(&mut self, frame: &Frame, crop: BBox, out: &mut [f32]) -> Result<(), VisionError> {
        let mut converter = match self.filtered.take() {
            Some((of, converter)) if of == crop => converter,
            _ => Box::new(TensorConverter::new(TensorOptions {
                crop: Some(crop),
                size: TensorSize::Exact(self.spec.width, self.spec.height),
                center_crop: None,
                cut: None,
                fit: self.spec.fit,
                sampling: self.sampling,
                channel_order: self.spec.channel_order,
                layout: self.spec.layout,
                dtype: DType::F32,
                scale: self.spec.scale,
                mean: self.spec.mean,
                std: self.spec.std,
                tone_map: None,
            })?),
        };
        converter.convert(frame, bytemuck::cast_slice_mut(out))?;
        self.filtered = Some((crop, converter));
        Ok(())
    }

    fn write_image(&mut self, frame: &Frame, surface: &HostSurface, crop: BBox, plan: &ConversionPlan, out: &mut [f32]) {
        let placement = plan.placement;
        let geometry = Geometry {
            format: surface.format(),
            width: surface.width(),
            height: surface.height(),
            window: Window { x: crop.x1.into(), y: crop.y1.into(), width: crop.width().into(), height: crop.height().into() },
            out_width: placement.width,
            out_height: placement.height,
            sampling: self.sampling,
        };
        let mut rows = self.rows.take().filter(|rows| *rows.geometry() == geometry).unwrap_or_else(|| RowSource::new(geometry));
        let mixes = &plan.mixes[..self.spec.channel_order.channels()];
        let to_bytes = self.to_bytes(frame, surface, mixes);
        rows.begin();
        for y in 0..placement.height as usize {
            let row = rows.row(surface, y, mixes.len(), &to_bytes);
            if self.spec.channel_order == ChannelOrder::Hsv {
                let hsv = self.hsv.fill(&row, mixes, placement.width as usize);
                let write = |channel: usize, out: &mut [f32]| hsv.write(channel, &mixes[channel], out);
                write_row(&self.spec, &mut self.channel_rows, placement, y, out, write);
            } else {
                let write = |channel: usize, out: &mut [f32]| row.write(channel, &mixes[channel], out);
                write_row(&self.spec, &mut self.channel_rows, placement, y, out, write);
            }
        }
        self.rows = Some(rows);
    }

    fn to_bytes<'a>(&self, frame: &Frame, surface: &HostSurface, mixes: &'a [ChannelMix]) -> ToBytes<'a> {
        let fast = fast_yuv(surface.format(), surface.height(), &frame.color);
        match (fast, self.spec.channel_order) {
            (Some(yuv), ChannelOrder::Rgb | ChannelOrder::Hsv) => ToBytes::Fast { yuv, order: [0, 1, 2] },
            (Some(yuv), ChannelOrder::Bgr) => ToBytes::Fast { yuv, order: [2, 1, 0] },
            _ => ToBytes::Exact(mixes),
        }
    }
}

/// Writes row `y` of the placement; `write_channel` writes the elements of a channel.
fn write_row(
    spec: &Preprocess,
    channel_rows: &mut [Vec<f32>; 3],
    placement: Placement,
    y: usize,
    out: &mut [f32],
    write_channel: impl Fn(usize, &mut [f32]),
) {
    let (width, channels) = (spec.width as usize, spec.channel_order.channels());
    let plane_elements = width * spec.height as usize;
    let columns = placement.width as usize;
    let row_start = (placement.top as usize + y) * width + placement.left as usize;
    match spec.layout {
        TensorLayout::Tchw => {
            for channel in 0..channels {
                write_channel(channel, &mut out[channel * plane_elements + row_start..][..columns]);
            }
        }
        TensorLayout::Thwc => {
            for (channel, row) in channel_rows.iter_mut().enumerate().take(channels) {
                row.resize(columns, 0.0);
                write_channel(channel, row);
            }
            interleave(channel_rows, channels, &mut out[row_start * channels..][..columns * channels]);
        }
    }
}

fn interleave(rows: &[Vec<f32>; 3], channels: usize, out: &mut [f32]) {
    if channels == 1 {
        out.copy_from_slice(&rows[0]);
        return;
    }
    for (((out, first), second), third) in out.as_chunks_mut::<3>().0.iter_mut().zip(&rows[0]).zip(&rows[1]).zip(&rows[2]) {
        *out = [*first, *second, *third];
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorDescription, ColorMatrix, ColorRange, PixelFormat, Rational};

    use super::*;
    use crate::test_images::{flat, frame, noisy, rgb_at};

    fn spec(width: u32, height: u32, fit: Fit, channel_order: ChannelOrder, layout: TensorLayout) -> Preprocess {
        Preprocess { width, height, fit, channel_order, layout, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
    }

    /// Full-range RGB of the whole frame, rounded, then resized bilinearly: OpenCV's result for a frame with repeated chroma.
    fn reference(surface: &HostSurface, color: &ColorDescription, width: u32, height: u32) -> Vec<[f32; 3]> {
        let (w, h) = (surface.width() as usize, surface.height() as usize);
        let rgb: Vec<[f32; 3]> =
            (0..h).flat_map(|y| (0..w).map(move |x| (x, y))).map(|(x, y)| rgb_at(surface, color, x, y).map(f32::round)).collect();
        let tap = |position: u32, out: u32, side: usize| {
            let at = ((f64::from(position) + 0.5) * side as f64 / f64::from(out) - 0.5).clamp(0.0, (side - 1) as f64);
            (at as usize, (at as usize + 1).min(side - 1), at.fract() as f32)
        };
        let mut out = Vec::new();
        for y in 0..height {
            let (y0, y1, wy) = tap(y, height, h);
            for x in 0..width {
                let (x0, x1, wx) = tap(x, width, w);
                out.push([0, 1, 2].map(|c| {
                    let mix = |row: usize| rgb[row * w + x0][c] * (1.0 - wx) + rgb[row * w + x1][c] * wx;
                    mix(y0) * (1.0 - wy) + mix(y1) * wy
                }));
            }
        }
        out
    }

    fn run(spec: Preprocess, frame: &Frame) -> (Vec<f32>, ModelMapping) {
        let mut out = vec![f32::NAN; spec.elements()];
        let mapping = Preprocessor::new(spec).expect("valid").run(frame, &mut out).expect("host frame");
        (out, mapping)
    }

    #[test]
    fn equals_the_reference_in_every_format_and_range() {
        for &format in PixelFormat::ALL {
            for (matrix, range) in [
                (ColorMatrix::Unspecified, ColorRange::Unspecified),
                (ColorMatrix::Bt709, ColorRange::Full),
                (ColorMatrix::Bt2020, ColorRange::Limited),
            ] {
                let color = ColorDescription { matrix, range, ..Default::default() };
                for (width, height) in [(45, 31), (64, 32), (20, 17), (90, 62)] {
                    let frame = frame(noisy(format, 45, 31), color);
                    let expected = reference(frame.surface.host().expect("host"), &color, width, height);
                    let (out, mapping) = run(spec(width, height, Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Thwc), &frame);
                    // Half a step is the reference's rounding to whole RGB values.
                    let worst = out.iter().zip(expected.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(worst < 0.51, "{format} {color:?} {width}x{height}: off by {worst}");
                    assert_eq!((mapping.scale_x, mapping.offset_y), (width as f32 / 45.0, 0.0));
                }
            }
        }
    }

    #[test]
    fn layouts_orders_and_normalisation_agree() {
        let frame = frame(noisy(PixelFormat::Yuv420p, 40, 30), ColorDescription::default());
        let (interleaved, _) = run(spec(24, 18, Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Thwc), &frame);
        let normalised = Preprocess {
            scale: 1.0 / 255.0,
            mean: [0.4, 0.5, 0.6],
            std: [0.2, 0.3, 0.25],
            ..spec(24, 18, Fit::Stretch, ChannelOrder::Bgr, TensorLayout::Tchw)
        };
        let (planar, _) = run(normalised, &frame);
        for pixel in 0..24 * 18 {
            for channel in 0..3 {
                let value = interleaved[pixel * 3 + 2 - channel];
                let expected = (value / 255.0 - normalised.mean[channel]) / normalised.std[channel];
                assert!((planar[channel * 24 * 18 + pixel] - expected).abs() < 1e-4);
            }
        }
        let (gray, _) = run(spec(24, 18, Fit::Stretch, ChannelOrder::Gray, TensorLayout::Tchw), &frame);
        assert_eq!(gray.len(), 24 * 18);
        let (r, g, b) = (interleaved[300], interleaved[301], interleaved[302]);
        assert!((gray[100] - (0.299 * r + 0.587 * g + 0.114 * b)).abs() < 2.0 || [r, g, b].iter().any(|v| *v <= 0.0 || *v >= 255.0));
    }

    #[test]
    fn letterbox_keeps_the_shape_and_maps_back() {
        for (centered, top) in [(true, 28), (false, 0)] {
            for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
                let frame = frame(flat(PixelFormat::Nv12, 128, 72, [200.0; 3]), ColorDescription::default());
                let (out, mapping) = run(spec(128, 128, Fit::Letterbox { pad: 114, centered }, ChannelOrder::Rgb, layout), &frame);
                let at = |x: usize, y: usize| if layout == TensorLayout::Tchw { out[y * 128 + x] } else { out[(y * 128 + x) * 3] };
                assert_eq!(at(5, 127), 114.0);
                assert!((at(5, top) - 200.0).abs() < 1.5 && (at(127, top + 71) - 200.0).abs() < 1.5);
                assert_eq!(at(5, top + 72), 114.0);
                let back = mapping.bbox_frame_from_model(BBox::from_xyxy(0.0, top as f32, 128.0, top as f32 + 72.0));
                assert_eq!(back, BBox::from_xyxy(0.0, 0.0, 128.0, 72.0));
            }
        }
    }

    #[test]
    fn letterbox_makes_pixels_square() {
        // 64x72 pixels with an aspect ratio of 2:1 are displayed as 128x72.
        let mut frame = frame(flat(PixelFormat::Yuv420p, 64, 72, [200.0; 3]), ColorDescription::default());
        frame.sample_aspect_ratio = Rational::new(2, 1);
        let letterbox = Fit::Letterbox { pad: 114, centered: false };
        let (out, mapping) = run(spec(128, 128, letterbox, ChannelOrder::Gray, TensorLayout::Tchw), &frame);
        assert!((out[71 * 128 + 127] - 200.0).abs() < 1.5);
        assert_eq!(out[72 * 128], 114.0);
        assert_eq!((mapping.scale_x, mapping.scale_y), (2.0, 1.0));
        let back = mapping.bbox_frame_from_model(BBox::from_xyxy(0.0, 0.0, 128.0, 72.0));
        assert_eq!(back, BBox::from_xyxy(0.0, 0.0, 64.0, 72.0));
    }

    #[test]
    fn a_crop_is_that_part_and_maps_back() {
        let color = ColorDescription::default();
        for format in [PixelFormat::Yuv420p, PixelFormat::P010, PixelFormat::Rgb24] {
            let frame = frame(noisy(format, 64, 48), color);
            let mut preprocessor = Preprocessor::new(spec(20, 10, Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Thwc)).expect("valid");
            let mut out = vec![0.0; 600];
            let mapping = preprocessor.run_crop(&frame, BBox::from_xyxy(30.0, 12.0, 50.0, 22.0), &mut out).expect("inside");
            let surface = frame.surface.host().expect("host");
            for (x, y) in [(0, 0), (19, 9), (7, 3)] {
                let expected = rgb_at(surface, &color, 30 + x, 12 + y);
                let found = &out[(y * 20 + x) * 3..][..3];
                assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.01), "{format} {x},{y}: {found:?} {expected:?}");
            }
            assert_eq!(mapping.point_frame_from_model(Point { x: 20.0, y: 10.0 }), Point { x: 50.0, y: 22.0 });
            // Beyond the frame, its edge is repeated.
            preprocessor.run_crop(&frame, BBox::from_xyxy(60.0, 44.0, 80.0, 54.0), &mut out).expect("reaches out");
            assert!(out[597..].iter().zip(rgb_at(surface, &color, 63, 47)).all(|(a, b)| (a - b).abs() < 0.01));
        }
    }

    #[test]
    fn plans_follow_changes_of_size_and_format() {
        let mut preprocessor = Preprocessor::new(spec(16, 16, Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Tchw)).expect("valid");
        let mut out = vec![0.0; 768];
        for (format, width, height, level) in [
            (PixelFormat::Yuv420p, 33, 21, 50.0),
            (PixelFormat::Yuv420p, 64, 8, 90.0),
            (PixelFormat::Gray10, 64, 8, 200.0),
            (PixelFormat::Yuv420p, 1, 1, 10.0),
        ] {
            preprocessor.run(&frame(flat(format, width, height, [level; 3]), ColorDescription::default()), &mut out).expect("host frame");
            assert!(out.iter().all(|value| (value - level).abs() < 1.5), "{format} {width}x{height}");
        }
    }

    #[test]
    fn area_sampling_takes_the_mean() {
        let frame = frame(noisy(PixelFormat::Rgb24, 60, 60), ColorDescription::default());
        let mut preprocessor = Preprocessor::new(spec(6, 6, Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Thwc))
            .expect("valid")
            .with_sampling(Sampling::Area);
        let mut out = vec![0.0; 108];
        preprocessor.run(&frame, &mut out).expect("host frame");
        let surface = frame.surface.host().expect("host");
        let mean = (0..100).map(|i| rgb_at(surface, &frame.color, 10 + i % 10, 20 + i / 10)[1]).sum::<f32>() / 100.0;
        assert!((out[(2 * 6 + 1) * 3 + 1] - mean).abs() < 0.01);
    }

    #[test]
    fn wrong_options_buffers_and_crops_are_refused() {
        let good = spec(8, 8, Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Tchw);
        assert!(Preprocessor::new(Preprocess { width: 0, ..good }).is_err());
        assert!(Preprocessor::new(Preprocess { std: [1.0, 0.0, 1.0], ..good }).is_err());
        assert!(Preprocessor::new(Preprocess { scale: f32::NAN, ..good }).is_err());
        let frame = frame(flat(PixelFormat::Rgb24, 8, 8, [0.0; 3]), ColorDescription::default());
        let mut preprocessor = Preprocessor::new(good).expect("valid");
        assert!(matches!(preprocessor.run(&frame, &mut [0.0; 7]), Err(VisionError::OutputLength { have: 7, need: 192, .. })));
        let mut out = [0.0; 192];
        for crop in [(4.0, 4.0, 4.0, 8.0), (f32::NAN, 0.0, 8.0, 8.0), (0.0, 0.0, f32::INFINITY, 8.0), (0.0, 0.0, 1e9, 8.0)] {
            let crop = BBox::from_xyxy(crop.0, crop.1, crop.2, crop.3);
            assert!(preprocessor.run_crop(&frame, crop, &mut out).is_err(), "{crop:?}");
        }
    }
}
