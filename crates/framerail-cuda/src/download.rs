//! Copies from device buffers to page-locked host memory that the host does not wait for.

use std::fmt;

use cudarc::driver::sys;

use crate::{CudaError, CudaEvent, CudaStream, DeviceBuffer, PinnedBuffer, PinnedPool, Traffic};

/// A copy to the host that is under way. It may be dropped: the memory is not handed out while it is written.
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
    /// Queues the copy of a part of a buffer behind what writes it.
    ///
    /// # Errors
    /// `BadArgument` when the part reaches beyond the buffer, `Driver`.
    pub fn queue(source: &DeviceBuffer, offset: usize, bytes: usize, pool: &PinnedPool, stream: &CudaStream) -> Result<Self, CudaError> {
        if offset.checked_add(bytes).is_none_or(|end| end > source.len()) {
            return Err(CudaError::argument(format!("a download of {bytes} bytes at {offset} from a buffer of {}", source.len())));
        }
        // Few sizes, so that downloads of changing length find a buffer that was used before.
        let mut buffer = pool.buffer(bytes.max(4096).next_power_of_two())?;
        let from = source.begin_read(stream)? + offset as u64;
        let entered = stream.device().enter()?;
        let to = buffer.bytes_mut().as_mut_ptr().cast();
        // SAFETY: the range was checked; the target has this many bytes, and stays until the event behind the copy was waited for.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(to, from, bytes, stream.handle()) };
        buffer.in_use_on(stream);
        entered.check(code, "queueing a download")?;
        let download = Self { buffer: Some(buffer), done: stream.record()? };
        Traffic::count_download(bytes);
        source.end_read(stream)?;
        Ok(download)
    }

    /// Whether the bytes are there.
    ///
    /// # Errors
    /// `Driver`: also of the work before it.
    pub fn is_done(&self) -> Result<bool, CudaError> {
        self.done.is_done()
    }

    /// Waits and gives the bytes, at the start of a buffer that may be longer; counted in [`Traffic::syncs`] unless they were
    /// there.
    ///
    /// # Errors
    /// `Driver`: also of the work before it.
    pub fn wait(mut self) -> Result<PinnedBuffer, CudaError> {
        self.done.synchronize()?;
        self.buffer.take().ok_or_else(|| CudaError::argument("a download that was waited for already"))
    }
}
