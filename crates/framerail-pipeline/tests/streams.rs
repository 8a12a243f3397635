//! Many streams in one graph: fair, in order, failing separately, added and removed during the run.

mod engine_support;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use engine_support::{PATIENCE, frame, hush_panics_on_purpose, info, panic_on_purpose};
use framerail_core::*;
use framerail_pipeline::*;
use parking_lot::Mutex;
use proptest::prelude::*;

/// Distance between frames in microsecond ticks: 1000 frames/s.
const STEP: i64 = 1000;

/// Behaviour of a source.
#[derive(Clone, Debug, Default)]
struct Script {
    frames: u64,
    /// Number of attempts to open it that fail.
    failed_opens: u32,
    /// Frame at which a connection fails.
    error_at: Option<u64>,
    panic_at: Option<u64>,
    pause_micros: u64,
    packets: u64,
    is_live: bool,
    /// Waits at its end until cancelled, like a stalled camera.
    stalls: bool,
    /// Added to every timestamp from this frame on.
    leap: Option<(u64, i64)>,
}

/// Sources by name.
#[derive(Default)]
struct Scripted {
    scripts: Mutex<BTreeMap<String, Script>>,
    opens: Mutex<BTreeMap<String, u32>>,
    /// Number of existing readers.
    alive: Arc<AtomicUsize>,
    most_alive: AtomicUsize,
}

impl Scripted {
    fn new(scripts: Vec<Script>) -> Arc<Self> {
        let scripts = scripts.into_iter().enumerate().map(|(number, script)| (format!("s{number}"), script)).collect();
        Arc::new(Self { scripts: Mutex::new(scripts), ..Self::default() })
    }

    fn set(self: &Arc<Self>, policy: StreamPolicy) -> StreamSet {
        let scripts = self.scripts.lock();
        let requests = scripts.iter().map(|(source, script)| {
            let number = source[1..].parse().expect("a number");
            StreamRequest {
                id: StreamId(number),
                source: source.as_str().into(),
                name: source.clone(),
                is_live: script.is_live,
                can_reopen: true,
            }
        });
        let mut requests: Vec<_> = requests.collect();
        requests.sort_by_key(|request| request.id);
        StreamSet { opener: Arc::clone(self) as Arc<dyn StreamOpener>, requests, opened: None, policy, ahead_bytes: 0 }
    }
}

impl StreamOpener for Scripted {
    fn admit(&self, source: &str, id: StreamId) -> Result<StreamRequest, StageError> {
        let scripts = self.scripts.lock();
        let script = scripts.get(source).ok_or_else(|| StageError::new(ErrorKind::Input, format!("{source}: no such source")))?;
        Ok(StreamRequest { id, source: source.into(), name: format!("{source}-{id}"), is_live: script.is_live, can_reopen: true })
    }

    fn open(&self, request: &StreamRequest, line: &StreamLine) -> Result<Box<dyn StreamReader>, StageError> {
        let script = self.scripts.lock().get(request.source.reveal()).cloned().unwrap_or_default();
        let opens = {
            let mut opens = self.opens.lock();
            let opens = opens.entry(request.source.to_string()).or_insert(0);
            *opens += 1;
            *opens
        };
        if opens <= script.failed_opens {
            return Err(StageError::new(ErrorKind::Input, format!("{}: refused", request.source)));
        }
        let alive = Alive::new(&self.alive);
        self.most_alive.fetch_max(self.alive.load(Ordering::SeqCst), Ordering::SeqCst);
        // A reopened connection does not fail again.
        let error_at = script.error_at.filter(|_| opens <= script.failed_opens + 1);
        let script = Script { error_at, ..script };
        Ok(Box::new(ScriptedReader { info: info(request), script, next: 0, cancel: line.cancel.clone(), _alive: alive }))
    }
}

struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct ScriptedReader {
    info: Arc<StreamInfo>,
    script: Script,
    next: u64,
    cancel: CancelToken,
    _alive: Alive,
}

impl StreamReader for ScriptedReader {
    fn info(&self) -> Arc<StreamInfo> {
        Arc::clone(&self.info)
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let (index, script) = (self.next, &self.script);
        if script.panic_at == Some(index) {
            panic_on_purpose();
        }
        if script.error_at == Some(index) {
            return Err(StageError::new(ErrorKind::Input, format!("{}: broken at {index}", self.info.source)));
        }
        if index == script.frames {
            while script.stalls && !self.cancel.is_cancelled() {
                std::thread::sleep(Duration::from_micros(200));
            }
            return Ok(Flow::Done);
        }
        if script.pause_micros > 0 {
            std::thread::sleep(Duration::from_micros(script.pause_micros));
        }
        let leap = script.leap.filter(|(at, _)| index >= *at).map_or(0, |(_, ticks)| ticks);
        out.push(frame(self.info.id, index, index as i64 * STEP + leap).into())?;
        for _ in 0..script.packets {
            out.push(packet(self.info.id))?;
        }
        self.next += 1;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<Option<String>, StageError> {
        Ok(None)
    }
}

fn packet(stream: StreamId) -> Item {
    let payload = Arc::new(());
    Item::Packet(Packet { stream, side_stream: 0, pts: None, time_base: TimeBase::MICROS, size_bytes: 0, payload })
}

/// Received items in order, and the sizes of their batches.
#[derive(Clone, Default)]
struct Arrived {
    items: Arc<Mutex<Vec<Item>>>,
    batches: Arc<Mutex<Vec<Vec<u32>>>>,
}

struct Sink {
    arrived: Arrived,
    pause_micros: u64,
}

impl Stage for Sink {
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let streams: Vec<u32> = items.iter().filter(|item| item.is_frame()).map(|item| item.stream().0).collect();
        if self.pause_micros > 0 && !streams.is_empty() {
            std::thread::sleep(Duration::from_micros(self.pause_micros));
        }
        self.arrived.batches.lock().push(streams);
        self.arrived.items.lock().extend(items);
        Ok(Flow::More)
    }
}

/// Passes items on, with several workers.
struct Pass;

impl Stage for Pass {
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        out.push(item.into())?;
        Ok(Flow::More)
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    workers: usize,
    batch: usize,
    queue: usize,
    pause_micros: u64,
}

const PLAIN: Line = Line { workers: 1, batch: 1, queue: 4, pause_micros: 0 };

fn start(sources: &Arc<Scripted>, policy: StreamPolicy, line: Line) -> (RunHandle, Arrived) {
    start_set(sources.set(policy), line)
}

fn start_set(set: StreamSet, line: Line) -> (RunHandle, Arrived) {
    hush_panics_on_purpose();
    let mut graph = Graph::new();
    let read = graph.add("read", Work::Streams(set), NodeOptions::default());
    let passes = (0..line.workers).map(|_| Box::new(Pass) as Box<dyn Stage>).collect();
    let pass = graph.add("pass", Work::Stages(passes), NodeOptions { queue: line.queue, ..NodeOptions::default() });
    let arrived = Arrived::default();
    let sink = Sink { arrived: arrived.clone(), pause_micros: line.pause_micros };
    let batch = BatchPolicy { max_frames: line.batch, max_wait: Some(Duration::from_millis(5)) };
    let sink = graph.add("sink", Work::Stages(vec![Box::new(sink)]), NodeOptions { queue: line.queue, batch, ..NodeOptions::default() });
    graph.connect(read, pass, EdgeFormat::default());
    graph.connect(pass, sink, EdgeFormat::default());
    (graph.start(RunOptions::default()).expect("a valid graph"), arrived)
}

fn end(handle: RunHandle) -> RunOutcome {
    assert!(handle.wait_for(PATIENCE), "the run hangs: {:#?}", handle.stats());
    handle.wait()
}

fn run(scripts: Vec<Script>, policy: StreamPolicy, line: Line) -> (RunOutcome, Arrived, Arc<Scripted>) {
    let sources = Scripted::new(scripts);
    let (handle, arrived) = start(&sources, policy, line);
    (end(handle), arrived, sources)
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what} never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Frame indexes of each stream; checks that each stream has its start first, its end last, and increasing timestamps.
fn frames_by_stream(items: &[Item]) -> BTreeMap<u32, Vec<u64>> {
    let mut open: BTreeMap<u32, Vec<(u64, i64)>> = BTreeMap::new();
    let mut ended = BTreeMap::new();
    for item in items {
        let id = item.stream().0;
        match item {
            Item::StreamStart(_) => assert!(open.insert(id, Vec::new()).is_none() && !ended.contains_key(&id), "two starts of {id}"),
            Item::Frame(item) => open.get_mut(&id).expect("a start first").push((item.frame.index, item.frame.pts.0)),
            Item::StreamEnd(_) => drop(ended.insert(id, open.remove(&id).expect("a start first"))),
            _ => assert!(open.contains_key(&id), "a packet outside of stream {id}"),
        }
    }
    assert!(open.is_empty(), "streams without an end: {open:?}");
    let numbers = |frames: Vec<(u64, i64)>| {
        assert!(frames.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1), "out of order: {frames:?}");
        frames.into_iter().map(|(index, _)| index).collect()
    };
    ended.into_iter().map(|(id, frames)| (id, numbers(frames))).collect()
}

fn all(at_once: usize) -> StreamPolicy {
    StreamPolicy { at_once, ..StreamPolicy::default() }
}

fn quick_retry(attempts: Option<u32>) -> RetryPolicy {
    RetryPolicy { first_wait: Duration::from_millis(1), max_wait: Duration::from_millis(4), attempts, ..RetryPolicy::default() }
}

fn frames(frames: u64) -> Script {
    Script { frames, ..Script::default() }
}

fn script() -> impl Strategy<Value = Script> {
    let mishap = prop_oneof![
        8 => Just((0, None, None)),
        2 => (1..3u32).prop_map(|opens| (opens, None, None)),
        2 => (0..30u64).prop_map(|at| (0, Some(at), None)),
        1 => (0..30u64).prop_map(|at| (0, None, Some(at))),
    ];
    (0..30u64, mishap, 0..50u64, 0..3u64, any::<bool>()).prop_map(
        |(frames, (failed_opens, error_at, panic_at), pause_micros, packets, is_live)| Script {
            frames,
            failed_opens,
            error_at,
            panic_at,
            pause_micros,
            packets,
            is_live,
            ..Script::default()
        },
    )
}

fn policy() -> impl Strategy<Value = StreamPolicy> {
    let drop = prop_oneof![Just(None), Just(Some(DropPolicy::Oldest)), Just(Some(DropPolicy::Newest)), Just(Some(DropPolicy::None))];
    let on_error = prop_oneof![Just(OnStreamError::Fail), Just(OnStreamError::End), Just(OnStreamError::Retry)];
    (1..6usize, any::<bool>(), drop, prop::option::of(1..4u64), prop::option::of(1..4usize), on_error).prop_map(
        |(at_once, realtime, drop, latency, buffer, on_error)| StreamPolicy {
            at_once,
            realtime,
            drop,
            latency: latency.map(Duration::from_millis),
            buffer,
            on_error: Some(on_error),
            retry: quick_retry(Some(3)),
            stays: false,
            in_step: false,
        },
    )
}

fn line() -> impl Strategy<Value = Line> {
    (1..3usize, 1..5usize, 1..4usize, 0..200u64).prop_map(|(workers, batch, queue, pause_micros)| Line {
        workers,
        batch,
        queue,
        pause_micros,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, max_shrink_iters: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_in_any_mix_come_to_an_end(
        scripts in prop::collection::vec(script(), 1..7),
        policy in policy(),
        line in line(),
        outside in prop_oneof![5 => Just(None), 1 => (0..4000u64, any::<bool>()).prop_map(Some)],
        removed in prop::option::of((0..7u32, 0..3000u64)),
    ) {
        let sources = Scripted::new(scripts.clone());
        let (handle, arrived) = start(&sources, policy, line);
        if let Some((stream, micros)) = removed {
            std::thread::sleep(Duration::from_micros(micros));
            // It may have ended, or never existed.
            let _ = handle.remove_stream(StreamId(stream));
        }
        if let Some((micros, is_stop)) = outside {
            std::thread::sleep(Duration::from_micros(micros));
            if is_stop { handle.stop() } else { handle.abort() }
        }
        // A live source that is retried at its end never ends by itself.
        let endless = policy.on_error == Some(OnStreamError::Retry) && scripts.iter().any(|script| script.is_live);
        if endless && outside.is_none() {
            std::thread::sleep(Duration::from_millis(5));
            handle.stop();
        }
        let outcome = end(handle);
        prop_assert_eq!(sources.alive.load(Ordering::SeqCst), 0, "every reader is gone");
        if outcome.result.is_ok() {
            let frames = frames_by_stream(&arrived.items.lock());
            for stats in &outcome.stats.streams {
                let delivered = frames.get(&stats.id).map_or(0, |frames| frames.len() as u64);
                prop_assert_eq!((stats.frames_delivered, stats.frames_read), (delivered, delivered + stats.frames_dropped), "{:?}", stats);
                prop_assert_eq!(stats.drops.values().sum::<u64>(), stats.frames_dropped);
            }
        }
        let sound = |script: &Script| script.failed_opens == 0 && script.error_at.is_none() && script.panic_at.is_none();
        if scripts.iter().all(sound) && outside.is_none() && removed.is_none() && !endless {
            prop_assert!(outcome.result.is_ok(), "{:?}", outcome.result);
            for (number, script) in scripts.iter().enumerate() {
                let stats = outcome.stats.stream(number as u32).expect("listed");
                prop_assert_eq!(stats.frames_read, script.frames);
            }
        }
    }
}

#[test]
fn one_after_another_is_the_default() {
    let (outcome, arrived, sources) = run(vec![frames(20), frames(30)], StreamPolicy::default(), PLAIN);
    outcome.result.expect("no failure");
    let order: Vec<u32> = arrived.items.lock().iter().map(|item| item.stream().0).collect();
    assert!(order.is_sorted(), "{order:?}");
    assert_eq!(sources.most_alive.load(Ordering::SeqCst), 1);
    assert_eq!(frames_by_stream(&arrived.items.lock())[&1], (0..30).collect::<Vec<_>>());
}

#[test]
fn no_more_than_so_many_are_read_at_once() {
    let (outcome, arrived, sources) = run(vec![Script { pause_micros: 100, ..frames(20) }; 9], all(3), PLAIN);
    outcome.result.expect("no failure");
    assert_eq!(sources.most_alive.load(Ordering::SeqCst), 3);
    assert_eq!(frames_by_stream(&arrived.items.lock()).len(), 9);
}

#[test]
fn hundreds_of_streams_leave_no_ghosts_in_the_statistics() {
    for (at_once, pause_micros) in [(500, 0), (40, 20), (1, 0)] {
        let (outcome, _, _) = run(vec![frames(2); 500], all(at_once), Line { pause_micros, ..PLAIN });
        outcome.result.expect("no failure");
        let (streams, earlier) = (&outcome.stats.streams, outcome.stats.earlier_streams);
        assert_eq!(streams.len() as u64 + earlier.streams, 500);
        assert!(streams.len() <= 256, "{} streams are listed", streams.len());
        assert!(streams.iter().all(|stream| !stream.name.is_empty() && stream.state == StreamState::Ended));
        let delivered: u64 = streams.iter().map(|stream| stream.frames_delivered).sum();
        assert_eq!((delivered + earlier.frames_delivered, earlier.frames_dropped), (1000, 0));
    }
}

#[test]
fn a_batch_is_made_of_frames_of_all_streams() {
    // The sink is the slowest stage, so every lane has waiting frames and turns decide.
    let line = Line { batch: 4, queue: 4, pause_micros: 2000, ..PLAIN };
    let (outcome, arrived, _) = run(vec![frames(60); 4], all(4), line);
    outcome.result.expect("no failure");
    let batches = arrived.batches.lock();
    let full: Vec<_> = batches.iter().filter(|batch| batch.len() == 4).collect();
    let mixed = full.iter().filter(|batch| batch.iter().collect::<std::collections::BTreeSet<_>>().len() == 4).count();
    // The number of full batches depends on the machine: a batch waits for 5 ms.
    assert!(full.len() >= 10 && mixed * 10 >= full.len() * 8, "{mixed} of {} full batches have a frame of each stream", full.len());
}

#[test]
fn a_fast_stream_does_not_starve_a_slow_one() {
    let slow = Script { pause_micros: 3000, ..frames(20) };
    let line = Line { pause_micros: 1000, ..PLAIN };
    let (outcome, arrived, _) = run(vec![frames(400), frames(400), slow], all(3), line);
    outcome.result.expect("no failure");
    // Each of its frames is delivered as soon as it is available: its end comes long before that of the others.
    let items = arrived.items.lock();
    let end = items.iter().position(|item| matches!(item, Item::StreamEnd(end) if end.id == StreamId(2))).expect("ended");
    assert!(end < items.len() / 2, "ended at {end} of {}", items.len());
}

#[test]
fn a_stream_that_fails_ends_alone() {
    let broken = Script { error_at: Some(5), ..frames(50) };
    let policy = StreamPolicy { on_error: Some(OnStreamError::End), ..all(3) };
    let (outcome, arrived, _) = run(vec![frames(50), broken, frames(50)], policy, PLAIN);
    outcome.result.expect("the others went on");
    let items = arrived.items.lock();
    let by_stream = frames_by_stream(&items);
    assert_eq!((by_stream[&0].len(), by_stream[&1].len(), by_stream[&2].len()), (50, 5, 50));
    let stats = outcome.stats.stream(1).expect("listed");
    assert_eq!((stats.state, stats.last_error.as_deref()), (StreamState::Failed, Some("s1: broken at 5")));
    assert_eq!(outcome.stats.counter("streams_failed"), 1);
    let why = items.iter().find_map(|item| match item {
        Item::StreamEnd(end) if end.id == StreamId(1) => end.ended_early.clone(),
        _ => None,
    });
    assert_eq!(why.as_deref(), Some("s1: broken at 5"));
}

#[test]
fn by_default_a_failing_file_fails_the_run() {
    let broken = Script { error_at: Some(5), ..frames(50) };
    for at_once in [1, 2] {
        let (outcome, ..) = run(vec![frames(50), broken.clone()], all(at_once), PLAIN);
        let error = outcome.result.expect_err("failed");
        assert_eq!((error.stage.as_str(), error.to_string().as_str()), ("read", "read: s1: broken at 5"));
    }
}

#[test]
fn a_run_of_failing_streams_alone_fails() {
    let gone = Script { failed_opens: u32::MAX, ..frames(5) };
    let policy = StreamPolicy { on_error: Some(OnStreamError::End), ..all(2) };
    let error = run(vec![gone.clone(), gone.clone()], policy, PLAIN).0.result.expect_err("nothing was read");
    assert!(error.to_string().contains("none of 2 streams could be read; the last: s"), "{error}");
    assert!(run(vec![gone, frames(3)], policy, PLAIN).0.result.is_ok());
}

#[test]
fn a_source_that_comes_back_goes_on_as_the_same_stream() {
    let flaky = Script { failed_opens: 2, error_at: Some(10), is_live: true, stalls: true, ..frames(20) };
    let sources = Scripted::new(vec![flaky, Script { is_live: true, ..frames(0) }]);
    let policy = StreamPolicy { retry: quick_retry(None), buffer: Some(100), ..StreamPolicy::default() };
    let (handle, arrived) = start(&sources, policy, PLAIN);
    // 10 frames from the first connection, 20 from the second; then the camera stalls.
    wait_until("30 frames", || arrived.items.lock().iter().filter(|item| item.is_frame()).count() == 30);
    handle.stop();
    let outcome = end(handle);
    outcome.result.expect("no failure");
    assert_eq!(frames_by_stream(&arrived.items.lock())[&0], (0..30).collect::<Vec<_>>());
    let stats = outcome.stats.stream(0).expect("listed");
    assert_eq!((stats.reconnects, stats.state), (1, StreamState::Ended));
}

#[test]
fn a_clock_that_leaps_is_counted() {
    let leaping = Script { is_live: true, leap: Some((5, 3_600_000_000)), ..frames(10) };
    let policy = StreamPolicy { on_error: Some(OnStreamError::End), ..StreamPolicy::default() };
    let (outcome, arrived, _) = run(vec![leaping], policy, PLAIN);
    assert_eq!(outcome.stats.stream(0).expect("listed").clock_jumps, 1);
    let last = arrived
        .items
        .lock()
        .iter()
        .filter_map(|item| if let Item::Frame(item) = item { Some(item.frame.seconds()) } else { None })
        .next_back();
    assert!(last.expect("frames") < 60.0, "{last:?}");
}

#[test]
fn every_drop_is_counted_by_place() {
    // The source produces 1000 frames/s, the sink takes 100/s.
    let line = Line { queue: 1, pause_micros: 10_000, ..PLAIN };
    for drop in [DropPolicy::Oldest, DropPolicy::Newest] {
        let policy = StreamPolicy { realtime: true, drop: Some(drop), buffer: Some(3), ..all(1) };
        let (outcome, arrived, _) = run(vec![frames(200)], policy, line);
        outcome.result.expect("no failure");
        let stats = outcome.stats.stream(0).expect("listed");
        let arrived = frames_by_stream(&arrived.items.lock())[&0].clone();
        assert!(stats.frames_dropped > 50, "{drop:?}: {stats:?}");
        assert_eq!(stats.drops["read: buffer full"], stats.frames_dropped);
        assert_eq!(arrived.len() as u64 + stats.frames_dropped, 200);
        assert_eq!(arrived.contains(&199), drop == DropPolicy::Oldest, "only the one keeps the newest");
    }
}

#[test]
fn frames_over_their_budget_are_dropped_or_counted() {
    let line = Line { queue: 1, pause_micros: 10_000, ..PLAIN };
    let latency = Some(Duration::from_millis(15));
    let policy = StreamPolicy { realtime: true, drop: Some(DropPolicy::None), latency, ..all(1) };
    let stats = run(vec![frames(60)], policy, line).0.stats;
    let stream = stats.stream(0).expect("listed");
    assert_eq!((stream.frames_delivered, stream.frames_dropped), (60, 0));
    assert!(stream.frames_late > 20 && stream.latency_max_secs > 0.1, "{stream:?}");
    let policy = StreamPolicy { drop: Some(DropPolicy::Oldest), buffer: Some(60), ..policy };
    let stats = run(vec![frames(60)], policy, line).0.stats;
    let stream = stats.stream(0).expect("listed");
    assert!(stream.drops["read: over budget"] > 20, "{stream:?}");
}

#[test]
fn streams_come_and_go_a_thousand_times() {
    let short = Script { pause_micros: 50, packets: 1, ..frames(4) };
    let endless = Script { stalls: true, is_live: true, ..frames(2) };
    let sources = Scripted::new(vec![short, endless]);
    let policy = StreamPolicy { stays: true, on_error: Some(OnStreamError::End), ..all(4) };
    let (handle, arrived) = start(&sources, policy, PLAIN);
    let control = handle.streams();
    let live = AtomicU32::new(0);
    for round in 0..500 {
        control.add_source("s0").expect("takes files");
        let id = control.add_source("s1").expect("takes cameras");
        live.store(id.0, Ordering::SeqCst);
        if round % 3 == 0 {
            wait_until("the camera's frames", || control.stats().iter().any(|stats| stats.id == id.0 && stats.frames_delivered == 2));
        }
        control.remove_stream(id).expect("it is there");
        assert!(control.remove_stream(StreamId(1_000_000)).is_err());
        arrived.items.lock().retain(|item| item.stream().0 + 50 > id.0);
    }
    control.remove_stream(StreamId(1)).expect("the first camera");
    wait_until("the end of all streams", || sources.alive.load(Ordering::SeqCst) == 0);
    let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0);
    assert!(threads < 60, "{threads} threads are left");
    wait_until("the last words", || control.stats().iter().all(|stats| matches!(stats.state, StreamState::Ended | StreamState::Removed)));
    handle.stop();
    let outcome = end(handle);
    outcome.result.expect("no failure");
    assert!(outcome.stats.streams.len() < 300, "{} records are kept", outcome.stats.streams.len());
    assert!(outcome.stats.earlier_streams.streams > 600);
    assert!(control.add_source("s0").expect_err("over").message.contains("ending"));
}

#[test]
fn sources_can_be_added_to_a_run_that_reads_in_turn() {
    let sources = Scripted::new(vec![Script { pause_micros: 2000, ..frames(50) }, frames(5)]);
    let (handle, arrived) = start(&sources, StreamPolicy::default(), PLAIN);
    assert_eq!(handle.add_source("s1").expect("takes it"), StreamId(2));
    assert_eq!(handle.add_source("no").expect_err("unknown").kind, ErrorKind::Input);
    handle.remove_stream(StreamId(0)).expect("it is being read");
    end(handle).result.expect("no failure");
    let frames = frames_by_stream(&arrived.items.lock());
    assert_eq!((frames[&1].len(), frames[&2].len()), (5, 5));
    assert!(frames.get(&0).is_none_or(|frames| frames.len() < 50));
}

#[test]
fn a_source_that_was_added_and_fails_ends_alone() {
    for (on_error, is_failure) in [(None, false), (Some(OnStreamError::Fail), true)] {
        let sources = Scripted::new(vec![Script { pause_micros: 1000, ..frames(60) }, Script { failed_opens: 99, ..frames(5) }]);
        let mut set = sources.set(StreamPolicy { on_error, ..StreamPolicy::default() });
        set.requests.truncate(1);
        let (handle, arrived) = start_set(set, PLAIN);
        let added = handle.add_source("s1").expect("takes it");
        let outcome = end(handle);
        assert_eq!(outcome.result.is_err(), is_failure, "{on_error:?}: {:?}", outcome.result);
        let stream = outcome.stats.stream(added.0).expect("listed").clone();
        assert!(stream.last_error.is_some_and(|error| error.contains("refused")), "{on_error:?}");
        if !is_failure {
            assert_eq!((stream.state, frames_by_stream(&arrived.items.lock())[&0].len()), (StreamState::Failed, 60));
        }
    }
}

#[test]
fn a_pipeline_without_streams_takes_no_sources() {
    struct Nothing;
    impl Source for Nothing {
        fn produce(&mut self, _: &mut dyn Emitter) -> Result<Flow, StageError> {
            Ok(Flow::Done)
        }
    }
    let mut graph = Graph::new();
    graph.add("nothing", Work::Source(Box::new(Nothing)), NodeOptions::default());
    let handle = graph.start(RunOptions::default()).expect("a valid graph");
    assert_eq!(handle.add_source("x").expect_err("nobody").kind, ErrorKind::Usage);
}
