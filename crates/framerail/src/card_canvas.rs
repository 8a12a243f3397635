//! Frames on a card that are changed there, in place.

use std::sync::Arc;

use framerail_core::{Frame, Surface};
use framerail_cuda::{CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool, Traffic, Uploads};
use framerail_pipeline::StageContext;

use crate::devices::account;

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

    /// The frame's surface, to be changed: as it lies when nobody else holds it, else a copy that takes its place.
    ///
    /// # Errors
    /// As [`CardCanvases::for_frame`].
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
}

/// The canvases of one worker: one for each card on which its frames lie.
#[derive(Default)]
pub(crate) struct CardCanvases(Vec<CardCanvas>);

impl CardCanvases {
    /// The canvas for a frame; `None` for one on the host.
    ///
    /// # Errors
    /// `BadArgument` when the frame is on a card but not a picture, `OutOfMemory`, `Driver`.
    pub(crate) fn for_frame(&mut self, frame: &Frame) -> Result<Option<&mut CardCanvas>, CudaError> {
        let Surface::Device(_) = &frame.surface else { return Ok(None) };
        let device = picture(frame)?.cuda_device();
        let known = self.0.iter().position(|canvas| canvas.pool.device().id() == device.id());
        let place = match known {
            Some(place) => place,
            None => {
                self.0.push(CardCanvas::new(device)?);
                self.0.len() - 1
            }
        };
        Ok(self.0.get_mut(place))
    }

    /// Says how much memory they took.
    pub(crate) fn account(&self, context: &StageContext) {
        account(context, Traffic::take());
        self.0.iter().for_each(|canvas| context.memory(canvas.pool.device().id(), canvas.pool.stats().high_water_bytes as u64));
    }
}

/// The picture on the card.
fn picture(frame: &Frame) -> Result<&CudaSurface, CudaError> {
    let no_picture =
        || CudaError::BadArgument { what: format!("frame {} of stream {} is not a frame on a GPU", frame.index, frame.stream) };
    CudaSurface::of(&frame.surface).ok_or_else(no_picture)
}
