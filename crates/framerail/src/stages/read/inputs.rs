//! Model inputs instead of frames, made while a GPU decodes.

use std::{collections::HashMap, sync::Arc};

use framerail_core::{ColorDescription, DeviceSurface, PixelAspect};
use framerail_cuda::{
    CudaError, DevicePool,
    nvdec::{MappedFrame, StreamFormat},
};
use framerail_infer::InputSpec;
use framerail_reader::{CopySurfaces, MakeSurface, TensorFrames, TensorOptions, TensorSize};
use parking_lot::Mutex;

use crate::stages::infer::ModelInput;

/// Makes the model's input from each decoded frame, or, if the model does not use the frame, a copy of the frame.
pub(super) struct ModelInputs {
    model: ModelInput,
    pool: DevicePool,
    copies: CopySurfaces,
    /// By width and height of the frame in square pixels.
    makers: Mutex<HashMap<(u32, u32), Maker>>,
}

/// The maker of inputs for one frame size; `None` if the model does not use such frames.
type Maker = Option<Arc<TensorFrames>>;

impl ModelInputs {
    pub(super) fn new(model: ModelInput, pool: &DevicePool) -> Self {
        Self { model, pool: pool.clone(), copies: CopySurfaces::new(pool.clone()), makers: Mutex::default() }
    }

    fn maker(&self, format: &StreamFormat) -> Maker {
        let (width, height) = PixelAspect::of(format.sample_aspect_ratio).square_size(format.size.0, format.size.1);
        let make = || {
            let spec = self.model.spec(self.pool.device().id(), width, height)?;
            Some(Arc::new(TensorFrames::new(options(&spec), self.pool.clone())))
        };
        self.makers.lock().entry((width, height)).or_insert_with(make).clone()
    }
}

impl MakeSurface for ModelInputs {
    fn make(&self, image: &MappedFrame<'_>, color: &ColorDescription) -> Result<Arc<dyn DeviceSurface>, CudaError> {
        match self.maker(image.format) {
            Some(tensors) => tensors.make(image, color),
            None => self.copies.make(image, color),
        }
    }

    fn bytes(&self, format: &StreamFormat) -> usize {
        self.maker(format).map_or_else(|| self.copies.bytes(format), |tensors| tensors.bytes(format))
    }
}

/// A model's input as the reader's options.
fn options(spec: &InputSpec) -> TensorOptions {
    let wanted = &spec.preprocess;
    TensorOptions {
        size: TensorSize::Exact(wanted.width, wanted.height),
        fit: wanted.fit,
        sampling: spec.sampling,
        channel_order: wanted.channel_order,
        layout: wanted.layout,
        dtype: spec.dtype,
        scale: wanted.scale,
        mean: wanted.mean,
        std: wanted.std,
        ..TensorOptions::default()
    }
}
