//! Pictures delivered as tensors, converted right out of the decoder's memory.

use std::sync::Arc;

use framerail_core::{ColorDescription, DType, DeviceSurface, PixelFormat, TensorLayout};
use framerail_cuda::{
    CudaError, CudaTensor, DevicePool,
    kernels::{Channels, Conversion, TensorSpec},
    nvdec::{MappedPicture, StreamFormat},
};
use framerail_vision::{ChannelOrder, Fit, Preprocess, Preprocessor, Sampling};
use parking_lot::Mutex;

use crate::device_pieces::MakeSurface;

/// What the tensors are like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorOptions {
    /// Width and height in pixels; each picture's own by default.
    pub size: Option<(u32, u32)>,
    /// How a picture of another shape is fitted in.
    pub fit: Fit,
    /// How samples are found when sizes differ.
    pub sampling: Sampling,
    /// The channels.
    pub channel_order: ChannelOrder,
    /// Planes or interleaved channels.
    pub layout: TensorLayout,
    /// Type of the elements.
    pub dtype: DType,
    /// An element is `(value · scale − mean) / std`, with `value` in 0..=255.
    pub scale: f32,
    /// Taken off each channel after scaling.
    pub mean: [f32; 3],
    /// Divides each channel at last.
    pub std: [f32; 3],
}

impl Default for TensorOptions {
    /// RGB planes of 8 bits at the picture's own size.
    fn default() -> Self {
        Self {
            size: None,
            fit: Fit::Stretch,
            sampling: Sampling::Bilinear,
            channel_order: ChannelOrder::Rgb,
            layout: TensorLayout::Tchw,
            dtype: DType::U8,
            scale: 1.0,
            mean: [0.0; 3],
            std: [1.0; 3],
        }
    }
}

/// The numbers of the last picture's conversion: the next one is like it, mostly.
type Planned = ((u32, u32, PixelFormat, ColorDescription), TensorSpec, Conversion);

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

    fn spec(&self, size: (u32, u32)) -> TensorSpec {
        let (width, height) = self.options.size.unwrap_or(size);
        let channels = match self.options.channel_order {
            ChannelOrder::Rgb => Channels::Rgb,
            ChannelOrder::Bgr => Channels::Bgr,
            ChannelOrder::Gray => Channels::Gray,
        };
        TensorSpec { width, height, layout: self.options.layout, dtype: self.options.dtype, channels }
    }

    fn plan(&self, width: u32, height: u32, format: PixelFormat, color: &ColorDescription) -> Result<(TensorSpec, Conversion), CudaError> {
        let key = (width, height, format, *color);
        let mut planned = self.planned.lock();
        if let Some((known, spec, conversion)) = planned.as_ref()
            && *known == key
        {
            return Ok((*spec, *conversion));
        }
        let spec = self.spec((width, height));
        let TensorOptions { fit, sampling, channel_order, layout, scale, mean, std, .. } = self.options;
        let wanted = Preprocess { width: spec.width, height: spec.height, fit, channel_order, layout, scale, mean, std };
        let refused = |error: framerail_vision::VisionError| CudaError::BadArgument { what: error.to_string() };
        let plan = Preprocessor::new(wanted).map_err(refused)?.with_sampling(sampling).plan(width, height, format, color, None);
        let conversion = plan.map_err(refused)?.conversion();
        *planned = Some((key, spec, conversion));
        Ok((spec, conversion))
    }
}

impl MakeSurface for TensorPictures {
    fn make(&self, picture: &MappedPicture<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        let planes = &picture.planes;
        let (spec, conversion) = self.plan(planes.width(), planes.height(), planes.format(), color)?;
        Ok(Arc::new(CudaTensor::convert(planes, &spec, conversion, &self.pool, picture.stream)?))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.spec(format.size).picture_bytes()
    }
}
