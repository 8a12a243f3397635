//! A cache of decoders that is trimmed slowly.
//!
//! Destroying a decoder stops all other work on the GPU for about 15 ms. If many streams end at once, destroying them in a
//! row would stall the remaining ones for a second or more, so there is a pause between two.

use std::time::{Duration, Instant};

/// Number kept permanently, whatever their size.
const FEW: usize = 16;
/// Bytes kept permanently beyond that number: files of several kinds need separate decoders.
const FEW_BYTES: u64 = 768 << 20;
/// Above this number there is no pause.
const MANY: usize = 128;
/// Pause between two removals.
const PAUSE: Duration = Duration::from_millis(100);

/// Cached items, least recently used first.
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
    /// Takes the most recently used item that fits.
    pub(super) fn take(&mut self, fits: impl Fn(&T) -> bool) -> Option<T> {
        let place = self.kept.iter().rposition(fits)?;
        Some(self.kept.remove(place))
    }

    pub(super) fn put(&mut self, kept: T) {
        self.kept.push(kept);
    }

    /// Takes an item that exceeds the limits, if it may be removed now.
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

    /// Each is as large as the whole limit.
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
