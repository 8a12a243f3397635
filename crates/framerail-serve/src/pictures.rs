//! The latest picture of each stream, made only while someone asks for it.
//!
//! Frames are offered on the thread of a stage. As long as nobody asks, an offer costs one atomic load. While someone does, a
//! frame now and then is kept by another hold of its memory, and its own thread makes a small JPEG of it; a stage never
//! waits for that, and frames that come meanwhile pass.

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

use crate::{ServeError, cost::ThreadCost, picture_maker::PictureMaker};

/// How pictures are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PictureOptions {
    /// Longest side in pixels; `None` for the frame's own size. Pictures are never enlarged.
    pub max_side: Option<u32>,
    /// Most pictures of a stream per second; `None` for every frame.
    pub rate: Option<f64>,
    /// Quality of JPEG, 1 to 100.
    pub quality: u8,
    /// Whether detections and zones are drawn in.
    pub overlay: bool,
    /// Most of the machine's processor time that all pictures together may take, 0 to 1: fewer are made otherwise.
    pub share: Option<f64>,
}

impl Default for PictureOptions {
    /// For a page beside a run: small, at most ten a second, 1% of the processors.
    fn default() -> Self {
        Self { max_side: Some(640), rate: Some(10.0), quality: 80, overlay: true, share: Some(0.01) }
    }
}

/// A picture of a stream.
#[derive(Debug)]
pub struct Picture {
    /// The JPEG file.
    pub jpeg: Vec<u8>,
    /// Number among the pictures of all streams; later ones have larger ones.
    pub sequence: u64,
    /// Number of the frame in its stream.
    pub frame: u64,
    /// The frame's time in its stream.
    pub seconds: f64,
    /// What was found in the frame.
    pub detections: usize,
    /// Its size in pixels.
    pub size: (u32, u32),
}

/// How long after a request its stream's frames are still wanted.
const LEASE: Duration = Duration::from_secs(2);
/// Streams that nobody has asked for so long are forgotten, with their last picture.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

struct Slot {
    wanted_until: Instant,
    due: Instant,
    latest: watch::Sender<Option<Arc<Picture>>>,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<StreamId, Slot>,
    /// The frame that is next, or at work.
    taken: Option<Box<FrameItem>>,
    is_at_work: bool,
    /// No frame is taken before, to keep within the share.
    rest_until: Option<Instant>,
    is_closed: bool,
    /// Why there was no picture of the last frame.
    failure: Option<String>,
    made: u64,
    encoder_opens: u64,
}

struct Shared {
    /// Whether frames are worth a look.
    wanted: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
    options: PictureOptions,
}

/// The pictures of a run. Cloning is cheap.
#[derive(Clone)]
pub struct Pictures {
    shared: Arc<Shared>,
}

/// The thread that makes pictures; it ends when this is dropped.
pub struct PictureThread {
    pictures: Pictures,
    thread: Option<JoinHandle<()>>,
}

impl Pictures {
    /// No pictures yet, and the thread that makes them.
    ///
    /// # Errors
    /// `Start` when there are no threads left.
    pub fn start(options: PictureOptions) -> Result<(Self, PictureThread), ServeError> {
        let shared = Shared { wanted: AtomicBool::new(false), state: Mutex::default(), changed: Condvar::new(), options };
        let pictures = Self { shared: Arc::new(shared) };
        let worker = pictures.clone();
        let thread = thread::Builder::new().name("pictures".to_owned()).spawn(move || worker.work());
        let thread = thread.map_err(|error| ServeError::Start { message: format!("cannot start a thread: {error}") })?;
        Ok((pictures.clone(), PictureThread { pictures, thread: Some(thread) }))
    }

    /// Shows a frame that passes. Never waits, and copies no pixels.
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

    /// Asks for pictures of a stream for a while, and gives the way to the latest.
    pub(crate) fn want(&self, stream: StreamId) -> watch::Receiver<Option<Arc<Picture>>> {
        let now = Instant::now();
        let mut state = self.shared.state.lock();
        state.slots.retain(|_, slot| slot.wanted_until + FORGOTTEN_AFTER > now);
        let fresh = || Slot { wanted_until: now, due: now, latest: watch::Sender::new(None) };
        let slot = state.slots.entry(stream).or_insert_with(fresh);
        if slot.wanted_until < now {
            // What was made for someone who has gone is old.
            slot.latest.send_replace(None);
        }
        slot.wanted_until = now + LEASE;
        let latest = slot.latest.subscribe();
        self.shared.wanted.store(true, Ordering::Relaxed);
        latest
    }

    /// Pictures made so far.
    pub fn made(&self) -> u64 {
        self.shared.state.lock().made
    }

    /// How often a JPEG encoder was opened for them.
    pub fn encoder_opens(&self) -> u64 {
        self.shared.state.lock().encoder_opens
    }

    /// Why there was no picture of the last frame that was looked at.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.state.lock().failure.clone()
    }

    fn work(&self) {
        let mut maker = PictureMaker::new(self.shared.options);
        let (mut sequence, mut told) = (0, false);
        while let Some(item) = self.next() {
            let cost = ThreadCost::start();
            let made = maker.make(&item);
            let stream = item.frame.stream;
            drop(item);
            if let Err(message) = &made
                && !std::mem::replace(&mut told, true)
            {
                log::warn!("no image of stream {stream}: {message}");
            }
            sequence += 1;
            let made = made.map(|picture| Arc::new(Picture { sequence, ..picture }));
            self.shared.state.lock().encoder_opens = maker.encoder_opens();
            self.done(stream, made, cost.spent());
        }
    }

    /// The next frame; waits for it. `None` at the end.
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

    fn done(&self, stream: StreamId, made: Result<Arc<Picture>, String>, spent: Duration) {
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
            // Where the rest is long, streams take turns.
            slot.due = now + pause.max(rest * wanted.saturating_sub(1)).saturating_sub(Duration::from_millis(2));
            if let Ok(picture) = made {
                slot.latest.send_replace(Some(picture));
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

impl Drop for PictureThread {
    fn drop(&mut self) {
        self.pictures.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
