//! Runs a worker thread from start to end.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use framerail_core::StreamId;

use super::{
    control::Control,
    metrics::{Phase, WorkerClock},
    ordered::{Ordered, Part, Results},
    outlet::{DirectEmitter, OutCounts, Outlets, SourceEmitter},
    queue::{Discard, Popped, Queue},
    range::StageRange,
    streams::StreamJob,
};
use crate::{Arrival, Emitter, ErrorKind, Flow, Item, OnSinkError, Source, Stage, StageContext, StageError, stage::Ledger, trace::Tracer};

/// State shared by the workers of a node and read by the statistics.
pub(super) struct NodeState {
    pub(super) name: Arc<str>,
    pub(super) input: Option<Arc<Queue>>,
    pub(super) following: Vec<Arc<Queue>>,
    pub(super) clocks: Vec<WorkerClock>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) items_in: AtomicU64,
    pub(super) frames_in: AtomicU64,
    pub(super) out_counts: Arc<OutCounts>,
    pub(super) workers_left: AtomicUsize,
    /// What happens when it fails, if it is an end of the pipeline.
    pub(super) on_error: Option<OnSinkError>,
    /// Number of pipeline ends downstream, including the node itself.
    pub(super) ends_behind: usize,
    /// This node or one upstream has failed: its workers end without finishing.
    pub(super) has_failed: AtomicBool,
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// All output was delivered.
    Finished,
    /// The run or the branch was aborted.
    Abandoned,
}

/// One thread of a node.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) node: Arc<NodeState>,
    pub(super) control: Arc<Control>,
    pub(super) outlets: Outlets,
    /// Present when the node has several workers.
    pub(super) ordered: Option<Arc<Ordered>>,
}

impl Worker {
    pub(super) fn context(&self) -> StageContext {
        StageContext {
            name: Arc::clone(&self.node.name),
            worker: self.index,
            ledger: Arc::clone(&self.node.ledger),
            stop: self.control.stop.clone(),
            abort: self.control.abort.clone(),
            streams: Arc::clone(&self.control.streams),
        }
    }

    fn clock(&self) -> &WorkerClock {
        &self.node.clocks[self.index]
    }

    pub(super) fn run_source(mut self, mut source: Box<dyn Source>) {
        let outcome = guarded(|| self.drive_source(source.as_mut()));
        self.end(outcome, source, |_| {});
    }

    pub(super) fn run_streams(mut self, mut job: StreamJob) {
        let outcome = guarded(|| job.drive(&mut self).map(|()| Ending::Finished));
        self.end(outcome, job, |_| {});
    }

    pub(super) fn run_stage(mut self, mut stage: Box<dyn Stage>) {
        let outcome = guarded(|| self.drive_stage(stage.as_mut()));
        self.end(outcome, stage, |stage| stage.abandon());
    }

    fn drive_source(&mut self, source: &mut dyn Source) -> Result<Ending, StageError> {
        let context = self.context();
        let node = Arc::clone(&self.node);
        let clock = &node.clocks[self.index];
        clock.enter(Phase::Busy);
        source.start(&context)?;
        let control = Arc::clone(&self.control);
        let inner = DirectEmitter { outlets: &mut self.outlets, clock };
        let mut out = SourceEmitter { inner, name: &node.name, control: &control };
        while !control.is_stopping() {
            let produced = {
                let _range = StageRange::new(&node.name);
                source.produce(&mut out)
            };
            match produced {
                Ok(Flow::More) => {}
                Ok(Flow::Done) => break,
                // A stop interrupts blocking reads; that is not a failure.
                Err(_) if control.is_stopping() => break,
                Err(error) => return Err(error),
            }
        }
        if control.is_aborted() { Ok(Ending::Abandoned) } else { source.finish(&mut out).map(|()| Ending::Finished) }
    }

    fn drive_stage(&mut self, stage: &mut dyn Stage) -> Result<Ending, StageError> {
        let context = self.context();
        let node = Arc::clone(&self.node);
        let Some(input) = node.input.clone() else {
            return Err(StageError::new(ErrorKind::Internal, "has no input"));
        };
        self.clock().enter(Phase::Busy);
        if let Err(error) = guarded(|| stage.start(&context)) {
            // Nothing is lost yet, so fail the run now instead of at the end.
            self.control.fail(&node.name, error);
            return Ok(Ending::Abandoned);
        }
        loop {
            self.clock().enter(Phase::WaitInput);
            let can_idle = self.ordered.is_none() && stage.has_work_under_way();
            let popped = if can_idle { input.pop_now() } else { input.pop() };
            self.clock().enter(Phase::Busy);
            match popped {
                Popped::Aborted => return Ok(Ending::Abandoned),
                Popped::End { sequence } => return self.finish(sequence, stage),
                Popped::Idle => {
                    if self.idle(stage)? == Flow::Done {
                        return self.finish_early(stage, &input);
                    }
                }
                Popped::Batch { sequence, items } => {
                    self.count_in(&items);
                    let arrived = self.arrived(&items);
                    let name = &node.name;
                    let batch = |out: &mut dyn Emitter| {
                        let _range = StageRange::new(name);
                        Ok(match stage.batch(items, out)? {
                            Flow::More => Part::Batch,
                            Flow::Done => Part::LastBatch,
                        })
                    };
                    let given = self.give(sequence, batch);
                    if given.is_err() && self.node.on_error == Some(OnSinkError::Drop) {
                        let frames = arrived.iter().filter(|arrived| !arrived.is_end);
                        frames.for_each(|frame| self.discard().count(&self.control, frame.stream));
                    }
                    let part = given?;
                    self.count_delivered(&arrived);
                    if part == Part::LastBatch {
                        return self.finish_early(stage, &input);
                    }
                }
            }
        }
    }

    /// Lets a stage output results that are ready. Only for a node with one worker.
    fn idle(&mut self, stage: &mut dyn Stage) -> Result<Flow, StageError> {
        let node = Arc::clone(&self.node);
        let _range = StageRange::new(&node.name);
        stage.idle(&mut DirectEmitter { outlets: &mut self.outlets, clock: &node.clocks[self.index] })
    }

    /// Finishes a stage that accepts no more input but still holds output.
    fn finish_early(&mut self, stage: &mut dyn Stage, input: &Queue) -> Result<Ending, StageError> {
        input.receiver_ended();
        match input.pop() {
            Popped::End { sequence } => self.finish(sequence, stage),
            _ => Ok(Ending::Abandoned),
        }
    }

    fn finish(&mut self, sequence: u64, stage: &mut dyn Stage) -> Result<Ending, StageError> {
        let name = Arc::clone(&self.node.name);
        let finish = |out: &mut dyn Emitter| {
            let _range = StageRange::new(&name);
            stage.finish(out).map(|()| Part::Finish)
        };
        self.give(sequence, finish).map(|_| Ending::Finished)
    }

    /// Runs a unit of work and outputs its results in order.
    fn give(&mut self, sequence: u64, work: impl FnOnce(&mut dyn Emitter) -> Result<Part, StageError>) -> Result<Part, StageError> {
        let node = Arc::clone(&self.node);
        let clock = &node.clocks[self.index];
        let Some(ordered) = &self.ordered else {
            return work(&mut DirectEmitter { outlets: &mut self.outlets, clock });
        };
        // Collected, to be put in order afterwards.
        let mut items = Vec::new();
        let part = work(&mut items)?;
        ordered.deposit(sequence, Results { items, part }, &mut self.outlets, clock)?;
        Ok(part)
    }

    fn count_in(&self, items: &[Item]) {
        let frames = items.iter().filter(|item| item.is_frame()).count() as u64;
        self.node.items_in.fetch_add(items.len() as u64, Ordering::Relaxed);
        self.node.frames_in.fetch_add(frames, Ordering::Relaxed);
        let last = items.iter().rev().find_map(|item| match item {
            Item::Frame(item) => Some(item.frame.index),
            _ => None,
        });
        self.clock().set_frame(last);
        for item in items {
            if let Item::Frame(item) = item
                && let Some(tracer) = item.attachments.get::<Tracer>()
            {
                tracer.entered(&self.node.name);
            }
        }
    }

    /// The frames and stream ends among items that have reached an end of the pipeline.
    fn arrived(&self, items: &[Item]) -> Vec<Arrived> {
        if self.node.on_error.is_none() {
            return Vec::new();
        }
        let arrived = items.iter().filter_map(|item| match item {
            Item::Frame(item) => Some(Arrived { stream: item.frame.stream, arrival: item.arrival, is_end: false }),
            Item::StreamEnd(end) => Some(Arrived { stream: end.id, arrival: None, is_end: true }),
            _ => None,
        });
        arrived.collect()
    }

    fn count_delivered(&self, arrived: &[Arrived]) {
        let now = Instant::now();
        for Arrived { stream, arrival, is_end } in arrived {
            if *is_end {
                self.control.streams.end_arrived(*stream);
            } else {
                self.control.streams.delivered(*stream, &self.node.name, *arrival, now);
            }
        }
    }

    /// How this end of the pipeline counts the frames that it drops after a failure.
    fn discard(&self) -> Discard {
        let counter = self.context().counter("frames_not_sent");
        Discard { place: format!("{}: failed", self.node.name).into(), counter }
    }

    /// Records the outcome, drops the stage, and closes the node after its last worker.
    fn end<T>(self, outcome: Result<Ending, StageError>, mut stage: T, abandon: impl FnOnce(&mut T)) {
        let is_panic = matches!(&outcome, Err(error) if error.kind == ErrorKind::Internal);
        match outcome {
            Ok(Ending::Finished) => {}
            Ok(Ending::Abandoned) => self.node.has_failed.store(true, Ordering::SeqCst),
            Err(error) if error.kind == ErrorKind::Closed => {
                if let Some(input) = &self.node.input {
                    input.receiver_ended();
                }
            }
            Err(error) => self.fail(error),
        }
        let is_abandoned = self.node.has_failed.load(Ordering::SeqCst);
        let dropped = guarded(|| {
            if is_abandoned && !is_panic && !self.control.is_aborted() {
                abandon(&mut stage);
            }
            drop(stage);
            Ok(())
        });
        if let Err(error) = dropped {
            self.fail(error);
        }
        self.clock().enter(Phase::Ended);
        if self.node.workers_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.close();
        }
    }

    /// Closes the node after its last worker.
    fn close(&self) {
        let has_failed = self.node.has_failed.load(Ordering::SeqCst);
        if let Some(input) = &self.node.input {
            input.receiver_ended();
        }
        if self.node.on_error.is_some() {
            self.control.end_closed(!has_failed);
        }
        for queue in &self.node.following {
            // After a failure, downstream outputs must not be finished as if they were complete.
            if has_failed { queue.fail() } else { queue.producer_ended() }
        }
    }

    /// Ends this node and the ones downstream; others continue.
    fn fail(&self, error: StageError) {
        self.node.has_failed.store(true, Ordering::SeqCst);
        let drops = self.node.on_error == Some(OnSinkError::Drop);
        let is_fatal = !drops || error.kind == ErrorKind::Internal;
        if error.kind != ErrorKind::Cancelled {
            self.report(&error, drops);
        }
        self.node.ledger.failure.lock().get_or_insert_with(|| error.message.clone());
        self.control.record(&self.node.name, error, is_fatal);
        if let Some(input) = &self.node.input {
            if drops { input.discard(self.discard()) } else { input.fail() }
        }
        if let Some(ordered) = &self.ordered {
            ordered.close();
        }
        self.node.following.iter().for_each(|queue| queue.fail());
    }

    /// Logs a failure that does not end the run at once.
    fn report(&self, error: &StageError, drops: bool) {
        let name = &self.node.name;
        match (drops, self.control.is_alone(&self.node)) {
            (_, true) => {}
            (true, false) => log::warn!("{name}: {error}; its frames are dropped from now on, other outputs continue"),
            (false, false) => log::error!("{name}: {error}; other outputs continue"),
        }
    }
}

/// An item that has reached an end of the pipeline.
struct Arrived {
    stream: StreamId,
    arrival: Option<Arrival>,
    /// Whether it is the end of the stream instead of a frame.
    is_end: bool,
}

/// Turns a panic into an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, StageError>) -> Result<T, StageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic_text(panic.as_ref());
        Err(StageError::new(ErrorKind::Internal, format!("panicked: {text}; this is a bug in the stage, please report it")))
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
pub(super) mod tests {
    use framerail_core::*;

    use crate::{FrameItem, Item};

    /// A one-pixel frame with an index.
    pub(crate) fn gray_item(index: u64) -> Item {
        let surface = FramePool::new(0).surface(PixelFormat::Gray8, 1, 1).expect("size in range");
        FrameItem::new(Frame { index, pts: Pts(index as i64), ..Frame::of(surface) }).into()
    }
}
