//! Reads many streams in one stage: a thread per stream, a fair merge, and a handle to add and remove them.

mod continuity;
mod lanes;
mod reading;

use std::{sync::Arc, thread};

use framerail_core::StreamId;

use self::{
    lanes::{Lanes, Next, Opening, Outcome},
    reading::Reading,
};
use super::{control::Control, outlet::Outlets, worker::Worker, worker::guarded};
use crate::{
    Closed, Emitter, ErrorKind, Item, OpenedStream, StageContext, StageError, StreamLine, StreamOpener, StreamSet, StreamStats,
    engine::{metrics::WorkerClock, outlet::DirectEmitter},
};

/// Adds streams to a run and removes them, from any thread. Cloning is cheap.
#[derive(Clone)]
pub struct StreamControl {
    control: Arc<Control>,
    sources: Vec<StreamSource>,
}

/// A stage of a run that reads streams.
#[derive(Clone)]
pub(super) struct StreamSource {
    lanes: Arc<Lanes>,
    opener: Arc<dyn StreamOpener>,
    is_in_turn: bool,
}

impl StreamControl {
    pub(super) fn new(control: &Arc<Control>, sources: Vec<StreamSource>) -> Self {
        Self { control: Arc::clone(control), sources }
    }

    /// Adds a source to the first stage that reads streams. Its stream starts soon, or when it is its turn.
    ///
    /// # Errors
    /// `Usage` when no stage accepts sources, the run is ending, or the source is invalid. The source is opened later; the stage's policy
    /// decides what happens if that fails.
    pub fn add_source(&self, source: &str) -> Result<StreamId, StageError> {
        let nobody = || StageError::new(ErrorKind::Usage, "no stage of this pipeline accepts sources");
        let reads = self.sources.first().ok_or_else(nobody)?;
        let id = reads.lanes.reserve()?;
        reads.lanes.add(reads.opener.admit(source, id)?, reads.is_in_turn)?;
        Ok(id)
    }

    /// Ends a stream. Items already read are delivered, and its files are completed.
    ///
    /// # Errors
    /// `Usage` when no stream with this number is being read or is waiting.
    pub fn remove_stream(&self, stream: StreamId) -> Result<(), StageError> {
        if self.sources.iter().any(|source| source.lanes.remove(stream)) {
            return Ok(());
        }
        Err(StageError::new(ErrorKind::Usage, format!("there is no stream {stream} to remove")))
    }

    /// The streams so far, as in [`crate::RunStats::streams`].
    pub fn stats(&self) -> Vec<StreamStats> {
        self.control.streams.stats().0
    }
}

/// The streams of a stage, ready to be read.
pub(super) struct StreamJob {
    lanes: Arc<Lanes>,
    opener: Arc<dyn StreamOpener>,
    opened: Option<OpenedStream>,
    is_in_turn: bool,
}

impl StreamJob {
    pub(super) fn new(name: &Arc<str>, set: StreamSet, control: &Arc<Control>) -> Self {
        let is_in_turn = set.is_in_turn();
        control.memory.set_aside(set.ahead_bytes);
        let lanes = Lanes::new(Arc::clone(name), set.policy, set.requests, control);
        Self { lanes, opener: set.opener, opened: set.opened, is_in_turn }
    }

    pub(super) fn source(&self) -> StreamSource {
        StreamSource { lanes: Arc::clone(&self.lanes), opener: Arc::clone(&self.opener), is_in_turn: self.is_in_turn }
    }

    /// Reads all streams and passes on their items, on the stage's thread.
    pub(super) fn drive(&mut self, worker: &mut Worker) -> Result<(), StageError> {
        let (context, node) = (worker.context(), Arc::clone(&worker.node));
        let Some(clock) = node.clocks.first() else { return Ok(()) };
        let read = if self.is_in_turn {
            self.in_turn(&context, &mut worker.outlets, clock)
        } else {
            self.together(&context, &mut worker.outlets, clock)
        };
        self.lanes.shut();
        for thread in self.lanes.threads() {
            // Their work is guarded; a panic outside of it is a bug of the engine.
            let _ = thread.join();
        }
        read?;
        self.lanes.failed()?;
        if self.lanes.control().is_aborted() { Ok(()) } else { self.lanes.overall() }
    }

    fn in_turn(&mut self, context: &StageContext, outlets: &mut Outlets, clock: &WorkerClock) -> Result<(), StageError> {
        clock.enter(super::metrics::Phase::Busy);
        while let Some(opening) = self.lanes.next_in_turn() {
            let id = opening.request.id;
            let outcome = self.reading(opening, context).read(&mut DirectEmitter { outlets, clock })?;
            self.lanes.over(id, outcome);
        }
        Ok(())
    }

    fn together(&mut self, context: &StageContext, outlets: &mut Outlets, clock: &WorkerClock) -> Result<(), StageError> {
        loop {
            match self.lanes.next(clock) {
                Next::Items(items) => items.into_iter().try_for_each(|item| outlets.push_item(item, clock))?,
                Next::Open(opening) => self.spawn(opening, context)?,
                Next::Over(thread) => drop(thread.map(thread::JoinHandle::join)),
                Next::End | Next::Aborted => return Ok(()),
            }
        }
    }

    fn reading(&mut self, opening: Opening, context: &StageContext) -> Reading {
        let Opening { request, mut cancel, record } = opening;
        let opened = self.opened.take_if(|opened| opened.id == request.id);
        if let Some(opened) = &opened {
            cancel = opened.cancel.clone();
            self.lanes.adopt(request.id, &cancel);
        }
        let line = StreamLine { context: context.clone(), cancel };
        Reading { request, line, record, lanes: Arc::clone(&self.lanes), opener: Arc::clone(&self.opener), opened }
    }

    fn spawn(&mut self, opening: Opening, context: &StageContext) -> Result<(), StageError> {
        let (id, name) = (opening.request.id, format!("{}/{}", context.name(), opening.request.id));
        let reading = self.reading(opening, context);
        let thread = thread::Builder::new().name(name).spawn(move || read_on_thread(reading)).map_err(|error| {
            StageError::new(ErrorKind::Resource, format!("stream {id}: cannot start a thread: {error}; read fewer streams at once"))
        })?;
        self.lanes.set_thread(id, thread);
        Ok(())
    }
}

fn read_on_thread(mut reading: Reading) {
    let (lanes, id) = (Arc::clone(&reading.lanes), reading.request.id);
    let mut sink = LaneSink { lanes: Arc::clone(&lanes), id };
    let mut ended = Outcome::default();
    let outcome = guarded(|| {
        ended = reading.read(&mut sink)?;
        Ok(())
    });
    // Drop the reader first, so that nothing of the stream is left when its lane is over.
    let dropped = guarded(|| {
        drop(reading);
        Ok(())
    });
    for error in [outcome, dropped].into_iter().filter_map(Result::err).filter(|error| error.kind != ErrorKind::Closed) {
        lanes.fail(error);
    }
    lanes.over(id, ended);
}

/// Pushes a stream's items into its lane.
struct LaneSink {
    lanes: Arc<Lanes>,
    id: StreamId,
}

impl Emitter for LaneSink {
    fn push(&mut self, item: Item) -> Result<(), Closed> {
        self.lanes.push(self.id, item)
    }
}
