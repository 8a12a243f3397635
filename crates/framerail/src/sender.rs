//! Sends messages to a server on a separate thread: a bounded buffer, order, retries with growing pauses, and a bounded end.
//!
//! A stage's thread must not wait for a network while the buffer has room. One [`Sender`] serves all protocols; each is a small
//! [`Protocol`]. A message leaves the buffer when the server has confirmed it, where the protocol has confirmations.

mod buffer;

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use framerail_core::CancelToken;
use framerail_pipeline::{ErrorKind, StageError};

use self::buffer::{Buffer, Next};
pub(crate) use self::buffer::{Counters, Limits, Surroundings, Waiting, WhenFull};

/// Pause after the first failure, where the protocol does not set another.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Maximum pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Maximum pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// Maximum time for closing a connection when everything is sent.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

/// What a protocol sends.
pub(crate) trait Message: Send + 'static {
    /// Size in bytes, for the limit of the buffer.
    fn bytes(&self) -> usize;

    /// Places that it takes in the buffer.
    fn entries(&self) -> usize {
        1
    }
}

/// How many messages are sent at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    /// How long the first message waits for others.
    pub(crate) wait: Duration,
}

/// A kind of server. All calls except [`Protocol::admits`], [`Protocol::make_room`] and [`Protocol::lost`] come from the
/// sender's thread.
pub(crate) trait Protocol: Send + Sync + 'static {
    type Message: Message;
    type Connection;

    /// The server, without secrets, for messages to the user.
    fn target(&self) -> String;

    fn batch(&self) -> Batch;

    /// Opens a connection; returns early when `cancel` is cancelled.
    fn connect(&self, cancel: &CancelToken) -> Result<Self::Connection, Failure>;

    /// Sends messages in order and removes delivered ones from the list. The rest is sent again later, possibly over a new connection. A
    /// protocol without connections repeats the same messages.
    fn send(&self, connection: &mut Self::Connection, messages: &mut Vec<Self::Message>) -> Result<(), Failure>;

    /// Called about every second while there is nothing to send.
    fn idle(&self, _connection: &mut Self::Connection) -> Result<(), Failure> {
        Ok(())
    }

    /// Closes a connection when everything is sent.
    fn finish(&self, _connection: Self::Connection) -> Result<(), Failure> {
        Ok(())
    }

    /// Whether a message is worth sending; others are dropped.
    fn admits(&self, _message: &Self::Message) -> bool {
        true
    }

    /// Removes messages from a full buffer: at least one, unless it is empty.
    fn make_room(&self, waiting: &mut Waiting<Self::Message>) {
        waiting.drop_first(1);
    }

    /// Called before messages are sent over a connection that replaces a broken one.
    fn begin_again(&self, _waiting: &mut Waiting<Self::Message>) {}

    /// Counts a dropped message in further counters than that of messages.
    fn lost(&self, _message: &Self::Message) {}
}

/// Why messages were not delivered, or a connection failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) words: String,
    pub(crate) remedy: Remedy,
}

/// What to do after a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Retry; after this time, if the server requests it.
    Retry(Option<Duration>),
    /// The server refuses these messages, the first remaining ones; others may be accepted.
    Leave(usize),
    /// Fatal: the sender ends.
    Stop(ErrorKind),
    /// Fatal if the server was never reached, because the options are wrong; later, retry.
    StopAtStart,
}

impl Failure {
    pub(crate) fn transient(words: impl ToString) -> Self {
        Self { words: words.to_string(), remedy: Remedy::Retry(None) }
    }

    pub(crate) fn rejected(words: impl ToString, messages: usize) -> Self {
        Self { words: words.to_string(), remedy: Remedy::Leave(messages) }
    }

    pub(crate) fn lasting(words: impl ToString) -> Self {
        Self { words: words.to_string(), remedy: Remedy::StopAtStart }
    }
}

/// A system's or library's message without the error number.
pub(crate) fn plain(error: &impl std::fmt::Display) -> String {
    error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Pauses that grow from the first to half a minute, each shortened at random by up to a half, so that clients do not return together.
struct Backoff {
    first: Duration,
    next: Duration,
}

impl Backoff {
    fn new(first: Duration) -> Self {
        Self { first, next: first }
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(LONGEST_PAUSE.max(self.first));
        // The keys of a new hasher are random.
        let share = RandomState::new().hash_one(0_u8) % 512;
        pause.mul_f64(1.0 - share as f64 / 1024.0)
    }
}

/// A buffer and the thread that empties it. Dropping it ends the thread; what was not sent is dropped.
pub(crate) struct Sender<P: Protocol> {
    buffer: Arc<Buffer<P>>,
    /// Ends blocking calls of the thread.
    cancel: CancelToken,
    thread: Option<JoinHandle<()>>,
}

impl<P: Protocol> Sender<P> {
    /// Starts the thread, named after the stage.
    ///
    /// # Errors
    /// `Resource` if no thread can be created.
    pub(crate) fn start(protocol: Arc<P>, limits: Limits, counters: Counters, run: Surroundings, name: &str) -> Result<Self, StageError> {
        let cancel = run.abort.child();
        let buffer = Arc::new(Buffer::new(protocol, limits, counters, run));
        let (own, token) = (Arc::clone(&buffer), cancel.clone());
        let spawned = thread::Builder::new().name(name.into()).spawn(move || send_all(&own, &token));
        let thread = spawned.map_err(|error| StageError::new(ErrorKind::Resource, format!("cannot start a thread for {name}: {error}")))?;
        Ok(Self { buffer, cancel, thread: Some(thread) })
    }

    /// Puts a message into the buffer; waits for room or drops messages according to the limits.
    ///
    /// # Errors
    /// The thread's error; `Output` if nothing was delivered for too long; `Cancelled` when the run is aborted.
    pub(crate) fn push(&self, message: P::Message) -> Result<(), StageError> {
        self.buffer.push(message)
    }

    /// Waits until the server has answered for the first time, so that a wrong address is reported at the start.
    ///
    /// # Errors
    /// As [`Sender::push`].
    pub(crate) fn wait_until_reached(&self) -> Result<(), StageError> {
        self.buffer.wait_until_reached()
    }

    /// Sends the rest, `within` this time or as long as messages are delivered, closes the connection within `goodbye`, and returns the
    /// number of dropped messages.
    ///
    /// # Errors
    /// As [`Sender::push`]; droppable messages are dropped instead.
    pub(crate) fn finish(&mut self, within: Option<Duration>, goodbye: Duration) -> Result<u64, StageError> {
        let left = self.buffer.drain(within)?;
        self.buffer.close();
        if left > 0 {
            self.cancel.cancel();
        }
        self.end(goodbye);
        self.buffer.failure().map_or(Ok(left), Err)
    }

    /// Number of connections so far, and the last error.
    pub(crate) fn connections(&self) -> (u64, Option<String>) {
        self.buffer.connections()
    }

    /// Waits for the thread, then ends its blocking calls. A thread that hangs in a system call is left behind.
    fn end(&mut self, goodbye: Duration) {
        let Some(thread) = self.thread.take() else { return };
        for limit in [goodbye, GOODBYE] {
            let began = Instant::now();
            while !thread.is_finished() && began.elapsed() < limit && !self.buffer.is_aborted() {
                thread::sleep(Duration::from_millis(5));
            }
            self.cancel.cancel();
        }
    }
}

impl<P: Protocol> Drop for Sender<P> {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.buffer.abandon();
        self.end(Duration::ZERO);
    }
}

/// Reports a thread that ends unexpectedly as a failure.
struct EndGuard<'a, P: Protocol>(&'a Buffer<P>);

impl<P: Protocol> Drop for EndGuard<'_, P> {
    fn drop(&mut self) {
        if thread::panicking() {
            let message = format!("the thread that sends to {} has ended", self.0.protocol().target());
            self.0.fail(StageError::new(ErrorKind::Internal, message));
        }
    }
}

/// The thread's work: connects, sends, and connects again until there is nothing more to send.
fn send_all<P: Protocol>(buffer: &Buffer<P>, cancel: &CancelToken) {
    let _guard = EndGuard(buffer);
    let mut backoff = Backoff::new(buffer.limits().first_pause);
    while !buffer.is_closed() {
        let failure = match buffer.protocol().connect(cancel) {
            Ok(connection) => {
                buffer.connected();
                let Some(failure) = serve(buffer, connection, &mut backoff, cancel) else { return };
                failure
            }
            Err(failure) => failure,
        };
        let asked = match failure.remedy {
            Remedy::Retry(asked) => asked,
            Remedy::Stop(kind) => return buffer.stop(kind, &failure.words),
            Remedy::StopAtStart if buffer.connections().0 == 0 => return buffer.stop(ErrorKind::Output, &failure.words),
            Remedy::Leave(_) | Remedy::StopAtStart => None,
        };
        if cancel.is_cancelled() || !buffer.note_failure(&failure.words) {
            return;
        }
        let pause = backoff.pause();
        buffer.pause(asked.map_or(pause, |asked| asked.min(LONGEST_ASKED)));
    }
}

/// Sends over one connection until it breaks; `None` when there is nothing more to send.
fn serve<P: Protocol>(buffer: &Buffer<P>, mut connection: P::Connection, backoff: &mut Backoff, cancel: &CancelToken) -> Option<Failure> {
    let protocol = buffer.protocol();
    loop {
        match buffer.next(protocol.batch()) {
            Next::Send(mut messages) => {
                let outcome = protocol.send(&mut connection, &mut messages);
                if buffer.settle(messages, outcome.as_ref().err()) {
                    backoff.reset();
                }
                match outcome {
                    Ok(()) => {}
                    Err(Failure { remedy: Remedy::Leave(_), .. }) if buffer.failure().is_none() => {}
                    Err(Failure { remedy: Remedy::Leave(_), .. }) => return None,
                    Err(failure) => return Some(failure),
                }
            }
            Next::Idle => {
                if let Err(failure) = protocol.idle(&mut connection) {
                    return Some(failure);
                }
            }
            Next::End { is_complete: false } => return None,
            Next::End { is_complete: true } => {
                if let Err(failure) = protocol.finish(connection)
                    && !cancel.is_cancelled()
                {
                    buffer.note_failure(&failure.words);
                }
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
