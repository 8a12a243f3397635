//! Objects that FFmpeg allocates and frees.

use std::{
    alloc::{Layout, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use ffmpeg_the_third::ffi;

/// Objects with a function of FFmpeg that frees them.
pub(crate) trait Allocated: Sized {
    /// # Safety
    /// The object is valid, and is not used afterwards.
    unsafe fn free(object: *mut Self);
}

/// An object that is freed with its owner.
pub(crate) struct Owned<T: Allocated>(NonNull<T>);

impl<T: Allocated> Owned<T> {
    /// Takes a new object. Ends the program if there was no memory for it, as Rust's own allocations do.
    ///
    /// # Safety
    /// `object` is null or valid, and nothing else uses it.
    pub(crate) unsafe fn of(object: *mut T) -> Self {
        NonNull::new(object).map_or_else(|| handle_alloc_error(Layout::new::<T>()), Self)
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.0.as_ptr()
    }
}

impl<T: Allocated> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: valid and owned by self.
        unsafe { self.0.as_ref() }
    }
}

impl<T: Allocated> DerefMut for Owned<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: valid and owned by self.
        unsafe { self.0.as_mut() }
    }
}

impl<T: Allocated> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: owned by self and freed once.
        unsafe { T::free(self.0.as_ptr()) };
    }
}

/// Names the function that frees a kind of object.
macro_rules! freed_by {
    ($($object:ident, $free:ident;)*) => {$(
        impl Allocated for ffi::$object {
            unsafe fn free(mut object: *mut Self) {
                // SAFETY: as the caller guarantees.
                unsafe { ffi::$free(&mut object) };
            }
        }
    )*};
}

freed_by! {
    AVFrame, av_frame_free;
    AVPacket, av_packet_free;
    AVCodecContext, avcodec_free_context;
    AVCodecParameters, avcodec_parameters_free;
    AVFilterGraph, avfilter_graph_free;
}

// SAFETY: a frame is plain data over atomically counted buffers; nothing in it is bound to a thread.
unsafe impl Send for Owned<ffi::AVFrame> {}
// SAFETY: shared use only reads fields and buffer bytes; counts are atomic.
unsafe impl Sync for Owned<ffi::AVFrame> {}
// SAFETY: a packet is plain data over an atomically counted buffer.
unsafe impl Send for Owned<ffi::AVPacket> {}
// SAFETY: shared use only reads.
unsafe impl Sync for Owned<ffi::AVPacket> {}
// SAFETY: a codec context may be used from any thread, one at a time; FFmpeg synchronises its internal threads.
unsafe impl Send for Owned<ffi::AVCodecContext> {}
// SAFETY: plain data.
unsafe impl Send for Owned<ffi::AVCodecParameters> {}
// SAFETY: shared use only reads.
unsafe impl Sync for Owned<ffi::AVCodecParameters> {}
