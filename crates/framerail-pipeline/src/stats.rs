//! Where the time of a run went.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a copy of pixels was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyKind {
    /// Within host memory: a frame made writable, a pixel format changed.
    Host,
    /// Host to device.
    Upload,
    /// Device to host.
    Download,
    /// Within device memory.
    Device,
}

impl CopyKind {
    /// Every kind.
    pub const ALL: [CopyKind; 4] = [CopyKind::Host, CopyKind::Upload, CopyKind::Download, CopyKind::Device];
}

/// Copies of one kind in one stage.
#[derive(Clone, Debug, Serialize)]
pub struct CopyStats {
    /// What they were for.
    pub kind: CopyKind,
    /// How many.
    pub count: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// One stage of a run.
#[derive(Clone, Debug, Serialize)]
pub struct StageStats {
    /// Name in this pipeline.
    pub name: String,
    /// Worker threads.
    pub workers: usize,
    /// Frames taken.
    pub frames_in: u64,
    /// Frames given, counted once however many stages follow.
    pub frames_out: u64,
    /// Items of any kind taken.
    pub items_in: u64,
    /// Items of any kind given.
    pub items_out: u64,
    /// Seconds at work, summed over workers.
    pub busy_secs: f64,
    /// Seconds waiting for input, summed over workers.
    pub wait_input_secs: f64,
    /// Seconds waiting for room in a following queue, summed over workers.
    pub wait_output_secs: f64,
    /// Copies of pixels.
    pub copies: Vec<CopyStats>,
    /// The stage's own counts, such as `frames_repaired`.
    pub counters: BTreeMap<String, u64>,
    /// What the stage told the user.
    pub notices: Vec<String>,
}

/// One edge of a run.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeStats {
    /// Stage that gives.
    pub from: String,
    /// Stage that takes.
    pub to: String,
    /// Frames that the queue holds at most.
    pub capacity: usize,
    /// Mean number of frames in the queue, weighted by time.
    pub mean_depth: f64,
    /// Most frames that were in the queue at once.
    pub max_depth: usize,
    /// Frames that went through.
    pub frames: u64,
    /// Frames that a probe or a drop policy took out.
    pub dropped: u64,
    /// The negotiated format, in words.
    pub format: String,
}

/// Where the time of a run went. Written by `--stats`.
#[derive(Clone, Debug, Serialize)]
pub struct RunStats {
    /// Seconds from start to end, or to now.
    pub wall_secs: f64,
    /// Seconds of processor time that the process used in between, all threads.
    pub cpu_secs: f64,
    /// Highest resident memory of the process so far, in bytes; 0 where the system does not say.
    pub memory_peak_bytes: u64,
    /// The stage that limits the run, once it ran long enough to tell.
    pub limiting_stage: Option<String>,
    /// Every stage, in order of the pipeline.
    pub stages: Vec<StageStats>,
    /// Every edge.
    pub edges: Vec<EdgeStats>,
}
