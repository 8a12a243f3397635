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
    /// From one device to another.
    Peer,
}

impl CopyKind {
    /// Every kind.
    pub const ALL: [CopyKind; 5] = [CopyKind::Host, CopyKind::Upload, CopyKind::Download, CopyKind::Device, CopyKind::Peer];

    /// The word for it.
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

/// Memory of one device that one stage had in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryStats {
    /// The device, such as `cuda:0`.
    pub device: String,
    /// Most bytes at once.
    pub peak_bytes: u64,
}

/// One stage of a run.
#[derive(Clone, Debug, Default, Serialize)]
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
    /// Times that a thread of the stage waited for work on a device: for a stream or an event.
    pub syncs: u64,
    /// Device memory that the stage had in use, by device.
    pub memory: Vec<MemoryStats>,
    /// The stage's own counts, such as `frames_repaired`.
    pub counters: BTreeMap<String, u64>,
    /// The numbers that may be changed while it runs, as they are now.
    pub settings: BTreeMap<String, f64>,
    /// What the stage reported, each text once; of very many the first.
    pub notices: Vec<String>,
    /// Why it failed, if it did. Other outputs of the run go on.
    pub failure: Option<String>,
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
    /// Frames in the queue now.
    pub depth: usize,
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

/// How a stream is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// It waits for its turn to be opened.
    #[default]
    Waiting,
    /// It is being opened.
    Opening,
    /// It gives frames.
    Running,
    /// It failed, and waits to be opened again.
    Retrying,
    /// It came to its end.
    Ended,
    /// It failed and is given up.
    Failed,
    /// It was taken out while the run went on.
    Removed,
}

impl StreamState {
    /// Whether nothing more comes of the stream.
    pub fn is_over(self) -> bool {
        matches!(self, StreamState::Ended | StreamState::Failed | StreamState::Removed)
    }

    /// The word for it.
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

/// One stream of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StreamStats {
    /// Its number.
    pub id: u32,
    /// Its short name; empty as long as it is not known.
    pub name: String,
    /// Where it comes from.
    pub source: String,
    /// How it is doing.
    pub state: StreamState,
    /// Frames that its source gave.
    pub frames_read: u64,
    /// Frames that reached the ends of the pipeline, the largest count of any end. Stages that select frames lessen it. What an
    /// end gave up afterwards, such as `write` to a server, is not among them.
    pub frames_delivered: u64,
    /// Frames among those delivered that were over the latency budget.
    pub frames_late: u64,
    /// Frames dropped, over all places.
    pub frames_dropped: u64,
    /// Frames dropped by place: `read: buffer full`, `read: over budget`, `write: not sent`, or an edge such as `read to infer`
    /// (by a probe).
    pub drops: BTreeMap<String, u64>,
    /// Times that the source was opened again.
    pub reconnects: u64,
    /// Times that the source's clock leapt and timestamps were set to go on.
    pub clock_jumps: u64,
    /// Mean seconds from arrival to the end of the pipeline; 0 for files read as fast as they go.
    pub latency_mean_secs: f64,
    /// Most seconds from arrival to the end of the pipeline.
    pub latency_max_secs: f64,
    /// The last failure of its source.
    pub last_error: Option<String>,
}

impl StreamStats {
    /// In one line, for the summary at the end of a run.
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

/// The sum over streams that ended long ago.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// How many there were.
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

/// Where the time of a run went. Written by `--stats`.
#[derive(Clone, Debug, Serialize)]
pub struct RunStats {
    /// Seconds from start to end, or to now.
    pub wall_secs: f64,
    /// Seconds of processor time that the process used in between, all threads.
    pub cpu_secs: f64,
    /// Resident memory of the process now, in bytes; 0 where the system does not say.
    pub memory_bytes: u64,
    /// Highest resident memory of the process so far, in bytes; 0 where the system does not say.
    pub memory_peak_bytes: u64,
    /// Most host memory that frames under way took at once, in bytes.
    pub frame_memory_peak_bytes: u64,
    /// Most that they may take: `--memory`, or a quarter of the machine's memory.
    pub frame_memory_limit_bytes: u64,
    /// The stage that limits the run, if one does and the run is long enough to tell: see [`RunStats::is_paced`] for sources.
    pub limiting_stage: Option<String>,
    /// Every stage, in order of the pipeline.
    pub stages: Vec<StageStats>,
    /// Every edge.
    pub edges: Vec<EdgeStats>,
    /// Every stream; of those that have ended, the latest.
    pub streams: Vec<StreamStats>,
    /// The sum over streams that are no longer listed.
    pub earlier_streams: StreamTotals,
}

/// Streams that the summary lists one by one.
const MAX_STREAM_LINES: usize = 32;

/// A run shorter than this says nothing about which stage limits it.
const MIN_WALL_SECS: f64 = 0.2;

/// A stage limits a run when the others wait for it at least this share of the time.
const MIN_LIMITING_SHARE: f64 = 0.5;

impl RunStats {
    /// The stage for which the others wait for the largest share of the time, at least half of it: because its workers are busy, or, for
    /// a source, also because the next frame is not due yet.
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

    /// Whether the pace of the source limits the run, as of a camera: [`RunStats::limiting_stage`] is a source that mostly waits for
    /// frames to be due.
    pub fn is_paced(&self) -> bool {
        let limiting = self.limiting_stage.as_deref().and_then(|name| self.stage(name));
        limiting.is_some_and(|stage| {
            let is_source = !self.edges.iter().any(|edge| edge.to == stage.name);
            is_source && stage.wait_input_secs > stage.busy_secs
        })
    }

    /// What limits the run, in a few words; `None` if no single stage does.
    pub fn limit(&self) -> Option<String> {
        let stage = self.limiting_stage.as_ref()?;
        Some(if self.is_paced() { format!("the pace of the source ({stage})") } else { stage.clone() })
    }

    /// Frames that reached the ends of the pipeline, the largest count of any end.
    pub fn frames_done(&self) -> u64 {
        let is_end = |stage: &&StageStats| !self.edges.iter().any(|edge| edge.from == stage.name);
        self.stages.iter().filter(is_end).map(|stage| stage.frames_in).max().unwrap_or(0)
    }

    /// The stream of this number.
    pub fn stream(&self, id: u32) -> Option<&StreamStats> {
        self.streams.iter().find(|stream| stream.id == id)
    }

    /// The stage of this name.
    pub fn stage(&self, name: &str) -> Option<&StageStats> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Bytes of one kind of copy, over all stages.
    pub fn copied_bytes(&self, kind: CopyKind) -> u64 {
        let copies = self.stages.iter().flat_map(|stage| &stage.copies);
        copies.filter(|copies| copies.kind == kind).map(|copies| copies.bytes).sum()
    }

    /// The sum of a counter over all stages.
    pub fn counter(&self, name: &str) -> u64 {
        self.stages.iter().filter_map(|stage| stage.counters.get(name)).sum()
    }

    /// The summary printed at the end of a run: a line per stage, then what limits it.
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
        let is_told = |stream: &StreamStats| stream.latency_max_secs > 0.0 || stream.frames_dropped > 0;
        let are_told = self.streams.len() > 1 || self.streams.iter().any(is_told);
        for stream in self.streams.iter().filter(|_| are_told).take(MAX_STREAM_LINES) {
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
    /// Share of the run that a worker of this stage was at work, 0 to 1.
    pub fn busy_share(&self, wall_secs: f64) -> f64 {
        self.share(self.busy_secs, wall_secs)
    }

    fn share(&self, secs: f64, wall_secs: f64) -> f64 {
        if wall_secs > 0.0 { secs / wall_secs / self.workers.max(1) as f64 } else { 0.0 }
    }

    /// What the stage counted, moved, waited for and held, each in a few words; what is zero is left out, and so are
    /// the counters of these names.
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
