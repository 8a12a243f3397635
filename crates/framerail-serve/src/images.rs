//! The latest image of each stream, encoded only while clients request it.
//!
//! A stage offers frames on its thread. Without requests, an offer costs one atomic load. During requests, a
//! frame is occasionally kept (sharing its memory) and encoded as a small JPEG on a separate thread. The stage never
//! waits for that; frames that arrive meanwhile are skipped.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use framerail_core::StreamId;
use framerail_pipeline::FrameItem;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::{ServeError, cost::ThreadCost, image_maker::ImageMaker};

/// How images are encoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ImageOptions {
    /// Maximum side in pixels; `None` for the frame's size. Images are never enlarged.
    pub max_side: Option<u32>,
    /// Maximum images per second and stream; `None` for every frame.
    pub rate: Option<f64>,
    /// JPEG quality, 1 to 100.
    pub quality: u8,
    /// Whether to draw detections and zones.
    pub overlay: bool,
    /// Maximum share of the machine's CPU time for all images together, 0 to 1; the rate is reduced to stay below it.
    pub share: Option<f64>,
}

impl Default for ImageOptions {
    /// For a monitoring page: small images, at most ten per second, 1% of the CPU time.
    fn default() -> Self {
        Self { max_side: Some(640), rate: Some(10.0), quality: 80, overlay: true, share: Some(0.01) }
    }
}

/// An image of a stream.
#[derive(Debug)]
pub struct LiveImage {
    /// The JPEG file.
    pub jpeg: Vec<u8>,
    /// Sequence number over the images of all streams, increasing.
    pub sequence: u64,
    /// Index of the frame in its stream.
    pub frame: u64,
    /// Timestamp of the frame in its stream.
    pub seconds: f64,
    /// Number of detections in the frame.
    pub detections: usize,
    /// Size in pixels.
    pub size: (u32, u32),
}

/// How long a request keeps its stream's frames wanted.
const LEASE: Duration = Duration::from_secs(2);
/// Streams without requests for this long are forgotten, with their last image.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

struct Slot {
    wanted_until: Instant,
    due: Instant,
    latest: watch::Sender<Option<Arc<LiveImage>>>,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<StreamId, Slot>,
    /// The frame to encode next.
    taken: Option<Box<FrameItem>>,
    is_at_work: bool,
    /// No frame is taken before this, to stay within the CPU share.
    rest_until: Option<Instant>,
    is_closed: bool,
    /// Why the last frame could not be encoded.
    failure: Option<String>,
    made: u64,
    encoder_opens: u64,
}

struct Shared {
    /// Whether any stream may be wanted.
    wanted: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    options: ImageOptions,
}

/// The images of a run. Cheap to clone.
#[derive(Clone)]
pub struct LiveImages {
    shared: Arc<Shared>,
}

/// The encoding thread; ends when this is dropped.
pub struct ImageThread {
    images: LiveImages,
    thread: Option<JoinHandle<()>>,
}

impl LiveImages {
    /// Starts the encoding thread.
    ///
    /// # Errors
    /// `Start` when no thread can be created.
    pub fn start(options: ImageOptions) -> Result<(Self, ImageThread), ServeError> {
        let shared = Shared { wanted: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new(), options };
        let images = Self { shared: Arc::new(shared) };
        let worker = images.clone();
        let thread = thread::Builder::new().name("pictures".to_owned()).spawn(move || worker.work());
        let thread = thread.map_err(|error| ServeError::Start { message: format!("cannot start a thread: {error}") })?;
        Ok((images.clone(), ImageThread { images, thread: Some(thread) }))
    }

    /// Offers a frame. Never waits, and copies no pixels.
    pub fn offer(&self, item: &FrameItem) {
        if self.shared.wanted.load(Ordering::Relaxed) {
            self.take(item, Instant::now());
        }
    }

    fn take(&self, item: &FrameItem, now: Instant) {
        let Some(mut state) = self.shared.state.try_lock() else { return };
        if !state.slots.values().any(|slot| slot.wanted_until > now) {
            self.shared.wanted.store(false, Ordering::Relaxed);
            return;
        }
        if state.taken.is_some() || state.is_at_work || state.is_closed || state.rest_until.is_some_and(|until| until > now) {
            return;
        }
        let is_due = |slot: &&Slot| slot.wanted_until > now && slot.due <= now;
        if state.slots.get(&item.frame.stream).filter(is_due).is_some() {
            state.taken = Some(Box::new(item.clone()));
            self.shared.changed.notify_one();
        }
    }

    /// Requests images of a stream for a while. Returns a receiver of the latest one.
    pub(crate) fn want(&self, stream: StreamId) -> watch::Receiver<Option<Arc<LiveImage>>> {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        state.slots.retain(|_, slot| slot.wanted_until + FORGOTTEN_AFTER > now);
        let fresh = || Slot { wanted_until: now, due: now, latest: watch::Sender::new(None) };
        let slot = state.slots.entry(stream).or_insert_with(fresh);
        if slot.wanted_until < now {
            // An image made for an earlier request is outdated.
            slot.latest.send_replace(None);
        }
        slot.wanted_until = now + LEASE;
        let latest = slot.latest.subscribe();
        self.shared.wanted.store(true, Ordering::Relaxed);
        latest
    }

    /// Number of images encoded so far.
    pub fn made(&self) -> u64 {
        self.shared.state.lock().made
    }

    /// How often a JPEG encoder was opened.
    pub fn encoder_opens(&self) -> u64 {
        self.shared.state.lock().encoder_opens
    }

    /// Why the last frame could not be encoded.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.state.lock().failure.clone()
    }

    fn work(&self) {
        let mut maker = ImageMaker::new(self.shared.options);
        let (mut sequence, mut reported) = (0, false);
        while let Some(item) = self.next() {
            let cost = ThreadCost::start();
            let made = maker.make(&item);
            let stream = item.frame.stream;
            drop(item);
            if let Err(message) = &made
                && !std::mem::replace(&mut reported, true)
            {
                log::warn!("no image of stream {stream}: {message}");
            }
            sequence += 1;
            let made = made.map(|image| Arc::new(LiveImage { sequence, ..image }));
            self.shared.state.lock().encoder_opens = maker.encoder_opens();
            self.done(stream, made, cost.spent());
        }
    }

    /// Waits for the next frame; `None` at the end.
    fn next(&self) -> Option<Box<FrameItem>> {
        let mut state = self.shared.state.lock();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some(item) = state.taken.take() {
                state.is_at_work = true;
                return Some(item);
            }
            self.shared.changed.wait(&mut state);
        }
    }

    fn done(&self, stream: StreamId, made: Result<Arc<LiveImage>, String>, spent: Duration) {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        state.is_at_work = false;
        let options = self.shared.options;
        let rest = options.share.map_or(Duration::ZERO, |share| spent.div_f64(share * processors()));
        state.rest_until = Some(now + rest);
        let wanted = state.slots.values().filter(|slot| slot.wanted_until > now).count() as u32;
        let pause = options.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        state.failure = made.as_ref().err().cloned();
        state.made += u64::from(made.is_ok());
        if let Some(slot) = state.slots.get_mut(&stream) {
            // If the pause is long, streams take turns.
            slot.due = now + pause.max(rest * wanted.saturating_sub(1)).saturating_sub(Duration::from_millis(2));
            if let Ok(image) = made {
                slot.latest.send_replace(Some(image));
            }
        }
    }

    fn close(&self) {
        let mut state = self.shared.state.lock();
        state.is_closed = true;
        state.taken = None;
        self.shared.wanted.store(false, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }
}

fn processors() -> f64 {
    thread::available_parallelism().map_or(1.0, |count| count.get() as f64)
}

impl Drop for ImageThread {
    fn drop(&mut self) {
        self.images.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
