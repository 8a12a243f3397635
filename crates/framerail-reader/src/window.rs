//! Limits how far ahead pieces may be decoded, by the number of frames that wait for their turn.

use std::collections::BTreeSet;

use parking_lot::{Condvar, Mutex};

struct State {
    /// Position of the next frame to deliver, counted over all pieces.
    delivered: u64,
    /// Maximum number of waiting frames.
    limit: usize,
    /// Number of waiting frames, and the maximum so far.
    waiting: usize,
    most_waiting: usize,
    /// Positions of frames that are not admitted yet.
    blocked: BTreeSet<u64>,
    is_closed: bool,
}

impl State {
    /// The next frame to deliver is always admitted, so delivery cannot stall. Others are admitted while there is room, the earliest
    /// first, so that later frames do not take the room of earlier ones.
    fn admits(&self, place: u64, reach: u64) -> bool {
        let has_room = || self.waiting + self.blocked.range(..place).count() < self.limit;
        place <= self.delivered || (place < self.delivered.saturating_add(reach) && has_room())
    }
}

/// Admits frames by their position in the delivery order, as far as memory allows.
pub(crate) struct Window {
    /// Distance from the next frame to deliver within which a frame may be admitted.
    reach: u64,
    state: Mutex<State>,
    changed: Condvar,
}

impl Window {
    /// At most `limit` frames wait, all among the next `reach`.
    pub(crate) fn new(limit: usize, reach: u64) -> Self {
        let state = State { delivered: 0, limit: limit.max(1), waiting: 0, most_waiting: 0, blocked: BTreeSet::new(), is_closed: false };
        Self { reach: reach.max(1), state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Waits until the frame at a position may be held; `false` when the reader was closed.
    pub(crate) fn enter(&self, place: u64) -> bool {
        let mut state = self.state.lock();
        if !state.admits(place, self.reach) {
            state.blocked.insert(place);
            while !state.is_closed && !state.admits(place, self.reach) {
                self.changed.wait(&mut state);
            }
            state.blocked.remove(&place);
        }
        state.waiting += 1;
        state.most_waiting = state.most_waiting.max(state.waiting);
        !state.is_closed
    }

    /// Records that a frame was delivered.
    pub(crate) fn leave(&self) {
        self.change(|state| {
            state.delivered += 1;
            state.waiting = state.waiting.saturating_sub(1);
        });
    }

    /// Moves on to the next piece, whose first frame has this position: pieces may output fewer frames than expected.
    pub(crate) fn advance(&self, place: u64) {
        self.change(|state| state.delivered = state.delivered.max(place));
    }

    /// Sets the maximum number of waiting frames. Frames that already wait are kept.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.change(|state| state.limit = limit.max(1));
    }

    pub(crate) fn close(&self) {
        self.change(|state| state.is_closed = true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Maximum number of frames that ever waited.
    pub(crate) fn most_waiting(&self) -> usize {
        self.state.lock().most_waiting
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let is_awaited = !state.blocked.is_empty();
        drop(state);
        if is_awaited {
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
    };

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Workers on pieces of any length, a changing limit, and a caller that takes frames in order.
        #[test]
        fn nobody_waits_for_ever_and_the_limit_holds(
            lengths in prop::collection::vec(0_u64..7, 1..12),
            workers in 1_usize..5,
            limits in prop::collection::vec(1_usize..9, 1..5),
            reach in prop::option::of(1_u64..12),
        ) {
            let most = limits.iter().copied().max().unwrap_or(1);
            let window = Arc::new(Window::new(limits[0], reach.unwrap_or(u64::MAX)));
            let places: Vec<u64> = lengths.iter().scan(0, |next, length| { *next += length; Some(*next - length) }).collect();
            let pieces: Vec<(u64, u64)> = places.iter().copied().zip(lengths.iter().copied()).collect();
            let (senders, receivers): (Vec<_>, Vec<_>) = pieces.iter().map(|_| std::sync::mpsc::channel()).unzip();
            let next = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..workers).map(|_| {
                let (window, next, pieces, senders) = (Arc::clone(&window), Arc::clone(&next), pieces.clone(), senders.clone());
                thread::spawn(move || loop {
                    let Some((place, length)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)).copied() else { return };
                    let sender = &senders[pieces.iter().position(|piece| *piece == (place, length)).unwrap_or(0)];
                    for frame in place..place + length {
                        assert!(window.enter(frame), "nobody closed it");
                        sender.send(frame).expect("the caller is there");
                    }
                })
            }).collect();
            let mut taken = 0;
            for ((place, length), frames) in pieces.iter().zip(&receivers) {
                window.advance(*place);
                for frame in *place..place + length {
                    prop_assert_eq!(frames.recv().expect("the next frame always comes"), frame);
                    window.leave();
                    taken += 1;
                    window.set_limit(limits[taken % limits.len()]);
                }
            }
            threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
            // The next frame to deliver is admitted regardless of how many wait.
            prop_assert!(window.most_waiting() <= most + 1, "{} waited", window.most_waiting());
        }
    }
}
