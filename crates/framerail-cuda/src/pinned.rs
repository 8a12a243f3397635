//! Page-locked host memory: what a card copies to and from while the host goes on.
//!
//! Each buffer knows the copies that are queued on it ([`PinnedBuffer::in_use_on`]). Wherever it is dropped, its memory is neither
//! handed out again nor freed before they are done.

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
/// Room behind the last plane: encoders read whole vectors past a row's end.
const OVERREAD_BYTES: usize = 128;

struct Pages {
    device: Arc<CudaDevice>,
    start: *mut u8,
    bytes: usize,
    /// The last copy that was queued on each stream.
    uses: Mutex<Uses>,
}

#[derive(Default)]
struct Uses {
    events: Vec<(u64, CudaEvent)>,
    /// A copy may be under way that no event marks.
    is_unknown: bool,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pages {}
// SAFETY: shared use only reads.
unsafe impl Sync for Pages {}

impl Pages {
    fn allocate(device: &Arc<CudaDevice>, bytes: usize) -> Result<Self, CudaError> {
        let entered = device.enter()?;
        let mut start = std::ptr::null_mut();
        // Usable with every device's context: a frame may go from one device to another.
        // SAFETY: an out value, with a current context.
        let code = unsafe { sys::cuMemHostAlloc(&mut start, bytes, sys::CU_MEMHOSTALLOC_PORTABLE) };
        entered.check(code, "allocating page-locked memory")?;
        // SAFETY: the driver gave this many bytes; zeroed, so that they are initialised.
        unsafe { std::ptr::write_bytes(start.cast::<u8>(), 0, bytes) };
        Ok(Self { device: Arc::clone(device), start: start.cast(), bytes, uses: Mutex::default() })
    }

    fn is_free(&self) -> bool {
        let mut uses = self.uses.lock();
        // An error is that of the device, which does not touch the memory any more.
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
            // SAFETY: allocated by us and freed once, behind the last copy.
            unsafe { sys::cuMemFreeHost(self.start.cast()) };
        }
    }
}

struct Shared {
    device: Arc<CudaDevice>,
    keep: usize,
    kept: Mutex<Vec<Pages>>,
}

/// Hands out page-locked buffers and takes them back. Cloning shares the pool.
#[derive(Clone)]
pub struct PinnedPool {
    shared: Arc<Shared>,
}

impl PinnedPool {
    /// A pool that keeps up to `keep` buffers.
    pub fn new(device: &Arc<CudaDevice>, keep: usize) -> Self {
        Self { shared: Arc::new(Shared { device: Arc::clone(device), keep, kept: Mutex::default() }) }
    }

    /// A buffer; its contents are whatever the last user left. Waits where all that are kept are in use by copies.
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

    /// A host surface in page-locked memory, writable.
    ///
    /// # Errors
    /// `BadArgument` for a size out of range, `Driver`.
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
    /// A copy of a host surface in page-locked memory.
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

/// Page-locked bytes that go back to their pool when dropped.
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
            // SAFETY: owned, initialised, and borrowed as self is.
            Some(pages) => unsafe { std::slice::from_raw_parts(pages.start, pages.bytes) },
            None => &[],
        }
    }

    /// Says that a copy from or to the memory was put on a stream, or may have been: it stays until that is done.
    pub fn in_use_on(&self, stream: &CudaStream) {
        let Some(pages) = &self.pages else { return };
        let mut uses = pages.uses.lock();
        match stream.record() {
            Ok(event) => {
                uses.events.retain(|(on, _)| *on != stream.id());
                uses.events.push((stream.id(), event));
            }
            // Without a mark the host waits; where that fails too, the memory is never used again.
            Err(_) => uses.is_unknown |= stream.synchronize().is_err_and(|error| error.is_recoverable()),
        }
    }

    /// The bytes, for writing.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.pages {
            // SAFETY: owned, initialised, and borrowed as self is.
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
            // After a change of size the old one must not fill the shelf for ever.
            let stale = std::mem::replace(&mut kept[other], pages);
            drop(kept);
            drop(stale);
        }
    }
}

/// Says that a copy from or to a host surface was put on a stream, where it lies in page-locked memory: the card reads and writes that
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
