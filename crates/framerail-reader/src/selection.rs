//! Resolves selections to frame numbers.

use crate::{FrameTime, ReaderError, Selection};

/// Tolerance in seconds when matching a time to a frame: sums of seconds are rounded.
pub(crate) const ROUNDING_SECS: f64 = 1e-7;

/// Maximum frames of one selection; larger selections are rejected as mistakes.
const MAX_FRAMES: f64 = (1_u64 << 32) as f64;

/// An error in a selection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// An invalid option, and the reason.
    Option(&'static str, String),
    /// A position outside of the video.
    Range(String),
}

/// The frame numbers of a selection of a video.
pub(crate) fn of_video(
    selection: &Selection,
    times: &[FrameTime],
    source_name: impl FnOnce() -> String,
) -> Result<Vec<usize>, ReaderError> {
    numbers(selection, times, ROUNDING_SECS).map_err(|wrong| match wrong {
        Wrong::Option(name, reason) => ReaderError::BadOption { name, reason },
        Wrong::Range(reason) => ReaderError::OutOfRange { source_name: source_name(), reason },
    })
}

/// The frame numbers of a selection, in its order.
fn numbers(selection: &Selection, times: &[FrameTime], rounding: f64) -> Result<Vec<usize>, Wrong> {
    let frames = times.len();
    match selection {
        Selection::All => Ok((0..frames).collect()),
        Selection::Range { step: 0, .. } => Err(Wrong::Option("step", "give at least 1".into())),
        Selection::Range { start, stop, step } => Ok((*start..stop.unwrap_or(frames).min(frames)).step_by(*step).collect()),
        Selection::List(numbers) => match numbers.iter().find(|number| **number >= frames) {
            Some(number) => Err(Wrong::Range(format!("frame {number} was requested; there are {frames}, numbered from 0"))),
            None => Ok(numbers.clone()),
        },
        Selection::Fps { fps, start_secs, end_secs } => by_rate(*fps, *start_secs, *end_secs, times, rounding),
    }
}

fn by_rate(fps: f64, start: Option<f64>, end: Option<f64>, times: &[FrameTime], rounding: f64) -> Result<Vec<usize>, Wrong> {
    if !(fps.is_finite() && fps > 0.0) {
        return Err(Wrong::Option("fps", format!("{fps} is not a rate; use frames per second above 0")));
    }
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Ok(Vec::new()) };
    let over = last.seconds + last.duration_secs;
    let start = start.unwrap_or(first.seconds);
    let end = end.unwrap_or(over).min(over);
    if !start.is_finite() || end.is_nan() {
        return Err(Wrong::Option("fps", "start and end must be numbers of seconds".into()));
    }
    let count = ((end - start - rounding) * fps).ceil().max(0.0);
    if count > MAX_FRAMES {
        return Err(Wrong::Option("fps", format!("{fps} frames per second make {count} frames")));
    }
    (0..count as usize).map(|frame| frame_at(times, start + frame as f64 / fps, rounding).map_err(Wrong::Range)).collect()
}

/// The frame on screen at a time; `Err` with a message when there is none.
pub(crate) fn frame_at(times: &[FrameTime], secs: f64, rounding: f64) -> Result<usize, String> {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return Err("there is no frame in it".into()) };
    // A frame exists at its own timestamp even if its duration is zero, and the end is excluded regardless of rounding.
    let end = last.seconds + last.duration_secs;
    let is_within = secs >= first.seconds - rounding && (secs < end - rounding || secs - last.seconds < rounding);
    if !is_within {
        return Err(format!("{secs} s was requested; frames are shown from {} to {end} s", first.seconds));
    }
    Ok(times.partition_point(|time| time.seconds <= secs + rounding).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use framerail_core::Pts;

    use super::*;

    fn times(seconds: &[f64], end: f64) -> Vec<FrameTime> {
        let next = seconds.iter().skip(1).copied().chain([end]);
        let time =
            |(seconds, next): (&f64, f64)| FrameTime { pts: Pts(0), seconds: *seconds, duration_secs: next - seconds, is_keyframe: false };
        seconds.iter().zip(next).map(time).collect()
    }

    #[test]
    fn a_frame_is_on_screen_until_the_next() {
        let times = times(&[1.0, 1.5, 3.0], 3.5);
        let at = |secs| frame_at(&times, secs, 1e-7).ok();
        assert_eq!(
            [at(0.9), at(1.0), at(1.49), at(1.5), at(2.99), at(3.4), at(3.5), at(f64::NAN)],
            [None, Some(0), Some(0), Some(1), Some(1), Some(2), None, None]
        );
        assert_eq!(at(1.5 - 1e-9), Some(1), "sums of seconds are rounded");
        assert_eq!(at(3.5 - 1e-9), None, "those of the end as well");
        let (lasting, at_once) = (self::times(&[0.0, 0.1 + 0.2], 0.1 + 0.2 + 0.1), self::times(&[2.0], 2.0));
        assert_eq!(
            (frame_at(&lasting, 0.4, 1e-7).ok(), frame_at(&at_once, 2.0, 1e-7), frame_at(&at_once, 2.1, 1e-7).ok()),
            (None, Ok(0), None)
        );
    }

    #[test]
    fn ranges_end_with_the_video_and_lists_do_not_reach_beyond() {
        let times = times(&[0.0, 0.1, 0.2, 0.3, 0.4], 0.5);
        let numbers = |selection: &Selection| numbers(selection, &times, 1e-7);
        assert_eq!(numbers(&Selection::Range { start: 1, stop: Some(9), step: 2 }), Ok(vec![1, 3]));
        assert_eq!(numbers(&Selection::Range { start: 7, stop: None, step: 1 }), Ok(vec![]));
        assert!(matches!(numbers(&Selection::List(vec![5])), Err(Wrong::Range(_))));
        assert!(matches!(numbers(&Selection::Range { start: 0, stop: None, step: 0 }), Err(Wrong::Option("step", _))));
        assert_eq!(numbers(&Selection::Fps { fps: 5.0, start_secs: None, end_secs: None }), Ok(vec![0, 2, 4]));
        assert_eq!(numbers(&Selection::Fps { fps: 20.0, start_secs: Some(0.2), end_secs: Some(0.3) }), Ok(vec![2, 2]));
        assert!(matches!(numbers(&Selection::Fps { fps: 0.0, start_secs: None, end_secs: None }), Err(Wrong::Option("fps", _))));
    }
}
