//! Selects the frames of training clips: at random or regular positions, by frame number or by time.
//!
//! A pure function of a video's frame list: nothing is decoded here. [`SplitMix64`] draws the positions from the seed alone, one draw per
//! clip in order; the results stay the same between versions.

use framerail_core::SplitMix64;

/// Times less than this past the end count as before it, to allow for rounding of sums of seconds.
const ROUNDING_SECS: f64 = 1e-7;
/// Maximum frames of one request; larger requests are rejected as mistakes.
const MAX_FRAMES: usize = 1 << 28;

/// Which clips to take from a video.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipSampling {
    /// Where clips start.
    pub policy: ClipPolicy,
    /// Frames per clip; at least 1.
    pub frames_per_clip: usize,
    /// The unit and stride of a clip, and the part of the video in which clips start.
    pub steps: ClipSteps,
    /// What replaces frames beyond the end of the video.
    pub edge: ClipEdge,
}

/// Where clips start, within the range of [`ClipSteps`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClipPolicy {
    /// At uniformly distributed random positions, in the order drawn; positions may repeat.
    Random {
        /// Number of clips; at least 1.
        num_clips: usize,
        /// The same seed gives the same positions. For a data set, mix in file and epoch: [`SplitMix64::of`].
        seed: u64,
    },
    /// Evenly spaced from the first to the last position of the range, both included; a single clip starts at the first.
    Regular {
        /// Number of clips; at least 1.
        num_clips: usize,
    },
    /// At the first position of the range, and at every `step` after it.
    Every {
        /// Distance between starts, in frames (a whole number) or seconds, as in [`ClipSteps`]; above 0.
        step: f64,
    },
}

/// The unit and stride of a clip, and where clips may start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClipSteps {
    /// Frame numbers.
    Frames {
        /// Distance between consecutive frames of a clip; 1 takes every frame.
        stride: usize,
        /// First frame number at which a clip may start.
        start: usize,
        /// End of the range of starts, exclusive. `None`: after the last start whose clip is complete; `start` when there is none.
        end: Option<usize>,
    },
    /// Times in seconds: each selects the frame on screen.
    Seconds {
        /// Distance between consecutive frames of a clip. `None`: the mean time between the video's frames.
        stride: Option<f64>,
        /// First time at which a clip may start. `None`: the time of the first frame.
        start: Option<f64>,
        /// End of the range of starts, exclusive. `None`: after the last start whose clip is complete; `start` when there is none.
        end: Option<f64>,
    },
}

/// What replaces the frames of a clip that lie beyond the end of the video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClipEdge {
    /// Nothing: such clips are an error.
    Error,
    /// The last existing frame of the clip, repeated.
    #[default]
    RepeatLast,
    /// The existing frames of the clip, starting again from the first.
    Wrap,
    /// The existing frames of the clip, alternating backwards and forwards; frames at the turning points are not repeated.
    Mirror,
}

/// The properties of a video that determine its clips.
#[derive(Clone, Copy, Debug)]
pub struct ClipVideo<'a> {
    num_frames: usize,
    times: Option<(&'a [f64], f64)>,
}

impl<'a> ClipVideo<'a> {
    /// A video given by its number of frames, for [`ClipSteps::Frames`].
    pub fn of_frames(num_frames: usize) -> Self {
        Self { num_frames, times: None }
    }

    /// A video given by the start time of each frame, rising, and the end time of the last one, in seconds.
    pub fn of_times(starts_secs: &'a [f64], end_secs: f64) -> Self {
        Self { num_frames: starts_secs.len(), times: Some((starts_secs, end_secs)) }
    }
}

/// One clip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Frame numbers, as many as requested.
    pub frames: Vec<usize>,
    /// Number of frames at the end that stand in for frames beyond the end of the video.
    pub filled: usize,
}

/// Why clips cannot be selected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// An invalid option value.
    #[error("{option} is {given}; give {expected}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The value as given.
        given: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// A range of starts outside of the video.
    #[error("clips cannot start in {given}: {reason}")]
    Range {
        /// The range as given.
        given: String,
        /// The range of the video.
        reason: String,
    },
    /// A clip longer than the rest of the video, with [`ClipEdge::Error`].
    #[error(
        "a clip that starts at {start} has only {have} of {need} frames before the video ends at {end}; use fewer frames, a smaller \
         stride, an earlier end of the range, or the edge repeat, wrap or mirror"
    )]
    TooShort {
        /// Frame number or time at which the clip starts.
        start: String,
        /// Frames that exist.
        have: usize,
        /// Frames per clip.
        need: usize,
        /// Frame count or time at which the video ends.
        end: String,
    },
    /// A video without frames, or without the times that the request needs.
    #[error("{0}")]
    NoFrames(&'static str),
}

/// Returns the frames of each clip, in the order of the policy: rising starts, except for random ones.
///
/// # Errors
/// [`ClipError`]: which option, range or clip is impossible, and what is available instead.
pub fn sample_clips(sampling: &ClipSampling, video: &ClipVideo<'_>) -> Result<Vec<Clip>, ClipError> {
    if video.num_frames == 0 {
        return Err(ClipError::NoFrames("the video has no frames, so there are no clips"));
    }
    check_counts(sampling)?;
    match sampling.steps {
        ClipSteps::Frames { stride, start, end } => by_frames(sampling, video.num_frames, stride, start, end),
        ClipSteps::Seconds { stride, start, end } => by_seconds(sampling, video, stride, start, end),
    }
}

fn option(option: &'static str, given: impl ToString, expected: &'static str) -> ClipError {
    ClipError::Option { option, given: given.to_string(), expected }
}

fn check_counts(sampling: &ClipSampling) -> Result<(), ClipError> {
    let clips = match sampling.policy {
        ClipPolicy::Random { num_clips, .. } | ClipPolicy::Regular { num_clips } => num_clips,
        ClipPolicy::Every { step } if step.is_finite() && step > 0.0 => 1,
        ClipPolicy::Every { step } => return Err(option("step between clips", step, "a number above 0")),
    };
    if clips == 0 {
        return Err(option("num_clips", clips, "at least 1"));
    }
    if sampling.frames_per_clip == 0 {
        return Err(option("frames_per_clip", 0, "at least 1"));
    }
    check_total(clips, sampling.frames_per_clip)
}

fn check_total(clips: usize, frames: usize) -> Result<(), ClipError> {
    match clips.checked_mul(frames) {
        Some(total) if total <= MAX_FRAMES => Ok(()),
        _ => Err(option("num_clips", format!("{clips} of {frames} frames each"), "at most 2^28 frames in all")),
    }
}

fn by_frames(sampling: &ClipSampling, num_frames: usize, stride: usize, start: usize, end: Option<usize>) -> Result<Vec<Clip>, ClipError> {
    if stride == 0 {
        return Err(option("stride", 0, "at least 1 frame"));
    }
    let span = (sampling.frames_per_clip - 1).saturating_mul(stride);
    let end = end.unwrap_or_else(|| num_frames.saturating_sub(span).max(start.saturating_add(1)));
    if start >= end || end > num_frames {
        let reason = format!("the video has frames 0 to {}, and a range needs at least one", num_frames - 1);
        return Err(ClipError::Range { given: format!("frames {start}..{end}"), reason });
    }
    let starts = frame_starts(sampling, start, end)?;
    let clip = |first: usize| {
        let numbers = (0..sampling.frames_per_clip).map_while(|index| first.checked_add(index.checked_mul(stride)?));
        let present = numbers.take_while(|number| *number < num_frames).collect();
        filled_up(sampling, present).map_err(|have| too_short(sampling, format!("frame {first}"), have, num_frames.to_string()))
    };
    starts.into_iter().map(clip).collect()
}

fn frame_starts(sampling: &ClipSampling, start: usize, end: usize) -> Result<Vec<usize>, ClipError> {
    let last = end - 1 - start;
    Ok(match sampling.policy {
        ClipPolicy::Random { num_clips, seed } => {
            let mut random = SplitMix64::new(seed);
            (0..num_clips).map(|_| start + random.below((end - start) as u64) as usize).collect()
        }
        ClipPolicy::Regular { num_clips } => {
            let gaps = (num_clips - 1).max(1) as u128;
            (0..num_clips).map(|clip| start + (clip as u128 * last as u128 / gaps) as usize).collect()
        }
        ClipPolicy::Every { step } => {
            if step.fract() != 0.0 {
                return Err(option("step between clips", step, "a whole number of frames"));
            }
            check_total(last / step as usize + 1, sampling.frames_per_clip)?;
            (start..end).step_by(step as usize).collect()
        }
    })
}

/// The frames and times of a video, for sampling by time.
struct Times<'a> {
    starts: &'a [f64],
    end: f64,
    /// Mean seconds between frames.
    mean: f64,
}

impl<'a> Times<'a> {
    fn new(video: &ClipVideo<'a>) -> Result<Self, ClipError> {
        let (starts, end) = video.times.ok_or(ClipError::NoFrames("clips by time need the frames' times; sample by frame numbers"))?;
        let rising = starts.windows(2).all(|pair| pair[0] <= pair[1]);
        let (Some(first), true, true) = (starts.first(), rising, end.is_finite()) else {
            return Err(ClipError::NoFrames(
                "the video's timestamps do not increase, so clips by time are not possible; sample by frame \
                                            numbers",
            ));
        };
        Ok(Self { starts, end, mean: (end - first) / starts.len() as f64 })
    }

    fn first(&self) -> f64 {
        self.starts.first().copied().unwrap_or(0.0)
    }

    /// The frame on screen, if the video shows one at this time.
    fn frame_at(&self, secs: f64) -> Option<usize> {
        if secs >= self.end + ROUNDING_SECS {
            return None;
        }
        self.starts.partition_point(|start| *start <= secs + ROUNDING_SECS).checked_sub(1)
    }
}

fn by_seconds(
    sampling: &ClipSampling,
    video: &ClipVideo<'_>,
    stride: Option<f64>,
    start: Option<f64>,
    end: Option<f64>,
) -> Result<Vec<Clip>, ClipError> {
    let times = Times::new(video)?;
    let stride = stride.unwrap_or(times.mean);
    if !stride.is_finite() || stride <= 0.0 {
        return Err(option("seconds between frames", stride, "a number above 0"));
    }
    let span = (sampling.frames_per_clip - 1) as f64 * stride;
    let start = start.unwrap_or_else(|| times.first());
    let given_end = end;
    let end = given_end.unwrap_or_else(|| (times.end - span).max(start));
    let empty = if given_end.is_some() { start >= end } else { start >= times.end };
    if !start.is_finite() || !end.is_finite() || empty || start < times.first() - ROUNDING_SECS || end > times.end + ROUNDING_SECS {
        let reason = format!("the video shows frames from {} s to {} s, and a range needs a length", times.first(), times.end);
        return Err(ClipError::Range { given: format!("{start} s to {end} s"), reason });
    }
    let clip = |first: f64| {
        let at = |index: usize| times.frame_at(first + index as f64 * stride);
        let present = (0..sampling.frames_per_clip).map_while(at).collect();
        filled_up(sampling, present).map_err(|have| too_short(sampling, format!("{first} s"), have, format!("{} s", times.end)))
    };
    time_starts(sampling, start, end, times.mean)?.into_iter().map(clip).collect()
}

fn time_starts(sampling: &ClipSampling, start: f64, end: f64, mean: f64) -> Result<Vec<f64>, ClipError> {
    Ok(match sampling.policy {
        ClipPolicy::Random { num_clips, seed } => {
            let mut random = SplitMix64::new(seed);
            (0..num_clips).map(|_| start + random.unit() * (end - start)).collect()
        }
        ClipPolicy::Regular { num_clips } => {
            // The last start is one frame before the end, as with frame numbers.
            let last = (end - start - mean).max(0.0);
            let gaps = (num_clips - 1).max(1) as f64;
            (0..num_clips).map(|clip| start + last * (clip as f64 / gaps)).collect()
        }
        ClipPolicy::Every { step } => {
            let clips = ((end - start - ROUNDING_SECS) / step).ceil().max(1.0);
            check_total(clips as usize, sampling.frames_per_clip)?;
            (0..clips as usize).map(|clip| start + clip as f64 * step).collect()
        }
    })
}

fn too_short(sampling: &ClipSampling, start: String, have: usize, end: String) -> ClipError {
    ClipError::TooShort { start, have, need: sampling.frames_per_clip, end }
}

/// Completes a clip from its existing frames; `Err` with their number when the edge policy does not allow it.
fn filled_up(sampling: &ClipSampling, mut frames: Vec<usize>) -> Result<Clip, usize> {
    let (have, need) = (frames.len(), sampling.frames_per_clip);
    if have == need {
        return Ok(Clip { frames, filled: 0 });
    }
    // Each start lies within the video, so there is a first frame; the check guards against an empty clip.
    if have == 0 || sampling.edge == ClipEdge::Error {
        return Err(have);
    }
    let period = (2 * (have - 1)).max(1);
    let source = |index: usize| match sampling.edge {
        ClipEdge::Wrap => index % have,
        ClipEdge::Mirror => (index % period).min(period - index % period),
        ClipEdge::RepeatLast | ClipEdge::Error => have - 1,
    };
    let filling: Vec<usize> = (have..need).filter_map(|index| frames.get(source(index)).copied()).collect();
    frames.extend(filling);
    Ok(Clip { frames, filled: need - have })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(stride: usize, start: usize, end: Option<usize>) -> ClipSteps {
        ClipSteps::Frames { stride, start, end }
    }

    fn seconds(stride: Option<f64>, start: Option<f64>, end: Option<f64>) -> ClipSteps {
        ClipSteps::Seconds { stride, start, end }
    }

    fn sampling(policy: ClipPolicy, frames_per_clip: usize, steps: ClipSteps, edge: ClipEdge) -> ClipSampling {
        ClipSampling { policy, frames_per_clip, steps, edge }
    }

    fn numbers(sampling: &ClipSampling, video: &ClipVideo<'_>) -> Vec<Vec<usize>> {
        sample_clips(sampling, video).expect("possible").into_iter().map(|clip| clip.frames).collect()
    }

    fn refusal(sampling: &ClipSampling, video: &ClipVideo<'_>) -> String {
        sample_clips(sampling, video).expect_err("impossible").to_string()
    }

    fn at_rate(fps: f64, count: usize, from: f64) -> Vec<f64> {
        (0..count).map(|frame| from + frame as f64 / fps).collect()
    }

    const REGULAR_3: ClipPolicy = ClipPolicy::Regular { num_clips: 3 };

    #[test]
    fn regular_clips_reach_from_the_first_to_the_last_whole_one() {
        let clips = numbers(&sampling(REGULAR_3, 4, frames(2, 0, None), ClipEdge::Error), &ClipVideo::of_frames(20));
        assert_eq!(clips, [[0, 2, 4, 6], [6, 8, 10, 12], [13, 15, 17, 19]]);
        let one = sampling(ClipPolicy::Regular { num_clips: 1 }, 2, frames(1, 5, Some(10)), ClipEdge::Error);
        assert_eq!(numbers(&one, &ClipVideo::of_frames(20)), [[5, 6]]);
    }

    #[test]
    fn random_clips_are_those_of_their_seed() {
        let clips = |seed| {
            let random = ClipPolicy::Random { num_clips: 4, seed };
            numbers(&sampling(random, 2, frames(3, 0, None), ClipEdge::Error), &ClipVideo::of_frames(100))
        };
        // Part of the public interface: these numbers must not change.
        assert_eq!(clips(0), [[85, 88], [41, 44], [2, 5], [94, 97]]);
        assert_eq!(clips(0), clips(0));
        assert_ne!(clips(0), clips(1));
    }

    #[test]
    fn a_clip_every_so_many_frames() {
        let every = |step| sampling(ClipPolicy::Every { step }, 2, frames(1, 1, None), ClipEdge::Error);
        assert_eq!(numbers(&every(3.0), &ClipVideo::of_frames(9)), [[1, 2], [4, 5], [7, 8]]);
        assert_eq!(refusal(&every(2.5), &ClipVideo::of_frames(9)), "step between clips is 2.5; give a whole number of frames");
    }

    #[test]
    fn edges_fill_what_is_missing_and_say_how_much() {
        let clip = |edge| {
            let sampling = sampling(ClipPolicy::Regular { num_clips: 1 }, 9, frames(2, 3, Some(4)), edge);
            sample_clips(&sampling, &ClipVideo::of_frames(10)).expect("filled").remove(0)
        };
        assert_eq!(clip(ClipEdge::RepeatLast), Clip { frames: vec![3, 5, 7, 9, 9, 9, 9, 9, 9], filled: 5 });
        assert_eq!(clip(ClipEdge::Wrap), Clip { frames: vec![3, 5, 7, 9, 3, 5, 7, 9, 3], filled: 5 });
        assert_eq!(clip(ClipEdge::Mirror), Clip { frames: vec![3, 5, 7, 9, 7, 5, 3, 5, 7], filled: 5 });
        let lone = sampling(ClipPolicy::Every { step: 1.0 }, 4, frames(1, 0, None), ClipEdge::Mirror);
        assert_eq!(numbers(&lone, &ClipVideo::of_frames(1)), [[0, 0, 0, 0]]);
    }

    #[test]
    fn a_clip_that_is_too_long_says_what_is_missing() {
        let long = sampling(REGULAR_3, 16, frames(2, 0, None), ClipEdge::Error);
        let words = refusal(&long, &ClipVideo::of_frames(20));
        assert!(words.starts_with("a clip that starts at frame 0 has only 10 of 16 frames before the video ends at 20; "), "{words}");
        let by_time = sampling(REGULAR_3, 3, seconds(Some(1.0), None, None), ClipEdge::Error);
        let times = at_rate(10.0, 15, 0.5);
        let words = refusal(&by_time, &ClipVideo::of_times(&times, 2.0));
        assert!(words.starts_with("a clip that starts at 0.5 s has only 2 of 3 frames before the video ends at 2 s; "), "{words}");
    }

    #[test]
    fn options_and_ranges_are_checked() {
        let video = ClipVideo::of_frames(10);
        let with = |policy, count, steps| refusal(&sampling(policy, count, steps, ClipEdge::Wrap), &video);
        assert_eq!(with(ClipPolicy::Regular { num_clips: 0 }, 1, frames(1, 0, None)), "num_clips is 0; give at least 1");
        assert_eq!(with(REGULAR_3, 0, frames(1, 0, None)), "frames_per_clip is 0; give at least 1");
        assert_eq!(with(REGULAR_3, 1, frames(0, 0, None)), "stride is 0; give at least 1 frame");
        assert_eq!(with(ClipPolicy::Every { step: f64::NAN }, 1, frames(1, 0, None)), "step between clips is NaN; give a number above 0");
        let reason = "the video has frames 0 to 9, and a range needs at least one";
        assert_eq!(with(REGULAR_3, 1, frames(1, 4, Some(4))), format!("clips cannot start in frames 4..4: {reason}"));
        assert_eq!(with(REGULAR_3, 1, frames(1, 0, Some(11))), format!("clips cannot start in frames 0..11: {reason}"));
        assert_eq!(with(REGULAR_3, 1, frames(1, 10, None)), format!("clips cannot start in frames 10..11: {reason}"));
        assert!(with(ClipPolicy::Regular { num_clips: usize::MAX }, 2, frames(1, 0, None)).contains("at most 2^28 frames"));
        assert!(with(REGULAR_3, 1, seconds(None, None, None)).contains("need the frames' times"));
        assert!(refusal(&sampling(REGULAR_3, 1, frames(1, 0, None), ClipEdge::Wrap), &ClipVideo::of_frames(0)).contains("no frames"));
        let times = at_rate(10.0, 10, 1.0);
        let timed = |steps| refusal(&sampling(REGULAR_3, 1, steps, ClipEdge::Wrap), &ClipVideo::of_times(&times, 2.0));
        assert!(timed(seconds(None, Some(0.5), None)).ends_with("shows frames from 1 s to 2 s, and a range needs a length"));
        assert!(timed(seconds(None, Some(2.0), None)).starts_with("clips cannot start in 2 s to 2 s"));
        assert!(timed(seconds(None, None, Some(f64::NAN))).starts_with("clips cannot start in 1 s to NaN s"));
        assert_eq!(timed(seconds(Some(0.0), None, None)), "seconds between frames is 0; give a number above 0");
    }

    #[test]
    fn times_pick_the_frame_on_screen() {
        // Variable frame rate: frames at 2.0, 2.1, 2.5 and 3.5 s; the last one ends at 4.0 s.
        let (starts, end) = ([2.0, 2.1, 2.5, 3.5], 4.0);
        let clip = sampling(ClipPolicy::Regular { num_clips: 1 }, 5, seconds(Some(0.4), None, None), ClipEdge::Error);
        assert_eq!(numbers(&clip, &ClipVideo::of_times(&starts, end)), [[0, 1, 2, 2, 3]]);
    }

    #[test]
    fn times_at_a_constant_rate_give_the_numbers_of_frames() {
        let times = at_rate(30_000.0 / 1001.0, 300, 1.4);
        let video = ClipVideo::of_times(&times, 1.4 + 300.0 * 1001.0 / 30_000.0);
        let (by_time, by_number) = (seconds(None, None, None), frames(1, 0, None));
        let clips = |policy, steps| numbers(&sampling(policy, 8, steps, ClipEdge::Error), &video);
        assert_eq!(clips(ClipPolicy::Regular { num_clips: 293 }, by_time), clips(ClipPolicy::Regular { num_clips: 293 }, by_number));
        let every = ClipPolicy::Every { step: 10.0 * 1001.0 / 30_000.0 };
        assert_eq!(clips(every, by_time), clips(ClipPolicy::Every { step: 10.0 }, by_number));
    }

    fn policies() -> impl Strategy<Value = ClipPolicy> {
        prop_oneof![
            (1_usize..20, any::<u64>()).prop_map(|(num_clips, seed)| ClipPolicy::Random { num_clips, seed }),
            (1_usize..20).prop_map(|num_clips| ClipPolicy::Regular { num_clips }),
            (1_u32..40).prop_map(|step| ClipPolicy::Every { step: step.into() }),
        ]
    }

    const EDGES: [ClipEdge; 3] = [ClipEdge::RepeatLast, ClipEdge::Wrap, ClipEdge::Mirror];

    proptest! {
        #[test]
        fn clips_have_their_length_lie_in_the_video_and_step_by_their_stride(
            policy in policies(), count in 1_usize..20, stride in 1_usize..9, num_frames in 1_usize..120, edge in 0_usize..3,
        ) {
            let video = ClipVideo::of_frames(num_frames);
            let clips = sample_clips(&sampling(policy, count, frames(stride, 0, None), EDGES[edge]), &video).expect("always possible");
            for Clip { frames, filled } in clips {
                prop_assert_eq!(frames.len(), count);
                prop_assert!(frames.iter().all(|frame| *frame < num_frames));
                let whole = &frames[..count - filled];
                prop_assert!(whole.windows(2).all(|pair| pair[1] - pair[0] == stride));
                prop_assert!(frames[count - filled..].iter().all(|frame| whole.contains(frame)));
                prop_assert_eq!(filled > 0, (count - 1) * stride >= num_frames);
            }
        }

        #[test]
        fn clips_by_time_are_filled_only_when_the_video_is_too_short(
            policy in policies(), count in 1_usize..20, stride in 0.01_f64..0.3, gaps in prop::collection::vec(0.001_f64..0.2, 1..80),
        ) {
            let starts: Vec<f64> = gaps.iter().scan(3.0, |at, gap| { *at += gap; Some(*at - gap) }).collect();
            let end = 3.0 + gaps.iter().sum::<f64>();
            let asked = sampling(policy, count, seconds(Some(stride), None, None), ClipEdge::RepeatLast);
            let clips = sample_clips(&asked, &ClipVideo::of_times(&starts, end)).expect("always possible");
            let span = (count - 1) as f64 * stride;
            prop_assert!(!clips.is_empty());
            for Clip { frames, filled } in clips {
                prop_assert_eq!(frames.len(), count);
                prop_assert!(frames.windows(2).all(|pair| pair[0] <= pair[1]));
                prop_assert!(frames.iter().all(|frame| *frame < starts.len()));
                prop_assert!(filled == 0 || span > end - 3.0 - 1e-6);
            }
        }
    }
}
