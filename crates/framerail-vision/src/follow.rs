//! Follows objects by their appearance over frames in which a detector does not find them.

use std::collections::HashMap;

use framerail_core::{BBox, HostSurface, Point};

use crate::histogram_plan;

/// Side of a template in samples, whatever the size of the object.
const SIDE: usize = 24;
/// Side of a template relative to the larger side of the box: hair and chin lie beyond a face detector's box.
const CONTEXT: f32 = 1.25;
/// Samples by which the object may have moved from the guess, on each side: more than half a template.
const RANGE: usize = 14;
/// Points per sample and axis at most: more is not needed to avoid aliasing that matters.
const MAX_POINTS: usize = 3;
/// Minimum correlation with the last template, from -1 to 1.
const MIN_CORRELATION: f32 = 0.6;
/// What the farthest place in range loses against the guess.
const DISTANCE_COST: f32 = 0.1;
/// Minimum standard deviation of a template in steps of 8 bits: a flat one fits everywhere.
const MIN_CONTRAST: f32 = 4.0;

/// Templates of the objects of a stream, and the search for them in the next frame.
///
/// Works on luma (green for RGB), scaled so that every object has the same size, inside the circle around the box. A template is the
/// object as it was last seen or followed, so that it may turn slowly. Changes of size are not followed.
#[derive(Clone, Debug, Default)]
pub struct Follower {
    templates: HashMap<u64, Template>,
}

#[derive(Clone, Debug)]
struct Template {
    /// `SIDE` rows of `SIDE` samples, with the mean of those in the circle subtracted.
    samples: Vec<f32>,
    /// Square root of the sum of squares in the circle.
    norm: f32,
}

impl Follower {
    /// Stores how an object looks.
    pub fn see(&mut self, id: u64, surface: &HostSurface, bbox: &BBox) {
        let grid = Grid::around(bbox, SIDE);
        match Template::new(grid.samples(surface)) {
            Some(template) => drop(self.templates.insert(id, template)),
            None => drop(self.templates.remove(&id)),
        }
    }

    /// Searches an object near a guess and returns its box there, of the guess's size. `None` if nothing resembles it enough, it was
    /// never seen, or its centre has left the frame.
    pub fn follow(&mut self, id: u64, surface: &HostSurface, guess: &BBox) -> Option<BBox> {
        let template = self.templates.get(&id)?;
        let grid = Grid::around(guess, SIDE + 2 * RANGE);
        let window = grid.samples(surface);
        let (dx, dy) = template.search(&window)?;
        let offset = |step: usize| (step as f32 - RANGE as f32) * grid.pitch;
        let bbox = crate::link::shifted(guess, offset(dx), offset(dy));
        let center = bbox.center();
        let is_inside = center.x >= 0.0 && center.y >= 0.0 && center.x < surface.width() as f32 && center.y < surface.height() as f32;
        if !is_inside {
            return None;
        }
        self.see(id, surface, &bbox);
        Some(bbox)
    }

    /// Forgets all objects but these.
    pub fn retain(&mut self, mut keep: impl FnMut(u64) -> bool) {
        self.templates.retain(|id, _| keep(*id));
    }
}

/// Whether a sample of a template lies in the circle.
fn in_circle(x: usize, y: usize) -> bool {
    let from_center = |place: usize| place as f32 + 0.5 - SIDE as f32 / 2.0;
    from_center(x).powi(2) + from_center(y).powi(2) <= (SIDE as f32 / 2.0).powi(2)
}

impl Template {
    fn new(mut samples: Vec<f32>) -> Option<Self> {
        let inside: Vec<f32> = (0..SIDE * SIDE).filter(|at| in_circle(at % SIDE, at / SIDE)).map(|at| samples[at]).collect();
        let mean = inside.iter().sum::<f32>() / inside.len() as f32;
        let norm = inside.iter().map(|value| (value - mean).powi(2)).sum::<f32>().sqrt();
        samples.iter_mut().for_each(|value| *value -= mean);
        (norm >= MIN_CONTRAST * (inside.len() as f32).sqrt()).then_some(Self { samples, norm })
    }

    /// The place of the best match in a window of `SIDE + 2 * RANGE` samples, in samples from its top left.
    fn search(&self, window: &[f32]) -> Option<(usize, usize)> {
        let score = |x: usize, y: usize| {
            let far = |place: usize| (place as f32 - RANGE as f32) / RANGE as f32;
            let correlation = self.correlation(window, x, y);
            (correlation - DISTANCE_COST * (far(x).powi(2) + far(y).powi(2)).min(1.0), correlation)
        };
        let best = |places: &mut dyn Iterator<Item = (usize, usize)>| {
            places.map(|(x, y)| (score(x, y), (x, y))).max_by(|a, b| a.0.0.total_cmp(&b.0.0))
        };
        let places = 0..=2 * RANGE;
        let (_, (x, y)) = best(&mut places.clone().step_by(2).flat_map(|y| places.clone().step_by(2).map(move |x| (x, y))))?;
        let near = |place: usize| place.saturating_sub(1)..=(place + 1).min(2 * RANGE);
        let ((_, correlation), place) = best(&mut near(y).flat_map(|y| near(x).map(move |x| (x, y))))?;
        (correlation >= MIN_CORRELATION).then_some(place)
    }

    /// Normalised correlation with the part of a window that begins at a sample.
    fn correlation(&self, window: &[f32], left: usize, top: usize) -> f32 {
        let (mut sum, mut squares, mut product, mut count) = (0.0_f32, 0.0_f32, 0.0_f32, 0.0_f32);
        for y in 0..SIDE {
            let row = &window[(top + y) * (SIDE + 2 * RANGE) + left..][..SIDE];
            for (x, value) in row.iter().enumerate().filter(|(x, _)| in_circle(*x, y)) {
                sum += value;
                squares += value * value;
                product += value * self.samples[y * SIDE + x];
                count += 1.0;
            }
        }
        // The template's mean is zero, so that of the window needs no subtraction in the product.
        let norm = (squares - sum * sum / count).max(0.0).sqrt();
        if norm > 0.0 { product / (norm * self.norm) } else { 0.0 }
    }
}

/// A square grid of samples over a frame.
struct Grid {
    center: Point,
    /// Pixels per sample.
    pitch: f32,
    /// Samples per side.
    side: usize,
}

impl Grid {
    fn around(bbox: &BBox, side: usize) -> Self {
        let pitch = bbox.width().max(bbox.height()) * CONTEXT / SIDE as f32;
        Self { center: bbox.center(), pitch, side }
    }

    /// Mean luma per sample, 0 to 255, row by row; the frame's border continues outside.
    fn samples(&self, surface: &HostSurface) -> Vec<f32> {
        let format = surface.format();
        let place = format.components()[histogram_plan(format).component];
        let shift = place.shift + format.bits() - 8;
        let is_wide = format.sample_bytes() > 1;
        let points = (self.pitch.ceil() as usize).clamp(1, MAX_POINTS);
        // Pixel positions of all points of a row or column.
        let positions = |center: f32, size: u32| -> Vec<usize> {
            let first = center - self.pitch * self.side as f32 / 2.0;
            let position = |at: usize| (first + self.pitch * (at as f32 + 0.5) / points as f32).floor();
            (0..self.side * points).map(|at| position(at).clamp(0.0, size.saturating_sub(1) as f32) as usize).collect()
        };
        let columns = positions(self.center.x, surface.width());
        let rows = positions(self.center.y, surface.height());
        let mut sums = vec![0_u32; self.side * self.side];
        for (at, y) in rows.iter().enumerate() {
            let row = surface.row(place.plane, *y);
            let line = &mut sums[at / points * self.side..][..self.side];
            for (at, x) in columns.iter().enumerate() {
                let sample = &row[x * place.step_bytes + place.offset_bytes..];
                let low = u32::from(sample[0]);
                line[at / points] += if is_wide { (low | u32::from(sample[1]) << 8) >> shift } else { low };
            }
        }
        let count = (points * points) as f32;
        sums.into_iter().map(|sum| sum as f32 / count).collect()
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorDescription, FramePool, PixelFormat};

    use super::*;
    use crate::{Canvas, test_images::noisy};

    /// A patterned square of 40 pixels on noise.
    fn image(format: PixelFormat, x: f32, y: f32) -> HostSurface {
        let mut surface = noisy(format, 200, 120);
        let color = ColorDescription::default();
        let mut canvas = Canvas::new(&mut surface, &color);
        let mut fill = |left: f32, top: f32, width: f32, height: f32, rgb: [u8; 3]| {
            let bbox = BBox::from_xyxy(x + left, y + top, x + left + width, y + top + height);
            canvas.fill(&bbox, rgb, 255).expect("writable");
        };
        fill(0.0, 0.0, 40.0, 40.0, [60; 3]);
        fill(6.0, 8.0, 10.0, 8.0, [220; 3]);
        fill(24.0, 10.0, 10.0, 6.0, [180; 3]);
        fill(10.0, 26.0, 20.0, 6.0, [140; 3]);
        surface
    }

    fn at(x: f32, y: f32) -> BBox {
        BBox::from_xyxy(x, y, x + 40.0, y + 40.0)
    }

    #[test]
    fn a_moving_object_is_followed_in_every_format() {
        for &format in PixelFormat::ALL {
            let mut follower = Follower::default();
            follower.see(1, &image(format, 40.0, 30.0), &at(40.0, 30.0));
            let mut last = at(40.0, 30.0);
            for step in 1..=6 {
                let (x, y) = (40.0 + 10.0 * step as f32, 30.0 + 4.0 * step as f32);
                last = follower.follow(1, &image(format, x, y), &last).unwrap_or_else(|| panic!("{format}: lost at {step}"));
                let (found, expected) = (last.center(), at(x, y).center());
                assert!((found.x - expected.x).abs() < 3.0 && (found.y - expected.y).abs() < 3.0, "{format}: {found:?} {expected:?}");
            }
        }
    }

    #[test]
    fn what_is_gone_flat_or_unknown_is_not_followed() {
        let format = PixelFormat::Yuv420p;
        let mut follower = Follower::default();
        let scene = image(format, 40.0, 30.0);
        assert_eq!(follower.follow(1, &scene, &at(40.0, 30.0)), None, "never seen");
        follower.see(1, &scene, &at(40.0, 30.0));
        assert_eq!(follower.clone().follow(1, &image(format, 150.0, 70.0), &at(40.0, 30.0)), None, "out of range");
        let flat = FramePool::new(1).surface(format, 200, 120).expect("a surface");
        assert_eq!(follower.clone().follow(1, &flat, &at(40.0, 30.0)), None);
        follower.retain(|_| false);
        assert_eq!(follower.follow(1, &scene, &at(40.0, 30.0)), None, "forgotten");
        follower.see(1, &flat, &at(40.0, 30.0));
        assert_eq!(follower.follow(1, &scene, &at(40.0, 30.0)), None, "nothing to recognise");
    }

    #[test]
    fn boxes_beyond_the_frame_and_of_no_size_are_safe() {
        let mut follower = Follower::default();
        let scene = image(PixelFormat::Yuv420p, 40.0, 30.0);
        for bbox in [at(-30.0, -35.0), at(190.0, 110.0), at(4000.0, -900.0), BBox::from_xyxy(5.0, 5.0, 5.0, 5.0)] {
            follower.see(1, &scene, &bbox);
            let _ = follower.follow(1, &scene, &bbox);
        }
        assert_eq!(follower.follow(1, &scene, &at(4000.0, 30.0)), None, "outside of the frame");
    }
}
