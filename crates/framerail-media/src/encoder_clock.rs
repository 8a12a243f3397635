//! Frame times for an encoder: in its own time base, strictly increasing, and without gaps where a container only counts frames.

use std::ffi::CStr;

use ffmpeg_the_third::ffi;
use framerail_core::{Frame, StreamInfo, TimeBase};

use crate::av::{self, AvPacket};

/// Longest gap that is filled by repeating the previous frame. Longer ones are jumps of the clock, not pauses.
const LONGEST_FILLED_SECS: f64 = 10.0;
/// Frame duration in a container that only counts frames, for a stream without a frame rate.
const DEFAULT_STEP: (i64, i64) = (1, 25);

/// Largest term of a rate in MPEG-4 and its relatives.
const MAX_SHORT: i32 = 65_535;

/// How a container stores frame times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameTimes {
    /// Each frame has a timestamp.
    Stamped,
    /// A fixed rate; positions without a frame can be marked (AVI).
    Grid,
    /// A fixed rate; a frame's time is its number, so a frame must be repeated if the next one is late.
    Counted,
}

/// Converts frame times to an encoder's time base.
pub(crate) struct EncoderClock {
    time_base: TimeBase,
    times: FrameTimes,
    /// Time of the first frame. The encoder counts from there: in a container with a fixed rate, frames then lie on its grid
    /// wherever the source starts.
    start: Option<(i64, TimeBase)>,
    last: Option<i64>,
    /// Gaps that were too long to fill.
    pub(crate) jumps: u64,
}

/// The time assigned to a frame.
pub(crate) struct Placed {
    pub(crate) pts: i64,
    /// The time was changed because the encoder's ticks are coarser, or because it was not later than the previous one.
    pub(crate) is_rounded: bool,
    /// The time went back.
    pub(crate) is_repaired: bool,
}

impl EncoderClock {
    /// Creates an encoder's clock: the input's time base, or one tick per frame if codec or container support only that.
    pub(crate) fn new(codec: *const ffi::AVCodec, info: &StreamInfo, times: FrameTimes) -> Self {
        Self { time_base: choose_time_base(codec, info, times), times, start: None, last: None, jumps: 0 }
    }

    pub(crate) fn time_base(&self) -> TimeBase {
        self.time_base
    }

    /// Whether [`EncoderClock::missing_before`] can ask for repeats.
    pub(crate) fn may_repeat(&self) -> bool {
        self.times == FrameTimes::Counted
    }

    /// Number of repeats needed before this frame.
    pub(crate) fn missing_before(&mut self, frame: &Frame) -> u64 {
        let Some(last) = self.last.filter(|_| self.times == FrameTimes::Counted) else { return 0 };
        let missing = self.since_start(frame).0.saturating_sub(last).saturating_sub(1).max(0);
        if self.time_base.seconds(missing) > LONGEST_FILLED_SECS {
            self.jumps += 1;
            return 0;
        }
        missing.unsigned_abs()
    }

    /// Assigns a time to a repeat of the previous frame.
    pub(crate) fn repeat(&mut self) -> i64 {
        let pts = self.last.map_or(0, |last| last.saturating_add(1));
        self.last = Some(pts);
        pts
    }

    /// Assigns a time to a frame.
    pub(crate) fn place(&mut self, frame: &Frame) -> Placed {
        let (wanted, is_exact) = self.since_start(frame);
        let moved = self.last.filter(|last| wanted <= *last).map(|last| last.saturating_add(1));
        let is_repaired = self.last.is_some_and(|last| wanted < last);
        let pts = moved.unwrap_or(wanted);
        self.last = Some(pts);
        Placed { pts, is_rounded: moved.is_some() || !is_exact, is_repaired }
    }

    /// A duration in the encoder's ticks; `None` if the container stores none.
    pub(crate) fn duration(&self, frame: &Frame) -> Option<i64> {
        let duration = frame.duration.filter(|duration| *duration > 0 && self.times != FrameTimes::Counted)?;
        Some(frame.time_base.rescale(duration, self.time_base))
    }

    /// Converts a packet's times back to the source's clock, in the finer of the source's and the encoder's time base.
    pub(crate) fn put_on_source_clock(&self, packet: &mut AvPacket) {
        let (start, base) = self.start.unwrap_or((0, self.time_base));
        let base = if self.time_base.seconds(1) < base.seconds(1) { self.time_base } else { base };
        let start = self.start.map_or(0, |(_, own)| own.rescale(start, base));
        let put = |ticks: i64| self.time_base.rescale(ticks, base);
        packet.pts = av::timestamp(packet.pts).map_or(packet.pts, |pts| put(pts).saturating_add(start));
        packet.dts = av::timestamp(packet.dts).map_or(packet.dts, |dts| put(dts).saturating_add(start));
        packet.duration = put(packet.duration);
        packet.time_base = av::rational(base.ratio());
    }

    /// A frame's time in the encoder's ticks, and whether the conversion is exact.
    fn since_start(&mut self, frame: &Frame) -> (i64, bool) {
        let (start, base) = *self.start.get_or_insert((frame.pts.0, frame.time_base));
        let since = frame.time_base.rescale(frame.pts.0, base).saturating_sub(start);
        let pts = base.rescale(since, self.time_base);
        (pts, self.time_base.rescale(pts, base) == since)
    }
}

fn choose_time_base(codec: *const ffi::AVCodec, info: &StreamInfo, times: FrameTimes) -> TimeBase {
    use ffi::AVCodecID as Id;
    // SAFETY: a static description with a static name.
    let (id, name, has_rates) = unsafe { ((*codec).id, CStr::from_ptr((*codec).name), !(*codec).supported_framerates.is_null()) };
    let is_short = matches!(id, Id::MPEG4 | Id::MSMPEG4V3 | Id::H263 | Id::WMV2);
    let too_fine = is_short && info.time_base.ratio().den > MAX_SHORT.into();
    // libtheora counts frames and ignores their times.
    let is_fixed = times != FrameTimes::Stamped || has_rates || name.to_bytes() == b"libtheora";
    let rate = info.frame_rate.map(|rate| av::rational_within(rate, if is_short { MAX_SHORT } else { i32::MAX }));
    let per_frame = rate.and_then(|rate| TimeBase::new(rate.den.into(), rate.num.into()));
    match per_frame {
        Some(per_frame) if is_fixed || too_fine => per_frame,
        None if is_fixed && times == FrameTimes::Counted => TimeBase::new(DEFAULT_STEP.0, DEFAULT_STEP.1).unwrap_or(info.time_base),
        None if too_fine => TimeBase::new(1, 1000).unwrap_or(info.time_base),
        _ => info.time_base,
    }
}
