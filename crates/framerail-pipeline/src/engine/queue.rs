//! A node's bounded input queue: many producers, many workers, one order.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::control::{Control, Wake};
use crate::{BatchPolicy, Item};

/// Packets and other items beside pictures that may wait, per picture of capacity. Sound packets are small and come a
/// few per picture; without a bound of their own a file of sound alone would fill the memory.
const OTHERS_PER_FRAME: usize = 64;

/// Why a push was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The stage behind the queue has ended.
    Gone,
    /// The run is torn down.
    Aborted,
}

/// What a worker gets from its queue.
pub(super) enum Popped {
    /// Items in order, and the batch's place in the order of batches.
    Batch { sequence: u64, items: Vec<Item> },
    /// Nothing to take now, and the worker has other work.
    Idle,
    /// The input has ended; the place in order of what the worker still gives.
    End { sequence: u64 },
    /// The run is torn down.
    Aborted,
}

struct State {
    items: VecDeque<Item>,
    frames: usize,
    producers: usize,
    is_receiver_gone: bool,
    next_sequence: u64,
    /// When each waiting picture began to wait; kept where batches have a deadline.
    waiting_since: VecDeque<Instant>,
    depth: DepthRecord,
}

/// Depth over time.
struct DepthRecord {
    started: Instant,
    last_change: Instant,
    frame_seconds: f64,
    max: usize,
}

impl DepthRecord {
    fn record(&mut self, depth_before: usize, depth_now: usize) {
        let now = Instant::now();
        self.frame_seconds += depth_before as f64 * (now - self.last_change).as_secs_f64();
        self.last_change = now;
        self.max = self.max.max(depth_now);
    }
}

pub(super) struct Queue {
    capacity: usize,
    batch: BatchPolicy,
    control: Arc<Control>,
    state: Mutex<State>,
    changed_for_pop: Condvar,
    changed_for_push: Condvar,
}

impl Queue {
    /// A queue for `producers` producers that holds up to `capacity` pictures, and always a full batch.
    pub(super) fn new(capacity: usize, batch: BatchPolicy, producers: usize, control: &Arc<Control>) -> Arc<Self> {
        let now = Instant::now();
        let queue = Arc::new(Self {
            capacity: capacity.max(batch.max_frames).max(1),
            batch,
            control: Arc::clone(control),
            state: Mutex::new(State {
                items: VecDeque::new(),
                frames: 0,
                producers,
                is_receiver_gone: false,
                next_sequence: 0,
                waiting_since: VecDeque::new(),
                depth: DepthRecord { started: now, last_change: now, frame_seconds: 0.0, max: 0 },
            }),
            changed_for_pop: Condvar::new(),
            changed_for_push: Condvar::new(),
        });
        let waiter: Arc<dyn Wake> = queue.clone();
        control.register(Arc::downgrade(&waiter));
        queue
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Pictures waiting now.
    pub(super) fn depth(&self) -> usize {
        self.state.lock().frames
    }

    /// Mean depth weighted by time, and maximum.
    pub(super) fn depths(&self) -> (f64, usize) {
        let mut state = self.state.lock();
        let frames = state.frames;
        state.depth.record(frames, frames);
        let seconds = (state.depth.last_change - state.depth.started).as_secs_f64();
        (if seconds > 0.0 { state.depth.frame_seconds / seconds } else { 0.0 }, state.depth.max)
    }

    fn has_room(&self, state: &State, for_frame: bool) -> bool {
        if for_frame { state.frames < self.capacity } else { state.items.len() - state.frames < self.capacity * OTHERS_PER_FRAME }
    }

    fn check_open(&self, state: &State) -> Result<(), Refused> {
        if self.control.is_aborted() {
            return Err(Refused::Aborted);
        }
        if state.is_receiver_gone { Err(Refused::Gone) } else { Ok(()) }
    }

    fn insert(&self, mut state: MutexGuard<'_, State>, item: Item) {
        if item.is_frame() {
            let before = state.frames;
            state.frames += 1;
            state.depth.record(before, before + 1);
            if self.batch.max_wait.is_some() {
                state.waiting_since.push_back(Instant::now());
            }
        }
        state.items.push_back(item);
        drop(state);
        self.changed_for_pop.notify_all();
    }

    /// Takes the item if there is room now; gives it back otherwise.
    pub(super) fn try_push(&self, item: Item) -> Result<Option<Item>, Refused> {
        let state = self.state.lock();
        self.check_open(&state)?;
        if !self.has_room(&state, item.is_frame()) {
            return Ok(Some(item));
        }
        self.insert(state, item);
        Ok(None)
    }

    /// Waits for room.
    pub(super) fn push(&self, item: Item) -> Result<(), Refused> {
        let mut state = self.state.lock();
        loop {
            self.check_open(&state)?;
            if self.has_room(&state, item.is_frame()) {
                self.insert(state, item);
                return Ok(());
            }
            self.changed_for_push.wait(&mut state);
        }
    }

    /// Waits for a batch as the policy says, or the end.
    pub(super) fn pop(&self) -> Popped {
        self.pop_or_wait(true)
    }

    /// A batch that is there already, or the end; `Idle` in place of waiting.
    pub(super) fn pop_now(&self) -> Popped {
        self.pop_or_wait(false)
    }

    fn pop_or_wait(&self, waits: bool) -> Popped {
        let mut state = self.state.lock();
        loop {
            if self.control.is_aborted() {
                return Popped::Aborted;
            }
            let is_over = state.producers == 0 || state.is_receiver_gone;
            if state.is_receiver_gone || (is_over && state.items.is_empty()) {
                let sequence = state.next_sequence;
                state.next_sequence += 1;
                return Popped::End { sequence };
            }
            match self.readiness(&state, is_over) {
                Readiness::Take => return self.take(state),
                _ if !waits => return Popped::Idle,
                Readiness::Wait => self.changed_for_pop.wait(&mut state),
                Readiness::WaitUntil(deadline) => {
                    self.changed_for_pop.wait_until(&mut state, deadline);
                }
            }
        }
    }

    fn readiness(&self, state: &State, is_over: bool) -> Readiness {
        if state.items.is_empty() {
            return Readiness::Wait;
        }
        // A producer that waits to push a packet must not wait for a batch that waits for the producer.
        let others_full = !self.has_room(state, false);
        if is_over || others_full || self.batch.max_frames == 1 || state.frames >= self.batch.max_frames {
            return Readiness::Take;
        }
        match (self.batch.max_wait, state.waiting_since.front()) {
            (Some(max_wait), Some(since)) => {
                let deadline = *since + max_wait;
                if Instant::now() >= deadline { Readiness::Take } else { Readiness::WaitUntil(deadline) }
            }
            _ => Readiness::Wait,
        }
    }

    fn take(&self, mut state: MutexGuard<'_, State>) -> Popped {
        let before = state.frames;
        let mut items = Vec::with_capacity(self.batch.max_frames);
        let mut taken = 0;
        while taken < self.batch.max_frames {
            let Some(item) = state.items.pop_front() else { break };
            taken += usize::from(item.is_frame());
            items.push(item);
        }
        state.frames -= taken;
        let now = state.frames;
        state.depth.record(before, now);
        let timed = taken.min(state.waiting_since.len());
        state.waiting_since.drain(..timed);
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        drop(state);
        self.changed_for_push.notify_all();
        Popped::Batch { sequence, items }
    }

    /// One producer has ended.
    pub(super) fn producer_ended(&self) {
        let mut state = self.state.lock();
        state.producers = state.producers.saturating_sub(1);
        drop(state);
        self.changed_for_pop.notify_all();
    }

    /// The node takes no more: waiting items are let go, producers are told.
    pub(super) fn receiver_ended(&self) {
        let mut state = self.state.lock();
        state.is_receiver_gone = true;
        let before = state.frames;
        state.frames = 0;
        state.depth.record(before, 0);
        state.waiting_since.clear();
        let dropped = std::mem::take(&mut state.items);
        drop(state);
        self.changed_for_push.notify_all();
        self.changed_for_pop.notify_all();
        drop(dropped);
    }
}

enum Readiness {
    Take,
    Wait,
    WaitUntil(Instant),
}

impl Wake for Queue {
    fn wake(&self) {
        // The lock orders this after a waiter's look at the switches, so that none is missed.
        drop(self.state.lock());
        self.changed_for_pop.notify_all();
        self.changed_for_push.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{StreamEnd, engine::worker::tests::gray_item};

    const SHORT: Duration = Duration::from_millis(20);

    fn end_item() -> Item {
        Item::StreamEnd(StreamEnd::default())
    }

    fn batch(max_frames: usize, max_wait: Option<Duration>) -> BatchPolicy {
        BatchPolicy { max_frames, max_wait }
    }

    fn frames_in(popped: Popped) -> usize {
        match popped {
            Popped::Batch { items, .. } => items.iter().filter(|item| item.is_frame()).count(),
            _ => 0,
        }
    }

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let queue = Queue::new(2, BatchPolicy::default(), 1, &Arc::default());
        assert!(matches!(queue.try_push(gray_item(0)), Ok(None)));
        assert!(matches!(queue.try_push(gray_item(1)), Ok(None)));
        assert!(matches!(queue.try_push(gray_item(2)), Ok(Some(_))));
        assert!(matches!(queue.try_push(end_item()), Ok(None)), "items beside pictures have room of their own");
        assert_eq!(queue.depths().1, 2);
    }

    #[test]
    fn a_batch_fills_up_or_meets_its_deadline_or_the_end() {
        let queue = Queue::new(8, batch(3, Some(SHORT)), 1, &Arc::default());
        for index in 0..4 {
            queue.push(gray_item(index)).expect("open");
        }
        assert_eq!(frames_in(queue.pop()), 3);
        assert_eq!(frames_in(queue.pop()), 1, "after the deadline");
        queue.push(gray_item(4)).expect("open");
        queue.producer_ended();
        assert_eq!(frames_in(queue.pop()), 1);
        assert!(matches!(queue.pop(), Popped::End { sequence: 3 }));
    }

    #[test]
    fn packets_piling_up_release_a_batch_that_waits() {
        let queue = Queue::new(1, batch(2, None), 1, &Arc::default());
        queue.push(gray_item(0)).expect("open");
        while let Ok(None) = queue.try_push(end_item()) {}
        assert_eq!(frames_in(queue.pop()), 1);
    }

    #[test]
    fn an_abort_wakes_a_waiting_worker() {
        let control: Arc<Control> = Arc::default();
        let queue = Queue::new(1, BatchPolicy::default(), 1, &control);
        let waiting = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || matches!(queue.pop(), Popped::Aborted)
        });
        control.abort_from_outside();
        assert!(waiting.join().expect("no panic"));
    }
}
