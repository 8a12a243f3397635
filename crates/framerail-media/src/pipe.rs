//! Standard input and named pipes, as sources whose reads a cancel token can interrupt.
//!
//! FFmpeg's own `pipe:` and `file:` protocols block in system calls, where no callback is polled.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    CustomSource, MediaError,
    custom_io::{OpenSource, SourceFactory},
    interrupt::Interrupt,
};

/// Maximum time between two checks of the cancel token.
const POLL_MILLIS: i32 = 50;

/// Opens standard input (`None`) or a named pipe, called `name` in messages.
///
/// # Errors
/// Those of opening the file.
pub(crate) fn open(path: Option<&Path>, name: &str, interrupt: &Arc<Interrupt>) -> Result<CustomSource, MediaError> {
    let file = match path {
        // Non-blocking, since opening would otherwise wait for a writer without checking the cancel token.
        Some(path) => {
            Some(File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| MediaError::io(path, &error))?)
        }
        None => None,
    };
    let descriptor = file.as_ref().map_or(0, AsRawFd::as_raw_fd);
    let reader = PipeReader { descriptor, _file: file, interrupt: Arc::clone(interrupt) };
    Ok(CustomSource::new(Pipe { name: name.to_owned(), reader: Mutex::new(Some(reader)) }))
}

/// A pipe that can be opened once.
struct Pipe {
    name: String,
    reader: Mutex<Option<PipeReader>>,
}

impl SourceFactory for Pipe {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<OpenSource> {
        let reader = self.reader.lock().take().ok_or(io::ErrorKind::Unsupported)?;
        Ok(OpenSource::Stream(Box::new(reader)))
    }

    /// Its reads check the interrupt state themselves.
    fn may_wait(&self) -> bool {
        false
    }
}

/// A file descriptor that checks the interrupt state while it waits.
struct PipeReader {
    descriptor: i32,
    /// Keeps a named pipe open; standard input must not be closed.
    _file: Option<File>,
    interrupt: Arc<Interrupt>,
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.interrupt.is_due() {
                return Err(io::Error::other("interrupted"));
            }
            let mut poll = libc::pollfd { fd: self.descriptor, events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid entry.
            let ready = unsafe { libc::poll(&mut poll, 1, POLL_MILLIS) };
            if ready <= 0 {
                continue;
            }
            // SAFETY: a live buffer of this length.
            let count = unsafe { libc::read(self.descriptor, buffer.as_mut_ptr().cast(), buffer.len()) };
            if let Ok(count) = usize::try_from(count) {
                return Ok(count);
            }
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                return Err(error);
            }
        }
    }
}
