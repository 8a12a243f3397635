//! A bounded buffer between a stage and the thread that sends its entries over a network.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use framerail_core::CancelToken;
use framerail_pipeline::{ErrorKind, StageError};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// Maximum time between checks whether the run is torn down.
const WAIT_SLICE: Duration = Duration::from_millis(50);

/// Behaviour when the buffer is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::stages) enum WhenFull {
    /// The stage waits, and so does the pipeline before it.
    Wait,
    /// The oldest entry that is not being sent is dropped.
    Drop,
}

/// Limits of the buffer.
#[derive(Clone, Debug)]
pub(in crate::stages) struct OutboxLimits {
    /// Number of entries, including those being sent.
    pub(in crate::stages) capacity: usize,
    pub(in crate::stages) when_full: WhenFull,
    /// Maximum time without a delivery before a waiting stage fails.
    pub(in crate::stages) patience: Duration,
    /// The target, for messages.
    pub(in crate::stages) target: String,
}

/// A counter callback.
pub(in crate::stages) type Count = Box<dyn Fn(u64) + Send + Sync>;

/// Counters of the outbox.
pub(in crate::stages) struct OutboxCounters {
    /// Delivered entries.
    pub(in crate::stages) sent: Count,
    /// Dropped entries, including those left at the end.
    pub(in crate::stages) dropped: Count,
    /// Entries that the receiver rejected.
    pub(in crate::stages) rejected: Count,
}

/// Entries in the buffer. Each is waiting or in flight until it is delivered or dropped.
pub(in crate::stages) struct Outbox<T> {
    limits: OutboxLimits,
    counters: OutboxCounters,
    /// Cancelled when the run is torn down.
    abort: CancelToken,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    under_way: usize,
    /// No further entries follow: there is nothing to wait for beyond the present ones.
    is_draining: bool,
    /// The sender should end.
    is_closed: bool,
    /// Whether the receiver has responded yet.
    is_reached: bool,
    /// The sender failed permanently.
    failure: Option<StageError>,
    /// The last error.
    trouble: Option<String>,
    /// Time of the last delivery.
    moved: Instant,
}

impl<T> Outbox<T> {
    pub(in crate::stages) fn new(limits: OutboxLimits, counters: OutboxCounters, abort: CancelToken) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            under_way: 0,
            is_draining: false,
            is_closed: false,
            is_reached: false,
            failure: None,
            trouble: None,
            moved: Instant::now(),
        };
        Self { limits, counters, abort, state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(in crate::stages) fn limits(&self) -> &OutboxLimits {
        &self.limits
    }

    // The stage's side.

    /// Adds an entry.
    ///
    /// # Errors
    /// What the sender failed with; `Output` when nothing got through for too long; `Cancelled` when the run is torn down.
    pub(in crate::stages) fn push(&self, entry: T) -> Result<(), StageError> {
        let (mut state, began) = (self.state.lock(), Instant::now());
        while state.waiting.len() + state.under_way >= self.limits.capacity {
            if self.limits.when_full == WhenFull::Drop {
                (self.counters.dropped)(1);
                if state.waiting.pop_front().is_none() {
                    // All entries are in flight: the new one is the oldest that can be dropped.
                    return Ok(());
                }
                break;
            }
            self.wait(&mut state, began)?;
        }
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        state.waiting.push_back(entry);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the first response of the receiver.
    ///
    /// # Errors
    /// As [`Outbox::push`].
    pub(in crate::stages) fn wait_until_reached(&self) -> Result<(), StageError> {
        let (mut state, began) = (self.state.lock(), Instant::now());
        while !state.is_reached {
            self.wait(&mut state, began)?;
        }
        Ok(())
    }

    /// Waits until everything is delivered; returns the number of entries that were not, within the allowed time.
    ///
    /// # Errors
    /// As [`Outbox::push`], but where entries may be dropped the rest is given up instead.
    pub(in crate::stages) fn drain(&self) -> Result<u64, StageError> {
        let (mut state, began) = (self.state.lock(), Instant::now());
        state.is_draining = true;
        self.changed.notify_all();
        while state.waiting.len() + state.under_way > 0 {
            match self.wait(&mut state, began) {
                Err(error) if self.limits.when_full == WhenFull::Drop && error.kind == ErrorKind::Output && state.failure.is_none() => {
                    let left = (state.waiting.len() + state.under_way) as u64;
                    state.waiting.clear();
                    (self.counters.dropped)(left);
                    return Ok(left);
                }
                other => other?,
            }
        }
        state.failure.clone().map_or(Ok(0), Err)
    }

    /// Waits briefly, in a wait that began at the given time.
    fn wait(&self, state: &mut MutexGuard<'_, State<T>>, began: Instant) -> Result<(), StageError> {
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        if self.abort.is_cancelled() {
            return Err(StageError::new(ErrorKind::Cancelled, format!("stopped while waiting for {}", self.limits.target)));
        }
        // Entries that waited for others to fill a request were not failed attempts.
        if state.moved.max(began).elapsed() >= self.limits.patience {
            let reason = state.trouble.clone().unwrap_or_else(|| "it does not answer".into());
            let (target, patience) = (&self.limits.target, self.limits.patience.as_secs_f64());
            let message =
                format!("nothing was delivered to {target} for {patience} s ({reason}); check that it is running, or raise patience=");
            return Err(StageError::new(ErrorKind::Output, message));
        }
        self.changed.wait_for(state, WAIT_SLICE);
        Ok(())
    }

    /// Tells the sender to end.
    pub(in crate::stages) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    // The sender's side.

    /// Whether the sender should end.
    pub(in crate::stages) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Takes the oldest entry, which is in flight from now on.
    pub(in crate::stages) fn try_take(&self) -> Option<T> {
        let mut state = self.state.lock();
        let entry = state.waiting.pop_front()?;
        state.under_way += 1;
        Some(entry)
    }

    /// Takes up to this many entries, once they are there or the oldest has waited long enough; `None` when the sender should end.
    pub(in crate::stages) fn take_batch(&self, count: usize, wait: Duration) -> Option<Vec<T>> {
        let mut state = self.state.lock();
        let mut deadline = None;
        loop {
            if state.is_closed {
                return None;
            }
            if !state.waiting.is_empty() {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + wait);
                let is_full = state.waiting.len() >= count || state.waiting.len() + state.under_way >= self.limits.capacity;
                if is_full || state.is_draining || Instant::now() >= deadline {
                    let taken = count.min(state.waiting.len());
                    state.under_way += taken;
                    return Some(state.waiting.drain(..taken).collect());
                }
                self.changed.wait_until(&mut state, deadline);
            } else {
                self.changed.wait(&mut state);
            }
        }
    }

    /// Returns undelivered entries, oldest first.
    pub(in crate::stages) fn put_back(&self, entries: impl IntoIterator<Item = T, IntoIter: DoubleEndedIterator>) {
        let mut state = self.state.lock();
        for entry in entries.into_iter().rev() {
            state.waiting.push_front(entry);
            state.under_way = state.under_way.saturating_sub(1);
        }
        self.changed.notify_all();
    }

    /// Marks this many entries as delivered.
    pub(in crate::stages) fn sent(&self, count: usize) {
        (self.counters.sent)(count as u64);
        self.settle(count);
    }

    /// Marks this many entries as rejected.
    pub(in crate::stages) fn rejected(&self, count: usize) {
        (self.counters.rejected)(count as u64);
        self.settle(count);
    }

    fn settle(&self, count: usize) {
        let mut state = self.state.lock();
        state.under_way = state.under_way.saturating_sub(count);
        state.moved = Instant::now();
        state.is_reached = true;
        self.changed.notify_all();
    }

    /// Marks that the receiver responded.
    pub(in crate::stages) fn reached(&self) {
        let mut state = self.state.lock();
        state.is_reached = true;
        state.trouble = None;
        self.changed.notify_all();
    }

    /// Records a temporary error.
    pub(in crate::stages) fn trouble(&self, words: String) {
        self.state.lock().trouble = Some(words);
    }

    /// Records a permanent error.
    pub(in crate::stages) fn fail(&self, error: StageError) {
        let mut state = self.state.lock();
        state.failure.get_or_insert(error);
        self.changed.notify_all();
    }

    /// Waits for a while, or until the sender should end.
    pub(in crate::stages) fn pause(&self, time: Duration) {
        let mut state = self.state.lock();
        let end = Instant::now() + time;
        while !state.is_closed && !self.changed.wait_until(&mut state, end).timed_out() {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Tally(Arc<AtomicU64>);

    impl Tally {
        fn count(&self) -> Count {
            let tally = self.clone();
            Box::new(move |count| {
                tally.0.fetch_add(count, Ordering::SeqCst);
            })
        }

        fn value(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }
    }

    fn outbox(capacity: usize, when_full: WhenFull, patience: Duration) -> (Outbox<u32>, Tally, Tally) {
        let (sent, dropped) = (Tally::default(), Tally::default());
        let limits = OutboxLimits { capacity, when_full, patience, target: "the server".into() };
        let counters = OutboxCounters { sent: sent.count(), dropped: dropped.count(), rejected: Box::new(|_| {}) };
        (Outbox::new(limits, counters, CancelToken::default()), sent, dropped)
    }

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn the_oldest_that_waits_gives_way() {
        let (outbox, sent, dropped) = outbox(3, WhenFull::Drop, LONG);
        (0..3).for_each(|entry| outbox.push(entry).expect("room"));
        assert_eq!(outbox.try_take(), Some(0));
        outbox.push(3).expect("1 goes");
        assert_eq!(outbox.take_batch(2, LONG), Some(vec![2, 3]));
        outbox.push(4).expect("everything else is under way");
        assert_eq!((dropped.value(), outbox.try_take()), (2, None));
        outbox.put_back([2, 3]);
        outbox.sent(1);
        assert_eq!((sent.value(), outbox.take_batch(9, Duration::ZERO)), (1, Some(vec![2, 3])));
        outbox.sent(2);
        assert_eq!(outbox.drain().expect("empty"), 0);
    }

    #[test]
    fn waiting_ends_when_the_sender_goes_on_or_patience_does() {
        let (outbox, _, dropped) = outbox(1, WhenFull::Wait, Duration::from_millis(80));
        outbox.push(0).expect("room");
        outbox.trouble("connection refused".into());
        let error = outbox.push(1).expect_err("nobody takes it");
        assert!(error.message.contains("nothing was delivered to the server") && error.message.contains("connection refused"), "{error}");
        assert!(outbox.drain().is_err());
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| outbox.take_batch(1, Duration::ZERO));
            assert_eq!(sender.join().expect("no panic"), Some(vec![0]));
        });
        outbox.sent(1);
        outbox.push(1).expect("room again");
        outbox.fail(StageError::new(ErrorKind::Output, "not authorised"));
        assert_eq!(outbox.push(2).expect_err("failed").message, "not authorised");
        assert_eq!(dropped.value(), 0);
    }

    #[test]
    fn time_spent_waiting_for_others_is_not_held_against_a_server() {
        let patience = Duration::from_secs(20);
        let (outbox, sent, _) = outbox(2, WhenFull::Wait, patience);
        (0..2).for_each(|entry| outbox.push(entry).expect("room"));
        // The pipeline had nothing to send for a while.
        outbox.state.lock().moved -= patience * 2;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while let Some(entries) = outbox.take_batch(9, LONG) {
                    outbox.sent(entries.len());
                }
            });
            outbox.push(2).expect("the sender takes what is there");
            outbox.drain().expect("and the rest");
            outbox.close();
        });
        assert_eq!(sent.value(), 3);
    }

    #[test]
    fn what_may_be_dropped_is_given_up_at_the_end() {
        let (outbox, _, dropped) = outbox(9, WhenFull::Drop, Duration::from_millis(20));
        (0..4).for_each(|entry| outbox.push(entry).expect("room"));
        outbox.try_take();
        assert_eq!((outbox.drain().expect("given up"), dropped.value()), (4, 4));
        outbox.close();
        assert_eq!(outbox.take_batch(1, LONG), None);
    }
}
