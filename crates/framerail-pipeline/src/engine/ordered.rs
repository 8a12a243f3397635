//! Puts the results of parallel workers back in order.

use std::{collections::BTreeMap, sync::Arc};

use framerail_core::Wake;
use parking_lot::{Condvar, Mutex};

use super::{
    control::Control,
    metrics::{Phase, WorkerClock},
    outlet::Outlets,
};
use crate::{Closed, Item};

/// The results of one unit of a worker's work.
pub(super) struct Results {
    pub(super) items: Vec<Item>,
    pub(super) part: Part,
}

/// Kind of a unit of work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    Batch,
    /// A batch after which the stage accepts no more.
    LastBatch,
    /// Items that a stage held until its end.
    Finish,
}

struct State {
    next: u64,
    pending: BTreeMap<u64, Results>,
    /// The last batch was output: results of later batches by other workers are dropped, as they would follow a gap.
    has_enough: bool,
    is_emitting: bool,
    is_closed: bool,
}

/// Takes the results of each batch with its sequence number and outputs them in order.
///
/// A worker that is ahead deposits its results and continues, up to a limit; the worker whose turn it is never waits here,
/// so there is no deadlock.
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
            state: Mutex::new(State { next: 0, pending: BTreeMap::new(), has_enough: false, is_emitting: false, is_closed: false }),
            changed: Condvar::new(),
        });
        let waiter: Arc<dyn Wake> = ordered.clone();
        control.register(Arc::downgrade(&waiter));
        ordered
    }

    /// Deposits the results of a batch and outputs those that are due.
    pub(super) fn deposit(&self, sequence: u64, results: Results, outlets: &mut Outlets, clock: &WorkerClock) -> Result<(), Closed> {
        let mut state = self.state.lock();
        while state.pending.len() >= self.ahead && sequence != state.next {
            if state.is_closed || self.control.is_aborted() {
                return Err(Closed);
            }
            clock.enter(Phase::WaitOutput);
            self.changed.wait(&mut state);
            clock.enter(Phase::Busy);
        }
        state.pending.insert(sequence, results);
        if state.is_emitting {
            return Ok(());
        }
        state.is_emitting = true;
        loop {
            let due = state.next;
            let Some(results) = state.pending.remove(&due) else { break };
            let is_late = state.has_enough && results.part != Part::Finish;
            state.has_enough |= results.part == Part::LastBatch;
            drop(state);
            let items = if is_late { Vec::new() } else { results.items };
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

impl Ordered {
    /// A worker has failed: nothing more is output.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let pending = std::mem::take(&mut state.pending);
        drop(state);
        self.changed.notify_all();
        drop(pending);
    }
}

impl Wake for Ordered {
    fn wake(&self) {
        drop(self.state.lock());
        self.changed.notify_all();
    }
}
