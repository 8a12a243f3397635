//! Decodes one audio stream of a source, packet by packet, to 32-bit float samples.

use std::{slice, sync::Arc};

use ffmpeg_the_third::ffi;
use framerail_core::TimeBase;

use crate::{
    InputOptions, MediaError, Parameters,
    audio_transcoder::{Shape, layout_of, open_decoder, sample_format},
    av::{self, AvFrame, AvPacket, CodecContext},
    container::Container,
    describe,
    filter_chain::FilterChain,
    interrupt::Interrupt,
};

/// Failed reads or decodes in a row after which a source counts as ended.
const MAX_FAILURES: u32 = 1024;

/// Samples of one decoded frame: one list per channel, all of the same length.
pub(crate) struct Decoded {
    /// Time of the first sample in ticks of the stream; `None` if the frame has no timestamp.
    pub(crate) pts: Option<i64>,
    pub(crate) channels: Vec<Vec<f32>>,
}

/// A demuxer and decoder of one audio stream.
pub(crate) struct AudioDecoder {
    container: Container,
    interrupt: Arc<Interrupt>,
    source_name: String,
    pub(crate) stream: usize,
    pub(crate) time_base: TimeBase,
    decoder: CodecContext,
    /// Sample rate and layout of all returned samples: those of the first frame.
    native: Option<Shape>,
    /// Converts frames with another rate or layout.
    converter: Option<(Shape, FilterChain)>,
    is_drained: bool,
    is_sent: bool,
    /// Packets and frames that could not be decoded.
    pub(crate) damaged: u64,
}

/// The container's metadata of an audio stream.
#[derive(Clone, Debug)]
pub(crate) struct AudioHeader {
    pub(crate) container: String,
    pub(crate) codec: String,
    pub(crate) bit_rate: Option<u64>,
    pub(crate) duration_secs: Option<f64>,
    pub(crate) start_secs: Option<f64>,
}

impl AudioDecoder {
    /// Opens a source and the decoder of an audio stream: number `wanted` among the audio streams, FFmpeg's default when `None`.
    ///
    /// # Errors
    /// `NoAudio`, `Unsupported` if this FFmpeg cannot decode the codec, and the errors of opening.
    pub(crate) fn open(options: &InputOptions, wanted: Option<usize>) -> Result<Self, MediaError> {
        let interrupt = Interrupt::new(options.cancel.clone(), options.read_timeout);
        let mut container = Container::open(options.source.reveal(), options, &interrupt)?;
        let source_name = options.source.to_string();
        let stream = find_audio(&mut container, wanted, false)?;
        container.discard_others(&[stream]);
        let no_audio = || MediaError::NoAudio { source_name: source_name.clone(), found: describe::listing(&container) };
        let own = container.stream(stream).ok_or_else(no_audio)?;
        let time_base = av::time_base(own.time_base);
        // SAFETY: every stream has parameters.
        let parameters = unsafe { Parameters::copy_of(own.codecpar)? };
        let decoder = open_decoder(&parameters, time_base).ok_or_else(|| MediaError::Unsupported {
            what: format!("{source_name}: audio codec {}", parameters.codec_name()),
            reason: "this FFmpeg has no decoder for it".into(),
        })?;
        Ok(Self {
            container,
            interrupt,
            source_name,
            stream,
            time_base,
            decoder,
            native: None,
            converter: None,
            is_drained: false,
            is_sent: false,
            damaged: 0,
        })
    }

    pub(crate) fn header(&self) -> AudioHeader {
        let stream = self.container.stream(self.stream);
        // SAFETY: every stream has parameters.
        let parameters = stream.map(|stream| unsafe { &*stream.codecpar });
        let bits = |bits: i64| u64::try_from(bits).ok().filter(|bits| *bits > 0);
        AudioHeader {
            container: self.container.format_name(),
            // SAFETY: any number is allowed; names are static.
            codec: unsafe { av::string(ffi::avcodec_get_name(self.decoder.codec_id)) },
            bit_rate: parameters.and_then(|parameters| bits(parameters.bit_rate)).or(bits(self.decoder.bit_rate)),
            duration_secs: stream.and_then(|stream| describe::duration_secs(&self.container, stream)),
            start_secs: stream.and_then(|stream| av::timestamp(stream.start_time)).map(|ticks| self.time_base.seconds(ticks)),
        }
    }

    /// Sample rate of the returned samples; 0 before the first frame.
    pub(crate) fn rate(&self) -> i32 {
        self.native.as_ref().map_or(0, |native| native.rate)
    }

    /// FFmpeg's name of the channel layout of the returned samples.
    pub(crate) fn layout(&self) -> &str {
        self.native.as_ref().map_or("", |native| &native.layout)
    }

    /// FFmpeg's name of the decoder's sample format, such as `s16` or `fltp`.
    pub(crate) fn sample_format(&self) -> String {
        self.native.as_ref().map_or_else(String::new, |native| sample_format(native.format))
    }

    /// Whether decoding from a seek returns the same samples, at the same positions, as decoding from the start: packets are
    /// independent, and the container's ticks are at most one sample long.
    pub(crate) fn seeks_exactly(&self) -> bool {
        use ffi::AVCodecID as Id;
        let id = self.decoder.codec_id;
        let stands_alone = (Id::PCM_S16LE.0..Id::ADPCM_IMA_QT.0).contains(&id.0) || matches!(id, Id::ALAC | Id::FLAC);
        let format = self.container.format_name();
        let is_indexed = format.starts_with("mov") || matches!(format.as_str(), "wav" | "w64" | "aiff" | "caf" | "au");
        let is_fine = self.time_base.seconds(1) * f64::from(self.rate()) <= 1.001;
        stands_alone && is_indexed && is_fine && self.container.is_seekable()
    }

    pub(crate) fn is_seekable(&self) -> bool {
        self.container.is_seekable()
    }

    /// Seeks to the last packet at or before a time in ticks; returns `false` and keeps the position if the source cannot seek.
    pub(crate) fn seek(&mut self, ticks: i64) -> bool {
        if !self.container.seek(self.stream, ticks) {
            return false;
        }
        // SAFETY: an open decoder.
        unsafe { ffi::avcodec_flush_buffers(self.decoder.as_mut_ptr()) };
        (self.converter, self.is_drained, self.is_sent) = (None, false, false);
        true
    }

    /// Returns the next samples; `None` at the end.
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`, `Io` of a custom source; `Unsupported` for samples that cannot be converted.
    pub(crate) fn next(&mut self) -> Result<Option<Decoded>, MediaError> {
        let mut failures = 0;
        while !self.is_drained && failures < MAX_FAILURES {
            let mut frame = AvFrame::new();
            // SAFETY: an open decoder and an owned frame.
            let code = unsafe { ffi::avcodec_receive_frame(self.decoder.as_mut_ptr(), frame.as_mut_ptr()) };
            if code == ffi::AVERROR_EOF {
                self.is_drained = true;
            } else if code == ffi::AVERROR(libc::EAGAIN) {
                failures += u32::from(!self.feed()?);
            } else if code < 0 {
                self.damaged += 1;
                failures += 1;
            } else if let Some(decoded) = self.decoded(frame)? {
                return Ok(Some(decoded));
            }
        }
        self.is_drained = true;
        Ok(None)
    }

    /// Sends the decoder the next packet, or the end of the stream; `false` if it failed.
    fn feed(&mut self) -> Result<bool, MediaError> {
        let mut packet = AvPacket::new();
        let is_end = loop {
            match self.container.read(&mut packet) {
                Ok(()) if packet.stream_index as usize == self.stream => break false,
                Ok(()) => packet.clear(),
                Err(code) => {
                    if let Some(reason) = self.interrupt.reason(&self.source_name) {
                        return Err(reason);
                    }
                    if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_INVALIDDATA {
                        self.damaged += u64::from(code == ffi::AVERROR_INVALIDDATA);
                        return Ok(false);
                    }
                    if let Some(error) = self.container.source_error() {
                        return Err(error);
                    }
                    break true;
                }
            }
        };
        if is_end && self.is_sent {
            self.is_drained = true;
            return Ok(true);
        }
        self.is_sent = is_end;
        let packet = if is_end { std::ptr::null() } else { packet.as_ptr() };
        // SAFETY: an open decoder that needs input, and a valid packet, or null for the end.
        let code = unsafe { ffi::avcodec_send_packet(self.decoder.as_mut_ptr(), packet) };
        if code < 0 && code != ffi::AVERROR_EOF {
            self.damaged += 1;
            return Ok(false);
        }
        Ok(true)
    }

    fn decoded(&mut self, mut frame: AvFrame) -> Result<Option<Decoded>, MediaError> {
        if frame.sample_rate <= 0 || frame.ch_layout.nb_channels <= 0 || frame.nb_samples <= 0 {
            self.damaged += 1;
            return Ok(None);
        }
        let pts = av::timestamp(frame.best_effort_timestamp).or(av::timestamp(frame.pts));
        let shape = Shape { format: frame.format, rate: frame.sample_rate, layout: layout_of(&frame.ch_layout) };
        let native = self.native.get_or_insert_with(|| shape.clone());
        if (native.rate, &native.layout) == (shape.rate, &shape.layout) {
            return match floats(&frame) {
                Some(channels) => Ok(Some(Decoded { pts, channels })),
                None => Err(MediaError::Unsupported {
                    what: format!("{}: audio samples of format {}", self.source_name, sample_format(frame.format)),
                    reason: "no conversion to float".into(),
                }),
            };
        }
        if self.converter.as_ref().is_none_or(|(known, _)| *known != shape) {
            let (rate, layout) = (native.rate, native.layout.clone());
            let base = TimeBase::new(1, i64::from(shape.rate)).unwrap_or(TimeBase::MICROS);
            self.converter = resampler(&shape, base, rate, &layout).ok().map(|chain| (shape, chain));
        }
        let Some((_, chain)) = &mut self.converter else {
            self.damaged += 1;
            return Ok(None);
        };
        frame.pts = ffi::AV_NOPTS_VALUE;
        chain.send(Some(&mut frame))?;
        let mut channels: Vec<Vec<f32>> = Vec::new();
        while let Some(part) = chain.receive()? {
            append(&mut channels, floats(&part).unwrap_or_default());
        }
        Ok((!channels.is_empty()).then_some(Decoded { pts, channels }))
    }
}

/// Appends samples channel by channel.
pub(crate) fn append(to: &mut Vec<Vec<f32>>, more: Vec<Vec<f32>>) {
    if to.is_empty() {
        *to = more;
        return;
    }
    to.iter_mut().zip(more).for_each(|(to, more)| to.extend_from_slice(&more));
}

/// Builds a filter chain that converts samples of a shape to planar floats of a rate and layout.
///
/// # Errors
/// `Ffmpeg` for layouts that cannot be converted.
pub(crate) fn resampler(from: &Shape, base: TimeBase, rate: i32, layout: &str) -> Result<FilterChain, MediaError> {
    let base = base.ratio();
    let input = format!(
        "time_base={}/{}:sample_rate={}:sample_fmt={}:channel_layout={}",
        base.num,
        base.den,
        from.rate,
        sample_format(from.format),
        from.layout
    );
    let output = format!("sample_fmts=fltp:sample_rates={rate}:channel_layouts={layout}");
    FilterChain::build(&[("abuffer", &input), ("aformat", &output), ("abuffersink", "")], true)
}

/// Finds the audio stream to read. Reads packets only if the header is not enough to open a decoder, or with `probes`.
pub(crate) fn find_audio(container: &mut Container, wanted: Option<usize>, probes: bool) -> Result<usize, MediaError> {
    let format = container.format_name();
    let is_stated = |stream: &ffi::AVStream| {
        // SAFETY: every stream has parameters.
        let parameters = unsafe { &*stream.codecpar };
        parameters.sample_rate > 0 && parameters.ch_layout.nb_channels > 0
    };
    let does_header_suffice = (format.starts_with("mov") || format.starts_with("matroska"))
        && container.streams().any(is_audio)
        && container.streams().filter(|stream| is_audio(stream)).all(is_stated);
    if probes || !does_header_suffice {
        container.find_stream_info()?;
    }
    let all = container.streams().enumerate().filter(|(_, stream)| is_audio(stream)).map(|(index, _)| index).collect();
    container.choose_stream(ffi::AVMediaType::AUDIO, all, wanted, "stream")
}

fn is_audio(stream: &ffi::AVStream) -> bool {
    // SAFETY: every stream has parameters.
    unsafe { (*stream.codecpar).codec_type == ffi::AVMediaType::AUDIO }
}

/// Converts a frame's samples to floats in -1..=1, as libswresample does; `None` for unknown formats.
pub(crate) fn floats(frame: &AvFrame) -> Option<Vec<Vec<f32>>> {
    use ffi::AVSampleFormat as Format;
    let format = Format(frame.format);
    match format {
        Format::U8 | Format::U8P => planes::<u8>(frame, |value| (f32::from(value) - 128.0) * (1.0 / 128.0)),
        Format::S16 | Format::S16P => planes::<i16>(frame, |value| f32::from(value) * (1.0 / 32_768.0)),
        Format::S32 | Format::S32P => planes::<i32>(frame, |value| value as f32 * (1.0 / 2_147_483_648.0)),
        Format::S64 | Format::S64P => planes::<i64>(frame, |value| value as f32 * (1.0 / 9_223_372_036_854_775_808.0)),
        Format::FLT | Format::FLTP => planes::<f32>(frame, |value| value),
        Format::DBL | Format::DBLP => planes::<f64>(frame, |value| value as f32),
        _ => None,
    }
}

fn planes<T: Copy>(frame: &AvFrame, convert: impl Fn(T) -> f32) -> Option<Vec<Vec<f32>>> {
    let channels = usize::try_from(frame.ch_layout.nb_channels).ok()?;
    let samples = usize::try_from(frame.nb_samples).ok()?;
    // SAFETY: any number is allowed.
    let is_planar = unsafe { ffi::av_sample_fmt_is_planar(ffi::AVSampleFormat(frame.format)) } != 0;
    let plane = |index: usize, length: usize| -> Option<&[T]> {
        // SAFETY: a frame with samples has as many planes as its format needs, each with room for all samples of its channels.
        unsafe {
            let data = *frame.extended_data.add(index);
            (!data.is_null()).then(|| slice::from_raw_parts(data.cast::<T>(), length))
        }
    };
    if is_planar {
        return (0..channels).map(|channel| Some(plane(channel, samples)?.iter().map(|value| convert(*value)).collect())).collect();
    }
    let all = plane(0, samples.checked_mul(channels)?)?;
    Some((0..channels).map(|channel| all.iter().skip(channel).step_by(channels).map(|value| convert(*value)).collect()).collect())
}
