//! Long work: the GIL is released, and Ctrl-C ends it.
//!
//! Python runs signal handlers on its main thread only. Called there, the work runs on another thread while this one checks for signals;
//! called elsewhere, it runs in place.

use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use framerail::{core::CancelToken, media::ForkSafe};
use parking_lot::Mutex;
use pyo3::{exceptions::PyRuntimeError, prelude::*, sync::PyOnceLock};

/// Interval of checks for signals.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Maximum time for cancelled work to end before it is left behind.
const PATIENCE: Duration = Duration::from_secs(5);

const WAITING: u8 = 0;
const WORKING: u8 = 1;
const ABANDONED: u8 = 2;

/// One call that waits for its turn at something used by one thread at a time.
#[derive(Clone, Default)]
pub struct Turn {
    state: Arc<AtomicU8>,
}

impl Turn {
    /// Called once the lock is held: whether the caller still wants the result.
    pub fn take(&self) -> bool {
        self.state.compare_exchange(WAITING, WORKING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives up; returns whether the work had begun.
    fn abandon(&self) -> bool {
        self.state.swap(ABANDONED, Ordering::AcqRel) == WORKING
    }
}

static MAIN_THREAD: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();

fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let (main, ident) = MAIN_THREAD.get_or_try_init(py, || -> PyResult<_> {
        let threading = py.import("threading")?;
        Ok((threading.getattr("main_thread")?.unbind(), threading.getattr("get_ident")?.unbind()))
    })?;
    main.bind(py).call0()?.getattr("ident")?.eq(ident.bind(py).call0()?)
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that works for the main thread, which waits for one call at a time.
struct Worker {
    process: u32,
    jobs: Sender<Job>,
}

/// The idle worker. One that was left behind ends with its work.
static WORKER: ForkSafe<Option<Worker>> = ForkSafe::new(None);

impl Worker {
    fn take() -> PyResult<Self> {
        // After a fork, the parent's thread does not exist.
        if let Some(worker) = WORKER.lock().take().filter(|worker| worker.process == process::id()) {
            return Ok(worker);
        }
        let (jobs, queue) = channel::<Job>();
        let thread = thread::Builder::new().name("framerail-call".into()).spawn(move || queue.into_iter().for_each(|job| job()));
        thread.map_err(|error| PyRuntimeError::new_err(format!("no thread could be started: {error}")))?;
        Ok(Self { process: process::id(), jobs })
    }

    fn give_back(self) {
        *WORKER.lock() = Some(self);
    }
}

/// Does the work without the GIL. A signal whose handler raises sets `cancel`, and that exception is returned.
///
/// # Errors
/// The exception of a signal handler.
pub fn without_gil<T: Send + 'static>(py: Python<'_>, cancel: &CancelToken, work: impl FnOnce(&Turn) -> T + Send + 'static) -> PyResult<T> {
    let turn = Turn::default();
    if !is_main_thread(py)? {
        return Ok(py.detach(|| work(&turn)));
    }
    let (sender, receiver) = sync_channel(1);
    // Lent to a closure without the GIL, which has to be `Send`.
    let receiver = Mutex::new(receiver);
    let its_turn = turn.clone();
    let worker = Worker::take()?;
    let job = move || drop(sender.send(work(&its_turn)));
    let ended = || PyRuntimeError::new_err("a bug in framerail: a call panicked; please report it");
    worker.jobs.send(Box::new(job)).map_err(|_| ended())?;
    loop {
        match py.detach(|| receiver.lock().recv_timeout(LOOK_EVERY)) {
            Ok(result) => {
                worker.give_back();
                return Ok(result);
            }
            Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let Err(raised) = py.check_signals() {
            if turn.abandon() {
                cancel.cancel();
                py.detach(|| drop(receiver.lock().recv_timeout(PATIENCE)));
                cancel.rearm();
            }
            return Err(raised);
        }
    }
}

/// Releases the GIL until `is_over`, checking for signals; `on_signal` gets their number and decides what to raise.
///
/// # Errors
/// Those of `on_signal`.
pub fn until(
    py: Python<'_>,
    is_over: impl Fn(Duration) -> bool + Sync,
    mut on_signal: impl FnMut(PyErr),
    mut each: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<()> {
    let mut looked = Instant::now();
    while !py.detach(|| is_over(LOOK_EVERY)) {
        if let Err(raised) = py.check_signals() {
            on_signal(raised);
        }
        if looked.elapsed() >= 4 * LOOK_EVERY {
            looked = Instant::now();
            each(py)?;
        }
    }
    Ok(())
}
