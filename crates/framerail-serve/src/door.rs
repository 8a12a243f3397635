//! Who is connected: strangers, who have not shown the token yet, and clients, who have. Strangers cannot use up what clients need.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// Connections of strangers at once; for one more, the one that has been open longest is closed.
const MAX_STRANGERS: usize = 64;
/// Connections of clients at once.
const MAX_CLIENTS: usize = 64;

/// Every connection.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// By their order.
    strangers: VecDeque<(u64, AbortHandle)>,
    clients: Vec<u64>,
}

/// A connection's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest(u64);

impl Door {
    /// A number for a connection that is about to be served.
    pub(crate) fn knock(&self) -> Guest {
        let mut state = self.state.lock();
        state.next += 1;
        Guest(state.next)
    }

    /// Takes a stranger in; where there is no room, the one that has been here longest goes.
    pub(crate) fn enter(&self, guest: Guest, task: AbortHandle) {
        let mut state = self.state.lock();
        if task.is_finished() || state.clients.contains(&guest.0) {
            return;
        }
        if state.strangers.len() >= MAX_STRANGERS
            && let Some((_, longest)) = state.strangers.pop_front()
        {
            longest.abort();
        }
        state.strangers.push_back((guest.0, task));
    }

    /// A guest has shown the token. Whether there is room for another client.
    pub(crate) fn admit(&self, guest: Guest) -> bool {
        let mut state = self.state.lock();
        if state.clients.contains(&guest.0) {
            return true;
        }
        if state.clients.len() >= MAX_CLIENTS {
            return false;
        }
        state.strangers.retain(|(number, _)| *number != guest.0);
        state.clients.push(guest.0);
        true
    }

    /// A connection has ended.
    pub(crate) fn leave(&self, guest: Guest) {
        let mut state = self.state.lock();
        state.strangers.retain(|(number, _)| *number != guest.0);
        state.clients.retain(|number| *number != guest.0);
    }
}

/// Leaves when a connection ends, however it does.
pub(crate) struct Leaving<'a>(pub(crate) &'a Door, pub(crate) Guest);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}
