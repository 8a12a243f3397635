//! The run's stop and abort tokens, its failures, and the waiters to wake when a token is cancelled.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

use framerail_core::{CancelToken, Wake};
use parking_lot::Mutex;

use super::{memory::FrameMemory, metrics::Phase, run::RunOptions, stream_table::StreamTable, worker::NodeState};
use crate::{ErrorKind, RunError, StageError};

/// State shared by all threads of a run.
pub(super) struct Control {
    /// Sources end soon and outputs are finished. Also cancelled by `abort`.
    pub(super) stop: CancelToken,
    /// Everything ends now; outputs are not finished.
    pub(super) abort: CancelToken,
    /// Counts per stream.
    pub(super) streams: Arc<StreamTable>,
    /// Host memory of the frames in flight.
    pub(super) memory: Arc<FrameMemory>,
    failures: Mutex<Vec<Failure>>,
    /// Ends of the pipeline that still accept frames.
    open_ends: AtomicUsize,
    /// Ends of the pipeline that finished without a failure.
    finished_ends: AtomicUsize,
    waiters: Mutex<Vec<Weak<dyn Wake>>>,
    /// The stages with an input. Weak, because they own this value.
    nodes: OnceLock<Vec<Weak<NodeState>>>,
}

struct Failure {
    error: RunError,
    /// Whether it fails the run. The failure of an output that drops frames does so only when no other end is left.
    is_fatal: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self::new(&RunOptions::default(), 1)
    }
}

impl Control {
    pub(super) fn new(options: &RunOptions, ends: usize) -> Self {
        let (abort, stop) = (options.abort.child(), options.stop.child());
        stop.follow(&abort);
        let streams: Arc<StreamTable> = Arc::default();
        streams.set_ends(ends);
        Self {
            stop,
            abort,
            streams,
            memory: Arc::new(FrameMemory::new(options.memory_bytes)),
            failures: Mutex::default(),
            open_ends: AtomicUsize::new(ends),
            finished_ends: AtomicUsize::new(0),
            waiters: Mutex::default(),
            nodes: OnceLock::new(),
        }
    }

    pub(super) fn register(&self, waiter: Weak<dyn Wake>) {
        self.stop.on_cancel(waiter.clone());
        self.abort.on_cancel(waiter.clone());
        self.waiters.lock().push(waiter);
    }

    pub(super) fn set_nodes(&self, nodes: &[Arc<NodeState>]) {
        let _ = self.nodes.set(nodes.iter().filter(|node| node.input.is_some()).map(Arc::downgrade).collect());
    }

    /// Wakes every waiter; each one takes its lock and checks the tokens again.
    pub(super) fn wake_all(&self) {
        let waiters: Vec<_> = self.waiters.lock().iter().filter_map(Weak::upgrade).collect();
        waiters.iter().for_each(|waiter| waiter.wake());
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.abort.is_cancelled()
    }

    /// Aborts the whole run because of an error.
    pub(super) fn fail(&self, stage: &str, error: StageError) {
        self.record(stage, error, true);
        self.abort.cancel();
    }

    /// Records an error that ends a branch; other branches continue.
    pub(super) fn record(&self, stage: &str, error: StageError, is_fatal: bool) {
        self.failures.lock().push(Failure { error: RunError { stage: stage.to_owned(), error }, is_fatal });
    }

    /// Records that an end of the pipeline accepts no more frames.
    pub(super) fn end_closed(&self, is_finished: bool) {
        self.finished_ends.fetch_add(usize::from(is_finished), Ordering::SeqCst);
        self.streams.end_closed();
        if self.open_ends.fetch_sub(1, Ordering::SeqCst) == 1 {
            // No output is left, so sources can stop, even one that is stalled.
            self.stop.cancel();
        }
    }

    /// Whether any end of the pipeline still accepts frames.
    pub(super) fn has_open_ends(&self) -> bool {
        self.open_ends.load(Ordering::SeqCst) > 0
    }

    /// Whether no end of the pipeline accepts frames except those downstream of this node.
    pub(super) fn is_alone(&self, node: &NodeState) -> bool {
        self.open_ends.load(Ordering::SeqCst) <= node.ends_behind
    }

    /// The error that fails the run: the first fatal one, or any error if no end of the pipeline succeeded.
    pub(super) fn error(&self) -> Option<RunError> {
        let failures = self.failures.lock();
        let is_lost = !self.has_open_ends() && self.finished_ends.load(Ordering::SeqCst) == 0;
        let failure = failures.iter().find(|failure| failure.is_fatal).or_else(|| failures.first().filter(|_| is_lost));
        let aborted = || {
            let error = StageError::new(ErrorKind::Cancelled, "aborted; unfinished outputs were discarded");
            self.is_aborted().then(|| RunError { stage: "run".to_owned(), error })
        };
        failure.map(|failure| failure.error.clone()).or_else(aborted)
    }

    /// All errors so far, in order of occurrence.
    pub(super) fn errors(&self) -> Vec<RunError> {
        self.failures.lock().iter().map(|failure| failure.error.clone()).collect()
    }

    /// Whether every stage is waiting for input, so that nothing will change without external input.
    pub(super) fn is_quiet(&self) -> bool {
        let waits = |node: &Weak<NodeState>| {
            let Some(node) = node.upgrade() else { return true };
            let is_empty = node.input.as_ref().is_none_or(|input| input.is_empty());
            is_empty && node.clocks.iter().all(|clock| matches!(clock.phase(), Phase::WaitInput | Phase::Ended))
        };
        self.nodes.get().is_some_and(|nodes| nodes.iter().all(waits))
    }
}
