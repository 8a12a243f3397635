//! A batch in the memory of a CUDA card.

use std::sync::Arc;

use framerail_cuda::{CudaDevice, DeviceBuffer};

use crate::batch::DenseTensor;

/// A dense batch in device memory. Dropping it gives the memory back to its pool, after the work queued on it.
pub type CudaBatch = DenseTensor<Arc<DeviceBuffer>>;

impl CudaBatch {
    /// The elements, with the marks that order their uses: bracket reads by `begin_read` and `end_read`.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.memory
    }

    /// The card.
    pub fn device(&self) -> &Arc<CudaDevice> {
        self.memory.device()
    }
}
