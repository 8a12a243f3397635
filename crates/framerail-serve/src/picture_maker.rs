//! From a frame to a small JPEG with what was found drawn in.

use framerail_core::{BBox, ColorDescription, Detection, FramePool, HostSurface, PixelFormat, Point, Surface};
use framerail_cuda::{CudaStream, CudaSurface, PinnedPool};
use framerail_media::{Converter, ImageFormat, ScaleOptions, ScaleQuality, encode_image};
use framerail_pipeline::FrameItem;
use framerail_vision::{Canvas, DrawOptions, FrameZones, Sketch, size_within};

use crate::{Picture, PictureOptions};

/// Buffers kept for pictures.
const KEPT_BUFFERS: usize = 2;

pub(crate) struct PictureMaker {
    options: PictureOptions,
    converter: Converter,
    pool: FramePool,
    /// The way from a card, made when a frame lies on one.
    card: Option<(PinnedPool, CudaStream)>,
}

impl PictureMaker {
    pub(crate) fn new(options: PictureOptions) -> Self {
        let scale = ScaleOptions { quality: ScaleQuality::Bilinear, accurate: false };
        Self { options, converter: Converter::new(scale), pool: FramePool::new(KEPT_BUFFERS), card: None }
    }

    /// Makes the picture; its `sequence` is 0.
    ///
    /// # Errors
    /// In words: the frame is no picture, or FFmpeg lacks something.
    pub(crate) fn make(&mut self, item: &FrameItem) -> Result<Picture, String> {
        let frame = &item.frame;
        let surface = self.host_surface(&frame.surface)?;
        // Pixels that are not square are made so.
        let aspect = frame.sample_aspect_ratio.map_or(1.0, |ratio| ratio.as_f64()).clamp(0.1, 10.0);
        let full_width = (f64::from(surface.width()) * aspect).round().max(1.0) as u32;
        let most = self.options.max_side.unwrap_or(u32::MAX);
        let (width, height) = size_within(full_width, surface.height(), most, most);
        let (width, height) = ((width & !1).max(2), (height & !1).max(2));
        let color = frame.color;
        let small = self.converter.convert(&surface, &color, PixelFormat::Yuv420p, width, height, &self.pool);
        let mut small = small.map_err(|error| error.to_string())?;
        // As the converter leaves it: the matrix is the frame's, and RGB has become limited range.
        if self.options.overlay {
            let scale = (width as f32 / surface.width() as f32, height as f32 / surface.height() as f32);
            draw(&mut small, &color, item, scale)?;
        }
        let format = ImageFormat::Jpeg { quality: self.options.quality };
        let jpeg = encode_image(&small, &color, format).map_err(|error| error.to_string())?;
        let detections = item.detections.len();
        Ok(Picture { jpeg, sequence: 0, frame: frame.index, seconds: frame.seconds(), detections, size: (width, height) })
    }

    /// The pixels in host memory: the frame's own, or a copy from a card.
    fn host_surface(&mut self, surface: &Surface) -> Result<HostSurface, String> {
        if let Surface::Host(surface) = surface {
            return Ok(surface.clone());
        }
        let words = "frames of this run become a model's input while they are decoded, so there is nothing to show; put `download` \
                     after `read` to see them";
        let surface = CudaSurface::of(surface).ok_or(words)?;
        if self.card.is_none() {
            let device = surface.cuda_device();
            let stream = CudaStream::new(device).map_err(|error| error.to_string())?;
            self.card = Some((PinnedPool::new(device, 1), stream));
        }
        let Some((pool, stream)) = &self.card else { return Err(words.to_owned()) };
        surface.download(pool, stream).map_err(|error| error.to_string())
    }
}

/// Draws what was found into a picture of another size than the frame.
fn draw(picture: &mut HostSurface, color: &ColorDescription, item: &FrameItem, (across, down): (f32, f32)) -> Result<(), String> {
    let zones = item.attachments.get::<FrameZones>();
    if item.detections.is_empty() && zones.is_none() {
        return Ok(());
    }
    let place = |point: Point| Point { x: point.x * across, y: point.y * down };
    let scaled = |found: &Detection| {
        let BBox { x1, y1, x2, y2 } = found.bbox;
        found.moved_to(BBox::from_xyxy(x1 * across, y1 * down, x2 * across, y2 * down))
    };
    let detections: Vec<Detection> = item.detections.iter().map(scaled).collect();
    let options = DrawOptions { track_ids: true, ..DrawOptions::default() };
    let mut sketch = Sketch::new((picture.width(), picture.height()), picture.format(), color);
    if let Some(zones) = zones {
        let mut zones = FrameZones::clone(zones);
        for zone in &mut zones.zones {
            zone.points = zone.points.iter().map(|point| place(*point)).collect();
        }
        for line in &mut zones.lines {
            (line.from, line.to) = (place(line.from), place(line.to));
        }
        sketch.zones(&zones, None);
    }
    sketch.detections(&detections, &options);
    Canvas::new(picture, color).paint(&sketch).map_err(|error| error.to_string())
}
