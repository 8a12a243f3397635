//! One unbroken run of timestamps and numbers for a stream whose source is opened again, or whose clock leaps.

use std::time::{Duration, Instant};

use framerail_core::{Frame, Packet, Pts, TimeBase};

/// A step ahead of the wall clock by more than this is a clock that leapt.
const JUMP: Duration = Duration::from_secs(5);

/// Follows the frames of one stream.
pub(super) struct Continuity {
    is_live: bool,
    base: Option<TimeBase>,
    /// Ticks added to every timestamp.
    shift: i64,
    last: Option<(Pts, Instant)>,
    /// Ticks from the frame before the last to the last.
    step: i64,
    /// Added to frame numbers since the source was last opened.
    first_index: u64,
    next_index: u64,
    is_reopened: bool,
}

impl Continuity {
    pub(super) fn new(is_live: bool) -> Self {
        Self { is_live, base: None, shift: 0, last: None, step: 1, first_index: 0, next_index: 0, is_reopened: false }
    }

    /// The source was opened again: its numbers and clock begin anew.
    pub(super) fn reopened(&mut self) {
        self.first_index = self.next_index;
        self.is_reopened = self.last.is_some();
    }

    /// Puts a frame behind the one before it; says whether the source's clock leapt.
    pub(super) fn frame(&mut self, frame: &mut Frame, now: Instant) -> bool {
        let base = *self.base.get_or_insert(frame.time_base);
        if frame.time_base != base {
            frame.pts = Pts(frame.time_base.rescale(frame.pts.0, base));
            frame.duration = frame.duration.map(|ticks| frame.time_base.rescale(ticks, base));
            frame.time_base = base;
        }
        let jumped = self.settle_shift(frame.pts, base, now);
        frame.pts = Pts(frame.pts.0.saturating_add(self.shift));
        if let Some((last, _)) = self.last
            && (self.is_live || self.shift != 0)
        {
            frame.pts = Pts(frame.pts.0.max(last.0.saturating_add(1)));
            self.step = frame.pts.0.saturating_sub(last.0).max(1);
        }
        frame.index = frame.index.saturating_add(self.first_index);
        self.next_index = frame.index.saturating_add(1);
        self.last = Some((frame.pts, now));
        jumped
    }

    /// Moves the clock where it began anew or leapt.
    fn settle_shift(&mut self, pts: Pts, base: TimeBase, now: Instant) -> bool {
        let Some((last, seen)) = self.last else { return false };
        let elapsed = base.ticks((now - seen).as_secs_f64());
        let step = pts.0.saturating_add(self.shift).saturating_sub(last.0);
        // A step back would be a leap too; decoders' clocks have made it good before.
        let jumped = self.is_live && !self.is_reopened && step > elapsed.saturating_add(base.ticks(JUMP.as_secs_f64()));
        if jumped || self.is_reopened {
            let resumed = last.0.saturating_add(elapsed.max(self.step));
            self.shift = resumed.saturating_sub(pts.0);
            self.is_reopened = false;
        }
        jumped
    }

    /// Moves a packet beside the frames as they were moved.
    pub(super) fn packet(&self, packet: &mut Packet) {
        if let Some(base) = self.base.filter(|_| self.shift != 0) {
            let shift = base.rescale(self.shift, packet.time_base);
            packet.pts = packet.pts.map(|pts| Pts(pts.0.saturating_add(shift)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, engine::worker::tests::gray_item};

    fn frame(index: u64, pts_secs: f64) -> Frame {
        match gray_item(index) {
            Item::Frame(item) => Frame { pts: Pts((pts_secs * 1e6) as i64), ..item.frame },
            _ => unreachable!("a frame"),
        }
    }

    fn feed(continuity: &mut Continuity, index: u64, pts_secs: f64, now: Instant) -> (u64, f64, bool) {
        let mut frame = frame(index, pts_secs);
        let jumped = continuity.frame(&mut frame, now);
        (frame.index, frame.seconds(), jumped)
    }

    #[test]
    fn a_source_opened_again_goes_on_by_the_wall_clock() {
        let (start, mut continuity) = (Instant::now(), Continuity::new(true));
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        assert_eq!(feed(&mut continuity, 0, 100.0, at(0.0)), (0, 100.0, false));
        assert_eq!(feed(&mut continuity, 1, 100.5, at(0.5)), (1, 100.5, false));
        continuity.reopened();
        assert_eq!(feed(&mut continuity, 0, 7.0, at(3.5)), (2, 103.5, false));
        assert_eq!(feed(&mut continuity, 1, 7.5, at(4.0)), (3, 104.0, false));
    }

    #[test]
    fn a_leap_is_told_from_a_pause_and_from_a_burst() {
        let (start, mut continuity) = (Instant::now(), Continuity::new(true));
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        feed(&mut continuity, 0, 0.0, at(0.0));
        assert_eq!(feed(&mut continuity, 1, 20.0, at(20.0)), (1, 20.0, false), "a camera that paused");
        assert_eq!(feed(&mut continuity, 2, 23.0, at(20.01)), (2, 23.0, false), "a burst");
        assert_eq!(feed(&mut continuity, 3, 9000.0, at(20.5)), (3, 26.0, true), "the clock leapt");
        assert_eq!(feed(&mut continuity, 4, 9000.5, at(21.0)), (4, 26.5, false));
    }

    #[test]
    fn files_keep_their_own_times() {
        let (now, mut continuity) = (Instant::now(), Continuity::new(false));
        for (index, secs) in [(0, -1.0), (1, 5000.0), (7, 5000.5)] {
            assert_eq!(feed(&mut continuity, index, secs, now), (index, secs, false));
        }
    }
}
