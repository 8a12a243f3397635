//! A source that a separate thread opens and decodes ahead of its turn.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread::JoinHandle,
};

use framerail_core::{CancelToken, StreamInfo};
use framerail_media::{Conversion, Damage, MediaItem};
use parking_lot::Mutex;

use crate::{
    ReaderError,
    frame_source::{FrameSource, Reading, SourceStats},
};

/// Number of frames and packets between reports of the thread; the last one is always reported.
const REPORT_EVERY: usize = 16;

type Item = Result<Option<MediaItem>, ReaderError>;

/// State of the source as reported by the thread.
#[derive(Clone)]
struct Report {
    damage: Damage,
    conversions: Vec<Conversion>,
    stats: SourceStats,
    reading: Reading,
    on_host: Option<(f64, String)>,
}

impl Report {
    fn of(source: &dyn FrameSource) -> Self {
        Self {
            damage: source.damage(),
            conversions: source.conversions(),
            stats: source.stats(),
            reading: source.reading(),
            on_host: source.on_host(),
        }
    }
}

/// Result of opening a source: stream info, reports, and extra data from the opener.
type Opened<T, E> = Result<(StreamInfo, Arc<Mutex<Report>>, T), E>;

/// A source that its thread is opening.
pub struct Prefetching<T, E> {
    opened: Receiver<Opened<T, E>>,
    items: Receiver<Item>,
    is_read: Arc<AtomicBool>,
    thread: Thread,
}

/// A source that a thread reads ahead.
pub struct Prefetched {
    info: StreamInfo,
    report: Arc<Mutex<Report>>,
    items: Receiver<Item>,
    is_over: bool,
    /// Dropped, and so joined, after the channel.
    _thread: Thread,
}

/// Cancels and joins its thread when dropped; must be dropped after its channels.
struct Thread {
    cancel: CancelToken,
    handle: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.cancel.cancel();
        if self.handle.take().is_some_and(|handle| handle.join().is_err()) {
            log::error!("a thread that reads ahead panicked; this is a bug, please report it");
        }
    }
}

impl<T: Send + 'static, E: From<ReaderError> + Send + 'static> Prefetching<T, E> {
    /// Starts to open a source and to read up to `items` frames and packets ahead. `open` must pass `cancel` to its input.
    pub fn begin(items: usize, cancel: &CancelToken, open: impl FnOnce() -> Result<(Box<dyn FrameSource>, T), E> + Send + 'static) -> Self {
        let (say, opened) = sync_channel(1);
        let (give, items) = sync_channel::<Item>(items.max(1));
        let is_read = Arc::new(AtomicBool::new(false));
        let at_end = Arc::clone(&is_read);
        let read = move || {
            let (mut source, more) = match open() {
                Ok(opened) => opened,
                Err(error) => {
                    at_end.store(true, Ordering::Relaxed);
                    return drop(say.send(Err(error)));
                }
            };
            let report = Arc::new(Mutex::new(Report::of(source.as_ref())));
            if say.send(Ok((source.info().clone(), Arc::clone(&report), more))).is_err() {
                return;
            }
            for number in 0_usize.. {
                let item = source.next_item();
                let goes_on = matches!(item, Ok(Some(_)));
                if number.is_multiple_of(REPORT_EVERY) || !goes_on {
                    *report.lock() = Report::of(source.as_ref());
                }
                if !goes_on {
                    // Releases its decoders for the next file before reporting the end.
                    drop(source);
                    at_end.store(true, Ordering::Relaxed);
                    return drop(give.send(item));
                }
                // The receiver may be gone.
                if give.send(item).is_err() {
                    return;
                }
            }
        };
        let thread = Thread { cancel: cancel.clone(), handle: Some(std::thread::spawn(read)) };
        Self { opened, items, is_read, thread }
    }

    /// Whether the thread has read the whole source or failed to open it, so that its decoders are free for others.
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Relaxed)
    }

    /// The value of [`Prefetching::is_read`] as a shared flag.
    pub fn read_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_read)
    }

    /// Waits until the source is open.
    ///
    /// # Errors
    /// The error of opening it; `Closed` when the caller was cancelled meanwhile.
    pub fn wait(self, outer: &CancelToken) -> Result<(Prefetched, T), E> {
        // Cancelling the caller cancels the thread, which then reports it.
        self.thread.cancel.follow(outer);
        let (info, report, more) = self.opened.recv().unwrap_or_else(|_| Err(ReaderError::Closed.into()))?;
        let Self { items, thread, .. } = self;
        Ok((Prefetched { info, report, items, is_over: false, _thread: thread }, more))
    }
}

impl FrameSource for Prefetched {
    fn info(&self) -> &StreamInfo {
        &self.info
    }

    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError> {
        if self.is_over {
            return Ok(None);
        }
        let item = self.items.recv().unwrap_or(Err(ReaderError::Closed));
        self.is_over = !matches!(item, Ok(Some(_)));
        item
    }

    fn damage(&self) -> Damage {
        self.report.lock().damage.clone()
    }

    fn conversions(&self) -> Vec<Conversion> {
        self.report.lock().conversions.clone()
    }

    fn stats(&self) -> SourceStats {
        self.report.lock().stats
    }

    fn reading(&self) -> Reading {
        self.report.lock().reading.clone()
    }

    fn on_host(&self) -> Option<(f64, String)> {
        self.report.lock().on_host.clone()
    }
}
