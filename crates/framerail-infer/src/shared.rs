//! What a detector and its forks have in common: the model, how it runs, and the counts of what it did.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use framerail_core::{Detection, Device};
use framerail_vision::{ModelMapping, Preprocess, Preprocessor, nms::nms};

use crate::{
    CudaOptions, DetectorStats, InferError, Precision, SearchPath, SizeRequest,
    card::Thresholds,
    decode::{Candidate, Candidates, Decode, Tensors},
    model::Model,
    onnx::{HalfEnds, InputShape},
    runtime::Runtime,
    session::SessionOptions,
    size::{InputSize, input_size},
};

/// As [`DetectorStats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) frames: AtomicU64,
    pub(crate) detections: AtomicU64,
    pub(crate) non_finite: AtomicU64,
    pub(crate) over_limit: AtomicU64,
    pub(crate) over_max_detections: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) weights_clamped: AtomicU64,
    pub(crate) weights_raised: AtomicU64,
    pub(crate) runs: AtomicU64,
    pub(crate) padded: AtomicU64,
    pub(crate) uploaded: AtomicU64,
    pub(crate) sessions_partly_on_cpu: AtomicU64,
    pub(crate) sessions_decoded_on_host: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }

    pub(crate) fn stats(&self) -> DetectorStats {
        DetectorStats {
            frames: self.frames.load(Relaxed),
            detections: self.detections.load(Relaxed),
            non_finite: self.non_finite.load(Relaxed),
            over_limit: self.over_limit.load(Relaxed),
            over_max_detections: self.over_max_detections.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            weights_clamped: self.weights_clamped.load(Relaxed),
            weights_raised: self.weights_raised.load(Relaxed),
            runs: self.runs.load(Relaxed),
            padded: self.padded.load(Relaxed),
            uploaded: self.uploaded.load(Relaxed),
            sessions_partly_on_cpu: self.sessions_partly_on_cpu.load(Relaxed),
            sessions_decoded_on_host: self.sessions_decoded_on_host.load(Relaxed),
        }
    }
}

/// The model and how it runs.
pub(crate) struct Shared {
    pub(crate) model: Model,
    pub(crate) runtime: &'static Runtime,
    pub(crate) device: Device,
    pub(crate) size: SizeRequest,
    pub(crate) batch: usize,
    pub(crate) precision: Precision,
    pub(crate) session: SessionOptions,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a card needs it"))]
    pub(crate) cuda: CudaOptions,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a card needs it"))]
    pub(crate) search: SearchPath,
    pub(crate) thresholds: Thresholds,
    pub(crate) counters: Counters,
}

impl Shared {
    pub(crate) fn run_error(&self, reason: impl ToString) -> InferError {
        InferError::Run { model: self.model.card.name.clone(), reason: reason.to_string() }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_error(&self, source: framerail_cuda::CudaError) -> InferError {
        InferError::Cuda { model: self.model.card.name.clone(), source }
    }

    /// The model input's size for frames of this size.
    pub(crate) fn input_size(&self, width: u32, height: u32) -> Result<InputSize, InferError> {
        input_size(&self.model.card.input, self.size, InputSize { width, height })
    }

    /// What the model wants of a picture at this input size.
    pub(crate) fn preprocess(&self, size: InputSize) -> Preprocess {
        let input = &self.model.card.input;
        Preprocess {
            width: size.width,
            height: size.height,
            fit: input.fit(),
            channel_order: input.channel_order(),
            layout: input.layout,
            scale: input.scale,
            mean: input.mean,
            std: input.std,
        }
    }

    pub(crate) fn preprocessor(&self, size: InputSize) -> Result<Preprocessor, InferError> {
        let preprocessor = Preprocessor::new(self.preprocess(size)).map_err(|error| self.run_error(error))?;
        Ok(preprocessor.with_sampling(self.model.card.input.sampling()))
    }

    /// The model's bytes in float16.
    pub(crate) fn half_bytes(&self, shape: &InputShape, ends: HalfEnds) -> Result<Vec<u8>, InferError> {
        let half = self.model.half_bytes(shape, ends)?;
        self.counters.weights_clamped.store(half.clamped, Relaxed);
        self.counters.weights_raised.store(half.raised, Relaxed);
        Ok(half.bytes)
    }

    /// The detections of one item of a batch.
    pub(crate) fn read(
        &self,
        decoder: &dyn Decode,
        tensors: &Tensors<'_>,
        item: usize,
        mapping: &ModelMapping,
    ) -> Result<Vec<Detection>, String> {
        let mut candidates = Candidates::new(self.thresholds.confidence, self.model.labels.len());
        decoder.decode(tensors, item, &mut candidates)?;
        let mut detections: Vec<Detection> = candidates.finish().into_iter().filter_map(|found| self.detection(found, mapping)).collect();
        if self.model.card.output.needs_suppression() {
            nms(&mut detections, self.thresholds.iou, self.thresholds.class_agnostic);
        }
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        let beyond = detections.len().saturating_sub(self.thresholds.max_detections);
        detections.truncate(self.thresholds.max_detections);
        let counters = &self.counters;
        Counters::add(&counters.frames, 1);
        Counters::add(&counters.detections, detections.len());
        counters.non_finite.fetch_add(candidates.non_finite, Relaxed);
        counters.over_limit.fetch_add(candidates.over_limit, Relaxed);
        Counters::add(&counters.over_max_detections, beyond);
        Ok(detections)
    }

    pub(crate) fn detection(&self, found: Candidate, mapping: &ModelMapping) -> Option<Detection> {
        let label = self.model.labels.get(found.class)?.clone();
        let mut detection = Detection::new(mapping.bbox_frame_from_model(found.bbox), found.score, label);
        detection.landmarks = found.landmarks.into_iter().map(|point| mapping.point_frame_from_model(point)).collect();
        Some(detection)
    }
}
