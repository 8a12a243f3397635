//! The output of a node: its outgoing edges with their probes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use framerail_core::StreamId;

use super::{
    control::Control,
    memory::Admission,
    metrics::{Phase, WorkerClock},
    queue::{Queue, Refused},
    stream_table::StreamTable,
};
use crate::{
    Closed, Emitter, ErrorKind, Item, StageError,
    graph::{Probe, Verdict},
    stats::StreamState,
};

/// Counters of an edge.
#[derive(Default)]
pub(super) struct EdgeCounts {
    pub(super) frames: AtomicU64,
    pub(super) dropped: AtomicU64,
}

/// An edge as seen by its producer.
#[derive(Clone)]
pub(super) struct Outlet {
    pub(super) queue: Arc<Queue>,
    pub(super) probes: Vec<Probe>,
    pub(super) counts: Arc<EdgeCounts>,
    /// Name of the edge, for frames dropped here.
    pub(super) place: Arc<str>,
    pub(super) streams: Arc<StreamTable>,
}

impl Outlet {
    fn push(&self, mut item: Item, clock: &WorkerClock) -> Result<(), Refused> {
        if let Item::Frame(frame) = &mut item {
            for probe in &self.probes {
                if probe(frame) == Verdict::Drop {
                    self.counts.dropped.fetch_add(1, Ordering::Relaxed);
                    self.streams.dropped(frame.frame.stream, &self.place, 1);
                    return Ok(());
                }
            }
        }
        let is_frame = item.is_frame();
        if let Some(item) = self.queue.try_push(item)? {
            clock.enter(Phase::WaitOutput);
            let pushed = self.queue.push(item);
            clock.enter(Phase::Busy);
            pushed?;
        }
        self.counts.frames.fetch_add(u64::from(is_frame), Ordering::Relaxed);
        Ok(())
    }
}

/// Items and frames that a node has output.
#[derive(Default)]
pub(super) struct OutCounts {
    pub(super) items: AtomicU64,
    pub(super) frames: AtomicU64,
}

/// All outgoing edges of a node. Each worker has a copy.
#[derive(Clone)]
pub(super) struct Outlets {
    outlets: Vec<Option<Outlet>>,
    counts: Arc<OutCounts>,
}

impl Outlets {
    pub(super) fn new(outlets: Vec<Outlet>, counts: Arc<OutCounts>) -> Self {
        Self { outlets: outlets.into_iter().map(Some).collect(), counts }
    }

    /// Pushes an item to every edge that still accepts items. Without edges, it is discarded.
    pub(super) fn push_item(&mut self, item: Item, clock: &WorkerClock) -> Result<(), Closed> {
        if self.outlets.is_empty() {
            return Ok(());
        }
        self.counts.items.fetch_add(1, Ordering::Relaxed);
        self.counts.frames.fetch_add(u64::from(item.is_frame()), Ordering::Relaxed);
        let Some(last) = self.outlets.iter().rposition(Option::is_some) else { return Err(Closed) };
        for outlet in &mut self.outlets[..last] {
            push_or_close(outlet, item.clone(), clock)?;
        }
        push_or_close(&mut self.outlets[last], item, clock)?;
        if self.outlets.iter().all(Option::is_none) { Err(Closed) } else { Ok(()) }
    }
}

/// Removes an edge that no longer accepts items, while the other edges continue; an abort ends all.
fn push_or_close(outlet: &mut Option<Outlet>, item: Item, clock: &WorkerClock) -> Result<(), Closed> {
    match outlet.as_ref().map(|open| open.push(item, clock)) {
        None | Some(Ok(())) => Ok(()),
        Some(Err(Refused::Gone)) => {
            *outlet = None;
            Ok(())
        }
        Some(Err(Refused::Aborted)) => Err(Closed),
    }
}

/// Pushes items directly, for a node with one worker.
pub(super) struct DirectEmitter<'a> {
    pub(super) outlets: &'a mut Outlets,
    pub(super) clock: &'a WorkerClock,
}

impl Emitter for DirectEmitter<'_> {
    fn push(&mut self, item: Item) -> Result<(), Closed> {
        self.outlets.push_item(item, self.clock)
    }
}

/// Pushes items directly and counts streams, for a source.
pub(super) struct SourceEmitter<'a> {
    pub(super) inner: DirectEmitter<'a>,
    pub(super) name: &'a str,
    pub(super) control: &'a Control,
}

impl Emitter for SourceEmitter<'_> {
    fn push(&mut self, mut item: Item) -> Result<(), Closed> {
        match &mut item {
            Item::StreamStart(info) => self.control.streams.record(info.id).started(info),
            Item::Frame(item) => {
                self.control.streams.record(item.frame.stream).read();
                let cancelled = || self.control.is_stopping();
                match self.control.memory.admit(&item.frame, self.control, cancelled) {
                    Admission::Lease(lease) => item.lease = lease,
                    Admission::Full => {}
                    Admission::Never(why) => {
                        self.control.fail(self.name, StageError::new(ErrorKind::Resource, why));
                        return Err(Closed);
                    }
                }
            }
            Item::StreamEnd(end) => self.ended(end.id),
            Item::Packet(_) => {}
        }
        self.inner.push(item)
    }
}

impl SourceEmitter<'_> {
    fn ended(&self, id: StreamId) {
        let mut has_run = false;
        self.control.streams.record(id).update(|stats| {
            has_run = stats.state == StreamState::Running;
            stats.state = StreamState::Ended;
        });
        if has_run {
            self.control.streams.ended(id);
        }
    }
}
