//! Adapts the number of pieces decoded at once, and of frames that may wait, to the pace of the caller.

use std::time::{Duration, Instant};

use crate::parallel::Ahead;

/// Factor by which the number of pieces grows when the caller has to wait for a frame.
const RAISED_BY: usize = 4;
/// Frames that each piece may have waiting in addition to what its turn requires: decoders output frames in bursts.
const SPARE_FRAMES: usize = 8;
/// Number of waits after which a caller is considered fast enough for the output of all decoders. Stages that hold frames request several
/// at once when they start, and may be slow after that.
const PROVEN_BY: usize = 32;

/// Measured pace of the caller.
pub(crate) struct Pace {
    ahead: Ahead,
    /// Number of pieces in progress that the caller needs.
    wanted: usize,
    /// Whether `wanted` was raised since the last frame.
    is_raised: bool,
    /// Waits since `wanted` was last lowered.
    waits: usize,
    /// For the current piece: when its first frame was returned, and whether the caller waited for one.
    began: Option<Instant>,
    was_awaited: bool,
}

impl Pace {
    pub(crate) fn new(ahead: Ahead) -> Self {
        let ahead = Ahead { workers: ahead.workers.max(1), ..ahead };
        let wanted = if ahead.adapts { 1 } else { ahead.workers };
        Self { ahead, wanted, is_raised: false, waits: 0, began: None, was_awaited: false }
    }

    /// Number of pieces that should be in progress. When all workers are busy, one more waits for the first free worker.
    pub(crate) fn wanted(&self) -> usize {
        self.wanted + usize::from(self.wanted >= self.ahead.workers)
    }

    /// Records that the caller waits for a frame; returns whether more pieces are wanted now.
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

    /// Records that the caller got a frame.
    pub(crate) fn gives(&mut self) {
        self.is_raised = false;
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
    }

    /// Records that a piece, which took `decoding` to decode, was returned completely; returns whether fewer are wanted now.
    pub(crate) fn ends(&mut self, decoding: Duration) -> bool {
        let taken = self.began.take().map_or(Duration::ZERO, |began| began.elapsed());
        let was_awaited = std::mem::take(&mut self.was_awaited);
        self.ahead.adapts && !was_awaited && self.lower(decoding, taken)
    }

    /// Wanted pieces: decoding time of a piece over the time in which the caller consumes one, plus one. At most halved per piece.
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

    /// Maximum number of waiting frames. Pieces that start one after another and decode at the same pace also end one after another, so
    /// half of their frames wait. If the caller is fast enough for all decoders, pieces start together and may fill the memory.
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

    fn takes(pace: &mut Pace, images: usize) {
        for _ in 0..images {
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
        // Pieces that were started together finish together.
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
