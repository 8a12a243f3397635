//! The GPUs that decode sources.

use std::sync::Arc;

use framerail_core::Device;
use framerail_cuda::{CudaDevice, CudaError, DevicePool};
use framerail_reader::{CopySurfaces, DecodingCard, DeviceOptions, MakeSurface};

use super::inputs::ModelInputs;
use crate::stages::infer::ModelInput;

/// Device memory kept for returned frames: at most a quarter of the GPU's, and at most this.
const MAX_KEPT_BYTES: u64 = 4 << 30;

/// Default device memory for model inputs made ahead: they are far smaller than frames.
const INPUTS_AHEAD_BYTES: u64 = 512 << 20;

/// The GPUs that decode; frames decoded on the host are uploaded to the first one.
#[derive(Clone)]
pub(super) struct Gpu {
    pub(super) device: Arc<CudaDevice>,
    decoders: Option<usize>,
    ahead_bytes: Option<u64>,
    lanes: Vec<Lane>,
    /// The output is frames, not model inputs.
    pub(super) makes_images: bool,
}

/// One GPU, with its memory for frames.
#[derive(Clone)]
struct Lane {
    pool: DevicePool,
    gpu: DecodingCard,
}

impl Lane {
    fn new(device: &Arc<CudaDevice>, model: Option<&ModelInput>) -> Result<Self, CudaError> {
        let (_, total) = device.memory()?;
        let kept = usize::try_from((total / 4).min(MAX_KEPT_BYTES)).unwrap_or(usize::MAX);
        let pool = DevicePool::new(device, kept)?;
        let make: Arc<dyn MakeSurface> = match model {
            Some(model) => Arc::new(ModelInputs::new(model.clone(), &pool)),
            None => Arc::new(CopySurfaces::new(pool.clone())),
        };
        Ok(Self { pool, gpu: DecodingCard { device: Arc::clone(device), make } })
    }

    /// Sources and decoders that use it now.
    fn load(&self) -> usize {
        Arc::strong_count(&self.gpu.make)
    }
}

impl Gpu {
    /// `model` is the only stage that reads pixels, and prefers its input.
    pub(super) fn new(
        devices: &[Arc<CudaDevice>],
        decoders: Option<usize>,
        ahead_bytes: Option<u64>,
        model: Option<&ModelInput>,
    ) -> Result<Option<Self>, CudaError> {
        let Some(device) = devices.first().cloned() else { return Ok(None) };
        let lanes = devices.iter().map(|device| Lane::new(device, model)).collect::<Result<Vec<_>, _>>()?;
        let makes_images = model.is_none();
        let ahead_bytes = ahead_bytes.or((!makes_images).then_some(INPUTS_AHEAD_BYTES));
        Ok(Some(Self { device, decoders, ahead_bytes, lanes, makes_images }))
    }

    pub(super) fn id(&self) -> Device {
        self.device.id()
    }

    /// The further GPUs.
    pub(super) fn others(&self) -> Vec<Device> {
        self.lanes.iter().skip(1).map(|lane| lane.pool.device().id()).collect()
    }

    /// The peak device memory of frames on each GPU, without decoders.
    pub(super) fn memory_bytes(&self) -> impl Iterator<Item = (Device, u64)> {
        self.lanes.iter().map(|lane| (lane.pool.device().id(), lane.pool.stats().high_water_bytes as u64))
    }

    /// For the next source: the least busy GPU is first, and decodes alone if the source has one decoder.
    pub(super) fn options(&self) -> DeviceOptions {
        let mut lanes: Vec<&Lane> = self.lanes.iter().collect();
        lanes.sort_by_key(|lane| lane.load());
        let mut gpus = lanes.into_iter().map(|lane| lane.gpu.clone());
        let Some(DecodingCard { device, make }) = gpus.next() else { return DeviceOptions::new(&self.device) };
        let others = gpus.collect();
        DeviceOptions { device, decoders: self.decoders, ahead_bytes: self.ahead_bytes, make: Some(make), others }
    }
}
