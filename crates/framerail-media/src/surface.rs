//! Wraps a decoder's frame as a host surface without a copy, and any host surface as a frame for an encoder.

use std::{any::Any, ptr, sync::Arc};

use ffmpeg_the_third::ffi;
use framerail_core::{HostMemory, HostSurface, PixelFormat, PlaneLayout};

use crate::{MediaError, av::AvFrame, format};

/// Planes of an `AVFrame`.
pub(crate) struct AvFrameMemory {
    frame: AvFrame,
    /// Number of accessible bytes of each plane.
    lengths: [usize; 4],
}

impl AvFrameMemory {
    pub(crate) fn frame(&self) -> &AvFrame {
        &self.frame
    }
}

impl HostMemory for AvFrameMemory {
    fn plane(&self, plane: usize) -> &[u8] {
        match self.lengths.get(plane) {
            // SAFETY: `wrap` found this many bytes within the frame's buffer, which lives as long as the frame.
            Some(&length) if length > 0 => unsafe { std::slice::from_raw_parts(self.frame.data[plane], length) },
            _ => &[],
        }
    }

    fn plane_mut(&mut self, plane: usize) -> Option<&mut [u8]> {
        if !self.is_writable() {
            return None;
        }
        match self.lengths.get(plane) {
            // SAFETY: as above; the buffer has no other holder and self is borrowed exclusively.
            Some(&length) if length > 0 => Some(unsafe { std::slice::from_raw_parts_mut(self.frame.data[plane], length) }),
            _ => None,
        }
    }

    fn is_writable(&self) -> bool {
        // SAFETY: only reads the buffers' counts; the pointer is not written through.
        unsafe { ffi::av_frame_is_writable(self.frame.as_ptr().cast_mut()) > 0 }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Wraps a frame of pixel format `format` with top-down rows; `None` if it cannot be wrapped safely.
pub(crate) fn wrap(frame: AvFrame, format: PixelFormat) -> Option<HostSurface> {
    let (width, height) = (u32::try_from(frame.width).ok()?, u32::try_from(frame.height).ok()?);
    let mut pitches = [0; 4];
    let mut lengths = [0; 4];
    for plane in 0..format.planes() {
        let (row_bytes, rows) = format.plane_size(plane, width, height);
        pitches[plane] = usize::try_from(frame.linesize[plane]).ok()?;
        lengths[plane] = PlaneLayout { pitch_bytes: pitches[plane], row_bytes, rows }.min_bytes();
        if !lies_within_a_buffer(&frame, frame.data[plane], lengths[plane]) {
            return None;
        }
    }
    HostSurface::new(format, width, height, &pitches, Arc::new(AvFrameMemory { frame, lengths })).ok()
}

/// Whether a plane's bytes lie within one of the frame's reference-counted buffers.
fn lies_within_a_buffer(frame: &AvFrame, data: *const u8, length: usize) -> bool {
    let start = data as usize;
    frame.buf.iter().any(|buffer| {
        // SAFETY: each entry is null or a valid reference.
        let Some(buffer) = (unsafe { buffer.as_ref() }) else { return false };
        let first = buffer.data as usize;
        start >= first && start.checked_add(length).is_some_and(|end| end <= first + buffer.size)
    })
}

/// Creates an `AVFrame` over a surface's planes, for reading by an encoder or filter. Nothing is copied: the frame holds the
/// surface's memory until FFmpeg releases it.
pub(crate) fn lend(surface: &HostSurface) -> Result<AvFrame, MediaError> {
    if let Some(memory) = surface.memory().as_any().downcast_ref::<AvFrameMemory>() {
        let mut frame = memory.frame().share()?;
        frame.format = format::av_format(surface.format()).0;
        return Ok(frame);
    }
    let mut frame = AvFrame::new();
    frame.format = format::av_format(surface.format()).0;
    frame.width = surface.width() as i32;
    frame.height = surface.height() as i32;
    for plane in 0..surface.format().planes() {
        let bytes = surface.plane(plane);
        let holder = Box::into_raw(Box::new(Arc::clone(surface.memory())));
        // SAFETY: the buffer is read-only, covers exactly the plane, and its free function drops the holder that keeps the bytes alive.
        let buffer = unsafe {
            ffi::av_buffer_create(bytes.as_ptr().cast_mut(), bytes.len(), Some(drop_holder), holder.cast(), ffi::AV_BUFFER_FLAG_READONLY)
        };
        if buffer.is_null() {
            // SAFETY: FFmpeg did not take the holder, so it is dropped here.
            drop(unsafe { Box::from_raw(holder) });
            return Err(MediaError::Ffmpeg { context: "lending a frame".into(), message: "out of memory".into() });
        }
        frame.buf[plane] = buffer;
        frame.data[plane] = bytes.as_ptr().cast_mut();
        frame.linesize[plane] = surface.layout(plane).pitch_bytes as i32;
    }
    // SAFETY: extended_data of a video frame points at its own data array.
    unsafe { (*frame.as_mut_ptr()).extended_data = ptr::addr_of_mut!((*frame.as_mut_ptr()).data).cast() };
    Ok(frame)
}

unsafe extern "C" fn drop_holder(holder: *mut libc::c_void, _data: *mut u8) {
    // SAFETY: `lend` made this pointer from a box of this type, and FFmpeg calls back once.
    drop(unsafe { Box::from_raw(holder.cast::<Arc<dyn HostMemory>>()) });
}
