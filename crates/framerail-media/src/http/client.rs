//! The HTTP client: settings, requests and error mapping.

use std::{
    fs, io,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use ureq::{
    Agent, Body, Error,
    http::{Response, StatusCode, header},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
    unversioned::transport::DefaultConnector,
};

use super::{digest, reach::Reach};
use crate::{
    MediaError,
    ranged::{ContentRange, Failure, Reply},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum time without data from a server before the connection counts as broken.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
const USER_AGENT: &str = concat!("framerail/", env!("CARGO_PKG_VERSION"));

/// Options of every request.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Additional headers, such as `("Authorization", "Bearer ...")`.
    pub headers: Vec<(String, String)>,
    /// User agent; framerail's own when `None`.
    pub user_agent: Option<String>,
    /// CA certificates to trust (PEM) instead of the system's, which `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
    pub ca_file: Option<PathBuf>,
    /// Whether to accept certificates without verification.
    pub insecure: bool,
    /// Whether a public server may refer to private addresses, by redirects or in playlists. A server with a private address always
    /// may.
    pub allow_private: bool,
}

/// FFmpeg's HTTP options whose behaviour this client always has.
const SETTLED: [&str; 10] = [
    "http_persistent",
    "multiple_requests",
    "reconnect",
    "reconnect_at_eof",
    "reconnect_delay_max",
    "reconnect_on_http_error",
    "reconnect_on_network_error",
    "reconnect_streamed",
    "seekable",
    "verifyhost",
];

impl HttpOptions {
    /// Takes FFmpeg's options `headers` (lines), `user_agent` and `ca_file`.
    pub(crate) fn take_from(options: &mut Vec<(String, String)>) -> Result<Self, MediaError> {
        let mut own = Self::default();
        let mut rest = Vec::new();
        for (name, value) in options.drain(..) {
            match name.as_str() {
                "headers" => {
                    for line in value.lines().filter(|line| !line.trim().is_empty()) {
                        own.headers.push(header_of(line)?);
                    }
                }
                "user_agent" => own.user_agent = Some(value),
                "ca_file" => own.ca_file = Some(value.into()),
                "referer" => own.headers.push(("Referer".to_owned(), value)),
                "tls_verify" => own.insecure = value == "0",
                name if SETTLED.contains(&name) => {}
                _ => rest.push((name, value)),
            }
        }
        *options = rest;
        Ok(own)
    }
}

fn header_of(line: &str) -> Result<(String, String), MediaError> {
    // Do not show the line: it may hold a secret.
    let bad = || MediaError::BadOption { name: "headers".into(), reason: "a line is not of the form 'Name: value'".into(), nearest: None };
    let (name, value) = line.split_once(':').ok_or_else(bad)?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// What happens to a response that redirects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirects {
    Followed,
    /// The caller gets it.
    Returned,
}

/// Creates a client, which keeps connections open.
pub(crate) fn agent(options: &HttpOptions, redirects: Redirects) -> Result<Agent, MediaError> {
    let certificates = match &options.ca_file {
        Some(path) => Arc::new(certificates_of(path)?),
        None => system_certificates(),
    };
    let tls = TlsConfig::builder()
        .disable_verification(options.insecure)
        .root_certs(RootCerts::Specific(certificates))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = Agent::config_builder()
        .tls_config(tls.build())
        .user_agent(options.user_agent.as_deref().unwrap_or(USER_AGENT))
        .http_status_as_error(false)
        .timeout_resolve(Some(CONNECT_TIMEOUT))
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(SILENCE_TIMEOUT))
        .timeout_per_write(Some(SILENCE_TIMEOUT));
    let config = match redirects {
        Redirects::Followed => config,
        Redirects::Returned => config.max_redirects(0).max_redirects_will_error(false),
    };
    Ok(Agent::with_parts(config.build(), DefaultConnector::default(), Reach::new(options.allow_private)))
}

fn certificates_of(path: &PathBuf) -> Result<Vec<Certificate<'static>>, MediaError> {
    let bad =
        |reason: String| MediaError::BadOption { name: "ca_file".into(), reason: format!("{}: {reason}", path.display()), nearest: None };
    let text = fs::read(path).map_err(|error| bad(crate::error::system_words(&error)))?;
    let items = parse_pem(&text).filter_map(|item| item.ok());
    let found: Vec<_> = items.filter_map(|item| if let PemItem::Certificate(found) = item { Some(found) } else { None }).collect();
    if found.is_empty() { Err(bad("no certificate in it".into())) } else { Ok(found) }
}

/// The system's trusted certificates. An empty list is not an error yet: plain HTTP needs none, and HTTPS reports it on failure.
fn system_certificates() -> Arc<Vec<Certificate<'static>>> {
    static LOADED: OnceLock<Arc<Vec<Certificate<'static>>>> = OnceLock::new();
    let load = || {
        let loaded = rustls_native_certs::load_native_certs();
        Arc::new(loaded.certs.iter().map(|found| Certificate::from_der(found).to_owned()).collect())
    };
    Arc::clone(LOADED.get_or_init(load))
}

/// A failure while reading a body.
pub(crate) fn failure_of_io(error: io::Error) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => failure_of(error),
        Err(error) => failure_of(Error::Io(error)),
    }
}

/// A failure to send a request.
pub(crate) fn failure_of(error: Error) -> Failure {
    let lasting = |words: String| Failure::lasting(io::Error::other(words));
    match error {
        Error::Io(error) => match error.downcast::<rustls::Error>() {
            Ok(error) => failure_of_tls(&error),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Failure::transient(io::Error::new(error.kind(), "the server closed the connection early"))
            }
            Err(error) => Failure::transient(error),
        },
        Error::Rustls(error) => failure_of_tls(&error),
        Error::Timeout(_) => Failure::transient(io::Error::new(io::ErrorKind::TimedOut, "the server does not respond")),
        Error::ConnectionFailed | Error::Protocol(_) | Error::BodyStalled => Failure::transient(io::Error::other(error.to_string())),
        Error::HostNotFound => Failure::lasting(io::Error::new(io::ErrorKind::HostUnreachable, "unknown host name")),
        Error::Other(error) => match error.downcast::<io::Error>() {
            Ok(error) => Failure::lasting(*error),
            Err(error) => lasting(error.to_string()),
        },
        Error::TooManyRedirects => lasting("the server's redirects form a loop".into()),
        other => lasting(other.to_string()),
    }
}

fn failure_of_tls(error: &rustls::Error) -> Failure {
    let hint = match error {
        rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer) => {
            "; to trust the server, name its issuer's certificate in SSL_CERT_FILE or the option ca_file; insecure=yes accepts any \
                 certificate"
        }
        rustls::Error::InvalidCertificate(_) => "; insecure=yes accepts any certificate",
        _ => "",
    };
    Failure::lasting(io::Error::other(format!("no secure connection, {error}{hint}")))
}

fn failure_of_status(status: StatusCode) -> Failure {
    let words = format!("the server responded with {status}");
    match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => Failure::lasting(io::Error::new(io::ErrorKind::NotFound, words)),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::lasting(io::Error::new(io::ErrorKind::PermissionDenied, words)),
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Failure::lasting(io::Error::other("the server sent no data; the file is empty or was truncated"))
        }
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Failure::transient(io::Error::other(words)),
        _ if status.is_server_error() => Failure::transient(io::Error::other(words)),
        _ => Failure::lasting(io::Error::other(words)),
    }
}

/// Sends one request for bytes `start..end` or the whole file; the reply has the file or a part of it.
pub(super) fn ask(agent: &Agent, url: &str, headers: &[(String, String)], part: Option<(u64, u64)>) -> Result<Reply, Failure> {
    let send = |answer: Option<String>| {
        let mut request = agent.get(url);
        if let Some((start, end)) = part {
            request = request.header(header::RANGE, format!("bytes={start}-{}", end.saturating_sub(1)));
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        if let Some(answer) = answer {
            request = request.header(header::AUTHORIZATION, answer);
        }
        request.call().map_err(failure_of)
    };
    let mut response = send(None)?;
    if response.status() == StatusCode::UNAUTHORIZED
        && let Some(answer) = digest_answer(&response, url)
    {
        response = send(Some(answer))?;
    }
    match response.status() {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Reply {
            is_part: is_part(&response),
            range: range(&response),
            entity_tag: entity_tag(&response),
            body: Box::new(response.into_body().into_reader()),
        }),
        status => Err(failure_of_status(status)),
    }
}

/// The answer to an authentication challenge, if the server sends a supported one.
fn digest_answer(response: &Response<Body>, url: &str) -> Option<String> {
    let url = url.parse().ok()?;
    let challenges = response.headers().get_all(header::WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
    challenges.filter_map(|challenge| digest::answer(challenge, &url)).next()
}

/// Whether a response has only a part of the file.
fn is_part(response: &Response<Body>) -> bool {
    response.status() == StatusCode::PARTIAL_CONTENT
}

/// The `Content-Range` of a response; `None` if it is not a part, or the server does not know the file's size.
fn range(response: &Response<Body>) -> Option<ContentRange> {
    if !is_part(response) {
        return None;
    }
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (part, size) = text.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (start, last, size_bytes) = (first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?, size.trim().parse().ok()?);
    let end = last.checked_add(1)?;
    (start < end && end <= size_bytes).then_some(ContentRange { start, end, size_bytes })
}

/// The entity tag, which identifies a version of a file.
fn entity_tag(response: &Response<Body>) -> Option<String> {
    Some(response.headers().get(header::ETAG)?.to_str().ok()?.to_owned())
}
