//! The HTTP client of object storage: that of this crate, with its certificates, proxies and time limits.

use std::{
    future::{Future, ready},
    io::{self, Read},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse, HttpResponseBody, HttpService,
    },
};
use parking_lot::Mutex;
use ureq::{
    Agent, BodyReader,
    http::{Method, Request, StatusCode, Uri},
};

use crate::{
    http::{
        HttpOptions,
        client::{Redirects, agent, failure_of, failure_of_io},
    },
    ranged::Failure,
};

/// Bytes of a body that are passed on at once.
const CHUNK_BYTES: usize = 1 << 18;
/// Longest body of an error that is read.
const MAX_ERROR_BYTES: u64 = 1 << 16;
/// Timeout for the credentials service of virtual machines: on other machines nothing answers.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(2);

/// A request that failed before the storage could answer it for good.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(super) struct RequestFailure {
    pub(super) words: String,
    pub(super) kind: io::ErrorKind,
    pub(super) is_transient: bool,
    /// The request was for credentials of the virtual machine.
    pub(super) is_for_credentials: bool,
}

impl RequestFailure {
    fn of(failure: Failure, uri: &Uri) -> HttpError {
        let Failure { error, is_transient } = failure;
        let is_for_credentials = gives_credentials(uri);
        let words = error.to_string();
        HttpError::new(HttpErrorKind::Unknown, Self { words, kind: error.kind(), is_transient, is_for_credentials })
    }
}

#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        // The user chose the storage, which may be on a private network; it leads nowhere else.
        let options = HttpOptions { allow_private: true, ..HttpOptions::default() };
        let agent = agent(&options, Redirects::Returned)
            .map_err(|error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) })?;
        Ok(HttpClient::new(Client(agent)))
    }
}

#[derive(Debug)]
struct Client(Agent);

impl HttpService for Client {
    /// Does the request before it returns: callers are blocking threads.
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(ready(self.answer(request)))
    }
}

impl Client {
    fn answer(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let uri = parts.uri.clone();
        let timeout = gives_credentials(&uri).then_some(CREDENTIALS_TIMEOUT);
        let has_body = !matches!(parts.method, Method::GET | Method::HEAD | Method::DELETE);
        let sent = if has_body {
            let mut request = Request::from_parts(parts, collected(body)?);
            if let Some(timeout) = timeout {
                request = self.0.configure_request(request).timeout_connect(Some(timeout)).build();
            }
            self.0.run(request)
        } else {
            let mut request = Request::from_parts(parts, ());
            if let Some(timeout) = timeout {
                request = self.0.configure_request(request).timeout_connect(Some(timeout)).build();
            }
            self.0.run(request)
        };
        let (parts, body) = sent.map_err(|error| RequestFailure::of(failure_of(error), &uri))?.into_parts();
        if gives_credentials(&uri) && !parts.status.is_success() {
            // On other machines a proxy may answer in its place.
            let words = format!("the service for credentials responded with {}", parts.status);
            return Err(RequestFailure::of(Failure::lasting(io::Error::other(words)), &uri));
        }
        if is_busy(parts.status) {
            let mut text = String::new();
            // Only for the message.
            let _ = body.into_reader().take(MAX_ERROR_BYTES).read_to_string(&mut text);
            let words = format!("the storage responded with {}{}", parts.status, super::store::reason_in(&text));
            return Err(RequestFailure::of(Failure::transient(io::Error::other(words)), &uri));
        }
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(Incoming { reader: Mutex::new(body.into_reader()), uri })))
    }
}

fn is_busy(status: StatusCode) -> bool {
    status.is_server_error() || matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)
}

/// Whether a host is the service of a virtual machine or container for credentials.
fn gives_credentials(uri: &Uri) -> bool {
    uri.host().is_some_and(|host| host.starts_with("169.254.") || host == "metadata.google.internal" || host == "metadata")
}

/// The bytes of a request, which are all in memory.
fn collected(mut body: HttpRequestBody) -> Result<Vec<u8>, HttpError> {
    let mut bytes = Vec::with_capacity(body.content_length());
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

/// The body of a response, read on demand.
struct Incoming {
    reader: Mutex<BodyReader<'static>>,
    uri: Uri,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut bytes = vec![0; CHUNK_BYTES];
        let read = self.reader.get_mut().read(&mut bytes);
        Poll::Ready(match read {
            Ok(0) => None,
            Ok(count) => {
                bytes.truncate(count);
                Some(Ok(Frame::data(bytes.into())))
            }
            Err(error) => Some(Err(RequestFailure::of(failure_of_io(error), &self.uri))),
        })
    }
}
