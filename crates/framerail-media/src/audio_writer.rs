//! Writes audio files from samples.

use std::{
    path::{Path, PathBuf},
    ptr::{self, NonNull},
};

use ffmpeg_the_third::ffi;
use framerail_core::RunFiles;

use crate::{
    Committed, Ending, Leftover, MediaError, OutputFile, OutputRules,
    audio_reader::frame_of,
    audio_transcoder::{Shape, layout_for, layout_of, nearest_rate, sample_format},
    av::{self, CodecContext},
    encoder_name::{encoder_name, find_audio_encoder},
    filter_chain::FilterChain,
    output_format::OutputFormat,
};

/// Samples sent to the converter at a time.
const CHUNK: usize = 1 << 14;
/// Frame size in samples for encoders that accept any.
const FRAME_SAMPLES: i32 = 4096;

/// Options of an [`AudioWriter`].
#[derive(Clone, Debug, Default)]
pub struct AudioWriterOptions {
    /// FFmpeg's container name; chosen by the file name when `None`.
    pub format: Option<String>,
    /// FFmpeg's encoder name, or a codec's such as `mp3`; the container's default when `None`.
    pub codec: Option<String>,
    /// Bits per second; the encoder's default when `None`.
    pub bit_rate: Option<u64>,
    /// Sample rate of the file; the input's when `None`.
    pub sample_rate: Option<u32>,
    /// Number of channels of the file; the input's when `None`.
    pub channels: Option<u32>,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// The files of the run.
    pub files: RunFiles,
}

/// Result of an audio writer.
#[derive(Clone, Debug, Default)]
pub struct AudioWriteReport {
    /// Path of the file.
    pub path: PathBuf,
    /// Encoder, such as `libmp3lame`.
    pub codec: String,
    /// Samples per second in the file.
    pub sample_rate: u32,
    /// Channels in the file.
    pub channels: u32,
    /// Input samples per channel.
    pub samples: u64,
    /// File size in bytes.
    pub bytes: u64,
    /// Differences from the requested options, one line each.
    pub warnings: Vec<String>,
}

/// Writes one audio stream to a file, which gets its final name when it is complete.
pub struct AudioWriter {
    // Fields are dropped in this order: the context closes the file before the file is removed.
    context: FormatContext,
    encoder: CodecContext,
    converter: FilterChain,
    output: OutputFile,
    codec: String,
    shape: Shape,
    channels: usize,
    samples: u64,
    warnings: Vec<String>,
}

/// An output context with an open file.
struct FormatContext(NonNull<ffi::AVFormatContext>);

// SAFETY: a format context may be used from any thread, one at a time; `&mut self` guards every changing call.
unsafe impl Send for FormatContext {}

impl FormatContext {
    /// Closes the file; flushing buffered data may fail, for example on a full disk.
    fn close(&mut self) -> i32 {
        // SAFETY: owned by self; closing sets the pointer to null.
        unsafe { ffi::avio_closep(&mut self.0.as_mut().pb) }
    }
}

impl Drop for FormatContext {
    fn drop(&mut self) {
        self.close();
        // SAFETY: owned by self and freed once.
        unsafe { ffi::avformat_free_context(self.0.as_ptr()) };
    }
}

impl AudioWriter {
    /// Opens the encoder and the file for samples with `channels` channels at `rate` Hz.
    ///
    /// # Errors
    /// `Exists`, `BadOption`, `Io`, `DiskFull`; `Unsupported` for containers without audio and settings that the encoder rejects.
    pub fn create(path: &Path, rate: u32, channels: u32, options: &AudioWriterOptions) -> Result<Self, MediaError> {
        av::init();
        let bad = |name: &str, reason: String| MediaError::BadOption { name: name.into(), reason, nearest: None };
        if rate == 0 || rate > 768_000 {
            return Err(bad("sample_rate", "must be from 1 to 768000 Hz".into()));
        }
        if channels == 0 || channels > 64 {
            return Err(bad("channels", "must be from 1 to 64".into()));
        }
        let format = OutputFormat::find(path, options.format.as_deref())?;
        let no_audio = || MediaError::Unsupported {
            what: format!("audio in {}", format.name()),
            reason: "choose another container, such as .wav, .flac or .m4a".into(),
        };
        let codec = options.codec.clone().or_else(|| format.default_audio_encoder()).ok_or_else(no_audio)?;
        let found = find_audio_encoder(&codec)?;
        let codec = encoder_name(found);
        let mut warnings = Vec::new();
        let encoder = open_encoder(found, rate, channels, options, format, &mut warnings)?;
        let shape = Shape { format: ffi::AVSampleFormat::FLTP.0, rate: rate as i32, layout: layout_for(channels as i32) };
        let converter = converter(&shape, &encoder)?;
        let rules = OutputRules {
            overwrite: options.overwrite,
            files: options.files.clone(),
            leftover: Leftover::KeepPlayable,
            syncs_later: false,
        };
        let output = OutputFile::create(path, &rules)?;
        let context = open_file(&output, format, &encoder)?;
        Ok(Self { context, encoder, converter, output, codec, shape, channels: channels as usize, samples: 0, warnings })
    }

    /// Sample rate of the file: the nearest that the encoder supports.
    pub fn sample_rate(&self) -> u32 {
        self.encoder.sample_rate as u32
    }

    /// Encodes samples that follow the previous call's: channel by channel, all of the same length.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `Ffmpeg`.
    pub fn write(&mut self, samples: &[Vec<f32>]) -> Result<(), MediaError> {
        let count = samples.first().map_or(0, Vec::len);
        if samples.len() != self.channels || samples.iter().any(|channel| channel.len() != count) {
            let reason = format!("{} channels of samples, all of one length, are needed", self.channels);
            return Err(MediaError::BadOption { name: "samples".into(), reason, nearest: None });
        }
        for from in (0..count).step_by(CHUNK) {
            let to = (from + CHUNK).min(count);
            let mut frame = frame_of(&self.shape, samples, from..to)?;
            frame.pts = i64::try_from(self.samples).unwrap_or(i64::MAX);
            self.samples += (to - from) as u64;
            self.converter.send(Some(&mut frame))?;
            self.encode()?;
        }
        Ok(())
    }

    /// Completes the file and gives it its final name.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, wrapped in `Unfinished` when a usable part is kept.
    pub fn finish(mut self) -> Result<AudioWriteReport, MediaError> {
        if let Err(error) = self.drain() {
            return Err(error.kept_as(self.keep_unfinished().as_deref()));
        }
        let Self { encoder, output, codec, samples, mut warnings, .. } = self;
        let Committed { path, bytes, elsewhere } = output.complete(Ending::Whole)?;
        warnings.extend(elsewhere.map(|elsewhere| elsewhere.notice().to_owned()));
        let (sample_rate, channels) = (encoder.sample_rate as u32, encoder.ch_layout.nb_channels as u32);
        Ok(AudioWriteReport { path, codec, sample_rate, channels, samples, bytes, warnings })
    }

    /// Stops without completing the file: a playable part is kept under a free name, which is returned.
    pub fn keep_unfinished(mut self) -> Option<PathBuf> {
        // After a failure draining may fail as well; what counts is what is on the disk.
        let _ = self.drain();
        self.context.close();
        self.output.keep_unfinished()
    }

    fn drain(&mut self) -> Result<(), MediaError> {
        self.converter.send(None)?;
        self.encode()?;
        // SAFETY: an open encoder; null is the end.
        unsafe { ffi::avcodec_send_frame(self.encoder.as_mut_ptr(), ptr::null()) };
        self.write_packets()?;
        // SAFETY: a context whose header is written.
        let code = unsafe { ffi::av_write_trailer(self.context.0.as_ptr()) };
        self.check(code)?;
        let code = self.context.close();
        self.check(code)
    }

    fn encode(&mut self) -> Result<(), MediaError> {
        while let Some(mut frame) = self.converter.receive()? {
            frame.pts = av::timestamp(frame.pts)
                .map_or(frame.pts, |pts| self.converter.time_base().rescale(pts, av::time_base(self.encoder.time_base)));
            // SAFETY: an open encoder and a frame of its format.
            let code = unsafe { ffi::avcodec_send_frame(self.encoder.as_mut_ptr(), frame.as_ptr()) };
            if code < 0 {
                return Err(av::error(format!("encoding audio with {}", self.codec), code));
            }
            self.write_packets()?;
        }
        Ok(())
    }

    fn write_packets(&mut self) -> Result<(), MediaError> {
        let failed = |code| av::error(format!("encoding audio with {}", self.codec), code);
        while let Some(mut packet) = self.encoder.receive_packet().map_err(failed)? {
            // SAFETY: a context with one stream, whose header is written; the packet is ours.
            let code = unsafe {
                let stream = *(*self.context.0.as_ptr()).streams;
                ffi::av_packet_rescale_ts(packet.as_mut_ptr(), self.encoder.time_base, (*stream).time_base);
                packet.stream_index = 0;
                ffi::av_write_frame(self.context.0.as_ptr(), packet.as_mut_ptr())
            };
            self.check(code)?;
        }
        Ok(())
    }

    fn check(&self, code: i32) -> Result<(), MediaError> {
        if code >= 0 {
            return Ok(());
        }
        Err(self.output.error(&std::io::Error::from_raw_os_error(-code)))
    }
}

fn open_encoder(
    codec: &ffi::AVCodec,
    rate: u32,
    channels: u32,
    options: &AudioWriterOptions,
    format: OutputFormat,
    warnings: &mut Vec<String>,
) -> Result<CodecContext, MediaError> {
    let name = encoder_name(codec);
    let mut context = CodecContext::new(codec);
    let layout = av::c_string(&layout_for(options.channels.unwrap_or(channels) as i32));
    let wanted = options.sample_rate.unwrap_or(rate) as i32;
    // SAFETY: a fresh context; an encoder's lists are null or end with a terminator.
    unsafe {
        ffi::av_channel_layout_from_string(&mut context.ch_layout, layout.as_ptr());
        context.sample_rate = nearest_rate(codec.supported_samplerates, wanted);
        context.sample_fmt = best_format(codec.sample_fmts);
    }
    if context.sample_rate != wanted {
        warnings.push(format!("resampled to {} Hz: {name} does not take {wanted}", context.sample_rate));
    }
    context.time_base = ffi::AVRational { num: 1, den: context.sample_rate };
    if let Some(bit_rate) = options.bit_rate {
        context.bit_rate = i64::try_from(bit_rate).unwrap_or(i64::MAX);
    }
    context.thread_count = 1;
    context.strict_std_compliance = ffi::FF_COMPLIANCE_EXPERIMENTAL;
    if format.has(ffi::AVFMT_GLOBALHEADER) {
        context.flags |= ffi::AV_CODEC_FLAG_GLOBAL_HEADER as i32;
    }
    // SAFETY: a configured context of this codec.
    let code = unsafe { ffi::avcodec_open2(context.as_mut_ptr(), codec, ptr::null_mut()) };
    if code < 0 {
        let words = crate::log::take_last_error().unwrap_or_else(|| av::error_text(code));
        return Err(MediaError::Unsupported {
            what: format!("{} channels at {wanted} Hz with {name}", options.channels.unwrap_or(channels)),
            reason: format!("the encoder reports '{words}'"),
        });
    }
    Ok(context)
}

/// The encoder's sample format that loses the least precision from floats, as the `ffmpeg` command chooses it.
///
/// # Safety
/// `list` is null or ends with `NONE`.
unsafe fn best_format(list: *const ffi::AVSampleFormat) -> ffi::AVSampleFormat {
    use ffi::AVSampleFormat as Format;
    let mut known = Vec::new();
    // SAFETY: the caller guarantees it.
    unsafe {
        let mut entry = list;
        while !entry.is_null() && *entry != Format::NONE {
            known.push(*entry);
            entry = entry.add(1);
        }
    }
    let liked = [Format::FLTP, Format::FLT, Format::DBLP, Format::DBL, Format::S32P, Format::S32, Format::S64P, Format::S64];
    let found = liked.into_iter().find(|format| known.contains(format));
    found.or(known.first().copied()).unwrap_or(Format::S16)
}

/// Converts input samples to frames of the encoder's format and length.
fn converter(shape: &Shape, encoder: &CodecContext) -> Result<FilterChain, MediaError> {
    let length = if encoder.frame_size > 0 { encoder.frame_size } else { FRAME_SAMPLES };
    let input = format!(
        "time_base=1/{}:sample_rate={}:sample_fmt={}:channel_layout={}",
        shape.rate,
        shape.rate,
        sample_format(shape.format),
        shape.layout
    );
    let output = format!(
        "sample_fmts={}:sample_rates={}:channel_layouts={}",
        sample_format(encoder.sample_fmt.0),
        encoder.sample_rate,
        layout_of(&encoder.ch_layout)
    );
    let cut = format!("n={length}:p=0");
    FilterChain::build(&[("abuffer", &input), ("aformat", &output), ("asetnsamples", &cut), ("abuffersink", "")], true)
}

fn open_file(output: &OutputFile, format: OutputFormat, encoder: &CodecContext) -> Result<FormatContext, MediaError> {
    let url = av::file_url(output.working_path());
    let mut context = ptr::null_mut();
    // SAFETY: a static format; the context is written to a live pointer.
    let code = unsafe { ffi::avformat_alloc_output_context2(&mut context, format.as_ptr(), ptr::null(), ptr::null()) };
    let Some(context) = NonNull::new(context) else { return Err(av::error(output.path().display().to_string(), code)) };
    let context = FormatContext(context);
    // SAFETY: a fresh context, which owns its stream and a copy of the name; the encoder is open.
    let code = unsafe {
        let own = &mut *context.0.as_ptr();
        own.strict_std_compliance = ffi::FF_COMPLIANCE_EXPERIMENTAL;
        own.url = ffi::av_strdup(url.as_ptr());
        let stream = ffi::avformat_new_stream(own, ptr::null());
        if stream.is_null() {
            return Err(av::error(output.path().display().to_string(), ffi::AVERROR(libc::ENOMEM)));
        }
        (*stream).time_base = encoder.time_base;
        ffi::avcodec_parameters_from_context((*stream).codecpar, encoder.as_ptr());
        ffi::avio_open(&mut own.pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE)
    };
    if code < 0 {
        return Err(output.error(&std::io::Error::from_raw_os_error(-code)));
    }
    // SAFETY: stream and file are set up.
    let code = unsafe { ffi::avformat_write_header(context.0.as_ptr(), ptr::null_mut()) };
    if code < 0 {
        let words = crate::log::take_last_error().unwrap_or_else(|| av::error_text(code));
        return Err(MediaError::Unsupported {
            what: format!("{} as {}", output.path().display(), format.name()),
            reason: format!("FFmpeg reports '{words}'; choose another container or codec"),
        });
    }
    Ok(context)
}
