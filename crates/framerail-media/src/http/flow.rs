//! The body of one response.

use std::io::{self, Read};

use ureq::{Body, BodyReader, http::Response};

use super::client::Failure;

/// The body of a response, from start to end; its errors are worded for users.
pub(super) struct WholeBody(BodyReader<'static>);

impl WholeBody {
    pub(super) fn new(response: Response<Body>) -> Self {
        Self(response.into_body().into_reader())
    }
}

impl Read for WholeBody {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| Failure::of_io(error).error)
    }
}

/// Bytes of a file as they arrive.
pub(super) struct Flow {
    body: BodyReader<'static>,
    position: u64,
    end: u64,
}

impl Flow {
    /// The body of a response that promises bytes `position..end`.
    pub(super) fn new(response: Response<Body>, position: u64, end: u64) -> Self {
        Self { body: response.into_body().into_reader(), position, end }
    }

    /// Whether the next byte is the one at this position.
    pub(super) fn is_at(&self, position: u64) -> bool {
        self.position == position && position < self.end
    }

    /// Reads up to a position, or to the end of the response.
    pub(super) fn read_to(&mut self, end: u64, bytes: &mut Vec<u8>) -> Result<(), Failure> {
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
            Err(error) => Err(Failure::of_io(error)),
        }
    }
}
