//! An in-memory output for a muxer that keeps only the bytes before and after the samples.

use std::ptr;

use ffmpeg_the_third::ffi;

use crate::{MediaError, av, mov_index::MovIndex};

const BUFFER_BYTES: usize = 1 << 15;

/// The bytes that are kept.
#[derive(Default)]
struct State {
    position: u64,
    end: u64,
    /// Everything from the first byte while the header is written; later only overwritten in place.
    head: Vec<u8>,
    /// Position from which everything is kept, once the trailer is written.
    tail_start: Option<u64>,
    tail: Vec<u8>,
    is_header_done: bool,
}

impl State {
    fn write(&mut self, bytes: &[u8]) {
        let start = self.position;
        self.position += bytes.len() as u64;
        self.end = self.end.max(self.position);
        let at = usize::try_from(start).unwrap_or(usize::MAX);
        if !self.is_header_done {
            put(&mut self.head, at, bytes);
            return;
        }
        if let Some(room) = self.head.get_mut(at..) {
            let count = room.len().min(bytes.len());
            room.iter_mut().zip(bytes).take(count).for_each(|(to, from)| *to = *from);
        }
        if let Some(tail_start) = self.tail_start {
            let skipped = usize::try_from(tail_start.saturating_sub(start)).unwrap_or(usize::MAX);
            let at = usize::try_from(start.saturating_sub(tail_start)).unwrap_or(usize::MAX);
            put(&mut self.tail, at, bytes.get(skipped..).unwrap_or_default());
        }
    }
}

/// Writes into a vector at a position, as into a file.
fn put(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at.saturating_add(bytes.len());
    if bytes.is_empty() {
        return;
    }
    if to.len() < end {
        to.resize(end, 0);
    }
    if let Some(room) = to.get_mut(at..end) {
        room.copy_from_slice(bytes);
    }
}

/// A byte stream for a muxer, freed after it.
pub(crate) struct IndexSink {
    context: *mut ffi::AVIOContext,
    state: *mut State,
}

// SAFETY: both pointers are owned, and used by one thread at a time through the format context.
unsafe impl Send for IndexSink {}

impl IndexSink {
    pub(crate) fn new() -> Result<Self, MediaError> {
        let state = Box::into_raw(Box::<State>::default());
        // SAFETY: the buffer comes from FFmpeg's allocator, as required, and the state outlives the context (see drop). Older versions
        // declare the written bytes as mutable, which has the same calling convention.
        let context = unsafe {
            let buffer = ffi::av_malloc(BUFFER_BYTES).cast();
            let write = std::mem::transmute::<*const (), Option<_>>(write as *const ());
            ffi::avio_alloc_context(buffer, BUFFER_BYTES as i32, 1, state.cast(), None, write, Some(seek))
        };
        let sink = Self { context, state };
        if context.is_null() { Err(av::error("an index in memory", ffi::AVERROR(libc::ENOMEM))) } else { Ok(sink) }
    }

    pub(crate) fn context(&self) -> *mut ffi::AVIOContext {
        self.context
    }

    /// The header is written: samples follow, which are discarded.
    pub(crate) fn end_header(&mut self) {
        self.flush().is_header_done = true;
    }

    /// The trailer follows, which is kept.
    pub(crate) fn begin_trailer(&mut self) {
        let state = self.flush();
        state.tail_start = Some(state.position);
    }

    /// Takes the kept bytes.
    pub(crate) fn take(&mut self) -> MovIndex {
        let state = self.flush();
        MovIndex { head: std::mem::take(&mut state.head), tail_start: state.tail_start.unwrap_or(0), tail: std::mem::take(&mut state.tail) }
    }

    fn flush(&mut self) -> &mut State {
        // SAFETY: both are alive as long as self, and nothing else refers to the state between FFmpeg's calls.
        unsafe {
            ffi::avio_flush(self.context);
            &mut *self.state
        }
    }
}

impl Drop for IndexSink {
    fn drop(&mut self) {
        // SAFETY: the format context no longer refers to it; buffer, context and state are owned and freed once.
        unsafe {
            if !self.context.is_null() {
                ffi::av_freep(ptr::addr_of_mut!((*self.context).buffer).cast());
                ffi::avio_context_free(&mut self.context);
            }
            drop(Box::from_raw(self.state));
        }
    }
}

unsafe extern "C" fn write(state: *mut libc::c_void, bytes: *const u8, length: i32) -> i32 {
    // SAFETY: the pointer given to avio_alloc_context, and `length` bytes of FFmpeg's.
    let (state, bytes) = unsafe { (&mut *state.cast::<State>(), std::slice::from_raw_parts(bytes, usize::try_from(length).unwrap_or(0))) };
    state.write(bytes);
    length
}

unsafe extern "C" fn seek(state: *mut libc::c_void, offset: i64, whence: i32) -> i64 {
    // SAFETY: as in `write`.
    let state = unsafe { &mut *state.cast::<State>() };
    let from = match whence & !ffi::AVSEEK_FORCE {
        ffi::AVSEEK_SIZE => return i64::try_from(state.end).unwrap_or(i64::MAX),
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => state.position,
        libc::SEEK_END => state.end,
        _ => return ffi::AVERROR(libc::EINVAL).into(),
    };
    match from.checked_add_signed(offset) {
        Some(position) => {
            state.position = position;
            i64::try_from(position).unwrap_or(i64::MAX)
        }
        None => ffi::AVERROR(libc::EINVAL).into(),
    }
}
