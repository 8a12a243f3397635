//! The bounded buffer between a stage and the thread that sends.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use framerail_core::CancelToken;
use framerail_pipeline::{ErrorKind, StageContext, StageError};
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{Batch, Failure, Message, Protocol, Remedy};

/// Maximum wait without checking whether the run was aborted.
const WAIT_SLICE: Duration = Duration::from_millis(50);
/// Time without messages after which the connection is served.
const IDLE: Duration = Duration::from_secs(1);

/// What happens when the buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// The stage waits, and so does the pipeline before it.
    Wait,
    /// The oldest messages that are not being sent are dropped.
    Drop,
}

/// Limits of the buffer.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Maximum number of entries, including those being sent.
    pub(crate) entries: usize,
    /// Maximum bytes, including those being sent. A single message may be larger.
    pub(crate) bytes: usize,
    pub(crate) when_full: WhenFull,
    /// Maximum time without a delivery before waiting fails.
    pub(crate) patience: Duration,
    /// Whether undelivered messages at the end are a failure if the pipeline waits.
    pub(crate) fails_at_end: bool,
    /// Maximum consecutive attempts without a delivery; default: no limit.
    pub(crate) retries: Option<u32>,
    /// Pause after the first failure.
    pub(crate) first_pause: Duration,
    /// Whether the pipeline stops waiting when the run is stopped.
    pub(crate) gives_up_on_stop: bool,
    /// Plural noun for messages, such as `records`.
    pub(crate) noun: &'static str,
}

/// A sender's connection to its run.
pub(crate) struct Surroundings {
    /// Cancelled when outputs should finish.
    pub(crate) stop: CancelToken,
    /// Cancelled when the run is aborted.
    pub(crate) abort: CancelToken,
    /// Reports a notice.
    pub(crate) notice: Box<dyn Fn(String) + Send + Sync>,
}

impl Surroundings {
    pub(crate) fn of(context: &StageContext) -> Self {
        let own = context.clone();
        Self { stop: context.stop_token(), abort: context.abort_token(), notice: Box::new(move |text| own.notice(text)) }
    }
}

/// Adds to the counter.
type Count = Box<dyn Fn(u64) + Send + Sync>;

/// Counters of a sender.
pub(crate) struct Counters {
    /// Delivered entries.
    pub(crate) sent: Count,
    /// Dropped entries.
    pub(crate) dropped: Count,
    /// Entries refused by the server.
    pub(crate) rejected: Count,
    /// Batches that were sent again.
    pub(crate) retried: Count,
    /// Connections after the first.
    pub(crate) reconnected: Count,
}

/// Waiting messages.
pub(crate) struct Waiting<M> {
    messages: VecDeque<M>,
    entries: usize,
    bytes: usize,
    /// This many at the front failed as one batch and are sent together again.
    again: usize,
    /// Those that were discarded and are not yet counted.
    dropped: Vec<M>,
}

impl<M: Message> Waiting<M> {
    fn push_back(&mut self, message: M) {
        (self.entries, self.bytes) = (self.entries + message.entries(), self.bytes + message.bytes());
        self.messages.push_back(message);
    }

    fn push_front(&mut self, message: M) {
        (self.entries, self.bytes) = (self.entries + message.entries(), self.bytes + message.bytes());
        self.messages.push_front(message);
    }

    fn pop(&mut self) -> Option<M> {
        let message = self.messages.pop_front()?;
        (self.entries, self.bytes) = (self.entries - message.entries(), self.bytes - message.bytes());
        self.again = self.again.saturating_sub(1);
        Some(message)
    }

    /// The waiting messages, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &M> {
        self.messages.iter()
    }

    /// Drops the first messages.
    pub(crate) fn drop_first(&mut self, count: usize) {
        for _ in 0..count.min(self.messages.len()) {
            let message = self.pop();
            self.dropped.extend(message);
        }
    }
}

/// Messages that are being sent.
#[derive(Clone, Copy, Default)]
struct Load {
    messages: usize,
    entries: usize,
    bytes: usize,
}

struct State<M> {
    waiting: Waiting<M>,
    under_way: Load,
    /// Messages in flight were dropped and counted.
    is_given_up: bool,
    /// No more messages arrive, so a batch is sent before it is full.
    is_draining: bool,
    /// The thread should end.
    is_closed: bool,
    /// Whether the server has answered at all.
    is_reached: bool,
    /// Whether a refusal was reported.
    has_refused: bool,
    connections: u64,
    /// Failures since the last delivery.
    attempts: u32,
    /// The thread cannot continue.
    failure: Option<StageError>,
    /// The last error, until the next delivery.
    trouble: Option<String>,
    /// Time of the last delivery.
    moved: Instant,
}

/// What the thread does next.
pub(super) enum Next<M> {
    Send(Vec<M>),
    Idle,
    End { is_complete: bool },
}

/// Messages in the buffer. Each waits or is being sent until it is delivered or dropped.
pub(super) struct Buffer<P: Protocol> {
    protocol: Arc<P>,
    limits: Limits,
    counters: Counters,
    run: Surroundings,
    state: Mutex<State<P::Message>>,
    changed: Condvar,
}

type Guard<'a, P> = MutexGuard<'a, State<<P as Protocol>::Message>>;

impl<P: Protocol> Buffer<P> {
    pub(super) fn new(protocol: Arc<P>, limits: Limits, counters: Counters, run: Surroundings) -> Self {
        let waiting = Waiting { messages: VecDeque::new(), entries: 0, bytes: 0, again: 0, dropped: Vec::new() };
        let state = State {
            waiting,
            under_way: Load::default(),
            is_given_up: false,
            is_draining: false,
            is_closed: false,
            is_reached: false,
            has_refused: false,
            connections: 0,
            attempts: 0,
            failure: None,
            trouble: None,
            moved: Instant::now(),
        };
        Self { protocol, limits, counters, run, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn protocol(&self) -> &P {
        &self.protocol
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    // The stage's side.

    pub(super) fn push(&self, message: P::Message) -> Result<(), StageError> {
        let (mut state, began) = (self.state.lock(), Instant::now());
        while self.is_full(&state, &message) {
            if self.drops() {
                self.protocol.make_room(&mut state.waiting);
                if state.waiting.dropped.is_empty() {
                    // Everything is being sent: the new one is the oldest that can be dropped.
                    state.waiting.dropped.push(message);
                    self.count_dropped(&mut state);
                    return Ok(());
                }
                self.count_dropped(&mut state);
            } else if let Err(error) = self.wait(&mut state, began) {
                state.waiting.dropped.push(message);
                self.count_dropped(&mut state);
                return Err(error);
            }
        }
        if !self.protocol.admits(&message) || state.failure.is_some() {
            state.waiting.dropped.push(message);
            self.count_dropped(&mut state);
        } else {
            state.waiting.push_back(message);
            self.changed.notify_all();
        }
        state.failure.clone().map_or(Ok(()), Err)
    }

    fn is_full(&self, state: &State<P::Message>, message: &P::Message) -> bool {
        let (entries, bytes) = (state.waiting.entries + state.under_way.entries, state.waiting.bytes + state.under_way.bytes);
        state.failure.is_none() && (entries >= self.limits.entries || (bytes > 0 && bytes + message.bytes() > self.limits.bytes))
    }

    fn drops(&self) -> bool {
        self.limits.when_full == WhenFull::Drop || (self.limits.gives_up_on_stop && self.run.stop.is_cancelled())
    }

    pub(super) fn wait_until_reached(&self) -> Result<(), StageError> {
        let (mut state, began) = (self.state.lock(), Instant::now());
        while !state.is_reached {
            self.wait(&mut state, began)?;
        }
        Ok(())
    }

    /// Waits until everything is delivered; returns the number of messages dropped because of the limits.
    pub(super) fn drain(&self, within: Option<Duration>) -> Result<u64, StageError> {
        let (mut state, began) = (self.state.lock(), Instant::now());
        state.is_draining = true;
        self.changed.notify_all();
        while state.waiting.messages.len() + state.under_way.messages > 0 {
            let is_late = within.is_some_and(|within| began.elapsed() >= within);
            let waited = if is_late { Err(self.too_late(&state)) } else { self.wait(&mut state, began) };
            if let Err(error) = waited {
                let may_drop = (self.drops() || !self.limits.fails_at_end) && error.kind == ErrorKind::Output && state.failure.is_none();
                let left = self.give_up(&mut state);
                return if may_drop { Ok(left) } else { Err(error) };
            }
        }
        state.failure.clone().map_or(Ok(0), Err)
    }

    /// Drops waiting messages and those being sent; returns their number.
    fn give_up(&self, state: &mut State<P::Message>) -> u64 {
        let (under_way, waiting) = (std::mem::take(&mut state.under_way), state.waiting.entries);
        state.is_given_up = true;
        (self.counters.dropped)(under_way.entries as u64);
        state.waiting.drop_first(usize::MAX);
        self.count_dropped(state);
        (under_way.entries + waiting) as u64
    }

    fn too_late(&self, state: &State<P::Message>) -> StageError {
        let (left, noun, target) = (state.waiting.entries + state.under_way.entries, self.limits.noun, self.protocol.target());
        let reason = state.trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
        let message = format!("{left} {noun} were not delivered to {target} within linger={reason}");
        StageError::new(ErrorKind::Output, message)
    }

    /// Waits briefly, as part of a wait that began at `since`.
    fn wait(&self, state: &mut Guard<'_, P>, began: Instant) -> Result<(), StageError> {
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if self.is_aborted() {
            return Err(StageError::new(ErrorKind::Cancelled, format!("stopped while waiting for {}", self.protocol.target())));
        }
        // Waiting for a batch to fill does not count as time without a delivery.
        if state.moved.max(began).elapsed() >= self.limits.patience {
            let reason = state.trouble.clone().unwrap_or_else(|| "it does not answer".into());
            let (target, patience) = (self.protocol.target(), self.limits.patience.as_secs_f64());
            let message =
                format!("nothing was delivered to {target} for {patience} s ({reason}); check that it is running, or raise patience=");
            return Err(StageError::new(ErrorKind::Output, message));
        }
        self.changed.wait_for(state, WAIT_SLICE);
        Ok(())
    }

    /// Asks the thread to end when the rest is sent.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Asks the thread to end, and drops what it has not sent.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        self.give_up(&mut state);
        self.changed.notify_all();
    }

    fn count_dropped(&self, state: &mut State<P::Message>) {
        let dropped = std::mem::take(&mut state.waiting.dropped);
        let entries: usize = dropped.iter().map(Message::entries).sum();
        (self.counters.dropped)(entries as u64);
        dropped.iter().for_each(|message| self.protocol.lost(message));
    }

    pub(super) fn connections(&self) -> (u64, Option<String>) {
        let state = self.state.lock();
        (state.connections, state.trouble.clone())
    }

    pub(super) fn failure(&self) -> Option<StageError> {
        self.state.lock().failure.clone()
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.run.abort.is_cancelled()
    }

    // The thread's side.

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// The next batch, once it is full or its oldest message has waited long enough.
    pub(super) fn next(&self, batch: Batch) -> Next<P::Message> {
        let mut state = self.state.lock();
        let (mut deadline, idle) = (None, Instant::now() + IDLE);
        loop {
            if state.waiting.messages.is_empty() {
                if state.is_closed {
                    return Next::End { is_complete: !self.is_aborted() };
                }
                if self.changed.wait_until(&mut state, idle).timed_out() {
                    return Next::Idle;
                }
                continue;
            }
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + batch.wait);
            let is_full = state.waiting.messages.len() >= batch.messages
                || state.waiting.bytes >= batch.bytes
                || state.waiting.entries >= self.limits.entries
                || state.waiting.bytes >= self.limits.bytes / 2;
            if is_full || state.waiting.again > 0 || state.is_draining || state.is_closed || Instant::now() >= deadline {
                return Next::Send(self.take(&mut state, batch));
            }
            self.changed.wait_until(&mut state, deadline);
        }
    }

    fn take(&self, state: &mut State<P::Message>, batch: Batch) -> Vec<P::Message> {
        let again = state.waiting.again;
        if again > 0 {
            (self.counters.retried)(1);
        }
        let most = if again > 0 { again } else { batch.messages };
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most {
            let Some(next) = state.waiting.messages.front() else { break };
            if !taken.is_empty() && bytes + next.bytes() > batch.bytes {
                break;
            }
            bytes += next.bytes();
            taken.extend(state.waiting.pop());
        }
        state.under_way = Load { messages: taken.len(), entries: entries_of(&taken), bytes };
        taken
    }

    /// Takes back the undelivered rest of a batch; returns whether something was delivered.
    pub(super) fn settle(&self, mut left: Vec<P::Message>, failure: Option<&Failure>) -> bool {
        let mut state = self.state.lock();
        let before = std::mem::take(&mut state.under_way);
        let has_moved = left.len() < before.messages;
        if state.is_given_up {
            // They are counted, but not yet by kind.
            left.iter().for_each(|message| self.protocol.lost(message));
            return has_moved;
        }
        (self.counters.sent)(before.entries.saturating_sub(entries_of(&left)) as u64);
        let remedy = failure.map(|failure| failure.remedy);
        if let (Some(failure), Some(Remedy::Leave(refused))) = (failure, remedy) {
            self.refuse(&mut state, &mut left, refused, &failure.words);
        }
        state.waiting.again = if matches!(remedy, Some(Remedy::Retry(_))) { left.len() } else { 0 };
        left.into_iter().rev().for_each(|message| state.waiting.push_front(message));
        if has_moved || matches!(remedy, Some(Remedy::Leave(_))) {
            (state.moved, state.is_reached, state.attempts, state.trouble) = (Instant::now(), true, 0, None);
        }
        self.changed.notify_all();
        has_moved
    }

    /// The server refuses the first messages.
    fn refuse(&self, state: &mut State<P::Message>, left: &mut Vec<P::Message>, refused: usize, words: &str) {
        let message = format!("{} rejects {}: {words}", self.protocol.target(), self.limits.noun);
        if self.limits.when_full == WhenFull::Wait {
            state.failure.get_or_insert(StageError::new(ErrorKind::Output, message));
            return;
        }
        let refused: Vec<_> = left.drain(..refused.min(left.len())).collect();
        (self.counters.rejected)(entries_of(&refused) as u64);
        if !std::mem::replace(&mut state.has_refused, true) {
            (self.run.notice)(message);
        }
    }

    /// A connection was opened.
    pub(super) fn connected(&self) {
        let mut state = self.state.lock();
        (state.connections, state.is_reached) = (state.connections + 1, true);
        if state.connections > 1 {
            (self.counters.reconnected)(1);
        }
        if state.trouble.is_some() {
            self.protocol.begin_again(&mut state.waiting);
            self.count_dropped(&mut state);
        }
        self.changed.notify_all();
    }

    /// Records a temporary failure; returns whether to retry.
    pub(super) fn note_failure(&self, words: &str) -> bool {
        let mut state = self.state.lock();
        state.attempts += 1;
        let is_first = state.trouble.is_none();
        state.trouble = Some(words.to_owned());
        if self.limits.retries.is_some_and(|most| state.attempts > most) {
            drop(state);
            self.stop(ErrorKind::Output, words);
            return false;
        }
        if is_first && !self.is_aborted() {
            let next = if state.is_closed { "nothing more is sent" } else { "trying again" };
            (self.run.notice)(format!("{}; {next}", self.naming(words)));
        }
        true
    }

    fn naming(&self, words: &str) -> String {
        let target = self.protocol.target();
        if words.contains(&target) { words.to_owned() } else { format!("{target}: {words}") }
    }

    /// The thread cannot continue.
    pub(super) fn stop(&self, kind: ErrorKind, words: &str) {
        self.fail(StageError::new(kind, self.naming(words)));
    }

    pub(super) fn fail(&self, error: StageError) {
        let mut state = self.state.lock();
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits for a time, or until the thread should end.
    pub(super) fn pause(&self, time: Duration) {
        let (mut state, end) = (self.state.lock(), Instant::now() + time);
        while !state.is_closed && !self.changed.wait_until(&mut state, end).timed_out() {}
    }
}

fn entries_of<M: Message>(messages: &[M]) -> usize {
    messages.iter().map(Message::entries).sum()
}
