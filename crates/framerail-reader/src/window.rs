//! How far ahead pieces may be decoded: a bound on frames that wait for their turn.

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
struct State {
    /// Place of the next frame to be delivered, counted over all pieces.
    delivered: u64,
    /// Frames that wait, and the most that ever did.
    waiting: usize,
    most_waiting: usize,
    is_closed: bool,
}

/// Lets a frame in when it is one of the next to be delivered. The next one always is, so the line cannot stop, and frames
/// that are due later do not take the places of those that are due sooner.
pub(crate) struct Window {
    frames: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Window {
    pub(crate) fn new(frames: usize) -> Self {
        Self { frames: frames.max(1) as u64, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits until the frame at a place is among the next; `false` when the reader was closed.
    pub(crate) fn enter(&self, place: u64) -> bool {
        let mut state = self.state.lock();
        while !state.is_closed && place >= state.delivered.saturating_add(self.frames) {
            self.changed.wait(&mut state);
        }
        state.waiting += 1;
        state.most_waiting = state.most_waiting.max(state.waiting);
        !state.is_closed
    }

    /// A frame was delivered.
    pub(crate) fn leave(&self) {
        let mut state = self.state.lock();
        state.delivered += 1;
        state.waiting = state.waiting.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    /// The next piece's turn, whose first frame has this place: pieces may give fewer frames than they promised.
    pub(crate) fn advance(&self, place: u64) {
        let mut state = self.state.lock();
        state.delivered = state.delivered.max(place);
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// The most frames that ever waited.
    pub(crate) fn most_waiting(&self) -> usize {
        self.state.lock().most_waiting
    }
}
