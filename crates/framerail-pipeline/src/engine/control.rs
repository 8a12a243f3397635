//! The run's two switches, and who must be woken when one is thrown.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;

use super::stream_table::StreamTable;
use crate::{ErrorKind, RunError, StageError, stage::Interrupts};

/// Something that threads wait on.
pub(super) trait Wake: Send + Sync {
    /// Wakes every thread that waits here, to look at the switches again.
    fn wake(&self);
}

/// Shared by every thread of a run.
#[derive(Default)]
pub(super) struct Control {
    /// Sources end soon, files are finished.
    pub(super) stop: Arc<AtomicBool>,
    /// Everything ends now, nothing is finished.
    pub(super) abort: Arc<AtomicBool>,
    /// Blocking calls of sources that watch a flag of their own.
    pub(super) interrupts: Interrupts,
    /// What is counted of each stream.
    pub(super) streams: Arc<StreamTable>,
    first_error: Mutex<Option<RunError>>,
    waiters: Mutex<Vec<Weak<dyn Wake>>>,
}

impl Control {
    pub(super) fn register(&self, waiter: Weak<dyn Wake>) {
        self.waiters.lock().push(waiter);
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.interrupt();
        self.wake_all();
    }

    /// Every wait passes through its lock and looks at the switches again.
    fn wake_all(&self) {
        let waiters: Vec<_> = self.waiters.lock().iter().filter_map(Weak::upgrade).collect();
        waiters.iter().for_each(|waiter| waiter.wake());
    }

    fn interrupt(&self) {
        for flag in self.interrupts.lock().iter() {
            flag.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.abort.load(Ordering::SeqCst)
    }

    /// Tears the run down because of an error; only the first is kept.
    pub(super) fn fail(&self, stage: &str, error: StageError) {
        self.first_error.lock().get_or_insert_with(|| RunError { stage: stage.to_owned(), error });
        self.abort.store(true, Ordering::SeqCst);
        self.interrupt();
        self.wake_all();
    }

    pub(super) fn abort_from_outside(&self) {
        self.fail("run", StageError::new(ErrorKind::Cancelled, "aborted; nothing unfinished was kept"));
    }

    pub(super) fn error(&self) -> Option<RunError> {
        self.first_error.lock().clone()
    }
}
