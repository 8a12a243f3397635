//! Detects missing frames: gaps in the timeline next to damage, and differences from the container's frame count.

use std::collections::VecDeque;

use ffmpeg_the_third::ffi;
use framerail_core::{Rational, StreamInfo, TimeBase};

use crate::{av, container::Container};

/// Maximum distance between a break and a gap, in frames: packets are in decoding order, gaps in presentation order.
const BREAK_DISTANCE: i64 = 32;
/// Frames after a break of unknown time within which a gap is attributed to it. Threads and reordering delay frames.
const BREAK_FRAMES: u32 = 64;
/// Maximum number of remembered breaks: damaged timestamps may lie anywhere.
const MAX_BREAKS: usize = 1_000;
/// Maximum relative difference between a constant rate and the measured one.
const RATE_TOLERANCE: f64 = 0.1;
/// Gap in seconds up to which frames are missing, not paused, where the demuxer skips damage silently.
const MAX_SILENT_SECS: f64 = 1.0;
/// Number of such gaps that are losses in any stream, and number of frames for each further one.
const RARE_HOLES: u64 = 3;
const FRAMES_PER_HOLE: u64 = 50;
/// Gap in frames beyond which the timestamps are considered damaged.
const MAX_GAP_FRAMES: i64 = 100_000;

/// Counts missing frames of a stream, provided that its frames follow each other without gaps where nothing is wrong.
///
/// A gap in the timeline alone is not a loss, since recordings may pause. A gap next to a position where the demuxer lost
/// synchronisation or the decoder failed is one. So is a short and rare gap in MPEG-PS, whose demuxer searches for the next start code
/// without reporting it.
pub struct LossMeter {
    /// Frame duration in ticks.
    nominal: i64,
    /// PTS of the last frame, and its end.
    last: Option<(i64, i64)>,
    /// Time in ticks from the start to the end of the last frame that no frame fills: it bounds what can be missing, since a damaged
    /// timestamp makes a gap before or behind a frame that is not missing.
    unfilled: i64,
    breaks: VecDeque<Doubt>,
    joints: VecDeque<i64>,
    frames: u64,
    /// Gaps without a break next to them: a stream with many of them has no regular timeline.
    holes: u64,
    lost: u64,
    /// Longest gap without a break that may be a loss, in ticks; 0 if none is.
    max_silent: i64,
    /// Frames missing in such gaps.
    lost_silently: u64,
}

/// A position in a stream's packets where times may be discontinuous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Packets may be missing around this PTS; `None` if it is unknown.
    Loss(Option<i64>),
    /// Recordings are joined before the packet with this PTS. The distance between them does not indicate a loss.
    Joint(i64),
}

/// A position where packets may be missing.
struct Doubt {
    /// PTS of the packet there, if known.
    pts: Option<i64>,
    /// Remaining frames that a break of unknown time applies to.
    frames_left: u32,
}

impl LossMeter {
    /// Creates a meter for a stream with this time base and frame rate.
    pub fn new(time_base: TimeBase, frame_rate: Option<Rational>) -> Self {
        let nominal = frame_rate.filter(|rate| rate.is_positive()).map_or(0, |rate| time_base.ticks(1.0 / rate.as_f64()));
        let (breaks, joints) = (VecDeque::new(), VecDeque::new());
        Self { nominal, last: None, unfilled: 0, breaks, joints, frames: 0, holes: 0, lost: 0, max_silent: 0, lost_silently: 0 }
    }

    /// Creates a meter for a source's video.
    pub fn of(info: &StreamInfo) -> Self {
        let max_silent = if info.container == "mpeg" { info.time_base.ticks(MAX_SILENT_SECS) } else { 0 };
        Self { max_silent, ..Self::new(info.time_base, info.frame_rate) }
    }

    /// Records a break, before the frames around it.
    pub fn note(&mut self, found: Break) {
        match found {
            Break::Loss(pts) => push(&mut self.breaks, Doubt { pts, frames_left: BREAK_FRAMES }),
            Break::Joint(pts) => push(&mut self.joints, pts),
        }
    }

    /// Records a frame that is left out, before the selection or because it was delivered elsewhere; what precedes it is not counted.
    pub fn pass(&mut self, pts: i64, duration: Option<i64>) {
        let step = duration.filter(|ticks| *ticks > 0).unwrap_or(self.nominal);
        self.last = Some((pts, pts.saturating_add(step)));
    }

    /// Records the next frame in presentation order: its PTS, and its duration if known, in ticks.
    pub fn frame(&mut self, pts: i64, duration: Option<i64>) {
        let step = duration.filter(|ticks| *ticks > 0).unwrap_or(self.nominal);
        let reach = step.saturating_mul(BREAK_DISTANCE);
        self.frames += 1;
        // Frames may be missing before the first one too.
        let start = || self.breaks.iter().filter_map(|found| found.pts).min().filter(|at| *at < pts).map(|at| (at, at));
        if let Some((before, end)) = self.last.or_else(start).filter(|_| step > 0) {
            self.unfilled = self.unfilled.saturating_add(pts.saturating_sub(end));
            // Half a frame of tolerance, so that times rounded to milliseconds are not gaps.
            let missing = (pts.saturating_sub(end).saturating_add(step / 2) / step).min(MAX_GAP_FRAMES);
            let is_joint = self.joints.iter().any(|joint| before < *joint && *joint <= pts);
            if missing > 0 && !is_joint {
                let is_beside = |at: i64| before.saturating_sub(reach) <= at && at <= pts.saturating_add(reach);
                if !self.breaks.iter().any(|found| found.pts.is_none_or(is_beside)) {
                    self.holes += 1;
                    self.lost_silently += if pts.saturating_sub(end) <= self.max_silent { missing.unsigned_abs() } else { 0 };
                } else if self.holes * 4 <= self.frames {
                    self.lost += missing.unsigned_abs();
                }
            }
        }
        self.joints.retain(|joint| *joint > pts);
        self.breaks.retain_mut(|found| match found.pts {
            Some(at) => at.saturating_add(reach) >= pts,
            None => {
                found.frames_left = found.frames_left.saturating_sub(1);
                found.frames_left > 0
            }
        });
        self.last = Some((pts, pts.saturating_add(step)));
    }

    /// Number of missing frames so far.
    pub fn lost(&self) -> u64 {
        let is_rare = self.holes <= RARE_HOLES + self.frames / FRAMES_PER_HOLE;
        let by_gaps = self.lost + if is_rare { self.lost_silently } else { 0 };
        let step = self.last.map_or(0, |(pts, end)| end.saturating_sub(pts)).max(1);
        by_gaps.min(u64::try_from(self.unfilled.saturating_add(step / 2) / step).unwrap_or(0))
    }
}

/// Adds an entry; drops the oldest one at the limit.
fn push<T>(kept: &mut VecDeque<T>, entry: T) {
    if kept.len() == MAX_BREAKS {
        kept.pop_front();
    }
    kept.push_back(entry);
}

/// Number of frames of a whole file according to its header: its frame count, or its duration at a constant rate. `None` if it
/// states neither. Counts that FFmpeg gets by searching for frames do not include those that it fails to find.
pub(crate) fn stated_frames(container: &Container, stream: &ffi::AVStream, is_header_only: bool) -> Option<u64> {
    let format = container.format_name();
    if format == "avi" {
        return u64::try_from(stream.nb_frames).ok().filter(|count| *count > 0);
    }
    // SAFETY: the stream's tags or null.
    let tags = unsafe { av::entries(stream.metadata) };
    let tag = |name: &str| tags.iter().find(|(key, _)| key == name || key.starts_with(&format!("{name}-"))).map(|(_, value)| value);
    if let Some(count) = tag("NUMBER_OF_FRAMES").and_then(|count| count.trim().parse().ok()) {
        return Some(count);
    }
    let (average, real) = (av::positive(stream.avg_frame_rate), av::positive(stream.r_frame_rate));
    // FFmpeg measures the average, which damage at the start changes slightly.
    let rate = real.or(average)?;
    let is_near = |average: Rational| (average.as_f64() / rate.as_f64() - 1.0).abs() < RATE_TOLERANCE;
    // Where times are damaged FFmpeg may find no average, and a rate that is far too high.
    let is_constant = average.map_or(format == "nut", is_near);
    if !is_constant || is_header_only || format == "gif" {
        return None;
    }
    let context = container.get();
    let is_from_header = context.duration_estimation_method == ffi::AVDurationEstimationMethod::STREAM;
    let is_from_index = context.duration_estimation_method == ffi::AVDurationEstimationMethod::PTS;
    let in_secs = |ticks| av::timestamp(ticks).filter(|ticks| *ticks > 0).map(|ticks| av::time_base(stream.time_base).seconds(ticks));
    let own = in_secs(stream.duration);
    let whole = || av::timestamp(context.duration).filter(|micros| *micros > 0).map(|micros| micros as f64 / 1e6);
    // These durations count from zero, wherever the first frame lies: often a little after the audio's first sample.
    let first = in_secs(stream.start_time).unwrap_or(0.0);
    let by_tag = tag("DURATION").and_then(|text| clock_secs(text)).map(|secs| secs - first);
    let by_container = || whole().filter(|_| container.stream_count() == 1).map(|secs| secs - first);
    let secs = match format.as_str() {
        "matroska,webm" => by_tag.or_else(|| by_container().filter(|_| is_from_header))?,
        "flv" => by_container()?,
        // The index states when the last frame is shown, not when it ends.
        "nut" if is_from_index => by_container()? + 1.0 / rate.as_f64(),
        _ => own.filter(|_| is_from_header)?,
    };
    let frames = (secs * rate.as_f64()).round();
    (frames >= 1.0).then_some(frames as u64)
}

/// Parses a time such as "00:01:30.5" to seconds.
fn clock_secs(text: &str) -> Option<f64> {
    text.trim().split(':').try_fold(0.0, |secs, part| Some(secs * 60.0 + part.parse::<f64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(breaks: &[Option<i64>], pts: impl IntoIterator<Item = i64>) -> u64 {
        let base = TimeBase::new(1, 1000).expect("valid");
        let mut meter = LossMeter::new(base, Rational::new(25, 1));
        breaks.iter().for_each(|at| meter.note(Break::Loss(*at)));
        pts.into_iter().for_each(|pts| meter.frame(pts, None));
        meter.lost()
    }

    #[test]
    fn a_gap_beside_a_break_is_loss_and_another_is_a_pause() {
        let gap = || [0, 40, 80, 240, 280];
        assert_eq!(lost(&[], gap()), 0);
        assert_eq!(lost(&[Some(240)], gap()), 3);
        assert_eq!(lost(&[None], gap()), 3);
        assert_eq!(lost(&[Some(90_000)], gap()), 0);
        assert_eq!(lost(&[Some(40)], [0, 40, 81, 120]), 0, "rounded times");
        assert_eq!(lost(&[Some(40), None], (0..70).map(|n| n * 40).chain([3200])), 0, "long ago");
    }

    #[test]
    fn a_damaged_timestamp_is_no_missing_frame() {
        assert_eq!(lost(&[Some(120)], [0, 40, 180, 181, 182, 200, 240]), 0);
        assert_eq!(lost(&[Some(120)], [0, 40, 180, 181, 280, 320]), 3);
    }

    #[test]
    fn frames_that_damage_takes_from_the_start_are_lost() {
        assert_eq!(lost(&[Some(0)], [160, 200]), 4);
        assert_eq!(lost(&[Some(200)], [160, 200]), 0);
        assert_eq!(lost(&[None], [160, 200]), 0);
    }

    #[test]
    fn a_short_gap_in_mpeg_ps_is_loss_unless_there_are_many() {
        let lost = |pts: Vec<i64>| {
            let base = TimeBase::new(1, 1000).expect("valid");
            let mut meter = LossMeter { max_silent: 1_000, ..LossMeter::new(base, Rational::new(25, 1)) };
            pts.into_iter().for_each(|pts| meter.frame(pts, None));
            meter.lost()
        };
        let grid = |frames: std::ops::Range<i64>| frames.map(|frame| frame * 40);
        assert_eq!(lost(grid(0..10).chain(grid(13..20)).collect()), 3);
        assert_eq!(lost(grid(0..10).chain(grid(90..100)).collect()), 0, "a pause");
        assert_eq!(lost(grid(0..300).filter(|pts| pts % 280 != 0).collect()), 0, "no regular timeline");
    }

    #[test]
    fn a_gap_between_joined_recordings_is_no_loss() {
        let mut meter = LossMeter::new(TimeBase::new(1, 1000).expect("valid"), Rational::new(25, 1));
        [Break::Loss(Some(80)), Break::Joint(240)].into_iter().for_each(|found| meter.note(found));
        [0, 40, 80, 240, 280, 400].into_iter().for_each(|pts| meter.frame(pts, None));
        assert_eq!(meter.lost(), 2, "the gap behind the joint");
    }

    #[test]
    fn clocks_are_read() {
        assert_eq!(clock_secs("00:01:30.5"), Some(90.5));
        assert_eq!(clock_secs("soon"), None);
    }
}
