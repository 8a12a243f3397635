//! Statistics of the last minutes of a run, so that charts are filled when the page opens.

use std::collections::VecDeque;

use framerail_pipeline::RunStats;
use serde::Serialize;

/// Number of samples kept: five minutes at one per second.
const MAX_SAMPLES: usize = 300;

/// The counters that charts are drawn from, at one point in time.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    /// Seconds since the run began.
    secs: f64,
    /// Frames of each stage so far, in pipeline order.
    frames: Vec<u64>,
    /// Busy seconds of each stage, summed over its workers.
    busy: Vec<f64>,
    /// Frames waiting on each edge.
    depths: Vec<usize>,
    /// Frames that reached the sinks.
    done: u64,
    /// Frames dropped, over all streams.
    dropped: u64,
    /// Resident memory in bytes.
    memory: u64,
    /// CPU seconds so far.
    cpu: f64,
}

impl Sample {
    pub(crate) fn of(stats: &RunStats) -> Self {
        let dropped = stats.streams.iter().map(|stream| stream.frames_dropped).sum::<u64>() + stats.earlier_streams.frames_dropped;
        Self {
            secs: stats.wall_secs,
            frames: stats.stages.iter().map(|stage| stage.frames_in.max(stage.frames_out)).collect(),
            busy: stats.stages.iter().map(|stage| stage.busy_secs / stage.workers.max(1) as f64).collect(),
            depths: stats.edges.iter().map(|edge| edge.depth).collect(),
            done: stats.frames_done(),
            dropped,
            memory: stats.memory_bytes,
            cpu: stats.cpu_secs,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct History {
    samples: VecDeque<Sample>,
}

impl History {
    pub(crate) fn add(&mut self, sample: Sample) {
        if self.samples.len() == MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub(crate) fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }
}
