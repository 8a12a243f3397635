//! Output containers.

use std::{path::Path, ptr};

use ffmpeg_the_third::ffi;

use crate::{MediaError, av, encoder::Demands, encoder_clock::FrameTimes, error::nearest, version};

/// A container that FFmpeg can write.
#[derive(Clone, Copy)]
pub(crate) struct OutputFormat(&'static ffi::AVOutputFormat);

impl OutputFormat {
    /// Finds a container by option, or by file name.
    pub(crate) fn find(path: &Path, name: Option<&str>) -> Result<Self, MediaError> {
        let shown = path.display().to_string();
        if let Some(name) = name {
            let wanted = av::c_string(name);
            // SAFETY: a zero-terminated name; formats are static.
            let format = unsafe { ffi::av_guess_format(wanted.as_ptr(), ptr::null(), ptr::null()).as_ref() };
            // Such as `mkv` for `matroska`.
            return format.map(Self).or_else(|| Self::of_ending(name)).ok_or_else(|| {
                let names = version::muxers();
                let nearest = nearest(name, names.iter().map(String::as_str));
                let reason = format!("'{name}': FFmpeg writes no container of this name");
                MediaError::BadOption { name: "format".into(), reason, nearest }
            });
        }
        let Some(extension) = path.extension() else {
            let reason = match crate::commit::is_standard_output(path) {
                true => "standard output does not name a container; give it, such as format=matroska".into(),
                false => "has no extension, so the container is unknown; write it as .mp4, .mkv or another, or give the format".into(),
            };
            return Err(MediaError::BadOption { name: shown, reason, nearest: None });
        };
        Self::of_ending(&extension.to_string_lossy()).ok_or_else(|| {
            let reason =
                format!("FFmpeg knows no container for .{}; use .mp4, .mkv or another, or give the format", extension.to_string_lossy());
            MediaError::BadOption { name: shown, reason, nearest: None }
        })
    }

    /// The container of files with this ending.
    fn of_ending(ending: &str) -> Option<Self> {
        let file = av::c_string(&format!("x.{}", ending.to_ascii_lowercase()));
        // SAFETY: a zero-terminated name; formats are static.
        unsafe { ffi::av_guess_format(ptr::null(), file.as_ptr(), ptr::null()).as_ref() }.map(Self)
    }

    /// For FFmpeg's calls.
    pub(crate) fn as_ptr(self) -> *const ffi::AVOutputFormat {
        self.0
    }

    /// Whether it has any of these FFmpeg flags.
    pub(crate) fn has(self, flags: i32) -> bool {
        self.0.flags & flags != 0
    }

    pub(crate) fn name(self) -> String {
        // SAFETY: a static name.
        unsafe { av::string(self.0.name) }
    }

    /// The container's requirements for an encoder.
    pub(crate) fn demands(self) -> Demands {
        let times = match self.name().as_str() {
            "avi" => FrameTimes::Grid,
            "dv" | "gxf" | "mxf" | "mxf_d10" | "mxf_opatom" | "ogg" | "ogv" | "rm" | "roq" | "swf" | "yuv4mpegpipe" => FrameTimes::Counted,
            _ if self.has(ffi::AVFMT_NOTIMESTAMPS) => FrameTimes::Counted,
            _ => FrameTimes::Stamped,
        };
        Demands { global_header: self.has(ffi::AVFMT_GLOBALHEADER), times }
    }

    /// Whether it is MP4, MOV or a related container.
    pub(crate) fn is_mov(self) -> bool {
        matches!(self.name().as_str(), "mp4" | "mov" | "ipod" | "3gp" | "3g2" | "psp" | "f4v" | "ismv")
    }

    /// Whether it is a live output, which is watched while it is written.
    pub(crate) fn is_live(self) -> bool {
        matches!(self.name().as_str(), "hls" | "rtsp")
    }

    /// The default video encoder of the container.
    pub(crate) fn default_encoder(self) -> Result<String, MediaError> {
        let format = self.name();
        let preferred = match format.as_str() {
            "mp4" | "mov" | "matroska" | "ipod" | "flv" | "mpegts" | "3gp" | "h264" | "psp" | "f4v" | "ismv" | "hls" | "rtsp" => {
                &["libx264", "libopenh264", "mpeg4"][..]
            }
            "webm" => &["libvpx-vp9", "libaom-av1", "libvpx"][..],
            "avi" => &["mpeg4"][..],
            // libaom is a hundred times slower.
            "obu" => &["libsvtav1", "libaom-av1"][..],
            _ => &[],
        };
        let available = version::video_encoders();
        if let Some(name) = preferred.iter().find(|name| available.iter().any(|known| known == *name)) {
            return Ok((*name).to_owned());
        }
        // SAFETY: a static format; an encoder's description is static or null.
        let name = unsafe {
            let codec = ffi::avcodec_find_encoder(self.0.video_codec);
            if codec.is_null() { String::new() } else { av::string((*codec).name) }
        };
        if name.is_empty() || self.0.video_codec == ffi::AVCodecID::NONE {
            return Err(MediaError::Unsupported {
                what: format!("video in {format}"),
                reason: "choose another container, such as .mp4 or .mkv".into(),
            });
        }
        Ok(name)
    }

    /// FFmpeg's default audio encoder for the container; `None` if it does not support audio.
    pub(crate) fn default_audio_encoder(self) -> Option<String> {
        if self.0.audio_codec == ffi::AVCodecID::NONE {
            return None;
        }
        // SAFETY: a static format; an encoder's description is static or null.
        unsafe { ffi::avcodec_find_encoder(self.0.audio_codec).as_ref().map(|codec| av::string(codec.name)) }
    }

    /// Whether the container supports a codec, according to FFmpeg.
    pub(crate) fn takes_codec(self, codec: ffi::AVCodecID) -> bool {
        // SAFETY: a static format and any codec number.
        unsafe { ffi::avformat_query_codec(self.0, codec, ffi::FF_COMPLIANCE_NORMAL) == 1 }
    }

    /// FFmpeg's standards compliance level for the container. FLAC and TrueHD in MP4 are standard by now, but older FFmpeg releases
    /// consider them experimental.
    pub(crate) fn strictness(self) -> i32 {
        if self.is_mov() { ffi::FF_COMPLIANCE_EXPERIMENTAL } else { ffi::FF_COMPLIANCE_NORMAL }
    }

    /// The codec tag of a stream in the container: the stream's own if the container knows it or knows no other; else 0, for which
    /// the muxer chooses one. The MOV muxer then uses Microsoft's tag, written in its own way.
    pub(crate) fn tag_for(self, parameters: &ffi::AVCodecParameters) -> u32 {
        let (own, mut other) = (parameters.codec_tag, 0);
        // SAFETY: a static format with a list of lists that ends with null, or null; the tag is written to a live integer.
        let is_own = unsafe {
            self.0.codec_tag.is_null()
                || ffi::av_codec_get_id(self.0.codec_tag, own) == parameters.codec_id
                || (!self.is_mov() && ffi::av_codec_get_tag2(self.0.codec_tag, parameters.codec_id, &mut other) == 0)
        };
        if is_own { own } else { 0 }
    }
}
