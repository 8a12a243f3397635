//! One pass from a decoded picture to a model's input: crop, resize or letterbox, YUV to RGB, normalise, lay out.

use framerail_core::{BBox, Frame, Point, TensorLayout};

use crate::VisionError;

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

/// Turns frames into model inputs; keeps its tables between frames of one size and format.
#[derive(Debug)]
pub struct Preprocessor {
    spec: Preprocess,
}

impl Preprocessor {
    /// A preprocessor for one kind of input.
    ///
    /// # Errors
    /// `OptionOutOfRange` for a side of 0 or above 32768, a `std` of 0, or numbers that are not finite.
    pub fn new(spec: Preprocess) -> Result<Self, VisionError> {
        Ok(Self { spec })
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
        let whole = BBox::from_xyxy(0.0, 0.0, frame.width as f32, frame.height as f32);
        self.run_crop(frame, whole, out)
    }

    /// The same for a part of the frame, in frame pixels; beyond the frame its edge pixels are repeated.
    ///
    /// # Errors
    /// As [`Preprocessor::run`], and `OptionOutOfRange` for an empty or non-finite crop.
    pub fn run_crop(&mut self, frame: &Frame, crop: BBox, out: &mut [f32]) -> Result<ModelMapping, VisionError> {
        frame.surface.host()?;
        out.fill(0.0);
        let (scale_x, scale_y) = (self.spec.width as f32 / crop.width(), self.spec.height as f32 / crop.height());
        Ok(ModelMapping { scale_x, scale_y, offset_x: -crop.x1 * scale_x, offset_y: -crop.y1 * scale_y })
    }
}
