//! The strokes to draw into a frame, computed but not painted: for a canvas on the host, or for a device.

use std::sync::Arc;

use framerail_core::{BBox, ColorDescription, Detection, DetectionOrigin, PixelFormat, Point, Region, Stroke, StrokeShape};

use crate::{
    Letters, MaskOptions, TextBlock,
    color::samples_from_rgb,
    contour::Contour,
    described::{classes_of, landmarks_of, parts_of},
    font::{glyphs, rasterise_glyphs, text_size},
};

/// Colours that stand out on most frames, by label number.
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

/// What each colour stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ColorBy {
    /// A class.
    #[default]
    Class,
    /// An identity; detections without one are coloured by class.
    Track,
}

/// What is drawn for detections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrawOptions {
    /// Boxes.
    pub boxes: bool,
    /// Class names, above the boxes.
    pub labels: bool,
    /// Scores in percent.
    pub scores: bool,
    /// Identities, as `#7`.
    pub track_ids: bool,
    /// Landmarks as dots.
    pub landmarks: bool,
    /// Contours, tinted and outlined: the area that [`crate::MaskShape::Contour`] hides, without growth.
    pub masks: bool,
    /// Line width in pixels; default: one per 400 pixels of the frame's longer side.
    pub line_width: Option<u32>,
    /// One colour (full-range red, green, blue) for everything; default: by `color_by`.
    pub rgb: Option<[u8; 3]>,
    /// What colours stand for.
    pub color_by: ColorBy,
}

impl Default for DrawOptions {
    fn default() -> Self {
        Self {
            boxes: true,
            labels: true,
            scores: true,
            track_ids: false,
            landmarks: true,
            masks: true,
            line_width: None,
            rgb: None,
            color_by: ColorBy::Class,
        }
    }
}

/// Returns the colour of a class as full-range red, green, blue.
pub fn label_rgb(label_id: u32) -> [u8; 3] {
    PALETTE[label_id as usize % PALETTE.len()]
}

/// Strokes for one frame, in painting order.
#[derive(Clone, Debug)]
pub struct Sketch {
    width: u32,
    height: u32,
    format: PixelFormat,
    color: ColorDescription,
    strokes: Vec<Stroke>,
    /// Renders text; without it, the bitmap font is used.
    letters: Option<Arc<dyn Letters>>,
}

impl Sketch {
    /// Creates an empty sketch for frames of this size, format and colour.
    pub fn new((width, height): (u32, u32), format: PixelFormat, color: &ColorDescription) -> Self {
        Self { width, height, format, color: *color, strokes: Vec::new(), letters: None }
    }

    /// Renders text in an outline font.
    #[must_use]
    pub fn with_letters(self, letters: &Arc<dyn Letters>) -> Self {
        Self { letters: Some(Arc::clone(letters)), ..self }
    }

    /// The strokes in painting order.
    pub fn strokes(&self) -> &[Stroke] {
        &self.strokes
    }

    /// Default line width and text scale for a frame of this size.
    pub fn default_line_width(&self) -> u32 {
        self.width.max(self.height).div_ceil(400)
    }

    /// Width and height of the frames.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Draws a contour, tinted and outlined.
    fn contour(&mut self, contour: &Contour, rgb: [u8; 3], line_width: u32) {
        if let Some(raster) = contour.tinted(f64::from(line_width), (self.width, self.height)) {
            let codes = samples_from_rgb(self.format, &self.color, rgb.map(f32::from));
            self.strokes.push(Stroke { region: raster.region, shape: StrokeShape::Raster(raster.coverage), codes });
        }
    }

    fn stroke(&mut self, bounds: &BBox, rgb: [u8; 3], shape: StrokeShape) {
        if let Some(region) = Region::around(bounds, self.width, self.height) {
            let codes = samples_from_rgb(self.format, &self.color, rgb.map(f32::from));
            self.strokes.push(Stroke { region, shape, codes });
        }
    }

    /// Fills every pixel that a box touches; `opacity` is 0 to 255.
    pub fn fill(&mut self, bbox: &BBox, rgb: [u8; 3], opacity: u8) {
        self.stroke(bbox, rgb, StrokeShape::Flat(opacity));
    }

    /// Draws a box's outline, `width` pixels wide, inside the box.
    pub fn outline(&mut self, bbox: &BBox, rgb: [u8; 3], width: u32) {
        if !bbox.is_finite() {
            return;
        }
        let line = width as f32;
        let BBox { x1, y1, x2, y2 } = BBox { x1: bbox.x1.floor(), y1: bbox.y1.floor(), x2: bbox.x2.ceil(), y2: bbox.y2.ceil() };
        let (inner_top, inner_bottom) = ((y1 + line).min(y2), (y2 - line).max(y1));
        self.fill(&BBox::from_xyxy(x1, y1, x2, inner_top), rgb, 255);
        self.fill(&BBox::from_xyxy(x1, inner_bottom, x2, y2), rgb, 255);
        self.fill(&BBox::from_xyxy(x1, inner_top, (x1 + line).min(x2), inner_bottom), rgb, 255);
        self.fill(&BBox::from_xyxy((x2 - line).max(x1), inner_top, x2, inner_bottom), rgb, 255);
    }

    /// Draws an antialiased straight line with round ends.
    pub fn line(&mut self, from: Point, to: Point, rgb: [u8; 3], width: f32) {
        if ![from.x, from.y, to.x, to.y].iter().all(|value| value.is_finite()) {
            return;
        }
        let reach = width / 2.0 + 1.0;
        let bounds =
            BBox { x1: from.x.min(to.x) - reach, y1: from.y.min(to.y) - reach, x2: from.x.max(to.x) + reach, y2: from.y.max(to.y) + reach };
        self.stroke(&bounds, rgb, StrokeShape::Line { from, to, width });
    }

    /// Draws antialiased lines from each point to the next, and from the last to the first.
    pub fn polygon(&mut self, points: &[Point], rgb: [u8; 3], width: f32) {
        for (from, to) in points.iter().zip(points.iter().cycle().skip(1)) {
            self.line(*from, *to, rgb, width);
        }
    }

    /// Draws an antialiased filled circle.
    pub fn dot(&mut self, center: Point, rgb: [u8; 3], diameter: f32) {
        self.line(center, center, rgb, diameter);
    }

    /// Draws a line of text with its top left corner at (`x`, `y`). The bitmap font has ASCII and Latin-1, each letter `8 * scale` pixels
    /// wide and high; other characters appear as a hollow box.
    pub fn text(&mut self, x: i64, y: i64, text: &str, rgb: [u8; 3], scale: u32) {
        let scale = scale.max(1);
        if let Some(letters) = &self.letters {
            let block = letters.line(text, line_pixels(scale));
            self.text_block(x, y, &block, rgb);
            return;
        }
        let (width, height) = text_size(text, scale);
        let (x1, y1) = (x as f32, y as f32);
        let bounds = BBox::from_xyxy(x1, y1, x1 + width as f32, y1 + height as f32);
        self.stroke(&bounds, rgb, StrokeShape::Text { x, y, scale, glyphs: glyphs(text) });
    }

    /// Width and height of a line of text in pixels.
    pub fn text_size(&self, text: &str, scale: u32) -> (u32, u32) {
        match &self.letters {
            Some(letters) => {
                let block = letters.line(text, line_pixels(scale.max(1)));
                (block.width, block.height)
            }
            None => text_size(text, scale),
        }
    }

    /// Draws rendered text with its top left corner at (`x`, `y`). Pixels outside the frame are cut off.
    pub fn text_block(&mut self, x: i64, y: i64, block: &TextBlock, rgb: [u8; 3]) {
        let inside = |at: i64, length: u32, side: u32| (at.clamp(0, side.into()), (at + i64::from(length)).clamp(0, side.into()));
        let ((left, right), (top, bottom)) = (inside(x, block.width, self.width), inside(y, block.height, self.height));
        if left >= right || top >= bottom {
            return;
        }
        let region = Region { x: left as u32, y: top as u32, width: (right - left) as u32, height: (bottom - top) as u32 };
        let coverage: Arc<[u8]> = if (region.width, region.height) == (block.width, block.height) {
            Arc::clone(&block.coverage)
        } else {
            let (skip_x, skip_y) = ((left - x) as usize, (top - y) as usize);
            let rows = block.coverage.chunks_exact(block.width as usize).skip(skip_y).take(region.height as usize);
            rows.flat_map(|row| row.iter().skip(skip_x).take(region.width as usize).copied()).collect()
        };
        let codes = samples_from_rgb(self.format, &self.color, rgb.map(f32::from));
        self.strokes.push(Stroke { region, shape: StrokeShape::Raster(coverage), codes });
    }

    /// Draws detections. Lines of held or interpolated boxes are half as thick. Non-finite boxes are skipped.
    pub fn detections(&mut self, detections: &[Detection], options: &DrawOptions) {
        let line_width = options.line_width.unwrap_or_else(|| self.default_line_width()).max(1);
        for detection in detections.iter().filter(|detection| detection.bbox.is_finite()) {
            let rgb = options.rgb.unwrap_or_else(|| color_of(detection, options.color_by));
            let width = if detection.origin == DetectionOrigin::Detected { line_width } else { line_width.div_ceil(2) };
            if options.masks
                && let Ok(contour) = Contour::of(detection, MaskOptions::default().contour_share)
            {
                self.contour(&contour, rgb, width);
            }
            match detection.oriented.filter(|_| options.boxes) {
                Some(oriented) => self.polygon(&oriented.corners(), rgb, width as f32),
                None if options.boxes => self.outline(&detection.bbox, rgb, width),
                None => {}
            }
            if options.landmarks {
                for landmark in landmarks_of(detection) {
                    self.dot(landmark, rgb, line_width as f32 * 2.0 + 1.0);
                }
            }
            let caption = caption(detection, options);
            if !caption.is_empty() {
                self.caption(&detection.bbox, &caption, rgb, line_width);
            }
            parts_of(detection).for_each(|parts| self.detections(parts, options));
        }
    }

    /// Draws text on a filled bar above a box, or below its top edge where there is no room above. It is whole if the frame is wide enough.
    fn caption(&mut self, bbox: &BBox, text: &str, rgb: [u8; 3], scale: u32) {
        let (width, height) = self.text_size(text, scale);
        let pad = scale as f32;
        let bar_height = height as f32 + 2.0 * pad;
        let top = if bbox.y1 >= bar_height { bbox.y1.floor() - bar_height } else { bbox.y1.floor().max(0.0) };
        let bar_width = width as f32 + 2.0 * pad;
        // Moved to the left where it would extend beyond the frame.
        let left = bbox.x1.floor().clamp(0.0, (self.width as f32 - bar_width).max(0.0));
        self.fill(&BBox::from_xyxy(left, top, left + bar_width, top + bar_height), rgb, 255);
        let ink = if luma(rgb) > 128.0 { [0; 3] } else { [255; 3] };
        self.text((left + pad) as i64, (top + pad) as i64, text, ink, scale);
    }
}

/// Height of a line of text in an outline font where the bitmap font has `8 * scale`: outline letters are thinner, and need a
/// minimum height to be readable.
fn line_pixels(scale: u32) -> u32 {
    (scale * 9).max(13)
}

pub(crate) fn color_of(detection: &Detection, by: ColorBy) -> [u8; 3] {
    let track = detection.track_id.filter(|_| by == ColorBy::Track);
    // Identities count from 1, classes from 0.
    label_rgb(track.map_or(detection.label.id, |id| (id.saturating_sub(1) % u64::from(u32::MAX)) as u32))
}

fn caption(detection: &Detection, options: &DrawOptions) -> String {
    let name = options.labels.then(|| detection.label.name.to_string());
    let identity = detection.track_id.filter(|_| options.track_ids).map(|id| format!("#{id}"));
    let score = options.scores.then(|| format!("{:.0}%", detection.score * 100.0));
    let words = classes_of(&detection.attributes, options);
    name.into_iter().chain(identity).chain(score).chain(words).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
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

/// Coverage of the region's pixels, row by row.
pub(crate) fn coverage(stroke: &Stroke) -> Vec<u8> {
    let Region { x: left, y: top, width, height } = stroke.region;
    match &stroke.shape {
        StrokeShape::Flat(opacity) => vec![*opacity; stroke.region.pixels()],
        StrokeShape::Raster(coverage) => coverage.to_vec(),
        StrokeShape::Line { from, to, width: line } => {
            let mut coverage = Vec::with_capacity(stroke.region.pixels());
            for y in top..top + height {
                for x in left..left + width {
                    let distance = distance_to_line(Point { x: x as f32 + 0.5, y: y as f32 + 0.5 }, *from, *to);
                    coverage.push(((line / 2.0 - distance + 0.5).clamp(0.0, 1.0) * 255.0) as u8);
                }
            }
            coverage
        }
        StrokeShape::Text { x, y, scale, glyphs } => {
            let letters = rasterise_glyphs(glyphs, *scale);
            let row_pixels = (glyphs.len() * 8 * *scale as usize).max(1);
            let (skip_x, skip_y) = ((i64::from(left) - x) as usize, (i64::from(top) - y) as usize);
            let mut coverage = Vec::with_capacity(stroke.region.pixels());
            for row in letters.chunks_exact(row_pixels).skip(skip_y).take(height as usize) {
                coverage.extend(row.iter().skip(skip_x).take(width as usize));
            }
            coverage.resize(stroke.region.pixels(), 0);
            coverage
        }
    }
}
