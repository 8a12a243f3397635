//! Pictures delivered as tensors, converted right out of the decoder's memory.

use std::sync::Arc;

use framerail_core::{ColorDescription, DeviceSurface, PixelAspect, PixelFormat, Rational};
use framerail_cuda::{
    CudaError, CudaStream, CudaTensor, DevicePlanes, DevicePool,
    kernels::{Conversion, ConversionTables, TableCache, TensorSpec},
    nvdec::{MappedPicture, StreamFormat},
};
use parking_lot::Mutex;

use crate::{TensorOptions, device_pieces::MakeSurface};

/// The numbers of the last picture's conversion: the next one is like it, mostly.
type Planned = (((u32, u32), PixelFormat, ColorDescription, PixelAspect), TensorSpec, Conversion, Option<Arc<ConversionTables>>);

/// Makes a [`CudaTensor`] of each picture.
pub struct TensorPictures {
    options: TensorOptions,
    pool: DevicePool,
    planned: Mutex<Option<Planned>>,
    tables: TableCache,
}

impl TensorPictures {
    /// Tensors from this pool.
    pub fn new(options: TensorOptions, pool: DevicePool) -> Self {
        Self { options, pool, planned: Mutex::default(), tables: TableCache::default() }
    }

    /// Converts a picture that lies on the card; queued on the stream. The picture's reads are the caller's to order.
    pub(crate) fn convert(
        &self,
        planes: &DevicePlanes<'_>,
        color: &ColorDescription,
        aspect: Option<Rational>,
        stream: &CudaStream,
    ) -> Result<CudaTensor, CudaError> {
        let (_, spec, conversion, tables) = self.plan(planes, color, aspect, stream)?;
        CudaTensor::convert(planes, &spec, (conversion, tables.as_deref()), &self.pool, stream)
    }

    fn plan(
        &self,
        planes: &DevicePlanes<'_>,
        color: &ColorDescription,
        aspect: Option<Rational>,
        stream: &CudaStream,
    ) -> Result<Planned, CudaError> {
        let (width, height, format) = (planes.width(), planes.height(), planes.format());
        let pixels = PixelAspect::of(aspect);
        let key = ((width, height), format, *color, pixels);
        let mut planned = self.planned.lock();
        if let Some(known) = planned.as_ref().filter(|known| known.0 == key) {
            return Ok(known.clone());
        }
        let spec = self.options.tensor_spec(width, height);
        let refused = |error: framerail_vision::VisionError| CudaError::BadArgument { what: error.to_string() };
        let conversion = self.options.plan(width, height, format, color, pixels).map_err(refused)?.conversion();
        let tone = self.options.tone_curves(color);
        let tables = self.tables.tables(&conversion, (width, height), tone.as_ref(), &self.pool, stream)?;
        Ok(planned.insert((key, spec, conversion, tables)).clone())
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
