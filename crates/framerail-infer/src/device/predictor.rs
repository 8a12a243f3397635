//! Runs a model on a GPU, with batches in flight.

use std::{collections::VecDeque, sync::Arc};

use framerail_core::Detection;
use framerail_cuda::{CudaDevice, CudaError, kernels::boxes::FrameBoxes};
use framerail_vision::ModelMapping;
use parking_lot::Mutex;

use super::{
    memory::DeviceMemory,
    session::Recipe,
    sized::{Queued, Results, SizedModel},
};
use crate::{
    InferError, Prediction, View,
    card::Thresholds,
    device::boxes::Pending,
    shared::{Counters, Shared},
    size::InputSize,
};

/// Sessions for different input sizes that are kept. Each holds the model's weights and activations.
const MAX_SIZES: usize = 2;

/// Runs a model on a GPU. All calls come from one thread at a time.
pub(crate) struct DevicePredictor {
    shared: Arc<Shared>,
    /// The most recently used is last. Others may share them: all work is queued on one stream, in the order of the calls.
    sizes: Arc<Mutex<Vec<SizedModel>>>,
    /// Runs whose results were not read yet, oldest first.
    flight: VecDeque<Flight>,
    memory: DeviceMemory,
}

/// A run that was queued.
struct Flight {
    mappings: Vec<ModelMapping>,
    results: Results,
}

impl DevicePredictor {
    pub(crate) fn new(shared: &Arc<Shared>, ordinal: u32) -> Result<Self, InferError> {
        if shared.model.previous.is_some() {
            let reason = "models that compare two frames run on the CPU only; give device=cpu".into();
            return Err(InferError::Device { device: shared.device, reason });
        }
        let unusable = |error: CudaError| InferError::Device { device: shared.device, reason: error.to_string() };
        let device = CudaDevice::open(ordinal).map_err(unusable)?;
        let memory = DeviceMemory::new(&device).map_err(unusable)?;
        Recipe::new(shared, &memory.stream).check()?;
        Ok(Self { shared: Arc::clone(shared), sizes: Arc::default(), flight: VecDeque::new(), memory })
    }

    /// Another predictor with its own sessions on the same stream.
    pub(crate) fn fork(&self, shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), sizes: Arc::default(), flight: VecDeque::new(), memory: self.memory.clone() }
    }

    /// Another predictor with the same sessions.
    pub(crate) fn share(&self, shared: &Arc<Shared>) -> Self {
        Self { sizes: Arc::clone(&self.sizes), ..self.fork(shared) }
    }

    /// Creates the session for a size.
    pub(crate) fn warm_up(&mut self, size: InputSize, thresholds: &Thresholds) -> Result<(), InferError> {
        let mut sizes = self.sizes.lock();
        if sizes.iter().any(|sized| sized.size() == size) {
            return Ok(());
        }
        make_last(&mut sizes, size, &self.shared, &self.memory)?;
        sizes.last_mut().map_or(Ok(()), |sized| sized.warm_up(&self.shared, &self.memory, thresholds))
    }

    /// Number of runs queued and not yet read.
    pub(crate) fn runs_in_flight(&self) -> usize {
        self.flight.len()
    }

    /// The peak device memory of inputs and outputs, in bytes, without ONNX Runtime's own.
    pub(crate) fn high_water_bytes(&self) -> usize {
        self.memory.pool.stats().high_water_bytes
    }

    /// Queues one run on views that share an input size, at most a batch. If the maximum is in flight, results of older runs are moved
    /// to `done` first.
    pub(crate) fn queue(
        &mut self,
        size: InputSize,
        views: &[View<'_>],
        thresholds: &Thresholds,
        done: &mut VecDeque<Prediction>,
    ) -> Result<(), InferError> {
        while self.flight.len() > self.shared.cuda.slots.saturating_sub(1) {
            self.finish_oldest(done)?;
        }
        let mut sizes = self.sizes.lock();
        make_last(&mut sizes, size, &self.shared, &self.memory)?;
        let Some(sized) = sizes.last_mut() else { return Err(self.shared.run_error("it has no session")) };
        let Queued { mappings, results } = sized.run(views, &self.shared, &self.memory, thresholds)?;
        drop(sizes);
        self.flight.push_back(Flight { mappings, results });
        Ok(())
    }

    /// Waits for the oldest run and returns the results of its views; `false` if none is in flight.
    pub(crate) fn finish_oldest(&mut self, done: &mut VecDeque<Prediction>) -> Result<bool, InferError> {
        let Some(flight) = self.flight.pop_front() else { return Ok(false) };
        let found = match flight.results {
            Results::Done(found) => Ok(found),
            Results::Pending(pending) => read(pending, &flight.mappings, &self.shared),
        };
        done.extend(found?);
        Ok(true)
    }
}

/// Ensures that the session for a size exists, and moves it to the end.
fn make_last(sizes: &mut Vec<SizedModel>, size: InputSize, shared: &Shared, memory: &DeviceMemory) -> Result<(), InferError> {
    match sizes.iter().position(|sized| sized.size() == size) {
        Some(index) => {
            let used = sizes.remove(index);
            sizes.push(used);
        }
        None => {
            if sizes.len() >= MAX_SIZES {
                // Runs of the removed session may be in flight.
                memory.stream.synchronize().map_err(|error| shared.cuda_error(error))?;
                sizes.remove(0);
            }
            sizes.push(SizedModel::new(shared, size, memory)?);
        }
    }
    Ok(())
}

/// Waits for boxes and maps them to frame pixels.
fn read(pending: Pending, mappings: &[ModelMapping], shared: &Shared) -> Result<Vec<Prediction>, InferError> {
    let images = pending.finish().map_err(|error| shared.cuda_error(error))?;
    Ok(images.iter().zip(mappings).map(|(image, mapping)| Prediction::Detections(detections(image, mapping, shared))).collect())
}

fn detections(image: &FrameBoxes, mapping: &ModelMapping, shared: &Shared) -> Vec<Detection> {
    let landmarks = shared.model.card.landmarks.len();
    let found = image.boxes.iter().map(|found| Pending::candidate(found, landmarks));
    let detections: Vec<Detection> = found.filter_map(|candidate| shared.detection(candidate, mapping)).collect();
    let counters = &shared.counters;
    Counters::add(&counters.frames, 1);
    Counters::add(&counters.detections, detections.len());
    Counters::add(&counters.non_finite, image.non_finite as usize);
    Counters::add(&counters.over_limit, image.over_limit as usize);
    Counters::add(&counters.over_max_detections, image.over_max_detections as usize);
    detections
}
