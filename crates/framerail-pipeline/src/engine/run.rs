//! A run: its threads, from start to end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use framerail_core::{CancelToken, StreamId};

use super::{
    control::Control,
    metrics::{WorkerClock, process_cpu_secs},
    ordered::Ordered,
    outlet::{OutCounts, Outlet, Outlets},
    queue::Queue,
    state::{EdgeState, RunState},
    streams::{StreamControl, StreamJob, StreamSource},
    watchdog::{self, Stall},
    worker::{NodeState, Worker},
};
use crate::{
    ErrorKind, ModelInfo, RunError, RunStats, SettingInfo, StageError, Work,
    graph::{Edge, Graph, Node},
    stage::Ledger,
};

/// Results that the workers of a stage may hold ahead of their turn, per worker.
const AHEAD_PER_WORKER: usize = 2;

/// Options of a run.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// A stage that spends longer than this on one item is logged, with its queues. Default: 10 s.
    pub stall_limit: Duration,
    /// Maximum host memory for frames in flight, in bytes. Default: a quarter of the machine's memory.
    pub memory_bytes: Option<u64>,
    /// Cancelling this token stops the run, as [`RunHandle::stop`] does. A program may share it between runs.
    pub stop: CancelToken,
    /// Cancelling this token aborts the run, as [`RunHandle::abort`] does.
    pub abort: CancelToken,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { stall_limit: Duration::from_secs(10), memory_bytes: None, stop: CancelToken::default(), abort: CancelToken::default() }
    }
}

/// Result of a run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// Statistics, also when the run failed.
    pub stats: RunStats,
    /// The first failure that fails the run, if any.
    pub result: Result<(), RunError>,
    /// All failures in order of occurrence, including those of outputs that drop frames.
    pub errors: Vec<RunError>,
}

/// A running pipeline. Dropping it aborts the run and waits for its threads.
pub struct RunHandle {
    state: Arc<RunState>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
}

impl RunHandle {
    /// Asks sources to end; frames in flight are processed and files are completed.
    pub fn stop(&self) {
        self.state.control.stop.cancel();
    }

    /// Aborts the run and discards unfinished outputs. The outcome is a `Cancelled` error.
    pub fn abort(&self) {
        self.state.control.abort.cancel();
    }

    /// A handle to stop, monitor and adjust the run from another thread, such as a signal handler or a server.
    pub fn switch(&self) -> RunSwitch {
        RunSwitch { state: Arc::clone(&self.state) }
    }

    /// A handle to add and remove streams from another thread.
    pub fn streams(&self) -> StreamControl {
        self.state.streams()
    }

    /// See [`StreamControl::add_source`].
    ///
    /// # Errors
    /// As there.
    pub fn add_source(&self, source: &str) -> Result<StreamId, StageError> {
        self.streams().add_source(source)
    }

    /// See [`StreamControl::remove_stream`].
    ///
    /// # Errors
    /// As there.
    pub fn remove_stream(&self, stream: StreamId) -> Result<(), StageError> {
        self.streams().remove_stream(stream)
    }

    /// See [`RunSwitch::settings`].
    pub fn settings(&self) -> Vec<SettingInfo> {
        self.state.settings()
    }

    /// See [`RunSwitch::set_setting`].
    ///
    /// # Errors
    /// As there.
    pub fn set_setting(&self, stage: &str, name: &str, value: f64) -> Result<(), StageError> {
        self.state.set_setting(stage, name, value)
    }

    /// Waits up to `timeout`; returns whether the run is over.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        self.state.finished.wait_for(timeout)
    }

    /// Waits for the end of the run.
    pub fn wait(mut self) -> RunOutcome {
        self.join();
        self.outcome()
    }

    /// Aborts the run and waits up to `patience` for its threads. Threads that are still blocked then, in a model or a system call, are
    /// left running and end with the process.
    pub fn abandon(mut self, patience: Duration) -> RunOutcome {
        self.abort();
        if self.wait_for(patience) {
            return self.wait();
        }
        for stage in self.state.unfinished() {
            log::warn!("{stage} does not end and is left behind");
        }
        self.threads.clear();
        self.state.finished.set();
        self.outcome()
    }

    fn outcome(&self) -> RunOutcome {
        let control = &self.state.control;
        RunOutcome { stats: self.stats(), result: control.error().map_or(Ok(()), Err), errors: control.errors() }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // Panics of workers are caught inside; one that arrives here is a bug of the engine.
            if thread.join().is_err() {
                let error = StageError::new(ErrorKind::Internal, "a worker thread panicked; please report it");
                self.state.control.fail("engine", error);
            }
        }
        self.state.finished.set();
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }

    /// Statistics so far.
    pub fn stats(&self) -> RunStats {
        self.state.stats()
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.state.control.abort.cancel();
            self.join();
        }
    }
}

/// Stops, monitors and adjusts a run from any thread. Cloning is cheap; it outlives the run and then reports how it ended.
#[derive(Clone)]
pub struct RunSwitch {
    state: Arc<RunState>,
}

impl RunSwitch {
    /// See [`RunHandle::stop`].
    pub fn stop(&self) {
        self.state.control.stop.cancel();
    }

    /// See [`RunHandle::abort`].
    pub fn abort(&self) {
        self.state.control.abort.cancel();
    }

    /// Statistics so far; after the end, those of the whole run.
    pub fn stats(&self) -> RunStats {
        self.state.stats()
    }

    /// A handle to add and remove streams.
    pub fn streams(&self) -> StreamControl {
        self.state.streams()
    }

    /// All settings that can be changed during the run, in pipeline order. The settings of a stage are available once it has started.
    pub fn settings(&self) -> Vec<SettingInfo> {
        self.state.settings()
    }

    /// Changes a setting. Frames that a stage is already processing keep the previous value.
    ///
    /// # Errors
    /// `Usage` when the setting does not exist, the value is rejected, or the run is over.
    pub fn set_setting(&self, stage: &str, name: &str, value: f64) -> Result<(), StageError> {
        self.state.set_setting(stage, name, value)
    }

    /// The stages whose model can be replaced during the run, in pipeline order.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.state.models()
    }

    /// Replaces the model of a stage, which changes over between two frames: none is lost, and all stay in order. Waits until the new model
    /// is loaded; the run continues meanwhile. The new model must have the task, the classes and the landmarks of the old one, since the
    /// stages behind it rely on them.
    ///
    /// # Errors
    /// `Usage` when there is no such stage, its model cannot be replaced, or the run is over; `Model` when the new one cannot be used. The
    /// stage keeps its current model.
    pub fn replace_model(&self, stage: &str, model: &str) -> Result<(), StageError> {
        self.state.replace_model(stage, model)
    }

    /// The workers that have spent longer on one item than the limit in [`RunOptions`].
    pub fn stalls(&self) -> Vec<Stall> {
        watchdog::stalls(&self.state.nodes, self.state.stall_limit)
    }

    /// The stages that have not ended.
    pub fn unfinished(&self) -> Vec<String> {
        self.state.unfinished()
    }

    /// Whether the run was asked to stop or was aborted.
    pub fn is_stopping(&self) -> bool {
        self.state.control.is_stopping()
    }

    /// Whether every stage has ended.
    pub fn is_over(&self) -> bool {
        self.state.ended_nanos.load(Ordering::SeqCst) > 0
    }

    /// The first failure so far that fails the run.
    pub fn error(&self) -> Option<RunError> {
        self.state.control.error()
    }
}

/// Starts every node of a valid graph.
pub(crate) fn start(graph: Graph, options: RunOptions) -> Result<RunHandle, RunError> {
    let epoch = Instant::now();
    let Graph { nodes, edges } = graph;
    let ends_behind = ends_behind(nodes.len(), &edges);
    let ends = (0..nodes.len()).filter(|node| !edges.iter().any(|edge| edge.from.0 == *node)).count();
    let control = Arc::new(Control::new(&options, ends));
    let queues = input_queues(&nodes, &edges, &control);
    let edge_states: Vec<EdgeState> = edges
        .iter()
        .map(|edge| EdgeState { from: edge.from.0, to: edge.to.0, format: edge.format.to_string(), counts: Arc::default() })
        .collect();
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let (mut states, mut sources, mut jobs) = (Vec::with_capacity(nodes.len()), Vec::new(), Vec::new());
    for (index, node) in nodes.into_iter().enumerate() {
        let outlets = outlets_of(index, &edges, &edge_states, &queues, &names, &control);
        let (state, node_jobs) = prepare(node, queues[index].clone(), outlets, &control, (epoch, ends_behind[index]));
        sources.extend(node_jobs.iter().filter_map(|(_, job)| job.streams()));
        states.push(state);
        jobs.extend(node_jobs);
    }
    control.set_nodes(&states);
    let state = Arc::new(RunState {
        control,
        nodes: states,
        edges: edge_states,
        sources,
        finished: Arc::default(),
        epoch,
        cpu_at_start: process_cpu_secs(),
        stall_limit: options.stall_limit,
        ended_nanos: Arc::default(),
        ended_cpu: Arc::default(),
    });
    let mut handle = RunHandle { state, threads: Vec::new(), watchdog: None };
    spawn_workers(&mut handle, jobs)?;
    handle.watchdog = spawn_watchdog(&handle.state);
    Ok(handle)
}

/// For each node, the number of pipeline ends downstream, including the node itself.
fn ends_behind(nodes: usize, edges: &[Edge]) -> Vec<usize> {
    let ends_behind = |node: usize| {
        let (mut seen, mut next, mut ends) = (vec![false; nodes], vec![node], 0);
        while let Some(node) = next.pop() {
            if std::mem::replace(&mut seen[node], true) {
                continue;
            }
            let before = next.len();
            next.extend(edges.iter().filter(|edge| edge.from.0 == node).map(|edge| edge.to.0));
            ends += usize::from(next.len() == before);
        }
        ends
    };
    (0..nodes).map(ends_behind).collect()
}

fn spawn_workers(handle: &mut RunHandle, jobs: Vec<(Worker, Job)>) -> Result<(), RunError> {
    let (epoch, left) = (handle.state.epoch, Arc::new(AtomicUsize::new(jobs.len())));
    for (worker, job) in jobs {
        let name = worker.node.name.to_string();
        let (left, finished) = (Arc::clone(&left), Arc::clone(&handle.state.finished));
        let (ended, ended_cpu) = (Arc::clone(&handle.state.ended_nanos), Arc::clone(&handle.state.ended_cpu));
        let body = move || {
            job.run(worker);
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                ended_cpu.store(process_cpu_secs().to_bits(), Ordering::SeqCst);
                ended.store(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1), Ordering::SeqCst);
                finished.set();
            }
        };
        match thread::Builder::new().name(name.clone()).spawn(body) {
            Ok(thread) => handle.threads.push(thread),
            Err(error) => {
                let error = StageError::new(ErrorKind::Resource, format!("cannot start a thread: {error}"));
                handle.state.control.fail(&name, error.clone());
                return Err(RunError { stage: name, error });
            }
        }
    }
    Ok(())
}

fn spawn_watchdog(state: &Arc<RunState>) -> Option<JoinHandle<()>> {
    let (nodes, finished, limit) = (state.nodes.clone(), Arc::clone(&state.finished), state.stall_limit);
    let spawned = thread::Builder::new().name("watchdog".to_owned()).spawn(move || watchdog::watch(&nodes, limit, &finished));
    spawned.inspect_err(|error| log::warn!("stalls are not reported: cannot start a thread: {error}")).ok()
}

fn input_queues(nodes: &[Node], edges: &[Edge], control: &Arc<Control>) -> Vec<Option<Arc<Queue>>> {
    let queue = |index: usize, node: &Node| {
        let producers = edges.iter().filter(|edge| edge.to.0 == index).count();
        (producers > 0).then(|| Queue::new(&node.name, node.options.queue, node.options.batch, producers, control))
    };
    nodes.iter().enumerate().map(|(index, node)| queue(index, node)).collect()
}

fn outlets_of(
    node: usize,
    edges: &[Edge],
    states: &[EdgeState],
    queues: &[Option<Arc<Queue>>],
    names: &[String],
    control: &Control,
) -> Vec<Outlet> {
    let leaving = edges.iter().zip(states).filter(|(edge, _)| edge.from.0 == node);
    let outlet = |(edge, state): (&Edge, &EdgeState)| {
        let queue = queues[edge.to.0].clone()?;
        let place = format!("{} to {}", names[edge.from.0], names[edge.to.0]).into();
        let (probes, counts) = (edge.probes.clone(), Arc::clone(&state.counts));
        Some(Outlet { queue, probes, counts, place, streams: Arc::clone(&control.streams) })
    };
    leaving.filter_map(outlet).collect()
}

enum Job {
    Source(Box<dyn crate::Source>),
    Streams(Box<StreamJob>),
    Stage(Box<dyn crate::Stage>),
}

impl Job {
    fn streams(&self) -> Option<StreamSource> {
        match self {
            Job::Streams(job) => Some(job.source()),
            _ => None,
        }
    }

    fn run(self, worker: Worker) {
        match self {
            Job::Source(source) => worker.run_source(source),
            Job::Streams(job) => worker.run_streams(*job),
            Job::Stage(stage) => worker.run_stage(stage),
        }
    }
}

fn prepare(
    node: Node,
    input: Option<Arc<Queue>>,
    outlets: Vec<Outlet>,
    control: &Arc<Control>,
    (epoch, ends_behind): (Instant, usize),
) -> (Arc<NodeState>, Vec<(Worker, Job)>) {
    let name: Arc<str> = node.name.into();
    let jobs: Vec<Job> = match node.work {
        Work::Streams(set) => vec![Job::Streams(Box::new(StreamJob::new(&name, set, control)))],
        Work::Source(source) => vec![Job::Source(source)],
        Work::Stages(stages) => stages.into_iter().map(Job::Stage).collect(),
    };
    let out_counts: Arc<OutCounts> = Arc::default();
    let state = Arc::new(NodeState {
        name,
        input,
        following: outlets.iter().map(|outlet| Arc::clone(&outlet.queue)).collect(),
        clocks: jobs.iter().map(|_| WorkerClock::new(epoch)).collect(),
        ledger: Arc::new(Ledger::default()),
        items_in: AtomicU64::new(0),
        frames_in: AtomicU64::new(0),
        out_counts: Arc::clone(&out_counts),
        workers_left: AtomicUsize::new(jobs.len()),
        on_error: outlets.is_empty().then_some(node.options.on_error),
        ends_behind,
        has_failed: AtomicBool::new(false),
    });
    let outlets = Outlets::new(outlets, out_counts);
    let ordered = (jobs.len() > 1).then(|| Ordered::new(jobs.len() * AHEAD_PER_WORKER, control));
    let worker = |index| Worker {
        index,
        node: Arc::clone(&state),
        control: Arc::clone(control),
        outlets: outlets.clone(),
        ordered: ordered.clone(),
    };
    let jobs = jobs.into_iter().enumerate().map(|(index, job)| (worker(index), job)).collect();
    (state, jobs)
}
