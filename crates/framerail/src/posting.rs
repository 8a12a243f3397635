//! Requests to HTTP servers, and the meaning of their responses.

use std::{fmt::Display, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use ureq::{
    Agent, Body, Error,
    http::{HeaderName, HeaderValue, Response, StatusCode, Uri, header},
    tls::{Certificate, RootCerts, TlsConfig},
};

use crate::sender::{Failure, Remedy, plain};

const USER_AGENT: &str = concat!("framerail/", env!("CARGO_PKG_VERSION"));

/// Posts to one server.
pub(crate) struct HttpPoster {
    agent: Agent,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpPoster {
    pub(crate) fn new(trusted: &[CertificateDer<'static>], headers: Vec<(HeaderName, HeaderValue)>, timeout: Duration) -> Self {
        let certificates: Vec<_> = trusted.iter().map(|found| Certificate::from_der(found).to_owned()).collect();
        let encryption = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(certificates)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let config = Agent::config_builder()
            .tls_config(encryption.build())
            .user_agent(USER_AGENT)
            .http_status_as_error(false)
            // A redirected POST would arrive as a GET, or at another host.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(timeout));
        Self { agent: config.build().into(), headers }
    }

    /// Posts a body. A refusal applies to all messages in it.
    pub(crate) fn post(&self, url: &str, content_type: &str, more: &[(&str, &str)], body: &[u8]) -> Result<(), Failure> {
        let mut request = self.agent.post(url).header(header::CONTENT_TYPE, content_type);
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let response = request.send(body).map_err(|error| failure(&error))?;
        if response.status().is_success() { Ok(()) } else { Err(of_answer(&response)) }
    }
}

/// Scheme, host and port of a URL, or the reason why there are none. A path may contain a key, so it is not shown.
pub(crate) fn target(url: &str) -> Result<String, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "not a valid URL")?;
    match (uri.scheme_str(), uri.host()) {
        (Some(scheme @ ("http" | "https")), Some(host)) => {
            let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
            Ok(format!("{scheme}://{host}{port}"))
        }
        _ => Err("not an http or https URL"),
    }
}

/// A failure that the same request would get again.
fn lasting(words: impl ToString) -> Failure {
    Failure::rejected(words, usize::MAX)
}

fn failure(error: &Error) -> Failure {
    let not_secure = |error: &dyn Display| lasting(format!("no secure connection, {error}; name the issuer's certificate with ca="));
    match error {
        Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => not_secure(error),
        Error::Rustls(error) => not_secure(error),
        Error::Io(error) => Failure::transient(plain(error)),
        Error::Timeout(_) => Failure::transient("it timed out"),
        Error::HostNotFound => Failure::transient("unknown host name"),
        Error::ConnectionFailed | Error::Protocol(_) | Error::BodyStalled => Failure::transient(error),
        other => lasting(other),
    }
}

fn of_answer(response: &Response<Body>) -> Failure {
    let status = response.status();
    let words = format!("it responds with {status}");
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {}
        _ if status.is_server_error() => {}
        _ if status.is_redirection() => return lasting(format!("{words}; give the address that it points to")),
        _ => return lasting(words),
    }
    let asked = response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Failure { words, remedy: Remedy::Retry(asked.map(Duration::from_secs)) }
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
}
