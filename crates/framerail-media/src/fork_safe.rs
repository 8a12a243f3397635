//! Process-wide locks that a forked child can take: Python may fork while other threads decode.

use std::{
    cell::RefCell,
    sync::{
        Mutex, MutexGuard, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A process-wide value behind a lock. A thread that forks holds the lock during the fork, so that the child does not inherit a
/// lock held by a thread that it does not have. No other lock may be taken while one is held.
///
/// Uses the standard library's lock: `parking_lot` keeps waiting threads in a table, which a child inherits.
pub struct ForkSafe<T: 'static> {
    value: Mutex<T>,
    is_listed: AtomicBool,
}

/// All locks used so far.
static ALL: Mutex<Vec<&'static dyn Held>> = Mutex::new(Vec::new());

thread_local! {
    /// Guards that this thread holds while it forks.
    static GUARDS: RefCell<Vec<Box<dyn Guard>>> = const { RefCell::new(Vec::new()) };
}

trait Guard {}

impl<T: ?Sized> Guard for MutexGuard<'_, T> {}

trait Held: Sync {
    fn hold(&'static self) -> Box<dyn Guard>;
}

impl<T: Send> Held for ForkSafe<T> {
    fn hold(&'static self) -> Box<dyn Guard> {
        Box::new(taken(&self.value))
    }
}

impl<T: Send> ForkSafe<T> {
    /// Creates the value of a `static`.
    pub const fn new(value: T) -> Self {
        Self { value: Mutex::new(value), is_listed: AtomicBool::new(false) }
    }

    /// Locks the value, waiting if necessary.
    pub fn lock(&'static self) -> MutexGuard<'static, T> {
        if !self.is_listed.load(Ordering::Acquire) {
            self.list();
        }
        taken(&self.value)
    }

    fn list(&'static self) {
        static HANDLERS: Once = Once::new();
        HANDLERS.call_once(|| {
            // SAFETY: the handlers are static functions.
            unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(after_fork)) };
        });
        let mut all = taken(&ALL);
        if !self.is_listed.swap(true, Ordering::AcqRel) {
            all.push(self);
        }
    }
}

/// Ignores poisoning: values are never changed in several steps, so they stay valid if a user panics.
fn taken<T: ?Sized>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs on the forking thread.
unsafe extern "C" fn before_fork() {
    let all = taken(&ALL);
    let mut guards: Vec<Box<dyn Guard>> = all.iter().map(|lock| lock.hold()).collect();
    guards.push(Box::new(all));
    // Fails only on a thread that is being destroyed, which does not fork.
    let _ = GUARDS.try_with(|held| *held.borrow_mut() = guards);
}

/// Runs on the same thread in the parent, and on the child's only thread.
unsafe extern "C" fn after_fork() {
    let _ = GUARDS.try_with(RefCell::take);
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::AtomicBool},
        thread,
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_forked_child_can_take_a_lock_that_other_threads_use() {
        static VALUE: ForkSafe<u64> = ForkSafe::new(0);
        let is_over = Arc::new(AtomicBool::new(false));
        let users: Vec<_> = (0..2)
            .map(|_| {
                let is_over = Arc::clone(&is_over);
                thread::spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        let mut value = VALUE.lock();
                        (0..1_000).for_each(|_| *value = std::hint::black_box(*value + 1));
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            // SAFETY: the child takes one lock and ends without running anything else of this program.
            let child = unsafe { libc::fork() };
            if child == 0 {
                drop(VALUE.lock());
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let began = Instant::now();
            let mut status = 1;
            // SAFETY: a child of this process, and a place for its status.
            while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
                if began.elapsed() > Duration::from_secs(20) {
                    // SAFETY: as above; it hangs.
                    unsafe { libc::kill(child, libc::SIGKILL) };
                }
                thread::yield_now();
            }
            assert_eq!(status, 0, "the child hangs at the lock");
        }
        is_over.store(true, Ordering::Relaxed);
        users.into_iter().for_each(|user| user.join().expect("no panic"));
    }
}
