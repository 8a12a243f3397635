//! Failing outputs, blocked stages and frames that do not fit: which other parts continue, and how the run ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use framerail_core::{CancelToken, StreamId};
use framerail_pipeline::*;

use super::engine_support::{PATIENCE, frame, hush_panics_on_purpose, info, panic_on_purpose};

/// What a stage observed.
#[derive(Default)]
struct Seen {
    frames: AtomicU64,
    is_finished: AtomicBool,
    is_abandoned: AtomicBool,
}

impl Seen {
    fn all(&self) -> (u64, bool, bool) {
        (self.frames.load(Ordering::SeqCst), self.is_finished.load(Ordering::SeqCst), self.is_abandoned.load(Ordering::SeqCst))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    ErrorAt(u64),
    PanicAt(u64),
    StartError,
    FinishError,
}

struct End {
    seen: Arc<Seen>,
    fault: Fault,
}

impl Stage for End {
    fn start(&mut self, _: &StageContext) -> Result<(), StageError> {
        if self.fault == Fault::StartError { Err(StageError::new(ErrorKind::Output, "cannot start")) } else { Ok(()) }
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match self.fault {
            Fault::ErrorAt(at) if at == item.frame.index => return Err(StageError::new(ErrorKind::Output, "the disk is full")),
            Fault::PanicAt(at) if at == item.frame.index => panic_on_purpose(),
            _ => {}
        }
        self.seen.frames.fetch_add(1, Ordering::SeqCst);
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        if self.fault == Fault::FinishError {
            return Err(StageError::new(ErrorKind::Output, "cannot finish"));
        }
        self.seen.is_finished.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn abandon(&mut self) {
        self.seen.is_abandoned.store(true, Ordering::SeqCst);
    }
}

/// Outputs a stream of frames, then ends or stalls until the run stops.
struct Frames {
    next: u64,
    count: u64,
    stalls: bool,
    stop: CancelToken,
}

impl Frames {
    fn new(count: u64) -> Self {
        Self { next: 0, count, stalls: false, stop: CancelToken::default() }
    }
}

impl Source for Frames {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.stop = context.stop_token();
        Ok(())
    }

    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if self.next == 0 {
            let request = StreamRequest { id: StreamId(0), source: "clip".into(), name: "clip".into(), is_live: false, can_reopen: true };
            out.push(Item::StreamStart(info(&request)))?;
        }
        if self.next == self.count {
            if self.stalls {
                self.stop.wait_for(PATIENCE);
            }
            out.push(Item::StreamEnd(StreamEnd::default()))?;
            return Ok(Flow::Done);
        }
        out.push(frame(StreamId(0), self.next, self.next as i64).into())?;
        self.next += 1;
        Ok(Flow::More)
    }
}

/// A source with branches of stages.
struct Tee {
    graph: Graph,
    source: NodeId,
}

impl Tee {
    fn new(source: Frames) -> Self {
        let mut graph = Graph::new();
        let source = graph.add("read", Work::Source(Box::new(source)), NodeOptions::default());
        Self { graph, source }
    }

    fn branch(&mut self, stages: &[(&str, Fault, OnSinkError)]) -> Vec<Arc<Seen>> {
        let mut before = self.source;
        let mut seen = Vec::new();
        for (name, fault, on_error) in stages {
            let record: Arc<Seen> = Arc::default();
            let stage = End { seen: Arc::clone(&record), fault: *fault };
            let options = NodeOptions { on_error: *on_error, ..NodeOptions::default() };
            let node = self.graph.add(*name, Work::Stages(vec![Box::new(stage)]), options);
            self.graph.connect(before, node, EdgeFormat::default());
            before = node;
            seen.push(record);
        }
        seen
    }

    fn run(self) -> RunOutcome {
        let handle = self.graph.start(RunOptions::default()).expect("a valid graph");
        assert!(handle.wait_for(PATIENCE), "the run hangs: {:#?}", handle.stats());
        handle.wait()
    }
}

const FRAMES: u64 = 60;
const FAIL: OnSinkError = OnSinkError::Fail;
const DROP: OnSinkError = OnSinkError::Drop;

#[test]
fn an_output_that_fails_leaves_the_others_whole() {
    hush_panics_on_purpose();
    for (fault, kind) in
        [(Fault::ErrorAt(7), ErrorKind::Output), (Fault::PanicAt(7), ErrorKind::Internal), (Fault::FinishError, ErrorKind::Output)]
    {
        let mut tee = Tee::new(Frames::new(FRAMES));
        let whole = tee.branch(&[("write", Fault::None, FAIL)]);
        let broken = tee.branch(&[("save", fault, FAIL)]);
        let outcome = tee.run();
        let error = outcome.result.expect_err("an output failed");
        assert_eq!((error.stage.as_str(), error.kind(), outcome.errors.len()), ("save", kind, 1));
        assert_eq!(whole[0].all(), (FRAMES, true, false));
        let is_panic = matches!(fault, Fault::PanicAt(_));
        assert_eq!((broken[0].all().1, broken[0].all().2), (false, !is_panic), "what can be kept is kept");
        assert!(outcome.stats.stage("save").expect("there").failure.is_some());
        assert!(outcome.stats.table().contains("save failed: "), "{}", outcome.stats.table());
    }
}

#[test]
fn a_sender_that_fails_drops_and_counts() {
    let mut tee = Tee::new(Frames::new(FRAMES));
    let whole = tee.branch(&[("write", Fault::None, FAIL)]);
    tee.branch(&[("webhook", Fault::ErrorAt(7), DROP)]);
    let outcome = tee.run();
    outcome.result.expect("the run goes on");
    assert_eq!((whole[0].all(), outcome.errors.len()), ((FRAMES, true, false), 1));
    let stream = outcome.stats.stream(0).expect("listed");
    assert_eq!(stream.drops.get("webhook: failed"), Some(&(FRAMES - 7)), "{:?}", stream.drops);
    assert_eq!(outcome.stats.counter("frames_not_sent"), FRAMES - 7);
}

#[test]
fn a_run_whose_outputs_all_fail_fails_with_the_first_error() {
    for outputs in [&[("webhook", 7)][..], &[("webhook", 7), ("mqtt", 30)][..]] {
        let mut tee = Tee::new(Frames { stalls: true, ..Frames::new(FRAMES) });
        for (name, at) in outputs {
            tee.branch(&[(name, Fault::ErrorAt(*at), DROP)]);
        }
        let outcome = tee.run();
        let error = outcome.result.expect_err("nothing is left");
        assert_eq!((error.stage == outcome.errors[0].stage, outcome.errors.len()), (true, outputs.len()));
    }
}

#[test]
fn a_stage_that_fails_takes_its_branch_only() {
    let mut tee = Tee::new(Frames::new(FRAMES));
    let whole = tee.branch(&[("write", Fault::None, FAIL)]);
    let broken = tee.branch(&[("infer", Fault::ErrorAt(7), FAIL), ("save", Fault::None, FAIL)]);
    let error = tee.run().result.expect_err("a stage failed");
    assert_eq!((error.stage.as_str(), whole[0].all()), ("infer", (FRAMES, true, false)));
    let (_, is_finished, is_abandoned) = broken[1].all();
    assert_eq!((is_finished, is_abandoned), (false, true), "half of a file is not finished as if it were whole");
}

#[test]
fn an_output_that_cannot_start_stops_the_run_before_it_begins() {
    let mut tee = Tee::new(Frames { stalls: true, ..Frames::new(0) });
    let other = tee.branch(&[("write", Fault::None, FAIL)]);
    tee.branch(&[("mjpeg", Fault::StartError, DROP)]);
    let error = tee.run().result.expect_err("an output cannot start");
    assert_eq!((error.stage.as_str(), other[0].all().1), ("mjpeg", false));
}

#[test]
fn a_token_of_the_program_stops_and_aborts_every_run() {
    let (stop, abort) = (CancelToken::default(), CancelToken::default());
    let start = |stop: &CancelToken| {
        let mut tee = Tee::new(Frames { stalls: true, ..Frames::new(3) });
        let seen = tee.branch(&[("write", Fault::None, FAIL)]);
        let options = RunOptions { stop: stop.clone(), abort: abort.clone(), ..RunOptions::default() };
        (tee.graph.start(options).expect("a valid graph"), seen)
    };
    let runs = [start(&stop), start(&stop)];
    stop.cancel();
    for (handle, seen) in runs {
        assert!(handle.wait_for(PATIENCE), "the run hangs");
        handle.wait().result.expect("a stop is not a failure");
        assert!(seen[0].all().1, "files are finished");
    }
    let (handle, seen) = start(&CancelToken::default());
    abort.cancel();
    assert!(handle.wait_for(PATIENCE), "the run hangs");
    assert_eq!(handle.wait().result.expect_err("aborted").kind(), ErrorKind::Cancelled);
    assert_eq!((seen[0].all().1, seen[0].all().2), (false, false));
}

#[test]
fn a_stage_that_hangs_is_left_behind() {
    struct Hangs(Arc<AtomicBool>, CancelToken);
    impl Stage for Hangs {
        fn frame(&mut self, _: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
            self.0.store(true, Ordering::SeqCst);
            // Like a call into a library that does not know the run's tokens.
            self.1.wait_for(PATIENCE);
            Ok(Flow::More)
        }
    }
    let (is_stuck, release): (Arc<AtomicBool>, _) = (Arc::default(), CancelToken::default());
    let mut tee = Tee::new(Frames::new(FRAMES));
    let node = tee.graph.add("infer", Work::Stages(vec![Box::new(Hangs(Arc::clone(&is_stuck), release.clone()))]), NodeOptions::default());
    tee.graph.connect(tee.source, node, EdgeFormat::default());
    let handle = tee.graph.start(RunOptions::default()).expect("a valid graph");
    while !is_stuck.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    let outcome = handle.abandon(Duration::from_millis(50));
    assert_eq!(outcome.result.expect_err("aborted").kind(), ErrorKind::Cancelled);
    release.cancel();
}

/// Holds back this many frames, like `hold`.
struct Keeps(Vec<FrameItem>, usize);

impl Stage for Keeps {
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.0.push(item);
        if self.0.len() > self.1 {
            out.push(self.0.remove(0).into())?;
        }
        Ok(Flow::More)
    }
}

fn keeping(frames: usize, batch: usize, memory_bytes: u64) -> RunOutcome {
    let mut tee = Tee::new(Frames::new(FRAMES));
    let keep = tee.graph.add("hold", Work::Stages(vec![Box::new(Keeps(Vec::new(), frames))]), NodeOptions::default());
    let options = NodeOptions { batch: BatchPolicy { max_frames: batch, max_wait: None }, ..NodeOptions::default() };
    let end = tee.graph.add("save", Work::Stages(vec![Box::new(End { seen: Arc::default(), fault: Fault::None })]), options);
    tee.graph.connect(tee.source, keep, EdgeFormat::default());
    tee.graph.connect(keep, end, EdgeFormat::default());
    let handle = tee.graph.start(RunOptions { memory_bytes: Some(memory_bytes), ..RunOptions::default() }).expect("a valid graph");
    assert!(handle.wait_for(PATIENCE), "the run hangs: {:#?}", handle.stats());
    handle.wait()
}

#[test]
fn frames_under_way_keep_to_their_memory() {
    // A full batch does not fit this limit: partial batches are processed.
    let outcome = keeping(4, 16, 8);
    outcome.result.expect("it fits");
    assert_eq!(outcome.stats.frames_done(), FRAMES - 4);
    assert!(outcome.stats.frame_memory_peak_bytes <= 8, "{}", outcome.stats.frame_memory_peak_bytes);
}

#[test]
fn frames_that_can_never_fit_are_refused_with_the_limit() {
    for (frames, batch, memory, words) in [(20, 1, 8, "stages hold about 8 frames"), (0, 1, 0, "more than the limit of 0.0 MB")] {
        let error = keeping(frames, batch, memory).result.expect_err("it cannot fit");
        assert_eq!((error.stage.as_str(), error.kind()), ("read", ErrorKind::Resource));
        assert!(error.to_string().contains(words) && error.to_string().contains("--memory"), "{error}");
    }
}
