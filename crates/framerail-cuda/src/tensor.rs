//! A picture as a tensor in device memory: what a model takes, or what training code reads.

use std::{any::Any, sync::Arc};

use framerail_core::{Device, DeviceSurface};

use crate::{
    CudaDevice, CudaError, CudaStream, DeviceBuffer, DevicePlanes, DevicePool,
    kernels::{Conversion, ConversionTables, RawConvertJob, RawPicture, RawTables, TensorSpec, convert_raw},
};

/// One picture's elements, dense: `[C, H, W]` or `[H, W, C]`.
#[derive(Debug)]
pub struct CudaTensor {
    spec: TensorSpec,
    buffer: DeviceBuffer,
}

impl CudaTensor {
    /// Converts a picture, with the tables that the conversion looks up; queued on the stream. The picture's reads are the caller's to
    /// order.
    ///
    /// # Errors
    /// `BadArgument` for sizes that do not fit, `OutOfMemory`, `Compile`, `Driver`.
    pub fn convert(
        picture: &DevicePlanes<'_>,
        spec: &TensorSpec,
        (conversion, tables): (Conversion, Option<&ConversionTables>),
        pool: &DevicePool,
        stream: &CudaStream,
    ) -> Result<Self, CudaError> {
        let buffer = pool.buffer(spec.picture_bytes())?;
        convert_into(picture, spec, (conversion, tables), (&buffer, 0), stream)?;
        Ok(Self { spec: *spec, buffer })
    }

    /// Size, layout and type.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The elements, with the marks that order their uses.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.buffer
    }

    /// The card.
    pub fn cuda_device(&self) -> &Arc<CudaDevice> {
        self.buffer.device()
    }

    /// The tensor behind a core surface, when it is one.
    pub fn of(surface: &framerail_core::Surface) -> Option<&CudaTensor> {
        match surface {
            framerail_core::Surface::Device(surface) => surface.as_any().downcast_ref(),
            _ => None,
        }
    }
}

/// Converts a picture to its place in a buffer, so many bytes from its start; queued on the stream. The picture's reads are the caller's
/// to order.
///
/// # Errors
/// `BadArgument` for a place outside of the buffer and sizes that do not fit, `Compile`, `Driver`.
pub fn convert_into(
    picture: &DevicePlanes<'_>,
    spec: &TensorSpec,
    (conversion, tables): (Conversion, Option<&ConversionTables>),
    (buffer, offset): (&DeviceBuffer, usize),
    stream: &CudaStream,
) -> Result<(), CudaError> {
    let need = spec.picture_bytes();
    if offset.checked_add(need).is_none_or(|end| end > buffer.len()) {
        return Err(CudaError::argument(format!("a picture of {need} bytes at {offset} in a buffer of {}", buffer.len())));
    }
    let picture = RawPicture::of_planes(picture);
    let out = buffer.begin_write(stream)? + offset as u64;
    if let Some(tables) = tables {
        tables.buffer().begin_read(stream)?;
    }
    let job = RawConvertJob { picture, conversion, tables: tables.map_or_else(RawTables::default, ConversionTables::raw), out };
    // SAFETY: a live picture by the view's word, and a place of the tensor's size; its writes and the tables' reads are bracketed.
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
