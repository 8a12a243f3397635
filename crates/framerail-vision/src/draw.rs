//! Draws boxes, labels and landmarks into frames, in place, in the frame's own pixel format.

use framerail_core::{BBox, ColorDescription, Detection, HostSurface, Point};

use crate::{
    DrawOptions, Sketch, VisionError,
    font::GLYPH_SIDE,
    patch::{ChromaCoverage, paint},
    sketch::coverage,
};

/// Draws into one writable surface. Paints the same strokes as a [`Sketch`] with the same calls.
pub struct Canvas<'a> {
    surface: &'a mut HostSurface,
    color: ColorDescription,
}

impl<'a> Canvas<'a> {
    /// Creates a canvas over a writable surface with these colour tags.
    pub fn new(surface: &'a mut HostSurface, color: &ColorDescription) -> Self {
        Self { surface, color: *color }
    }

    /// Default line width and text scale for a frame of this size.
    pub fn default_line_width(&self) -> u32 {
        self.sketch().default_line_width()
    }

    fn sketch(&self) -> Sketch {
        Sketch::new((self.surface.width(), self.surface.height()), self.surface.format(), &self.color)
    }

    /// Paints a sketch, which must be made for this surface's size and format.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn paint(&mut self, sketch: &Sketch) -> Result<(), VisionError> {
        for stroke in sketch.strokes() {
            paint(self.surface, stroke.region, &coverage(stroke), stroke.codes, ChromaCoverage::Mean)?;
        }
        Ok(())
    }

    fn draw(&mut self, draw: impl FnOnce(&mut Sketch)) -> Result<(), VisionError> {
        let mut sketch = self.sketch();
        draw(&mut sketch);
        self.paint(&sketch)
    }

    /// Fills every pixel that a box touches; `opacity` is 0 to 255. Has no effect outside the frame.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn fill(&mut self, bbox: &BBox, rgb: [u8; 3], opacity: u8) -> Result<(), VisionError> {
        self.draw(|sketch| sketch.fill(bbox, rgb, opacity))
    }

    /// Draws a box's outline, `width` pixels wide, inside the box.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn outline(&mut self, bbox: &BBox, rgb: [u8; 3], width: u32) -> Result<(), VisionError> {
        self.draw(|sketch| sketch.outline(bbox, rgb, width))
    }

    /// Draws an antialiased straight line with round ends.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn line(&mut self, from: Point, to: Point, rgb: [u8; 3], width: f32) -> Result<(), VisionError> {
        self.draw(|sketch| sketch.line(from, to, rgb, width))
    }

    /// Draws an antialiased filled circle.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn dot(&mut self, center: Point, rgb: [u8; 3], diameter: f32) -> Result<(), VisionError> {
        self.draw(|sketch| sketch.dot(center, rgb, diameter))
    }

    /// Draws a line of ASCII or Latin-1 text with its top left corner at (`x`, `y`); each letter is `8 * scale` pixels wide and high.
    /// Other characters appear as a hollow box. Pixels outside the frame are cut off.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn text(&mut self, x: i64, y: i64, text: &str, rgb: [u8; 3], scale: u32) -> Result<(), VisionError> {
        self.draw(|sketch| sketch.text(x, y, text, rgb, scale))
    }

    /// Draws detections. Lines of held or interpolated boxes are half as thick. Non-finite boxes are skipped.
    ///
    /// # Errors
    /// `NotWritable` when the surface is shared or read-only.
    pub fn detections(&mut self, detections: &[Detection], options: &DrawOptions) -> Result<(), VisionError> {
        self.draw(|sketch| sketch.detections(detections, options))
    }
}

/// Height of a line of text in pixels at a scale.
pub fn text_height(scale: u32) -> u32 {
    GLYPH_SIDE * scale.max(1)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::{Attribute, AttributeValue, FramePool, InstanceMask, Label, PixelFormat};

    use super::*;
    use crate::{
        ColorBy,
        font::rasterise,
        test_images::{flat, rgb_at},
    };

    fn face(x1: f32, y1: f32, x2: f32, y2: f32) -> Detection {
        let mut face = Detection::new(BBox::from_xyxy(x1, y1, x2, y2), 0.87, Label { id: 1, name: Arc::from("face") });
        face.landmarks = vec![Point { x: (x1 + x2) / 2.0, y: (y1 + y2) / 2.0 }];
        face
    }

    #[test]
    fn poses_have_bones_and_rotated_boxes_their_own_sides() {
        let mut surface = flat(PixelFormat::Rgb24, 100, 80, [0.0; 3]);
        let mut person = face(10.0, 10.0, 90.0, 70.0);
        person.landmarks = vec![Point { x: 20.0, y: 20.0 }, Point { x: 80.0, y: 20.0 }, Point { x: f32::NAN, y: 0.0 }];
        let oriented = framerail_core::OrientedBox { center: Point { x: 50.0, y: 40.0 }, width: 60.0, height: 20.0, angle: 0.5 };
        person.oriented = Some(oriented);
        let skeleton = framerail_core::Skeleton { points: 3, bones: vec![[0, 1], [1, 2], [0, 9]] };
        let options = DrawOptions { labels: false, scores: false, rgb: Some([255; 3]), line_width: Some(2), ..Default::default() };
        let mut canvas = Canvas::new(&mut surface, &ColorDescription::default());
        canvas
            .draw(|sketch| {
                sketch.skeletons(std::slice::from_ref(&person), &[skeleton], &options);
                sketch.detections(&[person.clone()], &options);
            })
            .expect("writable");
        let lit = |x: f32, y: f32| rgb_at(&surface, &ColorDescription::default(), x as usize, y as usize)[1] > 100.0;
        assert!(lit(50.0, 20.0), "the bone");
        let corners = oriented.corners();
        for (from, to) in corners.iter().zip(corners.iter().cycle().skip(1)) {
            assert!(lit((from.x + to.x) / 2.0, (from.y + to.y) / 2.0), "a side of the rotated box");
        }
        assert!(!lit(50.0, 10.0) && !lit(10.0, 40.0), "no upright box");
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
    fn a_caption_ends_within_the_frame() {
        let color = ColorDescription::default();
        let mut surface = flat(PixelFormat::Rgb24, 200, 60, [0.0; 3]);
        let options = DrawOptions { boxes: false, landmarks: false, line_width: Some(1), rgb: Some([255; 3]), ..Default::default() };
        // "face 87%": 8 letters of 8 pixels, and a pixel on each side.
        Canvas::new(&mut surface, &color).detections(&[face(190.0, 30.0, 240.0, 50.0)], &options).expect("writable");
        let lit = |x| rgb_at(&surface, &color, x, 20)[1] > 200.0;
        assert_eq!([lit(133), lit(134), lit(199)], [false, true, true]);
    }

    #[test]
    fn a_mask_is_tinted_and_has_an_outline_in_the_colour_of_its_track() {
        let color = ColorDescription::default();
        let mut face = Detection { track_id: Some(2), landmarks: Vec::new(), ..face(10.0, 8.0, 50.0, 40.0) };
        // The left half of the box.
        let mask = InstanceMask::new(face.bbox, 2, 1, vec![255, 0]).expect("a mask");
        face.attributes = vec![Attribute { model: "second".into(), value: AttributeValue::Mask(Arc::new(mask)) }];
        let options = DrawOptions { boxes: false, labels: false, scores: false, line_width: Some(2), ..Default::default() };
        let drawn = |options: DrawOptions, face: &Detection| {
            let mut surface = flat(PixelFormat::Rgb24, 64, 48, [0.0; 3]);
            Canvas::new(&mut surface, &color).detections(std::slice::from_ref(face), &options).expect("writable");
            move |x, y| rgb_at(&surface, &color, x, y)
        };
        let [blue, red] = [[0.0, 190.0, 255.0], [255.0, 82.0, 82.0]];
        let by_class = drawn(options, &face);
        assert_eq!([by_class(10, 20), by_class(11, 20), by_class(28, 20), by_class(29, 20)], [blue; 4], "the outline");
        assert_eq!([by_class(20, 8), by_class(20, 39)], [blue; 2]);
        let tint = by_class(20, 20);
        assert!(tint[2] > 80.0 && tint[2] < 100.0, "{tint:?}");
        assert_eq!([by_class(31, 20), by_class(9, 20), by_class(20, 7)], [[0.0; 3]; 3]);
        assert_eq!(drawn(DrawOptions { color_by: ColorBy::Track, ..options }, &face)(10, 20), blue);
        face.track_id = Some(3);
        assert_eq!(drawn(DrawOptions { color_by: ColorBy::Track, ..options }, &face)(10, 20), red);
        assert_eq!(drawn(DrawOptions { masks: false, ..options }, &face)(20, 20), [0.0; 3]);
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
