//! The engine with random graphs, sizes and failures: every run ends, keeps the order, and reports what went wrong.

mod engine_support;
#[path = "engine_support/failures.rs"]
mod failures;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use engine_support::{PATIENCE, frame, hush_panics_on_purpose, panic_on_purpose};
use framerail_core::*;
use framerail_pipeline::*;
use parking_lot::Mutex;
use proptest::prelude::*;

fn item(index: u64) -> FrameItem {
    frame(StreamId(0), index, index as i64)
}

/// How a node misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mishap {
    None,
    Error(u64),
    Panic(u64),
    DoneAt(u64),
    FinishError,
    StartError,
}

struct Numbers {
    next: u64,
    count: u64,
    mishap: Mishap,
}

impl Source for Numbers {
    fn start(&mut self, _: &StageContext) -> Result<(), StageError> {
        start_mishap(self.mishap)
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if self.next == self.count {
            return Ok(Flow::Done);
        }
        if mishap_at(self.mishap, self.next)? == Flow::Done {
            return Ok(Flow::Done);
        }
        out.push(item(self.next).into())?;
        // Packets between the frames, sometimes many.
        for _ in 0..self.next % 3 {
            out.push(Item::StreamEnd(StreamEnd::default()))?;
        }
        self.next += 1;
        Ok(Flow::More)
    }
}

struct Worker {
    mishap: Mishap,
    seen: Arc<Mutex<Vec<u64>>>,
    pause_micros: u64,
    /// Delays frames by this many, like a stage that looks ahead.
    delay: usize,
    held: Vec<FrameItem>,
}

impl Stage for Worker {
    fn start(&mut self, _: &StageContext) -> Result<(), StageError> {
        start_mishap(self.mishap)
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let flow = mishap_at(self.mishap, item.frame.index)?;
        if self.pause_micros > 0 {
            std::thread::sleep(Duration::from_micros(self.pause_micros * (1 + item.frame.index % 3)));
        }
        self.seen.lock().push(item.frame.index);
        self.held.push(item);
        while self.held.len() > self.delay {
            out.push(self.held.remove(0).into())?;
        }
        Ok(flow)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        if self.mishap == Mishap::FinishError {
            return Err(StageError::new(ErrorKind::Output, "cannot finish"));
        }
        self.held.drain(..).try_for_each(|item| out.push(item.into())).map_err(StageError::from)
    }
}

fn start_mishap(mishap: Mishap) -> Result<(), StageError> {
    if mishap == Mishap::StartError { Err(StageError::new(ErrorKind::Model, "cannot start")) } else { Ok(()) }
}

fn mishap_at(mishap: Mishap, index: u64) -> Result<Flow, StageError> {
    match mishap {
        Mishap::Error(at) if at == index => Err(StageError::new(ErrorKind::Input, format!("bad frame {index}"))),
        Mishap::Panic(at) if at == index => panic_on_purpose(),
        Mishap::DoneAt(at) if index >= at => Ok(Flow::Done),
        _ => Ok(Flow::More),
    }
}

#[derive(Clone, Debug)]
struct NodePlan {
    /// Earlier nodes that feed this one, as fractions of their number.
    parents: Vec<u8>,
    workers: usize,
    queue: usize,
    batch: usize,
    has_deadline: bool,
    pause_micros: u64,
    delay: usize,
    mishap: Mishap,
    on_error: OnSinkError,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outside {
    Nothing,
    Stop(u64),
    Abort(u64),
}

fn mishap(frames: u64) -> impl Strategy<Value = Mishap> {
    prop_oneof![
        12 => Just(Mishap::None),
        1 => (0..frames).prop_map(Mishap::Error),
        1 => (0..frames).prop_map(Mishap::Panic),
        1 => (0..frames).prop_map(Mishap::DoneAt),
        1 => Just(Mishap::FinishError),
        1 => Just(Mishap::StartError),
    ]
}

fn node_plan() -> impl Strategy<Value = NodePlan> {
    let sizes = (1..4usize, 1..4usize, 1..5usize, 0..4usize);
    (prop::collection::vec(any::<u8>(), 1..3), sizes, any::<bool>(), 0..60u64, mishap(40), any::<bool>()).prop_map(
        |(parents, (workers, queue, batch, delay), has_deadline, pause_micros, mishap, drops)| NodePlan {
            parents,
            on_error: if drops { OnSinkError::Drop } else { OnSinkError::Fail },
            workers,
            queue,
            batch,
            has_deadline,
            pause_micros,
            delay: if workers > 1 { 0 } else { delay },
            mishap,
        },
    )
}

fn outside() -> impl Strategy<Value = Outside> {
    prop_oneof![6 => Just(Outside::Nothing), 1 => (0..3000u64).prop_map(Outside::Stop), 1 => (0..3000u64).prop_map(Outside::Abort)]
}

struct Built {
    graph: Graph,
    /// Frames seen by each node after the source, and whether it is fed by a single path with one worker in each stage.
    seen: Vec<(Arc<Mutex<Vec<u64>>>, bool)>,
}

fn build(frames: u64, source_mishap: Mishap, plans: &[NodePlan]) -> Built {
    let mut graph = Graph::new();
    let source = Numbers { next: 0, count: frames, mishap: source_mishap };
    let mut nodes = vec![graph.add("source", Work::Source(Box::new(source)), NodeOptions::default())];
    let mut is_linear = vec![true];
    let mut seen = Vec::new();
    for (number, plan) in plans.iter().enumerate() {
        let record: Arc<Mutex<Vec<u64>>> = Arc::default();
        let worker = || -> Box<dyn Stage> {
            Box::new(Worker {
                mishap: plan.mishap,
                seen: Arc::clone(&record),
                pause_micros: plan.pause_micros,
                delay: plan.delay,
                held: Vec::new(),
            })
        };
        let max_wait = plan.has_deadline.then_some(Duration::from_micros(300));
        let options = NodeOptions { queue: plan.queue, batch: BatchPolicy { max_frames: plan.batch, max_wait }, on_error: plan.on_error };
        let node = graph.add(format!("node {number}"), Work::Stages((0..plan.workers).map(|_| worker()).collect()), options);
        let mut parents: Vec<usize> = plan.parents.iter().map(|share| usize::from(*share) % nodes.len()).collect();
        parents.sort_unstable();
        parents.dedup();
        for parent in &parents {
            graph.connect(nodes[*parent], node, EdgeFormat::default());
        }
        let linear = parents.len() == 1 && is_linear[parents[0]];
        seen.push((record, linear && plan.workers == 1));
        is_linear.push(linear);
        nodes.push(node);
    }
    Built { graph, seen }
}

/// Runs to the end or fails the test.
fn run(graph: Graph, outside: Outside) -> RunOutcome {
    run_with(graph, outside, None)
}

fn run_with(graph: Graph, outside: Outside, memory_bytes: Option<u64>) -> RunOutcome {
    let handle = graph.start(RunOptions { memory_bytes, ..RunOptions::default() }).expect("a valid graph");
    match outside {
        Outside::Nothing => {}
        Outside::Stop(micros) => {
            std::thread::sleep(Duration::from_micros(micros));
            handle.stop();
        }
        Outside::Abort(micros) => {
            std::thread::sleep(Duration::from_micros(micros));
            handle.abort();
        }
    }
    assert!(handle.wait_for(PATIENCE), "the run hangs: {:#?}", handle.stats());
    handle.wait()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_graph_comes_to_an_end(
        frames in 0..40u64,
        source_mishap in mishap(40),
        plans in prop::collection::vec(node_plan(), 1..7),
        outside in outside(),
        // A frame takes one byte. The limit must exceed what all nodes hold back.
        memory_bytes in prop::option::weighted(0.3, 24..60u64),
    ) {
        hush_panics_on_purpose();
        let Built { graph, seen } = build(frames, source_mishap, &plans);
        let outcome = run_with(graph, outside, memory_bytes);
        let quiet = outside == Outside::Nothing
            && source_mishap == Mishap::None
            && plans.iter().all(|plan| plan.mishap == Mishap::None);
        if quiet {
            prop_assert!(outcome.result.is_ok(), "{:?}", outcome.result);
        }
        if let Some(limit) = memory_bytes {
            // When a run is stopped, it admits additional frames so that they are finished with the others.
            prop_assert!(outside != Outside::Nothing || outcome.stats.frame_memory_peak_bytes <= limit + 1, "{:?}", outcome.stats);
        }
        if outcome.result.is_err() {
            let is_aborted = matches!(outside, Outside::Abort(_));
            prop_assert!(is_aborted || !outcome.errors.is_empty());
        }
        for (record, linear) in &seen {
            let record = record.lock();
            if *linear {
                let expected: Vec<u64> = (0..record.len() as u64).collect();
                prop_assert_eq!(&*record, &expected, "order is kept along a path, without gaps");
                if quiet {
                    prop_assert_eq!(record.len() as u64, frames);
                }
            }
        }
    }
}

fn chain(frames: u64, workers: usize, mishap: Mishap) -> (Graph, Arc<Mutex<Vec<u64>>>) {
    let plan = |workers, mishap| NodePlan {
        parents: vec![0],
        workers,
        queue: 2,
        batch: 1,
        has_deadline: false,
        pause_micros: 30,
        delay: 0,
        mishap,
        on_error: OnSinkError::Fail,
    };
    let mut plans = vec![plan(workers, mishap), plan(1, Mishap::None)];
    plans[1].parents = vec![1];
    let Built { graph, seen } = build(frames, Mishap::None, &plans);
    (graph, Arc::clone(&seen[1].0))
}

#[test]
fn several_workers_keep_the_order() {
    let (graph, last) = chain(500, 3, Mishap::None);
    run(graph, Outside::Nothing).result.expect("no failure");
    assert_eq!(*last.lock(), (0..500).collect::<Vec<_>>());
}

#[test]
fn the_first_failure_is_reported_with_its_stage() {
    let (graph, _) = chain(50, 1, Mishap::Error(7));
    let error = run(graph, Outside::Nothing).result.expect_err("frame 7 fails");
    assert_eq!((error.stage.as_str(), error.kind()), ("node 0", ErrorKind::Input));
    assert_eq!(error.to_string(), "node 0: bad frame 7");
}

#[test]
fn a_panic_is_an_error_that_names_the_stage() {
    let (graph, _) = chain(50, 2, Mishap::Panic(7));
    let error = run(graph, Outside::Nothing).result.expect_err("frame 7 panics");
    assert_eq!((error.stage.as_str(), error.kind()), ("node 0", ErrorKind::Internal));
    assert!(error.to_string().contains("panicked: on purpose"), "{error}");
}

#[test]
fn a_stage_that_has_enough_ends_those_before_it() {
    let (graph, last) = chain(u64::MAX, 1, Mishap::DoneAt(20));
    let outcome = run(graph, Outside::Nothing);
    outcome.result.expect("having enough is not a failure");
    assert_eq!(last.lock().len(), 21);
    assert!(outcome.stats.stages[0].frames_out < 60, "the source ended soon after");
}

#[test]
fn workers_ahead_of_the_last_batch_leave_no_gap() {
    for run_number in 0..50 {
        let plan = |workers, batch, mishap| NodePlan {
            parents: vec![0],
            workers,
            queue: 3,
            batch,
            has_deadline: false,
            pause_micros: 10,
            delay: 0,
            mishap,
            on_error: OnSinkError::Fail,
        };
        let mut plans = vec![plan(3, 3, Mishap::DoneAt(12)), plan(1, 1, Mishap::None)];
        plans[1].parents = vec![1];
        let Built { graph, seen } = build(40, Mishap::None, &plans);
        run(graph, Outside::Nothing).result.expect("having enough is not a failure");
        assert_eq!(*seen[1].0.lock(), (0..=12).collect::<Vec<_>>(), "run {run_number}");
    }
}

#[test]
fn a_stop_finishes_what_is_under_way() {
    let (graph, last) = chain(u64::MAX, 2, Mishap::None);
    let outcome = run(graph, Outside::Stop(5_000));
    outcome.result.expect("a stop is not a failure");
    assert_eq!(last.lock().len() as u64, outcome.stats.stages[0].frames_out, "every frame that was made arrived");
}

#[test]
fn an_abort_is_a_separate_error() {
    let (graph, _) = chain(u64::MAX, 2, Mishap::None);
    assert_eq!(run(graph, Outside::Abort(2_000)).result.expect_err("aborted").kind(), ErrorKind::Cancelled);
}

#[test]
fn dropping_the_handle_ends_the_threads() {
    let (graph, last) = chain(u64::MAX, 1, Mishap::None);
    let handle = graph.start(RunOptions::default()).expect("a valid graph");
    assert!(Arc::strong_count(&last) > 1, "a stage holds it while the run lasts");
    drop(handle);
    // The threads own the stages, so the count is 1 only after they were joined.
    assert_eq!(Arc::strong_count(&last), 1);
}

#[test]
fn a_probe_sees_every_frame_and_may_drop_it() {
    let (mut graph, last) = chain(30, 1, Mishap::None);
    let seen = Arc::new(AtomicU64::new(0));
    let source = graph.nodes_named("source").next().expect("named");
    let edge = graph.edges_from(source).next().expect("connected");
    let count = Arc::clone(&seen);
    graph.probe(
        edge,
        Arc::new(move |item| {
            count.fetch_add(1, Ordering::Relaxed);
            if item.frame.index % 3 == 0 { Verdict::Drop } else { Verdict::Keep }
        }),
    );
    let outcome = run(graph, Outside::Nothing);
    assert_eq!(seen.load(Ordering::Relaxed), 30);
    assert_eq!(last.lock().len(), 20);
    assert_eq!((outcome.stats.edges[0].frames, outcome.stats.edges[0].dropped), (20, 10));
}

#[test]
fn statistics_add_up() {
    let (graph, _) = chain(200, 2, Mishap::None);
    let stats = run(graph, Outside::Nothing).stats;
    assert_eq!(stats.frames_done(), 200);
    for stage in &stats.stages {
        let spent = stage.busy_secs + stage.wait_input_secs + stage.wait_output_secs;
        assert!(spent <= stats.wall_secs * stage.workers as f64 * 1.05 + 0.01, "{stage:?} within {} s", stats.wall_secs);
    }
    assert!(stats.edges.iter().all(|edge| edge.max_depth <= edge.capacity && edge.mean_depth <= edge.capacity as f64));
    assert!(stats.table().lines().count() >= 4);
}

#[test]
fn a_stage_that_blocks_is_named_with_its_queues() {
    struct Sleeper(std::sync::mpsc::Receiver<()>);
    impl Stage for Sleeper {
        fn frame(&mut self, _: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
            self.0.recv().expect("woken");
            Ok(Flow::More)
        }
    }
    let (wake, waits) = std::sync::mpsc::channel();
    let mut graph = Graph::new();
    let source = graph.add("source", Work::Source(Box::new(Numbers { next: 0, count: 1, mishap: Mishap::None })), NodeOptions::default());
    let sleeper = graph.add("sleeper", Work::Stages(vec![Box::new(Sleeper(waits))]), NodeOptions::default());
    graph.connect(source, sleeper, EdgeFormat::default());
    let handle = graph.start(RunOptions { stall_limit: Duration::from_millis(30), ..RunOptions::default() }).expect("a valid graph");
    while handle.stats().stage("sleeper").expect("named").notices.is_empty() {
        std::thread::yield_now();
    }
    wake.send(()).expect("asleep");
    let stats = handle.wait().stats;
    let notices = &stats.stage("sleeper").expect("named").notices;
    assert_eq!(notices.len(), 1, "reported once: {notices:?}");
    assert!(notices[0].contains("no progress for") && notices[0].contains("at frame 0; input queue 0 of 4"), "{notices:?}");
}

#[test]
fn what_is_no_pipeline_is_refused() {
    let mut graph = Graph::new();
    let a = graph.add("a", Work::Stages(Vec::new()), NodeOptions::default());
    graph.connect(a, a, EdgeFormat::default());
    assert!(graph.start(RunOptions::default()).is_err());
}

/// Holds two batches, like asynchronous GPU work.
struct Pipelined {
    held: std::collections::VecDeque<Vec<Item>>,
    idles: Arc<AtomicU64>,
}

impl Stage for Pipelined {
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.held.push_back(items);
        while self.held.len() > 2 {
            self.idle(out)?;
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        !self.held.is_empty()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.idles.fetch_add(1, Ordering::Relaxed);
        for item in self.held.pop_front().unwrap_or_default() {
            out.push(item)?;
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while !self.held.is_empty() {
            self.idle(out)?;
        }
        Ok(())
    }
}

/// Outputs a frame only after the previous one has reached the end.
struct OneAtATime {
    next: u64,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Source for OneAtATime {
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        out.push(item(self.next).into())?;
        self.next += 1;
        while self.seen.lock().len() < self.next as usize {
            std::thread::yield_now();
        }
        Ok(if self.next == 4 { Flow::Done } else { Flow::More })
    }
}

#[test]
fn results_under_way_come_out_when_no_input_comes() {
    let (seen, idles) = (Arc::default(), Arc::default());
    let mut graph = Graph::new();
    let source = graph.add("source", Work::Source(Box::new(OneAtATime { next: 0, seen: Arc::clone(&seen) })), NodeOptions::default());
    let stage = Pipelined { held: Default::default(), idles: Arc::clone(&idles) };
    let stage = graph.add("pipelined", Work::Stages(vec![Box::new(stage)]), NodeOptions::default());
    let sink = Worker { mishap: Mishap::None, seen: Arc::clone(&seen), pause_micros: 0, delay: 0, held: Vec::new() };
    let sink = graph.add("sink", Work::Stages(vec![Box::new(sink)]), NodeOptions::default());
    graph.connect(source, stage, EdgeFormat::default());
    graph.connect(stage, sink, EdgeFormat::default());
    let handle = graph.start(RunOptions::default()).expect("a graph");
    assert!(handle.wait_for(PATIENCE), "a source that waits for its frames hangs");
    handle.wait().result.expect("no failure");
    assert_eq!((seen.lock().clone(), idles.load(Ordering::Relaxed)), (vec![0, 1, 2, 3], 4));
}
