//! Places forced keyframes on multiples of an interval.

/// Decides which frames must be keyframes.
pub(crate) struct KeyframeClock {
    /// Ticks between keyframes, counted from the first frame; `None` leaves it to the encoder.
    every: Option<i64>,
    first: Option<i64>,
    next: i64,
    /// Makes the next frame a keyframe.
    pub(crate) is_requested: bool,
}

impl KeyframeClock {
    pub(crate) fn new(every: Option<i64>) -> Self {
        Self { every: every.map(|every| every.max(1)), first: None, next: 0, is_requested: false }
    }

    pub(crate) fn is_due(&mut self, pts: i64) -> bool {
        let is_requested = std::mem::take(&mut self.is_requested);
        let Some(every) = self.every else { return is_requested };
        let first = *self.first.get_or_insert(pts);
        let is_due = pts.saturating_sub(first) >= self.next;
        if is_due {
            // Keyframes stay on multiples of the interval, across gaps too.
            self.next = (pts.saturating_sub(first) / every + 1).saturating_mul(every);
        }
        is_due || is_requested
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_fall_on_multiples_of_the_interval() {
        let mut clock = KeyframeClock::new(Some(50));
        let due: Vec<i64> = [100, 120, 149, 150, 160, 330, 340, 350, 399, 401].into_iter().filter(|pts| clock.is_due(*pts)).collect();
        assert_eq!(due, [100, 150, 330, 350, 401], "over a gap too");
        let mut free = KeyframeClock::new(None);
        assert!(!free.is_due(0));
        free.is_requested = true;
        assert!(free.is_due(1) && !free.is_due(2));
    }
}
