//! One pass from a decoded picture to a model's input: crop, resize or letterbox, YUV to RGB, normalise, lay out.

use framerail_core::{BBox, Frame, HostSurface, Point, TensorLayout, surface::MAX_SIDE};

use crate::{
    VisionError,
    color::RgbFromSamples,
    kernels::{ChannelMix, mix_channel},
    sampling::{Geometry, Resampler, Sampling, Window},
};

/// Crops beyond this many pixels from the frame's corner are refused: no model asks for them, broken boxes do.
const CROP_LIMIT: f32 = 1e6;

/// How a picture of one shape fills an input of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fit {
    /// Both sides are scaled on their own; the picture's aspect ratio is lost.
    Stretch,
    /// The aspect ratio is kept; the rest is filled.
    Letterbox {
        /// Value of the filling in every channel, 0 to 255.
        pad: u8,
        /// In the middle, or at the top left.
        centered: bool,
    },
}

/// The channels of a model input, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// Luma only: one channel.
    Gray,
}

impl ChannelOrder {
    /// Number of channels.
    pub fn channels(self) -> usize {
        match self {
            ChannelOrder::Gray => 1,
            ChannelOrder::Rgb | ChannelOrder::Bgr => 3,
        }
    }
}

/// What a model wants of a picture.
///
/// An element is `(value * scale - mean[c]) / std[c]`, with `value` full-range in 0..=255 and `c` the channel in `channel_order`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocess {
    /// Width of the model input in pixels.
    pub width: u32,
    /// Height of the model input in pixels.
    pub height: u32,
    /// How a picture of another shape is fitted in.
    pub fit: Fit,
    /// The channels.
    pub channel_order: ChannelOrder,
    /// Planes or interleaved channels.
    pub layout: TensorLayout,
    /// Multiplies the values 0..=255 first: 1 or 1/255, usually.
    pub scale: f32,
    /// Taken off each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel at last; never 0.
    pub std: [f32; 3],
}

impl Preprocess {
    /// Elements of one picture.
    pub fn elements(&self) -> usize {
        self.width as usize * self.height as usize * self.channel_order.channels()
    }
}

/// From frame pixels to model pixels: `model = frame * scale + offset`.
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
    /// A point given in model pixels, in frame pixels.
    pub fn point_frame_from_model(&self, point: Point) -> Point {
        Point { x: (point.x - self.offset_x) / self.scale_x, y: (point.y - self.offset_y) / self.scale_y }
    }

    /// A box given in model pixels, in frame pixels.
    pub fn bbox_frame_from_model(&self, bbox: BBox) -> BBox {
        let (from, to) = (Point { x: bbox.x1, y: bbox.y1 }, Point { x: bbox.x2, y: bbox.y2 });
        let (from, to) = (self.point_frame_from_model(from), self.point_frame_from_model(to));
        BBox::from_xyxy(from.x, from.y, to.x, to.y)
    }
}

/// Where the resized picture lies in the model input, in model pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placement {
    left: usize,
    top: usize,
    width: u32,
    height: u32,
}

impl Placement {
    fn new(spec: &Preprocess, crop: &BBox) -> Self {
        let Fit::Letterbox { centered, .. } = spec.fit else {
            return Self { left: 0, top: 0, width: spec.width, height: spec.height };
        };
        let (crop_width, crop_height) = (f64::from(crop.width()), f64::from(crop.height()));
        let scale = (f64::from(spec.width) / crop_width).min(f64::from(spec.height) / crop_height);
        let width = ((crop_width * scale).round() as u32).clamp(1, spec.width);
        let height = ((crop_height * scale).round() as u32).clamp(1, spec.height);
        let (left, top) = if centered { ((spec.width - width) / 2, (spec.height - height) / 2) } else { (0, 0) };
        Self { left: left as usize, top: top as usize, width, height }
    }
}

/// Turns frames into model inputs; keeps its tables between frames of one size and format.
#[derive(Debug)]
pub struct Preprocessor {
    spec: Preprocess,
    sampling: Sampling,
    resampler: Option<Resampler>,
    /// One row of each channel, for interleaved output.
    channel_rows: [Vec<f32>; 3],
}

impl Preprocessor {
    /// A preprocessor for one kind of input.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a side of 0 or above 32768, a `std` of 0, or numbers that are not finite.
    pub fn new(spec: Preprocess) -> Result<Self, VisionError> {
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&spec.width) || !sides.contains(&spec.height) {
            return Err(VisionError::option("model input size", format!("{}x{}", spec.width, spec.height), "sides from 1 to 32768"));
        }
        if !spec.scale.is_finite() || spec.mean.iter().any(|mean| !mean.is_finite()) {
            return Err(VisionError::option("scale or mean", format!("{} {:?}", spec.scale, spec.mean), "finite numbers"));
        }
        if spec.std.iter().any(|std| !std.is_normal()) {
            return Err(VisionError::option("std", format!("{:?}", spec.std), "finite numbers other than 0"));
        }
        Ok(Self { spec, sampling: Sampling::default(), resampler: None, channel_rows: Default::default() })
    }

    /// The same with another way of sampling than bilinear.
    pub fn with_sampling(mut self, sampling: Sampling) -> Self {
        (self.sampling, self.resampler) = (sampling, None);
        self
    }

    /// The specification.
    pub fn spec(&self) -> &Preprocess {
        &self.spec
    }

    /// Writes one picture's elements to `out` and says where the frame lies in it.
    ///
    /// Resizing is bilinear between the nearest four pixels, with pixel centres at halves.
    ///
    /// # Errors
    /// `OutputLength` unless `out` holds exactly [`Preprocess::elements`]; `Core` for a frame in device memory.
    pub fn run(&mut self, frame: &Frame, out: &mut [f32]) -> Result<ModelMapping, VisionError> {
        let surface = frame.surface.host()?;
        let whole = BBox::from_xyxy(0.0, 0.0, surface.width() as f32, surface.height() as f32);
        self.run_crop(frame, whole, out)
    }

    /// The same for a part of the frame, in frame pixels; beyond the frame its edge pixels are repeated.
    ///
    /// # Errors
    /// As [`Preprocessor::run`], and `OptionOutOfRange` for an empty, far-off or non-finite crop.
    pub fn run_crop(&mut self, frame: &Frame, crop: BBox, out: &mut [f32]) -> Result<ModelMapping, VisionError> {
        let surface = frame.surface.host()?;
        let within = [crop.x1, crop.y1, crop.x2, crop.y2].iter().all(|v| v.abs() <= CROP_LIMIT);
        if !within || crop.width() <= 0.0 || crop.height() <= 0.0 {
            return Err(VisionError::option("crop", format!("{crop:?}"), "a box with some area near the frame"));
        }
        if out.len() != self.spec.elements() {
            let layout = format!("{}x{}x{}", self.spec.channel_order.channels(), self.spec.height, self.spec.width);
            return Err(VisionError::OutputLength { have: out.len(), need: self.spec.elements(), layout });
        }
        let placement = Placement::new(&self.spec, &crop);
        self.fill_padding(placement, out);
        let mixes = self.channel_mixes(&RgbFromSamples::new(surface.format(), &frame.color));
        self.write_picture(surface, crop, placement, &mixes, out);
        let (scale_x, scale_y) = (placement.width as f32 / crop.width(), placement.height as f32 / crop.height());
        Ok(ModelMapping {
            scale_x,
            scale_y,
            offset_x: placement.left as f32 - crop.x1 * scale_x,
            offset_y: placement.top as f32 - crop.y1 * scale_y,
        })
    }

    /// The element that a value of 0 to 255 becomes is `value * scale + shift`, for each channel.
    fn normalisation(&self, channel: usize) -> (f32, f32) {
        (self.spec.scale / self.spec.std[channel], -self.spec.mean[channel] / self.spec.std[channel])
    }

    fn channel_mixes(&self, rgb: &RgbFromSamples) -> Vec<ChannelMix> {
        let sources = match self.spec.channel_order {
            ChannelOrder::Rgb => vec![(rgb.gain[0], rgb.bias[0]), (rgb.gain[1], rgb.bias[1]), (rgb.gain[2], rgb.bias[2])],
            ChannelOrder::Bgr => vec![(rgb.gain[2], rgb.bias[2]), (rgb.gain[1], rgb.bias[1]), (rgb.gain[0], rgb.bias[0])],
            ChannelOrder::Gray => vec![(rgb.luma_gain, rgb.luma_bias)],
        };
        let mix = |(channel, (gain, bias)): (usize, ([f32; 3], f32))| {
            let (scale, shift) = self.normalisation(channel);
            ChannelMix { gain, bias, scale, shift }
        };
        sources.into_iter().enumerate().map(mix).collect()
    }

    fn fill_padding(&self, placement: Placement, out: &mut [f32]) {
        let Fit::Letterbox { pad, .. } = self.spec.fit else { return };
        if (placement.width, placement.height) == (self.spec.width, self.spec.height) {
            return;
        }
        let channels = self.spec.channel_order.channels();
        let element = |channel: usize| {
            let (scale, shift) = self.normalisation(channel);
            f32::from(pad) * scale + shift
        };
        match self.spec.layout {
            TensorLayout::Tchw => {
                for (channel, plane) in out.chunks_exact_mut(self.spec.elements() / channels).enumerate() {
                    plane.fill(element(channel));
                }
            }
            TensorLayout::Thwc => {
                let pixel = [0, 1, 2].map(element);
                for out in out.chunks_exact_mut(channels) {
                    out.copy_from_slice(&pixel[..channels]);
                }
            }
        }
    }

    fn write_picture(&mut self, surface: &HostSurface, crop: BBox, placement: Placement, mixes: &[ChannelMix], out: &mut [f32]) {
        let geometry = Geometry {
            format: surface.format(),
            width: surface.width(),
            height: surface.height(),
            window: Window { x: crop.x1.into(), y: crop.y1.into(), width: crop.width().into(), height: crop.height().into() },
            out_width: placement.width,
            out_height: placement.height,
            sampling: self.sampling,
        };
        let resampler = match self.resampler.take().filter(|resampler| *resampler.geometry() == geometry) {
            Some(resampler) => self.resampler.insert(resampler),
            None => self.resampler.insert(Resampler::new(geometry)),
        };
        let (width, channels) = (self.spec.width as usize, mixes.len());
        let plane_elements = width * self.spec.height as usize;
        let (left, columns) = (placement.left, placement.width as usize);
        for y in 0..placement.height as usize {
            let samples = resampler.row(surface, y);
            let row_start = (placement.top + y) * width + left;
            for (channel, mix) in mixes.iter().enumerate() {
                let target = match self.spec.layout {
                    TensorLayout::Tchw => &mut out[channel * plane_elements + row_start..][..columns],
                    TensorLayout::Thwc => {
                        self.channel_rows[channel].resize(columns, 0.0);
                        &mut self.channel_rows[channel][..]
                    }
                };
                mix_channel(samples, *mix, target);
            }
            if self.spec.layout == TensorLayout::Thwc {
                interleave(&self.channel_rows, channels, &mut out[row_start * channels..][..columns * channels]);
            }
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
