//! Copies from page-locked host memory to device buffers that the host does not wait for.

use std::{collections::VecDeque, fmt, sync::Arc};

use crate::{CudaDevice, CudaError, CudaEvent, CudaStream, DeviceBuffer, PinnedBuffer, PinnedPool};

/// Copies that may be under way before the host waits for the oldest.
const MAX_UNDER_WAY: usize = 8;

/// Copies bytes to a card and keeps the page-locked memory that it reads them from.
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
    /// For copies to this card.
    pub fn new(device: &Arc<CudaDevice>) -> Self {
        Self { pool: PinnedPool::new(device, MAX_UNDER_WAY), under_way: VecDeque::new() }
    }

    /// Queues a copy of `bytes`, which may be changed at once.
    ///
    /// # Errors
    /// `BadArgument` when they do not fit, `Driver`.
    pub fn queue(&mut self, bytes: &[u8], target: &DeviceBuffer, offset: usize, stream: &CudaStream) -> Result<(), CudaError> {
        self.retire(MAX_UNDER_WAY - 1)?;
        // Few sizes, so that copies of changing length find a buffer that was used before.
        let mut buffer = self.pool.buffer(bytes.len().max(4096).next_power_of_two())?;
        let room =
            buffer.bytes_mut().get_mut(..bytes.len()).ok_or_else(|| CudaError::argument("a page-locked buffer that is too short"))?;
        room.copy_from_slice(bytes);
        let queued = target.upload(offset, room, stream);
        buffer.in_use_on(stream);
        self.under_way.push_back((buffer, stream.record()?));
        queued
    }

    /// Lets go of what the card has read, and waits until no more than `most` are under way.
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
