//! The pixel aspect ratio of a stream.

use crate::Rational;

/// Ratios beyond this are treated as a broken tag; no real format uses them.
const MAX_RATIO: f32 = 16.0;

/// Width over height of one pixel, from the stream's sample aspect ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PixelAspect(f32);

impl PixelAspect {
    /// Square pixels.
    pub const SQUARE: Self = Self(1.0);

    /// Converts a sample aspect ratio. Unknown ratios and those beyond 1:16 or 16:1 count as square.
    pub fn of(ratio: Option<Rational>) -> Self {
        let ratio = ratio.map_or(1.0, |ratio| ratio.as_f64() as f32);
        if (1.0 / MAX_RATIO..=MAX_RATIO).contains(&ratio) { Self(ratio) } else { Self::SQUARE }
    }

    /// Width over height.
    pub fn ratio(self) -> f32 {
        self.0
    }

    /// Display size in square pixels. One side is stretched and neither shrinks, so no detail is lost.
    pub fn square_size(self, width: u32, height: u32) -> (u32, u32) {
        let stretched = |side: u32, by: f32| (side as f32 * by).round().max(1.0) as u32;
        if self.0 >= 1.0 { (stretched(width, self.0), height) } else { (width, stretched(height, 1.0 / self.0)) }
    }
}

impl Default for PixelAspect {
    fn default() -> Self {
        Self::SQUARE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_grow_to_square_pixels() {
        let square = |num, den, width, height| PixelAspect::of(Rational::new(num, den)).square_size(width, height);
        assert_eq!(square(1, 1, 640, 480), (640, 480));
        assert_eq!(square(2, 1, 352, 576), (704, 576));
        assert_eq!(square(12, 11, 720, 576), (785, 576));
        assert_eq!(square(1, 2, 720, 240), (720, 480));
        assert_eq!(square(1, 1000, 720, 576), (720, 576), "a broken tag");
        assert_eq!(PixelAspect::of(None).square_size(1, 1), (1, 1));
    }
}
