//! Reads frames by number, by time, and in sequence.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use framerail_core::{Device, FramePool};
use framerail_media::{Decoded, Decoder, Input, InputOptions, MediaError, PacketKind, ProbeEffort};

use crate::{
    Batch, Batches, FrameInfo, FrameStatus, FrameTime, HostTensor, ImageShape, IndexCache, IndexPolicy, IndexSource, OutputOptions,
    ReaderError, ReaderOptions, ReaderStats, Selection, Tensor, VideoMetadata,
    batches::{BatchRequest, KEPT_BATCHES},
    frame_index::{self, Access, FrameIndex},
    host_cursor::adopt_first,
    host_engine::{HostEngine, check_kind, status_of},
    host_frames::{FrameKind, HostFrames, check_output},
    host_memory::HostPool,
    index_cache::CacheEntry,
    plan, selection,
    threads::Threads,
    video::{Fault, MAX_TRIES, Target, Video},
};
#[cfg(feature = "cuda")]
use crate::{
    ReadDevice,
    batches::BatchGpu,
    device::may_work_on_cpu,
    device_engine::{self, DeviceEngine, GpuMemory},
};

/// Reads frames of one video stream by number, by time or in sequence, as dense batches.
///
/// Frame n is the n-th in presentation order of a decode from the start, however it is reached.
pub struct VideoReader {
    options: ReaderOptions,
    video: Arc<Video>,
    metadata: VideoMetadata,
    /// Metadata from the header alone.
    header: VideoMetadata,
    /// Whether the first frame was read, for properties that the header may lack.
    is_looked_at: bool,
    target: Target,
    /// A newly opened input at its first packet.
    fresh: Option<Input>,
    index: Option<Arc<FrameIndex>>,
    engine: Option<HostEngine>,
    #[cfg(feature = "cuda")]
    gpu: Option<Gpu>,
}

/// The GPU to which a reader outputs.
#[cfg(feature = "cuda")]
struct Gpu {
    memory: GpuMemory,
    engine: Option<DeviceEngine>,
}

impl VideoReader {
    /// Opens a source. Only its header is read; the index is made when it is first needed.
    ///
    /// # Errors
    /// `Media` for sources that cannot be opened; `BadOption`.
    pub fn open(options: ReaderOptions) -> Result<Self, ReaderError> {
        check(&options)?;
        let source = input_options(&options)?;
        let input = Input::open(&source)?;
        let info = input.info();
        let kind = FrameKind { width: info.width, height: info.height, format: info.pixel_format };
        #[cfg_attr(not(feature = "cuda"), allow(unused_mut, reason = "a GPU changes it"))]
        let mut metadata = VideoMetadata {
            source: info.source.to_string(),
            container: info.container.clone(),
            codec: info.codec.clone(),
            stream_index: input.stream_index(),
            width: info.width,
            height: info.height,
            pixel_format: info.pixel_format,
            color: info.color,
            frame_rate: info.frame_rate,
            duration_secs: info.duration_secs,
            start_secs: input.header_start_secs(),
            end_secs: input.header_start_secs().zip(info.duration_secs).map(|(start, duration)| start + duration),
            num_frames: None,
            frames_estimate: info.frames_estimate,
            bit_rate: info.bit_rate,
            rotation: input.coded_rotation(),
            sample_aspect_ratio: info.sample_aspect_ratio,
            index_source: IndexSource::Unread,
            device: Device::Cpu,
            fallback: None,
            tags: info.metadata.clone(),
        };
        let threads = Threads::of(options.threads, &input);
        let video = Video {
            setup: input.decoder_setup(),
            input: source,
            threads,
            memory_bytes: options.memory_bytes.unwrap_or_else(plan::default_memory_bytes),
            timeout: options.timeout,
            on_error: options.on_error,
            counters: Default::default(),
            frames: FramePool::new(threads.cores + 2),
            memory: HostPool::new(options.queue + KEPT_BATCHES),
            repaired: Default::default(),
            version: Default::default(),
        };
        let target = Target { output: options.output.clone(), kind, is_seen: false };
        #[cfg(feature = "cuda")]
        let gpu = open_gpu(&options, &input, &mut metadata)?;
        Ok(Self {
            options,
            video: Arc::new(video),
            header: metadata.clone(),
            metadata,
            is_looked_at: false,
            target,
            fresh: Some(input),
            index: None,
            engine: None,
            #[cfg(feature = "cuda")]
            gpu,
        })
    }

    /// The options as given.
    pub fn options(&self) -> &ReaderOptions {
        &self.options
    }

    /// Metadata known so far: from the header until the index and the first frame are read.
    pub fn metadata(&self) -> &VideoMetadata {
        &self.metadata
    }

    /// Metadata from the header alone, even if more was read since.
    pub fn header(&self) -> VideoMetadata {
        VideoMetadata { fallback: self.metadata.fallback.clone(), ..self.header.clone() }
    }

    /// Metadata from the content: builds the index if necessary, and reads the first frame.
    ///
    /// # Errors
    /// `Media`, `Timeout`.
    pub fn content(&mut self) -> Result<&VideoMetadata, ReaderError> {
        self.index()?;
        if !self.is_looked_at
            && let Err(error) = self.look_at_first()
        {
            // A video without decodable frames still has its header.
            log::debug!("{}: its first frame cannot be read: {error}", self.video.source_name());
        }
        self.is_looked_at = true;
        Ok(&self.metadata)
    }

    /// Incremented whenever the known frames of the video change: a repaired index has different frames and times.
    pub fn version(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.video.version)
    }

    /// Number of frames; builds the index if necessary.
    ///
    /// # Errors
    /// `Media`, `Timeout`.
    pub fn num_frames(&mut self) -> Result<usize, ReaderError> {
        Ok(self.index()?.len())
    }

    /// Times of all frames; builds the index if necessary.
    ///
    /// # Errors
    /// `Media`, `Timeout`.
    pub fn times(&mut self) -> Result<&[FrameTime], ReaderError> {
        self.index()?;
        Ok(self.index.as_ref().map_or(&[], |index| index.times()))
    }

    /// Changes the output format of the following frames.
    ///
    /// # Errors
    /// `BadOption`.
    pub fn set_output(&mut self, output: OutputOptions) -> Result<(), ReaderError> {
        check_output(&output)?;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            device_engine::check_output(&output)?;
            gpu.engine = gpu.engine.take().filter(|_| output == self.target.output);
        }
        let is_new = output != self.target.output;
        self.target.output = output.clone();
        if let Some(engine) = self.engine.as_mut().filter(|_| is_new) {
            engine.set_target(&self.target)?;
        }
        self.options.output = output;
        Ok(())
    }

    /// The shape, type and layout of one returned frame.
    ///
    /// # Errors
    /// As [`VideoReader::read`]: the first frame is read if its header may be wrong.
    pub fn image_shape(&mut self) -> Result<ImageShape, ReaderError> {
        Ok(self.target.shape())
    }

    /// The number of the frame on screen at a time, in seconds on the file's clock. Times before the first frame, or at or after the end of
    /// the last, are out of range.
    ///
    /// # Errors
    /// `OutOfRange`, and as [`VideoReader::times`].
    pub fn frame_at(&mut self, secs: f64) -> Result<usize, ReaderError> {
        let index = self.index()?;
        selection::frame_at(index.times(), secs, selection::ROUNDING_SECS).map_err(|reason| self.out_of_range(reason))
    }

    /// Reads frames by number, in the order requested; duplicates are allowed.
    ///
    /// # Errors
    /// `OutOfRange` for a number that does not exist, `Timeout`, `Media`, `Cuda`; `Decode` for damage if the options require intact frames.
    pub fn read(&mut self, numbers: &[usize]) -> Result<Batch, ReaderError> {
        #[cfg(feature = "cuda")]
        if let Some(batch) = self.read_on_gpu(numbers)? {
            return Ok(batch);
        }
        let (memory, frames, shape) = self.retried(|reader| {
            let shape = reader.target.shape();
            let mut memory = reader.video.memory.buffer(shape.bytes() * numbers.len())?;
            let frames = reader.read_host(numbers, memory.as_mut_slice())?;
            Ok((memory, frames, shape))
        })?;
        let tensor = HostTensor::new(numbers.len(), shape, memory);
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &self.gpu {
            return Ok(Batch { tensor: self.video.uploaded(&gpu.memory, &tensor)?, frames });
        }
        Ok(Batch { tensor: Tensor::Host(tensor), frames })
    }

    /// Reads the frames on screen at these times, in the order requested: see [`VideoReader::frame_at`].
    ///
    /// # Errors
    /// As [`VideoReader::read`].
    pub fn read_at(&mut self, seconds: &[f64]) -> Result<Batch, ReaderError> {
        let numbers: Vec<usize> = seconds.iter().map(|secs| self.frame_at(*secs)).collect::<Result<_, _>>()?;
        self.read(&numbers)
    }

    /// The same as [`VideoReader::read`], into the caller's memory: dense, native endian, exactly as long as required. Host only.
    ///
    /// # Errors
    /// As [`VideoReader::read`]; `BadOption` for a wrong length, or for a reader on a GPU.
    pub fn read_into(&mut self, numbers: &[usize], out: &mut [u8]) -> Result<Vec<FrameInfo>, ReaderError> {
        #[cfg(feature = "cuda")]
        if self.gpu.is_some() {
            let reason = "this reader is on a GPU; use read, which returns GPU memory".into();
            return Err(ReaderError::BadOption { name: "out", reason });
        }
        self.retried(|reader| {
            let need = reader.target.shape().bytes() * numbers.len();
            if out.len() != need {
                let reason = format!("{} frames need {need} bytes, {} were given", numbers.len(), out.len());
                return Err(ReaderError::BadOption { name: "out", reason }.into());
            }
            reader.read_host(numbers, out)
        })
    }

    /// Returns batches of `batch` frames, made ahead on separate threads. The last batch may be smaller, unless `drop_last` removes it. The
    /// reader can be used, or dropped, meanwhile.
    ///
    /// # Errors
    /// `OutOfRange`, `BadOption`, and as [`VideoReader::times`].
    pub fn batches(&mut self, selection: Selection, batch: usize, drop_last: bool) -> Result<Batches, ReaderError> {
        if batch == 0 {
            return Err(ReaderError::BadOption { name: "batch", reason: "give at least 1".into() });
        }
        let index = self.index()?;
        let request = BatchRequest { selection, batch, drop_last, mode: self.options.mode, queue: self.options.queue };
        #[cfg(feature = "cuda")]
        let gpu = self.gpu.as_ref().map(|gpu| BatchGpu { memory: gpu.memory.clone(), decodes: self.metadata.fallback.is_none() });
        #[cfg(not(feature = "cuda"))]
        let gpu = None;
        Batches::new(&self.video, index, &self.target, request, gpu)
    }

    /// Reads frames decoded on the GPU; `None` when the host must decode, with the reason recorded.
    #[cfg(feature = "cuda")]
    fn read_on_gpu(&mut self, numbers: &[usize]) -> Result<Option<Batch>, ReaderError> {
        if self.gpu.is_none() || self.metadata.fallback.is_some() {
            return Ok(None);
        }
        let outcome = self.retried(|reader| {
            let index = reader.index()?;
            reader.check_numbers(numbers, index.len())?;
            let Some(gpu) = &mut reader.gpu else { return Err(ReaderError::Closed.into()) };
            let engine = match &mut gpu.engine {
                Some(engine) => engine,
                none => none.insert(DeviceEngine::new(&reader.video, &index, &reader.target, &gpu.memory)?),
            };
            let batch = engine.read(numbers);
            if batch.is_err() {
                gpu.engine = None;
            }
            batch
        });
        match outcome {
            Ok(batch) => {
                self.target.is_seen |= !numbers.is_empty();
                self.video.counters.deliver(&batch.frames);
                Ok(Some(batch))
            }
            Err(ReaderError::NotOnDevice { reason, .. }) => {
                self.metadata.fallback = Some(reason);
                Ok(None)
            }
            Err(ReaderError::Cuda { error, .. }) if may_work_on_cpu(&error) => {
                self.metadata.fallback = Some(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The frame numbers of a selection.
    ///
    /// # Errors
    /// `OutOfRange`, `BadOption`, and as [`VideoReader::times`].
    pub fn select(&mut self, selection: &Selection) -> Result<Vec<usize>, ReaderError> {
        let index = self.index()?;
        selection::of_video(selection, index.times(), || self.video.source_name())
    }

    /// Statistics so far of this reader and its batches.
    pub fn stats(&self) -> ReaderStats {
        self.video.counters.stats()
    }

    fn out_of_range(&self, reason: String) -> ReaderError {
        ReaderError::OutOfRange { source_name: self.video.source_name(), reason }
    }

    fn check_numbers(&self, numbers: &[usize], frames: usize) -> Result<(), ReaderError> {
        match numbers.iter().find(|number| **number >= frames) {
            Some(number) => Err(self.out_of_range(format!("frame {number} was requested; there are {frames}, numbered from 0"))),
            None => Ok(()),
        }
    }

    fn read_host(&mut self, numbers: &[usize], out: &mut [u8]) -> Result<Vec<FrameInfo>, Fault> {
        if let Some(frames) = self.read_first_alone(numbers, out)? {
            return Ok(frames);
        }
        let index = self.index()?;
        self.check_numbers(numbers, index.len())?;
        let engine = match &mut self.engine {
            Some(engine) => engine,
            none => {
                // Only the tables of the input were read, so it need not be reopened.
                let input = self.fresh.take().filter(|_| index.access == Access::ByTime);
                none.insert(HostEngine::new(&self.video, &index, &self.target, self.options.mode).with_input(input))
            }
        };
        let frames = engine.read(numbers, out)?;
        self.target.is_seen |= !numbers.is_empty();
        self.video.counters.deliver(&frames);
        Ok(frames)
    }

    /// Reads the first frame without building the index, if that would require reading the whole source. `None` in other cases.
    fn read_first_alone(&mut self, numbers: &[usize], out: &mut [u8]) -> Result<Option<Vec<FrameInfo>>, Fault> {
        let is_cheap = self.metadata.container.starts_with("mov") || self.options.cache != IndexCache::None;
        let is_first = !numbers.is_empty() && numbers.iter().all(|number| *number == 0);
        if !is_first || is_cheap || self.index.is_some() || self.options.index != IndexPolicy::Exact {
            return Ok(None);
        }
        let Some(mut input) = self.fresh.take() else { return Ok(None) };
        let mut decoder = Decoder::open_with(&self.video.decoder_setup(1), &self.video.frames)?;
        let deadline = self.video.deadline();
        let frame = loop {
            deadline.check(|| "waiting for the first frame".into())?;
            match decoder.receive()? {
                Decoded::Frame(frame) => break frame,
                Decoded::End => return Ok(None),
                Decoded::NeedsPacket => match input.next_packet()? {
                    Some(packet) if packet.kind == PacketKind::Video => decoder.send(Some(&packet))?,
                    Some(_) => {}
                    None => decoder.send(None)?,
                },
            }
        };
        if decoder.damage().is_any() || input.damage().is_any() || status_of(&frame) != FrameStatus::Ok {
            return Ok(None);
        }
        check_kind(&self.target, &frame)?;
        let mut images = HostFrames::new(&self.target.output, self.target.kind, &self.video.source_name())?;
        let bytes = self.target.shape().bytes().max(1);
        for out in out.chunks_exact_mut(bytes) {
            images.make(0, &frame, out)?;
        }
        self.target.is_seen = true;
        let by_rate = self.metadata.frame_rate.filter(|rate| rate.is_positive()).map_or(0.0, |rate| 1.0 / rate.as_f64());
        let duration_secs = frame.duration.map_or(by_rate, |ticks| frame.time_base.seconds(ticks));
        let (seconds, status) = (frame.seconds(), FrameStatus::Ok);
        let info = FrameInfo { number: 0, pts: frame.pts, seconds, duration_secs, is_keyframe: frame.is_keyframe, status };
        let frames = vec![info; numbers.len()];
        self.video.counters.pictures_decoded.add(1);
        self.video.counters.pictures_converted.add(1);
        self.video.counters.deliver(&frames);
        Ok(Some(frames))
    }

    /// Retries a read after fixing what can be fixed: a wrong header or a wrong index.
    fn retried<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Fault>) -> Result<T, ReaderError> {
        for _ in 0..MAX_TRIES {
            match (read(self), &self.index) {
                (Ok(done), _) => return Ok(done),
                (Err(Fault::OtherKind), _) => self.look_at_first()?,
                (Err(fault), Some(index)) => {
                    let repaired = index.repaired(fault, &self.video.input, &self.video.frames);
                    self.adopt_repaired(Arc::new(repaired.map_err(|fault| self.video.error_of(fault))?));
                }
                (Err(fault), None) => return Err(self.video.error_of(fault)),
            }
        }
        Err(self.video.error_of(Fault::IndexWrong))
    }

    /// Takes size and format from the first frame instead of the header.
    fn look_at_first(&mut self) -> Result<(), ReaderError> {
        let before = self.target.kind;
        let first = adopt_first(&self.video, &mut self.target).map_err(|fault| self.video.error_of(fault))?;
        if let Some(frame) = first {
            self.metadata.color = frame.color;
            self.metadata.sample_aspect_ratio = frame.sample_aspect_ratio;
        }
        (self.metadata.width, self.metadata.height) = (self.target.kind.width, self.target.kind.height);
        self.metadata.pixel_format = self.target.kind.format;
        self.is_looked_at = true;
        self.video.version.fetch_add(1, Ordering::Release);
        if self.target.kind != before {
            self.forget_engines();
        }
        Ok(())
    }

    fn adopt_repaired(&mut self, index: Arc<FrameIndex>) {
        self.keep(CacheEntry::of(&self.options.cache, &self.video.input), &index);
        self.adopt(index);
    }

    fn forget_engines(&mut self) {
        self.engine = None;
        #[cfg(feature = "cuda")]
        if let Some(gpu) = &mut self.gpu {
            gpu.engine = None;
        }
    }

    /// The index; built if necessary.
    pub(crate) fn frame_index(&mut self) -> Result<Arc<FrameIndex>, ReaderError> {
        self.index()
    }

    /// Uses a stored index.
    pub(crate) fn adopt_kept(&mut self, index: FrameIndex) {
        self.adopt(Arc::new(index));
    }

    /// A newly opened input at its first packet.
    #[cfg(feature = "cuda")]
    pub(crate) fn another_input(&mut self) -> Result<Input, MediaError> {
        self.fresh.take().map_or_else(|| self.video.open(), Ok)
    }

    fn adopt(&mut self, index: Arc<FrameIndex>) {
        let times = index.times();
        self.metadata.num_frames = Some(index.len());
        self.metadata.index_source = index.source;
        if index.source != IndexSource::Approximate {
            self.metadata.start_secs = times.first().map(|time| time.seconds);
            let end = times.last().map(|time| time.seconds + time.duration_secs);
            self.metadata.duration_secs = end.zip(self.metadata.start_secs).map(|(end, start)| end - start);
            self.metadata.end_secs = end;
        }
        self.forget_engines();
        self.index = Some(index);
        self.video.version.fetch_add(1, Ordering::Release);
    }

    fn index(&mut self) -> Result<Arc<FrameIndex>, ReaderError> {
        let repaired = self.video.repaired.lock().take();
        if let Some(index) = repaired {
            self.adopt_repaired(index);
        }
        if let Some(index) = &self.index {
            return Ok(Arc::clone(index));
        }
        let mut input = match self.fresh.take() {
            Some(input) => input,
            None => self.video.open()?,
        };
        let approximate = match self.options.index {
            IndexPolicy::Approximate => FrameIndex::approximate(&mut input)?,
            IndexPolicy::Exact => None,
        };
        let index = match approximate {
            Some(index) => index,
            None => self.exact_index(input)?,
        };
        self.adopt(Arc::new(index));
        self.index.clone().ok_or(ReaderError::Closed)
    }

    fn exact_index(&mut self, mut input: Input) -> Result<FrameIndex, ReaderError> {
        let cache = CacheEntry::of(&self.options.cache, &self.video.input);
        let kept = cache.as_ref().and_then(CacheEntry::load);
        if let Some(index) = kept {
            self.fresh = Some(input);
            return Ok(index);
        }
        let index = FrameIndex::make(&mut input, &self.video.input, &self.video.frames)?;
        self.fresh = Some(input);
        self.keep(cache, &index);
        Ok(index)
    }

    fn keep(&self, cache: Option<CacheEntry>, index: &FrameIndex) {
        if let Some(cache) = cache
            && let Err(error) = cache.store(index)
        {
            // Only time is lost.
            log::warn!("{}: the index could not be kept in {}: {error}", self.video.source_name(), cache.path().display());
        }
    }
}

/// The GPU's memory, after checking whether it decodes the video: if not, the reason is recorded.
#[cfg(feature = "cuda")]
fn open_gpu(options: &ReaderOptions, input: &Input, metadata: &mut VideoMetadata) -> Result<Option<Gpu>, ReaderError> {
    let ReadDevice::Cuda(device) = &options.device else { return Ok(None) };
    device_engine::check_output(&options.output)?;
    let failed = |error| ReaderError::Cuda { source_name: options.input.source.to_string(), error };
    let memory = GpuMemory::new(device, &options.decode_on).map_err(failed)?;
    metadata.device = device.id();
    for device in memory.decoding() {
        match crate::device::check(input, device) {
            Ok(_) => {}
            Err(ReaderError::NotOnDevice { reason, .. }) => metadata.fallback = Some(reason),
            Err(error) => return Err(error),
        }
    }
    if options.index == IndexPolicy::Approximate && metadata.fallback.is_none() {
        metadata.fallback = Some("without an exact index, frames are read on the CPU".into());
    }
    Ok(Some(Gpu { memory, engine: None }))
}

fn check(options: &ReaderOptions) -> Result<(), ReaderError> {
    let input = &options.input;
    if input.start_secs.is_some() || input.end_secs.is_some() || input.duration_secs.is_some() {
        let reason = "a reader covers the whole file; use a selection with batches instead".into();
        return Err(ReaderError::BadOption { name: "start", reason });
    }
    let is_pipe = input.source == "-" || std::fs::metadata(input.source.reveal()).is_ok_and(|found| is_fifo(&found));
    if input.custom.is_none() && is_pipe {
        let reason = "a pipe is not seekable; save it to a file first".into();
        return Err(ReaderError::BadOption { name: "source", reason });
    }
    if options.queue == 0 {
        return Err(ReaderError::BadOption { name: "queue", reason: "give at least 1".into() });
    }
    check_output(&options.output)
}

#[cfg(unix)]
fn is_fifo(found: &std::fs::Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&found.file_type())
}

#[cfg(not(unix))]
fn is_fifo(_: &std::fs::Metadata) -> bool {
    false
}

/// Options for opening the source: reads only the header, and waits no longer than the reader's own limit.
fn input_options(options: &ReaderOptions) -> Result<InputOptions, ReaderError> {
    let mut input = frame_index::whole(&options.input);
    input.probe = ProbeEffort::Header;
    input.read_timeout = [input.read_timeout, options.timeout].into_iter().flatten().min();
    Ok(input)
}
