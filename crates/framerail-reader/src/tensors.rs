//! Pictures delivered as tensors, converted right out of the decoder's memory.

use std::sync::Arc;

use framerail_core::{ColorDescription, DeviceSurface, PixelAspect, PixelFormat};
use framerail_cuda::{
    CudaError, CudaTensor, DevicePool,
    kernels::{Conversion, TensorSpec},
    nvdec::{MappedPicture, StreamFormat},
};
use parking_lot::Mutex;

use crate::{TensorOptions, device_pieces::MakeSurface};

/// The numbers of the last picture's conversion: the next one is like it, mostly.
type Planned = (((u32, u32), PixelFormat, ColorDescription, PixelAspect), TensorSpec, Conversion);

/// Makes a [`CudaTensor`] of each picture.
pub struct TensorPictures {
    options: TensorOptions,
    pool: DevicePool,
    planned: Mutex<Option<Planned>>,
}

impl TensorPictures {
    /// Tensors from this pool.
    pub fn new(options: TensorOptions, pool: DevicePool) -> Self {
        Self { options, pool, planned: Mutex::default() }
    }

    fn plan(&self, picture: &MappedPicture<'_>, color: &ColorDescription) -> Result<(TensorSpec, Conversion), CudaError> {
        let (width, height, format) = (picture.planes.width(), picture.planes.height(), picture.planes.format());
        let pixels = PixelAspect::of(picture.format.sample_aspect_ratio);
        let key = ((width, height), format, *color, pixels);
        let mut planned = self.planned.lock();
        if let Some((known, spec, conversion)) = planned.as_ref()
            && *known == key
        {
            return Ok((*spec, *conversion));
        }
        let spec = self.options.tensor_spec(width, height);
        let refused = |error: framerail_vision::VisionError| CudaError::BadArgument { what: error.to_string() };
        let conversion = self.options.plan(width, height, format, color, pixels).map_err(refused)?.conversion();
        *planned = Some((key, spec, conversion));
        Ok((spec, conversion))
    }
}

impl MakeSurface for TensorPictures {
    fn make(&self, picture: &MappedPicture<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        let (spec, conversion) = self.plan(picture, color)?;
        Ok(Arc::new(CudaTensor::convert(&picture.planes, &spec, conversion, &self.pool, picture.stream)?))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.options.picture_bytes(format.size.0, format.size.1)
    }
}
