//! What a worker thread does from start to end.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use framerail_core::StreamId;

use super::{
    control::Control,
    metrics::{Phase, WorkerClock},
    ordered::{Ordered, Part, Results},
    outlet::{DirectEmitter, OutCounts, Outlets, SourceEmitter},
    queue::{Popped, Queue},
    range::StageRange,
    streams::StreamJob,
};
use crate::{Arrival, Emitter, ErrorKind, Flow, Item, Source, Stage, StageContext, StageError, stage::Ledger};

/// What the workers of one node share, and the statistics read.
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
}

/// One thread's share of a node.
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
            stop: Arc::clone(&self.control.stop),
            abort: Arc::clone(&self.control.abort),
            interrupts: Arc::clone(&self.control.interrupts),
            streams: Arc::clone(&self.control.streams),
        }
    }

    fn clock(&self) -> &WorkerClock {
        &self.node.clocks[self.index]
    }

    pub(super) fn run_source(mut self, mut source: Box<dyn Source>) {
        let outcome = guarded(|| self.drive_source(source.as_mut()));
        self.end(outcome, source);
    }

    pub(super) fn run_streams(mut self, mut job: StreamJob) {
        let outcome = guarded(|| job.drive(&mut self));
        self.end(outcome, job);
    }

    pub(super) fn run_stage(mut self, mut stage: Box<dyn Stage>) {
        let outcome = guarded(|| self.drive_stage(stage.as_mut()));
        self.end(outcome, stage);
    }

    fn drive_source(&mut self, source: &mut dyn Source) -> Result<(), StageError> {
        let context = self.context();
        let node = Arc::clone(&self.node);
        let clock = &node.clocks[self.index];
        clock.enter(Phase::Busy);
        source.start(&context)?;
        let streams = Arc::clone(&self.control.streams);
        let mut out = SourceEmitter { inner: DirectEmitter { outlets: &mut self.outlets, clock }, streams: &streams };
        while !self.control.is_stopping() && !self.control.is_aborted() {
            let produced = {
                let _range = StageRange::new(&node.name);
                source.produce(&mut out)
            };
            match produced {
                Ok(Flow::More) => {}
                Ok(Flow::Done) => break,
                // A stop interrupts blocking reads; that is no failure.
                Err(_) if self.control.is_stopping() => break,
                Err(error) => return Err(error),
            }
        }
        if self.control.is_aborted() { Ok(()) } else { source.finish(&mut out) }
    }

    fn drive_stage(&mut self, stage: &mut dyn Stage) -> Result<(), StageError> {
        let context = self.context();
        let node = Arc::clone(&self.node);
        let Some(input) = node.input.clone() else {
            return Err(StageError::new(ErrorKind::Internal, "has no input"));
        };
        self.clock().enter(Phase::Busy);
        stage.start(&context)?;
        loop {
            self.clock().enter(Phase::WaitInput);
            let can_idle = self.ordered.is_none() && stage.has_work_under_way();
            let popped = if can_idle { input.pop_now() } else { input.pop() };
            self.clock().enter(Phase::Busy);
            match popped {
                Popped::Aborted => return Ok(()),
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
                    let part = self.give(sequence, batch)?;
                    self.count_delivered(&arrived);
                    if part == Part::LastBatch {
                        return self.finish_early(stage, &input);
                    }
                }
            }
        }
    }

    /// Lets a stage give what has become ready meanwhile. Only for a node with one worker.
    fn idle(&mut self, stage: &mut dyn Stage) -> Result<Flow, StageError> {
        let node = Arc::clone(&self.node);
        let _range = StageRange::new(&node.name);
        stage.idle(&mut DirectEmitter { outlets: &mut self.outlets, clock: &node.clocks[self.index] })
    }

    /// A stage that wants no more still gives what it holds.
    fn finish_early(&mut self, stage: &mut dyn Stage, input: &Queue) -> Result<(), StageError> {
        input.receiver_ended();
        match input.pop() {
            Popped::End { sequence } => self.finish(sequence, stage),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, sequence: u64, stage: &mut dyn Stage) -> Result<(), StageError> {
        let name = Arc::clone(&self.node.name);
        let finish = |out: &mut dyn Emitter| {
            let _range = StageRange::new(&name);
            stage.finish(out).map(|()| Part::Finish)
        };
        self.give(sequence, finish).map(|_| ())
    }

    /// Runs a piece of work and sees that what it gives leaves in order.
    fn give(&mut self, sequence: u64, work: impl FnOnce(&mut dyn Emitter) -> Result<Part, StageError>) -> Result<Part, StageError> {
        let node = Arc::clone(&self.node);
        let clock = &node.clocks[self.index];
        let Some(ordered) = &self.ordered else {
            return work(&mut DirectEmitter { outlets: &mut self.outlets, clock });
        };
        // Kept, to be put in order afterwards.
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
    }

    /// The frames among items that have come to an end of the pipeline.
    fn arrived(&self, items: &[Item]) -> Vec<(StreamId, Option<Arrival>)> {
        if !self.outlets.is_empty() {
            return Vec::new();
        }
        let frames = items.iter().filter_map(|item| match item {
            Item::Frame(item) => Some((item.frame.stream, item.arrival)),
            _ => None,
        });
        frames.collect()
    }

    fn count_delivered(&self, arrived: &[(StreamId, Option<Arrival>)]) {
        let now = Instant::now();
        for (stream, arrival) in arrived {
            self.control.streams.record(*stream).delivered(&self.node.name, *arrival, now);
        }
    }

    /// Records the outcome, lets the stage go, and closes the node behind its last worker.
    fn end<T>(self, outcome: Result<(), StageError>, stage: T) {
        match outcome {
            Ok(()) => {}
            Err(error) if error.kind == ErrorKind::Closed => {
                if let Some(input) = &self.node.input {
                    input.receiver_ended();
                }
            }
            Err(error) => self.control.fail(&self.node.name, error),
        }
        if let Err(error) = guarded(|| {
            drop(stage);
            Ok(())
        }) {
            self.control.fail(&self.node.name, error);
        }
        self.clock().enter(Phase::Ended);
        if self.node.workers_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            if let Some(input) = &self.node.input {
                input.receiver_ended();
            }
            Outlets::close(&self.node.following);
        }
    }
}

/// Turns a panic into an error.
pub(super) fn guarded(work: impl FnOnce() -> Result<(), StageError>) -> Result<(), StageError> {
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

    /// A one-pixel picture with a number.
    pub(crate) fn gray_item(index: u64) -> Item {
        let surface = FramePool::new(0).surface(PixelFormat::Gray8, 1, 1).expect("size in range");
        FrameItem::new(Frame { index, pts: Pts(index as i64), ..Frame::of(surface) }).into()
    }
}
