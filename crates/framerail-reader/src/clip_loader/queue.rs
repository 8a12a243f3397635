//! Clips that wait for a thread, and batches that wait for their clips.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "cuda")]
use super::GpuPlace;
use super::{ClipItem, ClipPlace, LoadedBatch, LoadedClip, Shared};
use crate::{Clip, ReaderError};

/// A clip in progress. If dropped unfinished, it completes with an error, so that its batch never waits forever.
pub(super) struct Request {
    shared: Arc<Shared>,
    batch: u64,
    place: usize,
    pub(super) item: ClipItem,
    /// Its frames, once drawn.
    pub(super) drawn: Option<Clip>,
    memory: Option<ClipPlace>,
    /// A clip for a GPU that the host made.
    staged: Vec<u8>,
    /// Submission order.
    order: u64,
    /// A CPU core would not finish it before it is due.
    #[cfg(feature = "cuda")]
    is_for_gpu: bool,
}

impl Request {
    pub(super) fn new(shared: &Arc<Shared>, batch: u64, place: usize, item: ClipItem, memory: ClipPlace) -> Self {
        Self {
            shared: Arc::clone(shared),
            batch,
            place,
            item,
            drawn: None,
            memory: Some(memory),
            staged: Vec::new(),
            order: 0,
            #[cfg(feature = "cuda")]
            is_for_gpu: false,
        }
    }

    /// Where the host writes the clip.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Some(ClipPlace::Host(memory)) => memory.bytes_mut(),
            #[cfg(feature = "cuda")]
            Some(ClipPlace::Gpu(place)) => {
                self.staged.resize(place.bytes(), 0);
                &mut self.staged
            }
            None => &mut [],
        }
    }

    /// The bytes that the host wrote for a GPU; empty when the destination is on the host or the GPU made the clip.
    #[cfg(feature = "cuda")]
    pub(super) fn take_staged(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.staged)
    }

    /// The clip's destination on the GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn gpu_place(&mut self) -> Option<&mut GpuPlace> {
        match &mut self.memory {
            Some(ClipPlace::Gpu(place)) => Some(place),
            _ => None,
        }
    }

    /// The clip's memory on the GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn gpu_memory(
        &mut self,
        pool: &framerail_cuda::DevicePool,
    ) -> Result<Arc<framerail_cuda::DeviceBuffer>, framerail_cuda::CudaError> {
        let no_place = || framerail_cuda::CudaError::BadArgument { what: "a clip without a place on the GPU".into() };
        self.gpu_place().ok_or_else(no_place)?.take(pool)
    }

    /// Size of the destination in bytes.
    pub(super) fn place_bytes(&mut self) -> usize {
        match &mut self.memory {
            Some(ClipPlace::Host(memory)) => memory.bytes_mut().len(),
            #[cfg(feature = "cuda")]
            Some(ClipPlace::Gpu(place)) => place.bytes(),
            None => 0,
        }
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

type Finished = (Result<LoadedClip, ReaderError>, ClipPlace);

/// Threads may wait here while Python forks. parking_lot keeps its waiting threads in a process-wide table, which a child process would
/// inherit with threads that it does not have; the locks of the standard library do not.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// A clip waits, or the queue was closed.
    has_work: Condvar,
    /// The same for helper threads; also signalled when a clip is made, because the measured speed decides which clips they may take.
    may_help: Condvar,
    /// A batch is complete or was discarded.
    is_complete: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Code under the lock does not panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a batch of `count` clips.
    pub(super) fn begin(&self, batch: u64, count: usize) {
        let clips = (0..count).map(|_| None).collect();
        self.lock().batches.insert(batch, Pending { clips, missing: count });
    }

    pub(super) fn push(&self, requests: Vec<Request>) {
        let mut state = self.lock();
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
        self.may_help.notify_all();
    }

    /// The next clip; `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<Request> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some((_, request)) = state.waiting.pop_first() {
                return Some(request);
            }
            state = self.has_work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The last due clip among those that a CPU core may make, once `is_worth` accepts the number of waiting clips; `None` when the queue
    /// is closed.
    #[cfg(feature = "cuda")]
    pub(super) fn next_from_behind(&self, is_worth: impl Fn(usize) -> bool) -> Option<Request> {
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if is_worth(state.waiting.len()) {
                let order = state.waiting.iter().rev().find(|(_, request)| !request.is_for_gpu).map(|(order, _)| *order);
                if let Some(request) = order.and_then(|order| state.waiting.remove(&order)) {
                    return Some(request);
                }
            }
            state = self.may_help.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns a clip to its position in the queue and leaves it to the GPU.
    #[cfg(feature = "cuda")]
    pub(super) fn put_back(&self, mut request: Request) {
        request.is_for_gpu = true;
        let mut state = self.lock();
        let is_wanted = !state.is_closed && state.batches.contains_key(&request.batch);
        if is_wanted {
            state.waiting.insert(request.order, request);
        } else {
            // Dropping the request takes the lock.
            drop(state);
            return drop(request);
        }
        drop(state);
        self.has_work.notify_all();
    }

    /// Number of waiting clips.
    #[cfg(feature = "cuda")]
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// The waiting clips of a source, with their frames if already drawn.
    pub(super) fn of_key(&self, key: u64) -> Vec<(u64, ClipItem, Option<Clip>)> {
        let state = self.lock();
        let waiting = state.waiting.iter().filter(|(_, request)| request.item.key == key);
        waiting.map(|(order, request)| (*order, request.item.clone(), request.drawn.clone())).collect()
    }

    /// Takes clips by their order, skipping those that another thread has taken.
    pub(super) fn take(&self, orders: &[u64]) -> Vec<Request> {
        let mut state = self.lock();
        orders.iter().filter_map(|order| state.waiting.remove(order)).collect()
    }

    /// Stores the drawn frames of a waiting clip.
    pub(super) fn note_drawn(&self, order: u64, clip: &Clip) {
        if let Some(request) = self.lock().waiting.get_mut(&order) {
            request.drawn = Some(clip.clone());
        }
    }

    fn finish(&self, batch: u64, place: usize, outcome: Result<LoadedClip, ReaderError>, memory: ClipPlace) {
        let mut state = self.lock();
        match &outcome {
            Ok(_) => state.clips += 1,
            // Discarded, not failed.
            Err(ReaderError::Closed) => {}
            Err(_) => state.clips_failed += 1,
        }
        // A batch that was discarded is no longer in the table.
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
        self.may_help.notify_one();
        if is_complete {
            self.is_complete.notify_all();
        }
    }

    pub(super) fn wait(&self, batch: u64) -> Option<LoadedBatch> {
        let mut state = self.lock();
        while state.batches.get(&batch)?.missing > 0 {
            state = self.is_complete.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let pending = state.batches.remove(&batch)?;
        drop(state);
        let (clips, places) = pending.clips.into_iter().flatten().unzip();
        Some(LoadedBatch { clips, places })
    }

    /// Number of clips completed, and failed.
    pub(super) fn finished(&self) -> (u64, u64) {
        let state = self.lock();
        (state.clips, state.clips_failed)
    }

    pub(super) fn forget(&self) {
        let mut state = self.lock();
        let (waiting, batches) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.batches));
        drop(state);
        // Dropping each request takes the lock.
        drop(waiting);
        drop(batches);
        self.is_complete.notify_all();
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.has_work.notify_all();
        self.may_help.notify_all();
        self.forget();
    }
}
