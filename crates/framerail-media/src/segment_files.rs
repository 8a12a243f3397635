//! Monitors the files of an HLS playlist: FFmpeg's muxer continues if one of them cannot be written, and would still list it.

use std::sync::{
    Arc,
    atomic::{AtomicI32, Ordering},
};

use ffmpeg_the_third::ffi;

type Open = unsafe extern "C" fn(
    *mut ffi::AVFormatContext,
    *mut *mut ffi::AVIOContext,
    *const libc::c_char,
    libc::c_int,
    *mut *mut ffi::AVDictionary,
) -> libc::c_int;

/// State of the files so far; FFmpeg's callbacks find it through the context's `opaque`.
pub(crate) struct SegmentFiles {
    /// FFmpeg's error code of the first failure; 0 if there is none.
    error: AtomicI32,
    /// FFmpeg's own function for opening files.
    open: Option<Open>,
}

impl SegmentFiles {
    /// Makes a context open and close its files through this module. The result must outlive the context.
    pub(crate) fn watch(context: &mut ffi::AVFormatContext) -> Arc<Self> {
        let files = Arc::new(Self { error: AtomicI32::new(0), open: context.io_open });
        context.opaque = Arc::as_ptr(&files).cast_mut().cast();
        context.io_open = Some(open);
        context.io_close2 = Some(close);
        files
    }

    /// FFmpeg's error code of the first file that could not be written.
    pub(crate) fn error(&self) -> Option<i32> {
        Some(self.error.load(Ordering::Relaxed)).filter(|code| *code < 0)
    }

    fn note(&self, code: i32) {
        if code < 0 && self.error().is_none() {
            self.error.store(code, Ordering::Relaxed);
        }
    }
}

/// Opens a file, unless another one has failed: a playlist with a broken segment must not replace the last valid one.
unsafe extern "C" fn open(
    context: *mut ffi::AVFormatContext,
    file: *mut *mut ffi::AVIOContext,
    url: *const libc::c_char,
    flags: libc::c_int,
    options: *mut *mut ffi::AVDictionary,
) -> libc::c_int {
    // SAFETY: `watch` stored a live state there; the muxers inside the playlist muxer share it.
    let files = unsafe { &*(*context).opaque.cast::<SegmentFiles>() };
    if let Some(code) = files.error() {
        return code;
    }
    let Some(open) = files.open else { return ffi::AVERROR(libc::ENOSYS) };
    // SAFETY: forwards FFmpeg's arguments to FFmpeg's own function.
    let code = unsafe { open(context, file, url, flags, options) };
    files.note(code);
    code
}

/// Writes the rest of a file, closes it and records a failure.
unsafe extern "C" fn close(context: *mut ffi::AVFormatContext, file: *mut ffi::AVIOContext) -> libc::c_int {
    // SAFETY: as in `open`; the file is open and closed once.
    unsafe {
        let files = &*(*context).opaque.cast::<SegmentFiles>();
        ffi::avio_flush(file);
        let written = (*file).error;
        let closed = ffi::avio_close(file);
        let code = if written < 0 && written != ffi::AVERROR_EOF { written } else { closed };
        files.note(code);
        code
    }
}
