//! Traces of single frames through the stages.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime},
};

use framerail_core::StreamId;
use parking_lot::Mutex;

use crate::{FrameItem, PlannedGraph, Verdict};

/// A frame's time in one stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageVisit {
    /// The stage.
    pub stage: Arc<str>,
    /// When the stage took the frame from its queue; for a source, when a live frame arrived.
    pub entered: Instant,
    /// When the frame or a copy left the stage; at the end of the pipeline, when it was released.
    pub left: Instant,
}

/// A complete trace of one frame.
#[derive(Clone, Debug)]
pub struct FrameTrace {
    /// The frame's stream.
    pub stream: StreamId,
    /// The frame's number.
    pub frame: u64,
    /// When the frame left the source or, for a live frame, when it arrived.
    pub start: Instant,
    /// The same on the machine's wall clock.
    pub start_wall: SystemTime,
    /// When the last copy of the frame was released.
    pub end: Instant,
    /// The stages that it visited, in order of entering.
    pub visits: Vec<StageVisit>,
}

/// Receives complete traces, on the thread that let the frame go. It must not block.
pub type TraceSink = Arc<dyn Fn(FrameTrace) + Send + Sync>;

/// A stage that the frame is in, or was.
struct Visit {
    stage: Arc<str>,
    entered: Instant,
    left: Option<Instant>,
}

/// Travels with a frame as an attachment and notes where it is.
pub(crate) struct Tracer {
    stream: StreamId,
    frame: u64,
    start: Instant,
    start_wall: SystemTime,
    visits: Mutex<Vec<Visit>>,
    sink: TraceSink,
}

impl Tracer {
    fn new(item: &FrameItem, source: &Arc<str>, sink: &TraceSink) -> Self {
        let now = Instant::now();
        let (start, start_wall) = item.arrival.map_or((now, SystemTime::now()), |arrival| (arrival.at, arrival.wall));
        let visits = Mutex::new(vec![Visit { stage: Arc::clone(source), entered: start, left: Some(now) }]);
        Self { stream: item.frame.stream, frame: item.frame.index, start, start_wall, visits, sink: Arc::clone(sink) }
    }

    /// The frame was taken from a stage's queue.
    pub(crate) fn entered(&self, stage: &Arc<str>) {
        self.visits.lock().push(Visit { stage: Arc::clone(stage), entered: Instant::now(), left: None });
    }

    /// The frame left a stage, for the first time.
    fn left(&self, stage: &Arc<str>) {
        if let Some(visit) = self.visits.lock().iter_mut().find(|visit| visit.stage == *stage) {
            visit.left.get_or_insert_with(Instant::now);
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let end = Instant::now();
        let visits = mem::take(&mut *self.visits.lock());
        let complete = |Visit { stage, entered, left }| StageVisit { stage, entered, left: left.unwrap_or(end) };
        let visits = visits.into_iter().map(complete).collect();
        let Self { stream, frame, start, start_wall, ref sink, .. } = *self;
        sink(FrameTrace { stream, frame, start, start_wall, end, visits });
    }
}

impl PlannedGraph {
    /// Traces every Nth frame of the sources; `every` is at least 1. Other frames cost next to nothing.
    pub fn trace_frames(&mut self, every: u64, sink: &TraceSink) {
        let count = Arc::new(AtomicU64::new(0));
        for edge in self.edges.clone() {
            let name = self.nodes.iter().find(|node| node.id == edge.from).map_or("", |node| node.name.as_str());
            let (stage, sink, count): (Arc<str>, _, _) = (name.into(), Arc::clone(sink), Arc::clone(&count));
            let is_source = !self.edges.iter().any(|other| other.to == edge.from);
            self.graph.probe(
                edge.id,
                Arc::new(move |item| {
                    if !is_source {
                        if let Some(tracer) = item.attachments.get::<Tracer>() {
                            tracer.left(&stage);
                        }
                    } else if count.fetch_add(1, Ordering::Relaxed).is_multiple_of(every.max(1)) {
                        let tracer = Tracer::new(item, &stage, &sink);
                        item.attachments.insert(tracer);
                    }
                    Verdict::Keep
                }),
            );
        }
    }
}
