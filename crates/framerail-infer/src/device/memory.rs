//! Stream and memory of a detector on a GPU.

use std::sync::Arc;

use framerail_cuda::{CudaDevice, CudaError, CudaStream, DevicePool, PinnedPool};

/// Unused device buffers that are kept, mostly those of uploaded frames and boxes.
const KEEP_BYTES: usize = 256 << 20;

/// Unused page-locked buffers that are kept: one for each batch in flight.
const KEEP_PINNED: usize = crate::CudaOptions::MAX_SLOTS;

/// A stream and pools. Clones share them.
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
