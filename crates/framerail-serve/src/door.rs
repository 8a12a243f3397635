//! Limits connections. Clients have sent the token, strangers have not; strangers cannot use up the connections of clients.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::task::AbortHandle;

/// Maximum number of connections of strangers; a further one replaces the oldest.
const MAX_STRANGERS: usize = 64;
/// Maximum number of connections of clients.
const MAX_CLIENTS: usize = 64;

/// All open connections.
#[derive(Default)]
pub(crate) struct Door {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Oldest first.
    strangers: VecDeque<(u64, AbortHandle)>,
    clients: Vec<u64>,
}

/// ID of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guest(u64);

impl Door {
    /// Assigns an ID to a connection that is about to be served.
    pub(crate) fn knock(&self) -> Guest {
        let mut state = self.state.lock();
        state.next += 1;
        Guest(state.next)
    }

    /// Adds a stranger; if the limit is reached, closes the oldest one.
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

    /// Turns a stranger that has sent the token into a client. Returns false if the limit is reached.
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

    /// Removes a connection that has ended.
    pub(crate) fn leave(&self, guest: Guest) {
        let mut state = self.state.lock();
        state.strangers.retain(|(number, _)| *number != guest.0);
        state.clients.retain(|number| *number != guest.0);
    }
}

/// Removes a connection when dropped.
pub(crate) struct Leaving<'a>(pub(crate) &'a Door, pub(crate) Guest);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}
