//! Queues of device work, and marks in them.

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

/// A queue of device work: what is put on it runs in order, beside other streams. Cloning shares it.
#[derive(Clone)]
pub struct CudaStream {
    inner: Arc<Handle>,
}

struct Handle {
    device: Arc<CudaDevice>,
    stream: sys::CUstream,
    /// Never given twice, unlike the driver's handles.
    id: u64,
    /// Another library's stream is not ours to destroy.
    is_foreign: bool,
}

impl Handle {
    fn new(device: &Arc<CudaDevice>, stream: sys::CUstream, is_foreign: bool) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self { device: Arc::clone(device), stream, id: NEXT_ID.fetch_add(1, Ordering::Relaxed), is_foreign }
    }
}

/// Streams that were used before, kept for the next file: making and destroying one takes the driver's lock.
#[derive(Default)]
pub(crate) struct SpareStreams {
    kept: Mutex<Vec<sys::CUstream>>,
}

/// Streams that a device keeps.
const MAX_SPARE_STREAMS: usize = 64;

// SAFETY: the driver's streams may be used from any thread.
unsafe impl Send for SpareStreams {}
// SAFETY: as above.
unsafe impl Sync for SpareStreams {}

// SAFETY: the driver's streams may be used from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_foreign {
            return;
        }
        // What it still holds comes before what its next owner puts on it.
        let mut kept = self.device.streams.kept.lock();
        if kept.len() < MAX_SPARE_STREAMS {
            return kept.push(self.stream);
        }
        drop(kept);
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: created by us and destroyed once; the driver finishes what is queued.
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
    /// A new queue, which does not wait for the legacy default stream.
    ///
    /// # Errors
    /// `Driver`.
    pub fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let spare = device.streams.kept.lock().pop();
        if let Some(stream) = spare {
            return Ok(Self { inner: Arc::new(Handle::new(device, stream, false)) });
        }
        let entered = device.enter()?;
        let mut stream = std::ptr::null_mut();
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: an out value, with a current context.
        entered.check(unsafe { sys::cuStreamCreate(&mut stream, flags) }, "making a stream")?;
        Ok(Self { inner: Arc::new(Handle::new(device, stream, false)) })
    }

    /// A stream of another library in the same process, such as PyTorch's current one: `1` is the legacy default stream, `2` the
    /// default stream of each thread, anything else a `cudaStream_t`. Not to be kept beyond the call that it was given for: its owner
    /// may destroy it. What must be known later is an event on it.
    ///
    /// # Safety
    /// The handle belongs to the primary context of `device` and stays valid as long as work is put on it through this value.
    pub unsafe fn foreign(device: &Arc<CudaDevice>, handle: usize) -> Self {
        let stream = std::ptr::with_exposed_provenance_mut(handle);
        Self { inner: Arc::new(Handle::new(device, stream, true)) }
    }

    /// The card.
    pub fn device(&self) -> &Arc<CudaDevice> {
        &self.inner.device
    }

    /// The driver's handle, for other libraries (`cudaStream_t`). Valid while a clone of this value lives.
    pub fn raw(&self) -> *mut std::ffi::c_void {
        self.inner.stream.cast()
    }

    /// Tells streams apart.
    pub(crate) fn id(&self) -> u64 {
        self.inner.id
    }

    pub(crate) fn handle(&self) -> sys::CUstream {
        self.inner.stream
    }

    /// A mark behind everything put here so far.
    ///
    /// # Errors
    /// `Driver`.
    pub fn record(&self) -> Result<CudaEvent, CudaError> {
        let event = CudaEvent::new(self.device(), false)?;
        event.record(self)?;
        Ok(event)
    }

    /// Lets what is put here from now on wait for a mark; the host does not wait.
    ///
    /// # Errors
    /// `Driver`.
    pub fn wait(&self, event: &CudaEvent) -> Result<(), CudaError> {
        let entered = self.device().enter()?;
        // SAFETY: a live stream and a live event.
        entered.check(unsafe { sys::cuStreamWaitEvent(self.handle(), event.inner.event, 0) }, "ordering two streams")
    }

    /// Makes the host wait for everything put here; counted in [`Traffic::syncs`].
    ///
    /// # Errors
    /// `Driver`: also of the work itself.
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
        // SAFETY: the caller's word.
        entered.check(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, self.handle()) }, "copying within the GPU")
    }

    /// Copies from the memory of another device to that of this stream's.
    ///
    /// # Safety
    /// As [`CudaStream::copy_device`]; `from` is memory of `source`.
    pub(crate) unsafe fn copy_from_peer(&self, to: u64, source: &CudaDevice, from: u64, bytes: usize) -> Result<(), CudaError> {
        let entered = self.device().enter()?;
        Traffic::count_peer_copy(bytes);
        // SAFETY: the caller's word.
        unsafe { entered.copy_from_peer(to, (&source.context, from), bytes, self.handle()) }
    }
}

/// A mark in a stream. Cloning shares it.
#[derive(Clone)]
pub struct CudaEvent {
    inner: Arc<EventHandle>,
}

struct EventHandle {
    device: Arc<CudaDevice>,
    event: sys::CUevent,
    /// Timed events are few and not kept.
    is_timed: bool,
}

/// Events that were used before, kept for the next marks of their device: each decoded picture needs several.
#[derive(Default)]
pub(crate) struct SpareEvents {
    kept: Mutex<Vec<sys::CUevent>>,
}

/// Events that a device keeps.
const MAX_SPARE_EVENTS: usize = 4096;

// SAFETY: the driver's events may be used from any thread.
unsafe impl Send for SpareEvents {}
// SAFETY: as above.
unsafe impl Sync for SpareEvents {}

// SAFETY: the driver's events may be used from any thread.
unsafe impl Send for EventHandle {}
// SAFETY: as above.
unsafe impl Sync for EventHandle {}

impl Drop for EventHandle {
    fn drop(&mut self) {
        if !self.is_timed {
            // Streams that wait for its mark keep what they wait for when it is recorded again.
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
    /// A mark to be put into a stream by [`CudaEvent::record`]; `timed` ones can be subtracted.
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
        // Threads that wait sleep: there are more of them than cores, and decoding on the CPU needs those.
        let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32 | sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC as u32;
        let mut event = std::ptr::null_mut();
        // SAFETY: an out value, with a current context.
        entered.check(unsafe { sys::cuEventCreate(&mut event, if timed { 0 } else { untimed }) }, "making an event")?;
        Ok(made(event))
    }

    /// A mark behind everything that is queued on the device by this process, on whatever stream and by whatever library: for memory
    /// that another library has used.
    ///
    /// # Errors
    /// `Driver`: also while another library captures a stream into a graph.
    pub fn of_everything(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let event = Self::new(device, false)?;
        device.enter()?.record_all(event.inner.event)?;
        Ok(event)
    }

    /// Puts the mark behind everything that the stream holds so far.
    ///
    /// # Errors
    /// `Driver`.
    pub fn record(&self, stream: &CudaStream) -> Result<(), CudaError> {
        let entered = self.inner.device.enter()?;
        // SAFETY: a live event and a live stream of one context.
        entered.check(unsafe { sys::cuEventRecord(self.inner.event, stream.handle()) }, "marking a stream")
    }

    /// Whether everything before the mark is done.
    ///
    /// # Errors
    /// `Driver`: also of the work itself.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        let entered = self.inner.device.enter()?;
        // SAFETY: a live event.
        match unsafe { sys::cuEventQuery(self.inner.event) } {
            sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => entered.check(code, "asking for an event").map(|()| true),
        }
    }

    /// Makes the host wait for the mark; counted in [`Traffic::syncs`] unless it was reached already.
    ///
    /// # Errors
    /// `Driver`: also of the work itself.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        if self.is_done()? {
            return Ok(());
        }
        let entered = self.inner.device.enter()?;
        Traffic::count_sync();
        // SAFETY: a live event.
        entered.check(unsafe { sys::cuEventSynchronize(self.inner.event) }, "waiting for an event")
    }

    /// Milliseconds from an earlier mark to this one; both timed and reached.
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
