//! Clips of many files, decoded side by side by the threads of one process.
//!
//! A caller submits batches: a list of [`ClipItem`]s and a place in memory for each. Threads take the clips in the order submitted,
//! whatever batch they belong to, so that a batch, and those behind it, keep every core busy; each clip is decoded, augmented and
//! written to its place. What a clip is depends on its item alone, never on which thread made it or when.

#[cfg(feature = "cuda")]
mod card;
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

use crate::{ClipPolicy, ClipSampling, FrameStatus, KnownIndex, ReaderError, ReaderOptions, ReaderStats, VideoReader, plan};

#[cfg(feature = "cuda")]
pub use self::card::CardPlace;
#[cfg(feature = "cuda")]
use self::card::ClipCard;
use self::{
    kept::Kept,
    output::ClipOutput,
    queue::{Queue, Request},
    worker::Worker,
};

/// Where a clip's elements are written: dense, native endian.
pub trait ClipMemory: Send {
    /// The bytes, as many as [`ClipShape::bytes`] says.
    fn bytes_mut(&mut self) -> &mut [u8];
}

impl ClipMemory for Vec<u8> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }
}

/// Where a clip goes.
pub enum ClipPlace {
    /// To memory of the host.
    Host(Box<dyn ClipMemory>),
    /// To memory that is taken on the reader's card.
    #[cfg(feature = "cuda")]
    Card(CardPlace),
}

/// Augmentation of a clip's pictures, and what comes out of it.
#[derive(Clone, Debug)]
pub struct ClipAugment {
    /// What may be done to pictures.
    pub description: Augment,
    /// Planes or interleaved channels.
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

/// What all clips of a loader have in common.
#[derive(Clone, Debug)]
pub struct ClipLoaderOptions {
    /// How sources are read. The input is that of each item, and each clip is decoded by one thread. With a card, its engines decode, and
    /// clips are made in its memory; what it cannot decode is decoded on the host.
    pub reader: ReaderOptions,
    /// Which clips are taken: [`ClipPolicy::Random`] draws one clip by the item's seed, other policies give the item's `clip`-th.
    pub sampling: ClipSampling,
    /// A clip that would start at most so many frames behind a keyframe starts at the keyframe: less is decoded, and starts at
    /// keyframes are more frequent than others. With clips by frame numbers only.
    pub snap: usize,
    /// What is done to the pictures at last.
    pub augment: Option<ClipAugment>,
    /// Draws of the augmentation for each clip, from 1.
    pub views: usize,
    /// Scales pictures so that their shorter side has so many pixels; the reader's `size` is then cut out of the middle.
    pub short_side: Option<u32>,
    /// 1, or 3 windows along the longer side: at both its ends and in the middle. Needs `short_side` and a `size`.
    pub crops: usize,
    /// `[C, T, H, W]` instead of `[T, C, H, W]`. On the host only.
    pub channels_first: bool,
    /// Threads, each of which decodes a clip at a time; 0 for as many as there are cores, or as keep the card's engines busy.
    pub threads: usize,
    /// More threads, each of which decodes on a core for the card: clips that are due last, where that is done before their turn. By
    /// default three of four cores.
    pub helpers: Option<usize>,
    /// Open files that are kept for the next clip of them.
    pub max_open: usize,
}

impl ClipLoaderOptions {
    /// Clips as they are, on all cores.
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

/// A clip that is asked for.
#[derive(Clone)]
pub struct ClipItem {
    /// Tells sources apart: clips of one key are of one source.
    pub key: u64,
    /// The source.
    pub input: InputOptions,
    /// Where its frames are, if that was kept; checked against the file as it is now.
    pub index: Option<KnownIndex>,
    /// Number of the clip, where clips are at regular places.
    pub clip: usize,
    /// Decides everything that is random.
    pub seed: u64,
}

/// What is known of a clip beside its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedClip {
    /// Numbers of its frames.
    pub numbers: Vec<usize>,
    /// Their presentation times.
    pub seconds: Vec<f64>,
    /// Whether they are as they were encoded.
    pub statuses: Vec<FrameStatus>,
    /// How many of the last ones stand for frames beyond the video's end.
    pub filled: usize,
}

/// A batch that is complete.
pub struct LoadedBatch {
    /// In the order submitted; an error is that clip's alone, and its memory holds anything then.
    pub clips: Vec<Result<LoadedClip, ReaderError>>,
    /// The places that were given, in the same order.
    pub places: Vec<ClipPlace>,
}

/// The shape of one clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipShape {
    /// Views or crops; clips with one have no axis for it.
    pub parts: usize,
    /// Frames of a part.
    pub frames: usize,
    /// Axes of a picture, in the layout's order.
    pub picture: [usize; 3],
    /// The channels come before the frames.
    pub channels_first: bool,
    /// Type of the elements.
    pub dtype: DType,
}

impl ClipShape {
    /// All axes of a clip.
    pub fn axes(&self) -> Vec<usize> {
        let [a, b, c] = self.picture;
        let clip = if self.channels_first { [a, self.frames, b, c] } else { [self.frames, a, b, c] };
        (self.parts > 1).then_some(self.parts).into_iter().chain(clip).collect()
    }

    /// Bytes of a picture.
    pub fn picture_bytes(&self) -> usize {
        self.picture.iter().product::<usize>() * self.dtype.size_bytes()
    }

    /// Bytes of a clip.
    pub fn bytes(&self) -> usize {
        self.parts * self.frames * self.picture_bytes()
    }
}

/// What a loader has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClipLoaderStats {
    /// Threads that decode.
    pub threads: usize,
    /// Time that they worked, all together.
    pub busy: Duration,
    /// Part of it for opening sources and making their indexes.
    pub opening: Duration,
    /// Clips that were made.
    pub clips: u64,
    /// Clips that could not be made.
    pub clips_failed: u64,
    /// Clips that a core decoded, wholly or for a card.
    pub clips_by_cores: u64,
    /// Clips whose pictures came from the decode of another clip of the same group of pictures.
    pub clips_shared: u64,
    /// Sources that were opened.
    pub files_opened: u64,
    /// Sources that were still open from an earlier clip.
    pub files_reused: u64,
    /// Kept indexes that were not of the file as it is now.
    pub indexes_stale: u64,
    /// Bytes of clips written.
    pub bytes: u64,
    /// Times that a thread waited for the card, where pictures in a decoder's memory were still read.
    pub syncs: u64,
    /// What the readers did.
    pub reader: ReaderStats,
}

#[derive(Default)]
struct Counts {
    busy_nanos: AtomicU64,
    opening_nanos: AtomicU64,
    clips_shared: AtomicU64,
    clips_by_cores: AtomicU64,
    /// Mean time of a clip on a thread that takes them in turn, in nanoseconds.
    clip_nanos: AtomicU64,
    /// Mean time of a decoded pixel on a core that helps, in picoseconds.
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

/// Time of a clip on a thread with an engine before one was measured: a short one.
#[cfg(feature = "cuda")]
const FIRST_CLIP_NANOS: u64 = 20_000_000;

#[cfg(feature = "cuda")]
impl Counts {
    /// Time until it is the turn of a clip that so many wait before, less a margin.
    fn turn_nanos(&self, waiting: usize, threads: usize) -> u64 {
        let clip = match self.clip_nanos.load(Ordering::Relaxed) {
            0 => FIRST_CLIP_NANOS,
            known => known,
        };
        (waiting as u64).saturating_mul(clip) / threads.max(1) as u64 * 3 / 4
    }
}

/// What the threads share.
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
    card: Option<ClipCard>,
}

/// Loads batches of clips on threads that live as long as this value.
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
        let card = open_card(&options)?;
        #[cfg(feature = "cuda")]
        let (default, helpers) = match &card {
            Some(card) => (card.threads(), options.helpers.unwrap_or_else(default_helpers)),
            None => (plan::default_threads(), 0),
        };
        #[cfg(not(feature = "cuda"))]
        let (default, helpers) = (plan::default_threads(), 0);
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
            card,
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

    /// The shape of a clip where options decide it, whatever the source.
    pub fn shape(&self) -> Option<ClipShape> {
        self.shared.output.shape()
    }

    /// The shape of the clips of a source, which is opened for it.
    ///
    /// # Errors
    /// As [`VideoReader::open`].
    pub fn shape_of(&self, input: &InputOptions) -> Result<ClipShape, ReaderError> {
        let reader = VideoReader::open(self.shared.reader_options(input))?;
        Ok(self.shared.output.of(&reader)?.shape)
    }

    /// Queues a batch, with a place in memory for each of its clips. `id` names it to [`ClipLoader::wait`]; no two batches under way
    /// have the same.
    pub fn submit(&self, id: u64, items: Vec<(ClipItem, ClipPlace)>) {
        self.shared.queue.begin(id, items.len());
        let requests = items.into_iter().enumerate();
        let request = |(row, (item, place))| Request::new(&self.shared, id, row, item, place);
        self.shared.queue.push(requests.map(request).collect());
    }

    /// Waits until a batch is complete.
    ///
    /// # Errors
    /// `Closed` for a batch that was not submitted, or was waited for before.
    pub fn wait(&self, id: u64) -> Result<LoadedBatch, ReaderError> {
        self.shared.queue.wait(id).ok_or(ReaderError::Closed)
    }

    /// Gives up all batches that were submitted; clips that are being decoded are still finished.
    pub fn forget(&self) {
        self.shared.queue.forget();
    }

    /// What was done so far.
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

    /// Ends the threads when it is cancelled.
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
    /// How an item's source is read.
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

/// Threads that decode on cores for a card. The engines' threads need some of the cores, and so does the caller.
#[cfg(feature = "cuda")]
fn default_helpers() -> usize {
    let cores = plan::default_threads();
    cores.saturating_sub((cores / 4).max(2))
}

#[cfg(feature = "cuda")]
fn open_card(options: &ClipLoaderOptions) -> Result<Option<ClipCard>, ReaderError> {
    let crate::ReadDevice::Cuda(device) = &options.reader.device else { return Ok(None) };
    crate::device_engine::check_output(&options.reader.output)?;
    if options.channels_first {
        let reason = "CTHW is made on the host only; turn the axes of what lies on a card".into();
        return Err(ReaderError::BadOption { name: "layout", reason });
    }
    let failed = |error| ReaderError::Cuda { source_name: "a loader of clips".into(), error };
    ClipCard::new(device).map(Some).map_err(failed)
}
