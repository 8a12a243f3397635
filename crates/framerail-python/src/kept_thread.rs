//! Threads that are reused after their work is done.
//!
//! PyTorch keeps the algorithms that cuDNN chose for a model, and its handles, by thread: on its own thread each run would
//! choose them again, which takes seconds with `torch.backends.cudnn.benchmark`.

use std::{
    io, process,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use framerail::media::ForkSafe;

/// Maximum number of idle threads.
const MOST_IDLE: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// Idle threads, the most recently used last, and the process that created them: a forked child has none of them.
static IDLE: ForkSafe<(u32, Vec<Sender<Work>>)> = ForkSafe::new((0, Vec::new()));

/// Work on a reused or new thread.
pub struct KeptThread {
    done: Receiver<()>,
}

impl KeptThread {
    /// Starts the work.
    ///
    /// # Errors
    /// Where no thread can be made.
    pub fn run(work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (tell, done) = channel();
        let thread = match idle(Vec::pop) {
            Some(thread) => thread,
            None => new_thread()?,
        };
        let again = thread.clone();
        let work = Box::new(move || {
            work();
            keep(again);
            let _ = tell.send(());
        });
        thread.send(work).map_err(|_| io::Error::other("a thread that was kept has ended"))?;
        Ok(Self { done })
    }

    /// Waits until the work is done; false if it panicked.
    pub fn join(self) -> bool {
        self.done.recv().is_ok()
    }
}

fn new_thread() -> io::Result<Sender<Work>> {
    let (thread, to_do) = channel::<Work>();
    // It ends when its sender is dropped.
    thread::Builder::new().name("framerail-model".into()).spawn(move || to_do.iter().for_each(|work| work()))?;
    Ok(thread)
}

fn keep(thread: Sender<Work>) {
    idle(|threads| {
        if threads.len() < MOST_IDLE {
            threads.push(thread);
        }
    });
}

fn idle<T>(with: impl FnOnce(&mut Vec<Sender<Work>>) -> T) -> T {
    let mut idle = IDLE.lock();
    let (owner, threads) = &mut *idle;
    if *owner != process::id() {
        (*owner, *threads) = (process::id(), Vec::new());
    }
    with(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The thread of some work.
    fn ran_on() -> thread::ThreadId {
        let (tell, received) = channel();
        let work = move || tell.send(thread::current().id()).expect("waited for");
        let thread = KeptThread::run(work).expect("a thread");
        assert!(thread.join());
        received.recv().expect("it ran")
    }

    #[test]
    fn work_after_work_has_the_same_thread_and_a_panic_ends_only_its_own() {
        let first = ran_on();
        assert_eq!(ran_on(), first);
        let (go_on, waits) = channel::<()>();
        let busy = KeptThread::run(move || {
            let _ = waits.recv();
        })
        .expect("a thread");
        let other = ran_on();
        assert_ne!(other, first, "a thread at work is left alone");
        drop(go_on);
        assert!(busy.join());
        assert_eq!(ran_on(), first, "the last one used comes first");
        assert!(!KeptThread::run(|| panic!("on purpose")).expect("a thread").join());
        assert_eq!(ran_on(), other);
    }
}
