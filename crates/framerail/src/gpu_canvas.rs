//! Drawing in place on frames in GPU memory.

use std::sync::Arc;

use framerail_core::{Frame, Surface};
use framerail_cuda::{CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool, Traffic, Uploads};
use framerail_pipeline::StageContext;

use crate::devices::account;

/// Device memory kept for scratch buffers and copies of frames that another branch still holds.
const KEPT_BYTES: usize = 128 << 20;

/// One worker's stream and memory on the GPU that holds its frames.
pub(crate) struct GpuCanvas {
    pub(crate) stream: CudaStream,
    pub(crate) pool: DevicePool,
    /// Uploads in flight, other than frames.
    pub(crate) uploads: Uploads,
}

impl GpuCanvas {
    fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        Ok(Self { stream: CudaStream::new(device)?, pool: DevicePool::new(device, KEPT_BYTES)?, uploads: Uploads::new(device) })
    }

    /// The frame's surface for writing: the frame's own if there is no other holder, else a copy that replaces it.
    ///
    /// # Errors
    /// As [`GpuCanvases::for_frame`].
    pub(crate) fn writable<'f>(&self, frame: &'f mut Frame) -> Result<&'f CudaSurface, CudaError> {
        let is_shared = match &mut frame.surface {
            Surface::Device(surface) => Arc::get_mut(surface).is_none(),
            _ => false,
        };
        if is_shared {
            let copy = image(frame)?.copied(&self.pool, &self.stream)?;
            frame.surface = Surface::Device(Arc::new(copy));
        }
        image(frame)
    }
}

/// The canvases of one worker: one per GPU that holds its frames.
#[derive(Default)]
pub(crate) struct GpuCanvases(Vec<GpuCanvas>);

impl GpuCanvases {
    /// The canvas for a frame; `None` for one on the host.
    ///
    /// # Errors
    /// `BadArgument` if the frame is on a GPU but has no planes, `OutOfMemory`, `Driver`.
    pub(crate) fn for_frame(&mut self, frame: &Frame) -> Result<Option<&mut GpuCanvas>, CudaError> {
        let Surface::Device(_) = &frame.surface else { return Ok(None) };
        let device = image(frame)?.cuda_device();
        let known = self.0.iter().position(|canvas| canvas.pool.device().id() == device.id());
        let place = match known {
            Some(place) => place,
            None => {
                self.0.push(GpuCanvas::new(device)?);
                self.0.len() - 1
            }
        };
        Ok(self.0.get_mut(place))
    }

    /// Reports the memory that they used.
    pub(crate) fn account(&self, context: &StageContext) {
        account(context, Traffic::take());
        self.0.iter().for_each(|canvas| context.memory(canvas.pool.device().id(), canvas.pool.stats().high_water_bytes as u64));
    }
}

/// The surface on the GPU.
fn image(frame: &Frame) -> Result<&CudaSurface, CudaError> {
    let no_image = || CudaError::BadArgument { what: format!("frame {} of stream {} is not a frame on a GPU", frame.index, frame.stream) };
    CudaSurface::of(&frame.surface).ok_or_else(no_image)
}
