//! How many pieces are decoded at once, and how many of their frames may wait: as many as the caller's pace needs.

use std::time::{Duration, Instant};

use crate::parallel::Ahead;

/// How many times as many pieces are decoded when the caller has to wait for a picture.
const RAISED_BY: usize = 4;
/// Frames that each piece may have waiting besides what its turn requires: pictures come out of decoders in bursts.
const SPARE_FRAMES: usize = 8;
/// Waits for pictures after which a caller is known to take whatever all decoders give. Stages that hold frames ask for some at once when
/// they start, and may be slow after that.
const PROVEN_BY: usize = 32;

/// What is known of the caller's pace.
pub(crate) struct Pace {
    ahead: Ahead,
    /// Pieces under way that it needs.
    wanted: usize,
    /// They were raised since the last picture.
    is_raised: bool,
    /// Waits since fewer pieces were wanted.
    waits: usize,
    /// Of the present piece: when its first picture was given, and whether the caller waited for one.
    began: Option<Instant>,
    was_awaited: bool,
}

impl Pace {
    pub(crate) fn new(ahead: Ahead) -> Self {
        let ahead = Ahead { workers: ahead.workers.max(1), ..ahead };
        let wanted = if ahead.adapts { 1 } else { ahead.workers };
        Self { ahead, wanted, is_raised: false, waits: 0, began: None, was_awaited: false }
    }

    /// Pieces that should be under way. Where all workers are busy, one waits for the first that is free.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted + usize::from(self.wanted >= self.ahead.workers)
    }

    /// The caller has to wait for a picture; gives whether further pieces are wanted now.
    pub(crate) fn awaits(&mut self) -> bool {
        self.was_awaited = true;
        if std::mem::replace(&mut self.is_raised, true) {
            return false;
        }
        self.waits += 1;
        let before = self.wanted;
        self.wanted = (self.wanted * RAISED_BY).min(self.ahead.workers);
        self.ahead.adapts && (self.wanted > before || self.waits == PROVEN_BY)
    }

    /// The caller got a picture.
    pub(crate) fn gives(&mut self) {
        self.is_raised = false;
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
    }

    /// A piece that took so long to decode was given to its end; gives whether fewer are wanted now.
    pub(crate) fn ends(&mut self, decoding: Duration) -> bool {
        let taken = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        let was_awaited = std::mem::take(&mut self.was_awaited);
        self.ahead.adapts && !was_awaited && self.lower(decoding, taken)
    }

    /// Pieces are wanted as often as one is decoded while the caller takes another, and one more; not all are given up at once.
    fn lower(&mut self, decoding: Duration, taken: Duration) -> bool {
        let ratio = decoding.as_secs_f64() / taken.as_secs_f64().max(1e-9);
        let needed = if ratio < self.wanted as f64 { ratio.ceil() as usize + 1 } else { self.wanted };
        let is_lower = needed < self.wanted;
        if is_lower {
            self.wanted = needed.max(self.wanted / 2);
            self.waits = 0;
        }
        is_lower
    }

    /// Frames that may wait. Pieces that are begun one after another, and decoded at the same pace, also end one after another: half of
    /// their frames wait. Where the caller takes whatever all decoders give they begin together, and may fill the memory.
    pub(crate) fn limit(&self, longest: usize) -> usize {
        let is_all = !self.ahead.adapts || (self.wanted >= self.ahead.workers && self.waits >= PROVEN_BY);
        let waiting = longest * (self.wanted - 1) / 2 + self.wanted * SPARE_FRAMES;
        if is_all { self.ahead.frames } else { waiting.min(self.ahead.frames) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Ahead { workers: 16, frames: 1000, adapts: true })
    }

    fn takes(pace: &mut Pace, pictures: usize) {
        for _ in 0..pictures {
            pace.awaits();
            pace.awaits();
            pace.gives();
        }
    }

    #[test]
    fn a_fast_caller_has_all_decoders_and_all_memory_soon() {
        let mut pace = pace();
        assert_eq!((pace.wanted(), pace.limit(60)), (1, SPARE_FRAMES));
        takes(&mut pace, 2);
        assert_eq!((pace.wanted(), pace.limit(60)), (17, 450 + 16 * SPARE_FRAMES), "stages hold some frames at the start");
        takes(&mut pace, PROVEN_BY);
        assert_eq!(pace.limit(60), 1000);
        // Pieces that were begun together are all there at once.
        assert!(!pace.lower(Duration::from_millis(600), Duration::from_millis(2)));
        assert_eq!((pace.wanted(), pace.limit(60)), (17, 1000));
    }

    #[test]
    fn a_slow_caller_keeps_what_its_pace_needs() {
        let mut pace = pace();
        takes(&mut pace, PROVEN_BY);
        let piece = |pace: &mut Pace| pace.lower(Duration::from_millis(600), Duration::from_millis(400));
        assert!(piece(&mut pace) && pace.limit(60) < 300, "at once");
        while piece(&mut pace) {}
        assert_eq!(pace.wanted(), 3, "decoding takes 1.5 times as long");
        assert!(pace.limit(60) <= 60 + 3 * SPARE_FRAMES);
    }

    #[test]
    fn on_a_gpu_all_decoders_are_at_work() {
        let mut pace = Pace::new(Ahead { workers: 8, frames: 300, adapts: false });
        assert_eq!((pace.wanted(), pace.limit(60)), (9, 300));
        for _ in 0..=PROVEN_BY {
            assert!(!pace.awaits() && !pace.ends(Duration::ZERO));
            pace.gives();
        }
    }
}
