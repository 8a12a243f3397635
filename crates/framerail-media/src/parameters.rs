//! Owned codec parameters, and the contents of a side stream's `parameters`.

use std::{ptr::NonNull, sync::Arc};

use ffmpeg_the_third::ffi;

use crate::{MediaError, av};

/// Codec parameters of a stream; clones share them.
#[derive(Clone)]
pub struct Parameters(Arc<Owned>);

/// An owned `AVCodecParameters`.
struct Owned(NonNull<ffi::AVCodecParameters>);

// SAFETY: plain data.
unsafe impl Send for Owned {}
// SAFETY: shared use only reads.
unsafe impl Sync for Owned {}

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
        let copy = Owned(copy);
        // SAFETY: both are valid, the source as the caller guarantees.
        let code = unsafe { ffi::avcodec_parameters_copy(copy.0.as_ptr(), source) };
        if code < 0 { Err(av::error("copying codec parameters", code)) } else { Ok(Self(Arc::new(copy))) }
    }

    /// The parameters of an encoder's output.
    ///
    /// # Safety
    /// `context` is an open encoder.
    pub(crate) unsafe fn of_encoder(context: *const ffi::AVCodecContext) -> Result<Self, MediaError> {
        // SAFETY: no preconditions.
        let Some(parameters) = NonNull::new(unsafe { ffi::avcodec_parameters_alloc() }) else {
            return Err(av::error("copying codec parameters", ffi::AVERROR(libc::ENOMEM)));
        };
        let parameters = Owned(parameters);
        // SAFETY: both are valid, the context as the caller guarantees.
        let code = unsafe { ffi::avcodec_parameters_from_context(parameters.0.as_ptr(), context) };
        if code < 0 { Err(av::error("copying codec parameters", code)) } else { Ok(Self(Arc::new(parameters))) }
    }

    /// Parameters of raw video.
    pub(crate) fn of_raw_video(format: i32, width: u32, height: u32) -> Result<Self, MediaError> {
        // SAFETY: no preconditions.
        let Some(parameters) = NonNull::new(unsafe { ffi::avcodec_parameters_alloc() }) else {
            return Err(av::error("making codec parameters", ffi::AVERROR(libc::ENOMEM)));
        };
        let parameters = Owned(parameters);
        // SAFETY: freshly made and not shared yet.
        let own = unsafe { &mut *parameters.0.as_ptr() };
        own.codec_type = ffi::AVMediaType::VIDEO;
        own.codec_id = ffi::AVCodecID::RAWVIDEO;
        own.format = format;
        (own.width, own.height) = (i32::try_from(width).unwrap_or(0), i32::try_from(height).unwrap_or(0));
        Ok(Self(Arc::new(parameters)))
    }

    /// Parameters of interleaved 32-bit float samples.
    pub(crate) fn of_float_audio(rate: u32, channels: u32) -> Result<Self, MediaError> {
        // SAFETY: no preconditions.
        let Some(parameters) = NonNull::new(unsafe { ffi::avcodec_parameters_alloc() }) else {
            return Err(av::error("making codec parameters", ffi::AVERROR(libc::ENOMEM)));
        };
        let parameters = Owned(parameters);
        // SAFETY: freshly made and not shared yet; its layout has no memory.
        let own = unsafe {
            let own = &mut *parameters.0.as_ptr();
            ffi::av_channel_layout_default(&mut own.ch_layout, i32::try_from(channels).unwrap_or(1));
            own
        };
        own.codec_type = ffi::AVMediaType::AUDIO;
        own.codec_id = ffi::AVCodecID::PCM_F32LE;
        own.format = ffi::AVSampleFormat::FLT.0;
        own.sample_rate = i32::try_from(rate).unwrap_or(0);
        (own.bits_per_coded_sample, own.block_align) = (32, 4 * own.ch_layout.nb_channels);
        own.bit_rate = 32 * i64::from(rate) * i64::from(channels);
        Ok(Self(Arc::new(parameters)))
    }

    /// Parameters of a codec with only these global headers.
    #[cfg(test)]
    pub(crate) fn of_codec(codec: ffi::AVCodecID, extradata: &[u8]) -> Self {
        // SAFETY: fresh parameters, not shared yet.
        unsafe {
            let mut source = ffi::avcodec_parameters_alloc();
            (*source).codec_type = ffi::AVMediaType::VIDEO;
            (*source).codec_id = codec;
            let copy = Self::copy_of(source).expect("memory");
            ffi::avcodec_parameters_free(&mut source);
            copy.with_extradata(extradata).expect("memory")
        }
    }

    /// A copy with other global headers.
    pub(crate) fn with_extradata(&self, extradata: &[u8]) -> Result<Self, MediaError> {
        // SAFETY: valid parameters.
        let copy = unsafe { Self::copy_of(self.get())? };
        let padding = ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize;
        // SAFETY: the copy is not shared yet; its old headers are freed once and replaced by zero-padded ones of FFmpeg's
        // allocator, which frees them.
        unsafe {
            let parameters = &mut *copy.0.0.as_ptr();
            let bytes = ffi::av_mallocz(extradata.len().saturating_add(padding)).cast::<u8>();
            if bytes.is_null() {
                return Err(av::error("copying codec parameters", ffi::AVERROR(libc::ENOMEM)));
            }
            std::ptr::copy_nonoverlapping(extradata.as_ptr(), bytes, extradata.len());
            ffi::av_freep((&raw mut parameters.extradata).cast());
            parameters.extradata = bytes;
            parameters.extradata_size = i32::try_from(extradata.len()).unwrap_or(0);
        }
        Ok(copy)
    }

    /// A copy with changes.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut ffi::AVCodecParameters)) -> Result<Self, MediaError> {
        // SAFETY: valid parameters, and a copy that is not shared yet.
        unsafe {
            let copy = Self::copy_of(self.get())?;
            change(&mut *copy.0.0.as_ptr());
            Ok(copy)
        }
    }

    /// FFmpeg's codec name.
    pub fn codec_name(&self) -> String {
        Self::name_of(self.get().codec_id)
    }

    /// FFmpeg's name of a codec.
    pub(crate) fn name_of(codec: ffi::AVCodecID) -> String {
        // SAFETY: any id is allowed; names are static.
        unsafe { av::string(ffi::avcodec_get_name(codec)) }
    }

    /// The codec's global headers (SPS and PPS for H.264 and so on), in the container's form.
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
        // SAFETY: owned by self and never changed.
        unsafe { self.0.0.as_ref() }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        let mut parameters = self.0.as_ptr();
        // SAFETY: owned by self and freed once.
        unsafe { ffi::avcodec_parameters_free(&mut parameters) };
    }
}

/// A titled span of the video.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Chapter {
    /// Start in microseconds.
    pub start_micros: i64,
    /// End in microseconds.
    pub end_micros: i64,
    /// Its tags, mainly `title`.
    pub metadata: Vec<(String, String)>,
}

/// Contents of `SideStream::parameters`.
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
