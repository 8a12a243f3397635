//! Puts the results of parallel workers back in order.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::{Condvar, Mutex};

use super::{
    control::{Control, Wake},
    metrics::{Phase, WorkerClock},
    outlet::Outlets,
};
use crate::{Closed, Item};

struct State {
    next: u64,
    pending: BTreeMap<u64, Vec<Item>>,
    is_emitting: bool,
    is_closed: bool,
}

/// Takes each batch's results under the batch's number, lets them go in order.
///
/// A worker that is ahead leaves its results and goes on, up to a bound; the worker whose turn it is never waits here,
/// so the line cannot stop.
pub(super) struct Ordered {
    ahead: usize,
    control: Arc<Control>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Ordered {
    /// Holds results of up to `ahead` batches that are not due.
    pub(super) fn new(ahead: usize, control: &Arc<Control>) -> Arc<Self> {
        let ordered = Arc::new(Self {
            ahead,
            control: Arc::clone(control),
            state: Mutex::new(State { next: 0, pending: BTreeMap::new(), is_emitting: false, is_closed: false }),
            changed: Condvar::new(),
        });
        let waiter: Arc<dyn Wake> = ordered.clone();
        control.register(Arc::downgrade(&waiter));
        ordered
    }

    /// Leaves a batch's results and lets go what is due.
    pub(super) fn deposit(&self, sequence: u64, items: Vec<Item>, outlets: &mut Outlets, clock: &WorkerClock) -> Result<(), Closed> {
        let mut state = self.state.lock();
        while state.pending.len() >= self.ahead && sequence != state.next {
            if state.is_closed || self.control.is_aborted() {
                return Err(Closed);
            }
            clock.enter(Phase::WaitOutput);
            self.changed.wait(&mut state);
            clock.enter(Phase::Busy);
        }
        state.pending.insert(sequence, items);
        if state.is_emitting {
            return Ok(());
        }
        state.is_emitting = true;
        loop {
            let due = state.next;
            let Some(items) = state.pending.remove(&due) else { break };
            drop(state);
            let pushed = items.into_iter().try_for_each(|item| outlets.push_item(item, clock));
            state = self.state.lock();
            state.next = due + 1;
            self.changed.notify_all();
            if pushed.is_err() {
                state.is_closed = true;
                state.pending.clear();
            }
        }
        state.is_emitting = false;
        if state.is_closed { Err(Closed) } else { Ok(()) }
    }
}

impl Wake for Ordered {
    fn wake(&self) {
        drop(self.state.lock());
        self.changed.notify_all();
    }
}
