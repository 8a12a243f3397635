//! A kind of output container, and what it takes.

use std::{path::Path, ptr};

use ffmpeg_the_third::ffi;
use framerail_core::{MediaKind, SideStream};

use crate::{MediaError, SegmentFormat, av, encoder::Demands, error::nearest, version};

/// Sound that RTP has a payload for, as far as receivers know it too.
const RTP_SOUND: &[&str] = &["aac", "mp2", "mp3", "opus", "pcm_alaw", "pcm_mulaw", "adpcm_g722", "amr_nb", "amr_wb", "speex"];
/// Sound that players take in MPEG-TS segments.
const TS_SOUND: &[&str] = &["aac", "mp2", "mp3", "ac3", "eac3"];
/// Sound that players take in segments of fragmented MP4.
const FRAGMENT_SOUND: &[&str] = &["aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"];

/// A container that FFmpeg writes.
#[derive(Clone, Copy)]
pub(crate) struct OutputFormat(&'static ffi::AVOutputFormat);

impl OutputFormat {
    /// By option, or by file name.
    pub(crate) fn find(path: &Path, name: Option<&str>) -> Result<Self, MediaError> {
        let shown = path.display().to_string();
        if let Some(name) = name {
            let wanted = av::c_string(name);
            // SAFETY: a zero-ended name; formats are static.
            let format = unsafe { ffi::av_guess_format(wanted.as_ptr(), ptr::null(), ptr::null()).as_ref() };
            return format.map(Self).ok_or_else(|| {
                let names = version::muxers();
                let nearest = nearest(name, names.iter().map(String::as_str));
                MediaError::BadOption { name: name.to_owned(), reason: "FFmpeg writes no container of this name".into(), nearest }
            });
        }
        let Some(extension) = path.extension() else {
            let reason = "has no extension, so the container is unknown; write it as .mp4, .mkv or another, or give the format".into();
            return Err(MediaError::BadOption { name: shown, reason, nearest: None });
        };
        let file = av::c_string(&format!("x.{}", extension.to_string_lossy().to_ascii_lowercase()));
        // SAFETY: a zero-ended name; formats are static.
        let format = unsafe { ffi::av_guess_format(ptr::null(), file.as_ptr(), ptr::null()).as_ref() };
        format.map(Self).ok_or_else(|| {
            let reason =
                format!("FFmpeg knows no container for .{}; use .mp4, .mkv or another, or give the format", extension.to_string_lossy());
            MediaError::BadOption { name: shown, reason, nearest: None }
        })
    }

    /// For FFmpeg's calls.
    pub(crate) fn as_ptr(self) -> *const ffi::AVOutputFormat {
        self.0
    }

    /// Whether it has any of FFmpeg's flags.
    pub(crate) fn has(self, flags: i32) -> bool {
        self.0.flags & flags != 0
    }

    pub(crate) fn name(self) -> String {
        // SAFETY: a static name.
        unsafe { av::string(self.0.name) }
    }

    /// What the container asks of its encoder.
    pub(crate) fn demands(self) -> Demands {
        Demands { global_header: self.has(ffi::AVFMT_GLOBALHEADER), fixed_rate: !self.has(ffi::AVFMT_VARIABLE_FPS) && self.name() == "avi" }
    }

    /// MP4 and its kin.
    pub(crate) fn is_mov(self) -> bool {
        matches!(self.name().as_str(), "mp4" | "mov" | "ipod" | "3gp" | "3g2" | "psp" | "f4v" | "ismv")
    }

    /// Whether it is watched while it is written.
    pub(crate) fn is_live(self) -> bool {
        matches!(self.name().as_str(), "hls" | "rtsp")
    }

    /// The usual encoder for the container.
    pub(crate) fn default_encoder(self) -> Result<String, MediaError> {
        let format = self.name();
        let preferred = match format.as_str() {
            "mp4" | "mov" | "matroska" | "ipod" | "flv" | "mpegts" | "3gp" | "h264" | "psp" | "f4v" | "ismv" | "hls" | "rtsp" => {
                &["libx264", "libopenh264", "mpeg4"][..]
            }
            "webm" => &["libvpx-vp9", "libaom-av1", "libvpx"][..],
            "avi" => &["mpeg4"][..],
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

    /// Whether it takes a side stream; `segment_format` is that of a playlist's segments.
    pub(crate) fn takes(
        self,
        side: &SideStream,
        parameters: &ffi::AVCodecParameters,
        metadata: &[(String, String)],
        segment_format: SegmentFormat,
    ) -> bool {
        let format = self.0;
        if self.is_live() {
            // What these muxers carry is not what they say: they ask another one within.
            let sound = match (self.name().as_str(), segment_format) {
                ("rtsp", _) => RTP_SOUND,
                (_, SegmentFormat::MpegTs) => TS_SOUND,
                (_, SegmentFormat::FragmentedMp4) => FRAGMENT_SOUND,
            };
            // AAC out of a transport stream has its header in each packet, where RTP cannot use it.
            let is_described = side.codec != "aac" || self.name() == "hls" || parameters.extradata_size > 0;
            return side.kind == MediaKind::Audio && sound.contains(&side.codec.as_str()) && is_described;
        }
        let usual = match side.kind {
            MediaKind::Audio => format.audio_codec,
            MediaKind::Subtitle => format.subtitle_codec,
            MediaKind::Data => return false,
            // A cover picture in MP4, a named file in Matroska; anything else would become a second video.
            MediaKind::Attachment if parameters.codec_type == ffi::AVMediaType::VIDEO => {
                return self.is_mov() && matches!(side.codec.as_str(), "png" | "mjpeg" | "bmp");
            }
            MediaKind::Attachment => {
                return self.name() == "matroska" && metadata.iter().any(|(key, _)| key == "filename");
            }
        };
        // SAFETY: a static format and any codec number.
        let answer = unsafe { ffi::avformat_query_codec(format, parameters.codec_id, ffi::FF_COMPLIANCE_NORMAL) };
        match answer {
            1 => true,
            0 => false,
            // The container does not say: it takes the kind if it has a usual codec for it.
            _ => usual != ffi::AVCodecID::NONE,
        }
    }
}
