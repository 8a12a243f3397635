//! Files on web servers, read in byte ranges, and the files that playlists among them refer to.

use std::{
    collections::VecDeque,
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
    thread,
    time::Duration,
};

use framerail_core::SourceUrl;
use parking_lot::Mutex;
use ureq::{
    Agent, Body,
    http::{Response, Uri},
};

use crate::{
    CustomSource, InputOptions, MediaError,
    custom_io::{OpenSource, SourceFactory},
};

mod client;
mod digest;
mod flow;
mod reach;

pub use client::HttpOptions;
use flow::{Flow, WholeBody};

/// Bytes that are fetched and cached together.
const BLOCK_BYTES: u64 = 1024 * 1024;
/// Maximum number of blocks per request.
const MAX_WINDOW: u64 = 16;
/// Blocks cached for all readers of a source.
const MAX_BLOCKS: usize = 16;
/// Consecutive attempts without data after which a source counts as failed.
const MAX_TRIES: u32 = 5;
/// Pause after the first failed attempt; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A file on a web server.
///
/// It is requested in ranges that grow while reading is sequential (1 to 16 MiB). Blocks of 1 MiB are cached, up to 16 for
/// all readers of the source together. A broken connection is resumed where it stopped, with up to 5 consecutive attempts
/// and growing pauses. A file that changes during reading (another length or entity tag) is an error. A server without
/// range support delivers the file as a stream, which cannot seek.
pub struct HttpSource {
    shared: Arc<Shared>,
}

struct Shared {
    url: String,
    /// The URL as shown in messages.
    shown: String,
    agent: Agent,
    headers: Vec<(String, String)>,
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

impl HttpSource {
    /// Creates a source for a URL. The server is contacted only when the source is opened.
    ///
    /// # Errors
    /// `BadOption` for an invalid header, and for a certificate file that cannot be read.
    pub fn new(url: impl Into<String>, options: &HttpOptions) -> Result<Self, MediaError> {
        Ok(Self::with(url.into(), client::agent(options)?, options.headers.clone()))
    }

    fn with(url: String, agent: Agent, headers: Vec<(String, String)>) -> Self {
        let shown = SourceUrl::new(&url).to_string();
        Self { shared: Arc::new(Shared { url, shown, agent, headers, facts: Mutex::new(None), blocks: Mutex::default() }) }
    }

    /// As [`HttpSource::new`], from FFmpeg's options `headers`, `user_agent` and `ca_file`, which are removed from the container's options.
    pub(crate) fn from_options(options: &mut InputOptions) -> Result<Self, MediaError> {
        let own = HttpOptions::take_from(&mut options.format_options)?;
        let own = HttpOptions { insecure: own.insecure || options.insecure, allow_private: options.allow.network, ..own };
        Self::new(options.source.reveal(), &own)
    }
}

impl SourceFactory for HttpSource {
    fn name(&self) -> &str {
        &self.shared.shown
    }

    fn open(&self) -> io::Result<OpenSource> {
        let facts = self.shared.facts.lock().clone();
        let reader = |flow, size_bytes| {
            let shared = Arc::clone(&self.shared);
            OpenSource::Seekable(Box::new(HttpReader { shared, size_bytes, position: 0, block: None, flow, after: 0, window: 1 }))
        };
        if let Some(facts) = facts {
            return Ok(reader(None, facts.size_bytes));
        }
        let response = self.shared.ask(Some((0, BLOCK_BYTES)))?;
        let Some(range) = client::range(&response).filter(|range| range.start == 0) else {
            let whole = if client::is_part(&response) { self.shared.ask(None)? } else { response };
            return Ok(OpenSource::Stream(Box::new(WholeBody::new(whole))));
        };
        let facts = Facts { size_bytes: range.size_bytes, entity_tag: client::entity_tag(&response) };
        let size_bytes = facts.size_bytes;
        *self.shared.facts.lock() = Some(facts);
        Ok(reader(Some(Flow::new(response, 0, range.end)), size_bytes))
    }

    fn nested(&self, url: &str, range: Option<(u64, u64)>) -> Option<CustomSource> {
        if !SourceUrl::new(url).is_web() {
            return None;
        }
        let is_same_server = server_of(url) == server_of(&self.shared.url);
        // Credentials are only sent to the server that they were given for.
        let goes_along = |(name, _): &&(String, String)| is_same_server || OPEN_HEADERS.iter().any(|open| open.eq_ignore_ascii_case(name));
        let headers = self.shared.headers.iter().filter(goes_along).cloned().collect();
        Some(CustomSource::new(Nested { file: Self::with(url.to_owned(), self.shared.agent.clone(), headers), range }))
    }
}

/// Headers that are sent to every server.
const OPEN_HEADERS: [&str; 5] = ["Accept", "Accept-Language", "Origin", "Referer", "User-Agent"];

/// Scheme, host and port.
fn server_of(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// A file that a playlist refers to: read once, in order.
struct Nested {
    file: HttpSource,
    range: Option<(u64, u64)>,
}

impl SourceFactory for Nested {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn open(&self) -> io::Result<OpenSource> {
        let response = self.file.shared.ask(self.range)?;
        let is_part = client::is_part(&response);
        let mut body = WholeBody::new(response);
        if let Some((start, end)) = self.range {
            if !is_part {
                // The server does not support ranges.
                io::copy(&mut body.by_ref().take(start), &mut io::sink())?;
            }
            return Ok(OpenSource::Stream(Box::new(body.take(end - start))));
        }
        Ok(OpenSource::Stream(Box::new(body)))
    }
}

impl Shared {
    /// Requests bytes `start..end` or the whole file, and retries where that may help.
    fn ask(&self, part: Option<(u64, u64)>) -> io::Result<Response<Body>> {
        let mut tries = 0;
        loop {
            let (error, may_help) = match client::ask(&self.agent, &self.url, &self.headers, part) {
                Ok(response) => return Ok(response),
                Err(failure) => (failure.error, failure.is_transient),
            };
            tries += 1;
            if !may_help || tries == MAX_TRIES {
                return Err(error);
            }
            pause(tries);
        }
    }

    /// Requests bytes of the file that was opened.
    fn ask_on(&self, start: u64, end: u64) -> io::Result<Flow> {
        let response = self.ask(Some((start, end)))?;
        let Some(range) = client::range(&response) else {
            return Err(io::Error::other("the server no longer supports byte ranges"));
        };
        let facts = Facts { size_bytes: range.size_bytes, entity_tag: client::entity_tag(&response) };
        if self.facts.lock().as_ref().is_some_and(|known| *known != facts) {
            return Err(io::Error::other("the file was changed on the server while it was read; open it again"));
        }
        if range.start != start {
            return Err(io::Error::other(format!("the server sent bytes from {} instead of {start}", range.start)));
        }
        Ok(Flow::new(response, start, range.end))
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

fn pause(tries: u32) {
    thread::sleep(FIRST_PAUSE * 2_u32.pow(tries.saturating_sub(1).min(MAX_TRIES)));
}

/// One reader of the file.
struct HttpReader {
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

impl HttpReader {
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
        let mut tries = 0;
        while start + (bytes.len() as u64) < end {
            let position = start + bytes.len() as u64;
            let length = bytes.len();
            let result = self.flow_at(position, number).and_then(|flow| flow.read_to(end, &mut bytes));
            if let Err(failure) = result {
                self.flow = None;
                tries = if bytes.len() > length { 1 } else { tries + 1 };
                if !failure.is_transient || tries >= MAX_TRIES {
                    return Err(failure.error);
                }
                pause(tries);
            }
        }
        self.after = number + 1;
        let bytes: Arc<[u8]> = bytes.into();
        self.shared.keep(number, &bytes);
        Ok(bytes)
    }

    /// The response that continues at a position, or a new one.
    fn flow_at(&mut self, position: u64, number: u64) -> Result<&mut Flow, client::Failure> {
        let flow = match self.flow.take().filter(|flow| flow.is_at(position)) {
            Some(flow) => flow,
            None => {
                let is_sequence = number == self.after && number > 0;
                self.window = if is_sequence { (self.window * 2).min(MAX_WINDOW) } else { 1 };
                let end = (number + self.window).saturating_mul(BLOCK_BYTES).min(self.size_bytes);
                // This has retried several times already.
                self.shared.ask_on(position, end).map_err(client::Failure::lasting)?
            }
        };
        Ok(self.flow.insert(flow))
    }
}

impl Read for HttpReader {
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

impl Seek for HttpReader {
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
