//! Recycled host memory for batches.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

/// Start of the elements, in bytes: a cache line, and what array libraries like.
const ALIGN_BYTES: usize = 64;

/// Keeps buffers for the next batch. Cloning shares it.
#[derive(Clone)]
pub(crate) struct HostPool {
    shared: Arc<Shared>,
}

struct Shared {
    keep: usize,
    kept: Mutex<Vec<Vec<u8>>>,
}

impl HostPool {
    /// A pool that keeps up to `keep` buffers.
    pub(crate) fn new(keep: usize) -> Self {
        Self { shared: Arc::new(Shared { keep, kept: Mutex::default() }) }
    }

    /// A buffer; its bytes are whatever the last user left.
    pub(crate) fn buffer(&self, bytes: usize) -> HostBuffer {
        let whole = bytes + ALIGN_BYTES;
        let mut kept = self.shared.kept.lock();
        let found = kept.iter().position(|buffer| buffer.len() == whole);
        let found = found.map(|index| kept.swap_remove(index));
        drop(kept);
        let memory = found.unwrap_or_else(|| vec![0; whole]);
        let start = memory.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        HostBuffer { memory, start, bytes, home: Arc::clone(&self.shared) }
    }
}

/// Memory that goes back to its pool when dropped.
pub struct HostBuffer {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
    home: Arc<Shared>,
}

impl HostBuffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.bytes).unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.bytes).unwrap_or_default()
    }
}

impl fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostBuffer({} bytes)", self.bytes)
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let mut kept = self.home.kept.lock();
        // After a change of batch or size the old ones must not stay for ever.
        kept.retain(|buffer| buffer.len() == memory.len());
        if kept.len() < self.home.keep {
            kept.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_held_is_never_handed_out_again() {
        let pool = HostPool::new(2);
        let mut held = pool.buffer(100);
        held.as_mut_slice().fill(7);
        let mut next = pool.buffer(100);
        next.as_mut_slice().fill(9);
        assert_eq!(held.as_slice(), [7; 100]);
        assert_eq!(held.as_slice().as_ptr() as usize % ALIGN_BYTES, 0);
        let address = next.memory.as_ptr();
        drop(next);
        assert_eq!(pool.buffer(100).memory.as_ptr(), address, "given back, then handed out again");
    }

    #[test]
    fn memory_is_bounded_and_follows_sizes() {
        let pool = HostPool::new(2);
        drop((0..5).map(|_| pool.buffer(100)).collect::<Vec<_>>());
        assert_eq!(pool.shared.kept.lock().len(), 2);
        drop(pool.buffer(50));
        assert_eq!(pool.shared.kept.lock().len(), 1);
    }
}
