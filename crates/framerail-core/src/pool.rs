//! Recycled host buffers for frames.
//!
//! A pool keeps up to a fixed number of free buffers for reuse. When none fits, it allocates a new one instead of
//! waiting, and counts it: waiting for a buffer held by a later stage would deadlock the pipeline.
//! Queues and the run's frame memory limit bound the frames in use. Free buffers are limited in number
//! and bytes, and those of a size that is no longer requested are freed after a while.

use std::{any::Any, collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use crate::{CoreError, HostMemory, HostSurface, PixelFormat};

/// Alignment of every plane and row in bytes: a cache line, and enough for wide vector loads.
const ALIGN_BYTES: usize = 64;

/// Padding after the last plane: scalers and encoders read whole vectors past the end of a row.
const OVERREAD_BYTES: usize = 128;

/// Maximum bytes of free buffers that a pool keeps.
const MAX_KEPT_BYTES: usize = 256 << 20;

/// A free buffer is released once this many others were returned without it being reused: its size is no longer requested.
const STALE_AFTER: u64 = 64;

/// Allocations of at least this size return an error when memory runs out; smaller ones use the faster, infallible path.
const LARGE_BYTES: usize = 64 << 20;

/// Statistics of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Number of reused buffers.
    pub reused: u64,
    /// Number of allocated buffers.
    pub allocated: u64,
    /// Bytes of all buffers, in use or free.
    pub bytes: usize,
    /// Maximum of `bytes` so far.
    pub high_water_bytes: usize,
}

/// A free buffer.
struct Kept {
    buffer: Vec<u8>,
    /// Number of buffers returned before it.
    since: u64,
}

#[derive(Default)]
struct Shelf {
    /// Free buffers, least recently used first.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    given_back: u64,
    stats: PoolStats,
}

impl Shelf {
    fn let_go(&mut self) -> Option<Vec<u8>> {
        let Kept { buffer, .. } = self.kept.pop_front()?;
        self.kept_bytes -= buffer.len();
        self.stats.bytes -= buffer.len();
        Some(buffer)
    }
}

struct Shared {
    capacity: usize,
    shelf: Mutex<Shelf>,
}

impl Shared {
    fn take(&self, len: usize) -> Result<Vec<u8>, CoreError> {
        let mut shelf = self.shelf.lock();
        if let Some(index) = shelf.kept.iter().rposition(|kept| kept.buffer.len() == len)
            && let Some(kept) = shelf.kept.remove(index)
        {
            shelf.stats.reused += 1;
            shelf.kept_bytes -= len;
            return Ok(kept.buffer);
        }
        shelf.stats.allocated += 1;
        shelf.stats.bytes += len;
        shelf.stats.high_water_bytes = shelf.stats.high_water_bytes.max(shelf.stats.bytes);
        drop(shelf);
        allocate(len).inspect_err(|_| self.shelf.lock().stats.bytes -= len)
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut shelf = self.shelf.lock();
        let (now, len) = (shelf.given_back, buffer.len());
        shelf.given_back += 1;
        shelf.kept_bytes += len;
        shelf.kept.push_back(Kept { buffer, since: now });
        let is_surplus = |shelf: &Shelf| shelf.kept.len() > self.capacity || shelf.kept_bytes > MAX_KEPT_BYTES;
        let is_stale = |shelf: &Shelf| shelf.kept.front().is_some_and(|kept| now - kept.since > STALE_AFTER);
        let mut freed = Vec::new();
        while is_surplus(&shelf) || is_stale(&shelf) {
            freed.extend(shelf.let_go());
        }
        drop(shelf);
        // Outside the lock: returning large buffers to the system takes time.
        drop(freed);
    }
}

fn allocate(len: usize) -> Result<Vec<u8>, CoreError> {
    if len < LARGE_BYTES {
        return Ok(vec![0; len]);
    }
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).map_err(|_| CoreError::OutOfMemory { bytes: len })?;
    buffer.resize(len, 0);
    Ok(buffer)
}

/// Allocates writable surfaces, and reclaims their memory when the last reference is dropped. Cloning shares the pool.
#[derive(Clone)]
pub struct FramePool {
    shared: Arc<Shared>,
}

impl FramePool {
    /// Creates a pool that keeps up to `capacity` free buffers.
    pub fn new(capacity: usize) -> Self {
        Self { shared: Arc::new(Shared { capacity, shelf: Mutex::default() }) }
    }

    /// Returns a writable surface; its contents are undefined (left from the last use).
    ///
    /// # Errors
    /// `SizeOutOfRange` for a side of 0 or above [`crate::surface::MAX_SIDE`], `OutOfMemory` when a large allocation fails.
    pub fn surface(&self, format: PixelFormat, width: u32, height: u32) -> Result<HostSurface, CoreError> {
        if width == 0 || height == 0 || width > crate::surface::MAX_SIDE || height > crate::surface::MAX_SIDE {
            return Err(CoreError::SizeOutOfRange { width, height });
        }
        let mut pitches = [0; 4];
        let mut starts = [0; 5];
        for plane in 0..4 {
            let (row_bytes, rows) = format.plane_size(plane, width, height);
            pitches[plane] = row_bytes.next_multiple_of(ALIGN_BYTES);
            starts[plane + 1] = starts[plane] + pitches[plane] * rows;
        }
        let bytes = self.shared.take(starts[4] + ALIGN_BYTES + OVERREAD_BYTES)?;
        let base = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        let memory = PooledMemory { bytes, starts: starts.map(|start| start + base), home: Arc::clone(&self.shared) };
        HostSurface::new(format, width, height, &pitches, Arc::new(memory))
    }

    /// Statistics so far.
    pub fn stats(&self) -> PoolStats {
        self.shared.shelf.lock().stats
    }
}

/// A buffer that returns to its pool when dropped.
struct PooledMemory {
    bytes: Vec<u8>,
    starts: [usize; 5],
    home: Arc<Shared>,
}

impl HostMemory for PooledMemory {
    fn plane(&self, plane: usize) -> &[u8] {
        if plane < 4 { &self.bytes[self.starts[plane]..self.starts[plane + 1]] } else { &[] }
    }

    fn plane_mut(&mut self, plane: usize) -> Option<&mut [u8]> {
        (plane < 4).then(|| &mut self.bytes[self.starts[plane]..self.starts[plane + 1]])
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for PooledMemory {
    fn drop(&mut self) {
        self.home.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_surface_is_handed_out_again() {
        let pool = FramePool::new(2);
        drop(pool.surface(PixelFormat::Yuv420p, 64, 48).expect("size in range"));
        let again = pool.surface(PixelFormat::Yuv420p, 64, 48).expect("size in range");
        assert_eq!(pool.stats().allocated, 1);
        assert_eq!(pool.stats().reused, 1);
        assert_eq!(again.plane(0).as_ptr() as usize % ALIGN_BYTES, 0);
    }

    #[test]
    fn memory_is_bounded_by_capacity() {
        let pool = FramePool::new(2);
        let one = pool.surface(PixelFormat::Gray8, 64, 1).expect("size in range");
        let each = pool.stats().bytes;
        assert!(each >= 64, "{each}");
        let many: Vec<_> = (0..4).map(|_| pool.surface(PixelFormat::Gray8, 64, 1).expect("size in range")).collect();
        assert_eq!(pool.stats().bytes, 5 * each);
        drop((one, many));
        assert_eq!(pool.stats().bytes, 2 * each);
        let again = pool.surface(PixelFormat::Gray8, 64, 1).expect("size in range");
        assert_eq!(pool.stats().high_water_bytes, 5 * each, "the peak, not what is there now");
        drop(again);
    }

    #[test]
    fn memory_stays_bounded_over_changing_sizes() {
        let pool = FramePool::new(8);
        let held: Vec<_> = (0..8).map(|_| pool.surface(PixelFormat::Gray8, 4096, 256).expect("size in range")).collect();
        drop(held);
        let large = pool.stats().bytes;
        for index in 0..2_000u32 {
            // Two streams take turns, and their size changes now and then.
            let width = 64 + index / 500;
            drop(pool.surface(PixelFormat::Gray8, width, 1).expect("size in range"));
            drop(pool.surface(PixelFormat::Gray8, 2 * width, 2).expect("size in range"));
            assert!(pool.shared.shelf.lock().kept.len() <= 8 && pool.stats().bytes <= large + 1024);
        }
        let stats = pool.stats();
        assert!(stats.bytes < large / 100, "buffers of the past are let go: {stats:?}");
        assert!(stats.allocated < 8 + 2 * 10, "sizes by turns are reused: {stats:?}");
    }

    #[test]
    fn large_buffers_are_kept_within_a_limit_in_bytes() {
        let pool = FramePool::new(8);
        let held: Vec<_> = (0..3).map(|_| pool.surface(PixelFormat::Gray8, 16_384, 8_192).expect("memory")).collect();
        drop(held);
        assert!(pool.stats().bytes <= MAX_KEPT_BYTES, "{:?}", pool.stats());
    }

    #[test]
    fn a_shared_surface_is_not_writable() {
        let pool = FramePool::new(1);
        let mut surface = pool.surface(PixelFormat::Gray8, 8, 8).expect("size in range");
        let other = surface.clone();
        assert!(surface.planes_mut().is_none());
        drop(other);
        assert!(surface.planes_mut().is_some());
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        let pool = FramePool::new(1);
        assert!(pool.surface(PixelFormat::Gray8, 0, 8).is_err());
        assert!(pool.surface(PixelFormat::Gray8, 8, 1 << 20).is_err());
    }
}
