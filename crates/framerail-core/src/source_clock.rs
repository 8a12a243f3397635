//! One continuous clock for all streams of a source whose timestamps jump back, jump ahead or restart.

use std::collections::BTreeMap;

/// How far a timestamp may be from the previous one without counting as a discontinuity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepLimits {
    /// Maximum jump back, in microseconds.
    pub back_micros: i64,
    /// Maximum jump ahead, in microseconds.
    pub ahead_micros: i64,
    /// Microseconds elapsed since the previous item, if known: items after a discontinuity are not placed earlier than that.
    pub elapsed_micros: i64,
    /// Presentation time of the first item of any track after the discontinuity, if known: it is placed at the end of all tracks.
    pub first_micros: Option<i64>,
}

/// An item's timestamps as the source specifies them, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatedTime {
    /// The time that orders the items of a track: decoding time for video packets.
    pub order: i64,
    /// Presentation time minus `order`.
    pub delay: i64,
    /// Duration.
    pub duration: i64,
}

impl StatedTime {
    /// An item whose presentation order is its arrival order.
    pub fn presented(micros: i64, duration: i64) -> Self {
        Self { order: micros, delay: 0, duration }
    }

    fn end(self) -> i64 {
        self.order.saturating_add(self.duration.max(1))
    }
}

/// The shift of one timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Added to the source's timestamp, in microseconds.
    pub shift_micros: i64,
    /// Whether this item is the first to show a discontinuity.
    pub is_step: bool,
}

/// Tracks the timestamps of one source's streams, each in order. A discontinuity is closed: items after it follow those before it. All
/// streams are shifted by the same amount, each from its first packet after the discontinuity, so they stay in sync.
#[derive(Clone, Debug, Default)]
pub struct SourceClock {
    tracks: BTreeMap<usize, Track>,
    /// Shift after the latest discontinuity.
    shift_micros: i64,
}

#[derive(Clone, Copy, Debug)]
struct Track {
    shift_micros: i64,
    /// Shifted time of the latest item; none since a restart.
    last: Option<i64>,
    /// End of the latest item, by order time.
    end: i64,
    /// End of its presentation.
    shown_end: i64,
}

impl Track {
    fn at(shift_micros: i64) -> Self {
        Self { shift_micros, last: None, end: i64::MIN, shown_end: i64::MIN }
    }
}

impl SourceClock {
    /// Computes the shift of the next item of a track.
    pub fn follow(&mut self, track: usize, time: StatedTime, limits: StepLimits) -> Placed {
        let newest = self.shift_micros;
        let own = self.tracks.get(&track).copied().unwrap_or(Track::at(newest));
        let fits = |shift: i64| {
            own.last.is_none_or(|last| {
                let step = time.order.saturating_add(shift).saturating_sub(last);
                (-limits.back_micros..=limits.ahead_micros).contains(&step)
            })
        };
        let shift =
            if own.last.is_some() && fits(own.shift_micros) { Some(own.shift_micros) } else { Some(newest).filter(|_| fits(newest)) };
        let resumed = || {
            let first = limits.first_micros.unwrap_or(time.order.saturating_add(time.delay));
            let by_wall = own.last.map_or(first, |last| last.saturating_add(limits.elapsed_micros));
            self.end().map_or(by_wall, |end| end.max(by_wall)).saturating_sub(first)
        };
        let shift_micros = shift.unwrap_or_else(resumed);
        self.shift_micros = if shift.is_none() { shift_micros } else { newest };
        self.put(track, time, shift_micros, shift_micros);
        Placed { shift_micros, is_step: shift.is_none() }
    }

    /// Like `follow` for a track with sparse items, such as subtitles: it follows the shifts of other tracks and never causes one.
    pub fn accompany(&mut self, track: usize, micros: i64) -> Placed {
        let now = self.tracks.values().filter_map(|track| track.last).max();
        let own = self.tracks.get(&track).map_or(self.shift_micros, |track| track.shift_micros);
        let distance = |shift: &i64| now.map_or(0, |now| micros.saturating_add(*shift).abs_diff(now));
        let shift_micros = [self.shift_micros, own].into_iter().min_by_key(distance).unwrap_or(own);
        self.tracks.insert(track, Track::at(shift_micros));
        Placed { shift_micros, is_step: false }
    }

    /// Places an item directly after the last one of its track because its timestamp is wrong. Returns the shift.
    pub fn append(&mut self, track: usize, time: StatedTime) -> i64 {
        let own = self.tracks.get(&track).copied().unwrap_or(Track::at(self.shift_micros));
        let moved_by = own.last.map_or(own.shift_micros, |_| own.end.saturating_sub(time.order));
        self.put(track, time, moved_by, own.shift_micros);
        moved_by
    }

    /// Handles a restart of the source: on every track, time `micros` becomes `resume_micros`.
    pub fn begin_again(&mut self, micros: i64, resume_micros: i64) {
        self.set_shift(resume_micros.saturating_sub(micros));
    }

    /// Forgets the positions of all tracks, as after a seek, and shifts timestamps by this amount from now on.
    pub fn set_shift(&mut self, shift_micros: i64) {
        self.tracks.clear();
        self.shift_micros = shift_micros;
    }

    /// Current shift of a track.
    pub fn shift_micros(&self, track: usize) -> i64 {
        self.tracks.get(&track).map_or(self.shift_micros, |track| track.shift_micros)
    }

    /// Shifted time and end of a track's latest item.
    pub fn last(&self, track: usize) -> Option<(i64, i64)> {
        self.tracks.get(&track).and_then(|track| Some((track.last?, track.end)))
    }

    /// Latest presentation end over all tracks, in microseconds.
    pub fn end(&self) -> Option<i64> {
        self.tracks.values().filter(|track| track.last.is_some()).map(|track| track.shown_end).max()
    }

    fn put(&mut self, track: usize, time: StatedTime, moved_by: i64, shift_micros: i64) {
        let moved = time.order.saturating_add(moved_by);
        let end = time.end().saturating_add(moved_by);
        let shown_end = end.saturating_add(time.delay);
        let before = self.tracks.get(&track).copied().filter(|track| track.last.is_some());
        let before = before.unwrap_or(Track { last: Some(moved), end, shown_end, shift_micros });
        let last = before.last.map_or(moved, |last| last.max(moved));
        let entry = Track { shift_micros, last: Some(last), end: before.end.max(end), shown_end: before.shown_end.max(shown_end) };
        self.tracks.insert(track, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StepLimits = StepLimits { back_micros: 1_000, ahead_micros: 10_000, elapsed_micros: 0, first_micros: None };
    const FRAMES: usize = 0;
    const AUDIO: usize = 1;

    fn moved(clock: &mut SourceClock, track: usize, micros: i64) -> (i64, bool) {
        let placed = clock.follow(track, StatedTime::presented(micros, 40), LIMITS);
        (micros + placed.shift_micros, placed.is_step)
    }

    #[test]
    fn all_tracks_make_a_step_by_the_same_time_each_at_its_place() {
        for step in [-50_000, 1_000_000] {
            let mut clock = SourceClock::default();
            assert_eq!(moved(&mut clock, FRAMES, 100_000), (100_000, false));
            assert_eq!(moved(&mut clock, AUDIO, 100_020), (100_020, false));
            assert_eq!(moved(&mut clock, AUDIO, 100_020 + step), (100_060, true), "audio shows it first");
            assert_eq!(moved(&mut clock, FRAMES, 100_040), (100_040, false), "the frames are still before it");
            assert_eq!(moved(&mut clock, FRAMES, 100_000 + step), (100_040, false), "20 before the audio, as ever");
            assert_eq!(moved(&mut clock, AUDIO, 100_060 + step), (100_100, false));
            assert_eq!(clock.accompany(2, 100_070 + step).shift_micros, 40 - step);
        }
    }

    #[test]
    fn what_is_presented_first_goes_on_where_all_tracks_ended() {
        let mut clock = SourceClock::default();
        let frame = |order| StatedTime { order, delay: 80, duration: 40 };
        clock.follow(FRAMES, frame(100_000), LIMITS);
        clock.follow(AUDIO, StatedTime::presented(100_090, 20), LIMITS);
        // The video is presented at 80, the audio beside it at 60.
        let placed = clock.follow(FRAMES, frame(0), StepLimits { first_micros: Some(60), ..LIMITS });
        assert_eq!(placed, Placed { shift_micros: 100_120 - 60, is_step: true }, "the frame before was shown until 100120");
        assert_eq!(moved(&mut clock, AUDIO, 60), (100_120, false));
    }

    #[test]
    fn a_source_that_begins_again_goes_on_where_it_is_put() {
        let mut clock = SourceClock::default();
        moved(&mut clock, FRAMES, 5_000);
        clock.begin_again(70, 9_000);
        assert_eq!([moved(&mut clock, AUDIO, 70), moved(&mut clock, FRAMES, 90)], [(9_000, false), (9_020, false)]);
    }

    #[test]
    fn one_wrong_time_moves_nothing_else() {
        let mut clock = SourceClock::default();
        moved(&mut clock, FRAMES, 5_000);
        assert_eq!(clock.append(FRAMES, StatedTime::presented(90_000, 40)), 5_040 - 90_000);
        assert_eq!(moved(&mut clock, FRAMES, 5_080), (5_080, false));
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        let mut clock = SourceClock::default();
        for micros in [i64::MAX, i64::MIN, 0, i64::MAX, -1] {
            clock.follow(FRAMES, StatedTime { order: micros, delay: micros, duration: i64::MAX }, LIMITS);
            clock.append(AUDIO, StatedTime::presented(micros, i64::MIN));
            clock.accompany(2, micros);
        }
    }
}
