//! Frame numbers of clips, for Python.

use framerail::{
    core::SplitMix64,
    reader::{ClipEdge, ClipPolicy, ClipSampling, ClipSteps, ClipVideo, sample_clips},
};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde::Deserialize;

use crate::options::parse;

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Policy {
    Random { num_clips: usize, seed: u64 },
    Regular { num_clips: usize },
    Every { step: f64 },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Steps {
    Frames { stride: usize, start: usize, end: Option<usize> },
    Seconds { stride: Option<f64>, start: Option<f64>, end: Option<f64> },
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Edge {
    Error,
    Repeat,
    Wrap,
    Mirror,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sampling {
    policy: Policy,
    frames_per_clip: usize,
    steps: Steps,
    edge: Edge,
}

impl Sampling {
    fn into_sampling(self) -> ClipSampling {
        let policy = match self.policy {
            Policy::Random { num_clips, seed } => ClipPolicy::Random { num_clips, seed },
            Policy::Regular { num_clips } => ClipPolicy::Regular { num_clips },
            Policy::Every { step } => ClipPolicy::Every { step },
        };
        let steps = match self.steps {
            Steps::Frames { stride, start, end } => ClipSteps::Frames { stride, start, end },
            Steps::Seconds { stride, start, end } => ClipSteps::Seconds { stride, start, end },
        };
        let edge = match self.edge {
            Edge::Error => ClipEdge::Error,
            Edge::Repeat => ClipEdge::RepeatLast,
            Edge::Wrap => ClipEdge::Wrap,
            Edge::Mirror => ClipEdge::Mirror,
        };
        ClipSampling { policy, frames_per_clip: self.frames_per_clip, steps, edge }
    }
}

/// Parses the sampling of clips.
///
/// # Errors
/// `ValueError`.
pub fn sampling(json: &str) -> PyResult<ClipSampling> {
    Ok(parse::<Sampling>(json)?.into_sampling())
}

/// Numbers of the frames of each clip, and the number of filled frames at its end. `times` are the frames' start times and the last
/// one's end, in seconds, for sampling by time.
///
/// # Errors
/// `ValueError`: which option, range or clip is impossible.
#[pyfunction]
#[pyo3(name = "sample_clips")]
pub fn sample(sampling_json: &str, num_frames: usize, times: Option<(Vec<f64>, f64)>) -> PyResult<Vec<(Vec<usize>, usize)>> {
    let sampling = sampling(sampling_json)?;
    let video = match &times {
        Some((starts, end)) => ClipVideo::of_times(starts, *end),
        None => ClipVideo::of_frames(num_frames),
    };
    let clips = sample_clips(&sampling, &video).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(clips.into_iter().map(|clip| (clip.frames, clip.filled)).collect())
}

/// A separate seed for each combination of a seed and numbers, such as epoch and file.
#[pyfunction]
pub fn mixed_seed(seed: u64, numbers: Vec<u64>) -> u64 {
    SplitMix64::of(seed, &numbers).next_u64()
}
