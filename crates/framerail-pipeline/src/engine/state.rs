//! State of a run shared by all of its handles.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    control::Control,
    metrics::{Phase, process_cpu_secs, process_memory_bytes},
    outlet::EdgeCounts,
    streams::{StreamControl, StreamSource},
    watchdog::Finished,
    worker::NodeState,
};
use crate::{
    ErrorKind, ModelInfo, RunStats, SettingInfo, StageError,
    nearest::nearest,
    stats::{CopyKind, CopyStats, EdgeStats, MemoryStats, StageStats},
};

pub(super) struct EdgeState {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) format: String,
    pub(super) counts: Arc<EdgeCounts>,
}

/// A run without its threads.
pub(super) struct RunState {
    pub(super) control: Arc<Control>,
    pub(super) nodes: Vec<Arc<NodeState>>,
    pub(super) edges: Vec<EdgeState>,
    pub(super) sources: Vec<StreamSource>,
    pub(super) finished: Arc<Finished>,
    pub(super) epoch: Instant,
    pub(super) cpu_at_start: f64,
    pub(super) stall_limit: Duration,
    /// Set by the last worker that ends, so that statistics no longer change afterwards.
    pub(super) ended_nanos: Arc<AtomicU64>,
    /// CPU seconds of the process at the end, as bits, for the same reason.
    pub(super) ended_cpu: Arc<AtomicU64>,
}

impl RunState {
    pub(super) fn streams(&self) -> StreamControl {
        StreamControl::new(&self.control, self.sources.clone())
    }

    pub(super) fn settings(&self) -> Vec<SettingInfo> {
        let of_node = |node: &Arc<NodeState>| -> Vec<SettingInfo> {
            node.ledger.settings.lock().iter().map(|setting| setting.info(&node.name)).collect()
        };
        self.nodes.iter().flat_map(of_node).collect()
    }

    pub(super) fn set_setting(&self, stage: &str, name: &str, value: f64) -> Result<(), StageError> {
        let usage = |message: String| Err(StageError::new(ErrorKind::Usage, message));
        let node = self.node_to_change(stage, name)?;
        let settings = node.ledger.settings.lock();
        if let Some(setting) = settings.iter().find(|setting| setting.name() == name) {
            setting.set(stage, value)?;
            log::info!("{stage}: {name} is now {value}");
            return Ok(());
        }
        let names: Vec<&str> = settings.iter().map(|setting| setting.name()).collect();
        match names.as_slice() {
            [] => usage(format!("{stage} has no settings that can be changed during the run")),
            names => usage(format!("{stage} has no setting `{name}`; it has {}", names.join(", "))),
        }
    }

    /// The stage whose `part` is to be replaced during the run.
    fn node_to_change(&self, stage: &str, part: &str) -> Result<&NodeState, StageError> {
        let usage = |message: String| Err(StageError::new(ErrorKind::Usage, message));
        if self.ended_nanos.load(Ordering::SeqCst) > 0 {
            return usage(format!("the run has ended; {part} of {stage} can no longer be changed"));
        }
        let Some(node) = self.nodes.iter().find(|node| &*node.name == stage) else {
            let names = self.nodes.iter().map(|node| &*node.name);
            let hint = nearest(stage, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return usage(format!("there is no stage `{stage}`{hint}"));
        };
        Ok(node)
    }

    /// The stages whose model can be replaced, with the model.
    pub(super) fn models(&self) -> Vec<ModelInfo> {
        let of_node = |node: &Arc<NodeState>| {
            let model = node.ledger.model.lock().as_ref()?.current();
            Some(ModelInfo { stage: node.name.to_string(), model })
        };
        self.nodes.iter().filter_map(of_node).collect()
    }

    pub(super) fn replace_model(&self, stage: &str, model: &str) -> Result<(), StageError> {
        let node = self.node_to_change(stage, "the model")?;
        let Some(replaceable) = node.ledger.model.lock().clone() else {
            return Err(StageError::new(ErrorKind::Usage, format!("{stage} has no model that can be replaced during the run")));
        };
        replaceable.replace(model)?;
        log::info!("{stage}: the model is now {}", replaceable.current());
        Ok(())
    }

    pub(super) fn stats(&self) -> RunStats {
        let ended = self.ended_nanos.load(Ordering::SeqCst);
        let (wall, cpu_secs) = match ended {
            0 => (self.epoch.elapsed(), process_cpu_secs()),
            ended => (Duration::from_nanos(ended), f64::from_bits(self.ended_cpu.load(Ordering::SeqCst))),
        };
        let (streams, earlier_streams) = self.control.streams.stats();
        let stages: Vec<StageStats> = self.nodes.iter().map(|node| stage_stats(node)).collect();
        let edges: Vec<EdgeStats> = self.edges.iter().map(|edge| self.edge_stats(edge)).collect();
        let memory = process_memory_bytes();
        RunStats {
            wall_secs: wall.as_secs_f64(),
            cpu_secs: cpu_secs - self.cpu_at_start,
            memory_bytes: memory.now,
            memory_peak_bytes: memory.peak,
            frame_memory_peak_bytes: self.control.memory.peak(),
            frame_memory_limit_bytes: self.control.memory.limit(),
            limiting_stage: RunStats::find_limiting_stage(&stages, &edges, wall.as_secs_f64()),
            edges,
            stages,
            streams,
            earlier_streams,
        }
    }

    /// The stages that have not ended.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let is_at_work = |node: &&Arc<NodeState>| node.clocks.iter().any(|clock| clock.phase() != Phase::Ended);
        self.nodes.iter().filter(is_at_work).map(|node| node.name.to_string()).collect()
    }

    fn edge_stats(&self, edge: &EdgeState) -> EdgeStats {
        let queue = self.nodes[edge.to].input.as_ref();
        let (mean_depth, max_depth) = queue.map_or((0.0, 0), |queue| queue.depths());
        EdgeStats {
            from: self.nodes[edge.from].name.to_string(),
            to: self.nodes[edge.to].name.to_string(),
            capacity: queue.map_or(0, |queue| queue.capacity()),
            depth: queue.map_or(0, |queue| queue.depth()),
            mean_depth,
            max_depth,
            frames: edge.counts.frames.load(Ordering::Relaxed),
            dropped: edge.counts.dropped.load(Ordering::Relaxed),
            format: edge.format.clone(),
        }
    }
}

fn stage_stats(node: &NodeState) -> StageStats {
    let sum = |phase| node.clocks.iter().map(|clock| clock.seconds(phase)).sum();
    let copies = CopyKind::ALL.into_iter().map(|kind| {
        let counted = &node.ledger.copies[kind as usize];
        CopyStats { kind, count: counted.count.load(Ordering::Relaxed), bytes: counted.bytes.load(Ordering::Relaxed) }
    });
    let memory = node.ledger.memory.lock();
    let memory = memory.iter().map(|(device, used)| MemoryStats { device: device.clone(), peak_bytes: used.peak_bytes }).collect();
    StageStats {
        name: node.name.to_string(),
        workers: node.clocks.len(),
        frames_in: node.frames_in.load(Ordering::Relaxed),
        frames_out: node.out_counts.frames.load(Ordering::Relaxed),
        items_in: node.items_in.load(Ordering::Relaxed),
        items_out: node.out_counts.items.load(Ordering::Relaxed),
        busy_secs: sum(Phase::Busy),
        wait_input_secs: sum(Phase::WaitInput),
        wait_output_secs: sum(Phase::WaitOutput),
        copies: copies.filter(|copy| copy.count > 0).collect(),
        syncs: node.ledger.syncs.load(Ordering::Relaxed),
        memory,
        counters: node.ledger.counters.lock().iter().map(|(name, counter)| (name.clone(), counter.value())).collect(),
        settings: node.ledger.settings.lock().iter().map(|setting| (setting.name().to_owned(), setting.value())).collect(),
        notices: node.ledger.notices.lock().list(),
        failure: node.ledger.failure.lock().clone(),
    }
}
