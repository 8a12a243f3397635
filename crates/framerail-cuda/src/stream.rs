//! CUDA streams and events.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cudarc::driver::sys;
use parking_lot::Mutex;

use crate::{CudaDevice, Traffic, error::CudaError};

/// A queue of device work that runs in order, concurrently with other streams. Cloning shares it.
#[derive(Clone)]
pub struct CudaStream {
    inner: Arc<Handle>,
}

struct Handle {
    device: Arc<CudaDevice>,
    stream: sys::CUstream,
    /// Unique, unlike the driver's handles.
    id: u64,
    /// A stream of another library, which we must not destroy.
    is_foreign: bool,
}

impl Handle {
    fn new(device: &Arc<CudaDevice>, stream: sys::CUstream, is_foreign: bool) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self { device: Arc::clone(device), stream, id: NEXT_ID.fetch_add(1, Ordering::Relaxed), is_foreign }
    }
}

// SAFETY: any thread may use the driver's streams.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // Streams are not cached for later owners: the driver crashed when a memory pool was destroyed while a stream that had freed
        // memory to it went on being used (driver 580).
        if !self.is_foreign
            && let Ok(_entered) = self.device.enter()
        {
            // SAFETY: created by us and destroyed once; the driver finishes pending work.
            unsafe { sys::cuStreamDestroy_v2(self.stream) };
        }
    }
}

impl fmt::Debug for CudaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaStream({:?})", self.inner.stream)
    }
}

impl CudaStream {
    /// Creates a stream that does not synchronise with the legacy default stream.
    ///
    /// # Errors
    /// `Driver`.
    pub fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let entered = device.enter()?;
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: an out value, with a current context.
        entered.check(unsafe { sys::cuStreamCreate(&mut stream, flags) }, "creating a stream")?;
        Ok(Self { inner: Arc::new(Handle::new(device, stream, false)) })
    }

    /// Wraps a stream of another library in the same process, such as PyTorch's current one: `1` is the legacy default stream, `2` the
    /// per-thread default stream, anything else a `cudaStream_t`. Do not keep it after the call it was passed to, because its owner
    /// may destroy it; record an event instead.
    ///
    /// # Safety
    /// The handle belongs to the primary context of `device` and is valid while work is queued through this value.
    pub unsafe fn foreign(device: &Arc<CudaDevice>, handle: usize) -> Self {
        let stream = std::ptr::with_exposed_provenance_mut(handle);
        Self { inner: Arc::new(Handle::new(device, stream, true)) }
    }

    /// The device.
    pub fn device(&self) -> &Arc<CudaDevice> {
        &self.inner.device
    }

    /// The driver's handle, for other libraries (`cudaStream_t`). Valid while a clone of this stream lives.
    pub fn raw(&self) -> *mut std::ffi::c_void {
        self.inner.stream.cast()
    }

    /// Identifies the stream.
    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn handle(&self) -> sys::CUstream {
        self.inner.stream
    }

    /// Records an event after all work queued so far.
    ///
    /// # Errors
    /// `Driver`.
    pub fn record(&self) -> Result<CudaEvent, CudaError> {
        let event = CudaEvent::new(self.device(), false)?;
        event.record(self)?;
        Ok(event)
    }

    /// Makes later work on this stream wait for an event, without blocking the host.
    ///
    /// # Errors
    /// `Driver`.
    pub fn wait(&self, event: &CudaEvent) -> Result<(), CudaError> {
        let entered = self.device().enter()?;
        // SAFETY: a live stream and a live event.
        entered.check(unsafe { sys::cuStreamWaitEvent(self.handle(), event.inner.event, 0) }, "making one stream wait for another")
    }

    /// Blocks until all work queued here is done; counted in [`Traffic::syncs`].
    ///
    /// # Errors
    /// `Driver`, including errors of the work itself.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let entered = self.device().enter()?;
        Traffic::count_sync();
        // SAFETY: a live stream.
        entered.check(unsafe { sys::cuStreamSynchronize(self.handle()) }, "waiting for a stream")
    }

    /// Copies within device memory.
    ///
    /// # Safety
    /// Both ranges are live device memory until the copy is done, and ordered with their other uses.
    pub(crate) unsafe fn copy_device(&self, to: u64, from: u64, bytes: usize) -> Result<(), CudaError> {
        let entered = self.device().enter()?;
        Traffic::count_device_copy(bytes);
        // SAFETY: guaranteed by the caller.
        entered.check(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.handle()) }, "copying within the GPU")
    }

    /// Copies from another device's memory to that of this stream's device.
    ///
    /// # Safety
    /// As for [`CudaStream::copy_device`]; `from` is memory of `source`.
    pub(crate) unsafe fn copy_from_peer(&self, to: u64, source: &CudaDevice, from: u64, bytes: usize) -> Result<(), CudaError> {
        let entered = self.device().enter()?;
        Traffic::count_peer_copy(bytes);
        // SAFETY: guaranteed by the caller.
        unsafe { entered.copy_from_peer(to, (&source.context, from), bytes, self.handle()) }
    }
}

/// A CUDA event: a point in a stream's work. Cloning shares it.
#[derive(Clone)]
pub struct CudaEvent {
    inner: Arc<EventHandle>,
}

struct EventHandle {
    device: Arc<CudaDevice>,
    event: sys::CUevent,
    /// Timed events are rare and not cached.
    is_timed: bool,
}

/// Unused events, cached for reuse on their device: each decoded frame needs several.
#[derive(Default)]
pub(crate) struct SpareEvents {
    kept: Mutex<Vec<sys::CUevent>>,
}

/// Maximum number of cached events per device.
const MAX_SPARE_EVENTS: usize = 4096;

// SAFETY: any thread may use the driver's events.
unsafe impl Send for SpareEvents {}
// SAFETY: as above.
unsafe impl Sync for SpareEvents {}

// SAFETY: any thread may use the driver's events.
unsafe impl Send for EventHandle {}
// SAFETY: as above.
unsafe impl Sync for EventHandle {}

impl Drop for EventHandle {
    fn drop(&mut self) {
        if !self.is_timed {
            // Streams that already wait for this event keep waiting for the old position when it is recorded again.
            let mut kept = self.device.events.kept.lock();
            if kept.len() < MAX_SPARE_EVENTS {
                return kept.push(self.event);
            }
        }
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: created by us and destroyed once; allowed while recorded work is pending.
            unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}

impl fmt::Debug for CudaEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaEvent({:?})", self.inner.event)
    }
}

impl CudaEvent {
    /// Creates an event, to be recorded with [`CudaEvent::record`]; `timed` events can measure time.
    ///
    /// # Errors
    /// `Driver`.
    pub fn new(device: &Arc<CudaDevice>, timed: bool) -> Result<Self, CudaError> {
        let made = |event| Self { inner: Arc::new(EventHandle { device: Arc::clone(device), event, is_timed: timed }) };
        let spare = if timed { None } else { device.events.kept.lock().pop() };
        if let Some(event) = spare {
            return Ok(made(event));
        }
        let entered = device.enter()?;
        // Waiting threads sleep instead of spinning: there are more of them than cores, and CPU decoding needs the cores.
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32 | sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32;
        let mut event = std::ptr::null_mut();
        // SAFETY: an out value, with a current context.
        entered.check(unsafe { sys::cuEventCreate(&mut event, if timed { 0 } else { untimed }) }, "creating an event")?;
        Ok(made(event))
    }

    /// Records an event after all work that this process has queued on the device, on any stream and by any library; for memory
    /// that another library has used.
    ///
    /// # Errors
    /// `Driver`; also fails while another library captures a stream into a graph.
    pub fn of_everything(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let event = Self::new(device, false)?;
        device.enter()?.record_all(event.inner.event)?;
        Ok(event)
    }

    /// Records the event after all work queued on the stream so far.
    ///
    /// # Errors
    /// `Driver`.
    pub fn record(&self, stream: &CudaStream) -> Result<(), CudaError> {
        let entered = self.inner.device.enter()?;
        // SAFETY: a live event and a live stream of one context.
        entered.check(unsafe { sys::cuEventRecord(self.inner.event, stream.handle()) }, "recording an event")
    }

    /// Whether all work before the event is done.
    ///
    /// # Errors
    /// `Driver`, including errors of the work itself.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        let entered = self.inner.device.enter()?;
        // SAFETY: a live event.
        match unsafe { sys::cuEventQuery(self.inner.event) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => entered.check(code, "querying an event").map(|()| true),
        }
    }

    /// Blocks until the event is reached; counted in [`Traffic::syncs`] unless it already was.
    ///
    /// # Errors
    /// `Driver`, including errors of the work itself.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        if self.is_done()? {
            return Ok(());
        }
        let entered = self.inner.device.enter()?;
        Traffic::count_sync();
        // SAFETY: a live event.
        entered.check(unsafe { sys::cuEventSynchronize(self.inner.event) }, "waiting for an event")
    }

    /// Milliseconds from an earlier event to this one; both must be timed and reached.
    ///
    /// # Errors
    /// `Driver`.
    pub fn millis_since(&self, earlier: &CudaEvent) -> Result<f32, CudaError> {
        let entered = self.inner.device.enter()?;
        let mut millis = 0.0;
        // SAFETY: an out value and two live events.
        entered.check(unsafe { sys::cuEventElapsedTime(&mut millis, earlier.inner.event, self.inner.event) }, "timing")?;
        Ok(millis)
    }
}
