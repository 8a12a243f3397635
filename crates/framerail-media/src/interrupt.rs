//! Ends blocking reads when the cancel token is cancelled or a source sends nothing for too long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ffmpeg_the_third::ffi;

use framerail_core::CancelToken;

use crate::MediaError;

/// Shared between a reader and FFmpeg's callback.
pub(crate) struct Interrupt {
    cancel: CancelToken,
    timeout: Option<Duration>,
    epoch: Instant,
    /// Nanoseconds after `epoch`; `u64::MAX` for never.
    deadline_nanos: AtomicU64,
    timed_out: AtomicBool,
}

impl Interrupt {
    pub(crate) fn new(cancel: CancelToken, timeout: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            cancel,
            timeout,
            epoch: Instant::now(),
            deadline_nanos: AtomicU64::new(u64::MAX),
            timed_out: AtomicBool::new(false),
        })
    }

    /// Starts the timeout of one blocking call.
    pub(crate) fn start_clock(&self) {
        let deadline = self.timeout.map_or(u64::MAX, |timeout| nanos(self.epoch.elapsed() + timeout));
        self.deadline_nanos.store(deadline, Ordering::Relaxed);
    }

    /// Whether a blocking call must end now.
    pub(crate) fn is_due(&self) -> bool {
        if self.cancel.is_cancelled() {
            return true;
        }
        let deadline = self.deadline_nanos.load(Ordering::Relaxed);
        let late = deadline != u64::MAX && nanos(self.epoch.elapsed()) > deadline;
        if late {
            self.timed_out.store(true, Ordering::Relaxed);
        }
        late
    }

    /// Why a call was interrupted, if it was.
    pub(crate) fn reason(&self, source_name: &str) -> Option<MediaError> {
        let source_name = source_name.to_owned();
        if self.cancel.is_cancelled() {
            return Some(MediaError::Cancelled { source_name });
        }
        if self.timed_out.swap(false, Ordering::Relaxed) {
            return Some(MediaError::Timeout { source_name, seconds: self.timeout.unwrap_or_default().as_secs_f64() });
        }
        None
    }

    /// An FFmpeg callback for this state, which must outlive the callback's user.
    pub(crate) fn callback(self: &Arc<Self>) -> ffi::AVIOInterruptCB {
        ffi::AVIOInterruptCB { callback: Some(ask), opaque: Arc::as_ptr(self).cast_mut().cast() }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX - 1)
}

unsafe extern "C" fn ask(interrupt: *mut libc::c_void) -> i32 {
    // SAFETY: `callback` passed a pointer to a state that its holder keeps alive while FFmpeg may call.
    let interrupt = unsafe { &*interrupt.cast::<Interrupt>() };
    interrupt.is_due().into()
}
