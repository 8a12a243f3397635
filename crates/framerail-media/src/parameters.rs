//! Owned codec parameters, and the contents of a side stream's `parameters`.

use std::sync::Arc;

use ffmpeg_the_third::ffi;

use crate::{MediaError, av, owned::Owned};

/// Codec parameters of a stream; clones share them.
#[derive(Clone)]
pub struct Parameters(Arc<Owned<ffi::AVCodecParameters>>);

fn empty() -> Owned<ffi::AVCodecParameters> {
    // SAFETY: new parameters.
    unsafe { Owned::of(ffi::avcodec_parameters_alloc()) }
}

impl Parameters {
    /// A copy of a stream's parameters.
    ///
    /// # Safety
    /// `source` is valid.
    pub(crate) unsafe fn copy_of(source: *const ffi::AVCodecParameters) -> Result<Self, MediaError> {
        let mut copy = empty();
        // SAFETY: both are valid, the source as the caller guarantees.
        let code = unsafe { ffi::avcodec_parameters_copy(copy.as_mut_ptr(), source) };
        if code < 0 { Err(av::error("copying codec parameters", code)) } else { Ok(Self(Arc::new(copy))) }
    }

    /// The parameters of an encoder's output.
    ///
    /// # Safety
    /// `context` is an open encoder.
    pub(crate) unsafe fn of_encoder(context: *const ffi::AVCodecContext) -> Result<Self, MediaError> {
        let mut parameters = empty();
        // SAFETY: both are valid, the context as the caller guarantees.
        let code = unsafe { ffi::avcodec_parameters_from_context(parameters.as_mut_ptr(), context) };
        if code < 0 { Err(av::error("copying codec parameters", code)) } else { Ok(Self(Arc::new(parameters))) }
    }

    /// Parameters of raw video.
    pub(crate) fn of_raw_video(format: i32, width: u32, height: u32) -> Self {
        let mut own = empty();
        own.codec_type = ffi::AVMediaType::VIDEO;
        own.codec_id = ffi::AVCodecID::RAWVIDEO;
        own.format = format;
        (own.width, own.height) = (i32::try_from(width).unwrap_or(0), i32::try_from(height).unwrap_or(0));
        Self(Arc::new(own))
    }

    /// Parameters of interleaved 32-bit float samples.
    pub(crate) fn of_float_audio(rate: u32, channels: u32) -> Self {
        let mut own = empty();
        // SAFETY: its layout has no memory.
        unsafe { ffi::av_channel_layout_default(&mut own.ch_layout, i32::try_from(channels).unwrap_or(1)) };
        own.codec_type = ffi::AVMediaType::AUDIO;
        own.codec_id = ffi::AVCodecID::PCM_F32LE;
        own.format = ffi::AVSampleFormat::FLT.0;
        own.sample_rate = i32::try_from(rate).unwrap_or(0);
        (own.bits_per_coded_sample, own.block_align) = (32, 4 * own.ch_layout.nb_channels);
        own.bit_rate = 32 * i64::from(rate) * i64::from(channels);
        Self(Arc::new(own))
    }

    /// Parameters of a codec with only these global headers.
    #[cfg(test)]
    pub(crate) fn of_codec(codec: ffi::AVCodecID, extradata: &[u8]) -> Self {
        let mut own = empty();
        (own.codec_type, own.codec_id) = (ffi::AVMediaType::VIDEO, codec);
        Self(Arc::new(own)).with_extradata(extradata).expect("memory")
    }

    /// A copy with other global headers.
    pub(crate) fn with_extradata(&self, extradata: &[u8]) -> Result<Self, MediaError> {
        let room = extradata.len().saturating_add(ffi::AV_INPUT_BUFFER_PADDING_SIZE as usize);
        // SAFETY: no preconditions.
        let bytes = unsafe { ffi::av_mallocz(room) }.cast::<u8>();
        if bytes.is_null() {
            return Err(av::error("copying codec parameters", ffi::AVERROR(libc::ENOMEM)));
        }
        // SAFETY: the copy's old headers are freed once and replaced by zero-padded ones of FFmpeg's allocator, which frees them.
        self.changed(|parameters| unsafe {
            std::ptr::copy_nonoverlapping(extradata.as_ptr(), bytes, extradata.len());
            ffi::av_freep((&raw mut parameters.extradata).cast());
            parameters.extradata = bytes;
            parameters.extradata_size = i32::try_from(extradata.len()).unwrap_or(0);
        })
    }

    /// A copy with changes.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut ffi::AVCodecParameters)) -> Result<Self, MediaError> {
        // SAFETY: valid parameters.
        let Self(mut copy) = unsafe { Self::copy_of(self.get())? };
        // Nothing else shares the copy.
        if let Some(own) = Arc::get_mut(&mut copy) {
            change(own);
        }
        Ok(Self(copy))
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
        &self.0
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
