//! What is kept for the next user, thinned out slowly.
//!
//! Giving a decoder back to the driver stops all other work on the card for about 15 ms. Where many streams end at once, one
//! after the other would hold up those that go on for a second and more; so there is a pause between two.

use std::time::{Duration, Instant};

/// Kept in the long run, however large.
const FEW: usize = 16;
/// Bytes of those that are kept in the long run beyond that: files of several kinds need decoders of each.
const FEW_BYTES: u64 = 768 << 20;
/// Beyond this many there is no pause.
const MANY: usize = 128;
/// The pause between two that are let go.
const PAUSE: Duration = Duration::from_millis(100);

/// Things kept, the longest unused first.
pub(super) struct Shelf<T> {
    kept: Vec<T>,
    let_go: Option<Instant>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), let_go: None }
    }
}

impl<T> Shelf<T> {
    /// The one used last that fits.
    pub(super) fn take(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let place = self.kept.iter().rposition(fits)?;
        Some(self.kept.remove(place))
    }

    pub(super) fn put(&mut self, kept: T) {
        self.kept.push(kept);
    }

    /// One that is too many and may be let go now.
    pub(super) fn excess(&mut self, now: Instant, bytes: impl Fn(&T) -> u64) -> Option<T> {
        let is_time = self.let_go.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE);
        let are_few = self.kept.len() <= FEW || self.kept.iter().map(bytes).sum::<u64>() <= FEW_BYTES;
        let are_many = self.kept.len() > MANY;
        if (are_few || !is_time) && !are_many {
            return None;
        }
        self.let_go = Some(now);
        Some(self.kept.remove(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is as large as all may be.
    fn large(_: &i32) -> u64 {
        FEW_BYTES
    }

    #[test]
    fn small_ones_are_kept_by_their_bytes() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        let small = |_: &i32| 10 << 20;
        (0..76).for_each(|number| shelf.put(number));
        assert_eq!(shelf.excess(now, small), None, "760 MiB");
        shelf.put(76);
        assert_eq!((shelf.excess(now, small), shelf.excess(now + PAUSE, small)), (Some(0), None));
    }

    #[test]
    fn the_longest_unused_are_let_go_with_a_pause_between_two() {
        let (mut shelf, start) = (Shelf::default(), Instant::now());
        for number in 0..20 {
            shelf.put(number);
        }
        assert_eq!(shelf.excess(start, large), Some(0));
        assert_eq!(shelf.excess(start + PAUSE / 2, large), None);
        assert_eq!(shelf.excess(start + PAUSE, large), Some(1));
        assert_eq!(shelf.excess(start + PAUSE * 2, large), Some(2));
        assert_eq!(shelf.excess(start + PAUSE * 3, large), Some(3));
        assert_eq!(shelf.excess(start + PAUSE * 4, large), None, "as many as are kept in the long run");
        assert_eq!(shelf.take(|number| *number < 10), Some(9), "the one used last that fits");
        assert_eq!(shelf.take(|number| *number < 4), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        let let_go = (0..1000).filter(|number| {
            shelf.put(*number);
            shelf.excess(now, large).is_some()
        });
        assert!(let_go.count() >= 1000 - MANY);
    }
}
