//! Movement of the camera between two frames.

use super::boxes::Corners;

/// A rotation, scaling and shift from the pixels of one frame to those of the next.
///
/// `x' = cos * x - sin * y + shift_x`, `y' = sin * x + cos * y + shift_y`, where `cos` and `sin` include the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CameraMotion {
    /// Cosine of the rotation, times the scale.
    pub cos: f64,
    /// Sine of the rotation, times the scale.
    pub sin: f64,
    /// Pixels to the right.
    pub shift_x: f64,
    /// Pixels down.
    pub shift_y: f64,
}

impl CameraMotion {
    /// A camera at rest.
    pub const NONE: Self = Self { cos: 1.0, sin: 0.0, shift_x: 0.0, shift_y: 0.0 };

    /// Factor of lengths.
    pub fn scale(&self) -> f64 {
        self.cos.hypot(self.sin)
    }

    /// Maps a point.
    pub fn point(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (x, y) = self.vector((x, y));
        (x + self.shift_x, y + self.shift_y)
    }

    /// Maps a difference of two points.
    pub(crate) fn vector(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (self.cos * x - self.sin * y, self.sin * x + self.cos * y)
    }

    /// Moves and scales a box; boxes stay upright.
    pub(super) fn corners(&self, corners: &Corners) -> Corners {
        let scale = self.scale();
        Corners::from_center(self.point(corners.center()), corners.width() * scale, corners.height() * scale)
    }
}
