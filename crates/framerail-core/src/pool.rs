//! Recycled host buffers for frames.
//!
//! A pool keeps up to a fixed number of buffers and hands them out again. A request beyond that is served from
//! fresh memory and counted, never refused: a stage that waited for a buffer held by a stage after it would stop
//! the line for ever. The bounded queues bound how many frames are out at once.

use std::{any::Any, sync::Arc};

use parking_lot::Mutex;

use crate::{CoreError, HostMemory, HostSurface, PixelFormat};

/// Start of every plane and every row, in bytes: a cache line, and what wide vector loads like.
const ALIGN_BYTES: usize = 64;

/// Room behind the last plane: scalers and encoders read whole vectors past a row's end.
const OVERREAD_BYTES: usize = 128;

/// What a pool has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers handed out again.
    pub reused: u64,
    /// Buffers freshly allocated.
    pub allocated: u64,
    /// Bytes of all buffers that are out or kept.
    pub bytes: usize,
    /// The most that `bytes` ever was.
    pub high_water_bytes: usize,
}

#[derive(Default)]
struct Shelf {
    kept: Vec<Vec<u8>>,
    stats: PoolStats,
}

struct Shared {
    capacity: usize,
    shelf: Mutex<Shelf>,
}

impl Shared {
    fn take(&self, len: usize) -> Vec<u8> {
        let mut shelf = self.shelf.lock();
        if let Some(index) = shelf.kept.iter().position(|buffer| buffer.len() == len) {
            shelf.stats.reused += 1;
            return shelf.kept.swap_remove(index);
        }
        shelf.stats.allocated += 1;
        shelf.stats.bytes += len;
        shelf.stats.high_water_bytes = shelf.stats.high_water_bytes.max(shelf.stats.bytes);
        drop(shelf);
        vec![0; len]
    }

    fn give_back(&self, buffer: Vec<u8>) {
        let mut shelf = self.shelf.lock();
        // After a change of frame size the old size must not fill the shelf for ever.
        while shelf.kept.first().is_some_and(|kept| kept.len() != buffer.len()) {
            let stale = shelf.kept.swap_remove(0);
            shelf.stats.bytes -= stale.len();
        }
        if shelf.kept.len() < self.capacity {
            shelf.kept.push(buffer);
        } else {
            shelf.stats.bytes -= buffer.len();
        }
    }
}

/// Hands out writable surfaces and takes their memory back when the last holder drops them. Cloning shares the pool.
#[derive(Clone)]
pub struct FramePool {
    shared: Arc<Shared>,
}

impl FramePool {
    /// A pool that keeps up to `capacity` buffers.
    pub fn new(capacity: usize) -> Self {
        Self { shared: Arc::new(Shared { capacity, shelf: Mutex::default() }) }
    }

    /// A writable surface; its samples are whatever the last user left.
    ///
    /// # Errors
    /// `SizeOutOfRange` for a side of 0 or above [`crate::surface::MAX_SIDE`].
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
        let bytes = self.shared.take(starts[4] + ALIGN_BYTES + OVERREAD_BYTES);
        let base = bytes.as_ptr().align_offset(ALIGN_BYTES).min(ALIGN_BYTES);
        let memory = PooledMemory { bytes, starts: starts.map(|start| start + base), home: Arc::clone(&self.shared) };
        HostSurface::new(format, width, height, &pitches, Arc::new(memory))
    }

    /// What the pool has done so far.
    pub fn stats(&self) -> PoolStats {
        self.shared.shelf.lock().stats
    }
}

/// A buffer that goes back to its pool when dropped.
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
    fn memory_is_bounded_by_capacity_and_follows_size_changes() {
        let pool = FramePool::new(2);
        let many: Vec<_> = (0..5).map(|_| pool.surface(PixelFormat::Gray8, 64, 1).expect("size in range")).collect();
        let peak = pool.stats().bytes;
        drop(many);
        assert_eq!(pool.stats().bytes, peak / 5 * 2);
        drop(pool.surface(PixelFormat::Gray8, 640, 10).expect("size in range"));
        assert_eq!(pool.stats().high_water_bytes, pool.stats().high_water_bytes.max(peak));
        assert_eq!(pool.shared.shelf.lock().kept.len(), 1, "buffers of the old size are let go");
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
