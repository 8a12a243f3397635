//! A node's bounded input queue: multiple producers, multiple workers, one order.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use framerail_core::{StreamId, Wake};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::control::Control;
use crate::{BatchPolicy, Counter, Item};

/// Maximum number of waiting packets and other items per frame of capacity. Audio packets are small, with a few per frame; without a
/// separate limit, a file with only audio would fill the memory.
const OTHERS_PER_FRAME: usize = 64;

/// Why a push was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The stage that reads the queue has ended or failed.
    Gone,
    /// The run was aborted.
    Aborted,
}

/// Result of taking work from a queue.
pub(super) enum Popped {
    /// Items in order, and the sequence number of the batch.
    Batch { sequence: u64, items: Vec<Item> },
    /// There is nothing to take now, and the worker has other work.
    Idle,
    /// The input has ended; the sequence number of the worker's final output.
    End { sequence: u64 },
    /// The run or this branch was aborted: outputs are not finished.
    Aborted,
}

/// What happens to pushed items.
enum Mode {
    /// They wait for the stage.
    Open,
    /// The stage has ended.
    Ended,
    /// The stage or one upstream has failed.
    Failed,
    /// The stage has failed, but drops frames instead of failing the run.
    Discarding(Discard),
}

/// How dropped frames are counted.
#[derive(Clone)]
pub(super) struct Discard {
    pub(super) place: Arc<str>,
    pub(super) counter: Counter,
}

impl Discard {
    pub(super) fn count(&self, control: &Control, stream: StreamId) {
        self.counter.add(1);
        control.streams.dropped(stream, &self.place, 1);
    }
}

struct State {
    items: VecDeque<Item>,
    frames: usize,
    producers: usize,
    mode: Mode,
    next_sequence: u64,
    /// When each waiting frame was queued.
    waiting_since: VecDeque<Instant>,
    /// Number of waiting frames with a time budget.
    timed: usize,
    depth: DepthRecord,
}

/// Queue depth over time.
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
    /// The stage that reads the queue.
    name: Arc<str>,
    capacity: usize,
    batch: BatchPolicy,
    control: Arc<Control>,
    state: Mutex<State>,
    changed_for_pop: Condvar,
    changed_for_push: Condvar,
}

impl Queue {
    /// A queue for `producers` producers that holds up to `capacity` frames, and at least a full batch.
    pub(super) fn new(name: &str, capacity: usize, batch: BatchPolicy, producers: usize, control: &Arc<Control>) -> Arc<Self> {
        let now = Instant::now();
        let queue = Arc::new(Self {
            name: name.into(),
            capacity: capacity.max(batch.max_frames).max(1),
            batch,
            control: Arc::clone(control),
            state: Mutex::new(State {
                items: VecDeque::new(),
                frames: 0,
                producers,
                mode: Mode::Open,
                next_sequence: 0,
                waiting_since: VecDeque::new(),
                timed: 0,
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

    /// Number of frames waiting now.
    pub(super) fn depth(&self) -> usize {
        self.state.lock().frames
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().items.is_empty()
    }

    /// Mean depth, weighted by time, and maximum.
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
        match state.mode {
            Mode::Open => Ok(()),
            Mode::Discarding(_) if self.control.has_open_ends() => Ok(()),
            _ => Err(Refused::Gone),
        }
    }

    fn insert(&self, mut state: MutexGuard<'_, State>, item: Item) {
        if let Mode::Discarding(discard) = &state.mode {
            if let Item::Frame(frame) = &item {
                discard.count(&self.control, frame.frame.stream);
            }
            return;
        }
        if let Item::Frame(frame) = &item {
            let before = state.frames;
            state.frames += 1;
            state.timed += usize::from(frame.arrival.is_some_and(|arrival| arrival.may_drop));
            state.depth.record(before, before + 1);
            state.waiting_since.push_back(Instant::now());
        }
        state.items.push_back(item);
        drop(state);
        self.changed_for_pop.notify_all();
    }

    /// Queues the item if there is room now, otherwise returns it.
    pub(super) fn try_push(&self, item: Item) -> Result<Option<Item>, Refused> {
        let state = self.state.lock();
        self.check_open(&state)?;
        if !self.has_room(&state, item.is_frame()) {
            return Ok(Some(item));
        }
        self.insert(state, item);
        Ok(None)
    }

    /// Queues the item; waits for room.
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

    /// Waits for a batch according to the policy, or for the end.
    pub(super) fn pop(&self) -> Popped {
        self.pop_or_wait(true)
    }

    /// Returns a batch if one is ready, or the end; `Idle` instead of waiting.
    pub(super) fn pop_now(&self) -> Popped {
        self.pop_or_wait(false)
    }

    fn pop_or_wait(&self, waits: bool) -> Popped {
        let mut state = self.state.lock();
        loop {
            if self.control.is_aborted() {
                return Popped::Aborted;
            }
            let is_over = match state.mode {
                Mode::Open => state.producers == 0,
                Mode::Ended => true,
                Mode::Failed | Mode::Discarding(_) => return Popped::Aborted,
            };
            self.shed(&mut state);
            if is_over && state.items.is_empty() {
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
        // Prevents a deadlock between a producer waiting to push a packet and a batch waiting for that producer.
        let others_full = !self.has_room(state, false);
        if is_over || others_full || self.control.memory.is_short() || self.batch.max_frames == 1 || state.frames >= self.batch.max_frames {
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

    /// Drops the oldest frames while they are over budget, so that no work is spent on them.
    ///
    /// A frame that was late on arrival, because a stage such as `hold` delayed it on purpose, gets its budget again here.
    fn shed(&self, state: &mut State) {
        let now = Instant::now();
        let before = state.frames;
        while state.timed > 0
            && let Some(place) = state.items.iter().position(Item::is_frame)
            && let (Some(Item::Frame(frame)), Some(since)) = (state.items.get(place), state.waiting_since.front().copied())
            && frame.arrival.is_some_and(|arrival| arrival.is_expired(since, now))
        {
            self.control.streams.dropped(frame.frame.stream, &format!("{}: over budget", self.name), 1);
            state.items.remove(place);
            state.waiting_since.pop_front();
            state.frames -= 1;
            state.timed -= 1;
        }
        if state.frames < before {
            let now = state.frames;
            state.depth.record(before, now);
            self.changed_for_push.notify_all();
        }
    }

    fn take(&self, mut state: MutexGuard<'_, State>) -> Popped {
        let before = state.frames;
        let mut items = Vec::with_capacity(self.batch.max_frames);
        let mut taken = 0;
        while taken < self.batch.max_frames {
            let Some(item) = state.items.pop_front() else { break };
            if let Item::Frame(frame) = &item {
                taken += 1;
                state.timed -= usize::from(frame.arrival.is_some_and(|arrival| arrival.may_drop));
            }
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

    /// Records that a producer has ended.
    pub(super) fn producer_ended(&self) {
        let mut state = self.state.lock();
        state.producers = state.producers.saturating_sub(1);
        drop(state);
        self.changed_for_pop.notify_all();
    }

    /// The node accepts no more items: waiting items are dropped, and producers are informed on their next push.
    pub(super) fn receiver_ended(&self) {
        self.shut(Mode::Ended);
    }

    /// This node or one upstream has failed: as [`Queue::receiver_ended`], and its workers end without finishing.
    pub(super) fn fail(&self) {
        self.shut(Mode::Failed);
    }

    /// The node has failed and drops incoming frames, so that its producers continue while another end of the pipeline is active.
    pub(super) fn discard(&self, discard: Discard) {
        self.shut(Mode::Discarding(discard));
    }

    fn shut(&self, mode: Mode) {
        let mut state = self.state.lock();
        if let Mode::Discarding(discard) = &mode {
            let frames = state.items.iter().filter(|item| item.is_frame());
            frames.for_each(|item| discard.count(&self.control, item.stream()));
        }
        // A failure must not be overwritten by a later normal end.
        if matches!(state.mode, Mode::Open) || !matches!(mode, Mode::Ended) {
            state.mode = mode;
        }
        let before = state.frames;
        (state.frames, state.timed) = (0, 0);
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
        // Taking the lock orders this after a waiter's check of the tokens, so that no wake-up is missed.
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

    fn timed_item(index: u64, at: Instant, budget: Duration) -> Item {
        match gray_item(index) {
            Item::Frame(mut item) => {
                let wall = std::time::SystemTime::now();
                item.arrival = Some(crate::Arrival { at, wall, budget: Some(budget), may_drop: true });
                Item::Frame(item)
            }
            other => other,
        }
    }

    fn frames_in(popped: Popped) -> usize {
        match popped {
            Popped::Batch { items, .. } => items.iter().filter(|item| item.is_frame()).count(),
            _ => 0,
        }
    }

    #[test]
    fn a_full_queue_gives_the_item_back() {
        let queue = Queue::new("stage", 2, BatchPolicy::default(), 1, &Arc::default());
        assert!(matches!(queue.try_push(gray_item(0)), Ok(None)));
        assert!(matches!(queue.try_push(gray_item(1)), Ok(None)));
        assert!(matches!(queue.try_push(gray_item(2)), Ok(Some(_))));
        assert!(matches!(queue.try_push(end_item()), Ok(None)), "items beside pictures have room of their own");
        assert_eq!(queue.depths().1, 2);
    }

    #[test]
    fn a_batch_fills_up_or_meets_its_deadline_or_the_end() {
        let queue = Queue::new("stage", 8, batch(3, Some(SHORT)), 1, &Arc::default());
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
        let queue = Queue::new("stage", 1, batch(2, None), 1, &Arc::default());
        queue.push(gray_item(0)).expect("open");
        while let Ok(None) = queue.try_push(end_item()) {}
        assert_eq!(frames_in(queue.pop()), 1);
    }

    #[test]
    fn an_abort_wakes_a_waiting_worker() {
        let control: Arc<Control> = Arc::default();
        let queue = Queue::new("stage", 1, BatchPolicy::default(), 1, &control);
        let waiting = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || matches!(queue.pop(), Popped::Aborted)
        });
        control.abort.cancel();
        assert!(waiting.join().expect("no panic"));
    }

    #[test]
    fn frames_over_their_budget_are_dropped_where_they_wait() {
        let control: Arc<Control> = Arc::default();
        let queue = Queue::new("infer", 4, BatchPolicy::default(), 1, &control);
        let now = Instant::now();
        control.streams.record(StreamId(0)).read();
        // The first exceeds its budget here; the second was late on arrival, delayed on purpose; the third is in time.
        queue.push(timed_item(0, now, SHORT)).expect("open");
        queue.push(timed_item(1, now - 100 * SHORT, 99 * SHORT)).expect("open");
        queue.push(timed_item(2, now, 1000 * SHORT)).expect("open");
        while now.elapsed() < 2 * SHORT {
            std::thread::sleep(SHORT);
        }
        for index in [1, 2] {
            let Popped::Batch { items, .. } = queue.pop_now() else { panic!("a frame") };
            assert!(matches!(items.as_slice(), [Item::Frame(item)] if item.frame.index == index));
        }
        assert!(matches!(queue.pop_now(), Popped::Idle));
        assert_eq!(control.streams.stats().0[0].drops.get("infer: over budget"), Some(&1));
    }

    #[test]
    fn what_a_failed_end_drops_is_counted_as_long_as_another_is_at_work() {
        let control = Arc::new(Control::new(&crate::RunOptions::default(), 2));
        let queue = Queue::new("webhook", 4, BatchPolicy::default(), 1, &control);
        control.streams.record(StreamId(0)).read();
        queue.push(gray_item(0)).expect("open");
        let discard = Discard { place: "webhook: failed".into(), counter: Counter::default() };
        queue.discard(discard.clone());
        control.end_closed(false);
        for index in 1..9 {
            queue.push(gray_item(index)).expect("dropped");
        }
        assert!(matches!(queue.pop_now(), Popped::Aborted));
        assert_eq!((discard.counter.value(), control.streams.stats().0[0].frames_dropped), (9, 9));
        control.end_closed(true);
        assert!(matches!(queue.push(gray_item(9)), Err(Refused::Gone)));
    }
}
