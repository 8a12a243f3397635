//! Fills gaps in audio with silence, for containers that count samples and store no timestamps.
//!
//! AVI and MXF store no audio timestamps, MOV and related formats none for PCM: audio after a gap would play too early from then on.

use std::ptr;

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use crate::{MediaError, Parameters, audio_transcoder::silent_frame, av::AvPacket, output_format::OutputFormat};

/// Gaps up to this length, in seconds, may come from rounding.
const TOLERANCE_SECS: f64 = 0.02;
/// Approximate number of samples in a packet of silence.
const SILENCE_SAMPLES: i64 = 4096;
/// FFmpeg's AVI muxer fills gaps between frames itself, up to 60,000 of them.
const AVI_FRAMES: i64 = 50_000;

/// Fills the gaps of one stream in a container.
pub(crate) struct GapFiller {
    way: Way,
    /// Time base of the container's stream.
    base: TimeBase,
    /// End of the written data; `None` before the first packet of a stream that may start late.
    position: Option<i64>,
    /// Time of the last packet, in the container's ticks: muxers require increasing ones.
    last: Option<i64>,
    /// Silence written, in the ticks of `position`.
    filled: i64,
    /// Maximum lead of the audio over its timestamps, for codecs without known silence.
    ahead: i64,
}

enum Way {
    /// Positions are samples. `silence` is `None` if the codec's silence is not known.
    Samples { parameters: Parameters, rate: TimeBase, silence: Option<Silence> },
    /// AVI frames; positions are ticks.
    Frames,
}

/// A block or frame of a codec's silence.
struct Silence {
    block: Vec<u8>,
    samples: i64,
    /// Maximum number of blocks per packet.
    at_once: i64,
}

/// What to write next.
pub(crate) enum Next {
    /// Write this first.
    Filling(AvPacket),
    /// Write the packet.
    Packet,
    /// Drop the packet: it lies before the end of the written data.
    Nothing,
}

impl GapFiller {
    /// Creates a filler for a stream by its parameters and its time base in the container; `None` if the container stores timestamps.
    pub(crate) fn of(format: OutputFormat, parameters: &ffi::AVCodecParameters, base: TimeBase) -> Result<Option<Self>, MediaError> {
        let is_avi = format.name() == "avi";
        let is_audio = parameters.codec_type == ffi::AVMediaType::AUDIO;
        let way = match is_audio {
            _ if is_avi && parameters.codec_type == ffi::AVMediaType::VIDEO => Way::Frames,
            true if is_avi || format.name() == "mxf" || (format.is_mov() && is_counted_in_mov(parameters)) => {
                let Some(rate) = TimeBase::new(1, parameters.sample_rate.into()) else { return Ok(None) };
                // SAFETY: a stream's valid parameters.
                let parameters = unsafe { Parameters::copy_of(parameters)? };
                let silence = Silence::of(parameters.get());
                Way::Samples { parameters, rate, silence }
            }
            _ => return Ok(None),
        };
        // MOV stores a late start in its edit list.
        let position = if format.is_mov() || !is_audio { None } else { Some(0) };
        Ok(Some(Self { way, base, position, last: None, filled: 0, ahead: 0 }))
    }

    /// Decides what to write next, for a packet with the container's times.
    pub(crate) fn next(&mut self, packet: &mut AvPacket) -> Result<Next, MediaError> {
        match &self.way {
            Way::Frames => Ok(self.next_of_frames(packet.dts)),
            Way::Samples { .. } => self.next_of_samples(packet),
        }
    }

    /// Splits long gaps between frames with an empty packet.
    fn next_of_frames(&mut self, dts: i64) -> Next {
        let position = *self.position.get_or_insert(dts);
        if dts.saturating_sub(position) < AVI_FRAMES {
            self.position = Some(dts);
            return Next::Packet;
        }
        let mut empty = AvPacket::new();
        empty.dts = position.saturating_add(AVI_FRAMES);
        (empty.pts, empty.duration) = (empty.dts, 1);
        self.position = Some(empty.dts);
        Next::Filling(empty)
    }

    fn next_of_samples(&mut self, packet: &mut AvPacket) -> Result<Next, MediaError> {
        let Way::Samples { parameters, rate, silence } = &self.way else { return Ok(Next::Packet) };
        let (rate, start) = (*rate, self.base.rescale(packet.pts, *rate));
        let counted = samples_of(parameters.get(), packet.data().len());
        let samples = if counted > 0 { counted.into() } else { self.base.rescale(packet.duration, rate) };
        let position = *self.position.get_or_insert(start);
        let gap = start.saturating_sub(position);
        let is_rounding = rate.seconds(gap).abs() <= TOLERANCE_SECS;
        match silence {
            Some(silence) if gap > 0 && !is_rounding => {
                let blocks = (gap / silence.samples).min(silence.at_once);
                if blocks > 0 {
                    let (mut packet, samples) = (silence.packet(blocks)?, blocks * silence.samples);
                    (packet.pts, packet.duration) = (rate.rescale(position, self.base), rate.rescale(samples, self.base));
                    put_behind(&mut self.last, &mut packet);
                    self.position = Some(position.saturating_add(samples));
                    self.filled = self.filled.saturating_add(samples);
                    return Ok(Next::Filling(packet));
                }
            }
            Some(_) if !is_rounding && gap.saturating_mul(-2) > samples => return Ok(Next::Nothing),
            _ => self.ahead = self.ahead.max(gap),
        }
        self.position = Some(position.saturating_add(samples));
        put_behind(&mut self.last, packet);
        Ok(Next::Packet)
    }

    /// Describes the difference from the input, as the rest of a sentence about the audio.
    pub(crate) fn note(&self) -> Option<String> {
        let Way::Samples { rate, .. } = &self.way else { return None };
        if self.filled > 0 {
            return Some(format!(
                "has {:.2} s of silence in place of gaps, which the container cannot represent",
                rate.seconds(self.filled)
            ));
        }
        let ahead = rate.seconds(self.ahead);
        (ahead > TOLERANCE_SECS)
            .then(|| format!("is up to {ahead:.2} s ahead of the frames: the container cannot represent gaps in it, .mkv can"))
    }
}

fn put_behind(last: &mut Option<i64>, packet: &mut AvPacket) {
    packet.pts = last.map_or(packet.pts, |last| packet.pts.max(last.saturating_add(1)));
    packet.dts = packet.pts;
    *last = Some(packet.pts);
}

impl Silence {
    fn of(parameters: &ffi::AVCodecParameters) -> Option<Self> {
        use ffi::AVCodecID as Id;
        let byte = match parameters.codec_id {
            Id::PCM_U8 => 0x80,
            Id::PCM_ALAW => 0xd5,
            Id::PCM_MULAW => 0xff,
            // Blocks of zeros are silent.
            Id::ADPCM_MS | Id::ADPCM_IMA_WAV | Id::ADPCM_IMA_QT => 0,
            // SAFETY: any codec number is allowed.
            id if unsafe { ffi::av_get_exact_bits_per_sample(id) } >= 16 && Parameters::name_of(id).starts_with("pcm_") => 0,
            _ => {
                let block = silent_frame(parameters)?;
                let samples = i64::from(samples_of(parameters, block.len()));
                return (samples > 0).then_some(Self { block, samples, at_once: 1 });
            }
        };
        let block = vec![byte; usize::try_from(parameters.block_align).ok()?];
        let samples = i64::from(samples_of(parameters, block.len()));
        (samples > 0 && !block.is_empty()).then(|| Self { block, samples, at_once: (SILENCE_SAMPLES / samples).max(1) })
    }

    fn packet(&self, blocks: i64) -> Result<AvPacket, MediaError> {
        let blocks = usize::try_from(blocks).unwrap_or(1);
        let mut packet = AvPacket::of_size(self.block.len().saturating_mul(blocks))?;
        packet.data_mut().chunks_exact_mut(self.block.len()).for_each(|block| block.copy_from_slice(&self.block));
        packet.flags |= ffi::AV_PKT_FLAG_KEY;
        Ok(packet)
    }
}

/// Number of samples in `bytes` bytes of a codec; 0 if only a decoder can determine it.
fn samples_of(parameters: &ffi::AVCodecParameters, bytes: usize) -> i32 {
    // SAFETY: valid parameters, which are only read.
    unsafe { ffi::av_get_audio_frame_duration2(ptr::from_ref(parameters).cast_mut(), i32::try_from(bytes).unwrap_or(0)) }
}

/// Whether MOV's muxer writes samples of equal size with one common duration.
fn is_counted_in_mov(parameters: &ffi::AVCodecParameters) -> bool {
    use ffi::AVCodecID as Id;
    // SAFETY: any codec number is allowed.
    let bits = unsafe { ffi::av_get_bits_per_sample(parameters.codec_id) };
    matches!(parameters.codec_id, Id::ADPCM_MS | Id::ADPCM_IMA_WAV | Id::ILBC) || (bits > 0 && parameters.frame_size <= 1)
}
