//! Converts text subtitles between formats.

use std::ptr;

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use crate::{
    MediaError, Parameters,
    av::{self, AvPacket, CodecContext},
    track_fit::TEXT_SUBTITLES,
};

/// Maximum size of one encoded subtitle.
const MAX_BYTES: usize = 1 << 20;
/// Duration in milliseconds of a subtitle without an end.
const DEFAULT_MILLIS: u32 = 3_000;

/// Decodes subtitles and encodes them again.
pub(crate) struct SubtitleConverter {
    decoder: CodecContext,
    encoder: CodecContext,
    /// Time base of the input packets.
    time_base: TimeBase,
    buffer: Vec<u8>,
    damaged: u64,
}

impl SubtitleConverter {
    /// Opens decoder and encoder; `None` if FFmpeg cannot convert between the formats.
    pub(crate) fn open(source: &Parameters, time_base: TimeBase, encoder: &str) -> Option<Self> {
        if !TEXT_SUBTITLES.contains(&source.codec_name().as_str()) {
            return None;
        }
        // SAFETY: any codec number and zero-terminated names are allowed; descriptions are static.
        let (decodes, encodes) = unsafe {
            let name = av::c_string(encoder);
            (ffi::avcodec_find_decoder(source.get().codec_id), ffi::avcodec_find_encoder_by_name(name.as_ptr()))
        };
        if decodes.is_null() || encodes.is_null() {
            return None;
        }
        let (mut decoder, mut encoder) = (CodecContext::new(decodes), CodecContext::new(encodes));
        // SAFETY: fresh contexts and valid parameters. The encoder gets a copy of the decoder's header, in FFmpeg's memory, and frees it.
        let is_open = unsafe {
            decoder.pkt_timebase = av::rational(time_base.ratio());
            let is_set = ffi::avcodec_parameters_to_context(decoder.as_mut_ptr(), source.get()) >= 0;
            let is_decoding = is_set && ffi::avcodec_open2(decoder.as_mut_ptr(), decodes, ptr::null_mut()) >= 0;
            encoder.time_base = ffi::AVRational { num: 1, den: 1000 };
            let size = usize::try_from(decoder.subtitle_header_size).unwrap_or(0);
            if is_decoding && size > 0 && !decoder.subtitle_header.is_null() {
                let header: *mut u8 = ffi::av_mallocz(size + 1).cast();
                if header.is_null() {
                    return None;
                }
                ptr::copy_nonoverlapping(decoder.subtitle_header, header, size);
                encoder.subtitle_header = header;
                encoder.subtitle_header_size = decoder.subtitle_header_size;
            }
            is_decoding && ffi::avcodec_open2(encoder.as_mut_ptr(), encodes, ptr::null_mut()) >= 0
        };
        is_open.then(|| Self { decoder, encoder, time_base, buffer: vec![0; MAX_BYTES], damaged: 0 })
    }

    /// Codec parameters for the container.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub(crate) fn parameters(&self) -> Result<Parameters, MediaError> {
        // SAFETY: an open encoder.
        unsafe { Parameters::of_encoder(self.encoder.as_ptr()) }
    }

    /// Time base of the output packets.
    pub(crate) fn time_base(&self) -> TimeBase {
        self.time_base
    }

    /// Number of packets that could not be converted.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes a packet; returns the converted ones. Counts a packet that cannot be converted.
    pub(crate) fn push(&mut self, packet: &AvPacket) -> Vec<AvPacket> {
        let Ok(mut copy) = packet.share() else { return Vec::new() };
        // SAFETY: a zeroed subtitle is empty; the decoder fills it, and it is freed once below. The encoder writes no more bytes than
        // the buffer has.
        unsafe {
            let mut subtitle: ffi::AVSubtitle = std::mem::zeroed();
            let mut is_there = 0;
            let code = ffi::avcodec_decode_subtitle2(self.decoder.as_mut_ptr(), &mut subtitle, &mut is_there, copy.as_mut_ptr());
            if code < 0 {
                self.damaged += 1;
                return Vec::new();
            }
            let mut made = Vec::new();
            if is_there != 0 && subtitle.num_rects > 0 {
                let (start, end) = (subtitle.start_display_time, subtitle.end_display_time);
                // Encoders expect text that starts with its packet.
                subtitle.end_display_time = end.saturating_sub(start);
                subtitle.start_display_time = 0;
                let (buffer, room) = (self.buffer.as_mut_ptr(), MAX_BYTES as i32);
                let size = ffi::avcodec_encode_subtitle(self.encoder.as_mut_ptr(), buffer, room, &subtitle);
                match usize::try_from(size) {
                    Ok(size) if size > 0 => made.extend(self.packet(packet, size, start, subtitle.end_display_time)),
                    Ok(_) => {}
                    Err(_) => self.damaged += 1,
                }
            }
            ffi::avsubtitle_free(&mut subtitle);
            made
        }
    }

    fn packet(&self, source: &AvPacket, size: usize, start_millis: u32, shown_millis: u32) -> Option<AvPacket> {
        let base = if source.time_base.num > 0 { av::time_base(source.time_base) } else { self.time_base };
        let mut packet = AvPacket::of_bytes(self.buffer.get(..size)?)?;
        let ticks = |millis: u32| TimeBase::new(1, 1000).map_or(0, |millis_base| millis_base.rescale(millis.into(), base));
        let pts = av::timestamp(source.pts).or(av::timestamp(source.dts))?;
        packet.pts = pts.saturating_add(ticks(start_millis));
        packet.dts = packet.pts;
        let shown = if shown_millis > 0 && shown_millis < u32::MAX / 2 { ticks(shown_millis) } else { source.duration };
        packet.duration = if shown > 0 { shown } else { ticks(DEFAULT_MILLIS) };
        packet.time_base = source.time_base;
        packet.flags |= ffi::AV_PKT_FLAG_KEY;
        Some(packet)
    }
}
