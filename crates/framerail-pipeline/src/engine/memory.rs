//! Limits the host memory of the frames in flight.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use framerail_core::Frame;
use parking_lot::{Condvar, Mutex};

use super::{control::Control, metrics::machine_memory_bytes};

/// Interval at which a waiting source checks whether any memory can still be released.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// If every stage waits for frames for this long while none is admitted, the run is deadlocked.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Default limit as a fraction of the machine's memory.
const DEFAULT_SHARE: u64 = 4;

/// Counts the bytes of frames from their entry into the pipeline until their last holder drops them. Frames that sources decode ahead are
/// not counted; part of the limit is reserved for them.
pub(super) struct FrameMemory {
    limit: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes reserved for frames that sources decode ahead.
    ahead: u64,
    in_use: u64,
    peak: u64,
    /// Number of frames released so far.
    released: u64,
    waiting: usize,
}

/// A frame's share of the memory; released when the last holder of the frame drops it.
pub struct FrameLease {
    memory: Arc<FrameMemory>,
    bytes: u64,
}

impl std::fmt::Debug for FrameLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrameLease({} bytes)", self.bytes)
    }
}

impl Drop for FrameLease {
    fn drop(&mut self) {
        let mut state = self.memory.state.lock();
        state.in_use -= self.bytes;
        state.released += 1;
        let is_awaited = state.waiting > 0;
        drop(state);
        if is_awaited {
            self.memory.changed.notify_all();
        }
    }
}

/// Result of a request for memory.
pub(super) enum Admission {
    /// The frame may enter; `None` when it is on a device, whose memory is limited elsewhere.
    Lease(Option<Arc<FrameLease>>),
    /// There is no room at the moment.
    Full,
    /// There never will be; the reason in one line.
    Never(String),
}

impl FrameMemory {
    /// Limits frames to `limit` bytes, or by default to a fraction of the machine's memory.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit: limit.unwrap_or_else(default_frame_memory_bytes), state: Mutex::default(), changed: Condvar::new() }
    }

    /// Reserves memory for frames that a source decodes ahead.
    pub(super) fn set_aside(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.ahead = state.ahead.saturating_add(bytes);
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn peak(&self) -> u64 {
        self.state.lock().peak
    }

    /// Whether a source waits for memory; stages then should not wait for more frames.
    pub(super) fn is_short(&self) -> bool {
        self.state.lock().waiting > 0
    }

    /// Why frames of this size can never be admitted, if so.
    fn refuse(&self, bytes: u64) -> Option<String> {
        (bytes > self.limit).then(|| {
            let (size, limit) = (megabytes(bytes), megabytes(self.limit));
            format!("a frame takes {size}, more than the limit of {limit} for frames in flight; raise it with --memory")
        })
    }

    /// Admits a frame if there is room now.
    pub(super) fn try_admit(self: &Arc<Self>, frame: &Frame) -> Admission {
        let Some(bytes) = host_bytes(frame) else { return Admission::Lease(None) };
        if let Some(why) = self.refuse(bytes) {
            return Admission::Never(why);
        }
        self.take(&mut self.state.lock(), bytes).map_or(Admission::Full, |lease| Admission::Lease(Some(lease)))
    }

    /// Admits a frame, waiting for room. If the run ends meanwhile, the frame enters at once, to be finished or dropped with the others.
    pub(super) fn admit(self: &Arc<Self>, frame: &Frame, control: &Control, is_cancelled: impl Fn() -> bool) -> Admission {
        match self.try_admit(frame) {
            Admission::Full => {}
            settled => return settled,
        }
        let bytes = host_bytes(frame).unwrap_or(0);
        let mut state = self.state.lock();
        state.waiting += 1;
        drop(state);
        // Stages that wait for more frames must continue with those that they have.
        control.wake_all();
        state = self.state.lock();
        let (mut released, mut since) = (state.released, Instant::now());
        let admission = loop {
            if let Some(lease) = self.take(&mut state, bytes) {
                break Admission::Lease(Some(lease));
            }
            if is_cancelled() {
                break Admission::Lease(Some(self.take_regardless(&mut state, bytes)));
            }
            if self.changed.wait_for(&mut state, LOOK_EVERY).timed_out() {
                let (before, in_use) = (released, state.in_use);
                released = state.released;
                drop(state);
                let is_quiet = control.is_quiet();
                state = self.state.lock();
                if !is_quiet || before != released {
                    since = Instant::now();
                } else if since.elapsed() >= STUCK_AFTER {
                    break Admission::Never(self.held_up(in_use, bytes));
                }
            }
        };
        state.waiting -= 1;
        admission
    }

    fn held_up(&self, in_use: u64, bytes: u64) -> String {
        let (frames, size, limit) = (in_use / bytes.max(1), megabytes(bytes), megabytes(self.limit));
        format!(
            "stages hold about {frames} frames of {size} and wait for more, but the limit for frames in flight is {limit}; let stages such \
             as `hold` keep fewer frames, or raise the limit with --memory"
        )
    }

    fn take(self: &Arc<Self>, state: &mut State, bytes: u64) -> Option<Arc<FrameLease>> {
        let room = self.limit - state.ahead.min(self.limit / 2);
        // A frame larger than this room enters alone; such frames are not decoded ahead either.
        let fits = state.in_use.saturating_add(bytes) <= room || state.in_use == 0;
        fits.then(|| self.take_regardless(state, bytes))
    }

    fn take_regardless(self: &Arc<Self>, state: &mut State, bytes: u64) -> Arc<FrameLease> {
        state.in_use += bytes;
        state.peak = state.peak.max(state.in_use);
        Arc::new(FrameLease { memory: Arc::clone(self), bytes })
    }
}

/// Default limit for the host memory of a run's frames: a quarter of the machine's memory.
pub(crate) fn default_frame_memory_bytes() -> u64 {
    machine_memory_bytes().map_or(u64::MAX, |bytes| bytes / DEFAULT_SHARE)
}

/// Size of a frame in host memory in bytes; `None` for a frame on a device.
fn host_bytes(frame: &Frame) -> Option<u64> {
    frame.surface.host().ok().map(|surface| surface.sample_bytes_total() as u64)
}

fn megabytes(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes < 10.0 { format!("{megabytes:.1} MB") } else { format!("{megabytes:.0} MB") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Item, engine::worker::tests::gray_item};

    fn frame() -> Frame {
        match gray_item(0) {
            Item::Frame(item) => item.frame,
            _ => unreachable!("a frame"),
        }
    }

    #[test]
    fn a_lease_is_given_back_with_the_last_holder() {
        let (memory, frame) = (Arc::new(FrameMemory::new(Some(2))), frame());
        let lease = || match memory.try_admit(&frame) {
            Admission::Lease(Some(lease)) => Some(lease),
            _ => None,
        };
        let (first, second) = (lease().expect("room"), lease().expect("room"));
        let copy = Arc::clone(&first);
        drop(first);
        assert!(lease().is_none());
        drop(copy);
        assert!(lease().is_some() && memory.peak() == 2);
        drop(second);
        assert_eq!(memory.state.lock().in_use, 0);
    }

    #[test]
    fn frames_decoded_ahead_count_and_one_frame_always_enters() {
        let (memory, frame) = (Arc::new(FrameMemory::new(Some(4))), frame());
        memory.set_aside(3);
        let lease = || match memory.try_admit(&frame) {
            Admission::Lease(Some(lease)) => Some(lease),
            _ => None,
        };
        let held = (lease().expect("room"), lease().expect("half of the limit"));
        assert!(lease().is_none());
        drop(held);
        let narrow = Arc::new(FrameMemory::new(Some(1)));
        narrow.set_aside(9);
        assert!(matches!(narrow.try_admit(&frame), Admission::Lease(Some(_))));
    }

    #[test]
    fn a_frame_larger_than_all_is_refused_with_the_limit() {
        let memory = Arc::new(FrameMemory::new(Some(0)));
        assert!(matches!(memory.try_admit(&frame()), Admission::Never(why) if why.contains("limit of 0.0 MB") && why.contains("--memory")));
    }
}
