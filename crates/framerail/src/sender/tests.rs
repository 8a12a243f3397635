use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use framerail_core::CancelToken;
use framerail_pipeline::{ErrorKind, StageError};
use parking_lot::Mutex;

use super::{Batch, Counters, Failure, Limits, Message, Protocol, Sender, Surroundings, WhenFull};

const LONG: Duration = Duration::from_secs(600);

impl Message for u32 {
    fn bytes(&self) -> usize {
        10
    }
}

/// The server's reaction to a batch.
enum Answer {
    /// Accepts this many, then the connection breaks.
    Takes(usize),
    Refuses(usize),
}

/// A server that accepts everything after its scripted reactions.
#[derive(Default)]
struct Fake {
    is_away: Mutex<bool>,
    answers: Mutex<VecDeque<Answer>>,
    /// Batches that were tried.
    tried: Mutex<Vec<Vec<u32>>>,
    received: Mutex<Vec<u32>>,
    batch: usize,
}

impl Protocol for Fake {
    type Message = u32;
    type Connection = ();

    fn target(&self) -> String {
        "the server".into()
    }

    fn batch(&self) -> Batch {
        Batch { messages: self.batch.max(1), bytes: usize::MAX, wait: LONG }
    }

    fn connect(&self, _: &CancelToken) -> Result<(), Failure> {
        if *self.is_away.lock() { Err(Failure::transient("connection refused")) } else { Ok(()) }
    }

    fn send(&self, (): &mut (), messages: &mut Vec<u32>) -> Result<(), Failure> {
        self.tried.lock().push(messages.clone());
        match self.answers.lock().pop_front() {
            Some(Answer::Takes(count)) => {
                self.received.lock().extend(messages.drain(..count));
                Err(Failure::transient("it closed the connection"))
            }
            Some(Answer::Refuses(count)) => Err(Failure::rejected("too large", count)),
            None => {
                self.received.lock().append(messages);
                Ok(())
            }
        }
    }
}

#[derive(Clone, Default)]
struct Tally(Arc<AtomicU64>);

impl Tally {
    fn count(&self) -> Box<dyn Fn(u64) + Send + Sync> {
        let tally = self.clone();
        Box::new(move |count| {
            tally.0.fetch_add(count, Ordering::SeqCst);
        })
    }
}

#[derive(Default)]
struct Tallies {
    sent: Tally,
    dropped: Tally,
    rejected: Tally,
    retried: Tally,
    reconnected: Tally,
    notices: Arc<Mutex<Vec<String>>>,
}

impl Tallies {
    fn values(&self) -> [u64; 5] {
        [&self.sent, &self.dropped, &self.rejected, &self.retried, &self.reconnected].map(|tally| tally.0.load(Ordering::SeqCst))
    }
}

fn limits(entries: usize, when_full: WhenFull, patience: Duration) -> Limits {
    Limits {
        entries,
        bytes: usize::MAX,
        when_full,
        patience,
        fails_at_end: true,
        retries: None,
        first_pause: Duration::from_millis(1),
        gives_up_on_stop: false,
        noun: "records",
    }
}

fn sender(fake: Fake, limits: Limits) -> (Sender<Fake>, Arc<Fake>, Tallies) {
    let (fake, tallies) = (Arc::new(fake), Tallies::default());
    let counters = Counters {
        sent: tallies.sent.count(),
        dropped: tallies.dropped.count(),
        rejected: tallies.rejected.count(),
        retried: tallies.retried.count(),
        reconnected: tallies.reconnected.count(),
    };
    let notices = Arc::clone(&tallies.notices);
    let run = Surroundings {
        stop: CancelToken::default(),
        abort: CancelToken::default(),
        notice: Box::new(move |text| notices.lock().push(text)),
    };
    let sender = Sender::start(Arc::clone(&fake), limits, counters, run, "test").expect("a thread");
    (sender, fake, tallies)
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_broken_connection_left_is_sent_again_in_order() {
    let answers = [Answer::Takes(1), Answer::Takes(0), Answer::Takes(2)].into();
    let fake = Fake { answers: Mutex::new(answers), batch: 4, ..Fake::default() };
    let (mut sender, fake, tallies) = sender(fake, limits(9, WhenFull::Wait, LONG));
    (0..9).for_each(|entry| sender.push(entry).expect("room"));
    assert_eq!(sender.finish(None, LONG).expect("sent"), 0);
    assert_eq!(*fake.received.lock(), (0..9).collect::<Vec<_>>());
    assert_eq!(tallies.values(), [9, 0, 0, 3, 3]);
    // The same messages are tried again: the key of a request stays the same.
    let tried = fake.tried.lock();
    assert_eq!((&tried[1], &tried[2]), (&tried[1], &tried[1]));
}

#[test]
fn the_oldest_are_dropped_while_the_server_is_away() {
    let fake = Fake { is_away: Mutex::new(true), batch: 2, ..Fake::default() };
    let (mut sender, fake, tallies) = sender(fake, limits(3, WhenFull::Drop, LONG));
    (0..5).for_each(|entry| sender.push(entry).expect("dropped where it is full"));
    assert_eq!(tallies.values()[1], 2);
    *fake.is_away.lock() = false;
    assert_eq!(sender.finish(None, LONG).expect("sent"), 0);
    assert_eq!((fake.received.lock().as_slice(), tallies.values()[..2].to_vec()), (&[2, 3, 4][..], vec![3, 2]));
}

#[test]
fn bytes_are_bounded_too() {
    let fake = Fake { is_away: Mutex::new(true), ..Fake::default() };
    let (sender, _, tallies) = sender(fake, Limits { bytes: 25, ..limits(99, WhenFull::Drop, LONG) });
    (0..5).for_each(|entry| sender.push(entry).expect("dropped where it is full"));
    assert_eq!(tallies.values()[1], 3);
    drop(sender);
    assert_eq!(tallies.values()[..2], [0, 5], "what is left is counted");
}

#[test]
fn waiting_ends_when_the_server_answers_or_patience_does() {
    let fake = Fake { is_away: Mutex::new(true), ..Fake::default() };
    let (sender, fake, tallies) = sender(fake, limits(1, WhenFull::Wait, Duration::from_millis(60)));
    sender.push(0).expect("room");
    wait_for("an attempt", || !tallies.notices.lock().is_empty());
    let error = sender.push(1).expect_err("nobody takes it");
    assert!(error.message.contains("nothing was delivered to the server") && error.message.contains("connection refused"), "{error}");
    assert!(tallies.notices.lock().iter().any(|text| text == "the server: connection refused; trying again"));
    *fake.is_away.lock() = false;
    wait_for("the first to be sent", || tallies.values()[0] == 1);
    sender.push(2).expect("room again");
}

#[test]
fn refusals_end_a_sender_that_waits_and_are_counted_where_it_drops() {
    let fake = |batch| Fake { answers: Mutex::new([Answer::Refuses(1)].into()), batch, ..Fake::default() };
    let (mut waits, _, _) = sender(fake(3), limits(9, WhenFull::Wait, LONG));
    (0..3).for_each(|entry| waits.push(entry).expect("room"));
    let error = waits.finish(None, LONG).expect_err("refused");
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::Output, "the server rejects records: too large"));
    let (mut drops, received, tallies) = sender(fake(3), limits(9, WhenFull::Drop, LONG));
    (0..3).for_each(|entry| drops.push(entry).expect("room"));
    assert_eq!(drops.finish(None, LONG).expect("the rest is sent"), 0);
    assert_eq!((received.received.lock().as_slice(), tallies.values()), (&[1, 2][..], [2, 0, 1, 0, 0]));
}

#[test]
fn the_end_is_bounded() {
    let away = || Fake { is_away: Mutex::new(true), ..Fake::default() };
    let (mut drops, _, tallies) = sender(away(), limits(9, WhenFull::Drop, Duration::from_millis(20)));
    (0..4).for_each(|entry| drops.push(entry).expect("room"));
    assert_eq!((drops.finish(None, LONG).expect("given up"), tallies.values()[1]), (4, 4));
    let (mut waits, _, tallies) = sender(away(), limits(9, WhenFull::Wait, LONG));
    waits.push(0).expect("room");
    let error: StageError = waits.finish(Some(Duration::ZERO), LONG).expect_err("too late");
    assert!(error.message.starts_with("1 records were not delivered to the server within linger="), "{error}");
    assert_eq!(tallies.values()[1], 1);
}

#[test]
fn attempts_may_be_limited() {
    let fake = Fake { is_away: Mutex::new(true), ..Fake::default() };
    let (sender, _, _) = sender(fake, Limits { retries: Some(2), ..limits(1, WhenFull::Wait, LONG) });
    sender.push(0).expect("room");
    assert_eq!(sender.push(1).expect_err("given up").message, "the server: connection refused");
}
