//! Clips that wait for a thread, and batches that wait for their clips.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::{Condvar, Mutex};

use super::{ClipItem, ClipMemory, LoadedBatch, LoadedClip, Shared};
use crate::{Clip, ReaderError};

/// A clip on its way. Dropped unfinished, it ends with an error: a batch never waits for ever.
pub(super) struct Request {
    shared: Arc<Shared>,
    batch: u64,
    place: usize,
    pub(super) item: ClipItem,
    /// Its frames, once they were drawn.
    pub(super) drawn: Option<Clip>,
    memory: Option<Box<dyn ClipMemory>>,
    /// In the order submitted.
    order: u64,
}

impl Request {
    pub(super) fn new(shared: &Arc<Shared>, batch: u64, place: usize, item: ClipItem, memory: Box<dyn ClipMemory>) -> Self {
        Self { shared: Arc::clone(shared), batch, place, item, drawn: None, memory: Some(memory), order: 0 }
    }

    /// Where the clip goes.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], |memory| memory.bytes_mut())
    }

    pub(super) fn finish(mut self, outcome: Result<LoadedClip, ReaderError>) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: Result<LoadedClip, ReaderError>) {
        if let Some(memory) = self.memory.take() {
            self.shared.queue.finish(self.batch, self.place, outcome, memory);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.end(Err(ReaderError::Closed));
    }
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<u64, Request>,
    batches: HashMap<u64, Pending>,
    next_order: u64,
    is_closed: bool,
    clips: u64,
    clips_failed: u64,
}

struct Pending {
    clips: Vec<Option<Finished>>,
    missing: usize,
}

type Finished = (Result<LoadedClip, ReaderError>, Box<dyn ClipMemory>);

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// A clip waits, or the queue was closed.
    has_work: Condvar,
    /// A batch is complete, or gone.
    is_complete: Condvar,
}

impl Queue {
    /// Announces a batch of so many clips.
    pub(super) fn begin(&self, batch: u64, count: usize) {
        let clips = (0..count).map(|_| None).collect();
        self.state.lock().batches.insert(batch, Pending { clips, missing: count });
    }

    pub(super) fn push(&self, requests: Vec<Request>) {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return drop(requests);
        }
        for mut request in requests {
            request.order = state.next_order;
            state.next_order += 1;
            state.waiting.insert(request.order, request);
        }
        drop(state);
        self.has_work.notify_all();
    }

    /// Puts clips back where they were.
    pub(super) fn put_back(&self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return drop(requests);
        }
        state.waiting.extend(requests.into_iter().map(|request| (request.order, request)));
        drop(state);
        self.has_work.notify_all();
    }

    /// The next clip; `None` when the queue was closed.
    pub(super) fn next(&self) -> Option<Request> {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some((_, request)) = state.waiting.pop_first() {
                return Some(request);
            }
            self.has_work.wait(&mut state);
        }
    }

    /// Takes every other clip of a source that waits.
    pub(super) fn of_key(&self, key: u64) -> Vec<Request> {
        let mut state = self.state.lock();
        let orders: Vec<u64> = state.waiting.iter().filter(|(_, request)| request.item.key == key).map(|(order, _)| *order).collect();
        orders.iter().filter_map(|order| state.waiting.remove(order)).collect()
    }

    fn finish(&self, batch: u64, place: usize, outcome: Result<LoadedClip, ReaderError>, memory: Box<dyn ClipMemory>) {
        let mut state = self.state.lock();
        match &outcome {
            Ok(_) => state.clips += 1,
            // Given up, not failed.
            Err(ReaderError::Closed) => {}
            Err(_) => state.clips_failed += 1,
        }
        // A batch that nobody wants any more is not there.
        let Some(pending) = state.batches.get_mut(&batch) else {
            drop(state);
            return drop(memory);
        };
        if let Some(slot) = pending.clips.get_mut(place) {
            *slot = Some((outcome, memory));
        }
        pending.missing = pending.missing.saturating_sub(1);
        let is_complete = pending.missing == 0;
        drop(state);
        if is_complete {
            self.is_complete.notify_all();
        }
    }

    pub(super) fn wait(&self, batch: u64) -> Option<LoadedBatch> {
        let mut state = self.state.lock();
        while state.batches.get(&batch)?.missing > 0 {
            self.is_complete.wait(&mut state);
        }
        let pending = state.batches.remove(&batch)?;
        drop(state);
        let (clips, memory) = pending.clips.into_iter().flatten().unzip();
        Some(LoadedBatch { clips, memory })
    }

    /// Clips that were made, and that were not.
    pub(super) fn finished(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.clips, state.clips_failed)
    }

    pub(super) fn forget(&self) {
        let mut state = self.state.lock();
        let (waiting, batches) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.batches));
        drop(state);
        // Ends each request, which takes the lock.
        drop(waiting);
        drop(batches);
        self.is_complete.notify_all();
    }

    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.has_work.notify_all();
        self.forget();
    }
}
