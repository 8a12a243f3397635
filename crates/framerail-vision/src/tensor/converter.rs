//! Tensors made of pictures in host memory.

use framerail_core::{DType, Frame};
use half::{bf16, f16};

use super::TensorOptions;
use crate::{Preprocessor, VisionError};

/// Turns frames into tensor pictures; keeps its tables between frames of one size and format.
#[derive(Debug)]
pub struct TensorConverter {
    options: TensorOptions,
    preprocessor: Option<((u32, u32), Preprocessor)>,
    floats: Vec<f32>,
}

impl TensorConverter {
    /// A converter for one kind of tensor.
    ///
    /// # Errors
    /// As [`TensorOptions::check`].
    pub fn new(options: TensorOptions) -> Result<Self, VisionError> {
        options.check()?;
        if options.tone_map.is_some() {
            return Err(VisionError::option("tone_map", "set", "nothing: tone mapping is not there yet"));
        }
        Ok(Self { options, preprocessor: None, floats: Vec::new() })
    }

    /// The options.
    pub fn options(&self) -> &TensorOptions {
        &self.options
    }

    /// Writes one picture's elements, native endian, to `out`. The frame's rotation is not applied.
    ///
    /// # Errors
    /// `OutputLength` unless `out` holds exactly [`TensorOptions::picture_bytes`]; `Core` for a frame in device memory.
    pub fn convert(&mut self, frame: &Frame, out: &mut [u8]) -> Result<(), VisionError> {
        let surface = frame.surface.host()?;
        let size = (surface.width(), surface.height());
        let need = self.options.picture_bytes(size.0, size.1);
        if out.len() != need {
            let layout = self.options.picture_shape(size.0, size.1).map(|side| side.to_string()).join("x");
            return Err(VisionError::OutputLength { have: out.len(), need, layout });
        }
        let preprocessor = match &mut self.preprocessor {
            Some((known, preprocessor)) if *known == size => preprocessor,
            _ => &mut self.preprocessor.insert((size, self.options.preprocessor(size.0, size.1)?)).1,
        };
        self.floats.resize(preprocessor.spec().elements(), 0.0);
        let whole = framerail_core::BBox::from_xyxy(0.0, 0.0, size.0 as f32, size.1 as f32);
        preprocessor.run_crop(frame, self.options.crop.unwrap_or(whole), &mut self.floats)?;
        match self.options.dtype {
            DType::U8 => crate::kernels::clamp_to_bytes(&self.floats, out),
            DType::F16 => store(&self.floats, out, |value| f16::from_f32(value).to_ne_bytes()),
            DType::Bf16 => store(&self.floats, out, |value| bf16::from_f32(value).to_ne_bytes()),
            DType::F32 => store(&self.floats, out, f32::to_ne_bytes),
            other => return Err(VisionError::option("dtype", format!("{other:?}"), "U8, F16, Bf16 or F32")),
        }
        Ok(())
    }
}

fn store<const BYTES: usize>(values: &[f32], out: &mut [u8], bytes_of: impl Fn(f32) -> [u8; BYTES]) {
    for (out, value) in out.as_chunks_mut::<BYTES>().0.iter_mut().zip(values) {
        *out = bytes_of(*value);
    }
}
