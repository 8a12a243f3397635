//! Presentation time in integer ticks. Seconds appear only at the edges (command line, records, Python).

use serde::{Deserialize, Serialize};

/// A fraction of two integers, as containers store frame rates and aspect ratios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rational {
    /// Numerator.
    pub num: i64,
    /// Denominator; never zero when made by [`Rational::new`].
    pub den: i64,
}

impl Rational {
    /// A fraction, or `None` when the denominator is zero.
    pub fn new(num: i64, den: i64) -> Option<Self> {
        (den != 0).then_some(Self { num, den })
    }

    /// The fraction as a float.
    pub fn as_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// Whether both parts are positive, as required of a frame rate or aspect ratio.
    pub fn is_positive(self) -> bool {
        self.num > 0 && self.den > 0
    }
}

impl std::fmt::Display for Rational {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.den == 1 { write!(f, "{}", self.num) } else { write!(f, "{}/{}", self.num, self.den) }
    }
}

/// Seconds per tick of a stream's timestamps; both parts are above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeBase(Rational);

impl TimeBase {
    /// One tick per millisecond.
    pub const MILLIS: TimeBase = TimeBase(Rational { num: 1, den: 1_000 });

    /// One tick per microsecond.
    pub const MICROS: TimeBase = TimeBase(Rational { num: 1, den: 1_000_000 });

    /// `num/den` seconds per tick, or `None` unless both are above zero.
    pub fn new(num: i64, den: i64) -> Option<Self> {
        let ratio = Rational { num, den };
        ratio.is_positive().then_some(Self(ratio))
    }

    /// The fraction itself.
    pub fn ratio(self) -> Rational {
        self.0
    }

    /// Converts ticks to seconds.
    pub fn seconds(self, ticks: i64) -> f64 {
        ticks as f64 * self.0.num as f64 / self.0.den as f64
    }

    /// The tick nearest to a time in seconds.
    pub fn ticks(self, seconds: f64) -> i64 {
        (seconds * self.0.den as f64 / self.0.num as f64).round() as i64
    }

    /// Converts ticks to another time base, rounding half away from zero.
    pub fn rescale(self, ticks: i64, to: TimeBase) -> i64 {
        let num = ticks as i128 * self.0.num as i128 * to.0.den as i128;
        let den = self.0.den as i128 * to.0.num as i128;
        let half = if num < 0 { -den / 2 } else { den / 2 };
        let scaled = (num + half) / den;
        scaled.clamp(i64::MIN as i128, i64::MAX as i128) as i64
    }
}

impl std::fmt::Display for TimeBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A presentation timestamp in ticks of its stream's [`TimeBase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pts(pub i64);

impl Pts {
    /// The timestamp in seconds.
    pub fn seconds(self, time_base: TimeBase) -> f64 {
        time_base.seconds(self.0)
    }
}

impl std::fmt::Display for Pts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(num: i64, den: i64) -> TimeBase {
        TimeBase::new(num, den).expect("valid time base")
    }

    #[test]
    fn rescale_rounds_half_away_from_zero() {
        let (from, to) = (base(1, 10), base(1, 4));
        assert_eq!(from.rescale(1, to), 0);
        assert_eq!(base(1, 2).rescale(1, base(1, 1)), 1);
        assert_eq!(base(1, 2).rescale(-1, base(1, 1)), -1);
    }

    #[test]
    fn rescale_survives_extreme_ticks() {
        assert_eq!(base(1, 1).rescale(i64::MAX, base(1, 90_000)), i64::MAX);
    }

    #[test]
    fn seconds_and_ticks_are_inverse() {
        let tb = base(1, 12_800);
        assert_eq!(tb.ticks(tb.seconds(98_765)), 98_765);
    }

    #[test]
    fn a_zero_or_negative_time_base_is_refused() {
        assert!(TimeBase::new(0, 25).is_none());
        assert!(TimeBase::new(1, 0).is_none());
        assert!(TimeBase::new(1, -25).is_none());
    }
}
