//! A run: its threads, from start to the last word.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use framerail_core::StreamId;

use super::{
    control::Control,
    metrics::{Phase, WorkerClock, process_cpu_secs, process_memory_peak_bytes},
    ordered::Ordered,
    outlet::{EdgeCounts, OutCounts, Outlet, Outlets},
    queue::Queue,
    streams::{StreamControl, StreamJob, StreamSource},
    watchdog::{self, Finished},
    worker::{NodeState, Worker},
};
use crate::{
    ErrorKind, RunError, RunStats, StageError, Work,
    graph::{Edge, Graph, Node},
    stage::Ledger,
    stats::{CopyKind, CopyStats, EdgeStats, MemoryStats, StageStats},
};

/// Results that workers of one stage may leave ahead of their turn, per worker.
const AHEAD_PER_WORKER: usize = 2;

/// How a run behaves.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// A stage that works on one item for longer is named in the log, with its queues. Default 10 s.
    pub stall_limit: Duration,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self { stall_limit: Duration::from_secs(10) }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// Where the time went, also when it failed.
    pub stats: RunStats,
    /// The first failure, if any.
    pub result: Result<(), RunError>,
}

struct EdgeState {
    from: usize,
    to: usize,
    format: String,
    counts: Arc<EdgeCounts>,
}

/// A pipeline at work. Dropping it aborts the run and waits for its threads.
pub struct RunHandle {
    control: Arc<Control>,
    nodes: Vec<Arc<NodeState>>,
    edges: Vec<EdgeState>,
    sources: Vec<StreamSource>,
    threads: Vec<JoinHandle<()>>,
    watchdog: Option<JoinHandle<()>>,
    finished: Arc<Finished>,
    epoch: Instant,
    cpu_at_start: f64,
    /// Set by the last worker to end, so that late looks at the statistics stand still.
    ended_nanos: Arc<AtomicU64>,
}

impl RunHandle {
    /// Asks sources to end; everything under way is finished and files are completed.
    pub fn stop(&self) {
        self.control.stop();
    }

    /// Tears the run down; nothing unfinished is kept. The outcome is a `Cancelled` error.
    pub fn abort(&self) {
        self.control.abort_from_outside();
    }

    /// A way to stop or abort from another thread, such as a signal handler's.
    pub fn switch(&self) -> RunSwitch {
        RunSwitch { control: Arc::clone(&self.control) }
    }

    /// A way to add and remove streams from another thread.
    pub fn streams(&self) -> StreamControl {
        StreamControl::new(&self.control, self.sources.clone())
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

    /// Waits up to `timeout`; says whether the run is over.
    pub fn wait_for(&self, timeout: Duration) -> bool {
        self.finished.wait_for(timeout)
    }

    /// Waits for the end.
    pub fn wait(mut self) -> RunOutcome {
        self.join();
        let result = self.control.error().map_or(Ok(()), Err);
        RunOutcome { stats: self.stats(), result }
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A worker's panic is caught inside; what is left here would be the engine's own.
            if thread.join().is_err() {
                self.control.fail("engine", StageError::new(ErrorKind::Internal, "a worker thread panicked; please report it"));
            }
        }
        self.finished.set();
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }

    /// The statistics so far.
    pub fn stats(&self) -> RunStats {
        let ended = self.ended_nanos.load(Ordering::SeqCst);
        let wall = if ended > 0 { Duration::from_nanos(ended) } else { self.epoch.elapsed() };
        let (streams, earlier_streams) = self.control.streams.stats();
        let stages: Vec<StageStats> = self.nodes.iter().map(|node| stage_stats(node)).collect();
        RunStats {
            wall_secs: wall.as_secs_f64(),
            cpu_secs: process_cpu_secs() - self.cpu_at_start,
            memory_peak_bytes: process_memory_peak_bytes(),
            limiting_stage: RunStats::find_limiting_stage(&stages, wall.as_secs_f64()),
            edges: self.edges.iter().map(|edge| self.edge_stats(edge)).collect(),
            stages,
            streams,
            earlier_streams,
        }
    }

    fn edge_stats(&self, edge: &EdgeState) -> EdgeStats {
        let queue = self.nodes[edge.to].input.as_ref();
        let (mean_depth, max_depth) = queue.map_or((0.0, 0), |queue| queue.depths());
        EdgeStats {
            from: self.nodes[edge.from].name.to_string(),
            to: self.nodes[edge.to].name.to_string(),
            capacity: queue.map_or(0, |queue| queue.capacity()),
            mean_depth,
            max_depth,
            frames: edge.counts.frames.load(Ordering::Relaxed),
            dropped: edge.counts.dropped.load(Ordering::Relaxed),
            format: edge.format.clone(),
        }
    }
}

impl Drop for RunHandle {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.control.abort_from_outside();
            self.join();
        }
    }
}

/// Stops or aborts a run from anywhere.
#[derive(Clone)]
pub struct RunSwitch {
    control: Arc<Control>,
}

impl RunSwitch {
    /// See [`RunHandle::stop`].
    pub fn stop(&self) {
        self.control.stop();
    }

    /// See [`RunHandle::abort`].
    pub fn abort(&self) {
        self.control.abort_from_outside();
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
        notices: node.ledger.notices.lock().clone(),
    }
}

/// Starts every node of a valid graph.
pub(crate) fn start(graph: Graph, options: RunOptions) -> Result<RunHandle, RunError> {
    let epoch = Instant::now();
    let control: Arc<Control> = Arc::default();
    let Graph { nodes, edges } = graph;
    let queues = input_queues(&nodes, &edges, &control);
    let edge_states: Vec<EdgeState> = edges
        .iter()
        .map(|edge| EdgeState { from: edge.from.0, to: edge.to.0, format: edge.format.to_string(), counts: Arc::default() })
        .collect();
    let mut handle = RunHandle {
        control: Arc::clone(&control),
        nodes: Vec::with_capacity(nodes.len()),
        edges: edge_states,
        sources: Vec::new(),
        threads: Vec::new(),
        watchdog: None,
        finished: Arc::default(),
        epoch,
        cpu_at_start: process_cpu_secs(),
        ended_nanos: Arc::default(),
    };
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    let mut jobs = Vec::new();
    for (index, node) in nodes.into_iter().enumerate() {
        let outlets = outlets_of(index, &edges, &handle.edges, &queues, &names, &control);
        let (state, node_jobs) = prepare(node, queues[index].clone(), outlets, &control, epoch);
        handle.sources.extend(node_jobs.iter().filter_map(|(_, job)| job.streams()));
        handle.nodes.push(state);
        jobs.extend(node_jobs);
    }
    let left = Arc::new(AtomicUsize::new(jobs.len()));
    for (worker, job) in jobs {
        let name = worker.node.name.to_string();
        let (left, ended, finished) = (Arc::clone(&left), Arc::clone(&handle.ended_nanos), Arc::clone(&handle.finished));
        let body = move || {
            job.run(worker);
            if left.fetch_sub(1, Ordering::SeqCst) == 1 {
                ended.store(u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1), Ordering::SeqCst);
                finished.set();
            }
        };
        match thread::Builder::new().name(name.clone()).spawn(body) {
            Ok(thread) => handle.threads.push(thread),
            Err(error) => {
                let error = StageError::new(ErrorKind::Resource, format!("cannot start a thread: {error}"));
                control.fail(&name, error.clone());
                return Err(RunError { stage: name, error });
            }
        }
    }
    handle.watchdog = spawn_watchdog(&handle, options.stall_limit);
    Ok(handle)
}

fn spawn_watchdog(handle: &RunHandle, limit: Duration) -> Option<JoinHandle<()>> {
    let (nodes, finished) = (handle.nodes.clone(), Arc::clone(&handle.finished));
    let spawned = thread::Builder::new().name("watchdog".to_owned()).spawn(move || watchdog::watch(&nodes, limit, &finished));
    spawned.inspect_err(|error| log::warn!("stalls will not be reported: cannot start a thread: {error}")).ok()
}

fn input_queues(nodes: &[Node], edges: &[Edge], control: &Arc<Control>) -> Vec<Option<Arc<Queue>>> {
    let queue = |index: usize, node: &Node| {
        let producers = edges.iter().filter(|edge| edge.to.0 == index).count();
        (producers > 0).then(|| Queue::new(node.options.queue, node.options.batch, producers, control))
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
    epoch: Instant,
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
