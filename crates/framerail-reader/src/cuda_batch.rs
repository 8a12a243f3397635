//! A batch in the memory of a CUDA GPU.

use std::sync::Arc;

use framerail_cuda::{CudaDevice, DeviceBuffer};

use crate::batch::DenseTensor;

/// A dense batch in device memory. Dropping it returns the memory to its pool, once the work queued on it has finished.
pub type CudaBatch = DenseTensor<Arc<DeviceBuffer>>;

impl CudaBatch {
    /// The elements, with the marks that order their uses: call `begin_read` before reading and `end_read` after.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.memory
    }

    /// The GPU.
    pub fn device(&self) -> &Arc<CudaDevice> {
        self.memory.device()
    }
}
