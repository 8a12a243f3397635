//! Encodes a frame as a small JPEG with detections drawn in.

use framerail_core::{BBox, ColorDescription, Detection, FramePool, HostSurface, PixelFormat, Point, Surface};
use framerail_cuda::{CudaStream, CudaSurface, PinnedPool};
use framerail_media::{Converter, ImageEncoder, ImageFormat, ScaleOptions, ScaleQuality};
use framerail_pipeline::FrameItem;
use framerail_vision::{Canvas, DrawOptions, FrameZones, Sketch, size_within};

use crate::{ImageOptions, LiveImage};

/// Buffers kept for images.
const KEPT_BUFFERS: usize = 2;

/// Converters and encoders kept, one pair per combination of sizes and format: a few megabytes each.
const KEPT_KINDS: usize = 4;

/// Converter and encoder for one frame size and image size. Streams can share them, since they keep no state between images.
struct Tools {
    /// Format and size of the frame, and size of the image.
    kind: (PixelFormat, [u32; 4]),
    shrink: Converter,
    encoder: ImageEncoder,
}

pub(crate) struct ImageMaker {
    options: ImageOptions,
    /// Most recently used first.
    tools: Vec<Tools>,
    /// How often encoders that are no longer kept were opened.
    opens_before: u64,
    pool: FramePool,
    /// For downloads from a GPU; created for the first frame on one.
    card: Option<(PinnedPool, CudaStream)>,
}

impl ImageMaker {
    pub(crate) fn new(options: ImageOptions) -> Self {
        Self { options, tools: Vec::new(), opens_before: 0, pool: FramePool::new(KEPT_BUFFERS), card: None }
    }

    /// Encodes an image; its `sequence` is 0.
    ///
    /// # Errors
    /// A message: the item has no frame to show, or FFmpeg lacks a feature.
    pub(crate) fn make(&mut self, item: &FrameItem) -> Result<LiveImage, String> {
        let frame = &item.frame;
        let surface = self.host_surface(&frame.surface)?;
        // Scale to square pixels.
        let aspect = frame.sample_aspect_ratio.map_or(1.0, |ratio| ratio.as_f64()).clamp(0.1, 10.0);
        let full_width = (f64::from(surface.width()) * aspect).round().max(1.0) as u32;
        let most = self.options.max_side.unwrap_or(u32::MAX);
        let (width, height) = size_within(full_width, surface.height(), most, most);
        let (width, height) = ((width & !1).max(2), (height & !1).max(2));
        let color = frame.color;
        self.take_up((surface.format(), [surface.width(), surface.height(), width, height]));
        let Some(tools) = self.tools.first_mut() else { return Err("no tools; please report it".to_owned()) };
        let small = tools.shrink.convert(&surface, &color, PixelFormat::Yuv420p, width, height, &self.pool);
        let mut small = small.map_err(|error| error.to_string())?;
        // The converter's output keeps the frame's matrix; RGB has become limited range.
        if self.options.overlay {
            let scale = (width as f32 / surface.width() as f32, height as f32 / surface.height() as f32);
            draw(&mut small, &color, item, scale)?;
        }
        let jpeg = tools.encoder.encode(&small, &color).map_err(|error| error.to_string())?;
        let detections = item.detections.len();
        Ok(LiveImage { jpeg, sequence: 0, frame: frame.index, seconds: frame.seconds(), detections, size: (width, height) })
    }

    /// Moves the tools for this kind to the front, creating them if needed; drops the least recently used.
    fn take_up(&mut self, kind: (PixelFormat, [u32; 4])) {
        let tools = match self.tools.iter().position(|tools| tools.kind == kind) {
            Some(place) => self.tools.remove(place),
            None => {
                let scale = ScaleOptions { quality: ScaleQuality::Bilinear, accurate: false };
                let encoder = ImageEncoder::new(ImageFormat::Jpeg { quality: self.options.quality });
                Tools { kind, shrink: Converter::new(scale), encoder }
            }
        };
        self.tools.insert(0, tools);
        if self.tools.len() > KEPT_KINDS {
            self.opens_before += self.tools.pop().map_or(0, |tools| tools.encoder.opens());
        }
    }

    /// How often a JPEG encoder was opened.
    pub(crate) fn encoder_opens(&self) -> u64 {
        self.opens_before + self.tools.iter().map(|tools| tools.encoder.opens()).sum::<u64>()
    }

    /// The pixels in host memory: the frame's surface, or a copy downloaded from a GPU.
    fn host_surface(&mut self, surface: &Surface) -> Result<HostSurface, String> {
        if let Surface::Host(surface) = surface {
            return Ok(surface.clone());
        }
        let words = "the decoder makes the model's input directly, so there are no frames to show; put `download` after `read` to see them";
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

/// Draws detections and zones into an image of a different size than the frame.
fn draw(image: &mut HostSurface, color: &ColorDescription, item: &FrameItem, (across, down): (f32, f32)) -> Result<(), String> {
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
    let mut sketch = Sketch::new((image.width(), image.height()), image.format(), color);
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
    Canvas::new(image, color).paint(&sketch).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use framerail_core::{Frame, StreamId};

    use super::*;

    fn frame(stream: u32, index: u64, (width, height): (u32, u32)) -> FrameItem {
        let mut surface = FramePool::new(1).surface(PixelFormat::Yuv420p, width, height).expect("size in range");
        let mut planes = surface.planes_mut().expect("own");
        (0..3).for_each(|plane| planes.plane(plane).fill(index as u8));
        FrameItem::new(Frame { stream: StreamId(stream), index, ..Frame::of(surface) })
    }

    #[test]
    fn an_encoder_is_opened_once_for_each_kind_of_frame() {
        let mut maker = ImageMaker::new(ImageOptions::default());
        let sizes = [(1280, 720), (640, 480), (1280, 720)];
        for index in 0..20 {
            for (stream, size) in (0..).zip(sizes) {
                assert!(!maker.make(&frame(stream, index, size)).expect("a picture").jpeg.is_empty());
            }
        }
        assert_eq!(maker.encoder_opens(), 2, "streams of one size share one");
        let small = maker.make(&frame(0, 20, (320, 240))).expect("a picture");
        assert_eq!((small.size, maker.encoder_opens()), ((320, 240), 3), "a stream whose size changes");
        for side in 1..=4 {
            maker.make(&frame(0, 21, (100 * side, 100))).expect("a picture");
        }
        assert_eq!((maker.tools.len(), maker.encoder_opens()), (KEPT_KINDS, 7));
        maker.make(&frame(1, 22, (640, 480))).expect("a picture");
        assert_eq!(maker.encoder_opens(), 8, "what was not used for long has gone");
    }
}
