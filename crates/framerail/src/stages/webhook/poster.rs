//! Requests and responses of `webhook`.

use std::{
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use framerail_core::StreamInfo;
use framerail_pipeline::{ConfigError, ErrorKind, Options, StageContext, StageError};
use ureq::{
    Agent, Body, Error,
    http::{HeaderName, HeaderValue, Response, StatusCode, Uri, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::stages::publish::{
    outbox::{Outbox, WhenFull},
    sending::{Carrier, CarrierCounters, EndGuard, Sender},
    tls,
};

const USER_AGENT: &str = concat!("framerail/", env!("CARGO_PKG_VERSION"));
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Maximum pause that a server may request.
const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Posts records to a server.
pub(super) struct Poster {
    url: String,
    /// The server, without secrets of the URL.
    target: String,
    agent: Agent,
    headers: Vec<(HeaderName, HeaderValue)>,
    batch: usize,
    batch_time: Duration,
    /// Prefix of the request keys of this run.
    run: String,
}

/// Why a request did not deliver its records.
struct Failure {
    words: String,
    /// Whether the same request may succeed later.
    is_transient: bool,
    /// The wait that the server requests.
    retry_after: Option<Duration>,
}

impl Poster {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let url = options.text("url").to_owned();
        let target = target(&url)?;
        let certificates = tls::trusted(options.optional_path("ca"))?;
        let certificates: Vec<_> = certificates.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
        let encryption = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .unversioned_rustls_crypto_provider(tls::provider());
        let config = Agent::config_builder()
            .tls_config(encryption.build())
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            // A redirected POST would arrive as a GET, or at another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(options.time("timeout")));
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
        Ok(Self {
            url,
            target,
            agent: config.build().into(),
            headers: headers(options)?,
            batch: options.count("batch"),
            batch_time: options.time("batch_time"),
            run: format!("{:x}-{micros:x}", std::process::id()),
        })
    }

    fn run(&self, outbox: &Arc<Outbox<Vec<u8>>>, counters: &CarrierCounters) {
        let _guard = EndGuard(Arc::clone(outbox));
        let mut number = 0_u64;
        while let Some(records) = outbox.take_batch(self.batch, self.batch_time) {
            number += 1;
            let key = format!("{}-{number}", self.run);
            let body = list(&records);
            let mut pause = FIRST_PAUSE;
            loop {
                let failure = match self.post(&key, &body) {
                    Ok(()) => {
                        outbox.sent(records.len());
                        break;
                    }
                    Err(failure) => failure,
                };
                if !failure.is_transient && !self.refused(&failure, records.len(), outbox, counters) {
                    return;
                }
                if !failure.is_transient {
                    break;
                }
                outbox.trouble(failure.words);
                outbox.pause(failure.retry_after.unwrap_or(pause));
                if outbox.is_closed() {
                    return;
                }
                counters.again.add(1);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Handles a rejection; returns whether to continue.
    fn refused(&self, failure: &Failure, records: usize, outbox: &Outbox<Vec<u8>>, counters: &CarrierCounters) -> bool {
        let message = format!("{} rejects records: {}", self.target, failure.words);
        if outbox.limits().when_full == WhenFull::Wait {
            outbox.fail(StageError::new(ErrorKind::Output, message));
            return false;
        }
        if counters.rejected.as_ref().is_some_and(|rejected| rejected.value() == 0) {
            counters.context.notice(message);
        }
        outbox.rejected(records);
        true
    }

    fn post(&self, key: &str, body: &[u8]) -> Result<(), Failure> {
        let mut request = self.agent.post(&self.url).header(header::CONTENT_TYPE, "application/json").header("Idempotency-Key", key);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send(body).map_err(|error| Failure::of(&error))?;
        if response.status().is_success() { Ok(()) } else { Err(Failure::of_answer(&response)) }
    }
}

/// Records as a JSON list.
fn list(records: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"[".to_vec();
    body.extend(records.join(&b",\n"[..]));
    body.push(b']');
    body
}

/// Scheme, host and port of a URL. A path may contain a key, and stays out of messages.
fn target(url: &str) -> Result<String, ConfigError> {
    let bad = |why: &str| ConfigError::at("url", why).help("write it as http://host:port/path or https://host/path");
    let uri: Uri = url.parse().map_err(|_| bad("not a valid URL"))?;
    match (uri.scheme_str(), uri.host()) {
        (Some(scheme @ ("http" | "https")), Some(host)) => {
            let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            Ok(format!("{scheme}://{host}{port}"))
        }
        _ => Err(bad("not an http or https URL")),
    }
}

fn headers(options: &Options) -> Result<Vec<(HeaderName, HeaderValue)>, ConfigError> {
    let mut headers = Vec::new();
    for (name, value) in options.optional_key_values("headers").unwrap_or_default() {
        let bad = || ConfigError::at("headers", format_args!("`{name}` is not a valid header, or its value is not"));
        headers.push((name.parse().map_err(|_| bad())?, value.parse().map_err(|_| bad())?));
    }
    if let Some(name) = options.optional_text("token_env") {
        let bad = |why: &str| {
            ConfigError::at("token_env", format_args!("the environment variable {name} {why}"))
                .help(format_args!("set it before the run: export {name}=..."))
        };
        let token = std::env::var(name).map_err(|_| bad("is not set"))?;
        let mut value: HeaderValue = format!("Bearer {token}").parse().map_err(|_| bad("holds no token"))?;
        value.set_sensitive(true);
        headers.push((header::AUTHORIZATION, value));
    }
    Ok(headers)
}

impl Failure {
    fn transient(words: impl ToString) -> Self {
        Self { words: words.to_string(), is_transient: true, retry_after: None }
    }

    fn lasting(words: impl ToString) -> Self {
        Self { is_transient: false, ..Self::transient(words) }
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Self::lasting(format!("no secure connection, {error}; name the issuer's certificate with ca="))
            }
            Error::Io(error) => Self::transient(error.to_string().split(" (os error").next().unwrap_or_default().to_lowercase()),
            Error::Rustls(error) => Self::lasting(format!("no secure connection, {error}; name the issuer's certificate with ca=")),
            Error::Timeout(_) => Self::transient("it timed out"),
            Error::HostNotFound => Self::transient("unknown host name"),
            Error::ConnectionFailed | Error::Protocol(_) | Error::BodyStalled => Self::transient(error),
            other => Self::lasting(other),
        }
    }

    fn of_answer(response: &Response<Body>) -> Self {
        let status = response.status();
        let words = format!("it responds with {status}");
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {}
            _ if status.is_server_error() => {}
            _ if status.is_redirection() => return Self::lasting(format!("{words}; give the address that it points to")),
            _ => return Self::lasting(words),
        }
        let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        Self { retry_after: asked.map(Duration::from_secs).map(|asked| asked.min(LONGEST_ASKED)), ..Self::transient(words) }
    }
}

impl Carrier for Poster {
    type Message = Vec<u8>;

    fn target(&self) -> String {
        self.target.clone()
    }

    fn counters(&self, context: &StageContext) -> CarrierCounters {
        let rejected = Some(context.counter("records_rejected"));
        CarrierCounters { again: context.counter("retries"), rejected, context: context.clone() }
    }

    fn message(&self, _: &StreamInfo, record: Vec<u8>) -> Vec<u8> {
        record
    }

    fn start(self: Arc<Self>, outbox: Arc<Outbox<Vec<u8>>>, counters: CarrierCounters) -> Result<Sender, StageError> {
        let spawned = thread::Builder::new().name("webhook".into()).spawn(move || self.run(&outbox, &counters));
        let thread =
            spawned.map_err(|error| StageError::new(ErrorKind::Resource, format!("cannot start a thread for webhooks: {error}")))?;
        // The outbox wakes it.
        Ok(Sender { thread, wake: Box::new(|| {}) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_show_no_secrets() {
        assert_eq!(target("https://name:secret@host:8443/hooks/key?token=1").expect("a URL"), "https://host:8443");
        assert_eq!(target("http://127.0.0.1/x").expect("a URL"), "http://127.0.0.1");
        for wrong in ["host/path", "ftp://host/x", "", "http://"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn records_become_a_list() {
        assert_eq!(list(&[b"{\"a\":1}".to_vec(), b"{}".to_vec()]), b"[{\"a\":1},\n{}]");
        assert_eq!(list(&[]), b"[]");
    }
}
