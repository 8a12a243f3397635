//! Lists of records, one per request.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use framerail_core::{CancelToken, StreamInfo};
use framerail_pipeline::{ConfigError, Options};
use ureq::http::{HeaderName, HeaderValue, header};

use crate::{
    posting::{HttpPoster, target},
    sender::{Batch, Failure, Message, Protocol},
    stages::publish::{
        access::{secret, trusted},
        records::RecordProtocol,
    },
};

/// Maximum size of a request.
const REQUEST_BYTES: usize = 16_000_000;

/// Posts records to a server.
pub(super) struct Poster {
    url: String,
    /// The server, without secrets of the URL.
    target: String,
    http: HttpPoster,
    batch: usize,
    batch_time: Duration,
    /// Prefix of the request keys of this run.
    run: String,
    /// Records so far.
    count: AtomicU64,
}

/// A record and its number.
pub(super) struct Numbered(u64, Vec<u8>);

impl Message for Numbered {
    fn bytes(&self) -> usize {
        self.1.len() + 2
    }
}

impl Poster {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let url = options.text("url").to_owned();
        let bad = |why| ConfigError::at("url", why).help("write it as http://host:port/path or https://host/path");
        let certificates = trusted(options.optional_path("ca"))?;
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
        Ok(Self {
            target: target(&url).map_err(bad)?,
            url,
            http: HttpPoster::new(&certificates, headers(options)?, options.time("timeout")),
            batch: options.count("batch"),
            batch_time: options.time("batch_time"),
            run: format!("{:x}-{micros:x}", std::process::id()),
            count: AtomicU64::new(0),
        })
    }
}

/// Records as a JSON list.
fn list<'a>(records: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut body = b"[".to_vec();
    body.extend(records.collect::<Vec<_>>().join(&b",\n"[..]));
    body.push(b']');
    body
}

fn headers(options: &Options) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let mut headers = Vec::new();
    for (name, value) in options.optional_key_values("headers").unwrap_or_default() {
        let bad = || ConfigError::at("headers", format_args!("`{name}` is not a valid header, or its value is not"));
        headers.push((name.parse().map_err(|_| bad())?, value.parse().map_err(|_| bad())?));
    }
    if let Some(token) = secret(options, "token_env")? {
        let bad = |_| ConfigError::at("token_env", "the environment variable holds no valid token");
        let mut value: HeaderValue = format!("Bearer {token}").parse().map_err(bad)?;
        value.set_sensitive(true);
        headers.push((header::AUTHORIZATION, value));
    }
    Ok(headers)
}

impl Protocol for Poster {
    type Message = Numbered;
    /// The HTTP library manages connections.
    type Connection = ();

    fn target(&self) -> String {
        self.target.clone()
    }

    fn batch(&self) -> Batch {
        Batch { messages: self.batch, bytes: REQUEST_BYTES, wait: self.batch_time }
    }

    fn connect(&self, _: &CancelToken) -> Result<(), Failure> {
        Ok(())
    }

    fn send(&self, (): &mut (), messages: &mut Vec<Numbered>) -> Result<(), Failure> {
        let Some(Numbered(first, _)) = messages.first() else { return Ok(()) };
        // The same records have the same key.
        let key = format!("{}-{first}-{}", self.run, messages.len());
        let body = list(messages.iter().map(|Numbered(_, record)| record.as_slice()));
        self.http.post(&self.url, "application/json", &[("Idempotency-Key", &key)], &body)?;
        messages.clear();
        Ok(())
    }
}

impl RecordProtocol for Poster {
    const NAME: &'static str = "webhook";
    const CONNECTS: bool = false;

    fn message(&self, _: &StreamInfo, record: Vec<u8>) -> Numbered {
        Numbered(self.count.fetch_add(1, Ordering::Relaxed), record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_become_a_list() {
        assert_eq!(list([&b"{\"a\":1}"[..], b"{}"].into_iter()), b"[{\"a\":1},\n{}]");
        assert_eq!(list(std::iter::empty()), b"[]");
    }
}
