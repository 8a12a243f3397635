//! Writes video from arrays: the caller's thread converts frames straight from its memory, while another thread encodes and writes
//! earlier ones.

use std::{
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use framerail_core::{
    ColorDescription, ColorRange, Frame, FramePool, Packet, PixelFormat, Pts, Rational, SideStream, StreamInfo, TimeBase,
};
use framerail_media::{
    AudioMode, AudioTrack, IMAGE_ENDINGS, InputOptions, MediaError, MediaWriter, SamplePackets, WriteReport, WriterOptions, commit,
};
use framerail_vision::{PixelArray, ToYuv, VisionError};

use crate::arrays::{array_format, array_stream, array_surface};

/// Maximum number of converted frames that wait for the encoder.
const QUEUED: usize = 4;
/// Ticks per second for frames with explicit times.
const FREE_TICKS: i64 = 90_000;

/// Errors of a [`FrameWriter`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameWriterError {
    /// An error of encoding or writing.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// An error of the conversion.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// Invalid data from the caller.
    #[error("{0}")]
    Usage(String),
    /// The encoder's thread could not be started, or panicked.
    #[error("{0}")]
    Thread(String),
}

/// The file's audio.
#[derive(Clone, Debug, Default)]
pub enum WriterAudio {
    /// None.
    #[default]
    None,
    /// Samples passed with the frames.
    Samples {
        /// Samples per second.
        rate: u32,
        /// Number of channels.
        channels: u32,
        /// Whether to keep 32-bit float PCM if the container supports it, instead of encoding.
        is_pcm: bool,
    },
    /// An audio stream of a file, copied or encoded as the container requires, up to the end of the frames.
    Track(Box<InputOptions>),
}

/// Options of a [`FrameWriter`].
#[derive(Clone, Debug)]
pub struct FrameWriterOptions {
    /// The file.
    pub path: PathBuf,
    /// Container, encoder, quality.
    pub writer: WriterOptions,
    /// Frames per second, for frames without explicit times and for the header.
    pub frame_rate: Rational,
    /// Matrix and range of the conversion, and the tags of the file.
    pub color: ColorDescription,
    /// Whether libswscale converts, which gives the samples of FFmpeg's command, but more slowly.
    pub is_exact: bool,
    /// The audio.
    pub audio: WriterAudio,
}

enum Job {
    Frame(Box<Frame>),
    Packet(Packet),
}

/// The result of the thread.
enum Ended {
    Whole(Box<WriteReport>),
    Kept(Option<PathBuf>),
}

struct Worker {
    jobs: SyncSender<Job>,
    finish: SyncSender<bool>,
    thread: JoinHandle<Result<Ended, MediaError>>,
}

/// Converts frames to the encoder's format.
enum Converter {
    Yuv(Box<ToYuv>),
    /// The encoder's own conversion, from the unchanged array.
    Rgb,
}

/// State known after the first frame.
struct Running {
    worker: Worker,
    array: PixelArray,
    converter: Converter,
    time_base: TimeBase,
    /// Duration of a frame in ticks.
    step: i64,
    last: Option<i64>,
    track: Option<(AudioTrack, Option<Packet>)>,
}

/// Writes frames and audio into a file that appears when it is complete.
pub struct FrameWriter {
    options: FrameWriterOptions,
    samples: Option<SamplePackets>,
    track: Option<AudioTrack>,
    running: Option<Running>,
    /// Audio that arrived before the first frame.
    early: Vec<Packet>,
    pool: FramePool,
    frames: u64,
}

impl FrameWriter {
    /// Checks name, container, encoder and audio; nothing is created before the first frame.
    ///
    /// # Errors
    /// As [`MediaWriter::check`] and [`commit::check`]; those of opening for audio that is copied.
    pub fn new(options: FrameWriterOptions) -> Result<Self, FrameWriterError> {
        let mut options = options;
        if is_image(&options.path) && options.writer.format.is_none() {
            let path = options.path.display();
            return Err(FrameWriterError::Usage(format!("{path}: an image file holds one frame; name a video file, such as out.mp4")));
        }
        MediaWriter::check(&options.path, &options.writer)?;
        let rules = commit::OutputRules {
            overwrite: options.writer.overwrite,
            files: options.writer.files.clone(),
            leftover: commit::Leftover::KeepPlayable,
            syncs_later: false,
        };
        commit::check(&options.path, &rules)?;
        let (mut samples, mut track) = (None, None);
        match &options.audio {
            WriterAudio::None => {}
            WriterAudio::Samples { rate, channels, is_pcm } => {
                options.writer.audio = if *is_pcm { AudioMode::Auto } else { AudioMode::Encode };
                samples = Some(SamplePackets::new(*rate, *channels)?);
            }
            WriterAudio::Track(input) => track = Some(AudioTrack::open(input, None)?),
        }
        Ok(Self { options, samples, track, running: None, early: Vec::new(), pool: FramePool::new(QUEUED + 4), frames: 0 })
    }

    /// Number of frames accepted so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Writes consecutive frames, each of [`PixelArray::bytes`] bytes. `times` are seconds, one per frame; without them frames follow
    /// each other at the frame rate.
    ///
    /// # Errors
    /// `Usage` for a changed size or times that do not increase; the thread's error.
    pub fn write(&mut self, images: &[u8], array: PixelArray, times: Option<&[f64]>) -> Result<(), FrameWriterError> {
        let bytes = array.bytes();
        if bytes == 0 || !images.len().is_multiple_of(bytes) {
            return Err(FrameWriterError::Usage("frames have no pixels".into()));
        }
        let count = images.len() / bytes;
        if times.is_some_and(|times| times.len() != count) {
            return Err(FrameWriterError::Usage(format!("option 'pts': {} times for {count} frames", times.map_or(0, <[f64]>::len))));
        }
        if self.running.is_none() {
            self.start(array, times.is_some())?;
        }
        for (at, image) in images.chunks_exact(bytes).enumerate() {
            self.write_one(image, array, times.and_then(|times| times.get(at).copied()))?;
        }
        Ok(())
    }

    fn write_one(&mut self, image: &[u8], array: PixelArray, time: Option<f64>) -> Result<(), FrameWriterError> {
        let index = self.frames;
        let color = self.options.color;
        let Some(running) = &mut self.running else { return Err(FrameWriterError::Usage("the writer has failed".into())) };
        let first = running.array;
        if (array.width, array.height) != (first.width, first.height) {
            let (w, h, ow, oh) = (array.width, array.height, first.width, first.height);
            return Err(FrameWriterError::Usage(format!(
                "frame {index} is {w}x{h}, and the first one was {ow}x{oh}; resize it before writing"
            )));
        }
        if array != first {
            let pool = self.pool.clone();
            running.converter = match &running.converter {
                Converter::Yuv(converter) => Converter::Yuv(Box::new(ToYuv::new(array, converter.format(), &color, pool)?)),
                Converter::Rgb => Converter::Rgb,
            };
            running.array = array;
        }
        let pts = match (time, running.last) {
            (Some(secs), _) => running.time_base.ticks(secs),
            (None, Some(last)) => last + running.step,
            (None, None) => 0,
        };
        if let Some(last) = running.last.filter(|last| pts <= *last) {
            let (pts, last) = (running.time_base.seconds(pts), running.time_base.seconds(last));
            return Err(FrameWriterError::Usage(format!(
                "option 'pts': frame {index} at {pts} s is not after the previous one, at {last} s"
            )));
        }
        let surface = match &mut running.converter {
            Converter::Yuv(converter) => converter.convert(image)?,
            Converter::Rgb => array_surface(&self.pool, array, image).map_err(MediaError::from)?,
        };
        running.last = Some(pts);
        let mut frame = Frame::of(surface);
        (frame.index, frame.pts, frame.duration) = (index, Pts(pts), Some(running.step));
        (frame.time_base, frame.color) = (running.time_base, color);
        let until = running.time_base.seconds(pts);
        self.send_track(until)?;
        self.send(Job::Frame(Box::new(frame)))?;
        self.frames += 1;
        Ok(())
    }

    /// Appends audio samples: little-endian 32-bit floats, one channel after the other.
    ///
    /// # Errors
    /// `Usage` if the writer has no audio from samples; the thread's error.
    pub fn write_audio(&mut self, samples: &[u8]) -> Result<(), FrameWriterError> {
        let Some(packets) = &mut self.samples else {
            return Err(FrameWriterError::Usage("the writer was opened without audio; give sample_rate= when it is opened".into()));
        };
        let packets = packets.push(samples)?;
        if self.running.is_none() {
            self.early.extend(packets);
            return Ok(());
        }
        packets.into_iter().try_for_each(|packet| self.send(Job::Packet(packet)))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// `Usage` without any frame; the thread's error.
    pub fn finish(&mut self) -> Result<WriteReport, FrameWriterError> {
        let Some(running) = &self.running else {
            return Err(FrameWriterError::Usage(format!("{}: no frame was written, so there is no file", self.options.path.display())));
        };
        let end = running.time_base.seconds(running.last.unwrap_or(0) + running.step);
        self.send_track(end)?;
        match self.end(true)? {
            Ended::Whole(report) => Ok(*report),
            Ended::Kept(_) => Err(FrameWriterError::Thread("a bug in framerail: the file was not completed".into())),
        }
    }

    /// Ends without completing the file: the playable part is kept under a free name, which is returned.
    ///
    /// # Errors
    /// The thread's error.
    pub fn abandon(&mut self) -> Result<Option<PathBuf>, FrameWriterError> {
        if self.running.is_none() {
            return Ok(None);
        }
        match self.end(false)? {
            Ended::Kept(kept) => Ok(kept),
            Ended::Whole(report) => Ok(Some(report.path)),
        }
    }

    fn start(&mut self, array: PixelArray, has_times: bool) -> Result<(), FrameWriterError> {
        let rate = self.options.frame_rate;
        let base = if has_times { TimeBase::new(1, FREE_TICKS) } else { TimeBase::new(rate.den, rate.num) };
        let time_base = base.ok_or_else(|| FrameWriterError::Usage("option 'fps': must be above 0".into()))?;
        let step = if has_times { time_base.ticks(rate.den as f64 / rate.num as f64).max(1) } else { 1 };
        let (path, writer) = (&self.options.path, &self.options.writer);
        let wanted = writer.pixel_format.unwrap_or(if array.sample_bytes == 2 { PixelFormat::Yuv420p10 } else { PixelFormat::Yuv420p });
        let plain = PixelFormat::Yuv420p;
        let takes = |format: PixelFormat| ToYuv::FORMATS.contains(&format) && MediaWriter::takes(path, writer, format).unwrap_or(false);
        let chosen = if takes(wanted) { Some(wanted) } else { (writer.pixel_format.is_none() && takes(plain)).then_some(plain) };
        // 4:2:0 needs even sides; the encoder's own conversion handles odd ones.
        let is_even = |format: PixelFormat| {
            let (across, down) = format.chroma_shift();
            array.width.is_multiple_of(1 << across) && array.height.is_multiple_of(1 << down)
        };
        let (format, converter) = match chosen.filter(|format| is_even(*format) && !self.options.is_exact) {
            Some(format) => (format, Converter::Yuv(Box::new(ToYuv::new(array, format, &self.options.color, self.pool.clone())?))),
            None => (array_format(array), Converter::Rgb),
        };
        let side_streams: Vec<SideStream> =
            self.samples.iter().map(SamplePackets::side_stream).chain(self.track.iter().map(AudioTrack::side_stream)).collect();
        let mut color = self.options.color;
        if color.range == ColorRange::Unspecified {
            color.range = ColorRange::Limited;
        }
        let info = array_stream((array.width, array.height), format, color, time_base, Some(self.options.frame_rate));
        let info = StreamInfo { side_streams, ..info };
        // The converted format is the encoded format.
        let pixel_format =
            matches!(converter, Converter::Yuv(_)).then_some(format).or(writer.pixel_format).or(chosen.filter(|_| self.options.is_exact));
        let writer = WriterOptions { pixel_format, ..writer.clone() };
        let worker = Worker::start(path, &writer, info)?;
        let track = self.track.take().map(|track| (track, None));
        self.running = Some(Running { worker, array, converter, time_base, step, last: None, track });
        std::mem::take(&mut self.early).into_iter().try_for_each(|packet| self.send(Job::Packet(packet)))
    }

    /// Copies audio up to a time.
    fn send_track(&mut self, until: f64) -> Result<(), FrameWriterError> {
        loop {
            let Some((track, next)) = self.running.as_mut().and_then(|running| running.track.as_mut()) else { return Ok(()) };
            let packet = match next.take() {
                Some(packet) => packet,
                None => match track.next_packet()? {
                    Some(packet) => packet,
                    None => {
                        self.running.iter_mut().for_each(|running| running.track = None);
                        return Ok(());
                    }
                },
            };
            if packet.pts.is_some_and(|pts| pts.seconds(packet.time_base) >= until) {
                *next = Some(packet);
                return Ok(());
            }
            self.send(Job::Packet(packet))?;
        }
    }

    fn send(&mut self, job: Job) -> Result<(), FrameWriterError> {
        let Some(running) = &self.running else { return Err(FrameWriterError::Usage("the writer has failed".into())) };
        if running.worker.jobs.send(job).is_ok() {
            return Ok(());
        }
        // The thread ends early only after an error.
        self.end(false).and(Err(FrameWriterError::Thread("a bug in framerail: the encoder's thread has ended".into())))
    }

    fn end(&mut self, is_whole: bool) -> Result<Ended, FrameWriterError> {
        let Some(Running { worker: Worker { jobs, finish, thread }, .. }) = self.running.take() else {
            return Err(FrameWriterError::Usage("the writer has failed".into()));
        };
        // A failed thread no longer receives.
        let _ = finish.send(is_whole);
        drop(jobs);
        match thread.join() {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(FrameWriterError::Thread("a bug in framerail: the encoder's thread panicked; please report it".into())),
        }
    }
}

impl Drop for FrameWriter {
    fn drop(&mut self) {
        if let Some(Running { worker: Worker { jobs, finish, thread }, .. }) = self.running.take() {
            drop((jobs, finish));
            // The result is irrelevant here; the partial file is removed when the thread has ended.
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn start(path: &Path, options: &WriterOptions, info: StreamInfo) -> Result<Self, FrameWriterError> {
        let writer = MediaWriter::create(path, options, &info)?;
        let (jobs, queue) = sync_channel(QUEUED);
        let (finish, ending) = sync_channel(1);
        let thread = thread::Builder::new().name("framerail-write".into()).spawn(move || work(writer, &queue, &ending));
        let thread = thread.map_err(|error| FrameWriterError::Thread(format!("no thread could be started: {error}")))?;
        Ok(Self { jobs, finish, thread })
    }
}

fn work(mut writer: MediaWriter, queue: &Receiver<Job>, ending: &Receiver<bool>) -> Result<Ended, MediaError> {
    for job in queue {
        let written = match &job {
            Job::Frame(frame) => writer.write_frame(frame),
            Job::Packet(packet) => writer.write_packet(packet),
        };
        if let Err(error) = written {
            return Err(error.kept_as(writer.keep_unfinished().as_deref()));
        }
    }
    match ending.recv() {
        Ok(true) => writer.finish().map(|report| Ended::Whole(Box::new(report))),
        Ok(false) => Ok(Ended::Kept(writer.keep_unfinished())),
        // Dropped without completion: nothing is kept.
        Err(_) => Ok(Ended::Kept(None)),
    }
}

/// Whether a name is that of a single image.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    IMAGE_ENDINGS.contains(&ending.as_str()) && !matches!(ending.as_str(), "gif" | "apng" | "webp")
}
