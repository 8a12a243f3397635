//! Transcodes audio: decoder, sample conversion, encoder.
//!
//! Times are counted in samples of the output. Decoded frames are placed on that count: timestamp rounding is ignored, gaps become
//! silence, overlaps are discarded, and jumps begin a new stretch, so that audio stays in sync with the video.

use std::{
    ffi::CStr,
    ptr::{self, NonNull},
};

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use crate::{
    MediaError, Parameters, Voice, VoiceCover,
    av::{self, AvFrame, AvPacket, CodecContext},
    filter_chain::FilterChain,
};

/// Deviation between timestamp and sample count that is treated as rounding, in seconds.
const TOLERANCE_SECS: f64 = 0.02;
/// Longest gap that is filled with silence, in seconds. Longer gaps, and steps back, are jumps.
const LONGEST_SILENCE_SECS: f64 = 2.0;
/// Consecutive decoder errors after which a packet is abandoned.
const MAX_FAILED_FRAMES: u32 = 16;
/// Frame size in samples for encoders that accept any.
const DEFAULT_FRAME_SAMPLES: i32 = 1024;
/// Channel layouts that AAC has a channel configuration for; hardware decoders accept no others.
const AAC_LAYOUTS: &[&str] = &["mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1"];

/// Decodes packets of a side stream and encodes them again.
pub(crate) struct AudioTranscoder {
    decoder: CodecContext,
    /// Time base of the input packets.
    time_base: TimeBase,
    encoder: CodecContext,
    /// Converts samples; built for the first frame, and again when rate, layout or format change.
    converter: Option<(Shape, FilterChain)>,
    /// Arguments of FFmpeg's `aeval` that mute or beep the covered spans.
    covering: Option<String>,
    waiting: SampleQueue,
    /// Samples per frame of the encoder.
    frame_samples: i32,
    damaged: u64,
    /// Differences from the source, such as `mixed down from 5.1 to stereo`.
    pub(crate) differences: Vec<String>,
}

/// The input format that a converter was built for.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) format: i32,
    pub(crate) rate: i32,
    pub(crate) layout: String,
}

impl AudioTranscoder {
    /// Opens a decoder for `source` and the first of the `encoders` that this FFmpeg has. `has_global_header`: the container stores
    /// codec headers.
    ///
    /// # Errors
    /// The reason as text, to be used as the end of a sentence.
    pub(crate) fn open(source: &Parameters, time_base: TimeBase, encoders: &[String], has_global_header: bool) -> Result<Self, String> {
        let decoder = open_decoder(source, time_base).ok_or_else(|| format!("this FFmpeg cannot decode {}", source.codec_name()))?;
        let rate = decoder.sample_rate.max(source.get().sample_rate);
        let layout = layout_of(&decoder.ch_layout);
        let found = encoders.iter().find_map(|name| open_encoder(name, rate, &layout, has_global_header, &[]));
        let encoder = found.ok_or_else(|| format!("this FFmpeg has no encoder for it ({})", encoders.join(", ")))?;
        let made = layout_of(&encoder.ch_layout);
        let mut differences = Vec::new();
        if channels_of(&made) != channels_of(&layout) && decoder.ch_layout.nb_channels > 0 {
            differences.push(format!("mixed from {layout} to {made}"));
        }
        if encoder.sample_rate != rate && rate > 0 {
            differences.push(format!("resampled from {rate} to {} Hz", encoder.sample_rate));
        }
        let frame_samples = if encoder.frame_size > 0 { encoder.frame_size } else { DEFAULT_FRAME_SAMPLES };
        let waiting = SampleQueue::new(&encoder).map_err(|error| error.to_string())?;
        Ok(Self { decoder, time_base, encoder, converter: None, covering: None, waiting, frame_samples, damaged: 0, differences })
    }

    /// Covers parts of the audio. `offset_secs` is added to a packet's time to count from the start of what is read.
    pub(crate) fn covered(self, voice: &Voice, offset_secs: f64) -> Self {
        Self { covering: Some(covering(voice, offset_secs)), ..self }
    }

    /// Codec parameters for the container.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub(crate) fn parameters(&self) -> Result<Parameters, MediaError> {
        // SAFETY: an open encoder.
        unsafe { Parameters::of_encoder(self.encoder.as_ptr()) }
    }

    /// Time base of the output packets: one sample.
    pub(crate) fn time_base(&self) -> TimeBase {
        av::time_base(self.encoder.time_base)
    }

    /// Number of packets or frames that could not be decoded or encoded; they are replaced by silence.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Takes a packet; returns the packets that are ready.
    ///
    /// # Errors
    /// `Ffmpeg` when the encoder or the conversion fails; damaged input is not an error.
    pub(crate) fn push(&mut self, packet: &AvPacket) -> Result<Vec<AvPacket>, MediaError> {
        let mut ready = Vec::new();
        let packet = self.in_own_ticks(packet)?;
        // SAFETY: an open decoder and a valid packet. It accepts one whenever all frames were received, which `decode` does.
        let code = unsafe { ffi::avcodec_send_packet(self.decoder.as_mut_ptr(), packet.as_ptr()) };
        self.damaged += u64::from(code < 0);
        self.decode(&mut ready)?;
        Ok(ready)
    }

    /// The packet with times in the decoder's ticks.
    fn in_own_ticks(&self, packet: &AvPacket) -> Result<AvPacket, MediaError> {
        let mut packet = packet.share()?;
        if packet.time_base.num > 0 && packet.time_base.den > 0 {
            let from = av::time_base(packet.time_base);
            packet.pts = av::timestamp(packet.pts).map_or(packet.pts, |ticks| from.rescale(ticks, self.time_base));
            packet.dts = av::timestamp(packet.dts).map_or(packet.dts, |ticks| from.rescale(ticks, self.time_base));
            packet.duration = from.rescale(packet.duration, self.time_base);
            packet.time_base = av::rational(self.time_base.ratio());
        }
        Ok(packet)
    }

    /// Returns the remaining packets, after the last input packet.
    ///
    /// # Errors
    /// As [`AudioTranscoder::push`].
    pub(crate) fn finish(&mut self) -> Result<Vec<AvPacket>, MediaError> {
        let mut ready = Vec::new();
        // SAFETY: an open decoder; null is the end.
        unsafe { ffi::avcodec_send_packet(self.decoder.as_mut_ptr(), ptr::null()) };
        self.decode(&mut ready)?;
        self.end_converter(&mut ready)?;
        let rest = self.waiting.len();
        if rest > 0 {
            self.encode(rest, &mut ready)?;
        }
        // SAFETY: an open encoder; null is the end.
        unsafe { ffi::avcodec_send_frame(self.encoder.as_mut_ptr(), ptr::null()) };
        self.collect(&mut ready)?;
        Ok(ready)
    }

    fn decode(&mut self, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        let mut failed = 0;
        while failed < MAX_FAILED_FRAMES {
            let mut frame = AvFrame::new();
            // SAFETY: an open decoder and an owned frame.
            let code = unsafe { ffi::avcodec_receive_frame(self.decoder.as_mut_ptr(), frame.as_mut_ptr()) };
            if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF {
                return Ok(());
            }
            if code < 0 {
                // A decoder that reports an error has consumed the packet and may hold more frames of it.
                self.damaged += 1;
                failed += 1;
                continue;
            }
            self.convert(frame, ready)?;
        }
        Ok(())
    }

    fn convert(&mut self, mut frame: AvFrame, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        if frame.sample_rate <= 0 || frame.ch_layout.nb_channels <= 0 || frame.nb_samples <= 0 {
            self.damaged += 1;
            return Ok(());
        }
        frame.pts = av::timestamp(frame.best_effort_timestamp).unwrap_or(frame.pts);
        if frame.ch_layout.order == ffi::AVChannelOrder::UNSPEC {
            let channels = frame.ch_layout.nb_channels;
            // SAFETY: a layout without memory is replaced by a native one.
            unsafe { ffi::av_channel_layout_default(&mut frame.ch_layout, channels) };
        }
        let shape = Shape { format: frame.format, rate: frame.sample_rate, layout: layout_of(&frame.ch_layout) };
        if self.converter.as_ref().is_none_or(|(known, _)| *known != shape) {
            self.end_converter(ready)?;
            match self.build(&shape) {
                Ok(chain) => self.converter = Some((shape, chain)),
                Err(_) => {
                    // An unconvertible layout comes from damage.
                    self.damaged += 1;
                    return Ok(());
                }
            }
        }
        if let Some((_, chain)) = &mut self.converter {
            chain.send(Some(&mut frame))?;
        }
        self.lay_down(ready)
    }

    fn build(&self, shape: &Shape) -> Result<FilterChain, MediaError> {
        let base = self.time_base.ratio();
        let (from, to) = (sample_format(shape.format), sample_format(self.encoder.sample_fmt.0));
        let input =
            format!("time_base={}/{}:sample_rate={}:sample_fmt={from}:channel_layout={}", base.num, base.den, shape.rate, shape.layout);
        let output =
            format!("sample_fmts={to}:sample_rates={}:channel_layouts={}", self.encoder.sample_rate, layout_of(&self.encoder.ch_layout));
        let covering = self.covering.as_deref().map(|expression| ("aeval", expression));
        let filters: Vec<_> =
            [("abuffer", input.as_str())].into_iter().chain(covering).chain([("aformat", &*output), ("abuffersink", "")]).collect();
        FilterChain::build(&filters, true)
    }

    fn end_converter(&mut self, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        if let Some((_, chain)) = &mut self.converter {
            chain.send(None)?;
            self.lay_down(ready)?;
        }
        self.converter = None;
        Ok(())
    }

    /// Places converted samples according to their timestamps.
    fn lay_down(&mut self, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        while let Some((_, chain)) = &mut self.converter {
            let Some(frame) = chain.receive()? else { return Ok(()) };
            let rate = f64::from(self.encoder.sample_rate);
            let pts = av::timestamp(frame.pts).map(|pts| chain.time_base().rescale(pts, av::time_base(self.encoder.time_base)));
            let expected = self.waiting.end();
            let gap = pts.zip(expected).map_or(0, |(pts, expected)| pts.saturating_sub(expected));
            let is_rounding = gap.unsigned_abs() as f64 <= TOLERANCE_SECS * rate;
            let is_short = gap.unsigned_abs() as f64 <= LONGEST_SILENCE_SECS * rate;
            if expected.is_none() {
                self.waiting.begin(pts.unwrap_or(0));
            } else if is_short && !is_rounding && gap < 0 {
                continue;
            } else if is_short && !is_rounding {
                self.waiting.push_silence(&self.encoder, gap)?;
            } else if !is_rounding {
                self.end_stretch(ready)?;
                self.waiting.begin(pts.unwrap_or(0));
            }
            self.waiting.push(&frame)?;
            while self.waiting.len() >= self.frame_samples {
                self.encode(self.frame_samples, ready)?;
            }
        }
        Ok(())
    }

    /// Encodes the queued samples, padded with silence: encoders accept a short frame only at the end.
    fn end_stretch(&mut self, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        let rest = self.waiting.len();
        if rest > 0 {
            self.waiting.push_silence(&self.encoder, i64::from(self.frame_samples - rest))?;
            self.encode(self.frame_samples, ready)?;
        }
        Ok(())
    }

    fn encode(&mut self, samples: i32, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        let mut frame = self.waiting.pop(&self.encoder, samples)?;
        // SAFETY: an open encoder and a frame of its format.
        let mut code = unsafe { ffi::avcodec_send_frame(self.encoder.as_mut_ptr(), frame.as_ptr()) };
        if code < 0 {
            // NaN samples come from damage.
            self.damaged += 1;
            silence(&mut frame, &self.encoder);
            // SAFETY: as above.
            code = unsafe { ffi::avcodec_send_frame(self.encoder.as_mut_ptr(), frame.as_ptr()) };
        }
        if code < 0 {
            return Err(av::error("encoding audio", code));
        }
        self.collect(ready)
    }

    fn collect(&mut self, ready: &mut Vec<AvPacket>) -> Result<(), MediaError> {
        while let Some(mut packet) = self.encoder.receive_packet().map_err(|code| av::error("encoding audio", code))? {
            packet.time_base = self.encoder.time_base;
            ready.push(packet);
        }
        Ok(())
    }
}

/// Arguments of `aeval`, for each sample of each channel. A sample without a time is covered too.
fn covering(voice: &Voice, offset_secs: f64) -> String {
    let instead = match voice.cover {
        VoiceCover::Mute => "0",
        VoiceCover::Beep => "0.2*sin(2*PI*1000*t)",
    };
    let during = |(from, to): &(f64, f64)| format!("+gte(t,{:.6})*lt(t,{:.6})", from - offset_secs, to - offset_secs);
    let spans: String = voice.spans_secs.iter().map(during).collect();
    let expression = if spans.is_empty() { instead.to_owned() } else { format!("if(isnan(t){spans},{instead},val(ch))") };
    format!("exprs='{expression}':c=same")
}

pub(crate) fn open_decoder(source: &Parameters, time_base: TimeBase) -> Option<CodecContext> {
    // SAFETY: any codec number is allowed; descriptions are static.
    let codec = unsafe { ffi::avcodec_find_decoder(source.get().codec_id) };
    if codec.is_null() {
        return None;
    }
    let mut context = CodecContext::new(codec);
    // SAFETY: a fresh context and valid parameters, which are copied.
    let code = unsafe {
        context.pkt_timebase = av::rational(time_base.ratio());
        context.thread_count = 1;
        let code = ffi::avcodec_parameters_to_context(context.as_mut_ptr(), source.get());
        if code < 0 { code } else { ffi::avcodec_open2(context.as_mut_ptr(), codec, ptr::null_mut()) }
    };
    (code >= 0).then_some(context)
}

/// Encodes a frame of silence as a packet that decodes independently; `None` without an encoder for such packets.
pub(crate) fn silent_frame(parameters: &ffi::AVCodecParameters) -> Option<Vec<u8>> {
    use ffi::AVCodecID as Id;
    let (name, options): (_, &[_]) = match parameters.codec_id {
        Id::MP3 => ("libmp3lame", &[(c"reservoir", c"0")]),
        Id::MP2 => ("mp2", &[]),
        Id::AC3 => ("ac3", &[]),
        Id::AAC => ("aac", &[]),
        _ => return None,
    };
    let mut encoder = open_encoder(name, parameters.sample_rate, &layout_of(&parameters.ch_layout), true, options)?;
    let is_alike = encoder.sample_rate == parameters.sample_rate && encoder.ch_layout.nb_channels == parameters.ch_layout.nb_channels;
    if !is_alike || (parameters.frame_size > 1 && encoder.frame_size != parameters.frame_size) {
        return None;
    }
    let mut last = None;
    // Encoders first return their look-ahead.
    for number in 0..8 {
        let mut frame = frame_for(&encoder, encoder.frame_size).ok()?;
        silence(&mut frame, &encoder);
        frame.pts = number * i64::from(encoder.frame_size);
        // SAFETY: an open encoder and a frame of its format.
        unsafe { ffi::avcodec_send_frame(encoder.as_mut_ptr(), frame.as_ptr()) };
        last = encoder.receive_packet().ok().flatten().map(|packet| packet.data().to_vec()).or(last);
    }
    last
}

/// Opens an encoder with the layout nearest to the source's.
fn open_encoder(name: &str, rate: i32, layout: &str, has_global_header: bool, options: &[(&CStr, &CStr)]) -> Option<CodecContext> {
    let c_name = av::c_string(name);
    // SAFETY: a zero-terminated name; descriptions are static.
    let codec = unsafe { ffi::avcodec_find_encoder_by_name(c_name.as_ptr()).as_ref() }?;
    let is_aac = codec.id == ffi::AVCodecID::AAC;
    let layouts = candidates(layout).into_iter().filter(|layout| !is_aac || AAC_LAYOUTS.contains(&layout.as_str()));
    let found = layouts.into_iter().find_map(|layout| {
        let mut context = CodecContext::new(codec);
        let c_layout = av::c_string(&layout);
        // SAFETY: a fresh context; an encoder's lists are null or end with a terminator.
        unsafe {
            if ffi::av_channel_layout_from_string(&mut context.ch_layout, c_layout.as_ptr()) < 0 {
                return None;
            }
            context.sample_rate = nearest_rate(codec.supported_samplerates, rate);
            context.sample_fmt = codec.sample_fmts.as_ref().copied().unwrap_or(ffi::AVSampleFormat::S16);
        }
        context.time_base = ffi::AVRational { num: 1, den: context.sample_rate };
        context.bit_rate = bit_rate(codec.id, context.ch_layout.nb_channels, context.sample_rate);
        context.thread_count = 1;
        // FFmpeg's own Opus and Vorbis encoders are experimental; they are listed only where no other is available.
        context.strict_std_compliance = ffi::FF_COMPLIANCE_EXPERIMENTAL;
        if has_global_header {
            context.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as i32;
        }
        // SAFETY: a configured context of this codec; an unknown option changes nothing.
        let code = unsafe {
            for (key, value) in options {
                ffi::av_opt_set(context.priv_data, key.as_ptr(), value.as_ptr(), 0);
            }
            ffi::avcodec_open2(context.as_mut_ptr(), codec, ptr::null_mut())
        };
        (code >= 0).then_some(context)
    });
    crate::log::take_last_error();
    found
}

/// Bit rate for good quality: higher than the encoders' defaults, since the source was already compressed once.
fn bit_rate(codec: ffi::AVCodecID, channels: i32, rate: i32) -> i64 {
    use ffi::AVCodecID as Id;
    let each: i64 = match codec {
        Id::OPUS => 64_000,
        Id::MP3 | Id::AC3 | Id::EAC3 => 96_000,
        Id::MP2 => 128_000,
        _ => 80_000,
    };
    // Codecs fit at most six bits per sample into a frame.
    each.min(i64::from(rate) * 6) * i64::from(channels)
}

/// Returns a sample rate that the encoder supports: the same, else the next higher, else the highest.
///
/// # Safety
/// `list` is null or ends with 0.
pub(crate) unsafe fn nearest_rate(list: *const i32, rate: i32) -> i32 {
    let rate = if rate > 0 { rate } else { 48_000 };
    let mut known = Vec::new();
    // SAFETY: the caller guarantees it.
    unsafe {
        let mut entry = list;
        while !entry.is_null() && *entry != 0 {
            known.push(*entry);
            entry = entry.add(1);
        }
    }
    let above = known.iter().copied().filter(|known| *known >= rate).min();
    above.or(known.into_iter().max()).unwrap_or(rate)
}

/// Layouts to try, nearest first: the source's (with side speakers mapped to the back if necessary), then downmixes.
fn candidates(layout: &str) -> Vec<String> {
    let channels = channels_of(layout);
    let standard = match layout {
        "5.1(side)" => "5.1",
        "5.0(side)" => "5.0",
        other => other,
    };
    let usual = match channels {
        6 => "5.1",
        8 => "7.1",
        _ => "",
    };
    let fewer = [("7.1", 8), ("5.1", 6), ("stereo", 2), ("mono", 1)];
    let fewer = fewer.into_iter().filter(|(_, count)| *count <= channels.max(1)).map(|(name, _)| name);
    let mut list: Vec<String> = Vec::new();
    for name in [standard, layout, usual].into_iter().chain(fewer).chain(["stereo"]) {
        if !name.is_empty() && !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    }
    list
}

pub(crate) fn channels_of(layout: &str) -> i32 {
    let name = av::c_string(layout);
    // SAFETY: a zeroed layout is valid and empty; a layout by name may own memory, which is freed.
    unsafe {
        let mut found: ffi::AVChannelLayout = std::mem::zeroed();
        ffi::av_channel_layout_from_string(&mut found, name.as_ptr());
        let channels = found.nb_channels;
        ffi::av_channel_layout_uninit(&mut found);
        channels
    }
}

/// FFmpeg's name of a layout; the default layout if only the number of channels is known, stereo if nothing is.
pub(crate) fn layout_of(layout: &ffi::AVChannelLayout) -> String {
    let mut text = [0 as libc::c_char; 256];
    // SAFETY: a valid layout, or a fresh one without memory; the buffer's length is passed, and the text is zero-terminated.
    unsafe {
        let mut usual: ffi::AVChannelLayout = std::mem::zeroed();
        let layout: *const ffi::AVChannelLayout = if layout.order == ffi::AVChannelOrder::UNSPEC || layout.nb_channels <= 0 {
            ffi::av_channel_layout_default(&mut usual, if layout.nb_channels > 0 { layout.nb_channels } else { 2 });
            &usual
        } else {
            layout
        };
        ffi::av_channel_layout_describe(layout, text.as_mut_ptr(), text.len());
        av::string(text.as_ptr())
    }
}

/// FFmpeg's name of the default layout for a number of channels.
pub(crate) fn layout_for(channels: i32) -> String {
    // SAFETY: a zeroed layout is valid and empty.
    let mut layout: ffi::AVChannelLayout = unsafe { std::mem::zeroed() };
    layout.nb_channels = channels;
    layout_of(&layout)
}

pub(crate) fn sample_format(format: i32) -> String {
    // SAFETY: any number is allowed; names are static or null.
    unsafe { av::string(ffi::av_get_sample_fmt_name(ffi::AVSampleFormat(format))) }
}

/// Allocates a frame in an encoder's format, samples uninitialised.
fn frame_for(encoder: &CodecContext, samples: i32) -> Result<AvFrame, MediaError> {
    let mut frame = AvFrame::new();
    frame.nb_samples = samples;
    frame.format = encoder.sample_fmt.0;
    frame.sample_rate = encoder.sample_rate;
    // SAFETY: a fresh frame and a valid layout.
    let code = unsafe {
        let code = ffi::av_channel_layout_copy(&mut frame.ch_layout, &encoder.ch_layout);
        if code < 0 { code } else { ffi::av_frame_get_buffer(frame.as_mut_ptr(), 0) }
    };
    if code < 0 { Err(av::error("memory for audio", code)) } else { Ok(frame) }
}

fn silence(frame: &mut AvFrame, encoder: &CodecContext) {
    let (samples, channels) = (frame.nb_samples, encoder.ch_layout.nb_channels);
    // SAFETY: a frame that `frame_for` made for this encoder, with as many samples.
    unsafe { ffi::av_samples_set_silence(frame.extended_data, 0, samples, channels, encoder.sample_fmt) };
}

/// Samples queued for an encoder, and the time of the first.
struct SampleQueue {
    fifo: NonNull<ffi::AVAudioFifo>,
    /// `None` until the first samples arrive.
    start: Option<i64>,
}

// SAFETY: plain memory, not bound to a thread.
unsafe impl Send for SampleQueue {}

impl SampleQueue {
    fn new(encoder: &CodecContext) -> Result<Self, MediaError> {
        // SAFETY: a valid format and number of channels.
        let fifo = unsafe { ffi::av_audio_fifo_alloc(encoder.sample_fmt, encoder.ch_layout.nb_channels, DEFAULT_FRAME_SAMPLES) };
        match NonNull::new(fifo) {
            Some(fifo) => Ok(Self { fifo, start: None }),
            None => Err(av::error("memory for audio", ffi::AVERROR(libc::ENOMEM))),
        }
    }

    fn len(&self) -> i32 {
        // SAFETY: owned by self.
        unsafe { ffi::av_audio_fifo_size(self.fifo.as_ptr()) }
    }

    /// Time of the end of the last sample.
    fn end(&self) -> Option<i64> {
        self.start.map(|start| start.saturating_add(self.len().into()))
    }

    /// Sets the time of the next sample; the queue must be empty.
    fn begin(&mut self, pts: i64) {
        self.start = Some(pts);
    }

    fn push(&mut self, frame: &AvFrame) -> Result<(), MediaError> {
        // SAFETY: the frame has the queue's format and as many samples as it states.
        let code = unsafe { ffi::av_audio_fifo_write(self.fifo.as_ptr(), frame.extended_data.cast(), frame.nb_samples) };
        if code < 0 { Err(av::error("memory for audio", code)) } else { Ok(()) }
    }

    fn push_silence(&mut self, encoder: &CodecContext, samples: i64) -> Result<(), MediaError> {
        let Some(samples) = i32::try_from(samples).ok().filter(|samples| *samples > 0) else { return Ok(()) };
        let mut frame = frame_for(encoder, samples)?;
        silence(&mut frame, encoder);
        self.push(&frame)
    }

    fn pop(&mut self, encoder: &CodecContext, samples: i32) -> Result<AvFrame, MediaError> {
        let mut frame = frame_for(encoder, samples)?;
        // SAFETY: the frame has room for as many samples of the queue's format.
        let code = unsafe { ffi::av_audio_fifo_read(self.fifo.as_ptr(), frame.extended_data.cast(), samples) };
        if code < 0 {
            return Err(av::error("memory for audio", code));
        }
        frame.pts = self.start.unwrap_or(0);
        self.start = self.start.map(|start| start.saturating_add(samples.into()));
        Ok(frame)
    }
}

impl Drop for SampleQueue {
    fn drop(&mut self) {
        // SAFETY: owned by self and freed once.
        unsafe { ffi::av_audio_fifo_free(self.fifo.as_ptr()) };
    }
}
