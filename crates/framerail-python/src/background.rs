//! Calls into Python from framerail's own threads, and the shutdown of Python.
//!
//! If Python shuts down while such a thread is inside it, CPython before 3.14 terminates the thread in the middle of its caller, and the
//! process aborts. So no call begins once Python is shutting down, and the shutdown waits for calls in progress.

use std::{
    process,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use pyo3::{prelude::*, wrap_pyfunction};

/// Maximum time that the shutdown waits for calls in progress: a stuck call must not keep the process alive.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const COUNT: u64 = u32::MAX as u64;

static IS_ENDING: AtomicBool = AtomicBool::new(false);
/// Calls in progress in the lower half; the process that counted them in the upper half, since a forked child has none of them.
static UNDER_WAY: AtomicU64 = AtomicU64::new(0);

/// A call in progress.
struct Call;

impl Call {
    fn begin() -> Option<Self> {
        count(1);
        let call = Self;
        // Counted first: either the shutdown sees this call, or this call sees the shutdown.
        (!IS_ENDING.load(Ordering::SeqCst)).then_some(call)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        count(-1);
    }
}

fn here() -> u64 {
    u64::from(process::id()) << 32
}

fn count(change: i64) {
    let changed = |state: u64| {
        let calls = if state & !COUNT == here() { state & COUNT } else { 0 };
        Some(here() | calls.saturating_add_signed(change))
    };
    // Never refused.
    let _ = UNDER_WAY.fetch_update(Ordering::SeqCst, Ordering::SeqCst, changed);
}

fn is_any_under_way() -> bool {
    let state = UNDER_WAY.load(Ordering::SeqCst);
    state & !COUNT == here() && state & COUNT > 0
}

/// Runs Python code on a thread that Python did not start; does nothing once Python is shutting down.
pub fn call<T>(work: impl FnOnce(Python<'_>) -> T) -> Option<T> {
    let _call = Call::begin()?;
    Python::try_attach(work)
}

/// Called when the shutdown of Python begins, while threads can still enter it.
#[pyfunction]
fn end(py: Python<'_>) {
    IS_ENDING.store(true, Ordering::SeqCst);
    py.detach(|| {
        let began = Instant::now();
        while is_any_under_way() && began.elapsed() < PATIENCE {
            thread::sleep(LOOK_EVERY);
        }
    });
}

/// Registers [`end`] with Python.
///
/// # Errors
/// Those of `atexit`.
pub fn watch_the_end(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.py().import("atexit")?.call_method1("register", (wrap_pyfunction!(end, module)?,))?;
    Ok(())
}
