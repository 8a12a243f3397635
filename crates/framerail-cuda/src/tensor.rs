//! A frame as a tensor in device memory, for models and training code.

use std::{any::Any, sync::Arc};

use framerail_core::{Device, DeviceSurface};

use crate::{
    CudaDevice, CudaError, CudaStream, DeviceBuffer, DevicePlanes, DevicePool,
    kernels::{Conversion, ConversionTables, RawConvertJob, RawImage, RawTables, TensorSpec, convert_raw},
};

/// The elements of one frame, dense: `[C, H, W]` or `[H, W, C]`.
#[derive(Debug)]
pub struct CudaTensor {
    spec: TensorSpec,
    buffer: DeviceBuffer,
}

impl CudaTensor {
    /// Converts a frame, with the lookup tables that the conversion needs; queued on the stream. The caller orders reads of the
    /// frame.
    ///
    /// # Errors
    /// `BadArgument` for sizes that do not match, `OutOfMemory`, `Compile`, `Driver`.
    pub fn convert(
        image: &DevicePlanes<'_>,
        spec: &TensorSpec,
        (conversion, tables): (Conversion, Option<&ConversionTables>),
        pool: &DevicePool,
        stream: &CudaStream,
    ) -> Result<Self, CudaError> {
        let buffer = pool.buffer(spec.image_bytes())?;
        convert_into(image, spec, (conversion, tables), (&buffer, 0), stream)?;
        Ok(Self { spec: *spec, buffer })
    }

    /// Size, layout and element type.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The elements, with the events that order their uses.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.buffer
    }

    /// The device.
    pub fn cuda_device(&self) -> &Arc<CudaDevice> {
        self.buffer.device()
    }

    /// Downcasts a core surface, if it is a tensor.
    pub fn of(surface: &framerail_core::Surface) -> Option<&CudaTensor> {
        match surface {
            framerail_core::Surface::Device(surface) => surface.as_any().downcast_ref(),
            _ => None,
        }
    }
}

/// Converts a frame into a buffer at an offset in bytes; queued on the stream. The caller orders reads of the
/// frame.
///
/// # Errors
/// `BadArgument` for a range outside the buffer and sizes that do not match, `Compile`, `Driver`.
pub fn convert_into(
    image: &DevicePlanes<'_>,
    spec: &TensorSpec,
    (conversion, tables): (Conversion, Option<&ConversionTables>),
    (buffer, offset): (&DeviceBuffer, usize),
    stream: &CudaStream,
) -> Result<(), CudaError> {
    let need = spec.image_bytes();
    if offset.checked_add(need).is_none_or(|end| end > buffer.len()) {
        return Err(CudaError::argument(format!("a frame of {need} bytes at {offset} in a buffer of {}", buffer.len())));
    }
    let image = RawImage::of_planes(image);
    let out = buffer.begin_write(stream)? + offset as u64;
    if let Some(tables) = tables {
        tables.buffer().begin_read(stream)?;
    }
    let job = RawConvertJob { image, conversion, tables: tables.map_or_else(RawTables::default, ConversionTables::raw), out };
    // SAFETY: the view guarantees a live frame; the target has the tensor's size; its writes and the tables' reads are bracketed.
    unsafe { convert_raw(stream, spec, &[job])? };
    if let Some(tables) = tables {
        tables.buffer().end_read(stream)?;
    }
    buffer.end_write(stream)
}

impl DeviceSurface for CudaTensor {
    fn device(&self) -> Device {
        self.cuda_device().id()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
