//! Repairs missing, duplicate and backward timestamps, so that they strictly increase.

use framerail_core::{Rational, TimeBase};

/// A step back of more than this many frames is a clock reset, not jitter.
const SLIP_FRAMES: i64 = 8;

/// Tracks and repairs the timestamps of one stream.
pub struct Clock {
    /// Frame duration in ticks at the stream's rate; at least 1.
    nominal: i64,
    last: Option<i64>,
    last_duration: Option<i64>,
    /// Added to timestamps since the last clock reset.
    offset: i64,
}

/// A timestamp, and whether it was repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Ticks; greater than all previous ones.
    pub pts: i64,
    /// Whether it was missing, a duplicate or backward, or follows a clock reset.
    pub is_repaired: bool,
}

impl Clock {
    /// Creates a clock for a stream with this time base and frame rate.
    pub fn new(time_base: TimeBase, frame_rate: Option<Rational>) -> Self {
        let nominal = frame_rate.filter(|rate| rate.is_positive()).map_or(1, |rate| time_base.ticks(1.0 / rate.as_f64()));
        Self { nominal: nominal.max(1), last: None, last_duration: None, offset: 0 }
    }

    /// Returns the next frame's timestamp, from the PTS and duration that the decoder reports.
    pub fn stamp(&mut self, pts: Option<i64>, duration: Option<i64>) -> Stamp {
        let stated = pts.map(|pts| pts.saturating_add(self.offset));
        let stamp = match (stated, self.last) {
            (Some(pts), None) => Stamp { pts, is_repaired: false },
            (Some(pts), Some(last)) if pts > last => Stamp { pts, is_repaired: self.offset != 0 },
            (Some(pts), Some(last)) => Stamp { pts: self.after(last, pts), is_repaired: true },
            (None, last) => Stamp { pts: last.map_or(0, |last| last.saturating_add(self.step())), is_repaired: true },
        };
        self.last = Some(stamp.pts);
        self.last_duration = duration.filter(|duration| *duration > 0);
        stamp
    }

    /// Returns a timestamp after the last frame for one stated at or before it.
    fn after(&mut self, last: i64, pts: i64) -> i64 {
        let back = last.saturating_sub(pts);
        if back <= self.nominal.saturating_mul(SLIP_FRAMES) {
            // Jitter: move it as little as possible, so that the following frames keep their own times.
            return last.saturating_add(1);
        }
        let resumed = last.saturating_add(self.step());
        self.offset = self.offset.saturating_add(resumed.saturating_sub(pts));
        resumed
    }

    fn step(&self) -> i64 {
        self.last_duration.unwrap_or(self.nominal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stamps: &[Option<i64>]) -> (Vec<i64>, usize) {
        let mut clock = Clock::new(TimeBase::new(1, 250).expect("valid"), Rational::new(25, 1));
        let out: Vec<Stamp> = stamps.iter().map(|pts| clock.stamp(*pts, None)).collect();
        (out.iter().map(|stamp| stamp.pts).collect(), out.iter().filter(|stamp| stamp.is_repaired).count())
    }

    #[test]
    fn audio_timestamps_pass() {
        assert_eq!(run(&[Some(-5), Some(5), Some(17), Some(400)]), (vec![-5, 5, 17, 400], 0));
    }

    #[test]
    fn missing_ones_follow_the_rate() {
        assert_eq!(run(&[None, None, Some(30), None]), (vec![0, 10, 30, 40], 3));
    }

    #[test]
    fn doubled_ones_move_least() {
        assert_eq!(run(&[Some(0), Some(10), Some(10), Some(20)]), (vec![0, 10, 11, 20], 1));
    }

    #[test]
    fn a_clock_set_back_goes_on() {
        assert_eq!(run(&[Some(1000), Some(1010), Some(0), Some(10)]), (vec![1000, 1010, 1020, 1030], 2));
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let (pts, _) = run(&[Some(i64::MAX - 1), Some(i64::MIN + 1), None]);
        assert_eq!(pts[0], i64::MAX - 1);
    }
}
