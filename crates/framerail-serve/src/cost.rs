//! Measures the CPU time of a thread.

use std::{
    fs,
    time::{Duration, Instant},
};

/// CPU time of this thread since a point in time; wall time if the system does not report it.
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

/// CPU time of this thread in nanoseconds: the first field of Linux's `schedstat`.
fn thread_nanos() -> Option<u64> {
    fs::read_to_string("/proc/thread-self/schedstat").ok()?.split(' ').next()?.parse().ok()
}
