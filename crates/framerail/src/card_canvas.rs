//! Frames on a card that are changed there, in place.

use std::sync::Arc;

use framerail_core::{Frame, Surface};
use framerail_cuda::{CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool, Uploads};

/// Device memory kept for scratch and for copies of frames that another branch still holds.
const KEPT_BYTES: usize = 128 << 20;

/// One worker's stream and memory on the card where its frames lie.
pub(crate) struct CardCanvas {
    pub(crate) stream: CudaStream,
    pub(crate) pool: DevicePool,
    /// What is on its way there beside frames.
    pub(crate) uploads: Uploads,
}

impl CardCanvas {
    fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        Ok(Self { stream: CudaStream::new(device)?, pool: DevicePool::new(device, KEPT_BYTES)?, uploads: Uploads::new(device) })
    }

    /// The canvas for a frame; `None` for one on the host. Kept from frame to frame, made anew when the card changes.
    ///
    /// # Errors
    /// `BadArgument` when the frame is on a card but no picture, `OutOfMemory`, `Driver`.
    pub(crate) fn for_frame<'a>(kept: &'a mut Option<Self>, frame: &Frame) -> Result<Option<&'a mut Self>, CudaError> {
        let Surface::Device(_) = &frame.surface else { return Ok(None) };
        let device = picture(frame)?.cuda_device();
        let canvas = match kept.take() {
            Some(canvas) if canvas.pool.device().id() == device.id() => canvas,
            _ => Self::new(device)?,
        };
        Ok(Some(kept.insert(canvas)))
    }

    /// The frame's surface, to be changed: as it lies when nobody else holds it, else a copy that takes its place.
    ///
    /// # Errors
    /// As [`CardCanvas::for_frame`].
    pub(crate) fn writable<'f>(&self, frame: &'f mut Frame) -> Result<&'f CudaSurface, CudaError> {
        let is_shared = match &mut frame.surface {
            Surface::Device(surface) => Arc::get_mut(surface).is_none(),
            _ => false,
        };
        if is_shared {
            let copy = picture(frame)?.copied(&self.pool, &self.stream)?;
            frame.surface = Surface::Device(Arc::new(copy));
        }
        picture(frame)
    }

    /// The most device memory that was taken.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.pool.stats().high_water_bytes as u64
    }
}

/// The picture on the card.
fn picture(frame: &Frame) -> Result<&CudaSurface, CudaError> {
    let no_picture =
        || CudaError::BadArgument { what: format!("frame {} of stream {} is not a frame on a GPU", frame.index, frame.stream) };
    CudaSurface::of(&frame.surface).ok_or_else(no_picture)
}
