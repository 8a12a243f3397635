//! What a piece of work costs its thread.

use std::{
    fs,
    time::{Duration, Instant},
};

/// Processor time of this thread from a moment on; by the clock where the system does not say.
pub(crate) struct ThreadCost {
    began: Instant,
    at_start: Option<u64>,
}

impl ThreadCost {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now(), at_start: thread_nanos() }
    }

    pub(crate) fn spent(&self) -> Duration {
        match (self.at_start, thread_nanos()) {
            (Some(from), Some(to)) => Duration::from_nanos(to.saturating_sub(from)),
            _ => self.began.elapsed(),
        }
    }
}

/// Nanoseconds that this thread has run: the first field of Linux's `schedstat`.
fn thread_nanos() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}
