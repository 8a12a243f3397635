//! Where a detector's work is queued on a card, and what memory it takes.

use std::sync::Arc;

use framerail_cuda::{CudaDevice, CudaError, CudaStream, DevicePool, PinnedPool};

/// Device buffers that are not in use and are kept: those of uploaded frames and of found boxes, mostly.
const KEEP_BYTES: usize = 256 << 20;

/// Page-locked buffers that are kept: one for each batch in flight.
const KEEP_PINNED: usize = crate::CudaOptions::MAX_SLOTS;

/// A stream and pools. Cloning shares them.
#[derive(Clone)]
pub(super) struct DeviceMemory {
    pub(super) pool: DevicePool,
    pub(super) pinned: PinnedPool,
    pub(super) stream: CudaStream,
}

impl DeviceMemory {
    pub(super) fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let (pool, pinned) = (DevicePool::new(device, KEEP_BYTES)?, PinnedPool::new(device, KEEP_PINNED));
        Ok(Self { pool, pinned, stream: CudaStream::new(device)? })
    }
}
