//! Batches filled by several threads and sent in order.

use std::{collections::BTreeMap, sync::Arc};

use framerail_media::{MediaError, PageMemory, Slot, Slots};
use parking_lot::{Condvar, Mutex};

use crate::{
    Batch, FrameInfo, HostTensor, ImageShape, ReaderError, Tensor,
    batches::{Order, Outlet},
    host_memory::HostPool,
};

/// Minimum number of batches in progress, even when memory is short: one is filled while the next begins.
pub(crate) const MIN_REACH: usize = 2;

/// The batches of a selection; any thread can fill any frame of them.
pub(crate) struct Assembly {
    numbers: Arc<[usize]>,
    batch: usize,
    shape: ImageShape,
    pool: HostPool,
    /// Number of batches, counted from the next one to send, whose memory may be in use.
    reach: usize,
    outlet: Outlet,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    open: BTreeMap<usize, OpenBatch>,
    /// Complete batches that wait for earlier ones.
    complete: BTreeMap<usize, Batch>,
    /// Batches sent so far.
    sent: usize,
    /// Whether a thread is sending.
    is_sending: bool,
    /// The receiver was dropped, or a thread failed.
    is_closed: bool,
    failure: Option<ReaderError>,
}

struct OpenBatch {
    slots: Arc<Slots>,
    frames: Vec<Option<FrameInfo>>,
    missing: usize,
}

impl Assembly {
    pub(crate) fn new(order: &Order, shape: ImageShape, pool: HostPool, reach: usize, outlet: Outlet) -> Self {
        Self {
            numbers: Arc::clone(&order.numbers),
            batch: order.batch.max(1),
            shape,
            pool,
            reach: reach.max(MIN_REACH),
            outlet,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// First position of a frame in the selection.
    pub(crate) fn place_of(&self, number: usize) -> Option<usize> {
        let place = self.numbers.partition_point(|other| *other < number);
        (self.numbers.get(place) == Some(&number)).then_some(place)
    }

    /// Waits until the batch is within reach; returns `false` when the assembly is closed.
    pub(crate) fn begin(&self, batch: usize) -> bool {
        let mut state = self.state.lock();
        while !state.is_closed && batch >= state.sent + self.reach {
            self.changed.wait(&mut state);
        }
        !state.is_closed
    }

    /// Memory for the frame at a position, ahead of its turn; `None` when it is too far ahead or its slot is already taken.
    ///
    /// # Errors
    /// `Exhausted`.
    pub(crate) fn slot_ahead(&self, place: usize) -> Result<Option<Slot>, MediaError> {
        let mut state = self.state.lock();
        if place / self.batch >= state.sent + self.reach { Ok(None) } else { self.slot(&mut state, place) }
    }

    /// Memory for the frame at the position that is due.
    ///
    /// # Errors
    /// `Exhausted`; `Closed` when the slot is already taken, which cannot happen to a caller that goes in order.
    pub(crate) fn slot_due(&self, place: usize) -> Result<Slot, ReaderError> {
        self.slot(&mut self.state.lock(), place)?.ok_or(ReaderError::Closed)
    }

    fn slot(&self, state: &mut State, place: usize) -> Result<Option<Slot>, MediaError> {
        let (batch, at) = (place / self.batch, place % self.batch);
        if batch < state.sent || state.complete.contains_key(&batch) {
            return Ok(None);
        }
        let open = match state.open.entry(batch) {
            std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
            std::collections::btree_map::Entry::Vacant(none) => {
                let count = self.numbers.len().saturating_sub(batch * self.batch).min(self.batch);
                let memory = self.pool.memory(self.shape.bytes() * count)?;
                let slots = Slots::new(memory, self.shape.bytes());
                none.insert(OpenBatch { slots, frames: vec![None; count], missing: count })
            }
        };
        Ok(open.slots.take(at))
    }

    /// Marks the frame at a position as written. A complete batch is sent once all earlier batches are sent.
    pub(crate) fn fill(&self, place: usize, slot: Slot, info: FrameInfo) {
        drop(slot);
        let (batch, at) = (place / self.batch, place % self.batch);
        let mut state = self.state.lock();
        let Some(open) = state.open.get_mut(&batch) else { return };
        if let Some(frame) = open.frames.get_mut(at) {
            open.missing -= usize::from(frame.replace(info).is_none());
        }
        if open.missing > 0 {
            return;
        }
        let complete = state.open.remove(&batch).and_then(|open| self.batch_of(open));
        state.complete.extend(complete.map(|complete| (batch, complete)));
        self.send(state);
    }

    fn batch_of(&self, open: OpenBatch) -> Option<Batch> {
        let frames: Vec<FrameInfo> = open.frames.into_iter().flatten().collect();
        let memory: PageMemory = open.slots.into_memory()?;
        let tensor = Tensor::Host(HostTensor::new(frames.len(), self.shape.clone(), self.pool.owned(memory)));
        Some(Batch { tensor, frames })
    }

    /// Sends the complete batches that are due. One thread sends at a time; the others continue their work.
    fn send<'a>(&'a self, mut state: parking_lot::MutexGuard<'a, State>) {
        if std::mem::replace(&mut state.is_sending, true) {
            return;
        }
        loop {
            let turn = state.sent;
            let Some(batch) = state.complete.remove(&turn) else { break };
            drop(state);
            let is_taken = self.outlet.send(batch);
            state = self.state.lock();
            state.sent += 1;
            state.is_closed |= !is_taken;
            self.changed.notify_all();
        }
        state.is_sending = false;
    }

    /// Ends the assembly with an error; the first error is kept.
    pub(crate) fn fail(&self, error: ReaderError) {
        let mut state = self.state.lock();
        state.failure.get_or_insert(error);
        state.is_closed = true;
        drop(state);
        self.changed.notify_all();
    }

    /// The error of the first thread that failed.
    pub(crate) fn take_failure(&self) -> Option<ReaderError> {
        self.state.lock().failure.take()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use framerail_core::{DType, Pts, TensorLayout};
    use proptest::prelude::*;

    use super::*;
    use crate::{FrameStatus, batches::Made};

    fn info(number: usize) -> FrameInfo {
        FrameInfo { number, pts: Pts(0), seconds: 0.0, duration_secs: 0.0, is_keyframe: false, status: FrameStatus::Ok }
    }

    fn assembly(numbers: &[usize], batch: usize, reach: usize, queue: usize) -> (Assembly, std::sync::mpsc::Receiver<Made>) {
        let (sender, receiver) = sync_channel(queue);
        let order = Order { numbers: numbers.into(), batch, queue };
        let shape = ImageShape { axes: [1, 1, 3], layout: TensorLayout::Tchw, dtype: DType::U8, planes: None };
        (Assembly::new(&order, shape, HostPool::new(2), reach, Outlet::new(sender)), receiver)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Threads fill positions in any order, as far ahead as they may; the receiver gets complete batches in order.
        #[test]
        fn batches_come_in_order_from_any_threads(
            count in 1_usize..60,
            batch in 1_usize..9,
            reach in 1_usize..5,
            queue in 1_usize..3,
            threads in 1_usize..4,
        ) {
            let numbers: Vec<usize> = (0..count).collect();
            let (assembly, batches) = assembly(&numbers, batch, reach, queue);
            std::thread::scope(|scope| {
                let assembly = &assembly;
                for thread in 0..threads {
                    scope.spawn(move || {
                        for place in (thread..count).step_by(threads) {
                            assert!(assembly.begin(place / batch), "nobody closed it");
                            let mut slot = assembly.slot_ahead(place).expect("memory").expect("within reach, and ours");
                            slot.as_mut_slice().fill(place as u8);
                            assembly.fill(place, slot, info(place));
                        }
                    });
                }
                let mut next = 0;
                while next < count {
                    let made = batches.recv().expect("all come").expect("no error");
                    let bytes = made.tensor.host().expect("on the host").as_bytes().to_vec();
                    for (frame, image) in made.frames.iter().zip(bytes.chunks(3)) {
                        assert_eq!((frame.number, image), (next, [next as u8; 3].as_slice()));
                        next += 1;
                    }
                    assert!(made.frames.len() == batch || next == count);
                }
            });
        }
    }

    #[test]
    fn memory_ahead_is_bounded_and_a_dropped_slot_is_free_again() {
        let (assembly, batches) = assembly(&[0, 1, 2, 3, 4, 4, 9], 2, 2, 4);
        assert!(assembly.slot_ahead(4).expect("memory").is_none(), "too far ahead");
        let slot = assembly.slot_ahead(1).expect("memory").expect("within reach");
        assert!(assembly.slot_ahead(1).expect("memory").is_none(), "somebody has it");
        drop(slot);
        for place in [1, 0] {
            assembly.fill(place, assembly.slot_due(place).expect("free"), info(place));
        }
        assert_eq!(batches.recv().expect("a batch").expect("no error").frames.len(), 2);
        assert!(assembly.slot_ahead(4).expect("memory").is_some() && assembly.slot_ahead(0).expect("memory").is_none());
        assert_eq!((assembly.place_of(4), assembly.place_of(9), assembly.place_of(5)), (Some(4), Some(6), None));
    }

    #[test]
    fn nobody_waits_when_the_caller_is_gone() {
        let (assembly, batches) = assembly(&[0, 1, 2, 3], 1, 2, 1);
        drop(batches);
        assembly.fill(0, assembly.slot_due(0).expect("free"), info(0));
        assert!(!assembly.begin(3));
    }
}
