//! Keeps timestamps and frame numbers continuous when the source of a stream is reopened or its clock jumps.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use framerail_core::{Frame, MediaKind, Packet, Placed, Pts, SideStream, SourceClock, StatedTime, StepLimits, TimeBase};

/// A step further ahead of the wall clock than this is a clock jump.
const JUMP: Duration = Duration::from_secs(5);
/// A step back by more than this is a clock that was set back.
const STEP_BACK: Duration = Duration::from_secs(1);
/// The track of the frames; side streams follow.
const FRAMES: usize = 0;

/// Tracks the frames and packets of one stream.
pub(super) struct Continuity {
    is_live: bool,
    base: Option<TimeBase>,
    clock: SourceClock,
    /// Arrival of the latest item of each track.
    seen: BTreeMap<usize, Instant>,
    last_frame: Option<Pts>,
    /// Ticks between the last two frames.
    step: i64,
    /// Added to frame numbers since the source was last opened.
    first_index: u64,
    next_index: u64,
    /// The side streams as stated at the start of the stream.
    sides: Vec<SideStream>,
    /// Maps each side stream of the current connection to one of them; `None` if it did not exist at the start.
    places: Vec<Option<usize>>,
    /// Packets since the source was reopened. They wait for its first frame: the earliest timestamp of all continues the stream.
    held: Option<Vec<Packet>>,
}

/// What happened to a packet.
pub(super) enum Followed {
    /// It is passed on.
    Now(Packet),
    /// It follows with the next frame.
    Held,
    /// Its stream did not exist when the source was first opened.
    LeftOut,
}

impl Continuity {
    pub(super) fn new(is_live: bool) -> Self {
        Self {
            is_live,
            base: None,
            clock: SourceClock::default(),
            seen: BTreeMap::new(),
            last_frame: None,
            step: 1,
            first_index: 0,
            next_index: 0,
            sides: Vec::new(),
            places: Vec::new(),
            held: None,
        }
    }

    /// Records that the source was opened for the first time.
    pub(super) fn opened(&mut self, sides: &[SideStream]) {
        self.sides = sides.to_vec();
        self.places = (0..self.sides.len()).map(Some).collect();
    }

    /// Records that the source was reopened: its numbers and clock start again, and its side streams may differ.
    pub(super) fn reopened(&mut self, sides: &[SideStream]) {
        self.first_index = self.next_index;
        self.held = self.last_frame.is_some().then(Vec::new);
        let mut is_taken = vec![false; self.sides.len()];
        self.places.clear();
        for side in sides {
            let is_same = |(place, own): &(usize, &SideStream)| !is_taken[*place] && own.kind == side.kind && own.codec == side.codec;
            let place = self.sides.iter().enumerate().find(is_same).map(|(place, _)| place);
            if let Some(place) = place {
                is_taken[place] = true;
            }
            self.places.push(place);
        }
    }

    /// Returns packets held for the first frame since the source was reopened. They are passed on before it.
    pub(super) fn resume(&mut self, frame: &Frame, now: Instant) -> Vec<Packet> {
        let Some(held) = self.held.take() else { return Vec::new() };
        let times = held.iter().filter_map(packet_micros).chain([frame.time_base.rescale(frame.pts.0, TimeBase::MICROS)]);
        let end = self.clock.end().unwrap_or(0);
        let elapsed = |(track, seen): (&usize, &Instant)| Some(self.clock.last(*track)?.0.saturating_add(micros(now - *seen)));
        let by_wall = self.seen.iter().filter_map(elapsed).max().unwrap_or(end);
        if let Some(first) = times.min() {
            self.clock.begin_again(first, end.max(by_wall));
        }
        self.seen.clear();
        held.into_iter().map(|packet| self.moved(packet, now)).collect()
    }

    /// Places a frame after the previous one; returns whether the source's clock jumped.
    pub(super) fn frame(&mut self, frame: &mut Frame, now: Instant) -> bool {
        let base = *self.base.get_or_insert(frame.time_base);
        if frame.time_base != base {
            frame.pts = Pts(frame.time_base.rescale(frame.pts.0, base));
            frame.duration = frame.duration.map(|ticks| frame.time_base.rescale(ticks, base));
            frame.time_base = base;
        }
        let mut jumped = false;
        if self.is_live {
            let duration = base.rescale(frame.duration.unwrap_or(self.step), TimeBase::MICROS).clamp(0, micros(STEP_BACK));
            let placed = self.follow(FRAMES, base.rescale(frame.pts.0, TimeBase::MICROS), duration, now);
            jumped = placed.is_step;
            frame.pts = Pts(frame.pts.0.saturating_add(TimeBase::MICROS.rescale(placed.shift_micros, base)));
            if let Some(last) = self.last_frame {
                frame.pts = Pts(frame.pts.0.max(last.0.saturating_add(1)));
                self.step = frame.pts.0.saturating_sub(last.0).max(1);
            }
        }
        frame.index = frame.index.saturating_add(self.first_index);
        self.next_index = frame.index.saturating_add(1);
        self.last_frame = Some(frame.pts);
        jumped
    }

    /// Shifts a packet like the frames.
    pub(super) fn packet(&mut self, mut packet: Packet, now: Instant) -> Followed {
        match self.places.get(packet.side_stream) {
            Some(Some(place)) => packet.side_stream = *place,
            Some(None) => return Followed::LeftOut,
            None => {}
        }
        match &mut self.held {
            Some(held) => {
                held.push(packet);
                Followed::Held
            }
            None => Followed::Now(self.moved(packet, now)),
        }
    }

    fn moved(&mut self, mut packet: Packet, now: Instant) -> Packet {
        let Some(time) = packet_micros(&packet).filter(|_| self.is_live) else { return packet };
        let track = packet.side_stream.saturating_add(1);
        let is_audio = self.sides.get(packet.side_stream).is_some_and(|side| side.kind == MediaKind::Audio);
        let placed = if is_audio {
            // Packets do not state their duration; an audio packet is about as long as the previous one.
            let moved = time.saturating_add(self.clock.shift_micros(track));
            let step = self.clock.last(track).map_or(0, |(last, _)| moved.saturating_sub(last));
            self.follow(track, time, step.clamp(0, micros(STEP_BACK)), now)
        } else {
            self.clock.accompany(track, time)
        };
        let shift = TimeBase::MICROS.rescale(placed.shift_micros, packet.time_base);
        packet.pts = packet.pts.map(|pts| Pts(pts.0.saturating_add(shift)));
        packet
    }

    fn follow(&mut self, track: usize, time: i64, duration: i64, now: Instant) -> Placed {
        let elapsed = self.seen.insert(track, now).map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        let limits = StepLimits {
            back_micros: micros(STEP_BACK),
            ahead_micros: micros(elapsed.saturating_add(JUMP)),
            elapsed_micros: micros(elapsed),
            first_micros: None,
        };
        self.clock.follow(track, StatedTime::presented(time, duration), limits)
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

fn packet_micros(packet: &Packet) -> Option<i64> {
    packet.pts.map(|pts| packet.time_base.rescale(pts.0, TimeBase::MICROS))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::StreamId;

    use super::*;
    use crate::{Item, engine::worker::tests::gray_item};

    fn frame(index: u64, pts_secs: f64) -> Frame {
        match gray_item(index) {
            Item::Frame(item) => Frame { pts: Pts((pts_secs * 1e6) as i64), ..item.frame },
            _ => unreachable!("a frame"),
        }
    }

    fn camera(codecs: &[&str]) -> Vec<SideStream> {
        let side = |codec: &&str| SideStream {
            kind: if *codec == "aac" { MediaKind::Audio } else { MediaKind::Subtitle },
            codec: (*codec).to_owned(),
            time_base: TimeBase::MICROS,
            parameters: Arc::new(()),
        };
        codecs.iter().map(side).collect()
    }

    fn packet(side_stream: usize, secs: f64) -> Packet {
        let pts = Some(Pts((secs * 1e6).round() as i64));
        Packet { stream: StreamId(0), side_stream, pts, time_base: TimeBase::MICROS, size_bytes: 0, payload: Arc::new(()) }
    }

    fn secs(packet: &Packet) -> f64 {
        packet.pts.expect("timed").seconds(packet.time_base)
    }

    fn sound(continuity: &mut Continuity, side: usize, pts: f64, now: Instant) -> Option<f64> {
        match continuity.packet(packet(side, pts), now) {
            Followed::Now(packet) => Some(secs(&packet)),
            _ => None,
        }
    }

    fn feed(continuity: &mut Continuity, index: u64, pts_secs: f64, now: Instant) -> (u64, f64, bool) {
        let mut frame = frame(index, pts_secs);
        continuity.resume(&frame, now);
        let jumped = continuity.frame(&mut frame, now);
        (frame.index, frame.seconds(), jumped)
    }

    #[test]
    fn a_source_opened_again_goes_on_by_the_wall_clock() {
        let (start, mut continuity) = (Instant::now(), Continuity::new(true));
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        assert_eq!(feed(&mut continuity, 0, 100.0, at(0.0)), (0, 100.0, false));
        assert_eq!(feed(&mut continuity, 1, 100.5, at(0.5)), (1, 100.5, false));
        continuity.reopened(&camera(&[]));
        assert_eq!(feed(&mut continuity, 0, 7.0, at(3.5)), (2, 103.5, false));
        assert_eq!(feed(&mut continuity, 1, 7.5, at(4.0)), (3, 104.0, false));
    }

    #[test]
    fn packets_and_frames_move_alike_over_connections() {
        let (start, mut continuity) = (Instant::now(), Continuity::new(true));
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        continuity.opened(&camera(&["aac"]));
        feed(&mut continuity, 0, 100.0, at(0.0));
        assert_eq!(sound(&mut continuity, 0, 100.1, at(0.0)), Some(100.1));
        feed(&mut continuity, 1, 100.5, at(0.5));
        // The source returns with another side stream in front, and its audio starts before its frames.
        continuity.reopened(&camera(&["subrip", "aac", "aac"]));
        assert_eq!(sound(&mut continuity, 1, 6.8, at(3.5)), None, "held");
        assert!(matches!(continuity.packet(packet(0, 7.0), at(3.5)), Followed::LeftOut));
        assert!(matches!(continuity.packet(packet(2, 7.0), at(3.5)), Followed::LeftOut));
        let first = frame(0, 7.0);
        let held: Vec<f64> = continuity.resume(&first, at(3.5)).iter().map(secs).collect();
        assert_eq!(held, [103.6], "3.5 s after the latest audio");
        assert_eq!(feed(&mut continuity, 0, 7.0, at(3.5)), (2, 103.8, false));
        assert_eq!(sound(&mut continuity, 1, 7.1, at(3.5)), Some(103.9));
    }

    #[test]
    fn a_leap_that_audio_shows_first_moves_the_frames_too() {
        let (start, mut continuity) = (Instant::now(), Continuity::new(true));
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        continuity.opened(&camera(&["aac"]));
        feed(&mut continuity, 0, 0.0, at(0.0));
        assert_eq!(sound(&mut continuity, 0, 0.0, at(0.0)), Some(0.0));
        assert_eq!(sound(&mut continuity, 0, 9000.5, at(0.5)), Some(0.5), "by the wall clock");
        assert_eq!(feed(&mut continuity, 1, 9000.25, at(0.5)), (1, 0.25, false), "as far from the audio as in the source");
        assert_eq!(feed(&mut continuity, 2, 9000.75, at(1.0)), (2, 0.75, false));
    }

    #[test]
    fn a_leap_is_distinguished_from_a_pause_and_from_a_burst() {
        let (start, mut continuity) = (Instant::now(), Continuity::new(true));
        let at = |secs: f64| start + Duration::from_secs_f64(secs);
        feed(&mut continuity, 0, 0.0, at(0.0));
        assert_eq!(feed(&mut continuity, 1, 20.0, at(20.0)), (1, 20.0, false), "a camera that paused");
        assert_eq!(feed(&mut continuity, 2, 23.0, at(20.01)), (2, 23.0, false), "a burst");
        assert_eq!(feed(&mut continuity, 3, 9000.0, at(20.5)), (3, 24.0, true), "the clock leapt");
        assert_eq!(feed(&mut continuity, 4, 9000.5, at(21.0)), (4, 24.5, false));
    }

    #[test]
    fn files_keep_their_own_times() {
        let (now, mut continuity) = (Instant::now(), Continuity::new(false));
        for (index, secs) in [(0, -1.0), (1, 5000.0), (7, 5000.5)] {
            assert_eq!(feed(&mut continuity, index, secs, now), (index, secs, false));
        }
    }
}
