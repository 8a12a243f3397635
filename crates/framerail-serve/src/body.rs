//! Responses: complete ones and streams.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use hyper::{
    Response, StatusCode,
    body::{Body, Bytes, Frame, SizeHint},
    header::{self, HeaderName, HeaderValue},
};
use serde::Serialize;
use tokio::sync::mpsc;

/// Body of a response.
pub(crate) enum Reply {
    /// A complete body.
    Whole(Option<Bytes>),
    /// Parts as they arrive, until the sender is dropped.
    Parts(mpsc::Receiver<Bytes>),
}

pub(crate) type Answer = Response<Reply>;

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Reply::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Reply::Parts(parts) => parts.poll_recv(context).map(|part| part.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Reply::Parts(_) => SizeHint::default(),
        }
    }
}

/// What our pages may load and do: their assets, and images fetched by their script.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
                           form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
/// The policy of SVG images: inline styles only.
const DRAWING_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// A response with the common headers.
pub(crate) fn answer(status: StatusCode, kind: &'static str, reply: Reply) -> Answer {
    let mut answer = Response::new(reply);
    *answer.status_mut() = status;
    let policy = if kind.starts_with("image/svg") { DRAWING_POLICY } else { PAGE_POLICY };
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

pub(crate) fn whole(kind: &'static str, bytes: impl Into<Bytes>) -> Answer {
    answer(StatusCode::OK, kind, Reply::Whole(Some(bytes.into())))
}

pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(bytes) => answer(status, "application/json", Reply::Whole(Some(bytes.into()))),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot be written as JSON: {error}")),
    }
}

/// An error response with a one-line message.
pub(crate) fn failed(status: StatusCode, message: &str) -> Answer {
    let bytes = serde_json::json!({ "error": message }).to_string();
    answer(status, "application/json", Reply::Whole(Some(bytes.into())))
}

pub(crate) fn with_header(mut answer: Answer, name: &'static str, value: &str) -> Answer {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(HeaderName::from_static(name), value);
    }
    answer
}
