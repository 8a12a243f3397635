//! Converts frames to tensors directly from the decoder's memory.

use std::sync::Arc;

use framerail_core::{ColorDescription, DeviceSurface, PixelAspect, PixelFormat, Rational};
use framerail_cuda::{
    CudaError, CudaStream, CudaTensor, DevicePlanes, DevicePool, convert_into,
    kernels::{Conversion, ConversionTables, TableCache, TensorSpec},
    nvdec::{MappedFrame, StreamFormat},
};
use parking_lot::Mutex;

use crate::{
    TensorOptions,
    device_pieces::MakeSurface,
    gpu_slots::{GpuSlot, GpuSlots, InPlace},
};

/// Settings of the last conversion, which usually apply to the next frame too.
type Planned = (((u32, u32), PixelFormat, ColorDescription, PixelAspect), TensorSpec, Conversion, Option<Arc<ConversionTables>>);

/// Makes a [`CudaTensor`] of each frame.
pub struct TensorFrames {
    options: TensorOptions,
    pool: DevicePool,
    planned: Mutex<Option<Planned>>,
    tables: TableCache,
    /// Positions of frames in batches on the pool's GPU.
    slots: Option<Arc<GpuSlots>>,
}

impl TensorFrames {
    /// Tensors are allocated from this pool.
    pub fn new(options: TensorOptions, pool: DevicePool) -> Self {
        Self { options, pool, planned: Mutex::default(), tables: TableCache::default(), slots: None }
    }

    /// Frames with a position are written there.
    pub(crate) fn with_slots(self, slots: &Arc<GpuSlots>) -> Self {
        Self { slots: Some(Arc::clone(slots)), ..self }
    }

    /// Converts a frame in GPU memory; queued on `stream`. The caller orders the reads of the frame.
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

    /// Converts a frame into a position of matching size; returns the number of bytes.
    pub(crate) fn convert_to(
        &self,
        planes: &DevicePlanes<'_>,
        (color, aspect): (&ColorDescription, Option<Rational>),
        slot: &GpuSlot,
        stream: &CudaStream,
    ) -> Result<usize, CudaError> {
        let (_, spec, conversion, tables) = self.plan(planes, color, aspect, stream)?;
        convert_into(planes, &spec, (conversion, tables.as_deref()), (&slot.buffer, slot.offset), stream)?;
        Ok(spec.image_bytes())
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

impl MakeSurface for TensorFrames {
    fn make(&self, image: &MappedFrame<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        Ok(Arc::new(self.convert(&image.planes, color, image.format.sample_aspect_ratio, image.stream)?))
    }

    fn make_tagged(&self, image: &MappedFrame<'_>, color: &ColorDescription, tag: i64) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        let slots = self.slots.as_ref().map_or(Ok(Vec::new()), |slots| slots.of(tag))?;
        if slots.is_empty() {
            return self.make(image, color);
        }
        let mut bytes = 0;
        for slot in &slots {
            bytes = self.convert_to(&image.planes, (color, image.format.sample_aspect_ratio), slot, image.stream)?;
        }
        Ok(Arc::new(InPlace { slots, bytes }))
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.options.image_bytes(format.size.0, format.size.1)
    }
}
