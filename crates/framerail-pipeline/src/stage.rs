//! The stage interface: stages consume and produce items.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use framerail_core::{CancelToken, Device, StreamId, StreamInfo, printable, redacted};
use parking_lot::Mutex;

use crate::{
    Arrival, FrameItem, Item, Setting, SettingSpec, StageError, StreamSet,
    engine::stream_table::StreamTable,
    setting::SharedSetting,
    stats::{CopyKind, StreamState},
};

/// Whether a stage accepts more input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue.
    More,
    /// This stage is done; the stages upstream may end too.
    Done,
}

/// All stages downstream have ended. An error only so that `?` returns early; the engine ends the stage quietly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Output of a stage.
pub trait Emitter {
    /// Passes an item to all following stages; waits while their queues are full.
    ///
    /// # Errors
    /// [`Closed`] when no following stage accepts items any more.
    fn push(&mut self, item: Item) -> Result<(), Closed>;
}

/// Collects the items, for calling a stage directly.
impl Emitter for Vec<Item> {
    fn push(&mut self, item: Item) -> Result<(), Closed> {
        Vec::push(self, item);
        Ok(())
    }
}

/// How many frames a stage processes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Maximum number of frames per call; at least 1.
    pub max_frames: usize,
    /// How long to wait for a full batch after its first frame; `None` waits until it is full or the input ends.
    pub max_wait: Option<Duration>,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self { max_frames: 1, max_wait: None }
    }
}

/// Consumes and produces items; may block. The pipeline owns threads, queues, ordering and shutdown.
///
/// # For implementors
/// Implement `frame`; the defaults of the other methods pass everything else on. With several workers, each has a separate value and
/// receives only some of the items, so do not keep state between frames; the engine restores the order of the output.
pub trait Stage: Send {
    /// Called once on the worker's thread before the first item.
    fn start(&mut self, _context: &StageContext) -> Result<(), StageError> {
        Ok(())
    }

    /// Processes a frame.
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError>;

    /// Processes an item that is not a frame. Default: pass it on.
    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        out.push(item)?;
        Ok(Flow::More)
    }

    /// Processes several items in order, with as many frames as the [`BatchPolicy`] allows. Default: one by one.
    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        for item in items {
            let flow = match item {
                Item::Frame(item) => self.frame(*item, out)?,
                other => self.control(other, out)?,
            };
            if flow == Flow::Done {
                return Ok(Flow::Done);
            }
        }
        Ok(Flow::More)
    }

    /// Whether work is in progress elsewhere, such as on a device, whose results [`Stage::idle`] can output. Only for stages with
    /// one worker, because the results of several workers are ordered batch by batch.
    fn has_work_under_way(&self) -> bool {
        false
    }

    /// Called instead of waiting for input while [`Stage::has_work_under_way`] returns `true`: output the oldest results.
    fn idle(&mut self, _out: &mut dyn Emitter) -> Result<Flow, StageError> {
        Ok(Flow::More)
    }

    /// Called at the end of the input: output everything still held. Not called when the run is aborted.
    fn finish(&mut self, _out: &mut dyn Emitter) -> Result<(), StageError> {
        Ok(())
    }

    /// Called instead of [`Stage::finish`] when this stage or one upstream has failed: keep useful partial output under a name that marks
    /// it as incomplete, and report it. Not called when the run is aborted, nor after a panic of this stage.
    fn abandon(&mut self) {}
}

/// What an output stage does when it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnSinkError {
    /// The run fails with its error, once the other outputs have finished.
    #[default]
    Fail,
    /// Its frames are dropped and counted, and the run continues. If no other output is left, the run fails.
    Drop,
}

/// Produces items: the first stage of a pipeline.
pub trait Source: Send {
    /// Called once on the source's thread before the first item.
    fn start(&mut self, _context: &StageContext) -> Result<(), StageError> {
        Ok(())
    }

    /// Produces the next items. Returns [`Flow::Done`] at the end.
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError>;

    /// Called at the end and after a stop, but not after an abort: end open streams here.
    fn finish(&mut self, _out: &mut dyn Emitter) -> Result<(), StageError> {
        Ok(())
    }
}

/// The work of a node's threads.
pub enum Work {
    /// A source on one thread.
    Source(Box<dyn Source>),
    /// Streams read in parallel, with a thread each, or one after another.
    Streams(StreamSet),
    /// A stage, with one value per worker thread; at least one.
    Stages(Vec<Box<dyn Stage>>),
}

/// A counter of a stage, shown in statistics.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to the counter.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets the counter, for counts that are maintained elsewhere.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A part of a stage that can be replaced during the run, such as its model.
pub trait Replace: Send + Sync {
    /// What is in use.
    fn current(&self) -> String;

    /// Loads another and has the stage change over to it between two frames. Called on the thread that asks, which waits for the loading.
    ///
    /// # Errors
    /// Why it cannot be used; the stage keeps what it has.
    fn replace(&self, with: &str) -> Result<(), StageError>;
}

/// Reports of a node's workers.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) model: Mutex<Option<Arc<dyn Replace>>>,
    pub(crate) counters: Mutex<Vec<(String, Counter)>>,
    pub(crate) copies: [CopyCount; CopyKind::ALL.len()],
    pub(crate) syncs: AtomicU64,
    /// Bytes in use by device and worker, current and peak; keyed by device name.
    pub(crate) memory: Mutex<BTreeMap<String, MemoryUse>>,
    pub(crate) notices: Mutex<Notices>,
    /// Why the stage failed, if it did.
    pub(crate) failure: Mutex<Option<String>>,
    pub(crate) settings: Mutex<Vec<Arc<SharedSetting>>>,
}

/// Maximum number of notices kept per stage; later ones are only counted. Long runs produce many.
const MAX_NOTICES: usize = 200;

/// Notices of a stage, each text once.
#[derive(Default)]
pub(crate) struct Notices {
    kept: Vec<String>,
    left_out: u64,
}

impl Notices {
    pub(crate) fn push(&mut self, notice: String) {
        if self.kept.contains(&notice) {
            return;
        }
        if self.kept.len() < MAX_NOTICES { self.kept.push(notice) } else { self.left_out += 1 }
    }

    pub(crate) fn list(&self) -> Vec<String> {
        let more = (self.left_out > 0).then(|| format!("and {} more notices, which are in the log", self.left_out));
        self.kept.iter().cloned().chain(more).collect()
    }
}

#[derive(Default)]
pub(crate) struct MemoryUse {
    by_worker: BTreeMap<usize, u64>,
    pub(crate) peak_bytes: u64,
}

#[derive(Default)]
pub(crate) struct CopyCount {
    pub(crate) count: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// A worker's connection to the run: counters, notices, and cancellation. Cloning is cheap.
#[derive(Clone)]
pub struct StageContext {
    pub(crate) name: Arc<str>,
    pub(crate) worker: usize,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) stop: CancelToken,
    pub(crate) abort: CancelToken,
    pub(crate) streams: Arc<StreamTable>,
}

impl StageContext {
    /// The stage's name in this pipeline.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of this worker within its stage, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The counter with this name, shared by all workers of the stage. Shown in statistics even while 0.
    pub fn counter(&self, name: &str) -> Counter {
        let mut counters = self.ledger.counters.lock();
        if let Some((_, counter)) = counters.iter().find(|(known, _)| known == name) {
            return counter.clone();
        }
        let counter = Counter(Arc::default());
        counters.push((name.to_owned(), counter.clone()));
        counter
    }

    /// A number that can be changed during the run, from a program or the monitoring page. The first worker that declares it sets its
    /// initial value, and all workers share it. Read it for every frame. Call this in [`Stage::start`]; the setting can be changed from
    /// then on.
    pub fn setting(&self, spec: SettingSpec, value: f64) -> Setting {
        let mut settings = self.ledger.settings.lock();
        if let Some(known) = settings.iter().find(|known| known.name() == spec.name()) {
            return Setting::new(Arc::clone(known));
        }
        let shared = Arc::new(SharedSetting::new(spec, value));
        settings.push(Arc::clone(&shared));
        Setting::new(shared)
    }

    /// Lets the stage's model be replaced during the run, from a program or the monitoring page. All workers share it.
    pub fn replaceable_model(&self, model: Arc<dyn Replace>) {
        self.ledger.model.lock().get_or_insert(model);
    }

    /// Counts a copy of pixels.
    pub fn count_copy(&self, kind: CopyKind, bytes: usize) {
        if bytes > 0 {
            self.count_copies(kind, 1, bytes as u64);
        }
    }

    /// Counts several copies at once, or transfers of other data between host and device.
    pub fn count_copies(&self, kind: CopyKind, count: u64, bytes: u64) {
        let copies = &self.ledger.copies[kind as usize];
        copies.count.fetch_add(count, Ordering::Relaxed);
        copies.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a wait of this thread for work on a device.
    pub fn count_sync(&self) {
        self.count_syncs(1);
    }

    /// Counts several waits.
    pub fn count_syncs(&self, count: u64) {
        self.ledger.syncs.fetch_add(count, Ordering::Relaxed);
    }

    /// Reports the bytes of device memory currently used by this worker, pools included. The statistics show the peak over all workers
    /// of the stage together.
    pub fn memory(&self, device: Device, bytes: u64) {
        let mut memory = self.ledger.memory.lock();
        let used = memory.entry(device.to_string()).or_default();
        used.by_worker.insert(self.worker, bytes);
        used.peak_bytes = used.peak_bytes.max(used.by_worker.values().sum());
    }

    /// Counts frames of a stream that were dropped here, except by the user's selection. `reason` is a short text such as
    /// `buffer full`. The last stage of a pipeline may call this after it has received the frames, even after the end of the stream: they
    /// then count as dropped and no longer as delivered.
    pub fn count_dropped(&self, stream: StreamId, reason: &str, frames: u64) {
        self.streams.dropped_at_stage(stream, &self.name, reason, frames);
    }

    /// Counts a frame as delivered, in a stage that combines several streams into one.
    pub fn count_delivered(&self, stream: StreamId, arrival: Option<Arrival>) {
        self.streams.delivered(stream, &self.name, arrival, Instant::now());
    }

    /// Records that a stream ends here.
    pub fn stream_taken(&self, stream: StreamId) {
        self.streams.taken(stream);
    }

    /// Registers a stream produced by this stage, under a number that no other stream has.
    pub fn make_stream(&self, info: &StreamInfo) {
        self.streams.record(info.id).started(info);
    }

    /// Counts a frame of a stream produced by this stage.
    pub fn count_made(&self, stream: StreamId) {
        self.streams.record(stream).read();
    }

    /// Records the end of a stream produced by this stage.
    pub fn end_made_stream(&self, stream: StreamId) {
        self.streams.record(stream).set_state(StreamState::Ended);
        self.streams.ended(stream);
    }

    /// Reports something to the user once, such as a fallback or a repair. Logged and kept for the report.
    pub fn notice(&self, message: impl fmt::Display) {
        let message = printable(&redacted(&message.to_string())).into_owned();
        log::warn!("{}: {message}", self.name);
        self.ledger.notices.lock().push(message);
    }

    /// Cancelled when sources should end soon and outputs be finished (Ctrl-C), and when the run is aborted: for blocking reads.
    pub fn stop_token(&self) -> CancelToken {
        self.stop.clone()
    }

    /// Cancelled when the run is aborted: for blocking calls of stages that finish their work after a stop.
    pub fn abort_token(&self) -> CancelToken {
        self.abort.clone()
    }
}

impl fmt::Debug for StageContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StageContext({} #{})", self.name, self.worker)
    }
}
