//! Recycled host memory for batches.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use framerail_media::{MediaError, PageMemory};
use parking_lot::Mutex;

/// Keeps buffers for reuse. Clones share the same pool.
#[derive(Clone)]
pub(crate) struct HostPool {
    shared: Arc<Shared>,
}

struct Shared {
    keep: AtomicUsize,
    kept: Mutex<Kept>,
}

/// Free buffers, all of the same size.
#[derive(Default)]
struct Kept {
    buffers: Vec<PageMemory>,
    /// Number of consecutively returned buffers of a different size.
    others: usize,
}

impl HostPool {
    /// A pool that keeps up to `keep` buffers.
    pub(crate) fn new(keep: usize) -> Self {
        Self { shared: Arc::new(Shared { keep: AtomicUsize::new(keep), kept: Mutex::default() }) }
    }

    /// Keeps at most `keep` buffers from now on.
    pub(crate) fn set_keep(&self, keep: usize) {
        self.shared.keep.store(keep, Ordering::Relaxed);
        let mut kept = self.shared.kept.lock();
        let most = keep.min(kept.buffers.len());
        let surplus = kept.buffers.split_off(most);
        drop(kept);
        drop(surplus);
    }

    /// Memory for a batch, with unspecified contents. Wrap it with [`HostPool::owned`] to return it to the pool.
    ///
    /// # Errors
    /// `Exhausted` when the system is out of memory.
    pub(crate) fn memory(&self, bytes: usize) -> Result<PageMemory, MediaError> {
        let mut kept = self.shared.kept.lock();
        let found = kept.buffers.pop_if(|memory| memory.len() == bytes);
        drop(kept);
        found.map_or_else(|| PageMemory::new(bytes), Ok)
    }

    /// A buffer that returns to this pool when dropped.
    pub(crate) fn owned(&self, memory: PageMemory) -> HostBuffer {
        HostBuffer { memory: Some(memory), home: Arc::clone(&self.shared) }
    }

    /// A buffer with unspecified contents.
    ///
    /// # Errors
    /// As [`HostPool::memory`].
    pub(crate) fn buffer(&self, bytes: usize) -> Result<HostBuffer, MediaError> {
        self.memory(bytes).map(|memory| self.owned(memory))
    }
}

/// Memory that returns to its pool when dropped.
pub struct HostBuffer {
    memory: Option<PageMemory>,
    home: Arc<Shared>,
}

impl HostBuffer {
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], PageMemory::as_slice)
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        self.memory.as_mut().map_or(&mut [], PageMemory::as_mut_slice)
    }
}

impl fmt::Debug for HostBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostBuffer({} bytes)", self.as_slice().len())
    }
}

impl Drop for HostBuffer {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else { return };
        let mut kept = self.home.kept.lock();
        let is_alike = kept.buffers.first().is_none_or(|other| other.len() == memory.len());
        kept.others = if is_alike { 0 } else { kept.others + 1 };
        // After a change of batch or frame size, old buffers are released. One odd size is tolerated: the last batch is often smaller.
        if kept.others > 1 {
            *kept = Kept::default();
        }
        if kept.others == 0 && kept.buffers.len() < self.home.keep.load(Ordering::Relaxed) {
            kept.buffers.push(memory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_held_is_never_handed_out_again() {
        let pool = HostPool::new(2);
        let mut held = pool.buffer(100).expect("memory");
        held.as_mut_slice().fill(7);
        let mut next = pool.buffer(100).expect("memory");
        next.as_mut_slice().fill(9);
        assert_eq!(held.as_slice(), [7; 100]);
        assert_eq!(held.as_slice().as_ptr() as usize % 64, 0);
        let address = next.as_slice().as_ptr();
        drop(next);
        assert_eq!(pool.buffer(100).expect("memory").as_slice().as_ptr(), address, "given back, then handed out again");
    }

    #[test]
    fn memory_is_bounded_and_follows_sizes() {
        let pool = HostPool::new(2);
        let buffers = |count: usize, bytes| (0..count).map(|_| pool.buffer(bytes).expect("memory")).collect::<Vec<_>>();
        drop(buffers(5, 100));
        assert_eq!(pool.shared.kept.lock().buffers.len(), 2);
        drop(buffers(1, 50));
        assert_eq!(pool.shared.kept.lock().buffers.len(), 2, "a smaller last batch does not end the others");
        drop(buffers(1, 200));
        assert_eq!(pool.shared.kept.lock().buffers.len(), 1);
        pool.set_keep(0);
        assert!(pool.shared.kept.lock().buffers.is_empty());
    }
}
