//! Asynchronous copies from page-locked host memory to device buffers.

use std::{collections::VecDeque, fmt, sync::Arc};

use crate::{CudaDevice, CudaError, CudaEvent, CudaStream, DeviceBuffer, PinnedBuffer, PinnedPool};

/// Maximum number of pending copies before the host waits for the oldest.
const MAX_UNDER_WAY: usize = 8;

/// Copies bytes to a GPU and keeps the page-locked source memory until they are copied.
pub struct Uploads {
    pool: PinnedPool,
    under_way: VecDeque<(PinnedBuffer, CudaEvent)>,
}

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uploads({} under way)", self.under_way.len())
    }
}

impl Uploads {
    /// Creates a queue of copies to this device.
    pub fn new(device: &Arc<CudaDevice>) -> Self {
        Self { pool: PinnedPool::new(device, MAX_UNDER_WAY), under_way: VecDeque::new() }
    }

    /// Queues a copy of `bytes`, which may be changed immediately afterwards.
    ///
    /// # Errors
    /// `BadArgument` when the range exceeds the target, `Driver`.
    pub fn queue(&mut self, bytes: &[u8], target: &DeviceBuffer, offset: usize, stream: &CudaStream) -> Result<(), CudaError> {
        self.retire(MAX_UNDER_WAY - 1)?;
        // Round to few sizes, so that copies of varying length can reuse buffers.
        let mut buffer = self.pool.buffer(bytes.len().max(4096).next_power_of_two())?;
        let room =
            buffer.bytes_mut().get_mut(..bytes.len()).ok_or_else(|| CudaError::argument("a page-locked buffer that is too short"))?;
        room.copy_from_slice(bytes);
        let queued = target.upload(offset, room, stream);
        buffer.in_use_on(stream);
        self.under_way.push_back((buffer, stream.record()?));
        queued
    }

    /// Releases the buffers of finished copies, and waits until at most `most` are pending.
    fn retire(&mut self, most: usize) -> Result<(), CudaError> {
        while let Some((_, event)) = self.under_way.front() {
            if self.under_way.len() > most {
                event.synchronize()?;
            } else if !event.is_done()? {
                break;
            }
            self.under_way.pop_front();
        }
        Ok(())
    }
}
