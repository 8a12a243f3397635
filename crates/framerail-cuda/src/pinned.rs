//! Page-locked host memory, for asynchronous copies to and from a GPU.
//!
//! Each buffer tracks the copies queued on it ([`PinnedBuffer::in_use_on`]). Wherever it is dropped, its memory is neither
//! reused nor freed before they are done.

use std::{
    any::Any,
    fmt,
    sync::{Arc, Weak},
};

use cudarc::driver::sys;
use framerail_core::{CoreError, HostMemory, HostSurface, PixelFormat, surface::MAX_SIDE};
use parking_lot::Mutex;

use crate::{CudaDevice, CudaEvent, CudaStream, error::CudaError};

const ALIGN_BYTES: usize = 64;
/// Padding after the last plane: encoders read whole vectors past the end of a row.
const OVERREAD_BYTES: usize = 128;

struct Pages {
    device: Arc<CudaDevice>,
    start: *mut u8,
    bytes: usize,
    /// The last copy queued on each stream.
    uses: Mutex<Uses>,
}

#[derive(Default)]
struct Uses {
    events: Vec<(u64, CudaEvent)>,
    /// A copy without an event may be pending.
    is_unknown: bool,
}

// SAFETY: plain memory with a single owner.
unsafe impl Send for Pages {}
// SAFETY: shared access only reads.
unsafe impl Sync for Pages {}

impl Pages {
    fn allocate(device: &Arc<CudaDevice>, bytes: usize) -> Result<Self, CudaError> {
        let entered = device.enter()?;
        let mut start = std::ptr::null_mut();
        // Accessible from every device's context: a frame may move from one device to another.
        // SAFETY: an out value, with a current context.
        let code = unsafe { sys::cuMemHostAlloc(&mut start, bytes, sys::CU_MEMHOSTALLOC_PORTABLE) };
        entered.check(code, "allocating page-locked memory")?;
        // SAFETY: the driver allocated this many bytes; zeroing initialises them.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, bytes) };
        Ok(Self { device: Arc::clone(device), start: start.cast(), bytes, uses: Mutex::default() })
    }

    fn is_free(&self) -> bool {
        let mut uses = self.uses.lock();
        // After an error the device no longer accesses the memory.
        uses.events.retain(|(_, event)| event.is_done() == Ok(false));
        uses.events.is_empty() && !uses.is_unknown
    }

    fn wait(&self) {
        let events = std::mem::take(&mut self.uses.lock().events);
        for (_, event) in events {
            let _ = event.synchronize();
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.wait();
        if !self.uses.get_mut().is_unknown
            && let Ok(_entered) = self.device.enter()
        {
            // SAFETY: allocated by us and freed once, after the last copy.
            unsafe { sys::cuMemFreeHost(self.start.cast()) };
        }
    }
}

struct Shared {
    device: Arc<CudaDevice>,
    keep: usize,
    kept: Mutex<Vec<Pages>>,
}

/// Allocates page-locked buffers and reclaims them when dropped. Cloning shares the pool.
#[derive(Clone)]
pub struct PinnedPool {
    shared: Arc<Shared>,
}

impl PinnedPool {
    /// Creates a pool that caches up to `keep` buffers.
    pub fn new(device: &Arc<CudaDevice>, keep: usize) -> Self {
        Self { shared: Arc::new(Shared { device: Arc::clone(device), keep, kept: Mutex::default() }) }
    }

    /// Returns a buffer; its contents are undefined (left from the last use). Waits if copies still use all cached ones of this size.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub fn buffer(&self, bytes: usize) -> Result<PinnedBuffer, CudaError> {
        let kept = {
            let mut kept = self.shared.kept.lock();
            let fits = |pages: &Pages| pages.bytes == bytes;
            let found = kept.iter().position(|pages| fits(pages) && pages.is_free()).or_else(|| kept.iter().position(fits));
            found.map(|index| kept.swap_remove(index))
        };
        let pages = match kept {
            Some(pages) => {
                pages.wait();
                pages
            }
            None => match Pages::allocate(&self.shared.device, bytes) {
                Err(CudaError::OutOfMemory { .. }) => {
                    let kept = std::mem::take(&mut *self.shared.kept.lock());
                    drop(kept);
                    Pages::allocate(&self.shared.device, bytes)?
                }
                other => other?,
            },
        };
        Ok(PinnedBuffer { pages: Some(pages), home: Arc::downgrade(&self.shared) })
    }

    /// Returns a writable host surface in page-locked memory.
    ///
    /// # Errors
    /// `BadArgument` for an invalid size, `Driver`.
    pub fn surface(&self, format: PixelFormat, width: u32, height: u32) -> Result<HostSurface, CudaError> {
        let refused = |error: CoreError| CudaError::argument(error.to_string());
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(refused(CoreError::SizeOutOfRange { width, height }));
        }
        let (mut pitches, mut starts) = ([0; 4], [0; 5]);
        for plane in 0..4 {
            let (row_bytes, rows) = format.plane_size(plane, width, height);
            pitches[plane] = row_bytes.next_multiple_of(ALIGN_BYTES);
            starts[plane + 1] = starts[plane] + pitches[plane] * rows;
        }
        let memory = PinnedMemory { buffer: self.buffer(starts[4] + OVERREAD_BYTES)?, starts };
        HostSurface::new(format, width, height, &pitches, Arc::new(memory)).map_err(refused)
    }
}

impl PinnedPool {
    /// Copies a host surface to page-locked memory.
    ///
    /// # Errors
    /// As [`PinnedPool::surface`].
    pub fn copied(&self, host: &HostSurface) -> Result<HostSurface, CudaError> {
        let mut copy = self.surface(host.format(), host.width(), host.height())?;
        if let Some(mut planes) = copy.planes_mut() {
            for plane in 0..host.format().planes() {
                for row in 0..host.layout(plane).rows {
                    planes.row(plane, row).copy_from_slice(host.row(plane, row));
                }
            }
        }
        Ok(copy)
    }
}

/// Page-locked memory that returns to its pool when dropped.
pub struct PinnedBuffer {
    pages: Option<Pages>,
    home: Weak<Shared>,
}

impl fmt::Debug for PinnedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedBuffer({} bytes)", self.bytes().len())
    }
}

impl PinnedBuffer {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.pages {
            // SAFETY: owned, initialised, and borrowed for as long as `self`.
            Some(pages) => unsafe { std::slice::from_raw_parts(pages.start, pages.bytes) },
            None => &[],
        }
    }

    /// Records that a copy from or to the memory was, or may have been, queued on a stream: the memory is kept until it is done.
    pub fn in_use_on(&self, stream: &CudaStream) {
        let Some(pages) = &self.pages else { return };
        let mut uses = pages.uses.lock();
        match stream.record() {
            Ok(event) => {
                uses.events.retain(|(on, _)| *on != stream.id());
                uses.events.push((stream.id(), event));
            }
            // Without an event the host waits; if that fails too, the memory is never reused.
            Err(_) => uses.is_unknown |= stream.synchronize().is_err_and(|error| error.is_recoverable()),
        }
    }

    /// The bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.pages {
            // SAFETY: owned, initialised, and borrowed for as long as `self`.
            Some(pages) => unsafe { std::slice::from_raw_parts_mut(pages.start, pages.bytes) },
            None => &mut [],
        }
    }
}

impl Drop for PinnedBuffer {
    fn drop(&mut self) {
        let (Some(mut pages), Some(home)) = (self.pages.take(), self.home.upgrade()) else { return };
        if pages.uses.get_mut().is_unknown {
            return;
        }
        let mut kept = home.kept.lock();
        if kept.len() < home.keep {
            kept.push(pages);
        } else if let Some(other) = kept.iter().position(|known| known.bytes != pages.bytes) {
            // After a change of size, buffers of the old size must not fill the cache forever.
            let stale = std::mem::replace(&mut kept[other], pages);
            drop(kept);
            drop(stale);
        }
    }
}

/// Records that a copy from or to a host surface was queued on a stream, if it is in page-locked memory: the GPU accesses that
/// after the call that queues the copy has returned.
pub(crate) fn in_use_on(surface: &HostSurface, stream: &CudaStream) {
    if let Some(memory) = surface.memory().as_any().downcast_ref::<PinnedMemory>() {
        memory.buffer.in_use_on(stream);
    }
}

/// Page-locked memory behind a host surface.
struct PinnedMemory {
    buffer: PinnedBuffer,
    starts: [usize; 5],
}

impl HostMemory for PinnedMemory {
    fn plane(&self, plane: usize) -> &[u8] {
        if plane < 4 { &self.buffer.bytes()[self.starts[plane]..self.starts[plane + 1]] } else { &[] }
    }

    fn plane_mut(&mut self, plane: usize) -> Option<&mut [u8]> {
        let range = self.starts.get(plane).copied().zip(self.starts.get(plane + 1).copied())?;
        Some(&mut self.buffer.bytes_mut()[range.0..range.1])
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
