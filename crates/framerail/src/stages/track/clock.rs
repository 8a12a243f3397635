//! Distance of two frames of a stream, in units of its frame duration.

use framerail_core::{Frame, Rational};

/// Rates above this are a container's clock, not a camera's.
const GREATEST_RATE: f64 = 1000.0;

/// Times this near to whole frames count as whole frames: containers and cameras round.
const ROUNDING_FRAMES: f64 = 0.1;

/// Measures the time since the previous frame, by timestamps if the stream's rate is known, else by frame numbers.
#[derive(Clone, Debug)]
pub(super) struct FrameClock {
    rate: Option<f64>,
    /// Seconds and number of the last frame.
    last: Option<(f64, u64)>,
}

impl FrameClock {
    pub(super) fn new(rate: Option<Rational>) -> Self {
        let rate = rate.filter(|rate| rate.is_positive()).map(Rational::as_f64).filter(|rate| *rate <= GREATEST_RATE);
        Self { rate, last: None }
    }

    /// The stream's rate, or a typical one.
    pub(super) fn frames_per_second(&self) -> f64 {
        self.rate.unwrap_or(30.0)
    }

    /// Frames since the last call, above 0; 1 for the first.
    pub(super) fn frames_since_last(&mut self, frame: &Frame) -> f64 {
        let (seconds, index) = (frame.seconds(), frame.index);
        let Some((last_seconds, last_index)) = self.last.replace((seconds, index)) else { return 1.0 };
        let by_number = index.saturating_sub(last_index).max(1) as f64;
        match self.rate.map(|rate| (seconds - last_seconds) * rate) {
            Some(frames) if frames.is_finite() && frames > 0.0 => {
                let whole = frames.round().max(1.0);
                if (frames - whole).abs() < ROUNDING_FRAMES { whole } else { frames }
            }
            _ => by_number,
        }
    }
}
