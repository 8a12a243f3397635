//! What a stage is: something that takes items and gives items.

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

/// Whether a stage wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    More,
    /// This stage is done; those before it may end too.
    Done,
}

/// Every following stage has ended; an error only in the sense that `?` leaves early. The engine ends the stage quietly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

/// Where a stage puts its items.
pub trait Emitter {
    /// Hands an item to every following stage; waits while their queues are full.
    ///
    /// # Errors
    /// [`Closed`] when no following stage takes items any more.
    fn push(&mut self, item: Item) -> Result<(), Closed>;
}

/// Keeps the items: for a stage that is fed by hand.
impl Emitter for Vec<Item> {
    fn push(&mut self, item: Item) -> Result<(), Closed> {
        Vec::push(self, item);
        Ok(())
    }
}

/// How many frames a stage wants at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    /// Most frames per call; at least 1.
    pub max_frames: usize,
    /// How long to wait for a full batch after its first frame; `None` waits until it is full or the input ends.
    pub max_wait: Option<Duration>,
}

impl Default for BatchPolicy {
    fn default() -> Self {
        Self { max_frames: 1, max_wait: None }
    }
}

/// Takes items and gives items, blocking as long as it must. The pipeline owns threads, queues, order and shutdown.
///
/// # For implementors
/// Implement `frame`; the rest has defaults that pass everything else on. With several workers each has its own value
/// and sees only part of the items, so keep no state between frames there; order is restored behind it.
pub trait Stage: Send {
    /// Called once on the worker's thread before the first item.
    fn start(&mut self, _context: &StageContext) -> Result<(), StageError> {
        Ok(())
    }

    /// A picture.
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError>;

    /// Anything that is not a picture. By default passed on.
    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        out.push(item)?;
        Ok(Flow::More)
    }

    /// Several items at once, in order, with up to as many pictures as the [`BatchPolicy`] says. By default one by one.
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

    /// Whether work is under way elsewhere, on a device for one, whose results [`Stage::idle`] would give. Only a stage with
    /// one worker may say so: the results of several are put in order batch by batch.
    fn has_work_under_way(&self) -> bool {
        false
    }

    /// Called in place of waiting for input while [`Stage::has_work_under_way`]: give the oldest results.
    fn idle(&mut self, _out: &mut dyn Emitter) -> Result<Flow, StageError> {
        Ok(Flow::More)
    }

    /// The input has ended: give what is still held. Not called when the run is aborted.
    fn finish(&mut self, _out: &mut dyn Emitter) -> Result<(), StageError> {
        Ok(())
    }

    /// Called in place of [`Stage::finish`] when this stage has failed, or one before it: keep what is worth keeping, under a name that
    /// says that it is incomplete, and report it. Not called when the run is aborted, nor after a panic of this stage.
    fn abandon(&mut self) {}
}

/// What an end of the pipeline does when it fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnSinkError {
    /// The run fails with its error, once the other ends have finished their outputs.
    #[default]
    Fail,
    /// Its frames are dropped and counted, and the run goes on. Where no other end is left, the run fails.
    Drop,
}

/// Makes items from nothing: the head of a pipeline.
pub trait Source: Send {
    /// Called once on the source's thread before the first item.
    fn start(&mut self, _context: &StageContext) -> Result<(), StageError> {
        Ok(())
    }

    /// Makes the next item or few. [`Flow::Done`] at the end.
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError>;

    /// Called after the end and after a stop was asked for, not after an abort: end open streams here.
    fn finish(&mut self, _out: &mut dyn Emitter) -> Result<(), StageError> {
        Ok(())
    }
}

/// What a node's threads do.
pub enum Work {
    /// A source on one thread.
    Source(Box<dyn Source>),
    /// Streams that are read side by side or in turn, on a thread each where there are several at once.
    Streams(StreamSet),
    /// A stage, one value per worker thread; at least one.
    Stages(Vec<Box<dyn Stage>>),
}

/// A number that a stage counts up and the statistics show.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Sets it, for counts that are kept elsewhere.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Its value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a node's workers report into.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) counters: Mutex<Vec<(String, Counter)>>,
    pub(crate) copies: [CopyCount; CopyKind::ALL.len()],
    pub(crate) syncs: AtomicU64,
    /// Bytes in use by device and worker, now and at most; devices by their names.
    pub(crate) memory: Mutex<BTreeMap<String, MemoryUse>>,
    pub(crate) notices: Mutex<Notices>,
    /// Why the stage failed, if it did.
    pub(crate) failure: Mutex<Option<String>>,
    pub(crate) settings: Mutex<Vec<Arc<SharedSetting>>>,
}

/// Notices of a stage that are kept; later ones are counted. Weeks bring many.
const MAX_NOTICES: usize = 200;

/// What a stage reported, each text once.
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

/// A worker's line to the run: counters, notices, and whether to stop. Cloning is cheap.
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

    /// The counter of this name; every worker of the stage shares it. Shown in statistics even while 0.
    pub fn counter(&self, name: &str) -> Counter {
        let mut counters = self.ledger.counters.lock();
        if let Some((_, counter)) = counters.iter().find(|(known, _)| known == name) {
            return counter.clone();
        }
        let counter = Counter(Arc::default());
        counters.push((name.to_owned(), counter.clone()));
        counter
    }

    /// A number that may be changed while the run goes on, from the program or a page; the first worker that names it says
    /// what it begins with, and every worker shares it. Read it for every frame. Call this in [`Stage::start`]: a setting can
    /// be changed from then on.
    pub fn setting(&self, spec: SettingSpec, value: f64) -> Setting {
        let mut settings = self.ledger.settings.lock();
        if let Some(known) = settings.iter().find(|known| known.name() == spec.name()) {
            return Setting::new(Arc::clone(known));
        }
        let shared = Arc::new(SharedSetting::new(spec, value));
        settings.push(Arc::clone(&shared));
        Setting::new(shared)
    }

    /// Records that pixels were copied.
    pub fn count_copy(&self, kind: CopyKind, bytes: usize) {
        if bytes > 0 {
            self.count_copies(kind, 1, bytes as u64);
        }
    }

    /// The same for several copies at once, or of other things than pixels: what crosses between host and device.
    pub fn count_copies(&self, kind: CopyKind, count: u64, bytes: u64) {
        let copies = &self.ledger.copies[kind as usize];
        copies.count.fetch_add(count, Ordering::Relaxed);
        copies.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that this thread waited for work on a device.
    pub fn count_sync(&self) {
        self.count_syncs(1);
    }

    /// The same for several waits.
    pub fn count_syncs(&self, count: u64) {
        self.ledger.syncs.fetch_add(count, Ordering::Relaxed);
    }

    /// Says how many bytes of a device this worker has in use now, pools included. The statistics show the most that
    /// all workers of the stage had together.
    pub fn memory(&self, device: Device, bytes: u64) {
        let mut memory = self.ledger.memory.lock();
        let used = memory.entry(device.to_string()).or_default();
        used.by_worker.insert(self.worker, bytes);
        used.peak_bytes = used.peak_bytes.max(used.by_worker.values().sum());
    }

    /// Records that frames of a stream were given up here, other than by a selection that the user asked for; `reason` in a
    /// few words, such as `buffer full`. The last stage of a pipeline may do so later than it took them, even behind the
    /// stream's end: they count as dropped then, and no longer as delivered.
    pub fn count_dropped(&self, stream: StreamId, reason: &str, frames: u64) {
        self.streams.dropped_at_stage(stream, &self.name, reason, frames);
    }

    /// Records that a frame has come to its end here, in a stage that makes a stream of several.
    pub fn count_delivered(&self, stream: StreamId, arrival: Option<Arrival>) {
        self.streams.delivered(stream, &self.name, arrival, Instant::now());
    }

    /// Records that a stream has come to its end here.
    pub fn stream_taken(&self, stream: StreamId) {
        self.streams.taken(stream);
    }

    /// Lists a stream that this stage makes, under a number that no other stream has.
    pub fn make_stream(&self, info: &StreamInfo) {
        self.streams.record(info.id).started(info);
    }

    /// Counts a frame of a stream that this stage makes.
    pub fn count_made(&self, stream: StreamId) {
        self.streams.record(stream).read();
    }

    /// A stream that this stage makes has ended.
    pub fn end_made_stream(&self, stream: StreamId) {
        self.streams.record(stream).set_state(StreamState::Ended);
        self.streams.ended(stream);
    }

    /// Tells the user something once: a fallback, a repair. Kept for the report and logged.
    pub fn notice(&self, message: impl fmt::Display) {
        let message = printable(&redacted(&message.to_string())).into_owned();
        log::warn!("{}: {message}", self.name);
        self.ledger.notices.lock().push(message);
    }

    /// Cancelled when sources should end soon and files be finished (Ctrl-C), and when the run is torn down: for blocking reads.
    pub fn stop_token(&self) -> CancelToken {
        self.stop.clone()
    }

    /// Cancelled when the run is torn down: for blocking calls of stages that finish their work after a stop.
    pub fn abort_token(&self) -> CancelToken {
        self.abort.clone()
    }
}

impl fmt::Debug for StageContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StageContext({} #{})", self.name, self.worker)
    }
}
