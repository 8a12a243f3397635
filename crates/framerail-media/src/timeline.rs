//! Computes all written timestamps: a file starts at zero, times never go back, and interleaving is bounded.
//!
//! Input packets have times on their source's clock, each stream in its own order. Output packets have the container's times, in
//! the order in which they are written.

use std::collections::VecDeque;

use framerail_core::TimeBase;

use crate::av::{self, AvPacket};

/// A step back of more than this is a clock reset: later packets are shifted too. For a smaller one, only the packet is moved.
const SLIP_SECS: f64 = 1.0;
/// A forward step of more than this is a clock jump.
const LEAP_SECS: f64 = 30.0 * 3600.0;
/// Start times that differ by less are the same: containers round to milliseconds.
const SAME_START_SECS: f64 = 0.0015;

/// Limits for waiting on a stream that is behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InterleaveLimits {
    /// Total size in bytes of the waiting packets.
    pub(crate) bytes: usize,
    /// Seconds that other streams may be ahead of the video: encoders hold frames back, but audio is copied immediately.
    pub(crate) ahead_of_video_secs: f64,
    /// Seconds that the video may be ahead of the audio.
    pub(crate) ahead_of_audio_secs: f64,
}

impl InterleaveLimits {
    /// For files, which are read when they are complete.
    pub(crate) const FILE: Self = Self { bytes: 64 << 20, ahead_of_video_secs: 120.0, ahead_of_audio_secs: 10.0 };
    /// For live outputs: missing audio must not delay frames.
    pub(crate) const LIVE: Self = Self { bytes: 16 << 20, ahead_of_video_secs: 10.0, ahead_of_audio_secs: 1.0 };
}

/// The kind of packets in a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TrackKind {
    /// Frames. `is_fixed_rate` is for containers that only count frames: a start between two frames is rounded down.
    Video { is_fixed_rate: bool },
    /// Audio, which may begin with samples that are not played.
    Audio { sample_rate: u32, padding: u32 },
    /// Subtitles and attachments, which are not waited for.
    Sparse,
}

/// How a container stores times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContainerClock {
    /// Negative times are allowed.
    pub(crate) holds_negative: bool,
    /// Negative DTS are allowed: only PTS are stored.
    pub(crate) is_by_pts: bool,
    /// Two packets of a stream may have the same DTS.
    pub(crate) holds_equal: bool,
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    ticks: i64,
    base: TimeBase,
}

impl Moment {
    const ZERO: Self = Self { ticks: 0, base: TimeBase::MICROS };

    fn by_time(a: &Self, b: &Self) -> std::cmp::Ordering {
        a.seconds().total_cmp(&b.seconds())
    }

    fn seconds(self) -> f64 {
        self.base.seconds(self.ticks)
    }

    fn in_base(self, base: TimeBase) -> i64 {
        self.base.rescale(self.ticks, base)
    }
}

/// The times of one output file or connection.
pub(crate) struct Timeline {
    tracks: Vec<Track>,
    limits: InterleaveLimits,
    keeps_start: bool,
    clock: ContainerClock,
    /// The time on the sources' clock that is written as zero; `None` until it is determined.
    zero: Option<Moment>,
    waiting_bytes: usize,
    /// Number of times that were missing, repeated or went back.
    repaired: u64,
    /// Number of video packets whose time the container cannot store exactly.
    rounded: u64,
}

struct Track {
    kind: TrackKind,
    /// Time base of the container's stream.
    base: TimeBase,
    waiting: VecDeque<AvPacket>,
    first: Option<First>,
    last: Option<Last>,
    /// Added to the source's clock since its last reset.
    shift: Option<Moment>,
    /// PTS of the first packet.
    anchor: Option<Anchor>,
    /// DTS and duration of the last written packet, in the container's ticks.
    written: Option<(i64, i64)>,
}

/// The first input packet, on the source's clock.
#[derive(Clone, Copy)]
struct First {
    pts: Moment,
    dts: Moment,
    /// When it is seen or heard: audio may begin with samples that are not played.
    played: Moment,
}

/// The last input packet, on the source's clock.
#[derive(Clone, Copy)]
struct Last {
    dts: i64,
    end: i64,
    base: TimeBase,
}

/// A time on the source's clock, and the same time in the container's ticks.
#[derive(Clone, Copy)]
struct Anchor {
    moment: Moment,
    ticks: i64,
}

impl Timeline {
    pub(crate) fn new(keeps_start: bool, limits: InterleaveLimits, clock: ContainerClock) -> Self {
        Self { tracks: Vec::new(), limits, keeps_start, clock, zero: None, waiting_bytes: 0, repaired: 0, rounded: 0 }
    }

    /// Adds the track of the container's next stream.
    pub(crate) fn add(&mut self, kind: TrackKind) {
        self.tracks.push(Track {
            kind,
            base: TimeBase::MICROS,
            waiting: VecDeque::new(),
            first: None,
            last: None,
            shift: None,
            anchor: None,
            written: None,
        });
    }

    /// Sets the time base of a stream, which the container chooses when its header is written.
    pub(crate) fn set_base(&mut self, stream: usize, base: TimeBase) {
        if let Some(track) = self.tracks.get_mut(stream) {
            track.base = base;
        }
    }

    /// Takes a packet with `stream_index` and `time_base` set and times on the source's clock.
    pub(crate) fn push(&mut self, mut packet: AvPacket) {
        let Some(track) = usize::try_from(packet.stream_index).ok().and_then(|index| self.tracks.get_mut(index)) else { return };
        self.repaired += u64::from(track.accept(&mut packet));
        self.waiting_bytes += packet.data().len();
        track.waiting.push_back(packet);
    }

    /// Returns the next packet to write, in the time base of its stream; `None` while earlier packets may still come. At the end
    /// it does not wait.
    pub(crate) fn next(&mut self, is_end: bool) -> Option<AvPacket> {
        let earliest = self.tracks.iter().enumerate().filter_map(|(index, track)| Some((track.waiting.front().map(micros)?, index))).min();
        let (_, index) = earliest?;
        if !is_end && !self.is_due() {
            return None;
        }
        let zero = self.zero.unwrap_or_else(|| self.start());
        self.zero = Some(zero);
        let track = self.tracks.get_mut(index)?;
        let mut packet = track.waiting.pop_front()?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(packet.data().len());
        let is_exact = track.place(&mut packet, zero, self.clock);
        self.rounded += u64::from(!is_exact && matches!(track.kind, TrackKind::Video { .. }));
        Some(packet)
    }

    /// Number of times that were derived because they were missing, repeated or went back.
    pub(crate) fn repaired(&self) -> u64 {
        self.repaired
    }

    /// Number of video packets whose time was rounded.
    pub(crate) fn rounded(&self) -> u64 {
        self.rounded
    }

    /// Duration of the last written packet of a stream, in the stream's ticks; `None` if unknown.
    pub(crate) fn last_duration(&self, stream: usize) -> Option<i64> {
        let (_, duration) = self.tracks.get(stream)?.written?;
        Some(duration).filter(|ticks| *ticks > 0)
    }

    /// Whether no stream within the waiting limits may still deliver an earlier packet.
    fn is_due(&self) -> bool {
        let is_awaited = |track: &&Track| track.kind != TrackKind::Sparse && track.waiting.is_empty();
        let mut awaited = self.tracks.iter().filter(is_awaited).peekable();
        if awaited.peek().is_none() || self.waiting_bytes > self.limits.bytes {
            return true;
        }
        let awaits_video = awaited.any(|track| matches!(track.kind, TrackKind::Video { .. }));
        let limit = if awaits_video { self.limits.ahead_of_video_secs } else { self.limits.ahead_of_audio_secs };
        let times = |pick: fn(&VecDeque<AvPacket>) -> Option<&AvPacket>| {
            self.tracks.iter().filter(|track| track.kind != TrackKind::Sparse).filter_map(move |track| pick(&track.waiting).map(micros))
        };
        let (first, last) = (times(VecDeque::front).min(), times(VecDeque::back).max());
        first.zip(last).is_some_and(|(first, last)| last.saturating_sub(first) as f64 > limit * 1e6)
    }

    /// The time that becomes zero: the first time that anything is seen or heard, or the source's own zero; earlier if packets
    /// precede it and the container does not allow negative times.
    fn start(&self) -> Moment {
        let start = if self.keeps_start { Moment::ZERO } else { self.first_played() };
        if self.clock.holds_negative {
            return start;
        }
        let firsts = self.tracks.iter().filter(|track| track.kind != TrackKind::Sparse).filter_map(|track| track.first);
        let held = firsts.map(|first| if self.clock.is_by_pts { first.pts } else { first.dts });
        held.chain([start]).min_by(Moment::by_time).unwrap_or(start)
    }

    fn first_played(&self) -> Moment {
        let of = |is_wanted: fn(TrackKind) -> bool| {
            self.tracks.iter().filter(move |track| is_wanted(track.kind)).filter_map(|track| Some(track.first?.played))
        };
        let earliest = of(|kind| kind != TrackKind::Sparse).min_by(Moment::by_time);
        let earliest = earliest.or_else(|| of(|_| true).min_by(Moment::by_time)).unwrap_or(Moment::ZERO);
        let video = of(|kind| matches!(kind, TrackKind::Video { .. })).next();
        video.filter(|video| video.seconds() - earliest.seconds() < SAME_START_SECS).unwrap_or(earliest)
    }
}

impl Track {
    /// Completes and orders the times of an input packet; returns whether they had to be repaired.
    fn accept(&mut self, packet: &mut AvPacket) -> bool {
        let base = av::time_base(packet.time_base);
        if let Some(last) = self.last.as_mut().filter(|last| last.base != base) {
            *last = Last { dts: last.base.rescale(last.dts, base), end: last.base.rescale(last.end, base), base };
        }
        let (pts, dts) = (av::timestamp(packet.pts), av::timestamp(packet.dts));
        let shift = self.shift.map_or(0, |shift| shift.in_base(base));
        let stated = dts.or(pts).map(|dts| dts.saturating_add(shift));
        if stated.is_none() && self.kind == TrackKind::Sparse {
            // A cover image or a font.
            return false;
        }
        let follows = self.last.map(|last| last.end);
        let (dts, is_repaired) = match (stated, self.last) {
            (None, _) => (follows.unwrap_or(0), follows.is_some()),
            (Some(dts), None) => (dts, false),
            (Some(dts), Some(last)) => self.ordered(dts, last),
        };
        let delay = pts.zip(stated).map_or(0, |(pts, stated)| pts.saturating_add(shift).saturating_sub(stated));
        let pts_moved = dts.saturating_add(delay.max(0));
        (packet.pts, packet.dts) = (pts_moved, dts);
        let end = dts.saturating_add(packet.duration.max(0));
        self.last = Some(Last { dts, end: end.max(dts.saturating_add(1)), base });
        let at = |ticks: i64| Moment { ticks, base };
        let played = pts_moved.saturating_add(unplayed(packet, self.kind, base));
        self.first.get_or_insert(First { pts: at(pts_moved), dts: at(dts), played: at(played) });
        is_repaired
    }

    /// Returns a DTS after the last one.
    fn ordered(&mut self, dts: i64, last: Last) -> (i64, bool) {
        let base = last.base;
        // MP4 cannot store longer steps.
        let leap = base.ticks(LEAP_SECS).min(self.base.rescale(i32::MAX.into(), base));
        let ahead = dts.saturating_sub(last.dts);
        if (1..=leap).contains(&ahead) {
            return (dts, false);
        }
        if ahead == 0 && self.kind == TrackKind::Sparse {
            return (dts, false);
        }
        if ahead > leap || ahead < base.ticks(-SLIP_SECS) {
            let before = self.shift.map_or(0, |shift| shift.in_base(base));
            let ticks = before.saturating_add(last.end.saturating_sub(dts));
            self.shift = Some(Moment { ticks, base });
            return (last.end, true);
        }
        (last.dts.saturating_add(1), true)
    }

    /// Sets the container's times in a packet; returns whether the PTS is exact.
    fn place(&mut self, packet: &mut AvPacket, zero: Moment, clock: ContainerClock) -> bool {
        let base = av::time_base(packet.time_base);
        let to = self.base;
        let next = self.written.map(|(dts, _)| dts.saturating_add(i64::from(!clock.holds_equal)));
        let Some(pts) = av::timestamp(packet.pts) else {
            (packet.pts, packet.dts) = (next.unwrap_or(0), next.unwrap_or(0));
            self.written = Some((packet.dts, 0));
            return true;
        };
        let is_fixed_rate = matches!(self.kind, TrackKind::Video { is_fixed_rate: true });
        let anchor = *self.anchor.get_or_insert_with(|| {
            let from_zero = pts.saturating_sub(zero.in_base(base));
            let nearest = base.rescale(from_zero, to);
            let is_late = is_fixed_rate && to.rescale(nearest, base) > from_zero;
            Anchor { moment: Moment { ticks: pts, base }, ticks: nearest.saturating_sub(i64::from(is_late)) }
        });
        // Relative to the first packet: times that are exact relative to it stay exact, wherever it begins.
        let from_anchor = |ticks: i64| base.rescale(ticks, anchor.moment.base).saturating_sub(anchor.moment.ticks);
        let placed = |ticks: i64| anchor.ticks.saturating_add(anchor.moment.base.rescale(from_anchor(ticks), to));
        let (mut new_pts, mut new_dts) = (placed(pts), placed(packet.dts));
        if packet.duration > 0 {
            packet.duration = placed(pts.saturating_add(packet.duration)).saturating_sub(new_pts).max(1);
        }
        if self.kind == TrackKind::Sparse && !clock.holds_negative {
            (new_pts, new_dts) = (new_pts.max(0), new_dts.max(0));
        }
        new_dts = next.map_or(new_dts, |next| new_dts.max(next));
        (packet.pts, packet.dts) = (new_pts.max(new_dts), new_dts);
        self.written = Some((new_dts, packet.duration));
        exactly(from_anchor(pts), anchor.moment.base, to)
    }
}

/// A packet's sort key: microseconds on the source's clock.
fn micros(packet: &AvPacket) -> i64 {
    av::timestamp(packet.dts).map_or(i64::MIN, |dts| av::time_base(packet.time_base).rescale(dts, TimeBase::MICROS))
}

/// Duration, in ticks, at the start of audio that decoders return and players do not play.
fn unplayed(packet: &AvPacket, kind: TrackKind, base: TimeBase) -> i64 {
    let TrackKind::Audio { sample_rate, padding } = kind else { return 0 };
    let Some(samples) = TimeBase::new(1, sample_rate.into()) else { return 0 };
    samples.rescale(packet.skipped_samples().unwrap_or(padding).into(), base)
}

/// Whether a time converts exactly to another time base.
fn exactly(ticks: i64, from: TimeBase, to: TimeBase) -> bool {
    let (from, to) = (from.ratio(), to.ratio());
    let num = i128::from(ticks) * i128::from(from.num) * i128::from(to.den);
    num % (i128::from(from.den) * i128::from(to.num)) == 0
}

#[cfg(test)]
mod tests;
