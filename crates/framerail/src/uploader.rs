//! Copies frames to a GPU, from host memory or from another GPU.

use std::{collections::VecDeque, sync::Arc};

use framerail_core::{Device, Frame, HostSurface, Surface};
use framerail_cuda::{CudaDevice, CudaError, CudaEvent, CudaStream, CudaSurface, DevicePool};

/// Device memory kept for further frames.
const KEPT_BYTES: usize = 256 << 20;

/// Maximum number of host surfaces held until the GPU has read them.
const MAX_HELD: usize = 8;

/// Copies frames to a GPU, in order, without waiting for it.
pub(crate) struct Uploader {
    stream: CudaStream,
    pool: DevicePool,
    /// Surfaces that the GPU may still be reading: page-locked memory is read after the call has returned.
    held: VecDeque<(HostSurface, CudaEvent)>,
}

impl Uploader {
    /// # Errors
    /// `Driver`.
    pub(crate) fn new(gpu: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        Ok(Self { stream: CudaStream::new(gpu)?, pool: DevicePool::new(gpu, KEPT_BYTES)?, held: VecDeque::new() })
    }

    /// The GPU.
    pub(crate) fn device(&self) -> Device {
        self.pool.device().id()
    }

    /// The peak device memory of its frames.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.pool.stats().high_water_bytes as u64
    }

    /// Replaces a frame's surface by one on the GPU, unless it is already there.
    ///
    /// # Errors
    /// `BadArgument` for a frame on another GPU without planes, `OutOfMemory`, `Driver`.
    pub(crate) fn bring(&mut self, frame: &mut Frame) -> Result<(), CudaError> {
        match &frame.surface {
            Surface::Host(_) => self.upload(frame),
            surface if surface.device() == self.device() => Ok(()),
            surface => {
                let image = CudaSurface::of(surface)
                    .ok_or_else(|| CudaError::BadArgument { what: "a frame that is not a surface goes to another device".into() })?;
                frame.surface = Surface::Device(Arc::new(image.copied(&self.pool, &self.stream)?));
                Ok(())
            }
        }
    }

    /// Replaces a frame's host surface by one on the GPU.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub(crate) fn upload(&mut self, frame: &mut Frame) -> Result<(), CudaError> {
        let Surface::Host(host) = &frame.surface else { return Ok(()) };
        let host = host.clone();
        let surface = CudaSurface::upload(&host, &self.pool, &self.stream)?;
        self.held.push_back((host, self.stream.record()?));
        while let Some((_, event)) = self.held.front() {
            if self.held.len() > MAX_HELD {
                event.synchronize()?;
            } else if !event.is_done()? {
                break;
            }
            self.held.pop_front();
        }
        frame.surface = Surface::Device(Arc::new(surface));
        Ok(())
    }
}
