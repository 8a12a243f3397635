//! Asynchronous copies from device buffers to page-locked host memory.

use std::fmt;

use cudarc::driver::sys;

use crate::{CudaError, CudaEvent, CudaStream, DeviceBuffer, PinnedBuffer, PinnedPool, Traffic};

/// A pending copy to the host. Safe to drop: its memory is not reused before the copy is done.
pub struct Download {
    buffer: Option<PinnedBuffer>,
    done: CudaEvent,
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download({:?})", self.buffer)
    }
}

impl Download {
    /// Queues a copy of part of a buffer, ordered after its last write.
    ///
    /// # Errors
    /// `BadArgument` when the range exceeds the buffer, `Driver`.
    pub fn queue(source: &DeviceBuffer, offset: usize, bytes: usize, pool: &PinnedPool, stream: &CudaStream) -> Result<Self, CudaError> {
        if offset.checked_add(bytes).is_none_or(|end| end > source.len()) {
            return Err(CudaError::argument(format!("a download of {bytes} bytes at {offset} from a buffer of {}", source.len())));
        }
        // Round to few sizes, so that downloads of varying length can reuse buffers.
        let mut buffer = pool.buffer(bytes.max(4096).next_power_of_two())?;
        let from = source.begin_read(stream)? + offset as u64;
        let entered = stream.device().enter()?;
        let to = buffer.bytes_mut().as_mut_ptr().cast();
        // SAFETY: the range was checked; the target is large enough and is kept until the event after the copy was waited for.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes, stream.handle()) };
        buffer.in_use_on(stream);
        entered.check(code, "queueing a download")?;
        let download = Self { buffer: Some(buffer), done: stream.record()? };
        Traffic::count_download(bytes);
        source.end_read(stream)?;
        Ok(download)
    }

    /// Whether the copy is done.
    ///
    /// # Errors
    /// `Driver`, including errors of earlier work.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.done.is_done()
    }

    /// Waits for the copy and returns the buffer, which may be longer than the data at its start. Counted in [`Traffic::syncs`]
    /// unless the copy was already done.
    ///
    /// # Errors
    /// `Driver`, including errors of earlier work.
    pub fn wait(mut self) -> Result<PinnedBuffer, CudaError> {
        self.done.synchronize()?;
        self.buffer.take().ok_or_else(|| CudaError::argument("a download that was waited for already"))
    }
}
