//! How far ahead pieces may be decoded: a bound on frames that wait for their turn.

use parking_lot::{Condvar, Mutex};

/// Frames that the piece whose turn it is may always hold, however full the window is.
const HEAD_SHARE: usize = 4;

#[derive(Default)]
struct State {
    /// The piece whose frames are delivered now.
    head: u64,
    /// Frames of that piece that wait.
    head_waiting: usize,
    /// Frames of all pieces that wait.
    waiting: usize,
    most_waiting: usize,
    is_closed: bool,
}

/// Lets decoders go on while fewer than a number of frames wait; the piece whose turn it is always goes on, so the line
/// cannot stop.
pub(crate) struct Window {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

impl Window {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Takes a place for a frame of a piece, waiting for one; `false` when the reader was closed.
    pub(crate) fn enter(&self, piece: u64) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_closed {
                return false;
            }
            let is_head = state.head == piece;
            if state.waiting < self.limit || (is_head && state.head_waiting < HEAD_SHARE) {
                state.waiting += 1;
                state.head_waiting += usize::from(is_head);
                state.most_waiting = state.most_waiting.max(state.waiting);
                return true;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Gives a place back: a frame of the head was delivered.
    pub(crate) fn leave(&self) {
        let mut state = self.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        state.head_waiting = state.head_waiting.saturating_sub(1);
        drop(state);
        self.changed.notify_all();
    }

    /// The next piece's turn, of which `waiting` frames wait.
    pub(crate) fn advance(&self, head: u64, waiting: usize) {
        let mut state = self.state.lock();
        (state.head, state.head_waiting) = (head, waiting);
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
