//! Frames provided by the program, read by the stage `read` instead of a file.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
    time::Instant,
};

use framerail_core::{
    CancelToken, ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, CoreError, Frame, FramePool, PixelFormat, Pts,
    Rational, StreamInfo, TimeBase, Wake,
};
use framerail_media::{Conversion, Damage, InputOptions, MediaItem, clock::Clock};
use framerail_pipeline::{ErrorKind, StageError};
use framerail_reader::{FrameSource, ReaderError, Reading, SourceStats};
use framerail_vision::{PixelArray, ToYuv, VisionError};
use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::{
    arrays::{array_color, array_format, array_stream, array_surface},
    convert::core_error,
};

/// Minimum ticks per second, so that given times are kept.
const TICKS: i64 = 90_000;
/// Frames per second for frames without times, unless a clock times them.
const FRAME_RATE: Rational = Rational { num: 30, den: 1 };

/// Finds the program's frames by the source that `read` names, such as `given:camera`.
pub type FrameGivers = BTreeMap<String, Arc<dyn GiveFrames>>;

/// Provides the frames of one source.
pub trait GiveFrames: Send + Sync {
    /// Whether frames arrive in real time, so that late ones are dropped.
    fn is_live(&self) -> bool;

    /// The input to read; called whenever the source is opened.
    ///
    /// # Errors
    /// `Usage` if there are no frames.
    fn open(&self) -> Result<FrameInput, StageError>;

    /// Called when reading has reached the point where [`FrameInput::fail`] was called.
    fn failed(&self) {}
}

impl GiveFrames for FrameInput {
    fn is_live(&self) -> bool {
        self.0.options.when_full == WhenFull::DropOldest
    }

    fn open(&self) -> Result<FrameInput, StageError> {
        Ok(self.clone())
    }
}

/// Errors of adding a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameInputError {
    /// The input was closed, or has failed.
    #[error("the input is closed")]
    Closed,
    /// Waiting for room was ended by [`FrameInput::interrupt`]. The frame was not added.
    #[error("interrupted while waiting for room")]
    Interrupted,
    /// A frame or time that is invalid.
    #[error("{0}")]
    Usage(String),
    /// The frame cannot be converted.
    #[error(transparent)]
    Vision(#[from] VisionError),
    /// Memory for the frame could not be allocated, or its size is out of range.
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// What happens to a frame when the input is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// The program waits.
    #[default]
    Wait,
    /// The frame that has waited longest is dropped and counted: the source is live.
    DropOldest,
}

/// Options of an input.
#[derive(Clone, Debug)]
pub struct FrameInputOptions {
    /// Frames per second, for frames without a time. Default: wall-clock times where frames are dropped, else 30.
    pub frame_rate: Option<Rational>,
    /// Width and height of every frame. With it, a pipeline can link before the first frame; without it, linking waits for the first
    /// frame.
    pub size: Option<(u32, u32)>,
    /// Format of converted frames: one of [`ToYuv::FORMATS`], or an RGB format for unchanged arrays. Default: 8-bit 4:2:0, or 10-bit for
    /// 16-bit samples; grey stays grey unless `size` is given.
    pub pixel_format: Option<PixelFormat>,
    /// Matrix, range and further tags of converted frames.
    pub color: ColorDescription,
    /// What happens to a frame when the input is full.
    pub when_full: WhenFull,
    /// Maximum number of waiting frames, at least 1.
    pub buffer: usize,
    /// Expected number of frames, for progress.
    pub frames: Option<u64>,
}

impl Default for FrameInputOptions {
    fn default() -> Self {
        Self {
            frame_rate: None,
            size: None,
            pixel_format: None,
            color: ColorDescription {
                matrix: ColorMatrix::Bt709,
                range: ColorRange::Limited,
                primaries: ColorPrimaries(1),
                transfer: ColorTransfer(1),
                ..ColorDescription::default()
            },
            when_full: WhenFull::default(),
            buffer: 4,
            frames: None,
        }
    }
}

/// An input that a program fills with frames, while a pipeline reads it. Cloning shares it.
///
/// ```
/// use framerail::{frame_input::{FrameInput, FrameInputOptions}, pipeline::RunOptions, vision::PixelArray};
///
/// let camera = FrameInput::new(FrameInputOptions::default());
/// let array = PixelArray { width: 64, height: 48, channels: 3, sample_bytes: 1, is_planar: false };
/// (0..3).try_for_each(|number| camera.push(&vec![number; array.bytes()], array, None).map(drop))?;
/// camera.close();
/// let mut plan = framerail::plan_with_frames("read given:camera ! null", [("given:camera", camera)])?;
/// plan.link()?;
/// let outcome = plan.into_graph()?.graph.start(RunOptions::default())?.wait();
/// assert!(outcome.result.is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct FrameInput(Arc<Shared>);

struct Shared {
    options: FrameInputOptions,
    time_base: TimeBase,
    /// Ticks of a frame at the frame rate.
    step: i64,
    /// Held while a frame is made and waits for room, so that frames keep their order.
    making: Mutex<Making>,
    state: Mutex<State>,
    changed: Condvar,
    interrupt: CancelToken,
}

impl Wake for Shared {
    fn wake(&self) {
        let _state = self.state.lock();
        self.changed.notify_all();
    }
}

struct Making {
    pool: FramePool,
    converter: Option<(PixelArray, ToYuv)>,
    clock: Clock,
    /// Time of the first frame, and when it came.
    start: Option<Instant>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Frame>,
    end: Option<End>,
    /// Whether frames were read.
    is_read: bool,
    /// Whether reading has ended.
    is_left: bool,
    pushed: u64,
    dropped: u64,
    repaired: u64,
}

#[derive(Clone)]
enum End {
    Closed,
    Failed(String),
}

impl FrameInput {
    /// An input without frames.
    pub fn new(options: FrameInputOptions) -> Self {
        let rate = options.frame_rate.unwrap_or(FRAME_RATE);
        // Frames at the rate lie on ticks exactly; given times lie nearly on ticks.
        let times = TICKS.div_euclid(rate.num.max(1)).saturating_add(1);
        let base = if options.frame_rate.is_some() { TimeBase::new(1, rate.num.saturating_mul(times)) } else { TimeBase::new(1, TICKS) };
        let time_base = base.unwrap_or(TimeBase::MICROS);
        let making = Making {
            pool: FramePool::new(options.buffer.max(1) + 8),
            converter: None,
            clock: Clock::new(time_base, Some(rate)),
            start: None,
        };
        let shared = Arc::new(Shared {
            options,
            time_base,
            step: time_base.ticks(1.0 / rate.as_f64()).max(1),
            making: Mutex::new(making),
            state: Mutex::default(),
            changed: Condvar::new(),
            interrupt: CancelToken::default(),
        });
        let waker: Weak<Shared> = Arc::downgrade(&shared);
        shared.interrupt.on_cancel(waker);
        Self(shared)
    }

    /// Adds a frame of [`PixelArray::bytes`] bytes, which are converted before this returns. `seconds` is its time; one that is not later
    /// than the previous frame's is corrected and counted. Returns `false` once the run has ended.
    ///
    /// # Errors
    /// `Usage` for invalid pixels or times, `Closed`, `Interrupted`.
    pub fn push(&self, pixels: &[u8], array: PixelArray, seconds: Option<f64>) -> Result<bool, FrameInputError> {
        let (shared, came) = (&*self.0, Instant::now());
        let usage = |words: String| Err(FrameInputError::Usage(words));
        let (width, height) = (array.width, array.height);
        let is_known = matches!(array.channels, 1 | 3) && matches!(array.sample_bytes, 1 | 2);
        if !is_known || array.bytes() == 0 || pixels.len() != array.bytes() {
            return usage(format!("{} bytes for a frame of {width}x{height} with {} channels", pixels.len(), array.channels));
        }
        if let Some((w, h)) = shared.options.size.filter(|size| *size != (width, height)) {
            return usage(format!("the frame is {width}x{height}, and size= says {w}x{h}; resize it, or leave size= out"));
        }
        // Larger times would overflow.
        if let Some(seconds) = seconds.filter(|seconds| !seconds.is_finite() || seconds.abs() > 1e11) {
            return usage(format!("a frame at {seconds} s; give finite seconds"));
        }
        let mut making = shared.making.lock();
        if let Some(answer) = shared.state.lock().refusal() {
            return answer;
        }
        let mut frame = making.frame(&shared.options, pixels, array)?;
        let mut state = shared.state.lock();
        while state.refusal().is_none() && state.waiting.len() >= shared.options.buffer.max(1) {
            if shared.options.when_full == WhenFull::DropOldest {
                state.waiting.pop_front();
                state.dropped += 1;
                continue;
            }
            if shared.interrupt.is_cancelled() {
                return Err(FrameInputError::Interrupted);
            }
            shared.changed.wait(&mut state);
        }
        if let Some(answer) = state.refusal() {
            return answer;
        }
        let start = *making.start.get_or_insert(came);
        let is_by_clock = shared.options.frame_rate.is_none() && shared.options.when_full == WhenFull::DropOldest;
        let seconds = seconds.or_else(|| is_by_clock.then(|| came.saturating_duration_since(start).as_secs_f64()));
        let stamp = making.clock.stamp(seconds.map(|seconds| shared.time_base.ticks(seconds)), None);
        state.repaired += u64::from(stamp.is_repaired && seconds.is_some());
        (frame.pts, frame.index, frame.time_base) = (Pts(stamp.pts), state.pushed, shared.time_base);
        frame.duration = seconds.is_none().then_some(shared.step);
        state.pushed += 1;
        state.waiting.push_back(frame);
        shared.changed.notify_all();
        Ok(true)
    }

    /// Ends the input: frames already added are read, then the stream ends.
    pub fn close(&self) {
        self.end(End::Closed);
    }

    /// Ends the run with a one-line error, after the frames already added.
    pub fn fail(&self, why: impl Into<String>) {
        self.end(End::Failed(why.into()));
    }

    fn end(&self, end: End) {
        let mut state = self.0.state.lock();
        state.end.get_or_insert(end);
        self.0.changed.notify_all();
    }

    /// Discards frames that were not read and ends every wait for room.
    pub fn abandon(&self) {
        let mut state = self.0.state.lock();
        state.is_left = true;
        state.waiting.clear();
        self.0.changed.notify_all();
    }

    /// Number of frames added.
    pub fn pushed(&self) -> u64 {
        self.0.state.lock().pushed
    }

    /// Number of frames dropped because the input was full. Drops by `read` are in the run's statistics.
    pub fn dropped(&self) -> u64 {
        self.0.state.lock().dropped
    }

    /// Whether frames were read: an input is read once.
    pub fn is_read(&self) -> bool {
        let state = self.0.state.lock();
        state.is_read || state.is_left
    }

    /// Cancelling it ends a wait for room.
    pub fn interrupt(&self) -> &CancelToken {
        &self.0.interrupt
    }
}

impl State {
    /// The error for a frame that is not wanted any more.
    fn refusal(&self) -> Option<Result<bool, FrameInputError>> {
        match (&self.end, self.is_left) {
            (Some(_), _) => Some(Err(FrameInputError::Closed)),
            (None, true) => Some(Ok(false)),
            (None, false) => None,
        }
    }
}

impl FrameInputOptions {
    /// The format of a frame made from an array, and whether it is converted.
    fn format_of(&self, array: PixelArray) -> (PixelFormat, bool) {
        match self.pixel_format {
            Some(format) if ToYuv::FORMATS.contains(&format) => (format, true),
            None if self.size.is_some() => (PixelFormat::Yuv420p, true),
            None if array.channels == 3 && array.sample_bytes == 1 => (PixelFormat::Yuv420p, true),
            None if array.channels == 3 => (PixelFormat::Yuv420p10, true),
            _ => (array_format(array), false),
        }
    }
}

impl Making {
    fn frame(&mut self, options: &FrameInputOptions, pixels: &[u8], array: PixelArray) -> Result<Frame, FrameInputError> {
        let (format, is_converted) = options.format_of(array);
        if !is_converted {
            let mut frame = Frame::of(array_surface(&self.pool, array, pixels)?);
            frame.color = array_color(array, &options.color);
            return Ok(frame);
        }
        let known = self.converter.take().filter(|(known, _)| *known == array);
        let (_, converter) = self.converter.insert(match known {
            Some(known) => known,
            None => (array, ToYuv::new(array, format, &options.color, self.pool.clone())?),
        });
        let mut frame = Frame::of(converter.convert(pixels)?);
        frame.color = options.color;
        Ok(frame)
    }
}

/// A [`FrameInput`] as `read` reads it.
pub(crate) struct InputFrames {
    input: FrameInput,
    giver: Arc<dyn GiveFrames>,
    info: StreamInfo,
    cancel: CancelToken,
    /// The selected part of the stream, in seconds from its first frame.
    part: (f64, f64),
    first: Option<f64>,
}

impl InputFrames {
    /// Opens an input; waits for its first frame unless its size is known.
    ///
    /// # Errors
    /// Those of the program; `Usage` for an input that was already read, or an option that does not apply.
    pub(crate) fn open(giver: &Arc<dyn GiveFrames>, options: &InputOptions) -> Result<Self, StageError> {
        let name = &options.source;
        let usage = |words: String| StageError::new(ErrorKind::Usage, words);
        let refused =
            [("track", options.video_stream.is_some()), ("format", options.format.is_some()), ("fps", options.frame_rate.is_some())];
        if let Some((option, _)) = refused.iter().find(|(_, is_given)| *is_given) {
            return Err(usage(format!("`{option}` is for files, and {name} is handed in by the program; leave it out")));
        }
        let input = giver.open()?;
        let (shared, cancel) = (Arc::clone(&input.0), options.cancel.clone());
        let waker: Weak<Shared> = Arc::downgrade(&shared);
        cancel.on_cancel(waker);
        let mut state = shared.state.lock();
        if state.is_read || state.is_left {
            return Err(usage(format!("{name}: its frames were read before; hand in a new input for each run")));
        }
        let has_size = shared.options.size.is_some();
        shared.wait(&mut state, &cancel, |_| has_size);
        let (size, format, color) = match (state.waiting.front(), shared.options.size, &state.end) {
            (Some(frame), ..) => ((frame.width, frame.height), frame.surface.host().map_err(core_error)?.format(), frame.color),
            (None, _, Some(End::Failed(why))) => {
                giver.failed();
                return Err(StageError::new(ErrorKind::Internal, format!("{name}: {why}")));
            }
            (None, Some(size), None) => {
                let array = PixelArray { width: size.0, height: size.1, channels: 3, sample_bytes: 1, is_planar: false };
                let (format, is_converted) = shared.options.format_of(array);
                (size, format, if is_converted { shared.options.color } else { array_color(array, &shared.options.color) })
            }
            (None, _, Some(End::Closed)) => {
                return Err(StageError::new(ErrorKind::Input, format!("{name}: no frame was handed in before it was closed")));
            }
            (None, None, None) => return Err(StageError::new(ErrorKind::Cancelled, format!("{name}: opening was cancelled"))),
        };
        drop(state);
        let rate = shared.options.frame_rate.or((shared.options.when_full == WhenFull::Wait).then_some(FRAME_RATE));
        let mut info = array_stream(size, format, color, shared.time_base, rate);
        (info.id, info.source, info.name) = (options.stream, name.clone(), options.name.clone().unwrap_or_default());
        info.frames_estimate = shared.options.frames;
        let start = options.start_secs.unwrap_or(0.0);
        let end = options.end_secs.or(options.duration_secs.map(|duration| start + duration)).unwrap_or(f64::INFINITY);
        Ok(Self { input, giver: Arc::clone(giver), info, cancel, part: (start, end), first: None })
    }

    fn failure(&self, why: &str) -> ReaderError {
        self.giver.failed();
        ReaderError::Program { source_name: self.info.source.to_string(), reason: why.to_owned() }
    }
}

impl Shared {
    /// Waits for a frame, an error or the end.
    fn wait(&self, state: &mut MutexGuard<'_, State>, cancel: &CancelToken, is_enough: impl Fn(&State) -> bool) {
        while state.waiting.is_empty() && state.end.is_none() && !state.is_left && !cancel.is_cancelled() && !is_enough(state) {
            self.changed.wait(state);
        }
    }
}

impl FrameSource for InputFrames {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        loop {
            let shared = Arc::clone(&self.input.0);
            let mut state = shared.state.lock();
            state.is_read = true;
            shared.wait(&mut state, &self.cancel, |_| false);
            if self.cancel.is_cancelled() {
                return Ok(None);
            }
            let Some(mut frame) = state.waiting.pop_front() else {
                let end = state.end.clone();
                drop(state);
                return if let Some(End::Failed(why)) = end { Err(self.failure(&why)) } else { Ok(None) };
            };
            shared.changed.notify_all();
            drop(state);
            let at = frame.seconds() - *self.first.get_or_insert(frame.seconds());
            if at < self.part.0 {
                continue;
            }
            if at >= self.part.1 {
                return Ok(None);
            }
            frame.stream = self.info.id;
            return Ok(Some(MediaItem::Frame(frame)));
        }
    }

    fn damage(&self) -> Damage {
        let state = self.input.0.state.lock();
        Damage { frames_dropped: state.dropped, timestamps_repaired: state.repaired, ..Damage::default() }
    }

    fn conversions(&self) -> Vec<Conversion> {
        Vec::new()
    }

    fn stats(&self) -> SourceStats {
        SourceStats::default()
    }

    fn reading(&self) -> Reading {
        Reading::Sequential("its frames are handed in by the program".into())
    }
}

impl Drop for InputFrames {
    fn drop(&mut self) {
        // A source that was only opened for linking can be opened again.
        if self.input.0.state.lock().is_read {
            self.input.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const ARRAY: PixelArray = PixelArray { width: 4, height: 2, channels: 1, sample_bytes: 1, is_planar: false };

    fn input(options: FrameInputOptions) -> FrameInput {
        FrameInput::new(options)
    }

    fn push(input: &FrameInput, number: u8, seconds: Option<f64>) -> Result<bool, FrameInputError> {
        input.push(&[number; 8], ARRAY, seconds)
    }

    fn open(input: &FrameInput) -> InputFrames {
        let giver: Arc<dyn GiveFrames> = Arc::new(input.clone());
        InputFrames::open(&giver, &InputOptions::new("given:numbers")).expect("frames")
    }

    /// Numbers and times of all frames.
    fn read(frames: &mut InputFrames) -> Vec<(u8, f64)> {
        let mut read = Vec::new();
        while let Some(MediaItem::Frame(frame)) = frames.next_item().expect("no failure") {
            read.push((frame.surface.host().expect("on the host").row(0, 0)[0], frame.seconds()));
        }
        read
    }

    #[test]
    fn frames_without_room_are_dropped_and_counted() {
        let input = input(FrameInputOptions {
            when_full: WhenFull::DropOldest,
            frame_rate: Rational::new(25, 1),
            buffer: 2,
            ..FrameInputOptions::default()
        });
        assert!((0..5).all(|number| push(&input, number, None).expect("room")));
        input.close();
        let mut frames = open(&input);
        assert_eq!(read(&mut frames), [(3, 0.12), (4, 0.16)]);
        assert_eq!((input.pushed(), input.dropped(), frames.damage().frames_dropped), (5, 3, 3));
    }

    #[test]
    fn times_that_do_not_increase_are_corrected_and_counted() {
        let input = input(FrameInputOptions { buffer: 9, ..FrameInputOptions::default() });
        for (number, seconds) in [(0, 1.0), (1, 1.5), (2, 1.5), (3, 2.0)] {
            push(&input, number, Some(seconds)).expect("room");
        }
        assert!(push(&input, 4, Some(f64::NAN)).expect_err("no time").to_string().contains("finite"));
        input.close();
        let mut frames = open(&input);
        let times: Vec<f64> = read(&mut frames).into_iter().map(|(_, seconds)| seconds).collect();
        assert!(times.is_sorted_by(|before, after| before < after) && times[2] - 1.5 < 0.001 && times[3] == 2.0, "{times:?}");
        assert_eq!(frames.damage().timestamps_repaired, 1);
    }

    #[test]
    fn a_wait_for_room_ends_with_the_reader_and_with_an_interrupt() {
        let waiting = input(FrameInputOptions { buffer: 1, ..FrameInputOptions::default() });
        push(&waiting, 0, None).expect("room");
        let (other, cancel) = (waiting.clone(), waiting.interrupt().clone());
        let pushing = thread::spawn(move || push(&other, 1, None));
        cancel.cancel();
        assert!(matches!(pushing.join().expect("no panic"), Err(FrameInputError::Interrupted)));
        cancel.rearm();
        let mut frames = open(&waiting);
        assert!(matches!(frames.next_item(), Ok(Some(MediaItem::Frame(_)))));
        push(&waiting, 2, None).expect("room");
        let other = waiting.clone();
        let pushing = thread::spawn(move || push(&other, 3, None));
        drop(frames);
        assert!(!pushing.join().expect("no panic").expect("refused quietly"));
        assert!(InputFrames::open(&(Arc::new(waiting) as Arc<dyn GiveFrames>), &InputOptions::new("given:numbers")).is_err());
    }

    #[test]
    fn a_failure_comes_behind_the_frames_before_it() {
        let input = input(FrameInputOptions::default());
        push(&input, 7, None).expect("room");
        input.fail("the camera is gone");
        assert!(matches!(push(&input, 8, None), Err(FrameInputError::Closed)));
        let mut frames = open(&input);
        assert!(matches!(frames.next_item(), Ok(Some(MediaItem::Frame(_)))));
        assert_eq!(frames.next_item().expect_err("failed").to_string(), "given:numbers: the camera is gone");
    }

    #[test]
    fn a_known_size_needs_no_first_frame_and_is_kept_to() {
        let input = input(FrameInputOptions { size: Some((4, 2)), ..FrameInputOptions::default() });
        let frames = open(&input);
        assert_eq!((frames.info().width, frames.info().height, frames.info().pixel_format), (4, 2, PixelFormat::Yuv420p));
        drop(frames);
        let array = PixelArray { width: 2, ..ARRAY };
        assert!(input.push(&[0; 4], array, None).expect_err("another size").to_string().contains("size= says 4x2"));
        assert!(push(&input, 0, None).expect("fits"));
    }
}
