//! Standard input and named pipes as a source that a cancel flag can end.
//!
//! FFmpeg's own `pipe:` and `file:` block in the system call, where no callback reaches them.

use std::{fs::File, os::fd::AsRawFd, os::unix::fs::OpenOptionsExt, path::Path, ptr, sync::Arc};

use ffmpeg_the_third::ffi;

use crate::{MediaError, interrupt::Interrupt};

/// Longest sleep between two looks at the cancel flag.
const POLL_MILLIS: i32 = 50;
const BUFFER_BYTES: usize = 64 * 1024;

/// A file descriptor that is read with a look at the interrupt state in between.
struct PipeReader {
    descriptor: i32,
    /// Keeps a named pipe open; standard input is not ours to close.
    _file: Option<File>,
    interrupt: Arc<Interrupt>,
}

/// FFmpeg's byte stream over a pipe.
pub(crate) struct PipeSource {
    context: *mut ffi::AVIOContext,
    reader: *mut PipeReader,
}

// SAFETY: both pointers are owned, and used by one thread at a time through the format context.
unsafe impl Send for PipeSource {}

impl PipeSource {
    /// Standard input (`None`) or a named pipe.
    pub(crate) fn open(path: Option<&Path>, interrupt: Arc<Interrupt>) -> Result<Self, MediaError> {
        let file = match path {
            // Non-blocking, so that opening does not wait for a writer beyond the reach of the cancel flag.
            Some(path) => {
                Some(File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(|error| MediaError::io(path, &error))?)
            }
            None => None,
        };
        let descriptor = file.as_ref().map_or(0, AsRawFd::as_raw_fd);
        let reader = Box::into_raw(Box::new(PipeReader { descriptor, _file: file, interrupt }));
        // SAFETY: the buffer comes from FFmpeg's allocator as it must, and the reader outlives the context (see drop).
        let context = unsafe {
            let buffer = ffi::av_malloc(BUFFER_BYTES).cast();
            ffi::avio_alloc_context(buffer, BUFFER_BYTES as i32, 0, reader.cast(), Some(read), None, None)
        };
        Ok(Self { context, reader })
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

unsafe extern "C" fn read(reader: *mut libc::c_void, buffer: *mut u8, length: i32) -> i32 {
    // SAFETY: the pointer given to avio_alloc_context, alive until the context is freed.
    let reader = unsafe { &*reader.cast::<PipeReader>() };
    loop {
        if reader.interrupt.is_due() {
            return ffi::AVERROR_EXIT;
        }
        let mut poll = libc::pollfd { fd: reader.descriptor, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        let ready = unsafe { libc::poll(&mut poll, 1, POLL_MILLIS) };
        if ready <= 0 {
            continue;
        }
        // SAFETY: FFmpeg's buffer holds `length` bytes.
        let count = unsafe { libc::read(reader.descriptor, buffer.cast(), length.max(0) as usize) };
        match count {
            0 => return ffi::AVERROR_EOF,
            1.. => {
                reader.interrupt.start_clock();
                return count as i32;
            }
            _ => match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => {}
                code => return ffi::AVERROR(code.unwrap_or(libc::EIO)),
            },
        }
    }
}
