//! Owned codec parameters, and what travels in a side stream's `parameters`.

use std::ptr::NonNull;

use ffmpeg_the_third::ffi;

use crate::{MediaError, av};

/// An owned `AVCodecParameters`.
pub struct Parameters(NonNull<ffi::AVCodecParameters>);

// SAFETY: plain data.
unsafe impl Send for Parameters {}
// SAFETY: shared use only reads.
unsafe impl Sync for Parameters {}

impl Parameters {
    /// A copy of a stream's parameters.
    ///
    /// # Safety
    /// `source` is valid.
    pub(crate) unsafe fn copy_of(source: *const ffi::AVCodecParameters) -> Result<Self, MediaError> {
        // SAFETY: no preconditions.
        let Some(copy) = NonNull::new(unsafe { ffi::avcodec_parameters_alloc() }) else {
            return Err(MediaError::Ffmpeg { context: "copying codec parameters".into(), message: "out of memory".into() });
        };
        let copy = Self(copy);
        // SAFETY: both are valid, the source by the caller's word.
        let code = unsafe { ffi::avcodec_parameters_copy(copy.0.as_ptr(), source) };
        if code < 0 { Err(av::error("copying codec parameters", code)) } else { Ok(copy) }
    }

    /// FFmpeg's codec name.
    pub fn codec_name(&self) -> String {
        // SAFETY: any id is allowed; names are static.
        unsafe { av::string(ffi::avcodec_get_name(self.get().codec_id)) }
    }

    /// The codec's global headers (SPS and PPS of H.264 and so on), as the container holds them.
    pub fn extradata(&self) -> &[u8] {
        let parameters = self.get();
        match usize::try_from(parameters.extradata_size) {
            // SAFETY: FFmpeg keeps this many bytes, and self is borrowed.
            Ok(size) if size > 0 && !parameters.extradata.is_null() => unsafe { std::slice::from_raw_parts(parameters.extradata, size) },
            _ => &[],
        }
    }

    /// The raw parameters, for this workspace's FFmpeg callers.
    pub fn get(&self) -> &ffi::AVCodecParameters {
        // SAFETY: owned by self.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Parameters {
    fn drop(&mut self) {
        let mut parameters = self.0.as_ptr();
        // SAFETY: owned by self and freed once.
        unsafe { ffi::avcodec_parameters_free(&mut parameters) };
    }
}

/// A titled span of the video.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Chapter {
    /// First instant in microseconds.
    pub start_micros: i64,
    /// End in microseconds.
    pub end_micros: i64,
    /// Its tags, `title` above all.
    pub metadata: Vec<(String, String)>,
}

/// What `SideStream::parameters` holds.
#[non_exhaustive]
pub enum SideParameters {
    /// A stream whose packets are copied.
    Stream {
        /// Codec parameters.
        parameters: Parameters,
        /// Tags of the stream, such as `language`.
        metadata: Vec<(String, String)>,
        /// FFmpeg's `AV_DISPOSITION_*` flags.
        disposition: i32,
    },
    /// The chapters of the container, carried as a side stream of codec `chapters` without packets.
    Chapters(Vec<Chapter>),
}
