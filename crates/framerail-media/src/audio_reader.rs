//! Reads audio of a source by time: 32-bit float samples, at the stream's own rate or resampled.
//!
//! Samples lie on a grid: sample n plays n / rate seconds after the stream's first one. Decoded frames are placed on the grid by
//! their timestamps. Deviations within the rounding of containers are ignored, so that the samples match a decode from the start;
//! gaps become silence and are reported.

use framerail_core::TimeBase;

use crate::{
    InputOptions, MediaError,
    audio_decoder::{AudioDecoder, Decoded, append, floats, resampler},
    audio_transcoder::{Shape, channels_of, layout_for},
    av::{self, AvFrame},
};
use ffmpeg_the_third::ffi;

/// Deviation between timestamp and sample count that is treated as rounding, in seconds.
const TOLERANCE_SECS: f64 = 0.02;
/// Longest forward step of the timestamps that counts as a gap, in seconds. Longer steps, and steps back of more than
/// [`LONGEST_OVERLAP_SECS`], are clock resets: samples continue without a gap.
const LONGEST_GAP_SECS: f64 = 86_400.0;
/// The same for transport streams, whose clocks are reset and jump.
const LONGEST_STREAM_GAP_SECS: f64 = 10.0;
/// Longest step back that counts as an overlap, which is discarded.
const LONGEST_OVERLAP_SECS: f64 = 2.0;
/// Samples of silence added in one step.
const SILENCE_STEP: i64 = 1 << 16;
/// Decoded samples kept for requests that go back, over all channels.
const KEPT_SAMPLES: usize = 16 << 20;
/// Distance ahead, in seconds, up to which decoding on is preferred to seeking.
const WORTH_DECODING_SECS: f64 = 4.0;
/// Audio before the target that is decoded and discarded after an inexact seek, in seconds.
const PREROLL_SECS: f64 = 1.0;
/// Maximum number of resampler taps on each side, in samples of the lower rate.
const FILTER_REACH: i64 = 64;
/// Samples sent to the resampler at a time.
const CHUNK: usize = 1 << 15;
/// Longest request that is padded with silence, in samples.
const MAX_PADDED: i64 = 1 << 31;
const MAX_RATE: u32 = 768_000;
const MAX_CHANNELS: u32 = 64;

/// Properties of an audio stream.
#[derive(Clone, Debug)]
pub struct AudioInfo {
    /// FFmpeg's name of the container.
    pub container: String,
    /// FFmpeg's name of the codec.
    pub codec: String,
    /// FFmpeg's name of the decoder's sample format, such as `s16` or `fltp`.
    pub sample_format: String,
    /// Samples per second.
    pub sample_rate: u32,
    /// Number of channels.
    pub channels: u32,
    /// FFmpeg's name of the channel layout.
    pub layout: String,
    /// Index of the stream among all streams of the container.
    pub stream_index: usize,
    /// Time of the first sample in seconds on the file's clock, as decoded.
    pub start_secs: f64,
    /// Start time in seconds according to the header.
    pub start_secs_header: Option<f64>,
    /// Duration in seconds according to the header.
    pub duration_secs: Option<f64>,
    /// Bits per second according to the header.
    pub bit_rate: Option<u64>,
}

/// Format of the returned samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioOutput {
    /// Samples per second; the stream's own when `None`.
    pub sample_rate: Option<u32>,
    /// Number of channels, mixed by FFmpeg's rules; the stream's own when `None`.
    pub channels: Option<u32>,
    /// Whether to pad with silence before the stream's start and after its end, so that the number of samples matches the request.
    pub pads: bool,
}

/// How the reader reaches a position in the middle of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AudioSeek {
    /// Samples match a decode from the start. Decoding begins at the start unless packets are independent.
    #[default]
    Exact,
    /// Decoding begins about a second earlier. Codecs that carry state across packets (AAC with noise substitution, Opus) may return
    /// slightly different samples, and containers that round times (Matroska) may shift them by up to a millisecond.
    Near,
}

/// Samples of a time span.
#[derive(Clone, Debug, Default)]
pub struct AudioBlock {
    /// Samples channel by channel, `samples` each.
    pub data: Vec<f32>,
    /// Number of channels.
    pub channels: usize,
    /// Samples per channel.
    pub samples: usize,
    /// Samples per second.
    pub sample_rate: u32,
    /// Time of the first sample in seconds on the file's clock.
    pub start_secs: f64,
    /// Spans in seconds that are filled with silence because the stream has no audio there.
    pub gaps: Vec<(f64, f64)>,
}

/// Reads one audio stream by time.
pub struct AudioReader {
    options: InputOptions,
    wanted: Option<usize>,
    seek: AudioSeek,
    decoder: AudioDecoder,
    info: AudioInfo,
    window: Window,
    /// Gaps found so far, in samples, in order.
    gaps: Vec<(i64, i64)>,
    /// Damage counted by decoders that have been replaced.
    damaged_before: u64,
}

/// Decoded samples, and the position of the decoder.
#[derive(Default)]
struct Window {
    /// Number of the first kept sample.
    start: i64,
    channels: Vec<Vec<f32>>,
    /// Whether `start` is known: `false` between a seek and the first frame.
    is_placed: bool,
    is_at_end: bool,
    /// Samples of a frame that follows a gap, with the gap's end.
    waiting: Option<(i64, Decoded)>,
    /// Offset added to timestamps, in samples, since the last clock reset.
    shift: i64,
    /// Samples before this one are inexact and discarded.
    valid_from: i64,
}

impl Window {
    fn len(&self) -> i64 {
        self.channels.first().map_or(0, Vec::len) as i64
    }

    fn end(&self) -> i64 {
        self.start + self.len()
    }

    fn push(&mut self, more: Vec<Vec<f32>>) {
        append(&mut self.channels, more);
        let invalid = (self.valid_from - self.start).clamp(0, self.len());
        let count = self.channels.len().max(1);
        let too_many = if self.len() as usize * count > 2 * KEPT_SAMPLES { self.len() - (KEPT_SAMPLES / count) as i64 } else { 0 };
        let drop = invalid.max(too_many);
        if drop > 0 {
            self.channels.iter_mut().for_each(|channel| drop_front(channel, drop as usize));
            self.start += drop;
        }
    }
}

fn drop_front(samples: &mut Vec<f32>, count: usize) {
    samples.drain(..count.min(samples.len()));
}

impl AudioReader {
    /// Opens an audio stream of a source: number `stream` among its audio streams, FFmpeg's default when `None`.
    ///
    /// # Errors
    /// `NoAudio`; `Damaged` if nothing can be decoded; `Unsupported` for a codec without a decoder; those of
    /// [`Input::open`](crate::Input::open).
    pub fn open(options: &InputOptions, stream: Option<usize>, seek: AudioSeek) -> Result<Self, MediaError> {
        av::init();
        let options = options.resolved()?;
        let mut decoder = AudioDecoder::open(&options, stream)?;
        let first = decoder.next()?.ok_or_else(|| MediaError::Damaged {
            source_name: options.source.to_string(),
            reason: "none of its audio can be decoded".into(),
        })?;
        let header = decoder.header();
        let info = AudioInfo {
            container: header.container,
            codec: header.codec,
            sample_format: decoder.sample_format(),
            sample_rate: u32::try_from(decoder.rate()).unwrap_or(0),
            channels: u32::try_from(first.channels.len()).unwrap_or(0),
            layout: decoder.layout().to_owned(),
            stream_index: decoder.stream,
            start_secs: first.pts.map_or(0.0, |pts| decoder.time_base.seconds(pts)),
            start_secs_header: header.start_secs,
            duration_secs: header.duration_secs,
            bit_rate: header.bit_rate,
        };
        let window = Window { is_placed: true, channels: first.channels, ..Window::default() };
        Ok(Self { options, wanted: stream, seek, decoder, info, window, gaps: Vec::new(), damaged_before: 0 })
    }

    /// Properties of the stream.
    pub fn info(&self) -> &AudioInfo {
        &self.info
    }

    /// Number of packets and frames that could not be decoded so far.
    pub fn damaged(&self) -> u64 {
        self.damaged_before + self.decoder.damaged
    }

    /// Returns the samples from `start` to before `stop`, in seconds on the file's clock; `None` means the stream's start or its end.
    /// Consecutive spans return every sample exactly once.
    ///
    /// # Errors
    /// `BadOption` for times, rates and numbers of channels out of range, or channels that FFmpeg cannot mix; `Cancelled`, `Timeout`,
    /// `Io`.
    pub fn read(&mut self, start: Option<f64>, stop: Option<f64>, output: &AudioOutput) -> Result<AudioBlock, MediaError> {
        check(start, stop, output)?;
        let own = self.info.sample_rate;
        let rate = output.sample_rate.unwrap_or(own);
        let origin = self.info.start_secs;
        let place = |secs: f64| ((secs - origin) * f64::from(rate)).round() as i64;
        let first = start.map_or(0, place);
        let end = stop.map(place);
        if output.pads && end.is_some_and(|end| end.saturating_sub(first) > MAX_PADDED) {
            return Err(bad("stop", format!("more than {MAX_PADDED} samples in one request; request shorter spans")));
        }
        let is_own = rate == own && output.channels.is_none_or(|channels| channels == self.info.channels);
        let (begin, mut data) = if is_own { self.own_samples(first, end)? } else { self.converted(first, end, rate, output.channels)? };
        let channels = output.channels.unwrap_or(self.info.channels) as usize;
        data.resize(channels, Vec::new());
        let samples = data.first().map_or(0, Vec::len) as i64;
        let mut gaps = self.gaps_within(first, end, rate);
        let mut begin = begin;
        if output.pads {
            let end = end.unwrap_or(begin + samples).max(first);
            let before = (begin.clamp(first, end) - first).max(0);
            let after = end - first - before - samples;
            let secs = |at: i64| origin + at as f64 / f64::from(rate);
            if before > 0 {
                gaps.insert(0, (secs(first), secs(first + before)));
            }
            if after > 0 {
                gaps.push((secs(end - after), secs(end)));
            }
            for channel in &mut data {
                channel.splice(0..0, std::iter::repeat_n(0.0, before as usize));
                channel.resize((end - first).max(0) as usize, 0.0);
            }
            begin = first;
        }
        let samples = data.first().map_or(0, Vec::len);
        Ok(AudioBlock {
            data: data.concat(),
            channels,
            samples,
            sample_rate: rate,
            start_secs: origin + begin as f64 / f64::from(rate),
            gaps,
        })
    }

    fn gaps_within(&self, first: i64, end: Option<i64>, rate: u32) -> Vec<(f64, f64)> {
        let (own, origin) = (f64::from(self.info.sample_rate), self.info.start_secs);
        let from = origin + first as f64 / f64::from(rate);
        let to = end.map_or(f64::INFINITY, |end| origin + end as f64 / f64::from(rate));
        let secs = |at: i64| origin + at as f64 / own;
        let within = self.gaps.iter().map(|(start, stop)| (secs(*start).max(from), secs(*stop).min(to)));
        within.filter(|(start, stop)| start < stop).collect()
    }

    /// Returns the available samples of `first..end` at the stream's own rate, with the number of the first one.
    fn own_samples(&mut self, first: i64, end: Option<i64>) -> Result<(i64, Vec<Vec<f32>>), MediaError> {
        let first = first.max(0);
        let end = end.unwrap_or(i64::MAX).max(first);
        let mut found: Vec<Vec<f32>> = vec![Vec::new(); self.info.channels as usize];
        if first >= end {
            return Ok((first, found));
        }
        self.go_to(first)?;
        let mut at = first;
        loop {
            let window = &self.window;
            let to = window.end().min(end);
            if window.is_placed && at < to {
                let range = (at - window.start) as usize..(to - window.start) as usize;
                for (found, channel) in found.iter_mut().zip(&window.channels) {
                    found.extend_from_slice(channel.get(range.clone()).unwrap_or_default());
                }
                at = to;
            }
            if at >= end || !self.extend()? {
                return Ok((first, found));
            }
        }
    }

    /// As [`Self::own_samples`], at another rate or with other channels. The resampler's input begins at a position that both rates
    /// share, early enough to fill the resampler's filter: the output does not depend on the requested span.
    fn converted(&mut self, first: i64, end: Option<i64>, rate: u32, channels: Option<u32>) -> Result<(i64, Vec<Vec<f32>>), MediaError> {
        let own = self.info.sample_rate;
        let shared = gcd(own, rate).max(1);
        let (step_in, step_out) = (i64::from(own / shared), i64::from(rate / shared));
        let reach_out = FILTER_REACH * i64::from(rate.div_ceil(own).max(1)) + 1;
        let reach_in = FILTER_REACH * i64::from(own.div_ceil(rate).max(1)) + 1;
        let reach = reach_out.max(reach_in * step_out / step_in + 1);
        let blocks = if rate == own { first.max(0) } else { (first.max(0) - reach).max(0) / step_out };
        let (from, skipped) = (blocks * step_in, blocks * step_out);
        let to = end.map(|end| {
            let exact = i128::from(end.max(0)) * i128::from(step_in) / i128::from(step_out) + 1;
            if rate == own { end.max(0) } else { i64::try_from(exact).unwrap_or(i64::MAX).saturating_add(reach_in) }
        });
        let (_, samples) = self.own_samples(from, to)?;
        let layout = channels.map_or_else(|| self.info.layout.clone(), |channels| layout_for(channels as i32));
        let shape = Shape { format: ffi::AVSampleFormat::FLTP.0, rate: own as i32, layout: self.info.layout.clone() };
        let mut made = convert(&shape, &samples, rate as i32, &layout).map_err(|error| match error {
            MediaError::Ffmpeg { message, .. } => bad("channels", format!("{} cannot be mixed to {layout} ({message})", shape.layout)),
            other => other,
        })?;
        let front = usize::try_from(first.max(0) - skipped).unwrap_or(0);
        for channel in &mut made {
            drop_front(channel, front);
            if let Some(end) = end {
                channel.truncate(usize::try_from(end.max(0) - first.max(0)).unwrap_or(0));
            }
        }
        Ok((first.max(0), made))
    }

    /// Moves the decoder so that a sample is either kept already or still to come.
    fn go_to(&mut self, sample: i64) -> Result<(), MediaError> {
        let rate = f64::from(self.info.sample_rate);
        let is_kept = self.window.is_placed && sample >= self.window.start;
        let ahead = (sample - self.window.end()) as f64 / rate;
        let may_seek = self.window.shift == 0
            && match self.seek {
                AudioSeek::Exact => self.decoder.seeks_exactly(),
                AudioSeek::Near => self.decoder.is_seekable(),
            };
        if is_kept && (ahead < WORTH_DECODING_SECS || !may_seek) {
            return Ok(());
        }
        let preroll = if self.seek == AudioSeek::Near && !self.decoder.seeks_exactly() { PREROLL_SECS } else { 0.0 };
        let target = self.info.start_secs + sample as f64 / rate - preroll;
        if may_seek && target > self.info.start_secs && self.decoder.seek(self.decoder.time_base.ticks(target)) {
            let valid_from = if preroll > 0.0 { sample } else { 0 };
            self.window = Window { valid_from, ..Window::default() };
            // The first frame shows where the seek landed.
            self.extend()?;
            if self.window.is_placed && self.window.start <= sample {
                return Ok(());
            }
        }
        self.restart()
    }

    /// Reopens the source and starts again from the beginning.
    fn restart(&mut self) -> Result<(), MediaError> {
        self.damaged_before += self.decoder.damaged;
        self.decoder = AudioDecoder::open(&self.options, self.wanted)?;
        self.window = Window { is_placed: true, ..Window::default() };
        self.gaps.clear();
        Ok(())
    }

    /// Decodes further; `false` at the end.
    fn extend(&mut self) -> Result<bool, MediaError> {
        if let Some((until, decoded)) = self.window.waiting.take() {
            let missing = until - self.window.end();
            if missing > 0 {
                let step = missing.min(SILENCE_STEP) as usize;
                self.window.waiting = Some((until, decoded));
                self.window.push(vec![vec![0.0; step]; self.info.channels as usize]);
            } else {
                self.window.push(decoded.channels);
            }
            return Ok(true);
        }
        while !self.window.is_at_end {
            let Some(decoded) = self.decoder.next()? else {
                self.window.is_at_end = true;
                break;
            };
            if decoded.channels.len() != self.info.channels as usize {
                self.damaged_before += 1;
                continue;
            }
            if self.lay_down(decoded) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Places samples according to their timestamp; `false` if they were discarded.
    fn lay_down(&mut self, decoded: Decoded) -> bool {
        let rate = f64::from(self.info.sample_rate);
        let (base, origin) = (self.decoder.time_base, self.info.start_secs);
        let stated = decoded.pts.map(|pts| ((base.seconds(pts) - origin) * rate).round() as i64);
        let window = &mut self.window;
        if !window.is_placed {
            (window.start, window.is_placed) = (stated.unwrap_or(0), true);
        }
        let expected = window.end();
        let gap = stated.map_or(0, |stated| stated.saturating_add(window.shift).saturating_sub(expected));
        let secs = gap as f64 / rate;
        let is_stream = self.info.container == "mpegts";
        let longest = if is_stream { LONGEST_STREAM_GAP_SECS } else { LONGEST_GAP_SECS };
        if secs.abs() <= TOLERANCE_SECS {
            window.push(decoded.channels);
        } else if secs > longest || secs < -LONGEST_OVERLAP_SECS {
            window.shift -= gap;
            window.push(decoded.channels);
        } else if gap < 0 {
            return false;
        } else {
            if self.gaps.last().is_none_or(|(start, _)| *start < expected) {
                self.gaps.push((expected, expected + gap));
            }
            window.waiting = Some((expected + gap, decoded));
        }
        true
    }
}

/// Converts samples with a resampler and drains it.
fn convert(shape: &Shape, samples: &[Vec<f32>], rate: i32, layout: &str) -> Result<Vec<Vec<f32>>, MediaError> {
    let base = TimeBase::new(1, i64::from(shape.rate)).unwrap_or(TimeBase::MICROS);
    let mut chain = resampler(shape, base, rate, layout)?;
    let mut made: Vec<Vec<f32>> = vec![Vec::new(); usize::try_from(channels_of(layout)).unwrap_or(0)];
    let count = samples.first().map_or(0, Vec::len);
    for from in (0..count).step_by(CHUNK) {
        let to = (from + CHUNK).min(count);
        let mut frame = frame_of(shape, samples, from..to)?;
        chain.send(Some(&mut frame))?;
        while let Some(part) = chain.receive()? {
            append(&mut made, floats(&part).unwrap_or_default());
        }
    }
    chain.send(None)?;
    while let Some(part) = chain.receive()? {
        append(&mut made, floats(&part).unwrap_or_default());
    }
    Ok(made)
}

pub(crate) fn frame_of(shape: &Shape, samples: &[Vec<f32>], range: std::ops::Range<usize>) -> Result<AvFrame, MediaError> {
    let mut frame = AvFrame::new();
    frame.nb_samples = i32::try_from(range.len()).unwrap_or(0);
    (frame.format, frame.sample_rate) = (shape.format, shape.rate);
    frame.pts = range.start as i64;
    let layout = av::c_string(&shape.layout);
    // SAFETY: a fresh frame, and a zero-terminated name.
    let code = unsafe {
        let code = ffi::av_channel_layout_from_string(&mut frame.ch_layout, layout.as_ptr());
        if code < 0 { code } else { ffi::av_frame_get_buffer(frame.as_mut_ptr(), 0) }
    };
    if code < 0 || frame.ch_layout.nb_channels as usize != samples.len() {
        return Err(av::error("memory for audio", if code < 0 { code } else { ffi::AVERROR(libc::EINVAL) }));
    }
    for (index, channel) in samples.iter().enumerate() {
        let Some(part) = channel.get(range.clone()) else { continue };
        // SAFETY: the frame was made with a plane of floats for each channel, as long as the part.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), (*frame.extended_data.add(index)).cast::<f32>(), part.len()) };
    }
    Ok(frame)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn bad(name: &str, reason: String) -> MediaError {
    MediaError::BadOption { name: name.into(), reason, nearest: None }
}

fn check(start: Option<f64>, stop: Option<f64>, output: &AudioOutput) -> Result<(), MediaError> {
    for (name, value) in [("start", start), ("stop", stop)] {
        if value.is_some_and(|secs| !secs.is_finite() || secs.abs() > 1e12) {
            return Err(bad(name, "must be finite seconds".into()));
        }
    }
    if let (Some(start), Some(stop)) = (start, stop)
        && stop < start
    {
        return Err(bad("stop", format!("{stop} lies before start, {start}")));
    }
    if output.sample_rate.is_some_and(|rate| rate == 0 || rate > MAX_RATE) {
        return Err(bad("sample_rate", format!("must be from 1 to {MAX_RATE} Hz")));
    }
    if output.channels.is_some_and(|channels| channels == 0 || channels > MAX_CHANNELS) {
        return Err(bad("channels", format!("must be from 1 to {MAX_CHANNELS}")));
    }
    Ok(())
}
