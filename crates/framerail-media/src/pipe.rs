//! Reads standard input and named pipes in a way that a cancel flag can interrupt.
//!
//! FFmpeg's own `pipe:` and `file:` protocols block in system calls, where no callback is polled.

use std::{
    fs::File,
    io::{self, Read},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    ptr,
    sync::Arc,
};

use ffmpeg_the_third::ffi;

use crate::{MediaError, error::system_words, head::Head, interrupt::Interrupt};

/// Maximum time between two checks of the cancel flag.
const POLL_MILLIS: i32 = 50;
const BUFFER_BYTES: usize = 64 * 1024;

/// A file descriptor that checks the interrupt state between reads.
struct PipeReader {
    descriptor: i32,
    /// Keeps a named pipe open; standard input must not be closed.
    _file: Option<File>,
    interrupt: Arc<Interrupt>,
    /// Bytes read ahead, before FFmpeg's first read.
    head: Vec<u8>,
}

/// An FFmpeg byte stream that reads from a pipe.
pub(crate) struct PipeSource {
    context: *mut ffi::AVIOContext,
    reader: *mut PipeReader,
}

// SAFETY: both pointers are owned, and used by one thread at a time through the format context.
unsafe impl Send for PipeSource {}

impl PipeSource {
    /// Opens standard input (`None`) or a named pipe, called `name` in messages; returns all bytes if FFmpeg must seek back in them.
    pub(crate) fn open(path: Option<&Path>, name: &str, interrupt: &Arc<Interrupt>) -> Result<Result<Self, Vec<u8>>, MediaError> {
        let file = match path {
            // Non-blocking, since opening would otherwise wait for a writer without checking the cancel flag.
            Some(path) => {
                Some(File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| MediaError::io(path, &error))?)
            }
            None => None,
        };
        let descriptor = file.as_ref().map_or(0, AsRawFd::as_raw_fd);
        let mut reader = PipeReader { descriptor, _file: file, interrupt: Arc::clone(interrupt), head: Vec::new() };
        interrupt.start_clock();
        match Head::read(&mut reader) {
            Ok(Head::Start(bytes)) => reader.head = bytes,
            Ok(Head::Whole(bytes)) => return Ok(Err(bytes)),
            Err(error) => {
                let failed = MediaError::Io { path: name.to_owned(), reason: system_words(&error) };
                return Err(interrupt.reason(name).unwrap_or(failed));
            }
        }
        let reader = Box::into_raw(Box::new(reader));
        // SAFETY: the buffer comes from FFmpeg's allocator, as required, and the reader outlives the context (see drop).
        let context = unsafe {
            let buffer = ffi::av_malloc(BUFFER_BYTES).cast();
            ffi::avio_alloc_context(buffer, BUFFER_BYTES as i32, 0, reader.cast(), Some(read), None, None)
        };
        Ok(Ok(Self { context, reader }))
    }

    pub(crate) fn context(&self) -> *mut ffi::AVIOContext {
        self.context
    }
}

impl Drop for PipeSource {
    fn drop(&mut self) {
        // SAFETY: the format context is closed by now; buffer, context and reader are owned and freed once.
        unsafe {
            if !self.context.is_null() {
                ffi::av_freep(ptr::addr_of_mut!((*self.context).buffer).cast());
                ffi::avio_context_free(&mut self.context);
            }
            drop(Box::from_raw(self.reader));
        }
    }
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
                self.interrupt.start_clock();
                return Ok(count);
            }
            let error = io::Error::last_os_error();
            if !matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) {
                return Err(error);
            }
        }
    }
}

unsafe extern "C" fn read(reader: *mut libc::c_void, buffer: *mut u8, length: i32) -> i32 {
    // SAFETY: the pointer given to avio_alloc_context, alive until the context is freed, used by one thread at a time; FFmpeg's buffer
    // holds `length` bytes. Only bytes that were read are written to it: at the end FFmpeg still uses its previous contents.
    let (reader, buffer) =
        unsafe { (&mut *reader.cast::<PipeReader>(), std::slice::from_raw_parts_mut(buffer, usize::try_from(length).unwrap_or(0))) };
    let served = Head::serve(&mut reader.head, buffer);
    match if served > 0 { Ok(served) } else { reader.read(buffer) } {
        Ok(0) => ffi::AVERROR_EOF,
        Ok(count) => i32::try_from(count).unwrap_or(0),
        Err(error) => error.raw_os_error().map_or(ffi::AVERROR_EXIT, ffi::AVERROR),
    }
}
