//! Reports stages that spend too long on one item.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{metrics::Phase, worker::NodeState};

/// Signals to the watchdog that the run is over.
#[derive(Default)]
pub(super) struct Finished {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Finished {
    pub(super) fn set(&self) {
        *self.flag.lock() = true;
        self.changed.notify_all();
    }

    /// Waits until the run is over or the timeout expires; returns whether it is over.
    pub(super) fn wait_for(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut flag = self.flag.lock();
        while !*flag {
            if self.changed.wait_until(&mut flag, deadline).timed_out() {
                return *flag;
            }
        }
        true
    }
}

/// Checks all workers until the run is over; each stall is reported once.
pub(super) fn watch(nodes: &[Arc<NodeState>], limit: Duration, finished: &Finished) {
    let interval = (limit / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
    let mut reported_since: Vec<Vec<u64>> = nodes.iter().map(|node| vec![u64::MAX; node.clocks.len()]).collect();
    while !finished.wait_for(interval) {
        for (node, reported_since) in nodes.iter().zip(&mut reported_since) {
            for (worker, reported_since) in reported_since.iter_mut().enumerate() {
                if let Some(since) = stalled_since(node, worker, limit).filter(|since| since != reported_since) {
                    *reported_since = since;
                    report(node, worker);
                }
            }
        }
    }
}

/// A worker that has spent longer on one item than the limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Stall {
    /// Name of its stage.
    pub stage: String,
    /// Duration so far, in seconds.
    pub secs: f64,
    /// Index of the frame, if the item is one.
    pub frame: Option<u64>,
}

/// The workers that are currently stalled.
pub(super) fn stalls(nodes: &[Arc<NodeState>], limit: Duration) -> Vec<Stall> {
    let of_node = |node: &Arc<NodeState>| -> Vec<Stall> {
        let stalled = (0..node.clocks.len()).filter(|worker| stalled_since(node, *worker, limit).is_some());
        let stall = |worker: usize| {
            let clock = &node.clocks[worker];
            Stall { stage: node.name.to_string(), secs: clock.current().1.as_secs_f64(), frame: clock.frame() }
        };
        stalled.map(stall).collect()
    };
    nodes.iter().flat_map(of_node).collect()
}

fn stalled_since(node: &NodeState, worker: usize, limit: Duration) -> Option<u64> {
    let clock = &node.clocks[worker];
    let (since, lasting) = clock.current();
    (clock.phase() == Phase::Busy && lasting > limit).then_some(since)
}

fn report(node: &NodeState, worker: usize) {
    let seconds = node.clocks[worker].current().1.as_secs_f64();
    let mut line = format!("no progress for {seconds:.1} s");
    if node.clocks.len() > 1 {
        line += &format!(" in worker {} of {}", worker + 1, node.clocks.len());
    }
    if let Some(frame) = node.clocks[worker].frame() {
        line += &format!(", at frame {frame}");
    }
    match &node.input {
        Some(queue) => line += &format!("; input queue {} of {}", queue.depth(), queue.capacity()),
        None => line += "; waiting for its source",
    }
    for queue in &node.following {
        line += &format!(", output queue {} of {}", queue.depth(), queue.capacity());
    }
    log::warn!("{}: {line}", node.name);
    node.ledger.notices.lock().push(line);
}
