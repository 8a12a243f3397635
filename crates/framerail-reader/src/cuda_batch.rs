//! A batch in the memory of a CUDA card.

use std::sync::Arc;

use framerail_core::{DType, TensorLayout};
use framerail_cuda::{CudaDevice, DeviceBuffer};

use crate::batch::PictureShape;

/// A dense batch in device memory. Dropping it gives the memory back to its pool, after the work queued on it.
#[derive(Debug)]
pub struct CudaBatch {
    count: usize,
    picture: PictureShape,
    buffer: DeviceBuffer,
}

impl CudaBatch {
    pub(crate) fn new(count: usize, picture: PictureShape, buffer: DeviceBuffer) -> Self {
        Self { count, picture, buffer }
    }

    /// Lengths of the axes, in the order that the layout names; dense, no pitch.
    pub fn shape(&self) -> [usize; 4] {
        let [a, b, c] = self.picture.axes;
        [self.count, a, b, c]
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.picture.dtype
    }

    /// Order of the axes.
    pub fn layout(&self) -> TensorLayout {
        self.picture.layout
    }

    /// The elements, with the marks that order their uses: bracket reads by `begin_read` and `end_read`.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.buffer
    }

    /// The memory alone.
    pub fn into_buffer(self) -> DeviceBuffer {
        self.buffer
    }

    /// The card.
    pub fn device(&self) -> &Arc<CudaDevice> {
        self.buffer.device()
    }
}
