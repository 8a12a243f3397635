//! A lane per stream, and the fair merge of all lanes.

use std::{collections::VecDeque, sync::Arc, thread::JoinHandle, time::Instant};

use framerail_core::{CancelToken, StreamId, Wake};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::super::{
    control::Control,
    metrics::{Phase, WorkerClock},
    stream_table::StreamRecord,
};
use crate::{Closed, DropPolicy, ErrorKind, Item, OnStreamError, StageError, StreamPolicy, StreamRequest, stats::StreamState};

/// Maximum number of items other than frames that wait in a lane, per frame of its capacity, as in queues.
const OTHERS_PER_FRAME: usize = 64;

/// Next action of the merging thread.
pub(super) enum Next {
    /// Pass these on.
    Items(Vec<Item>),
    /// Start to read a stream; its lane exists.
    Open(Opening),
    /// A stream has ended and its lane is empty: its thread can be joined.
    Over(Option<JoinHandle<()>>),
    /// No stream is left and none can follow.
    End,
    /// The run was aborted.
    Aborted,
}

/// How reading a stream ended.
#[derive(Default)]
pub(super) struct Outcome {
    /// Whether it output anything.
    pub(super) has_started: bool,
    /// Why it was dropped before its first frame, if it was.
    pub(super) failure: Option<StageError>,
}

/// A stream that is due to be opened.
pub(super) struct Opening {
    pub(super) request: StreamRequest,
    pub(super) cancel: CancelToken,
    pub(super) record: Arc<StreamRecord>,
}

struct Lane {
    request: StreamRequest,
    record: Arc<StreamRecord>,
    cancel: CancelToken,
    /// Signalled when there is room, and on cancellation.
    changed: Arc<Condvar>,
    items: VecDeque<Item>,
    frames: usize,
    capacity: usize,
    drop: DropPolicy,
    is_timed: bool,
    /// Time in seconds of the first and the last frame passed on.
    handed_on: Option<(f64, f64)>,
    is_over: bool,
    thread: Option<JoinHandle<()>>,
}

impl Lane {
    fn has_room(&self, for_frame: bool) -> bool {
        if for_frame { self.frames < self.capacity } else { self.items.len() - self.frames < self.capacity * OTHERS_PER_FRAME }
    }

    /// Progress of a stream that must not get ahead of others; `None` for one that does not hold up others.
    fn reached(&self) -> Option<f64> {
        let is_through = self.is_over && self.items.is_empty();
        let holds_up = !self.is_timed && !is_through;
        holds_up.then(|| self.handed_on.map_or(f64::NEG_INFINITY, |(first, last)| last - first))
    }

    fn drop_oldest(&mut self) {
        if let Some(place) = self.items.iter().position(Item::is_frame) {
            self.items.remove(place);
            self.frames -= 1;
        }
    }

    /// Items up to the next frame that is within its budget.
    fn take(&mut self, place: &str, now: Instant) -> Vec<Item> {
        let mut taken = Vec::new();
        while let Some(item) = self.items.pop_front() {
            let Item::Frame(frame) = &item else {
                taken.push(item);
                continue;
            };
            self.frames -= 1;
            if frame.arrival.is_some_and(|arrival| arrival.may_drop && arrival.is_late(now)) {
                self.record.dropped(&format!("{place}: over budget"), 1);
                continue;
            }
            let secs = frame.frame.seconds();
            self.handed_on = Some((self.handed_on.map_or(secs, |(first, _)| first), secs));
            taken.push(item);
            break;
        }
        taken
    }
}

struct State {
    lanes: Vec<Lane>,
    /// Index of the lane whose turn it is.
    turn: usize,
    pending: VecDeque<StreamRequest>,
    next_id: u32,
    /// No more streams are accepted and nothing more is passed on.
    is_closed: bool,
    given_up: u64,
    completed: u64,
    last_failure: Option<StageError>,
    /// The error that ended the stage.
    fatal: Option<StageError>,
}

/// State shared by the threads of a stage's streams.
pub(super) struct Lanes {
    place: Arc<str>,
    policy: StreamPolicy,
    /// Number of the first stream that was added during the run.
    first_added: u32,
    control: Arc<Control>,
    state: Mutex<State>,
    /// Signalled on everything that the merging thread waits for.
    changed: Condvar,
}

impl Lanes {
    pub(super) fn new(place: Arc<str>, policy: StreamPolicy, requests: Vec<StreamRequest>, control: &Arc<Control>) -> Arc<Self> {
        let next_id = requests.iter().map(|request| request.id.0 + 1).max().unwrap_or(0);
        for request in &requests {
            control.streams.record(request.id).named(&request.name, &request.source);
        }
        let lanes = Arc::new(Self {
            place,
            policy,
            first_added: next_id,
            control: Arc::clone(control),
            state: Mutex::new(State {
                lanes: Vec::new(),
                turn: 0,
                pending: requests.into(),
                next_id,
                is_closed: false,
                given_up: 0,
                completed: 0,
                last_failure: None,
                fatal: None,
            }),
            changed: Condvar::new(),
        });
        let waiter: Arc<dyn Wake> = lanes.clone();
        control.register(Arc::downgrade(&waiter));
        lanes
    }

    pub(super) fn policy(&self) -> &StreamPolicy {
        &self.policy
    }

    pub(super) fn control(&self) -> &Control {
        &self.control
    }

    pub(super) fn place(&self) -> &Arc<str> {
        &self.place
    }

    /// The next action; waits for it.
    pub(super) fn next(&self, clock: &WorkerClock) -> Next {
        let mut state = self.state.lock();
        loop {
            if self.control.is_aborted() || state.fatal.is_some() {
                self.close(&mut state);
                return Next::Aborted;
            }
            if let Some(opening) = self.due(&mut state) {
                return Next::Open(opening);
            }
            if let Some(items) = self.turn(&mut state) {
                return Next::Items(items);
            }
            if let Some(place) = state.lanes.iter().position(|lane| lane.is_over && lane.items.is_empty()) {
                return Next::Over(remove_lane(&mut state, place).thread);
            }
            if state.lanes.is_empty() && (!self.policy.stays || self.control.is_stopping()) {
                state.is_closed = true;
                return Next::End;
            }
            // A stage that waits for files to be decoded counts as busy; one that waits for cameras does not.
            let decodes = state.lanes.iter().any(|lane| !lane.is_timed && !lane.is_over);
            clock.enter(if decodes { Phase::Busy } else { Phase::WaitInput });
            self.changed.wait(&mut state);
            clock.enter(Phase::Busy);
        }
    }

    /// The next stream, for a stage that reads streams one after another on its own thread.
    pub(super) fn next_in_turn(&self) -> Option<Opening> {
        let mut state = self.state.lock();
        state.lanes.clear();
        let opening = if self.control.is_aborted() { None } else { self.due(&mut state) };
        state.is_closed |= opening.is_none();
        opening
    }

    /// Creates the lane of a stream that may be opened now.
    fn due(&self, state: &mut State) -> Option<Opening> {
        if self.control.is_stopping() {
            self.forget_pending(state);
        }
        let has_room = state.lanes.iter().filter(|lane| !lane.request.is_live && !lane.is_over).count() < self.policy.at_once.max(1);
        let place = state.pending.iter().position(|request| request.is_live || has_room)?;
        let request = state.pending.remove(place)?;
        let (cancel, record) = (self.control.stop.child(), self.control.streams.record(request.id));
        record.set_state(StreamState::Opening);
        state.lanes.push(Lane {
            record: Arc::clone(&record),
            cancel: cancel.clone(),
            changed: Arc::default(),
            items: VecDeque::new(),
            frames: 0,
            capacity: self.policy.buffer_of(&request),
            drop: self.policy.drop_of(&request),
            is_timed: self.policy.is_timed(&request),
            handed_on: None,
            is_over: false,
            thread: None,
            request: request.clone(),
        });
        Some(Opening { request, cancel, record })
    }

    /// Items of the lane whose turn it is, or of the next one that has any.
    fn turn(&self, state: &mut State) -> Option<Vec<Item>> {
        let (count, now) = (state.lanes.len(), Instant::now());
        // In step mode, the stream with the least progress goes first.
        let least = state.lanes.iter().filter_map(Lane::reached).reduce(f64::min).filter(|_| self.policy.in_step);
        for offset in 0..count {
            let place = (state.turn + offset) % count;
            let has_turn = |lane: &&mut Lane| least.is_none_or(|least| lane.reached().is_none_or(|reached| reached <= least));
            let Some(lane) = state.lanes.get_mut(place).filter(|lane| !lane.items.is_empty()).filter(has_turn) else { continue };
            let items = lane.take(&self.place, now);
            lane.changed.notify_all();
            if !items.is_empty() {
                state.turn = (place + 1) % count;
                return Some(items);
            }
        }
        None
    }

    /// Links the cancel token of a stream that was opened before the run to that of its lane.
    pub(super) fn adopt(&self, id: StreamId, cancel: &CancelToken) {
        if let Some(lane) = lane_of(&mut self.state.lock(), id) {
            cancel.follow(&lane.cancel);
        }
    }

    pub(super) fn set_thread(&self, id: StreamId, thread: JoinHandle<()>) {
        if let Some(lane) = lane_of(&mut self.state.lock(), id) {
            lane.thread = Some(thread);
        }
    }

    /// Puts an item into a stream's lane. The drop policy applies when the lane is full.
    pub(super) fn push(&self, id: StreamId, item: Item) -> Result<(), Closed> {
        let is_frame = item.is_frame();
        let mut state = self.state.lock();
        loop {
            if state.is_closed || self.control.is_aborted() {
                return Err(Closed);
            }
            let lane = lane_of(&mut state, id).ok_or(Closed)?;
            if lane.has_room(is_frame) {
                break;
            }
            match lane.drop {
                DropPolicy::Oldest if is_frame => {
                    lane.drop_oldest();
                    lane.record.dropped(&format!("{}: buffer full", self.place), 1);
                }
                DropPolicy::Newest if is_frame => {
                    lane.record.dropped(&format!("{}: buffer full", self.place), 1);
                    return Ok(());
                }
                _ => {
                    let changed = Arc::clone(&lane.changed);
                    changed.wait(&mut state);
                }
            }
        }
        if let Some(lane) = lane_of(&mut state, id) {
            lane.frames += usize::from(is_frame);
            lane.items.push_back(item);
        }
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    /// Sleeps on a stream's thread; returns `false` when the stream should end.
    pub(super) fn sleep_until(&self, id: StreamId, until: Instant) -> bool {
        let mut state = self.state.lock();
        loop {
            let is_closed = state.is_closed || self.control.is_aborted() || self.control.is_stopping();
            let Some(lane) = lane_of(&mut state, id).filter(|lane| !is_closed && !lane.cancel.is_cancelled()) else { return false };
            if Instant::now() >= until {
                return true;
            }
            let changed = Arc::clone(&lane.changed);
            changed.wait_until(&mut state, until);
        }
    }

    /// Records that a stream's thread has ended.
    pub(super) fn over(&self, id: StreamId, outcome: Outcome) {
        let Outcome { has_started, failure } = outcome;
        let mut state = self.state.lock();
        match failure {
            Some(failure) => {
                state.given_up += 1;
                state.last_failure = Some(failure);
            }
            None => state.completed += 1,
        }
        if let Some(lane) = lane_of(&mut state, id) {
            lane.is_over = true;
        }
        drop(state);
        if has_started {
            self.control.streams.ended(id);
        } else {
            self.control.streams.ended_unseen(id);
        }
        self.changed.notify_all();
    }

    /// The failure of a run in which no stream was read successfully.
    pub(super) fn overall(&self) -> Result<(), StageError> {
        let state = self.state.lock();
        match &state.last_failure {
            Some(failure) if state.completed == 0 && state.given_up == 1 => Err(failure.clone()),
            Some(failure) if state.completed == 0 => {
                let message = format!("none of {} streams could be read; the last: {}", state.given_up, failure.message);
                Err(StageError::new(failure.kind, message))
            }
            _ => Ok(()),
        }
    }

    /// Ends the stage because of a stream's failure.
    pub(super) fn fail(&self, error: StageError) {
        let mut state = self.state.lock();
        state.fatal.get_or_insert(error);
        self.close(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    /// The stream failure that ended the stage, if any.
    pub(super) fn failed(&self) -> Result<(), StageError> {
        self.state.lock().fatal.clone().map_or(Ok(()), Err)
    }

    /// Passes nothing more on, so that all streams end.
    pub(super) fn shut(&self) {
        let mut state = self.state.lock();
        self.close(&mut state);
    }

    /// Marks streams that will not be opened as ended.
    fn forget_pending(&self, state: &mut State) {
        for request in state.pending.drain(..) {
            self.control.streams.record(request.id).set_state(StreamState::Ended);
            self.control.streams.ended_unseen(request.id);
        }
    }

    fn close(&self, state: &mut MutexGuard<'_, State>) {
        state.is_closed = true;
        self.forget_pending(state);
        for lane in &mut state.lanes {
            lane.cancel.cancel();
            lane.items.clear();
            lane.frames = 0;
            lane.changed.notify_all();
        }
    }

    /// The threads of all streams, to be joined when nothing more is passed on.
    pub(super) fn threads(&self) -> Vec<JoinHandle<()>> {
        self.state.lock().lanes.iter_mut().filter_map(|lane| lane.thread.take()).collect()
    }

    /// Reserves a number for a new stream.
    pub(super) fn reserve(&self) -> Result<StreamId, StageError> {
        let mut state = self.state.lock();
        self.check_open(&state)?;
        let id = StreamId(state.next_id);
        state.next_id =
            state.next_id.checked_add(1).ok_or_else(|| StageError::new(ErrorKind::Resource, "too many streams for this run"))?;
        Ok(id)
    }

    /// Whether a failure of this stream fails the run. The failure of a stream added later ends only that stream, unless the user chose
    /// otherwise: clients that may add a source must not be able to end the run with it.
    pub(super) fn is_fatal(&self, request: &StreamRequest, failure: &StageError) -> bool {
        let is_added = request.id.0 >= self.first_added;
        match failure.kind {
            ErrorKind::Internal => true,
            ErrorKind::Usage => !is_added,
            _ if is_added => self.policy.on_error == Some(OnStreamError::Fail),
            _ => self.policy.on_error_of(request) == OnStreamError::Fail,
        }
    }

    /// Adds a stream.
    pub(super) fn add(&self, request: StreamRequest, is_in_turn: bool) -> Result<(), StageError> {
        let mut state = self.state.lock();
        self.check_open(&state)?;
        if is_in_turn && request.is_live {
            let message = format!("{}: a live source cannot wait for its turn; start the run with streams=all to add it", request.source);
            return Err(StageError::new(ErrorKind::Usage, message));
        }
        self.control.streams.record(request.id).named(&request.name, &request.source);
        state.pending.push_back(request);
        drop(state);
        self.changed.notify_all();
        Ok(())
    }

    fn check_open(&self, state: &State) -> Result<(), StageError> {
        if state.is_closed || self.control.is_aborted() || self.control.is_stopping() {
            return Err(StageError::new(ErrorKind::Usage, "the run is ending and accepts no further source; stay=yes keeps a run open"));
        }
        Ok(())
    }

    /// Ends a stream; items already read are still delivered. Returns `false` if there is no stream with this number.
    pub(super) fn remove(&self, id: StreamId) -> bool {
        let mut state = self.state.lock();
        if let Some(lane) = lane_of(&mut state, id).filter(|lane| !lane.is_over) {
            lane.record.set_state(StreamState::Removed);
            lane.cancel.cancel();
            lane.changed.notify_all();
            return true;
        }
        let Some(place) = state.pending.iter().position(|request| request.id == id) else { return false };
        state.pending.remove(place);
        drop(state);
        self.control.streams.record(id).set_state(StreamState::Removed);
        self.control.streams.ended_unseen(id);
        true
    }
}

fn lane_of(state: &mut State, id: StreamId) -> Option<&mut Lane> {
    state.lanes.iter_mut().find(|lane| lane.request.id == id)
}

fn remove_lane(state: &mut State, place: usize) -> Lane {
    let lane = state.lanes.remove(place);
    if state.turn > place {
        state.turn -= 1;
    }
    lane
}

impl Wake for Lanes {
    fn wake(&self) {
        let state = self.state.lock();
        for lane in &state.lanes {
            lane.changed.notify_all();
        }
        drop(state);
        self.changed.notify_all();
    }
}
