//! Files on web servers, read in byte ranges, and the files that playlists among them refer to.

use std::io::{self, Read};

use framerail_core::SourceUrl;
use ureq::{Agent, http::Uri};

use crate::{
    CustomSource, InputOptions, MediaError,
    custom_io::{OpenSource, SourceFactory},
    ranged::{Failure, FetchCounts, RangedFile, Ranges, Reply},
};

pub(crate) mod client;
mod digest;
mod reach;

pub use client::HttpOptions;
use client::Redirects;

/// A file on a web server, which is requested in ranges and cached in blocks. A server without range support delivers it as a stream,
/// which cannot seek.
pub struct HttpSource {
    file: RangedFile,
    url: String,
    agent: Agent,
    headers: Vec<(String, String)>,
}

/// Requests to one URL.
struct HttpFile {
    url: String,
    /// The URL as shown in messages.
    shown: String,
    agent: Agent,
    headers: Vec<(String, String)>,
}

impl Ranges for HttpFile {
    fn shown(&self) -> &str {
        &self.shown
    }

    fn ask(&self, part: Option<(u64, u64)>) -> Result<Reply, Failure> {
        let reply = client::ask(&self.agent, &self.url, &self.headers, part);
        // Hugging Face responds so for repositories that do not exist, too.
        reply.map_err(|Failure { error, is_transient }| match error.kind() {
            io::ErrorKind::PermissionDenied if self.shown.starts_with("hf://") => {
                let words = format!("{error}; check the name, set HF_TOKEN, and accept the repository's terms on its page");
                Failure::lasting(io::Error::new(io::ErrorKind::PermissionDenied, words))
            }
            _ => Failure { error, is_transient },
        })
    }

    fn body_failure(&self, error: io::Error) -> Failure {
        client::failure_of_io(error)
    }
}

impl HttpSource {
    /// Creates a source for a URL. The server is contacted only when the source is opened.
    ///
    /// # Errors
    /// `BadOption` for an invalid header, and for a certificate file that cannot be read.
    pub fn new(url: impl Into<String>, options: &HttpOptions) -> Result<Self, MediaError> {
        let url = url.into();
        let shown = SourceUrl::new(&url).to_string();
        Ok(Self::with(url, shown, client::agent(options, Redirects::Followed)?, options.headers.clone(), FetchCounts::default()))
    }

    pub(crate) fn with(url: String, shown: String, agent: Agent, headers: Vec<(String, String)>, counts: FetchCounts) -> Self {
        let file = HttpFile { url: url.clone(), shown, agent: agent.clone(), headers: headers.clone() };
        Self { file: RangedFile::new(file, counts), url, agent, headers }
    }

    /// As [`HttpSource::new`], from FFmpeg's options `headers`, `user_agent` and `ca_file`, which are removed from the container's options.
    pub(crate) fn from_options(options: &mut InputOptions) -> Result<Self, MediaError> {
        let own = HttpOptions::take_from(&mut options.format_options)?;
        let own = HttpOptions { insecure: own.insecure || options.insecure, allow_private: options.allow.network, ..own };
        let (url, shown) = (options.source.reveal().to_owned(), options.source.to_string());
        Ok(Self::with(url, shown, client::agent(&own, Redirects::Followed)?, own.headers, options.fetched.clone()))
    }
}

impl SourceFactory for HttpSource {
    fn name(&self) -> &str {
        self.file.shown()
    }

    fn open(&self) -> io::Result<OpenSource> {
        self.file.open()
    }

    fn nested(&self, url: &str, range: Option<(u64, u64)>) -> Option<CustomSource> {
        if !SourceUrl::new(url).is_web() {
            return None;
        }
        let is_same_server = server_of(url) == server_of(&self.url);
        // Credentials are only sent to the server that they were given for.
        let goes_along = |(name, _): &&(String, String)| is_same_server || OPEN_HEADERS.iter().any(|open| open.eq_ignore_ascii_case(name));
        let headers = self.headers.iter().filter(goes_along).cloned().collect();
        let (agent, counts) = (self.agent.clone(), self.file.counts().clone());
        let file = Self::with(url.to_owned(), SourceUrl::new(url).to_string(), agent, headers, counts).file;
        Some(CustomSource::new(NestedFile { file, range }))
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
pub(crate) struct NestedFile {
    pub(crate) file: RangedFile,
    pub(crate) range: Option<(u64, u64)>,
}

impl SourceFactory for NestedFile {
    fn name(&self) -> &str {
        self.file.shown()
    }

    fn open(&self) -> io::Result<OpenSource> {
        let reply = self.file.ask(self.range)?;
        let is_part = reply.is_part;
        let mut body = self.file.whole(reply);
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
