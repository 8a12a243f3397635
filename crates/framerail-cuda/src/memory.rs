//! Device memory: pooled buffers that track the work queued on them.
//!
//! A buffer carries events for its last write and the reads since. They order work from different streams on the device,
//! without blocking the host. A dropped buffer can therefore be reused at once, while work on it is still queued.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use cudarc::driver::sys;
use framerail_core::PoolStats;
use parking_lot::Mutex;

use crate::{CudaDevice, CudaEvent, CudaStream, Traffic, error::CudaError, nvdec::release_decoders};

/// Allocations are rounded up to this size, so that similar sizes share buffers.
const GRAIN_BYTES: usize = 64 * 1024;

/// Slower allocations are logged.
const SLOW: Duration = Duration::from_millis(1);

/// The work queued on a buffer.
#[derive(Default)]
struct Fence {
    written: Option<(u64, CudaEvent)>,
    /// The last read on each stream since that write.
    reads: Vec<(u64, CudaEvent)>,
    /// The memory is in use by work that no event covers: it must not be reused.
    is_unknown: bool,
}

struct Allocation {
    address: u64,
    bytes: usize,
    fence: Fence,
}

#[derive(Default)]
struct Shelf {
    kept: Vec<Allocation>,
    stats: PoolStats,
}

struct Shared {
    device: Arc<CudaDevice>,
    pool: sys::CUmemoryPool,
    /// The stream that orders allocations and frees.
    stream: CudaStream,
    keep_bytes: usize,
    shelf: Mutex<Shelf>,
    /// Ordinals of other devices that may access the pool's memory.
    open_to: Mutex<Vec<u32>>,
}

// SAFETY: any thread may use the driver's memory pools; the rest is behind a lock.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn allocate(&self, bytes: usize) -> Result<Allocation, CudaError> {
        let (entered, began) = (self.device.enter()?, Instant::now());
        let mut address = 0;
        // SAFETY: an out value, a live pool and a live stream of the current context.
        let code = unsafe { sys::cuMemAllocFromPoolAsync(&mut address, bytes, self.pool, self.stream.handle()) };
        entered.check(code, "allocating device memory").map_err(|error| self.device.explain(error, bytes))?;
        if began.elapsed() > SLOW {
            log::debug!("allocating {bytes} bytes of device memory took {:.1} ms", began.elapsed().as_secs_f64() * 1000.0);
        }
        // The memory is valid once the allocation has run on its stream.
        let event = self.stream.record()?;
        Ok(Allocation { address, bytes, fence: Fence { written: Some((self.stream.id(), event)), ..Fence::default() } })
    }

    /// Grants another device access to the memory if the link between them allows it; by default, pools are not accessible to others.
    fn open_to(&self, other: &CudaDevice) -> Result<(), CudaError> {
        let ordinal = other.info().ordinal;
        let mut open_to = self.open_to.lock();
        if open_to.contains(&ordinal) {
            return Ok(());
        }
        if other.reaches(&self.device) {
            let location =
                sys::CUmemLocation { type_: sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE, id: i32::try_from(ordinal).unwrap_or(0) };
            let flags = sys::CUmemAccess_flags::CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
            let access = sys::CUmemAccessDesc { location, flags };
            let entered = self.device.enter()?;
            // SAFETY: a live pool and one description.
            entered.check(unsafe { sys::cuMemPoolSetAccess(self.pool, &access, 1) }, "sharing memory with another device")?;
        }
        open_to.push(ordinal);
        Ok(())
    }

    /// Frees the memory after all work queued on it.
    fn free(&self, allocation: Allocation) {
        let Ok(_entered) = self.device.enter() else { return };
        let fence = &allocation.fence;
        for (_, event) in fence.written.iter().chain(&fence.reads) {
            if self.stream.wait(event).is_err() {
                return;
            }
        }
        // SAFETY: allocated from this pool, freed once, after its uses.
        unsafe { sys::cuMemFreeAsync(allocation.address, self.stream.handle()) };
    }

    fn give_back(&self, allocation: Allocation) {
        let mut excess = Vec::new();
        let mut shelf = self.shelf.lock();
        shelf.kept.push(allocation);
        let mut kept: usize = shelf.kept.iter().map(|kept| kept.bytes).sum();
        // Free the least recently used first: after a change of size, those have the old size.
        while kept > self.keep_bytes && !shelf.kept.is_empty() {
            let oldest = shelf.kept.remove(0);
            kept -= oldest.bytes;
            shelf.stats.bytes -= oldest.bytes;
            excess.push(oldest);
        }
        drop(shelf);
        excess.into_iter().for_each(|allocation| self.free(allocation));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let kept = std::mem::take(&mut self.shelf.get_mut().kept);
        kept.into_iter().for_each(|allocation| self.free(allocation));
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: created by us and destroyed once; the driver finishes pending work first.
            unsafe { sys::cuMemPoolDestroy(self.pool) };
        }
    }
}

/// All pools of the process, trimmed when memory runs out.
static POOLS: Mutex<Vec<Weak<Shared>>> = Mutex::new(Vec::new());

/// Callback that lets other libraries release memory.
static ON_PRESSURE: OnceLock<fn(u32)> = OnceLock::new();

/// Registers a function that makes another library release memory of the device with this ordinal, before an allocation fails. Only
/// the first registration counts.
pub fn on_memory_pressure(give_back: fn(u32)) {
    let _ = ON_PRESSURE.set(give_back);
}

/// Releases everything cached on a device: free buffers of all pools, and decoders. Waits for the work that uses it.
pub fn release_memory(device: &CudaDevice) {
    release_decoders(device);
    let pools: Vec<DevicePool> = POOLS.lock().iter().filter_map(Weak::upgrade).map(|shared| DevicePool { shared }).collect();
    pools.iter().filter(|pool| pool.device().id() == device.id()).for_each(DevicePool::trim);
    if let Some(give_back) = ON_PRESSURE.get() {
        give_back(device.info().ordinal);
    }
}

/// Allocates device buffers and reclaims them when dropped. Cloning shares the pool.
#[derive(Clone)]
pub struct DevicePool {
    shared: Arc<Shared>,
}

impl fmt::Debug for DevicePool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DevicePool({:?})", self.stats())
    }
}

impl DevicePool {
    /// Creates a pool that caches up to `keep_bytes` of free buffers.
    ///
    /// # Errors
    /// `Driver`.
    pub fn new(device: &Arc<CudaDevice>, keep_bytes: usize) -> Result<Self, CudaError> {
        let entered = device.enter()?;
        // SAFETY: all-zero is valid for this plain C struct and is the required value of its reserved fields.
        let mut props: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
        props.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
        props.handleTypes = sys::CUmemAllocationHandleType::CU_MEM_HANDLE_TYPE_NONE;
        props.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
        props.location.id = i32::try_from(device.info().ordinal).unwrap_or(0);
        let mut pool = std::ptr::null_mut();
        // SAFETY: an out value and valid properties.
        entered.check(unsafe { sys::cuMemPoolCreate(&mut pool, &props) }, "creating a memory pool")?;
        let stream = CudaStream::new(device)?;
        let shared =
            Arc::new(Shared { device: Arc::clone(device), pool, stream, keep_bytes, shelf: Mutex::default(), open_to: Mutex::default() });
        let mut pools = POOLS.lock();
        pools.retain(|known| known.strong_count() > 0);
        pools.push(Arc::downgrade(&shared));
        Ok(Self { shared })
    }

    /// The device.
    pub fn device(&self) -> &Arc<CudaDevice> {
        &self.shared.device
    }

    /// Returns a buffer of at least this size, aligned to 256 bytes; its contents are undefined (left from the last use).
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub fn buffer(&self, bytes: usize) -> Result<DeviceBuffer, CudaError> {
        let rounded = bytes.max(1).next_multiple_of(GRAIN_BYTES);
        let mut shelf = self.shared.shelf.lock();
        let found = shelf.kept.iter().rposition(|kept| kept.bytes == rounded);
        if let Some(index) = found {
            shelf.stats.reused += 1;
            let allocation = shelf.kept.remove(index);
            drop(shelf);
            return Ok(self.wrap(allocation, bytes));
        }
        shelf.stats.allocated += 1;
        shelf.stats.bytes += rounded;
        shelf.stats.high_water_bytes = shelf.stats.high_water_bytes.max(shelf.stats.bytes);
        drop(shelf);
        let allocated = match self.shared.allocate(rounded) {
            Err(CudaError::OutOfMemory { .. }) => {
                release_memory(&self.shared.device);
                self.shared.allocate(rounded)
            }
            other => other,
        };
        match allocated {
            Ok(allocation) => Ok(self.wrap(allocation, bytes)),
            Err(error) => {
                self.shared.shelf.lock().stats.bytes -= rounded;
                Err(error)
            }
        }
    }

    fn wrap(&self, allocation: Allocation, bytes: usize) -> DeviceBuffer {
        let Allocation { address, bytes: allocated, fence } = allocation;
        DeviceBuffer { address, bytes, allocated, fence: Mutex::new(fence), home: Home::Pool(Arc::clone(&self.shared)) }
    }

    /// Statistics so far.
    pub fn stats(&self) -> PoolStats {
        self.shared.shelf.lock().stats
    }

    /// Frees cached buffers beyond this many bytes, asynchronously.
    pub fn shrink(&self, keep_bytes: usize) {
        let mut shelf = self.shared.shelf.lock();
        let mut kept: usize = shelf.kept.iter().map(|kept| kept.bytes).sum();
        let mut excess = Vec::new();
        while kept > keep_bytes && !shelf.kept.is_empty() {
            let oldest = shelf.kept.remove(0);
            kept -= oldest.bytes;
            shelf.stats.bytes -= oldest.bytes;
            excess.push(oldest);
        }
        drop(shelf);
        excess.into_iter().for_each(|allocation| self.shared.free(allocation));
    }

    /// Returns all cached memory to the driver; waits for the work that still uses it.
    pub fn trim(&self) {
        let kept = {
            let mut shelf = self.shared.shelf.lock();
            let kept = std::mem::take(&mut shelf.kept);
            let freed: usize = kept.iter().map(|kept| kept.bytes).sum();
            shelf.stats.bytes -= freed;
            kept
        };
        kept.into_iter().for_each(|allocation| self.shared.free(allocation));
        // The pool holds the memory until the free has run. An error here is the device's and is reported by the next call.
        if let (Ok(()), Ok(_entered)) = (self.shared.stream.synchronize(), self.shared.device.enter()) {
            // SAFETY: a live pool.
            unsafe { sys::cuMemPoolTrimTo(self.shared.pool, 0) };
        }
    }
}

/// Device memory that returns to its pool when dropped.
///
/// Bracket queued work with [`DeviceBuffer::begin_read`] and [`DeviceBuffer::end_read`], or with
/// `begin_write` and `end_write`; this orders it with all other uses on any stream.
pub struct DeviceBuffer {
    address: u64,
    bytes: usize,
    allocated: usize,
    fence: Mutex<Fence>,
    home: Home,
}

/// The owner of a buffer's memory.
enum Home {
    Pool(Arc<Shared>),
    /// Another library; dropping the boxed value releases the memory.
    Foreign(Arc<CudaDevice>, #[expect(dead_code, reason = "held until the buffer is dropped")] Box<dyn Any + Send + Sync>),
}

impl Home {
    fn device(&self) -> &Arc<CudaDevice> {
        match self {
            Home::Pool(shared) => &shared.device,
            Home::Foreign(device, _) => device,
        }
    }

    /// Grants another device access, if the memory belongs to a pool.
    fn open_to(&self, other: &CudaDevice) -> Result<(), CudaError> {
        match self {
            Home::Pool(shared) => shared.open_to(other),
            Home::Foreign(..) => Ok(()),
        }
    }
}

impl fmt::Debug for DeviceBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceBuffer({} bytes)", self.bytes)
    }
}

impl DeviceBuffer {
    /// Wraps memory of another library, which may be used after the `ready` event. `kept` is dropped once the work queued on the memory is
    /// done, or ordered by the owner's streams.
    ///
    /// # Safety
    /// `address` is device memory of this size while `kept` lives, and nothing else writes it meanwhile.
    pub unsafe fn foreign(
        device: &Arc<CudaDevice>,
        (address, bytes): (u64, usize),
        ready: CudaEvent,
        kept: Box<dyn Any + Send + Sync>,
    ) -> DeviceBuffer {
        // No stream has this ID.
        let fence = Fence { written: Some((0, ready)), ..Fence::default() };
        DeviceBuffer { address, bytes, allocated: bytes, fence: Mutex::new(fence), home: Home::Foreign(Arc::clone(device), kept) }
    }

    /// Device address of the first byte.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the size is 0.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The device.
    pub fn device(&self) -> &Arc<CudaDevice> {
        self.home.device()
    }

    /// Makes the stream wait until the contents are written. Returns the address.
    ///
    /// # Errors
    /// `Driver`.
    pub fn begin_read(&self, stream: &CudaStream) -> Result<u64, CudaError> {
        let fence = self.fence.lock();
        if let Some((on, event)) = &fence.written
            && *on != stream.id()
        {
            stream.wait(event)?;
        }
        Ok(self.address)
    }

    /// Records that reading work has been queued on the stream.
    ///
    /// # Errors
    /// `Driver`.
    pub fn end_read(&self, stream: &CudaStream) -> Result<(), CudaError> {
        let mut fence = self.fence.lock();
        let on = stream.id();
        if let Some((_, event)) = fence.reads.iter().find(|(known, _)| *known == on) {
            return event.record(stream);
        }
        fence.reads.push((on, stream.record()?));
        Ok(())
    }

    /// Makes the stream wait until no other work uses the contents. Returns the address.
    ///
    /// # Errors
    /// `Driver`.
    pub fn begin_write(&self, stream: &CudaStream) -> Result<u64, CudaError> {
        let fence = self.fence.lock();
        for (on, event) in fence.written.iter().chain(&fence.reads) {
            if *on != stream.id() {
                stream.wait(event)?;
            }
        }
        Ok(self.address)
    }

    /// Records that writing work has been queued on the stream.
    ///
    /// # Errors
    /// `Driver`.
    pub fn end_write(&self, stream: &CudaStream) -> Result<(), CudaError> {
        let mut fence = self.fence.lock();
        fence.reads.clear();
        // A new event each time: others may hold a clone of the old one.
        fence.written = Some((stream.id(), stream.record()?));
        Ok(())
    }

    /// Records that another library has used the buffer on unknown streams and queues no more work: everything queued on
    /// the device now is ordered before any later use. Set `has_written` if it may have changed the contents.
    ///
    /// # Errors
    /// `Driver`. The memory is not reused then.
    pub fn end_foreign_use(&self, has_written: bool) -> Result<(), CudaError> {
        let event = CudaEvent::of_everything(self.device());
        let mut fence = self.fence.lock();
        match event {
            // No stream has this ID.
            Ok(event) if has_written => {
                fence.reads.clear();
                fence.written = Some((0, event));
            }
            Ok(event) => {
                fence.reads.retain(|(on, _)| *on != 0);
                fence.reads.push((0, event));
            }
            Err(error) => {
                fence.is_unknown = true;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The event after the last write.
    pub fn written(&self) -> Option<CudaEvent> {
        self.fence.lock().written.as_ref().map(|(_, event)| event.clone())
    }

    /// Copies from host memory. Page-locked `bytes` must stay unchanged until the stream has copied them; pageable memory
    /// is read before this returns.
    ///
    /// # Errors
    /// `BadArgument` when the range exceeds the buffer, `Driver`.
    pub fn upload(&self, offset: usize, bytes: &[u8], stream: &CudaStream) -> Result<(), CudaError> {
        self.check_range(offset, bytes.len())?;
        let to = self.begin_write(stream)? + offset as u64;
        let entered = self.device().enter()?;
        Traffic::count_upload(bytes.len());
        // SAFETY: the range was checked; the driver reads the live slice before it returns or, if page-locked, as documented.
        entered.check(unsafe { sys::cuMemcpyHtoDAsync_v2(to, bytes.as_ptr().cast(), bytes.len(), stream.handle()) }, "uploading")?;
        self.end_write(stream)
    }

    /// Copies to host memory and waits.
    ///
    /// # Errors
    /// `BadArgument` when the range exceeds the buffer, `Driver`.
    pub fn download(&self, offset: usize, bytes: &mut [u8], stream: &CudaStream) -> Result<(), CudaError> {
        self.check_range(offset, bytes.len())?;
        let from = self.begin_read(stream)? + offset as u64;
        let entered = self.device().enter()?;
        Traffic::count_download(bytes.len());
        // SAFETY: the range was checked; the target lives until the stream has been synchronised.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr().cast(), from, bytes.len(), stream.handle()) };
        entered.check(code, "downloading")?;
        stream.synchronize()
    }

    /// Copies from another buffer, possibly on another device; the stream belongs to this buffer's device.
    ///
    /// # Errors
    /// `BadArgument` when a range exceeds its buffer, `Driver`.
    pub fn copy_from(&self, offset: usize, source: &DeviceBuffer, from: usize, bytes: usize, stream: &CudaStream) -> Result<(), CudaError> {
        self.check_range(offset, bytes)?;
        source.check_range(from, bytes)?;
        let (to, from) = (self.begin_write(stream)? + offset as u64, source.begin_read(stream)? + from as u64);
        if source.device().id() == self.device().id() {
            // SAFETY: both ranges were checked and are ordered by their fences.
            unsafe { stream.copy_device(to, from, bytes)? };
        } else {
            self.home.open_to(source.device())?;
            source.home.open_to(self.device())?;
            // SAFETY: as above; the source is memory of its own device.
            unsafe { stream.copy_from_peer(to, source.device(), from, bytes)? };
        }
        source.end_read(stream)?;
        self.end_write(stream)
    }

    /// Copies to memory of another library on the same GPU.
    ///
    /// # Errors
    /// `BadArgument` when the range exceeds the buffer, `Driver`.
    ///
    /// # Safety
    /// `to` is device memory of at least `bytes`, whose other uses are ordered with this stream.
    pub unsafe fn copy_to_foreign(&self, from: usize, to: u64, bytes: usize, stream: &CudaStream) -> Result<(), CudaError> {
        self.check_range(from, bytes)?;
        let from = self.begin_read(stream)? + from as u64;
        // SAFETY: the source was checked and is ordered by its fence; the caller guarantees the target.
        unsafe { stream.copy_device(to, from, bytes)? };
        self.end_read(stream)
    }

    /// Copies from memory of another library on the same GPU.
    ///
    /// # Errors
    /// `BadArgument` when the range exceeds the buffer, `Driver`.
    ///
    /// # Safety
    /// `from` is device memory of at least `bytes`, whose other uses are ordered with this stream.
    pub unsafe fn copy_from_foreign(&self, to: usize, from: u64, bytes: usize, stream: &CudaStream) -> Result<(), CudaError> {
        self.check_range(to, bytes)?;
        let to = self.begin_write(stream)? + to as u64;
        // SAFETY: the target was checked and is ordered by its fence; the caller guarantees the source.
        unsafe { stream.copy_device(to, from, bytes)? };
        self.end_write(stream)
    }

    /// Sets every byte to `value`.
    ///
    /// # Errors
    /// `Driver`.
    pub fn fill(&self, value: u8, stream: &CudaStream) -> Result<(), CudaError> {
        let to = self.begin_write(stream)?;
        let entered = self.device().enter()?;
        // SAFETY: the whole of a live buffer.
        entered.check(unsafe { sys::cuMemsetD8Async(to, value, self.bytes, stream.handle()) }, "filling device memory")?;
        self.end_write(stream)
    }

    fn check_range(&self, offset: usize, bytes: usize) -> Result<(), CudaError> {
        match offset.checked_add(bytes) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(CudaError::argument(format!("{bytes} bytes at {offset} do not fit into a buffer of {}", self.bytes))),
        }
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        let fence = std::mem::take(self.fence.get_mut());
        let Home::Pool(home) = &self.home else {
            // The owner may reuse the memory immediately. Usually the work is already done.
            for (_, event) in fence.written.iter().chain(&fence.reads) {
                if let Err(error) = event.synchronize() {
                    log::debug!("work on another library's memory: {error}");
                }
            }
            return;
        };
        if fence.is_unknown {
            log::debug!("{} bytes of device memory are not used again: another library may still be using them", self.allocated);
            return;
        }
        home.give_back(Allocation { address: self.address, bytes: self.allocated, fence });
    }
}
