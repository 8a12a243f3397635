//! Boxes, labels and landmarks drawn into frames, in place, in the frame's own pixel format.

use framerail_core::{BBox, ColorDescription, Detection, DetectionOrigin, HostSurface, Point};

use crate::{
    Region, VisionError,
    color::samples_from_rgb,
    font::{GLYPH_SIDE, rasterise, text_size},
    patch::{ChromaCoverage, paint},
};

/// Colours that are told apart on most pictures, by label number.
const PALETTE: [[u8; 3]; 10] = [
    [255, 196, 0],
    [0, 190, 255],
    [255, 82, 82],
    [76, 217, 100],
    [199, 125, 255],
    [255, 140, 40],
    [64, 224, 208],
    [255, 105, 180],
    [170, 220, 60],
    [120, 150, 255],
];

/// What is drawn of detections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawOptions {
    /// The boxes.
    pub boxes: bool,
    /// Names of the classes, above the boxes.
    pub labels: bool,
    /// Scores in percent.
    pub scores: bool,
    /// Identities, as `#7`.
    pub track_ids: bool,
    /// Landmarks as dots.
    pub landmarks: bool,
    /// Width of lines in pixels; by default one for each 400 pixels of the frame's longer side.
    pub line_width: Option<u32>,
    /// One colour (full-range red, green, blue) for everything; by default one for each class.
    pub rgb: Option<[u8; 3]>,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self { boxes: true, labels: true, scores: true, track_ids: false, landmarks: true, line_width: None, rgb: None }
    }
}

/// The colour of a class, full-range red, green, blue.
pub fn label_rgb(label_id: u32) -> [u8; 3] {
    PALETTE[label_id as usize % PALETTE.len()]
}

/// Draws into one writable surface.
pub struct Canvas<'a> {
    surface: &'a mut HostSurface,
    color: ColorDescription,
}

impl<'a> Canvas<'a> {
    /// A canvas over a writable surface with these colour tags.
    pub fn new(surface: &'a mut HostSurface, color: &ColorDescription) -> Self {
        Self { surface, color: *color }
    }

    /// Width of lines, and scale of text, for a frame of this size.
    pub fn default_line_width(&self) -> u32 {
        self.surface.width().max(self.surface.height()).div_ceil(400)
    }

    fn paint(&mut self, region: Region, coverage: &[u8], rgb: [u8; 3]) -> Result<(), VisionError> {
        let codes = samples_from_rgb(self.surface.format(), &self.color, rgb.map(f32::from));
        paint(self.surface, region, coverage, codes, ChromaCoverage::Mean)
    }

    /// Fills every pixel whose corner a box touches; `opacity` is 0 to 255. Nothing happens outside the frame.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn fill(&mut self, bbox: &BBox, rgb: [u8; 3], opacity: u8) -> Result<(), VisionError> {
        match Region::around(bbox, self.surface.width(), self.surface.height()) {
            Some(region) => self.paint(region, &vec![opacity; region.pixels()], rgb),
            None => Ok(()),
        }
    }

    /// Draws a box's outline, `width` pixels wide, to the inside.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn outline(&mut self, bbox: &BBox, rgb: [u8; 3], width: u32) -> Result<(), VisionError> {
        if !bbox.is_finite() {
            return Ok(());
        }
        let line = width as f32;
        let BBox { x1, y1, x2, y2 } = BBox { x1: bbox.x1.floor(), y1: bbox.y1.floor(), x2: bbox.x2.ceil(), y2: bbox.y2.ceil() };
        let (inner_top, inner_bottom) = ((y1 + line).min(y2), (y2 - line).max(y1));
        self.fill(&BBox::from_xyxy(x1, y1, x2, inner_top), rgb, 255)?;
        self.fill(&BBox::from_xyxy(x1, inner_bottom, x2, y2), rgb, 255)?;
        self.fill(&BBox::from_xyxy(x1, inner_top, (x1 + line).min(x2), inner_bottom), rgb, 255)?;
        self.fill(&BBox::from_xyxy((x2 - line).max(x1), inner_top, x2, inner_bottom), rgb, 255)
    }

    /// Draws a straight line with round ends, smoothed.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn line(&mut self, from: Point, to: Point, rgb: [u8; 3], width: f32) -> Result<(), VisionError> {
        let reach = width / 2.0 + 1.0;
        let bounds =
            BBox { x1: from.x.min(to.x) - reach, y1: from.y.min(to.y) - reach, x2: from.x.max(to.x) + reach, y2: from.y.max(to.y) + reach };
        if ![from.x, from.y, to.x, to.y].iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let Some(region) = Region::around(&bounds, self.surface.width(), self.surface.height()) else { return Ok(()) };
        let mut coverage = Vec::with_capacity(region.pixels());
        for y in region.y..region.y + region.height {
            for x in region.x..region.x + region.width {
                let distance = distance_to_line(Point { x: x as f32 + 0.5, y: y as f32 + 0.5 }, from, to);
                coverage.push(((width / 2.0 - distance + 0.5).clamp(0.0, 1.0) * 255.0) as u8);
            }
        }
        self.paint(region, &coverage, rgb)
    }

    /// Draws a filled circle, smoothed.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn dot(&mut self, center: Point, rgb: [u8; 3], diameter: f32) -> Result<(), VisionError> {
        self.line(center, center, rgb, diameter)
    }

    /// Draws a line of ASCII or Latin-1 text with its top left corner at a pixel; each letter is `8 * scale` pixels wide and high.
    /// Other characters appear as a hollow box; what lies outside the frame is cut off.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn text(&mut self, x: i64, y: i64, text: &str, rgb: [u8; 3], scale: u32) -> Result<(), VisionError> {
        let scale = scale.max(1);
        let (width, height) = text_size(text, scale);
        let (x1, y1) = (x as f32, y as f32);
        let bounds = BBox::from_xyxy(x1, y1, x1 + width as f32, y1 + height as f32);
        let Some(region) = Region::around(&bounds, self.surface.width(), self.surface.height()) else { return Ok(()) };
        let letters = rasterise(text, scale);
        let (skip_x, skip_y) = ((i64::from(region.x) - x) as usize, (i64::from(region.y) - y) as usize);
        let mut coverage = Vec::with_capacity(region.pixels());
        for row in letters.chunks_exact(width as usize).skip(skip_y).take(region.height as usize) {
            coverage.extend(row.iter().skip(skip_x).take(region.width as usize));
        }
        coverage.resize(region.pixels(), 0);
        self.paint(region, &coverage, rgb)
    }

    /// Draws detections; boxes that were filled in (held or interpolated) are half as thick. Non-finite boxes are left out.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn detections(&mut self, detections: &[Detection], options: &DrawOptions) -> Result<(), VisionError> {
        let line_width = options.line_width.unwrap_or_else(|| self.default_line_width()).max(1);
        for detection in detections.iter().filter(|detection| detection.bbox.is_finite()) {
            let rgb = options.rgb.unwrap_or_else(|| label_rgb(detection.label.id));
            if options.boxes {
                let width = if detection.origin == DetectionOrigin::Detected { line_width } else { line_width.div_ceil(2) };
                self.outline(&detection.bbox, rgb, width)?;
            }
            if options.landmarks {
                for &landmark in &detection.landmarks {
                    self.dot(landmark, rgb, line_width as f32 * 2.0 + 1.0)?;
                }
            }
            let caption = caption(detection, options);
            if !caption.is_empty() {
                self.caption(&detection.bbox, &caption, rgb, line_width)?;
            }
        }
        Ok(())
    }

    /// Text on a filled bar above a box, or below its top edge where there is no room above.
    fn caption(&mut self, bbox: &BBox, text: &str, rgb: [u8; 3], scale: u32) -> Result<(), VisionError> {
        let (width, height) = text_size(text, scale);
        let pad = scale as f32;
        let bar_height = height as f32 + 2.0 * pad;
        let top = if bbox.y1 >= bar_height { bbox.y1.floor() - bar_height } else { bbox.y1.floor().max(0.0) };
        let left = bbox.x1.floor().clamp(0.0, (self.surface.width() as f32 - 1.0).max(0.0));
        self.fill(&BBox::from_xyxy(left, top, left + width as f32 + 2.0 * pad, top + bar_height), rgb, 255)?;
        let ink = if luma(rgb) > 128.0 { [0; 3] } else { [255; 3] };
        self.text((left + pad) as i64, (top + pad) as i64, text, ink, scale)
    }
}

fn caption(detection: &Detection, options: &DrawOptions) -> String {
    let name = options.labels.then(|| detection.label.name.to_string());
    let identity = detection.track_id.filter(|_| options.track_ids).map(|id| format!("#{id}"));
    let score = options.scores.then(|| format!("{:.0}%", detection.score * 100.0));
    name.into_iter().chain(identity).chain(score).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn luma(rgb: [u8; 3]) -> f32 {
    0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2])
}

fn distance_to_line(point: Point, from: Point, to: Point) -> f32 {
    let (dx, dy) = (to.x - from.x, to.y - from.y);
    let length_squared = dx * dx + dy * dy;
    let along = ((point.x - from.x) * dx + (point.y - from.y) * dy) / length_squared.max(1e-12);
    let along = along.clamp(0.0, 1.0);
    (point.x - from.x - dx * along).hypot(point.y - from.y - dy * along)
}

/// Height of a line of text in pixels at a scale.
pub fn text_height(scale: u32) -> u32 {
    GLYPH_SIDE * scale.max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::{FramePool, Label, PixelFormat};

    use super::*;
    use crate::test_pictures::{flat, rgb_at};

    fn face(x1: f32, y1: f32, x2: f32, y2: f32) -> Detection {
        let mut face = Detection::new(BBox::from_xyxy(x1, y1, x2, y2), 0.87, Label { id: 1, name: Arc::from("face") });
        face.landmarks = vec![Point { x: (x1 + x2) / 2.0, y: (y1 + y2) / 2.0 }];
        face
    }

    #[test]
    fn outlines_have_their_colour_and_place_in_every_format() {
        for &format in PixelFormat::ALL {
            let color = ColorDescription::default();
            let mut surface = flat(format, 65, 49, [0.0; 3]);
            Canvas::new(&mut surface, &color).outline(&BBox::from_xyxy(10.0, 12.0, 50.0, 40.0), [250; 3], 2).expect("writable");
            for (x, y, lit) in
                [(10, 12, true), (49, 39, true), (11, 20, true), (30, 13, true), (30, 20, false), (8, 20, false), (52, 20, false)]
            {
                let value = rgb_at(&surface, &color, x, y)[1];
                assert_eq!(value > 240.0, lit, "{format} at {x},{y}: {value}");
                assert_eq!(value < 10.0, !lit, "{format} at {x},{y}: {value}");
            }
        }
    }

    #[test]
    fn text_puts_its_pixels_where_the_glyphs_say() {
        let color = ColorDescription::default();
        let mut surface = flat(PixelFormat::Yuv420p10, 80, 40, [20.0, 40.0, 60.0]);
        Canvas::new(&mut surface, &color).text(5, 7, "Hi!", [255; 3], 2).expect("writable");
        let coverage = rasterise("Hi!", 2);
        for y in 0..16 {
            for x in 0..48 {
                let lit = rgb_at(&surface, &color, 5 + x, 7 + y)[1] > 130.0;
                assert_eq!(lit, coverage[y * 48 + x] == 255, "{x},{y}");
            }
        }
    }

    #[test]
    fn odd_boxes_are_drawn_as_far_as_they_show() {
        let color = ColorDescription::default();
        for format in
            [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::P010, PixelFormat::Rgb24, PixelFormat::Gray8, PixelFormat::Yuv411p]
        {
            let mut surface = flat(format, 33, 17, [0.0; 3]);
            let odd = [
                face(-50.0, -50.0, 10.0, 10.0),
                face(30.0, 15.0, 1e9, 1e9),
                face(5.0, 5.0, 5.0, 5.0),
                face(f32::NAN, 0.0, 3.0, 3.0),
                face(-1e30, -1e30, 1e30, 1e30),
                face(20.0, 16.0, 10.0, 2.0),
            ];
            Canvas::new(&mut surface, &color).detections(&odd, &DrawOptions::default()).expect("writable");
            assert!(rgb_at(&surface, &color, 9, 3)[1] > 50.0, "{format}: the first box's right edge");
        }
    }

    #[test]
    fn a_shared_surface_is_refused() {
        let mut surface = FramePool::new(1).surface(PixelFormat::Gray8, 8, 8).expect("size in range");
        let other = surface.clone();
        let color = ColorDescription::default();
        let result = Canvas::new(&mut surface, &color).fill(&BBox::from_xyxy(0.0, 0.0, 4.0, 4.0), [255; 3], 255);
        assert!(matches!(result, Err(VisionError::NotWritable { .. })));
        drop(other);
    }
}
