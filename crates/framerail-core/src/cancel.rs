//! Cancellation of blocking opens, reads, connects and waits.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

/// Wakes threads that wait on another lock, so that they check a cancelled token.
pub trait Wake: Send + Sync {
    /// Wakes every thread waiting here. Take the waiters' lock first, so that none misses the change.
    fn wake(&self);
}

/// A cancellation token for blocking calls. Clones share one state.
///
/// Cancelling a token also cancels its [children](CancelToken::child), but not the reverse. Cancelling the program's token therefore ends
/// every run, cancelling a run's token ends all its streams, and a single stream can be cancelled alone.
///
/// ```
/// use framerail_core::CancelToken;
///
/// let (program, other) = (CancelToken::default(), CancelToken::default());
/// let (first, second) = (program.child(), program.child());
/// second.follow(&other);
/// first.cancel();
/// assert!(first.is_cancelled() && !program.is_cancelled() && !second.is_cancelled());
/// other.cancel();
/// assert!(second.is_cancelled());
/// ```
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Node>);

#[derive(Default)]
struct Node {
    is_cancelled: AtomicBool,
    /// Kept alive, so that a cancelled ancestor still reaches this token.
    parents: Mutex<Vec<CancelToken>>,
    followers: Mutex<Followers>,
    changed: Condvar,
}

#[derive(Default)]
struct Followers {
    children: Weaks<Node>,
    waiters: Weaks<dyn Wake>,
}

/// Weak pointers. Dead ones are removed each time the list has doubled, so that it stays bounded.
struct Weaks<T: ?Sized> {
    all: Vec<Weak<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Weaks<T> {
    fn default() -> Self {
        Self { all: Vec::new(), sweep_at: 16 }
    }
}

impl<T: ?Sized> Weaks<T> {
    fn push(&mut self, one: Weak<T>) {
        if self.all.len() >= self.sweep_at {
            self.all.retain(|one| one.strong_count() > 0);
            self.sweep_at = (2 * self.all.len()).max(16);
        }
        self.all.push(one);
    }

    fn alive(&self) -> Vec<Arc<T>> {
        self.all.iter().filter_map(Weak::upgrade).collect()
    }
}

impl CancelToken {
    /// Creates a token that is cancelled together with this one, or alone.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::default();
        child.follow(self);
        child
    }

    /// From now on, cancels this token whenever `parent` is cancelled; immediately if it already is. Two tokens must not follow each other:
    /// they would never be freed.
    pub fn follow(&self, parent: &CancelToken) {
        self.0.parents.lock().push(parent.clone());
        parent.0.followers.lock().children.push(Arc::downgrade(&self.0));
        if parent.is_cancelled() {
            self.cancel();
        }
    }

    /// Cancels this token and all tokens that follow it, and wakes all waiting threads.
    pub fn cancel(&self) {
        if self.0.is_cancelled.swap(true, Ordering::SeqCst) {
            return;
        }
        let (children, waiters) = {
            let followers = self.0.followers.lock();
            self.0.changed.notify_all();
            (followers.children.alive(), followers.waiters.alive())
        };
        children.into_iter().for_each(|child| CancelToken(child).cancel());
        waiters.iter().for_each(|waiter| waiter.wake());
    }

    /// Whether blocking calls should return.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled.load(Ordering::SeqCst)
    }

    /// Resets this token for reuse once the calls it cancelled have returned. Tokens that follow it stay cancelled.
    pub fn rearm(&self) {
        self.0.is_cancelled.store(false, Ordering::SeqCst);
    }

    /// Sleeps for `time` or until the token is cancelled. Returns whether it is cancelled.
    pub fn wait_for(&self, time: Duration) -> bool {
        let until = Instant::now().checked_add(time);
        let mut followers = self.0.followers.lock();
        while !self.is_cancelled() {
            match until {
                Some(until) if self.0.changed.wait_until(&mut followers, until).timed_out() => return self.is_cancelled(),
                Some(_) => {}
                None => self.0.changed.wait(&mut followers),
            }
        }
        true
    }

    /// Wakes `waiter` when the token is cancelled, as long as the waiter is alive.
    pub fn on_cancel(&self, waiter: Weak<dyn Wake>) {
        self.0.followers.lock().waiters.push(waiter.clone());
        if self.is_cancelled()
            && let Some(waiter) = waiter.upgrade()
        {
            waiter.wake();
        }
    }

    /// Number of tokens that follow this one; for tests that check for leaks.
    #[doc(hidden)]
    pub fn follower_count(&self) -> usize {
        self.0.followers.lock().children.all.len()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_cancelled() { "CancelToken(cancelled)" } else { "CancelToken" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_is_woken_by_any_token_above() {
        let top = CancelToken::default();
        let token = top.child().child();
        let sleeper = std::thread::spawn({
            let token = token.clone();
            move || token.wait_for(Duration::from_secs(60))
        });
        assert!(!token.wait_for(Duration::from_millis(1)));
        top.cancel();
        assert!(sleeper.join().expect("no panic"));
        assert!(top.child().is_cancelled(), "who comes later is cancelled at once");
    }

    #[test]
    fn a_token_can_be_used_again() {
        let token = CancelToken::default();
        let child = token.child();
        token.cancel();
        token.rearm();
        assert!(!token.is_cancelled() && child.is_cancelled());
        assert!(!token.child().is_cancelled());
    }

    #[test]
    fn memory_of_a_token_of_weeks_stays_bounded() {
        let token = CancelToken::default();
        let kept: Vec<_> = (0..20).map(|_| token.child()).collect();
        (0..100_000).for_each(|_| drop(token.child()));
        assert!(token.follower_count() <= 64, "{} followers", token.follower_count());
        token.cancel();
        assert!(kept.iter().all(CancelToken::is_cancelled));
    }
}
