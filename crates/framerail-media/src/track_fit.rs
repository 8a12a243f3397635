//! Decides which side streams a container supports, and how to convert the others.

use std::ptr;

use ffmpeg_the_third::ffi;

use crate::{MediaError, Parameters, SegmentFormat, av, encoder::VideoTrack, output_format::OutputFormat};

/// Audio codecs with an RTP payload format that receivers commonly support.
const RTP_AUDIO: &[&str] = &["aac", "mp2", "mp3", "opus", "pcm_alaw", "pcm_mulaw", "adpcm_g722", "amr_nb", "amr_wb", "speex"];
/// Audio codecs with a stream type in MPEG-TS. FFmpeg writes others as private data that no player decodes, and TrueHD without the
/// AC-3 stream that contains it.
const TS_AUDIO: &[&str] = &["aac", "aac_latm", "mp1", "mp2", "mp3", "ac3", "eac3", "dts", "opus", "s302m"];
/// Audio codecs that players support in MPEG-TS segments.
const TS_SEGMENT_AUDIO: &[&str] = &["aac", "mp2", "mp3", "ac3", "eac3"];
/// Audio codecs that players support in fragmented MP4 segments.
const MP4_SEGMENT_AUDIO: &[&str] = &["aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"];
/// Audio codecs with a stream type in MPEG program streams.
const PS_AUDIO: &[&str] = &["mp2", "mp3", "ac3", "dts", "pcm_s16be", "pcm_dvd"];
/// Audio codecs whose frames AVI can count without a stated frame length.
const AVI_AUDIO: &[&str] = &["aac", "mp1", "mp2", "mp3", "ac3", "wmav1", "wmav2"];
/// Subtitle codecs with a stream type in MPEG-TS.
const TS_SUBTITLES: &[&str] = &["dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle", "arib_caption"];

/// Text subtitle codecs, which can be converted to each other.
pub(crate) const TEXT_SUBTITLES: &[&str] = &["subrip", "srt", "ass", "ssa", "webvtt", "mov_text", "text"];

/// A container with the streams that it has so far.
///
/// Whether a container supports a stream depends on the codec, its settings and the other streams. FFmpeg decides when it writes a
/// header, so a header with the stream is written to memory. The lists here only exclude what FFmpeg writes but no player plays.
pub(crate) struct TrackFit {
    format: OutputFormat,
    segment_format: SegmentFormat,
    tracks: Vec<Parameters>,
    video: VideoTrack,
}

impl TrackFit {
    /// Creates a container with its video.
    pub(crate) fn new(format: OutputFormat, segment_format: SegmentFormat, video: VideoTrack) -> Self {
        Self { format, segment_format, tracks: Vec::new(), video }
    }

    /// The container's name for messages.
    pub(crate) fn name(&self) -> String {
        self.format.name()
    }

    /// Records a stream that is in the container.
    pub(crate) fn add(&mut self, parameters: Parameters) {
        self.tracks.push(parameters);
    }

    /// Whether audio can be copied.
    pub(crate) fn takes_audio(&self, parameters: &Parameters) -> bool {
        let (codec, name) = (parameters.codec_name(), self.format.name());
        let list = match (name.as_str(), self.segment_format) {
            // AAC from a transport stream has a header in each packet, which RTP cannot use.
            ("rtsp", _) if codec == "aac" && parameters.extradata().is_empty() => return false,
            ("rtsp", _) => RTP_AUDIO,
            ("hls", SegmentFormat::MpegTs) => TS_SEGMENT_AUDIO,
            ("hls", SegmentFormat::FragmentedMp4) => MP4_SEGMENT_AUDIO,
            ("mpegts", _) => TS_AUDIO,
            ("mpeg" | "vob" | "svcd" | "dvd" | "vcd", _) => PS_AUDIO,
            // WMA would lose its header in MOV.
            ("mov", _) if codec.starts_with("wma") => return false,
            ("avi", _) if self.copied(parameters).is_ok_and(|copy| copy.get().block_align > 0 || copy.get().frame_size > 0) => {
                return self.accepts(parameters);
            }
            ("avi", _) => AVI_AUDIO,
            _ => return self.accepts(parameters),
        };
        list.contains(&codec.as_str()) && (self.format.is_live() || self.accepts(parameters))
    }

    /// Whether each packet of AAC keeps its header.
    pub(crate) fn keeps_adts(&self) -> bool {
        match self.format.name().as_str() {
            "hls" => self.segment_format == SegmentFormat::MpegTs,
            name => matches!(name, "mpegts" | "adts"),
        }
    }

    /// Whether subtitles can be copied.
    pub(crate) fn takes_subtitles(&self, parameters: &Parameters) -> bool {
        match self.format.name().as_str() {
            "hls" | "rtsp" | "avi" | "flv" => false,
            "mpegts" => TS_SUBTITLES.contains(&parameters.codec_name().as_str()) && self.accepts(parameters),
            _ => self.accepts(parameters),
        }
    }

    /// Whether an attachment can be copied: a cover image in MP4, a named file in Matroska; others would become a second video.
    pub(crate) fn takes_attachment(&self, parameters: &Parameters, metadata: &[(String, String)]) -> bool {
        if parameters.get().codec_type == ffi::AVMediaType::VIDEO {
            return self.format.is_mov() && matches!(parameters.codec_name().as_str(), "png" | "mjpeg" | "bmp");
        }
        self.format.name() == "matroska" && metadata.iter().any(|(key, _)| key == "filename")
    }

    /// Whether the container supports chapters.
    pub(crate) fn takes_chapters(&self) -> bool {
        self.format.is_mov() || matches!(self.format.name().as_str(), "matroska" | "webm" | "nut" | "asf" | "ogg" | "ogv")
    }

    /// Whether the container stores a start timecode.
    pub(crate) fn takes_timecode(&self) -> bool {
        self.format.is_mov() || matches!(self.format.name().as_str(), "matroska" | "webm" | "mxf" | "nut")
    }

    /// Encoders for audio that the container does not support, in order of preference; empty if it has no audio. PCM stays PCM
    /// if the container supports another variant.
    pub(crate) fn encoders_for(&self, parameters: &Parameters) -> Vec<String> {
        let is_long = parameters.get().bits_per_coded_sample > 16;
        let pcm = if is_long { ["pcm_s24le", "pcm_s16le"] } else { ["pcm_s16le", "pcm_s24le"] };
        let forms = pcm.iter().filter(|_| parameters.codec_name().starts_with("pcm_") && !self.format.is_live());
        let taken = forms.filter(|name| pcm_as(name, parameters).is_ok_and(|form| self.takes_audio(&form)));
        taken.map(|name| (*name).to_owned()).chain(self.usual_audio()).collect()
    }

    /// The container's default audio encoders, in order of preference; empty if it has no audio.
    pub(crate) fn usual_audio(&self) -> Vec<String> {
        let names: &[&str] = match self.format.name().as_str() {
            "mp4" | "mov" | "ipod" | "3gp" | "3g2" | "psp" | "f4v" | "ismv" | "flv" | "mpegts" | "hls" | "rtsp" => &["aac"],
            "webm" | "ogg" | "ogv" => &["libopus", "libvorbis", "opus"],
            "matroska" | "nut" => &["libopus", "aac"],
            "avi" => &["libmp3lame", "ac3", "mp2"],
            "mpeg" | "vob" | "svcd" | "dvd" | "vcd" => &["mp2", "ac3"],
            "asf" | "wmv" => &["wmav2"],
            "mxf" => &["pcm_s16le"],
            _ => return self.format.default_audio_encoder().into_iter().collect(),
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The container's default encoder of text subtitles.
    pub(crate) fn usual_subtitles(&self) -> Option<&'static str> {
        match self.format.name().as_str() {
            "matroska" => Some("subrip"),
            "webm" => Some("webvtt"),
            name if name != "psp" && self.format.is_mov() => Some("mov_text"),
            _ => None,
        }
    }

    /// Parameters for a copied stream: with a tag that the container knows, and with the values that its muxer counts by.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub(crate) fn copied(&self, parameters: &Parameters) -> Result<Parameters, MediaError> {
        parameters.changed(|copy| {
            copy.codec_tag = self.format.tag_for(copy);
            if copy.codec_type == ffi::AVMediaType::AUDIO {
                // SAFETY: any codec number is allowed.
                let bits = unsafe { ffi::av_get_exact_bits_per_sample(copy.codec_id) };
                if copy.block_align == 0 && bits >= 8 {
                    copy.block_align = copy.ch_layout.nb_channels.saturating_mul(bits / 8);
                }
                match copy.codec_id {
                    // Containers that count frames by this number would interpret it as bytes.
                    ffi::AVCodecID::MP3 if matches!(copy.block_align, 1 | 576 | 1152) => copy.block_align = 0,
                    ffi::AVCodecID::AC3 => copy.block_align = 0,
                    // Blocks of a fixed number of samples: without it AVI derives the time base of the audio from the rounded bit rate.
                    _ if copy.frame_size == 0 && copy.block_align > 0 => {
                        // SAFETY: valid parameters, which are only read.
                        copy.frame_size = unsafe { ffi::av_get_audio_frame_duration2(copy, copy.block_align) }.max(0);
                    }
                    _ => {}
                }
            }
        })
    }

    /// Checks with FFmpeg: writes the container's header with the stream to memory.
    fn accepts(&self, parameters: &Parameters) -> bool {
        let Ok(own) = self.copied(parameters) else { return false };
        if self.format.has(ffi::AVFMT_NOFILE) {
            return self.format.takes_codec(own.get().codec_id);
        }
        let streams = std::iter::once(&self.video.parameters).chain(&self.tracks).chain([&own]);
        let is_taken = writes_header(self.format, streams, self.video.time_base.ratio());
        crate::log::take_last_error();
        is_taken
    }
}

/// Parameters of PCM with the same rate and layout but another sample format.
fn pcm_as(name: &str, parameters: &Parameters) -> Result<Parameters, MediaError> {
    let (codec, bits) = if name == "pcm_s24le" { (ffi::AVCodecID::PCM_S24LE, 24) } else { (ffi::AVCodecID::PCM_S16LE, 16) };
    parameters.changed(|copy| {
        (copy.codec_id, copy.codec_tag, copy.bits_per_coded_sample) = (codec, 0, bits);
        copy.block_align = copy.ch_layout.nb_channels * bits / 8;
        copy.bit_rate = i64::from(copy.block_align) * i64::from(copy.sample_rate) * 8;
    })
}

fn writes_header<'a>(format: OutputFormat, streams: impl Iterator<Item = &'a Parameters>, video_ticks: framerail_core::Rational) -> bool {
    let mut context = ptr::null_mut();
    // SAFETY: a static format; the context and its byte stream are freed below in all cases. Freeing the context also ends a muxer
    // that was started.
    unsafe {
        ffi::avformat_alloc_output_context2(&mut context, format.as_ptr(), ptr::null(), ptr::null());
        if context.is_null() {
            return false;
        }
        (*context).strict_std_compliance = format.strictness();
        let mut is_ready = ffi::avio_open_dyn_buf(&mut (*context).pb) >= 0;
        for parameters in streams {
            let stream = ffi::avformat_new_stream(context, ptr::null());
            is_ready = is_ready && !stream.is_null() && ffi::avcodec_parameters_copy((*stream).codecpar, parameters.get()) >= 0;
            if is_ready {
                let rate = (*(*stream).codecpar).sample_rate;
                (*stream).time_base = if rate > 0 { ffi::AVRational { num: 1, den: rate } } else { av::rational(video_ticks) };
            }
        }
        let is_written = is_ready && ffi::avformat_write_header(context, ptr::null_mut()) >= 0;
        let mut bytes = ptr::null_mut();
        if !(*context).pb.is_null() {
            ffi::avio_close_dyn_buf((*context).pb, &mut bytes);
            (*context).pb = ptr::null_mut();
        }
        ffi::av_free(bytes.cast());
        ffi::avformat_free_context(context);
        is_written
    }
}
