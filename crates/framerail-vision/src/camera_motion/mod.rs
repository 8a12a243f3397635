//! Estimates how the image moves when the camera does: sparse optical flow and a robust similarity.

mod corners;
mod fit;
mod flow;
mod gray;

use framerail_core::{BBox, HostSurface};

use self::gray::{Gray, shrink_factor};
use crate::track::CameraMotion;

/// Estimates the movement between consecutive frames of one stream, from their luma (green for RGB).
///
/// Sources: J. Shi and C. Tomasi, Good Features to Track, 1994; J.-Y. Bouguet, Pyramidal Implementation of the Lucas Kanade Feature
/// Tracker, 2000; M. Fischler and R. Bolles, Random Sample Consensus, 1981. BoT-SORT uses the same steps.
#[derive(Clone, Debug, Default)]
pub struct CameraMotionEstimator {
    last: Option<Last>,
}

#[derive(Clone, Debug)]
struct Last {
    size: (u32, u32),
    pyramid: Vec<Gray>,
}

impl CameraMotionEstimator {
    /// The movement since the previous frame. Points inside `moving`, boxes of objects on that frame, are not used. `None` for the first
    /// frame, when the size changes, and where too few points agree, as at a cut or in front of a blank wall.
    pub fn motion(&mut self, surface: &HostSurface, moving: &[BBox]) -> Option<CameraMotion> {
        let size = (surface.width(), surface.height());
        let factor = shrink_factor(size);
        let pyramid = Gray::pyramid(Gray::shrunk(surface, factor));
        let last = self.last.replace(Last { size, pyramid })?;
        let now = &self.last.as_ref()?.pyramid;
        if last.size != size {
            return None;
        }
        let scale = factor as f32;
        let is_still = |x: f32, y: f32| {
            let (x, y) = (x * scale, y * scale);
            !moving.iter().any(|bbox| (bbox.x1..=bbox.x2).contains(&x) && (bbox.y1..=bbox.y2).contains(&y))
        };
        let points: Vec<(f32, f32)> =
            corners::corners(last.pyramid.first()?).into_iter().filter(|(x, y)| is_still(x + 0.5, y + 0.5)).collect();
        let pairs: Vec<((f32, f32), (f32, f32))> =
            points.into_iter().filter_map(|from| Some((from, flow::follow(&last.pyramid, now, from)?))).collect();
        fit::similarity(&pairs).map(|motion| enlarged(motion, f64::from(scale)))
    }

    /// Forgets the previous frame.
    pub fn forget(&mut self) {
        self.last = None;
    }
}

/// The movement in frame pixels, from one in the centres of cells of `factor` pixels.
fn enlarged(motion: CameraMotion, factor: f64) -> CameraMotion {
    // Cell (0, 0) has its centre half a cell from the corner of the frame.
    let (x, y) = motion.vector((0.5, 0.5));
    let shift = |shift: f64, turned: f64| (shift + 0.5 - turned) * factor;
    CameraMotion { shift_x: shift(motion.shift_x, x), shift_y: shift(motion.shift_y, y), ..motion }
}

#[cfg(test)]
mod tests {
    use framerail_core::{FramePool, PixelFormat};

    use super::*;

    const WIDTH: u32 = 400;
    const HEIGHT: u32 = 224;

    /// Noise at a point of an endless plane, 0 to 1: coarse and fine, as images are.
    fn plane(x: f64, y: f64) -> f64 {
        0.4 * noise(x, y, 11.0) + 0.3 * noise(x, y, 40.0) + 0.3 * noise(x, y, 130.0)
    }

    fn noise(x: f64, y: f64, cell_pixels: f64) -> f64 {
        let cell = |x: i64, y: i64| {
            let mut state = (x.wrapping_mul(0x9e37_79b9) ^ y.wrapping_mul(0x85eb_ca6b)) as u64;
            state = (state ^ (state >> 15)).wrapping_mul(0x2c1b_3c6d_1b87_3593);
            f64::from(((state >> 40) & 0xff) as u8) / 255.0
        };
        let (x, y) = (x / cell_pixels, y / cell_pixels);
        let (left, top) = (x.floor(), y.floor());
        let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
        let (across, down) = (smooth(x - left), smooth(y - top));
        let (left, top) = (left as i64, top as i64);
        let row = |y: i64| cell(left, y) * (1.0 - across) + cell(left + 1, y) * across;
        row(top) * (1.0 - down) + row(top + 1) * down
    }

    /// The plane as a camera shows it: a point of the first frame is at `motion.point` now. Values are of `format`'s depth.
    fn frame(format: PixelFormat, motion: &CameraMotion, thing: Option<BBox>) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, WIDTH, HEIGHT).expect("size in range");
        let mut planes = surface.planes_mut().expect("fresh memory");
        let square = motion.scale().powi(2);
        for y in 0..HEIGHT {
            let row = planes.row(0, y as usize);
            for x in 0..WIDTH {
                let (right, down) = (f64::from(x) + 0.5 - motion.shift_x, f64::from(y) + 0.5 - motion.shift_y);
                let from = ((motion.cos * right + motion.sin * down) / square, (motion.cos * down - motion.sin * right) / square);
                let inside = thing.is_some_and(|it| (it.x1..it.x2).contains(&(x as f32)) && (it.y1..it.y2).contains(&(y as f32)));
                let value = if inside {
                    plane(f64::from(x) + 5000.0 - f64::from(thing.map_or(0.0, |it| it.x1)), f64::from(y))
                } else {
                    plane(from.0, from.1)
                };
                match format.sample_bytes() {
                    1 => row[x as usize] = (value * 255.0) as u8,
                    _ => row[2 * x as usize..][..2].copy_from_slice(&((value * 1023.0) as u16).to_le_bytes()),
                }
            }
        }
        surface
    }

    /// The largest error at a corner of the frame, in pixels.
    fn error(found: &CameraMotion, wanted: &CameraMotion) -> f64 {
        let corners = [(0.0, 0.0), (f64::from(WIDTH), 0.0), (0.0, f64::from(HEIGHT)), (f64::from(WIDTH), f64::from(HEIGHT))];
        let far = |corner| {
            let (a, b) = (found.point(corner), wanted.point(corner));
            (a.0 - b.0).hypot(a.1 - b.1)
        };
        corners.into_iter().map(far).fold(0.0, f64::max)
    }

    fn turned(degrees: f64, scale: f64, shift_x: f64, shift_y: f64) -> CameraMotion {
        let (sin, cos) = degrees.to_radians().sin_cos();
        CameraMotion { cos: cos * scale, sin: sin * scale, shift_x, shift_y }
    }

    #[test]
    fn pans_turns_and_zooms_are_found_to_a_fraction_of_a_pixel() {
        let motions = [
            CameraMotion::NONE,
            turned(0.0, 1.0, 17.3, -6.6),
            turned(0.0, 1.0, -31.0, 12.0),
            turned(1.5, 1.0, 9.0, 3.0),
            turned(-0.8, 1.03, -4.0, 5.0),
        ];
        for (format, motions) in [(PixelFormat::Gray8, &motions[..]), (PixelFormat::Yuv420p10, &motions[4..])] {
            let still = frame(format, &CameraMotion::NONE, None);
            for motion in motions {
                let mut estimator = CameraMotionEstimator::default();
                assert_eq!(estimator.motion(&still, &[]), None);
                let found = estimator.motion(&frame(format, motion, None), &[]).expect("texture everywhere");
                assert!(error(&found, motion) < 0.5, "{format:?}: {found:?} for {motion:?}");
            }
        }
    }

    #[test]
    fn a_large_thing_that_moves_by_itself_does_not_mislead() {
        let (before, after) = (BBox::from_xyxy(80.0, 30.0, 300.0, 200.0), BBox::from_xyxy(100.0, 30.0, 320.0, 200.0));
        let motion = turned(0.0, 1.0, -7.0, 2.0);
        let mut estimator = CameraMotionEstimator::default();
        estimator.motion(&frame(PixelFormat::Gray8, &CameraMotion::NONE, Some(before)), &[]);
        let found = estimator.motion(&frame(PixelFormat::Gray8, &motion, Some(after)), &[before]).expect("texture around it");
        assert!(error(&found, &motion) < 0.5, "{found:?}");
    }

    #[test]
    fn blank_frames_cuts_and_new_sizes_have_no_motion() {
        let mut estimator = CameraMotionEstimator::default();
        let pool = FramePool::new(4);
        let blank = |width, height| pool.surface(PixelFormat::Gray8, width, height).expect("size in range");
        assert_eq!(estimator.motion(&blank(400, 224), &[]), None);
        assert_eq!(estimator.motion(&blank(400, 224), &[]), None);
        assert_eq!(estimator.motion(&blank(8, 6), &[]), None);
        assert_eq!(estimator.motion(&blank(1, 1), &[]), None);
        assert_eq!(estimator.motion(&blank(1, 1), &[]), None);
        let far_away = turned(0.0, 1.0, 9000.0, 7000.0);
        estimator.motion(&frame(PixelFormat::Gray8, &CameraMotion::NONE, None), &[]);
        assert_eq!(estimator.motion(&frame(PixelFormat::Gray8, &far_away, None), &[]), None, "a cut");
    }
}
