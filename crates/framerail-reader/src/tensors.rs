//! Pictures delivered as tensors, converted right out of the decoder's memory.

use std::sync::Arc;

use framerail_core::{ColorDescription, DeviceSurface, PixelAspect, PixelFormat, Rational};
use framerail_cuda::{
    CudaError, CudaStream, CudaTensor, DevicePlanes, DevicePool,
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

    /// Converts a picture that lies on the card; queued on the stream. The picture's reads are the caller's to order.
    pub(crate) fn convert(
        &self,
        planes: &DevicePlanes<'_>,
        color: &ColorDescription,
        aspect: Option<Rational>,
        stream: &CudaStream,
    ) -> Result<CudaTensor, CudaError> {
        let (spec, conversion) = self.plan(planes, color, aspect)?;
        CudaTensor::convert(planes, &spec, conversion, &self.pool, stream)
    }

    fn plan(
        &self,
        planes: &DevicePlanes<'_>,
        color: &ColorDescription,
        aspect: Option<Rational>,
    ) -> Result<(TensorSpec, Conversion), CudaError> {
        let (width, height, format) = (planes.width(), planes.height(), planes.format());
        let pixels = PixelAspect::of(aspect);
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
        Ok(Arc::new(self.convert(&picture.planes, color, picture.format.sample_aspect_ratio, picture.stream)?))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.options.picture_bytes(format.size.0, format.size.1)
    }
}
