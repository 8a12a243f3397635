//! Statistics of a run: where the time was spent.

use std::collections::BTreeMap;

use serde::Serialize;

/// Kind of a copy of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CopyKind {
    /// Within host memory: making a frame writable, or converting its pixel format.
    Host,
    /// Host to device.
    Upload,
    /// Device to host.
    Download,
    /// Within device memory.
    Device,
    /// From one device to another.
    Peer,
}

impl CopyKind {
    /// Every kind.
    pub const ALL: [CopyKind; 5] = [CopyKind::Host, CopyKind::Upload, CopyKind::Download, CopyKind::Device, CopyKind::Peer];

    /// The kind as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            CopyKind::Host => "host",
            CopyKind::Upload => "upload",
            CopyKind::Download => "download",
            CopyKind::Device => "device",
            CopyKind::Peer => "peer",
        }
    }
}

/// Copies of one kind in a stage.
#[derive(Clone, Debug, Serialize)]
pub struct CopyStats {
    /// Kind of the copies.
    pub kind: CopyKind,
    /// Number of copies.
    pub count: u64,
    /// Total bytes.
    pub bytes: u64,
}

/// Device memory used by a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryStats {
    /// The device, such as `cuda:0`.
    pub device: String,
    /// Peak usage in bytes.
    pub peak_bytes: u64,
}

/// Statistics of a stage.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StageStats {
    /// Name in this pipeline.
    pub name: String,
    /// Worker threads.
    pub workers: usize,
    /// Frames received.
    pub frames_in: u64,
    /// Frames output, counted once regardless of the number of following stages.
    pub frames_out: u64,
    /// Items of any kind received.
    pub items_in: u64,
    /// Items of any kind output.
    pub items_out: u64,
    /// Seconds spent working, summed over workers.
    pub busy_secs: f64,
    /// Seconds waiting for input, summed over workers.
    pub wait_input_secs: f64,
    /// Seconds waiting for room in a following queue, summed over workers.
    pub wait_output_secs: f64,
    /// Copies of pixels.
    pub copies: Vec<CopyStats>,
    /// Number of times that a thread of the stage waited for a device stream or event.
    pub syncs: u64,
    /// Device memory used by the stage, per device.
    pub memory: Vec<MemoryStats>,
    /// Counters of the stage, such as `frames_repaired`.
    pub counters: BTreeMap<String, u64>,
    /// Current values of the settings that can be changed during the run.
    pub settings: BTreeMap<String, f64>,
    /// Notices of the stage, each text once; limited in number.
    pub notices: Vec<String>,
    /// Why it failed, if it did. Other outputs of the run continue.
    pub failure: Option<String>,
}

/// Statistics of an edge.
#[derive(Clone, Debug, Serialize)]
pub struct EdgeStats {
    /// The producing stage.
    pub from: String,
    /// The consuming stage.
    pub to: String,
    /// Capacity of the queue in frames.
    pub capacity: usize,
    /// Frames in the queue now.
    pub depth: usize,
    /// Mean number of frames in the queue, weighted by time.
    pub mean_depth: f64,
    /// Maximum number of frames in the queue.
    pub max_depth: usize,
    /// Frames that passed through.
    pub frames: u64,
    /// Frames dropped by a probe or a drop policy.
    pub dropped: u64,
    /// The negotiated format as text.
    pub format: String,
}

/// State of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// Waiting to be opened.
    #[default]
    Waiting,
    /// Being opened.
    Opening,
    /// Producing frames.
    Running,
    /// Failed; waiting to be reopened.
    Retrying,
    /// Ended.
    Ended,
    /// Failed permanently.
    Failed,
    /// Removed during the run.
    Removed,
}

impl StreamState {
    /// Whether the stream produces nothing more.
    pub fn is_over(self) -> bool {
        matches!(self, StreamState::Ended | StreamState::Failed | StreamState::Removed)
    }

    /// The state as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            StreamState::Waiting => "waiting",
            StreamState::Opening => "opening",
            StreamState::Running => "running",
            StreamState::Retrying => "retrying",
            StreamState::Ended => "ended",
            StreamState::Failed => "failed",
            StreamState::Removed => "removed",
        }
    }
}

/// Statistics of a stream.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamStats {
    /// Its number.
    pub id: u32,
    /// Short name; empty while unknown.
    pub name: String,
    /// Its source.
    pub source: String,
    /// Current state.
    pub state: StreamState,
    /// Frames read from the source.
    pub frames_read: u64,
    /// Frames that reached the ends of the pipeline: the maximum over all ends. Stages that select frames reduce it. Frames that an end
    /// dropped afterwards, such as `write` to a server, are not included.
    pub frames_delivered: u64,
    /// Delivered frames that exceeded the latency budget.
    pub frames_late: u64,
    /// Frames dropped, over all places.
    pub frames_dropped: u64,
    /// Frames dropped by place: `read: buffer full`, `read: over budget`, `write: not sent`, or an edge such as `read to infer`
    /// (by a probe).
    pub drops: BTreeMap<String, u64>,
    /// Number of times that the source was reopened.
    pub reconnects: u64,
    /// Number of times that the source's clock jumped and timestamps were adjusted to continue.
    pub clock_jumps: u64,
    /// Mean latency in seconds from arrival to the end of the pipeline; 0 for files read at full speed.
    pub latency_mean_secs: f64,
    /// Maximum latency in seconds from arrival to the end of the pipeline.
    pub latency_max_secs: f64,
    /// The last error of its source.
    pub last_error: Option<String>,
}

impl StreamStats {
    /// One line for the summary at the end of a run.
    fn line(&self) -> String {
        let counted = [(self.frames_late, "late"), (self.reconnects, "reconnects"), (self.clock_jumps, "clock jumps")];
        let mut line =
            format!("{}: {}, {} frames read, {} delivered", self.name, self.state.as_str(), self.frames_read, self.frames_delivered);
        for (place, frames) in &self.drops {
            line += &format!(", {frames} dropped ({place})");
        }
        for (count, what) in counted.iter().filter(|(count, _)| *count > 0) {
            line += &format!(", {count} {what}");
        }
        if self.latency_max_secs > 0.0 {
            line += &format!(", latency {:.0} ms, at most {:.0} ms", 1e3 * self.latency_mean_secs, 1e3 * self.latency_max_secs);
        }
        line
    }
}

/// Totals of streams that are no longer listed individually.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// Number of streams.
    pub streams: u64,
    /// As in [`StreamStats`].
    pub frames_read: u64,
    /// As in [`StreamStats`].
    pub frames_delivered: u64,
    /// As in [`StreamStats`].
    pub frames_dropped: u64,
    /// As in [`StreamStats`].
    pub frames_late: u64,
}

impl StreamTotals {
    pub(crate) fn add(&mut self, stats: &StreamStats) {
        self.streams += 1;
        self.frames_read += stats.frames_read;
        self.frames_delivered += stats.frames_delivered;
        self.frames_dropped += stats.frames_dropped;
        self.frames_late += stats.frames_late;
    }
}

/// Statistics of a run: where the time was spent. Written by `--stats`.
#[derive(Clone, Debug, Serialize)]
pub struct RunStats {
    /// Seconds from the start to the end of the run, or until now.
    pub wall_secs: f64,
    /// CPU seconds used by all threads of the process in that time.
    pub cpu_secs: f64,
    /// Current resident memory of the process in bytes; 0 when unavailable.
    pub memory_bytes: u64,
    /// Peak resident memory of the process in bytes; 0 when unavailable.
    pub memory_peak_bytes: u64,
    /// Peak host memory of frames in flight, in bytes.
    pub frame_memory_peak_bytes: u64,
    /// Limit on that memory in bytes: `--memory`, or a quarter of the machine's memory.
    pub frame_memory_limit_bytes: u64,
    /// The stage that limits the run, if there is one and the run is long enough to tell; for sources see [`RunStats::is_paced`].
    pub limiting_stage: Option<String>,
    /// All stages, in pipeline order.
    pub stages: Vec<StageStats>,
    /// All edges.
    pub edges: Vec<EdgeStats>,
    /// All active streams and the most recently ended ones.
    pub streams: Vec<StreamStats>,
    /// Totals of the streams that are no longer listed.
    pub earlier_streams: StreamTotals,
}

/// Maximum number of streams listed in the summary.
const MAX_STREAM_LINES: usize = 32;

/// Minimum duration of a run for determining its limiting stage.
const MIN_WALL_SECS: f64 = 0.2;

/// A stage limits a run if the others wait for it for at least this fraction of the time.
const MIN_LIMITING_SHARE: f64 = 0.5;

impl RunStats {
    /// The stage for which the others wait for the largest fraction of the time, at least half of it: because its workers are busy or,
    /// for a source, because the next frame is not due yet.
    pub(crate) fn find_limiting_stage(stages: &[StageStats], edges: &[EdgeStats], wall_secs: f64) -> Option<String> {
        if wall_secs < MIN_WALL_SECS {
            return None;
        }
        let share = |stage: &StageStats| {
            let is_source = !edges.iter().any(|edge| edge.to == stage.name);
            stage.share(stage.busy_secs + if is_source { stage.wait_input_secs } else { 0.0 }, wall_secs)
        };
        let limiting = stages.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
        (share(limiting) >= MIN_LIMITING_SHARE).then(|| limiting.name.clone())
    }

    /// Whether the pace of the source limits the run, as with a camera: [`RunStats::limiting_stage`] is a source that mostly waits for
    /// frames to be due.
    pub fn is_paced(&self) -> bool {
        let limiting = self.limiting_stage.as_deref().and_then(|name| self.stage(name));
        limiting.is_some_and(|stage| {
            let is_source = !self.edges.iter().any(|edge| edge.to == stage.name);
            is_source && stage.wait_input_secs > stage.busy_secs
        })
    }

    /// Short description of what limits the run; `None` if no single stage does.
    pub fn limit(&self) -> Option<String> {
        let stage = self.limiting_stage.as_ref()?;
        Some(if self.is_paced() { format!("the pace of the source ({stage})") } else { stage.clone() })
    }

    /// Frames that reached the ends of the pipeline: the maximum over all ends.
    pub fn frames_done(&self) -> u64 {
        let is_end = |stage: &&StageStats| !self.edges.iter().any(|edge| edge.from == stage.name);
        self.stages.iter().filter(is_end).map(|stage| stage.frames_in).max().unwrap_or(0)
    }

    /// The stream with this number.
    pub fn stream(&self, id: u32) -> Option<&StreamStats> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    /// The stage with this name.
    pub fn stage(&self, name: &str) -> Option<&StageStats> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Total bytes of one kind of copy over all stages.
    pub fn copied_bytes(&self, kind: CopyKind) -> u64 {
        let copies = self.stages.iter().flat_map(|stage| &stage.copies);
        copies.filter(|copies| copies.kind == kind).map(|copies| copies.bytes).sum()
    }

    /// Total of a counter over all stages.
    pub fn counter(&self, name: &str) -> u64 {
        self.stages.iter().filter_map(|stage| stage.counters.get(name)).sum()
    }

    /// The summary printed at the end of a run: one line per stage, then what limits it.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<14} {:>7} {:>9} {:>9} {:>7} {:>9} {:>9}\n",
            "stage", "workers", "frames", "frames/s", "busy", "wait in", "wait out"
        );
        for stage in &self.stages {
            let frames = stage.frames_in.max(stage.frames_out);
            let rate = if self.wall_secs > 0.0 { frames as f64 / self.wall_secs } else { 0.0 };
            text += &format!(
                "{:<14} {:>7} {:>9} {:>9.1} {:>6.0}% {:>8.0}% {:>8.0}%\n",
                stage.name,
                stage.workers,
                frames,
                rate,
                100.0 * stage.busy_share(self.wall_secs),
                100.0 * stage.share(stage.wait_input_secs, self.wall_secs),
                100.0 * stage.share(stage.wait_output_secs, self.wall_secs),
            );
        }
        for stage in &self.stages {
            if let Some(failure) = &stage.failure {
                text += &format!("{} failed: {failure}\n", stage.name);
            }
        }
        let is_reported = |stream: &StreamStats| stream.latency_max_secs > 0.0 || stream.frames_dropped > 0;
        let are_reported = self.streams.len() > 1 || self.streams.iter().any(is_reported);
        for stream in self.streams.iter().filter(|_| are_reported).take(MAX_STREAM_LINES) {
            text += &format!("stream {}\n", stream.line());
        }
        if self.streams.len() > MAX_STREAM_LINES {
            text += &format!("and {} more streams\n", self.streams.len() - MAX_STREAM_LINES);
        }
        if self.wall_secs >= MIN_WALL_SECS {
            let limit = self.limit().map_or_else(|| "not limited by a single stage".to_owned(), |limit| format!("limited by {limit}"));
            let cores = self.cpu_secs / self.wall_secs;
            text += &format!("{limit}; {cores:.1} cores busy, peak memory {} MB\n", self.memory_peak_bytes / 1_000_000);
        }
        text
    }
}

impl StageStats {
    /// Fraction of the run for which a worker of this stage was busy, 0 to 1.
    pub fn busy_share(&self, wall_secs: f64) -> f64 {
        self.share(self.busy_secs, wall_secs)
    }

    fn share(&self, secs: f64, wall_secs: f64) -> f64 {
        if wall_secs > 0.0 { secs / wall_secs / self.workers.max(1) as f64 } else { 0.0 }
    }

    /// Counters, copies, waits and memory of the stage as short texts. Zero values are omitted, and so are the counters named in
    /// `left_out`.
    pub fn words_without(&self, left_out: &[&str]) -> Vec<String> {
        let counted = self.counters.iter().filter(|(name, count)| **count > 0 && !left_out.contains(&name.as_str()));
        let mut parts: Vec<String> = counted.map(|(name, count)| format!("{} {count}", name.replace('_', " "))).collect();
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        parts.extend(
            self.copies
                .iter()
                .map(|copies| format!("{} copies {} ({:.1} MB)", copies.kind.as_str(), copies.count, megabytes(copies.bytes))),
        );
        parts.extend((self.syncs > 0).then(|| format!("waits for the device {}", self.syncs)));
        parts
            .extend(self.memory.iter().map(|memory| format!("memory on {} {:.1} MB at most", memory.device, megabytes(memory.peak_bytes))));
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_leave_out_what_is_zero() {
        let stage = StageStats {
            copies: vec![CopyStats { kind: CopyKind::Download, count: 2, bytes: 3_000_000 }],
            syncs: 4,
            memory: vec![MemoryStats { device: "cuda:0".into(), peak_bytes: 10_500_000 }],
            counters: BTreeMap::from([("frames_changed".into(), 0), ("faces_hidden".into(), 7)]),
            ..StageStats::default()
        };
        let words = ["faces hidden 7", "download copies 2 (3.0 MB)", "waits for the device 4", "memory on cuda:0 10.5 MB at most"];
        assert_eq!(stage.words_without(&[]), words);
        assert_eq!(stage.words_without(&["faces_hidden"]), words[1..]);
    }
}
