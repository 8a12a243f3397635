//! Remote files, read in byte ranges through a cache of blocks.

use std::{
    collections::VecDeque,
    io::{self, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use parking_lot::Mutex;

use crate::custom_io::OpenSource;

/// Bytes that are fetched and cached together.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// Maximum number of blocks per request.
const MAX_WINDOW: u64 = 16;
/// Blocks cached for all readers of a source.
const MAX_BLOCKS: usize = 16;
/// Consecutive attempts without data after which a source counts as failed.
pub(crate) const MAX_TRIES: u32 = 5;
/// Pause after the first failed attempt; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// What was requested from servers; clones share the counts.
#[derive(Clone, Debug, Default)]
pub struct FetchCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
    retries: AtomicU64,
}

/// The values of [`FetchCounts`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Requests sent, repeated ones included.
    pub requests: u64,
    /// Bytes of files that arrived.
    pub bytes: u64,
    /// Requests repeated after a failure that may pass.
    pub retries: u64,
}

impl FetchCounts {
    /// The counts so far.
    pub fn now(&self) -> Fetched {
        let at = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Fetched { requests: at(&self.0.requests), bytes: at(&self.0.bytes), retries: at(&self.0.retries) }
    }

    fn count(&self, counter: impl Fn(&Counts) -> &AtomicU64, number: u64) {
        counter(&self.0).fetch_add(number, Ordering::Relaxed);
    }
}

/// A request that failed.
pub(crate) struct Failure {
    pub(crate) error: io::Error,
    /// Whether the same request may succeed later.
    pub(crate) is_transient: bool,
}

impl Failure {
    pub(crate) fn transient(error: io::Error) -> Self {
        Self { error, is_transient: true }
    }

    pub(crate) fn lasting(error: io::Error) -> Self {
        Self { error, is_transient: false }
    }
}

/// The part of a file that a response contains.
pub(crate) struct ContentRange {
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// Size of the whole file.
    pub(crate) size_bytes: u64,
}

/// A response with the file or a part of it.
pub(crate) struct Reply {
    /// Whether it has only a part of the file.
    pub(crate) is_part: bool,
    /// The part; `None` if it is the whole file, or its size is unknown.
    pub(crate) range: Option<ContentRange>,
    /// Identifies a version of the file.
    pub(crate) entity_tag: Option<String>,
    pub(crate) body: Box<dyn Read + Send>,
}

/// Where the bytes of one file come from.
pub(crate) trait Ranges: Send + Sync {
    /// The URL as shown in messages.
    fn shown(&self) -> &str;

    /// Requests bytes `start..end`, or the whole file; once.
    fn ask(&self, part: Option<(u64, u64)>) -> Result<Reply, Failure>;

    /// The error of a failure while reading a body.
    fn body_failure(&self, error: io::Error) -> Failure;
}

/// A remote file.
///
/// It is requested in ranges that grow while reading is sequential (1 to 16 MiB). Blocks of 1 MiB are cached, up to 16 for
/// all readers of the source together. A broken connection is resumed where it stopped, with up to 5 consecutive attempts
/// and growing pauses. A file that changes during reading (another length or entity tag) is an error. A server without
/// range support delivers the file as a stream, which cannot seek.
#[derive(Clone)]
pub(crate) struct RangedFile(Arc<Shared>);

struct Shared {
    origin: Box<dyn Ranges>,
    counts: FetchCounts,
    /// Known after the server has answered a range request.
    facts: Mutex<Option<Facts>>,
    /// Least recently used first.
    blocks: Mutex<VecDeque<(u64, Arc<[u8]>)>>,
}

/// Properties that must not change while a file is read.
#[derive(Clone, PartialEq, Eq)]
struct Facts {
    size_bytes: u64,
    entity_tag: Option<String>,
}

impl RangedFile {
    /// A file that is requested only when it is opened.
    pub(crate) fn new(origin: impl Ranges + 'static, counts: FetchCounts) -> Self {
        Self(Arc::new(Shared { origin: Box::new(origin), counts, facts: Mutex::new(None), blocks: Mutex::default() }))
    }

    pub(crate) fn shown(&self) -> &str {
        self.0.origin.shown()
    }

    pub(crate) fn counts(&self) -> &FetchCounts {
        &self.0.counts
    }

    /// Opens it at its first byte.
    pub(crate) fn open(&self) -> io::Result<OpenSource> {
        let facts = self.0.facts.lock().clone();
        let reader = |flow, size_bytes| {
            let shared = Arc::clone(&self.0);
            OpenSource::Seekable(Box::new(RangedReader { shared, size_bytes, position: 0, block: None, flow, after: 0, window: 1 }))
        };
        if let Some(facts) = facts {
            return Ok(reader(None, facts.size_bytes));
        }
        let reply = self.ask(Some((0, BLOCK_BYTES)))?;
        let Some(range) = reply.range.as_ref().filter(|range| range.start == 0) else {
            let whole = if reply.is_part { self.ask(None)? } else { reply };
            return Ok(OpenSource::Stream(Box::new(self.whole(whole))));
        };
        let (size_bytes, end) = (range.size_bytes, range.end);
        *self.0.facts.lock() = Some(Facts { size_bytes, entity_tag: reply.entity_tag.clone() });
        Ok(reader(Some(Flow::new(reply, 0, end)), size_bytes))
    }

    /// The body of a reply that is read once, in order; its errors are worded for users.
    pub(crate) fn whole(&self, reply: Reply) -> impl Read + Send + 'static {
        WholeBody { body: reply.body, shared: Arc::clone(&self.0) }
    }

    /// Requests bytes `start..end` or the whole file, and retries where that may help.
    pub(crate) fn ask(&self, part: Option<(u64, u64)>) -> io::Result<Reply> {
        self.0.ask(part)
    }
}

impl Shared {
    fn ask(&self, part: Option<(u64, u64)>) -> io::Result<Reply> {
        let mut reply = retried(&self.counts, || self.origin.ask(part))?;
        let counts = self.counts.clone();
        reply.body = Box::new(Counted { body: reply.body, counts });
        Ok(reply)
    }

    /// Requests bytes of the file that was opened.
    fn ask_on(&self, start: u64, end: u64) -> io::Result<Flow> {
        let reply = self.ask(Some((start, end)))?;
        let Some(range) = &reply.range else {
            return Err(io::Error::other("the server no longer supports byte ranges"));
        };
        let facts = Facts { size_bytes: range.size_bytes, entity_tag: reply.entity_tag.clone() };
        if self.facts.lock().as_ref().is_some_and(|known| *known != facts) {
            return Err(io::Error::other("the file was changed on the server while it was read; open it again"));
        }
        if range.start != start {
            return Err(io::Error::other(format!("the server sent bytes from {} instead of {start}", range.start)));
        }
        let end = range.end;
        Ok(Flow::new(reply, start, end))
    }

    fn kept(&self, number: u64) -> Option<Arc<[u8]>> {
        let mut blocks = self.blocks.lock();
        let place = blocks.iter().position(|(kept, _)| *kept == number)?;
        let block = blocks.remove(place)?;
        let bytes = Arc::clone(&block.1);
        blocks.push_back(block);
        Some(bytes)
    }

    fn keep(&self, number: u64, bytes: &Arc<[u8]>) {
        let mut blocks = self.blocks.lock();
        blocks.retain(|(kept, _)| *kept != number);
        if blocks.len() >= MAX_BLOCKS {
            blocks.pop_front();
        }
        blocks.push_back((number, Arc::clone(bytes)));
    }
}

/// Repeats a request that fails for a reason that may pass, up to [`MAX_TRIES`] times with growing pauses.
pub(crate) fn retried<T>(counts: &FetchCounts, mut request: impl FnMut() -> Result<T, Failure>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        counts.count(|counts| &counts.requests, 1);
        let failure = match request() {
            Ok(reply) => return Ok(reply),
            Err(failure) => failure,
        };
        tries += 1;
        if !failure.is_transient || tries == MAX_TRIES {
            return Err(failure.error);
        }
        counts.count(|counts| &counts.retries, 1);
        pause(tries);
    }
}

fn pause(tries: u32) {
    thread::sleep(FIRST_PAUSE * 2_u32.pow(tries.saturating_sub(1).min(MAX_TRIES)));
}

struct Counted {
    body: Box<dyn Read + Send>,
    counts: FetchCounts,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.counts.count(|counts| &counts.bytes, count as u64);
        Ok(count)
    }
}

struct WholeBody {
    body: Box<dyn Read + Send>,
    shared: Arc<Shared>,
}

impl Read for WholeBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.body.read(buffer).map_err(|error| self.shared.origin.body_failure(error).error)
    }
}

/// The body of one response: bytes of a file as they arrive.
struct Flow {
    body: Box<dyn Read + Send>,
    position: u64,
    end: u64,
}

impl Flow {
    /// The body of a response that promises bytes `position..end`.
    fn new(reply: Reply, position: u64, end: u64) -> Self {
        Self { body: reply.body, position, end }
    }

    /// Whether the next byte is the one at this position.
    fn is_at(&self, position: u64) -> bool {
        self.position == position && position < self.end
    }

    /// Reads up to a position, or to the end of the response.
    fn read_to(&mut self, end: u64, bytes: &mut Vec<u8>, failure: impl FnOnce(io::Error) -> Failure) -> Result<(), Failure> {
        let wanted = end.min(self.end) - self.position;
        let before = bytes.len();
        let result = (&mut self.body).take(wanted).read_to_end(bytes);
        let count = (bytes.len() - before) as u64;
        self.position += count;
        if result.is_ok() && self.position == self.end {
            // Reading past the end lets the connection be reused for the next request.
            let _ = self.body.read(&mut [0]);
        }
        match result {
            Ok(_) if count == wanted => Ok(()),
            Ok(_) => Err(Failure::transient(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended early"))),
            Err(error) => Err(failure(error)),
        }
    }
}

/// One reader of the file.
struct RangedReader {
    shared: Arc<Shared>,
    size_bytes: u64,
    position: u64,
    /// The block that was read last.
    block: Option<(u64, Arc<[u8]>)>,
    /// A response with bytes left to read.
    flow: Option<Flow>,
    /// The block after the one that was fetched last.
    after: u64,
    /// Blocks per request.
    window: u64,
}

impl RangedReader {
    fn block(&mut self, number: u64) -> io::Result<Arc<[u8]>> {
        if let Some((_, bytes)) = self.block.as_ref().filter(|(own, _)| *own == number) {
            return Ok(Arc::clone(bytes));
        }
        let bytes = match self.shared.kept(number) {
            Some(bytes) => bytes,
            None => self.fetch(number)?,
        };
        self.block = Some((number, Arc::clone(&bytes)));
        Ok(bytes)
    }

    fn fetch(&mut self, number: u64) -> io::Result<Arc<[u8]>> {
        let start = number.saturating_mul(BLOCK_BYTES);
        let end = start.saturating_add(BLOCK_BYTES).min(self.size_bytes);
        let mut bytes = Vec::with_capacity(usize::try_from(end - start).unwrap_or(0));
        let shared = Arc::clone(&self.shared);
        let mut tries = 0;
        while start + (bytes.len() as u64) < end {
            let position = start + bytes.len() as u64;
            let length = bytes.len();
            let result =
                self.flow_at(position, number).and_then(|flow| flow.read_to(end, &mut bytes, |error| shared.origin.body_failure(error)));
            if let Err(failure) = result {
                self.flow = None;
                tries = if bytes.len() > length { 1 } else { tries + 1 };
                if !failure.is_transient || tries >= MAX_TRIES {
                    return Err(failure.error);
                }
                shared.counts.count(|counts| &counts.retries, 1);
                pause(tries);
            }
        }
        self.after = number + 1;
        let bytes: Arc<[u8]> = bytes.into();
        self.shared.keep(number, &bytes);
        Ok(bytes)
    }

    /// The response that continues at a position, or a new one.
    fn flow_at(&mut self, position: u64, number: u64) -> Result<&mut Flow, Failure> {
        let flow = match self.flow.take().filter(|flow| flow.is_at(position)) {
            Some(flow) => flow,
            None => {
                let is_sequence = number == self.after && number > 0;
                self.window = if is_sequence { (self.window * 2).min(MAX_WINDOW) } else { 1 };
                let end = (number + self.window).saturating_mul(BLOCK_BYTES).min(self.size_bytes);
                // This has retried several times already.
                self.shared.ask_on(position, end).map_err(Failure::lasting)?
            }
        };
        Ok(self.flow.insert(flow))
    }
}

impl Read for RangedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size_bytes || buffer.is_empty() {
            return Ok(0);
        }
        let number = self.position / BLOCK_BYTES;
        let block = self.block(number)?;
        let rest = usize::try_from(self.position % BLOCK_BYTES).ok().and_then(|place| block.get(place..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(from), Some(to)) = (rest.get(..count), buffer.get_mut(..count)) {
            to.copy_from_slice(from);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for RangedReader {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let position = match target {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size_bytes.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
