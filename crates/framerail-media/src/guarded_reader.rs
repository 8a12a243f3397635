//! Reads a custom source within the limits of an input: cancelling and the timeout end every wait, and panics are
//! converted to errors.

use std::{
    any::Any,
    io::{self, Read, Seek, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{
    custom_io::{CustomSource, OpenSource, SourceFactory},
    interrupt::Interrupt,
};

/// Maximum time between two checks of the interrupt state.
const POLL: Duration = Duration::from_millis(50);
/// Pause after a source reported that no data is available yet.
const NOTHING_YET: Duration = Duration::from_millis(5);
/// Maximum number of bytes per request to the reading thread.
const MAX_READ_BYTES: usize = 1024 * 1024;

/// An opened custom source.
pub(crate) struct GuardedReader {
    owner: Owner,
    interrupt: Arc<Interrupt>,
    is_seekable: bool,
    size_bytes: Option<u64>,
    /// Position to return to before the next read, after finding the length moved it.
    return_to: Option<u64>,
}

/// Where the source is read: on this thread, or on a separate one.
enum Owner {
    Own(Opened),
    Thread(Worker),
}

impl GuardedReader {
    /// Opens a source.
    ///
    /// # Errors
    /// The source's own; `TimedOut` if the interrupt state ended the wait.
    pub(crate) fn open(source: &CustomSource, interrupt: Arc<Interrupt>) -> io::Result<Self> {
        let factory = Arc::clone(source.factory());
        let size_bytes = factory.size_bytes();
        let (owner, is_seekable) = if factory.may_wait() {
            let (worker, is_seekable) = Worker::start(factory, &interrupt)?;
            (Owner::Thread(worker), is_seekable)
        } else {
            let opened = Opened::open(&*factory)?;
            let is_seekable = opened.is_seekable();
            (Owner::Own(opened), is_seekable)
        };
        Ok(Self { owner, interrupt, is_seekable, size_bytes, return_to: None })
    }

    /// Whether the interrupt state caused the last failure.
    pub(crate) fn is_due(&self) -> bool {
        self.interrupt.is_due()
    }

    pub(crate) fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    /// Size in bytes; keeps the position.
    pub(crate) fn size_bytes(&mut self) -> io::Result<u64> {
        if let Some(size) = self.size_bytes {
            return Ok(size);
        }
        let position = self.stream_position()?;
        let size = self.seek_once(SeekFrom::End(0))?;
        self.return_to = Some(position);
        self.size_bytes = Some(size);
        Ok(size)
    }

    fn go_back(&mut self) -> io::Result<()> {
        if let Some(position) = self.return_to {
            self.seek_once(SeekFrom::Start(position))?;
            self.return_to = None;
        }
        Ok(())
    }

    fn seek_once(&mut self, target: SeekFrom) -> io::Result<u64> {
        match &mut self.owner {
            Owner::Own(opened) => opened.seek(target),
            Owner::Thread(worker) => worker.seek(target, &self.interrupt),
        }
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.owner {
            Owner::Own(opened) => opened.read(buffer),
            Owner::Thread(worker) => worker.read(buffer, &self.interrupt),
        }
    }
}

impl Read for GuardedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_back()?;
        loop {
            if self.interrupt.is_due() {
                return Err(interrupted());
            }
            match self.read_once(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(NOTHING_YET),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => {
                    // Each arrival restarts the timeout.
                    self.interrupt.start_clock();
                    return Ok(count);
                }
                error => return error,
            }
        }
    }
}

impl Seek for GuardedReader {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        if matches!(target, SeekFrom::Current(_)) {
            self.go_back()?;
        }
        let position = self.seek_once(target)?;
        self.return_to = None;
        Ok(position)
    }
}

/// The error of a wait that the interrupt state ended; the caller asks that state for the reason.
fn interrupted() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "timed out")
}

/// A source's value that converts panics and contract violations to errors.
struct Opened {
    source: OpenSource,
    /// Set after a panic, since the value's state is then unknown.
    panicked: Option<String>,
}

impl Opened {
    fn open(factory: &dyn SourceFactory) -> io::Result<Self> {
        match catch_unwind(AssertUnwindSafe(|| factory.open())) {
            Ok(source) => Ok(Self { source: source?, panicked: None }),
            Err(panic) => Err(io::Error::other(panic_words(&*panic))),
        }
    }

    fn is_seekable(&self) -> bool {
        matches!(self.source, OpenSource::Seekable(_))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len();
        let count = self.touch(|source| match source {
            OpenSource::Seekable(value) => value.read(buffer),
            OpenSource::Stream(value) => value.read(buffer),
        })?;
        if count > room {
            return Err(io::Error::other(format!("the source reports {count} bytes for a buffer of {room}")));
        }
        Ok(count)
    }

    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.touch(|source| match source {
            OpenSource::Seekable(value) => value.seek(target),
            OpenSource::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
        })
    }

    fn touch<T>(&mut self, work: impl FnOnce(&mut OpenSource) -> io::Result<T>) -> io::Result<T> {
        if let Some(words) = &self.panicked {
            return Err(io::Error::other(words.clone()));
        }
        catch_unwind(AssertUnwindSafe(|| work(&mut self.source))).unwrap_or_else(|panic| {
            let words = panic_words(&*panic);
            self.panicked = Some(words.clone());
            Err(io::Error::other(words))
        })
    }
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().map(|words| (*words).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("the source panicked: {}", words.as_deref().unwrap_or("no message"))
}

enum Request {
    Read(Vec<u8>, usize),
    Seek(SeekFrom),
}

enum Reply {
    Opened(io::Result<bool>),
    Read(Vec<u8>, io::Result<usize>),
    Sought(io::Result<u64>),
}

/// A thread that uses the source, so that waiting for it can be interrupted.
struct Worker {
    requests: Option<SyncSender<Request>>,
    replies: Receiver<Reply>,
    thread: Option<JoinHandle<()>>,
    /// Read buffer, sent to the thread and back.
    buffer: Vec<u8>,
    /// A request was abandoned, and its reply may still arrive.
    is_lost: bool,
}

impl Worker {
    fn start(factory: Arc<dyn SourceFactory>, interrupt: &Interrupt) -> io::Result<(Self, bool)> {
        let (requests, inbox) = sync_channel(1);
        let (outbox, replies) = sync_channel(1);
        let thread = std::thread::Builder::new().name("source".into()).spawn(move || serve(&*factory, &inbox, &outbox))?;
        let mut worker = Self { requests: Some(requests), replies, thread: Some(thread), buffer: Vec::new(), is_lost: false };
        match worker.wait(interrupt)? {
            Reply::Opened(is_seekable) => is_seekable.map(|is_seekable| (worker, is_seekable)),
            _ => Err(gone()),
        }
    }

    fn read(&mut self, buffer: &mut [u8], interrupt: &Interrupt) -> io::Result<usize> {
        let room = buffer.len().min(MAX_READ_BYTES);
        let own = std::mem::take(&mut self.buffer);
        let Reply::Read(bytes, count) = self.ask(Request::Read(own, room), interrupt)? else { return Err(gone()) };
        if let (Ok(count), Some(room)) = (&count, buffer.get_mut(..room))
            && let (Some(from), Some(to)) = (bytes.get(..*count), room.get_mut(..*count))
        {
            to.copy_from_slice(from);
        }
        self.buffer = bytes;
        count
    }

    fn seek(&mut self, target: SeekFrom, interrupt: &Interrupt) -> io::Result<u64> {
        let Reply::Sought(position) = self.ask(Request::Seek(target), interrupt)? else { return Err(gone()) };
        position
    }

    fn ask(&mut self, request: Request, interrupt: &Interrupt) -> io::Result<Reply> {
        if self.is_lost {
            return Err(io::Error::other("the source timed out before; open it again"));
        }
        self.requests.as_ref().and_then(|requests| requests.send(request).ok()).ok_or_else(gone)?;
        self.wait(interrupt)
    }

    fn wait(&mut self, interrupt: &Interrupt) -> io::Result<Reply> {
        loop {
            match self.replies.recv_timeout(POLL) {
                Ok(reply) => return Ok(reply),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) if interrupt.is_due() => {
                    self.is_lost = true;
                    return Err(interrupted());
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        // A thread that is stuck in the source ends when the source returns; joining it could block forever.
        if let Some(thread) = self.thread.take().filter(|_| !self.is_lost) {
            let _ = thread.join();
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("the thread that reads the source has ended")
}

fn serve(factory: &dyn SourceFactory, inbox: &Receiver<Request>, outbox: &SyncSender<Reply>) {
    let mut opened = match Opened::open(factory) {
        Ok(opened) => opened,
        Err(error) => {
            // The receiver may be gone.
            let _ = outbox.send(Reply::Opened(Err(error)));
            return;
        }
    };
    let mut is_wanted = outbox.send(Reply::Opened(Ok(opened.is_seekable()))).is_ok();
    while is_wanted && let Ok(request) = inbox.recv() {
        let reply = match request {
            Request::Read(mut buffer, room) => {
                buffer.resize(room, 0);
                let count = opened.read(&mut buffer);
                Reply::Read(buffer, count)
            }
            Request::Seek(target) => Reply::Sought(opened.seek(target)),
        };
        is_wanted = outbox.send(reply).is_ok();
    }
    // Dropping runs the source's code too.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(opened)));
}

#[cfg(test)]
mod tests {
    use framerail_core::CancelToken;

    use super::*;

    /// Blocks until cancelled.
    struct Stuck(CancelToken);

    impl Read for Stuck {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            while !self.0.is_cancelled() {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(0)
        }
    }

    /// Returns interrupted, would-block and one byte in turn.
    struct Fitful(u8);

    impl Read for Fitful {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 % 3 {
                1 => Err(io::ErrorKind::Interrupted.into()),
                2 => Err(io::ErrorKind::WouldBlock.into()),
                _ => {
                    buffer[0] = self.0;
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn a_read_that_never_returns_is_left_alone() {
        let release = CancelToken::default();
        let interrupt = Interrupt::new(CancelToken::default(), Some(Duration::from_millis(20)));
        let source = CustomSource::stream("stuck", Stuck(release.clone()));
        let mut reader = GuardedReader::open(&source, Arc::clone(&interrupt)).expect("opens");
        interrupt.start_clock();
        for _ in 0..2 {
            assert!(reader.read(&mut [0; 4]).is_err());
            assert!(matches!(interrupt.reason("stuck"), Some(crate::MediaError::Timeout { .. })));
        }
        drop(reader);
        release.cancel();
    }

    #[test]
    fn fitful_sources_are_asked_again() {
        let source = CustomSource::stream("fitful", Fitful(0));
        let mut reader = GuardedReader::open(&source, Interrupt::new(CancelToken::default(), None)).expect("opens");
        let mut bytes = [0; 5];
        reader.read_exact(&mut bytes).expect("read");
        assert_eq!(bytes, [3, 6, 9, 12, 15]);
        assert_eq!(reader.seek(SeekFrom::Start(0)).err().map(|error| error.kind()), Some(io::ErrorKind::Unsupported));
    }
}
