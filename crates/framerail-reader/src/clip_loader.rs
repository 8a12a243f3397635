//! Loads clips from many files in parallel, on the threads of one process.
//!
//! A caller submits batches: a list of [`ClipItem`]s, each with its destination memory. Threads take the clips in submission order across
//! batches, so that the current batch and the ones after it keep every core busy. Each clip is decoded, augmented and written to its
//! destination. The content of a clip depends on its item alone, never on the thread or on timing.

#[cfg(feature = "cuda")]
mod gpu;
mod kept;
mod output;
mod queue;
mod worker;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use framerail_core::{CancelToken, DType, TensorLayout};
use framerail_media::InputOptions;
use framerail_vision::augment::Augment;
use parking_lot::Mutex;

use crate::{ClipPolicy, ClipSampling, FrameStatus, KnownIndex, ReaderError, ReaderOptions, ReaderStats, VideoReader, default_threads};

#[cfg(feature = "cuda")]
use self::gpu::ClipGpu;
#[cfg(feature = "cuda")]
pub use self::gpu::GpuPlace;
use self::{
    kept::Kept,
    output::ClipOutput,
    queue::{Queue, Request},
    worker::Worker,
};

/// Destination memory of a clip: dense, native endian.
pub trait ClipMemory: Send {
    /// The bytes; the length is [`ClipShape::bytes`].
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl ClipMemory for Vec<u8> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Destination of a clip.
pub enum ClipPlace {
    /// Host memory.
    Host(Box<dyn ClipMemory>),
    /// Memory on the reader's GPU.
    #[cfg(feature = "cuda")]
    Gpu(GpuPlace),
}

/// Augmentation of a clip's frames, and the format of the result.
#[derive(Clone, Debug)]
pub struct ClipAugment {
    /// The augmentations to apply.
    pub description: Augment,
    /// Planar or interleaved channels.
    pub layout: TensorLayout,
    /// Type of the elements.
    pub dtype: DType,
    /// As in [`framerail_core::AugmentSpec`].
    pub scale: f32,
    /// As in [`framerail_core::AugmentSpec`].
    pub mean: [f32; 3],
    /// As in [`framerail_core::AugmentSpec`].
    pub std: [f32; 3],
}

/// Options shared by all clips of a loader.
#[derive(Clone, Debug)]
pub struct ClipLoaderOptions {
    /// How sources are read. Each item names its input, and each clip is decoded by one thread. With a GPU, its engines decode and
    /// clips are made in its memory; streams that it cannot decode are decoded on the host.
    pub reader: ReaderOptions,
    /// Which clips are taken: [`ClipPolicy::Random`] draws one clip by the item's seed; other policies use the item's `clip` number.
    pub sampling: ClipSampling,
    /// A clip that would start at most this many frames after a keyframe starts at the keyframe instead. This decodes less, but makes
    /// starts at keyframes more frequent than others. Only for clips by frame numbers.
    pub snap: usize,
    /// Augmentation, applied last.
    pub augment: Option<ClipAugment>,
    /// Augmented versions of each clip, from 1.
    pub views: usize,
    /// Scales frames so that their shorter side has this many pixels; the reader's `size` is then cropped from the centre.
    pub short_side: Option<u32>,
    /// 1, or 3 crops along the longer side: at both ends and in the centre. Requires `short_side` and a `size`.
    pub crops: usize,
    /// `[C, T, H, W]` instead of `[T, C, H, W]`. Host only.
    pub channels_first: bool,
    /// Decoding threads, each working on one clip at a time; 0 = one per CPU core, or enough to keep the GPU's engines busy.
    pub threads: usize,
    /// Additional threads that decode on CPU cores for the GPU. They take the clips that are due last, if they can finish them in time.
    /// Default: three quarters of the cores.
    pub helpers: Option<usize>,
    /// Number of open files kept for later clips of the same files.
    pub max_open: usize,
}

impl ClipLoaderOptions {
    /// Clips without augmentation, on all cores.
    pub fn new(reader: ReaderOptions, sampling: ClipSampling) -> Self {
        Self {
            reader,
            sampling,
            snap: 0,
            augment: None,
            views: 1,
            short_side: None,
            crops: 1,
            channels_first: false,
            threads: 0,
            helpers: None,
            max_open: 16,
        }
    }
}

/// A requested clip.
#[derive(Clone)]
pub struct ClipItem {
    /// Identifies the source: clips with the same key come from the same source.
    pub key: u64,
    /// The source.
    pub input: InputOptions,
    /// A stored frame index, if available; checked against the current file.
    pub index: Option<KnownIndex>,
    /// Number of the clip, for policies with regular positions.
    pub clip: usize,
    /// Seed of all random choices.
    pub seed: u64,
}

/// Metadata of a clip.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedClip {
    /// Frame numbers.
    pub numbers: Vec<usize>,
    /// Presentation times in seconds.
    pub seconds: Vec<f64>,
    /// Whether each frame was decoded as encoded.
    pub statuses: Vec<FrameStatus>,
    /// Number of frames at the end that stand in for frames beyond the end of the video.
    pub filled: usize,
}

/// A complete batch.
pub struct LoadedBatch {
    /// In submission order. An error affects only its clip, whose memory then has unspecified contents.
    pub clips: Vec<Result<LoadedClip, ReaderError>>,
    /// The destinations passed to `submit`, in the same order.
    pub places: Vec<ClipPlace>,
}

/// The shape of one clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipShape {
    /// Views or crops; clips with one part have no axis for it.
    pub parts: usize,
    /// Frames per part.
    pub frames: usize,
    /// Axes of a frame, in the layout's order.
    pub image: [usize; 3],
    /// Whether channels come before frames.
    pub channels_first: bool,
    /// Type of the elements.
    pub dtype: DType,
}

impl ClipShape {
    /// All axes of a clip.
    pub fn axes(&self) -> Vec<usize> {
        let [a, b, c] = self.image;
        let clip = if self.channels_first { [a, self.frames, b, c] } else { [self.frames, a, b, c] };
        (self.parts > 1).then_some(self.parts).into_iter().chain(clip).collect()
    }

    /// Size of a frame in bytes.
    pub fn image_bytes(&self) -> usize {
        self.image.iter().product::<usize>() * self.dtype.size_bytes()
    }

    /// Size of a clip in bytes.
    pub fn bytes(&self) -> usize {
        self.parts * self.frames * self.image_bytes()
    }
}

/// Statistics of a loader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClipLoaderStats {
    /// Decoding threads.
    pub threads: usize,
    /// Total working time of all threads.
    pub busy: Duration,
    /// Part of `busy` spent opening sources and building indexes.
    pub opening: Duration,
    /// Clips completed.
    pub clips: u64,
    /// Clips that failed.
    pub clips_failed: u64,
    /// Clips decoded on CPU cores, for the host or for a GPU.
    pub clips_by_cores: u64,
    /// Clips that share the decode of another clip of the same GOP.
    pub clips_shared: u64,
    /// Sources opened.
    pub files_opened: u64,
    /// Sources still open from an earlier clip.
    pub files_reused: u64,
    /// Stored indexes that did not match the current file.
    pub indexes_stale: u64,
    /// Bytes of clips written.
    pub bytes: u64,
    /// Times that a thread waited for the GPU because frames in a decoder's memory were still being read.
    pub syncs: u64,
    /// Statistics of the readers.
    pub reader: ReaderStats,
}

#[derive(Default)]
struct Counts {
    busy_nanos: AtomicU64,
    opening_nanos: AtomicU64,
    clips_shared: AtomicU64,
    clips_by_cores: AtomicU64,
    /// Mean time per clip on a thread that takes clips in order, in nanoseconds.
    clip_nanos: AtomicU64,
    /// Mean time per decoded pixel on a helper core, in picoseconds.
    #[cfg(feature = "cuda")]
    pixel_picos: AtomicU64,
    #[cfg(feature = "cuda")]
    syncs: AtomicU64,
    files_opened: AtomicU64,
    files_reused: AtomicU64,
    indexes_stale: AtomicU64,
    bytes: AtomicU64,
    reader: Mutex<ReaderStats>,
}

/// Assumed time per clip on a thread with an engine, before one was measured; a low value.
#[cfg(feature = "cuda")]
const FIRST_CLIP_NANOS: u64 = 20_000_000;

#[cfg(feature = "cuda")]
impl Counts {
    /// Estimated time until a clip with `waiting` clips ahead of it is due, less a safety margin.
    fn turn_nanos(&self, waiting: usize, threads: usize) -> u64 {
        let clip = match self.clip_nanos.load(Ordering::Relaxed) {
            0 => FIRST_CLIP_NANOS,
            known => known,
        };
        (waiting as u64).saturating_mul(clip) / threads.max(1) as u64 * 3 / 4
    }
}

/// State shared by the threads.
struct Shared {
    options: ClipLoaderOptions,
    output: ClipOutput,
    queue: Queue,
    kept: Mutex<Kept>,
    counts: Counts,
    cancel: CancelToken,
    /// Threads that take the clips that are due first.
    threads: usize,
    #[cfg(feature = "cuda")]
    gpu: Option<ClipGpu>,
}

/// Loads batches of clips on threads that run until this value is dropped.
pub struct ClipLoader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl ClipLoader {
    /// Starts the threads.
    ///
    /// # Errors
    /// `BadOption`; `Failed` when threads cannot be started.
    pub fn new(options: ClipLoaderOptions) -> Result<Self, ReaderError> {
        let output = ClipOutput::new(&options)?;
        if options.snap > 0 && !matches!(options.sampling.steps, crate::ClipSteps::Frames { .. }) {
            let reason = "counts frames, so it goes with clips by frames; leave it out with clips by seconds".into();
            return Err(ReaderError::BadOption { name: "snap", reason });
        }
        if matches!(options.sampling.policy, ClipPolicy::Every { .. }) {
            let reason = "a loader takes random or regular clips; read clips one after another with a stream".into();
            return Err(ReaderError::BadOption { name: "policy", reason });
        }
        #[cfg(feature = "cuda")]
        let gpu = open_gpu(&options)?;
        #[cfg(feature = "cuda")]
        let (default, helpers) = match &gpu {
            Some(gpu) => (gpu.threads(), options.helpers.unwrap_or_else(default_helpers)),
            None => (default_threads(), 0),
        };
        #[cfg(not(feature = "cuda"))]
        let (default, helpers) = (default_threads(), 0);
        let count = if options.threads == 0 { default } else { options.threads };
        let cancel = options.reader.input.cancel.child();
        let kept = Mutex::new(Kept::new(options.max_open));
        let shared = Arc::new(Shared {
            options,
            output,
            queue: Queue::default(),
            kept,
            counts: Counts::default(),
            cancel,
            threads: count,
            #[cfg(feature = "cuda")]
            gpu,
        });
        let mut loader = Self { shared, threads: Vec::with_capacity(count + helpers) };
        for number in 0..count + helpers {
            let mut worker = Worker::new(&loader.shared, number >= count)?;
            let thread = std::thread::Builder::new().name(format!("clips-{number}")).spawn(move || worker.run());
            let failed =
                |error| ReaderError::Failed { reason: format!("cannot start thread {number} of {count}: {error}; use fewer threads") };
            loader.threads.push(thread.map_err(failed)?);
        }
        Ok(loader)
    }

    /// The shape of a clip, if the options determine it independently of the source.
    pub fn shape(&self) -> Option<ClipShape> {
        self.shared.output.shape()
    }

    /// The shape of the clips of a source. Opens the source.
    ///
    /// # Errors
    /// As [`VideoReader::open`].
    pub fn shape_of(&self, input: &InputOptions) -> Result<ClipShape, ReaderError> {
        let reader = VideoReader::open(self.shared.reader_options(input))?;
        Ok(self.shared.output.of(&reader)?.shape)
    }

    /// Queues a batch, with a destination for each of its clips. `id` identifies it in [`ClipLoader::wait`] and must be unique among the
    /// batches in progress.
    pub fn submit(&self, id: u64, items: Vec<(ClipItem, ClipPlace)>) {
        self.shared.queue.begin(id, items.len());
        let requests = items.into_iter().enumerate();
        let request = |(row, (item, place))| Request::new(&self.shared, id, row, item, place);
        self.shared.queue.push(requests.map(request).collect());
    }

    /// Waits until a batch is complete.
    ///
    /// # Errors
    /// `Closed` for a batch that was not submitted or has already been waited for.
    pub fn wait(&self, id: u64) -> Result<LoadedBatch, ReaderError> {
        self.shared.queue.wait(id).ok_or(ReaderError::Closed)
    }

    /// Discards all submitted batches; clips that are being decoded are still finished.
    pub fn forget(&self) {
        self.shared.queue.forget();
    }

    /// Statistics so far.
    pub fn stats(&self) -> ClipLoaderStats {
        let counts = &self.shared.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (clips, clips_failed) = self.shared.queue.finished();
        ClipLoaderStats {
            threads: self.threads.len(),
            busy: Duration::from_nanos(get(&counts.busy_nanos)),
            opening: Duration::from_nanos(get(&counts.opening_nanos)),
            clips,
            clips_failed,
            clips_by_cores: get(&counts.clips_by_cores),
            clips_shared: get(&counts.clips_shared),
            files_opened: get(&counts.files_opened),
            files_reused: get(&counts.files_reused),
            indexes_stale: get(&counts.indexes_stale),
            bytes: get(&counts.bytes),
            #[cfg(feature = "cuda")]
            syncs: get(&counts.syncs),
            #[cfg(not(feature = "cuda"))]
            syncs: 0,
            reader: *counts.reader.lock(),
        }
    }

    /// Cancelling this token ends the threads.
    pub fn cancel_token(&self) -> CancelToken {
        self.shared.cancel.clone()
    }
}

impl Drop for ClipLoader {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
        self.shared.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                log::error!("a thread that loads clips panicked; this is a bug, please report it");
            }
        }
    }
}

impl Shared {
    /// Reader options of an item's source.
    fn reader_options(&self, input: &InputOptions) -> ReaderOptions {
        let template = &self.options.reader;
        let input = InputOptions {
            source: input.source.clone(),
            custom: input.custom.clone(),
            cancel: self.cancel.clone(),
            ..template.input.clone()
        };
        ReaderOptions { input, device: Default::default(), threads: 1, queue: 1, ..template.clone() }
    }
}

/// Default number of threads that decode on CPU cores for a GPU. Some cores are left for the threads of the engines and for the caller.
#[cfg(feature = "cuda")]
fn default_helpers() -> usize {
    let cores = default_threads();
    cores.saturating_sub((cores / 4).max(2))
}

#[cfg(feature = "cuda")]
fn open_gpu(options: &ClipLoaderOptions) -> Result<Option<ClipGpu>, ReaderError> {
    let crate::ReadDevice::Cuda(device) = &options.reader.device else { return Ok(None) };
    crate::device_engine::check_output(&options.reader.output)?;
    if options.channels_first {
        let reason = "CTHW is supported on the CPU only; permute the axes of GPU tensors".into();
        return Err(ReaderError::BadOption { name: "layout", reason });
    }
    let failed = |error| ReaderError::Cuda { source_name: "a loader of clips".into(), error };
    ClipGpu::new(device).map(Some).map_err(failed)
}
