//! Corrects packet times while reading: clock jumps are closed for all streams together, single wrong timestamps are repaired.

use std::collections::VecDeque;

use ffmpeg_the_third::ffi;
use framerail_core::{MediaKind, SourceClock, StatedTime, StepLimits, TimeBase};

use super::{Input, Source};
use crate::{Break, InputPacket, MediaError, PacketKind, av};

/// A step back of more than this, in microseconds, is a clock reset.
const STEP_BACK: i64 = 1_000_000;
/// The same if the next packet is behind too.
const LASTING_STEP_BACK: i64 = 100_000;
/// After a gap of this length, the next packet decides between a wrong timestamp and a real gap.
const DOUBTFUL_GAP: i64 = 200_000;
/// A forward step in a transport stream that is closed, as the `ffmpeg` command does, if the stream continues at its usual pace.
const JOIN_AHEAD: i64 = 10_000_000;
/// A forward step that no recording contains.
const LEAP_AHEAD: i64 = 30 * 3_600_000_000;
/// Maximum number of packets read ahead to find the next one of a stream.
const MAX_AHEAD: usize = 256;

/// The clock of a source's packets.
#[derive(Default)]
pub(super) struct PacketClock {
    clock: SourceClock,
    /// Packets read ahead to judge an earlier one, with the source's own times.
    unjudged: VecDeque<InputPacket>,
    /// Shift of the last video packet, in microseconds.
    last_video_shift: Option<i64>,
    /// The source ended while reading ahead.
    is_ended: bool,
}

/// A packet's times in microseconds.
#[derive(Clone, Copy)]
struct Times {
    /// With the stream's current shift: the DTS (or PTS if there is none), and the later of DTS and PTS.
    order: i64,
    latest: i64,
    stated: StatedTime,
}

impl PacketClock {
    /// Restarts the clock, as after a seek, with this shift.
    pub(super) fn begin_at(&mut self, shift_micros: i64) {
        self.unjudged.clear();
        self.is_ended = false;
        self.clock.set_shift(shift_micros);
    }

    /// Current shift of the video, in microseconds.
    pub(super) fn video_shift(&self) -> i64 {
        self.shift(PacketKind::Video)
    }

    /// Current shift of a stream's packets, in microseconds.
    pub(super) fn shift(&self, kind: PacketKind) -> i64 {
        self.clock.shift_micros(track(kind))
    }

    fn times(&self, packet: &InputPacket, base: TimeBase) -> Option<Times> {
        let shift = self.shift(packet.kind);
        let micros = |ticks| base.rescale(ticks, TimeBase::MICROS);
        let (pts, dts) = (packet.pts().map(micros), packet.dts().map(micros));
        // The PTS of video packets are not in packet order.
        let order = dts.or(pts.filter(|_| packet.kind != PacketKind::Video))?;
        let delay = pts.map_or(0, |pts| pts.saturating_sub(order).max(0));
        let stated = StatedTime { order, delay, duration: micros(packet.duration()).max(0) };
        let order = order.saturating_add(shift);
        Some(Times { order, latest: order.saturating_add(delay), stated })
    }
}

fn track(kind: PacketKind) -> usize {
    match kind {
        PacketKind::Video => 0,
        PacketKind::Side(side) => side.saturating_add(1),
    }
}

impl Input {
    /// Returns the next packet of a container, on one continuous clock.
    pub(super) fn next_timed(&mut self) -> Result<Option<InputPacket>, MediaError> {
        let Some(mut packet) = self.next_unjudged()? else { return Ok(None) };
        let base = self.time_base_of(packet.kind);
        // If the header does not state the reorder delay, FFmpeg reports the PTS as DTS too.
        let is_ordered = packet.kind != PacketKind::Video || !self.is_reorder_unknown();
        let (moved_by, is_repaired) = match self.progress.clock.times(&packet, base).filter(|_| is_ordered) {
            Some(times) => self.moved_by(&packet, base, times)?,
            None => (self.progress.clock.shift(packet.kind), false),
        };
        self.damage.timestamps_repaired += u64::from(is_repaired);
        let shift = TimeBase::MICROS.rescale(moved_by, base);
        let moved = |ticks: i64| av::timestamp(ticks).map_or(ticks, |ticks| ticks.saturating_add(shift));
        (packet.packet.pts, packet.packet.dts) = (moved(packet.packet.pts), moved(packet.packet.dts));
        if packet.kind == PacketKind::Video {
            let last_shift = self.progress.clock.last_video_shift.replace(moved_by);
            let time = packet.pts().or(packet.dts());
            match time.filter(|_| last_shift.is_some_and(|last| last != moved_by)) {
                Some(pts) => self.breaks.push(Break::Joint(pts)),
                None if packet.packet.is_behind_break() => self.breaks.push(Break::Loss(time)),
                None => {}
            }
        }
        Ok(Some(packet))
    }

    fn next_unjudged(&mut self) -> Result<Option<InputPacket>, MediaError> {
        match self.progress.clock.unjudged.pop_front() {
            Some(packet) => Ok(Some(packet)),
            None if self.progress.clock.is_ended => Ok(None),
            None => self.next_of_container(),
        }
    }

    /// The shift of a packet's times in microseconds, and whether it is a repair.
    fn moved_by(&mut self, packet: &InputPacket, base: TimeBase, times: Times) -> Result<(i64, bool), MediaError> {
        let track = track(packet.kind);
        if self.is_sparse(packet.kind) {
            return Ok((self.progress.clock.clock.accompany(track, times.stated.order).shift_micros, false));
        }
        let mut limits = StepLimits { back_micros: STEP_BACK, ahead_micros: LEAP_AHEAD, elapsed_micros: 0, first_micros: None };
        if let Some((last, end)) = self.progress.clock.clock.last(track) {
            let gap = times.order.saturating_sub(end);
            let is_back = times.latest < last;
            // On a live source, reading the next packet would block.
            let may_look = !self.options.waits_for_keyframe && (is_back || gap > DOUBTFUL_GAP);
            if let Some(next) = self.following(packet.kind, base, may_look)? {
                let is_outlier =
                    next.order > last && if is_back { next.order <= end.saturating_add(JOIN_AHEAD) } else { next.order < times.order };
                if is_outlier {
                    return Ok((self.progress.clock.clock.append(track, times.stated), true));
                }
                if is_back && next.latest < last {
                    limits.back_micros = LASTING_STEP_BACK;
                }
                let pace = next.order.saturating_sub(times.order);
                if self.is_transport_stream() && gap > JOIN_AHEAD && pace < gap / 4 {
                    limits.ahead_micros = JOIN_AHEAD;
                }
                if is_back || gap > JOIN_AHEAD {
                    limits.first_micros = Some(self.first_behind(times.stated)?);
                }
            }
        }
        let placed = self.progress.clock.clock.follow(track, times.stated, limits);
        Ok((placed.shift_micros, placed.is_step))
    }

    /// The times of the next packet of a stream, read ahead.
    fn following(&mut self, kind: PacketKind, base: TimeBase, may_look: bool) -> Result<Option<Times>, MediaError> {
        for place in 0..if may_look { MAX_AHEAD } else { 0 } {
            if !self.has_read_ahead(place)? {
                break;
            }
            let clock = &self.progress.clock;
            let times = clock.unjudged.get(place).filter(|packet| packet.kind == kind).and_then(|packet| clock.times(packet, base));
            if times.is_some() {
                return Ok(times);
            }
        }
        Ok(None)
    }

    /// PTS, on the source's clock, of the first packet of any stream after a clock step that one of them revealed.
    fn first_behind(&mut self, shown: StatedTime) -> Result<i64, MediaError> {
        let presented = |time: StatedTime| time.order.saturating_add(time.delay);
        let mut first = presented(shown);
        let audio = self.info.side_streams.iter().filter(|side| side.kind == MediaKind::Audio).count();
        let mut seen = Vec::new();
        for place in 0..MAX_AHEAD {
            if seen.len() > audio || !self.has_read_ahead(place)? {
                break;
            }
            let Some(packet) = self.progress.clock.unjudged.get(place).filter(|packet| !self.is_sparse(packet.kind)) else { continue };
            let Some(times) = self.progress.clock.times(packet, self.time_base_of(packet.kind)) else { continue };
            let time = presented(times.stated);
            if time.abs_diff(presented(shown)) < STEP_BACK.unsigned_abs() {
                first = first.min(time);
                if !seen.contains(&packet.kind) {
                    seen.push(packet.kind);
                }
            }
        }
        Ok(first)
    }

    /// Reads ahead up to a position; returns whether there is a packet.
    fn has_read_ahead(&mut self, place: usize) -> Result<bool, MediaError> {
        while self.progress.clock.unjudged.len() <= place && !self.progress.clock.is_ended {
            match self.next_of_container()? {
                Some(packet) => self.progress.clock.unjudged.push_back(packet),
                None => self.progress.clock.is_ended = true,
            }
        }
        Ok(self.progress.clock.unjudged.len() > place)
    }

    fn time_base_of(&self, kind: PacketKind) -> TimeBase {
        match kind {
            PacketKind::Video => self.info.time_base,
            PacketKind::Side(side) => self.info.side_streams.get(side).map_or(TimeBase::MICROS, |side| side.time_base),
        }
    }

    fn is_sparse(&self, kind: PacketKind) -> bool {
        match kind {
            PacketKind::Video => false,
            PacketKind::Side(side) => self.info.side_streams.get(side).is_none_or(|side| side.kind != MediaKind::Audio),
        }
    }

    fn is_transport_stream(&self) -> bool {
        matches!(&self.source, Source::Container { container, .. } if container.has_format_flag(ffi::AVFMT_TS_DISCONT))
    }
}
