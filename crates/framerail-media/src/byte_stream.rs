//! An FFmpeg byte stream that reads from a custom source.

use std::{
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    ptr,
    sync::Arc,
};

use ffmpeg_the_third::ffi;
use parking_lot::Mutex;

use crate::{CustomSource, MediaError, edges::Edges, error::system_words, guarded_reader::GuardedReader, head::Head, interrupt::Interrupt};

const BUFFER_BYTES: usize = 64 * 1024;

/// State of FFmpeg's callbacks.
struct State {
    reader: GuardedReader,
    /// Bytes read ahead, before FFmpeg's first read.
    head: Vec<u8>,
    /// Of a source that cannot seek.
    edges: Option<Edges>,
    /// Read buffer. FFmpeg's buffer must not be overwritten before there is data for it: at the end of the stream FFmpeg
    /// still uses its previous contents.
    scratch: Vec<u8>,
    /// Message of the last failed read or seek.
    error: Arc<Mutex<Option<String>>>,
}

/// An `AVIOContext` over a custom source.
pub(crate) struct ByteStream {
    context: *mut ffi::AVIOContext,
    state: *mut State,
    error: Arc<Mutex<Option<String>>>,
}

// SAFETY: both pointers are owned, and used by one thread at a time through the format context; the data behind them is `Send`.
unsafe impl Send for ByteStream {}

impl ByteStream {
    pub(crate) fn open(source: &CustomSource, interrupt: &Arc<Interrupt>) -> Result<Self, MediaError> {
        let failed = |error: io::Error| open_error(source.name(), &error, interrupt);
        let mut reader = GuardedReader::open(source, Arc::clone(interrupt)).map_err(failed)?;
        let mut head = Vec::new();
        if !reader.is_seekable() {
            match Head::read(&mut reader).map_err(failed)? {
                Head::Start(bytes) => head = bytes,
                Head::Whole(bytes) => {
                    let kept = CustomSource::bytes(source.name(), bytes);
                    reader = GuardedReader::open(&kept, Arc::clone(interrupt)).map_err(failed)?;
                }
            }
        }
        let error = Arc::new(Mutex::new(None));
        let seek: Option<unsafe extern "C" fn(*mut libc::c_void, i64, i32) -> i64> = reader.is_seekable().then_some(seek);
        let edges = (!reader.is_seekable()).then(Edges::default);
        let state = Box::into_raw(Box::new(State { reader, head, edges, scratch: vec![0; BUFFER_BYTES], error: Arc::clone(&error) }));
        // SAFETY: the buffer comes from FFmpeg's allocator, as required, and the state outlives the context (see drop).
        let context = unsafe {
            let buffer = ffi::av_malloc(BUFFER_BYTES).cast();
            ffi::avio_alloc_context(buffer, BUFFER_BYTES as i32, 0, state.cast(), Some(read), None, seek)
        };
        let stream = Self { context, state, error };
        if context.is_null() {
            return Err(crate::av::error(source.name(), ffi::AVERROR(libc::ENOMEM)));
        }
        Ok(stream)
    }

    pub(crate) fn context(&self) -> *mut ffi::AVIOContext {
        self.context
    }

    /// The source's last error message, until it returns bytes again.
    pub(crate) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// What was read last and first of a source that cannot seek.
    pub(crate) fn edges(&self) -> Option<&Edges> {
        // SAFETY: owned by self; FFmpeg's callbacks change it only during calls with the format context, from the same thread.
        unsafe { (*self.state).edges.as_ref() }
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        // SAFETY: the format context is closed by now; buffer, context and state are owned and freed once.
        unsafe {
            if !self.context.is_null() {
                ffi::av_freep(ptr::addr_of_mut!((*self.context).buffer).cast());
                ffi::avio_context_free(&mut self.context);
            }
            drop(Box::from_raw(self.state));
        }
    }
}

fn open_error(name: &str, error: &io::Error, interrupt: &Interrupt) -> MediaError {
    if let Some(reason) = interrupt.reason(name) {
        return reason;
    }
    if let Some(exhausted) = MediaError::of_exhausted(Path::new(name), error) {
        return exhausted;
    }
    match error.kind() {
        io::ErrorKind::NotFound => MediaError::NotFound { source_name: name.to_owned() },
        io::ErrorKind::Unsupported => MediaError::Unsupported { what: format!("reading {name}"), reason: words(error) },
        // From the built-in HTTP client: a public server redirects to a private address.
        io::ErrorKind::AddrNotAvailable if error.raw_os_error().is_none() => {
            MediaError::Refused { source_name: name.to_owned(), reason: words(error) }
        }
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::TimedOut => MediaError::Unreachable { source_name: name.to_owned(), reason: words(error) },
        _ => MediaError::Io { path: name.to_owned(), reason: words(error) },
    }
}

/// System errors in our wording; a source's own messages unchanged.
fn words(error: &io::Error) -> String {
    if error.raw_os_error().is_some() { system_words(error) } else { error.to_string() }
}

impl State {
    /// Converts a result to FFmpeg's form and stores its error for the report.
    fn noted(&self, result: io::Result<u64>) -> i64 {
        let error = result.as_ref().err().map(words);
        let code = match (&result, self.reader.is_due()) {
            (Ok(value), _) => i64::try_from(*value).unwrap_or(i64::MAX),
            (Err(_), true) => ffi::AVERROR_EXIT.into(),
            (Err(_), false) => ffi::AVERROR(libc::EIO).into(),
        };
        if error.is_some() {
            *self.error.lock() = error;
        }
        code
    }
}

unsafe extern "C" fn read(state: *mut libc::c_void, buffer: *mut u8, length: i32) -> i32 {
    // SAFETY: the pointer given to avio_alloc_context, alive until the context is freed, used by one thread at a time.
    let state = unsafe { &mut *state.cast::<State>() };
    let room = state.scratch.len().min(usize::try_from(length).unwrap_or(0));
    let scratch = state.scratch.get_mut(..room).unwrap_or_default();
    let result = match Head::serve(&mut state.head, scratch) {
        0 => state.reader.read(scratch),
        count => Ok(count),
    };
    if let Ok(count) = result {
        // SAFETY: FFmpeg's buffer holds `length` bytes, and no more than that were read.
        unsafe { ptr::copy_nonoverlapping(state.scratch.as_ptr(), buffer, count.min(room)) };
        if let (Some(edges), Some(bytes)) = (&mut state.edges, state.scratch.get(..count)) {
            edges.add(bytes);
        }
        // Reaching the end or seeking does not clear the error: some sources end after one.
        if count > 0 {
            *state.error.lock() = None;
        }
    }
    match state.noted(result.map(|count| count as u64)) {
        0 => ffi::AVERROR_EOF,
        value => i32::try_from(value).unwrap_or(ffi::AVERROR(libc::EIO)),
    }
}

unsafe extern "C" fn seek(state: *mut libc::c_void, offset: i64, whence: i32) -> i64 {
    // SAFETY: as in `read`.
    let state = unsafe { &mut *state.cast::<State>() };
    let by = whence & !ffi::AVSEEK_FORCE;
    if by == ffi::AVSEEK_SIZE {
        // An unknown size is not a failure of the source.
        let unknown = i64::from(ffi::AVERROR(libc::ENOSYS));
        return state.reader.size_bytes().map_or(unknown, |size| i64::try_from(size).unwrap_or(unknown));
    }
    let target = match (by, u64::try_from(offset)) {
        (libc::SEEK_SET, Ok(position)) => SeekFrom::Start(position),
        (libc::SEEK_CUR, _) => SeekFrom::Current(offset),
        (libc::SEEK_END, _) => SeekFrom::End(offset),
        _ => return ffi::AVERROR(libc::EINVAL).into(),
    };
    let result = state.reader.seek(target);
    state.noted(result)
}
