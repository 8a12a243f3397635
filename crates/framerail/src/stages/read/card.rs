//! A card that decodes sources.

use std::sync::Arc;

use framerail_core::Device;
use framerail_cuda::{CudaDevice, CudaError, DevicePool};
use framerail_reader::{CopySurfaces, DeviceOptions, MakeSurface};

use super::inputs::ModelInputs;
use crate::stages::infer::ModelInput;

/// Device memory kept for frames that come back: a quarter of the card's, and no more than this.
const MAX_KEPT_BYTES: u64 = 4 << 30;

/// Device memory for model inputs made ahead, unless the user says otherwise: they are far smaller than pictures.
const INPUTS_AHEAD_BYTES: u64 = 512 << 20;

/// A card that decodes.
#[derive(Clone)]
pub(super) struct Card {
    pub(super) device: Arc<CudaDevice>,
    decoders: Option<usize>,
    ahead_bytes: Option<u64>,
    pool: DevicePool,
    make: Arc<dyn MakeSurface>,
    /// Frames are pictures, as opposed to a model's inputs.
    pub(super) makes_pictures: bool,
}

impl Card {
    /// `model` is the only stage that looks at pictures, and would rather have its input.
    pub(super) fn new(
        device: Arc<CudaDevice>,
        decoders: Option<usize>,
        ahead_bytes: Option<u64>,
        model: Option<ModelInput>,
    ) -> Result<Self, CudaError> {
        let (_, total) = device.memory()?;
        let kept = usize::try_from((total / 4).min(MAX_KEPT_BYTES)).unwrap_or(usize::MAX);
        let pool = DevicePool::new(&device, kept)?;
        let makes_pictures = model.is_none();
        let ahead_bytes = ahead_bytes.or((!makes_pictures).then_some(INPUTS_AHEAD_BYTES));
        let make: Arc<dyn MakeSurface> = match model {
            Some(model) => Arc::new(ModelInputs::new(model, &pool)),
            None => Arc::new(CopySurfaces::new(pool.clone())),
        };
        Ok(Self { device, decoders, ahead_bytes, pool, make, makes_pictures })
    }

    pub(super) fn id(&self) -> Device {
        self.device.id()
    }

    /// The most device memory that its frames took, decoders not counted.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.pool.stats().high_water_bytes as u64
    }

    pub(super) fn options(&self) -> DeviceOptions {
        let make = Some(Arc::clone(&self.make));
        DeviceOptions { decoders: self.decoders, ahead_bytes: self.ahead_bytes, make, ..DeviceOptions::new(&self.device) }
    }
}
