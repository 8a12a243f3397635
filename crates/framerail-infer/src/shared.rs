//! State shared by a detector and its forks: the model, how it runs, and counters.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use framerail_core::{Attribute, AttributeValue, BBox, DType, Detection, Device, Frame};
use framerail_vision::{
    ModelMapping, Preprocess, Preprocessor, VisionError,
    nms::{nms_by, nms_oriented_by},
};

use crate::{
    CudaOptions, Description, DetectorStats, InferError, Precision, Prediction, SearchPath, SizeRequest, View,
    card::Thresholds,
    decode::{Candidate, Candidates, Decode, Decoder, Describe, Described, Seen, Tensors},
    element::Element,
    model::Model,
    onnx::{HalfEnds, InputShape},
    recheck::Decided,
    runtime::Runtime,
    session::SessionOptions,
    size::{InputSize, input_size, is_fixed},
};

/// A higher score is invalid: softmax and sigmoid may round up slightly.
const MAX_SCORE: f32 = 1.001;

/// As [`DetectorStats`].
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) frames: AtomicU64,
    pub(crate) detections: AtomicU64,
    pub(crate) descriptions: AtomicU64,
    pub(crate) non_finite: AtomicU64,
    pub(crate) without_area: AtomicU64,
    pub(crate) scores_above_one: AtomicU64,
    pub(crate) over_limit: AtomicU64,
    pub(crate) over_max_detections: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) weights_clamped: AtomicU64,
    pub(crate) weights_raised: AtomicU64,
    pub(crate) rechecked: AtomicU64,
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

    /// Counts what the float32 model decided instead of a quantised one.
    pub(crate) fn decided(&self, decided: &Decided) {
        Self::add(&self.rechecked, decided.rechecked);
        Self::add(&self.detections, decided.added);
        self.detections.fetch_sub(decided.removed as u64, Relaxed);
    }

    pub(crate) fn stats(&self) -> DetectorStats {
        DetectorStats {
            frames: self.frames.load(Relaxed),
            detections: self.detections.load(Relaxed),
            descriptions: self.descriptions.load(Relaxed),
            non_finite: self.non_finite.load(Relaxed),
            over_limit: self.over_limit.load(Relaxed),
            over_max_detections: self.over_max_detections.load(Relaxed),
            without_area: self.without_area.load(Relaxed),
            scores_above_one: self.scores_above_one.load(Relaxed),
            sessions: self.sessions.load(Relaxed),
            weights_clamped: self.weights_clamped.load(Relaxed),
            weights_raised: self.weights_raised.load(Relaxed),
            rechecked: self.rechecked.load(Relaxed),
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
    pub(crate) model: Arc<Model>,
    pub(crate) runtime: &'static Runtime,
    pub(crate) device: Device,
    pub(crate) size: SizeRequest,
    pub(crate) batch: usize,
    pub(crate) precision: Precision,
    pub(crate) session: SessionOptions,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU needs it"))]
    pub(crate) cuda: CudaOptions,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU needs it"))]
    pub(crate) search: SearchPath,
    /// As when it was loaded: memory for results is made for it.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU needs it"))]
    pub(crate) max_detections: usize,
    pub(crate) counters: Counters,
}

/// A frame that cannot become a model input.
pub(crate) fn frame_error(frame: &Frame, source: VisionError) -> InferError {
    InferError::Frame { index: frame.index, stream: frame.stream.0, pts: frame.pts.0, source }
}

impl Shared {
    /// The same for another stage, with separate counters.
    pub(crate) fn with_own_counters(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            runtime: self.runtime,
            device: self.device,
            size: self.size,
            batch: self.batch,
            precision: self.precision,
            session: self.session.clone(),
            cuda: self.cuda.clone(),
            search: self.search.clone(),
            max_detections: self.max_detections,
            counters: Counters::default(),
        }
    }

    pub(crate) fn run_error(&self, reason: impl ToString) -> InferError {
        InferError::Run { model: self.model.card.name.clone(), reason: reason.to_string() }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_error(&self, source: framerail_cuda::CudaError) -> InferError {
        InferError::Cuda { model: self.model.card.name.clone(), source }
    }

    /// The model's input size for frames of this size.
    pub(crate) fn input_size(&self, width: u32, height: u32) -> Result<InputSize, InferError> {
        input_size(&self.model.card.input, self.size, InputSize { width, height })
    }

    /// Whether every view has the same input size.
    pub(crate) fn has_fixed_input(&self) -> bool {
        is_fixed(&self.model.card.input, self.size)
    }

    /// A view and its mapping to the model's input.
    pub(crate) fn seen(view: &View<'_>, mapping: ModelMapping) -> Seen {
        let frame = view.frame();
        let whole = || BBox::from_xyxy(0.0, 0.0, frame.width as f32, frame.height as f32);
        Seen { area: view.area().unwrap_or_else(whole), mapping }
    }

    /// Element type of the image input: the file's, except for float32 in a model that runs in float16 on a GPU.
    pub(crate) fn input_element(&self) -> Element {
        match self.model.input_element {
            Element::F32 if self.device != Device::Cpu && self.precision.is_half() => Element::F16,
            declared => declared,
        }
    }

    /// The same for writing images.
    pub(crate) fn input_dtype(&self) -> DType {
        // Models with other image types are refused on loading.
        self.input_element().image_dtype().unwrap_or(DType::F32)
    }

    /// The model's input for a frame at this input size.
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
    pub(crate) fn half_bytes(&self, shape: &InputShape, ends: HalfEnds<'_>) -> Result<Vec<u8>, InferError> {
        let half = self.model.half_bytes(shape, ends)?;
        self.counters.weights_clamped.store(half.clamped, Relaxed);
        self.counters.weights_raised.store(half.raised, Relaxed);
        Ok(half.bytes)
    }

    /// The model's result for one item of a batch.
    pub(crate) fn read(
        &self,
        decoder: &Decoder,
        tensors: &Tensors<'_>,
        item: usize,
        seen: &Seen,
        thresholds: &Thresholds,
    ) -> Result<Prediction, String> {
        Counters::add(&self.counters.frames, 1);
        match decoder {
            Decoder::Boxes(decoder) => self.detections(decoder.as_ref(), (tensors, item), seen, thresholds).map(Prediction::Detections),
            Decoder::Description(decoder) => self.description(decoder.as_ref(), (tensors, item), seen, thresholds),
        }
    }

    fn description(
        &self,
        decoder: &dyn Describe,
        (tensors, item): (&Tensors<'_>, usize),
        seen: &Seen,
        thresholds: &Thresholds,
    ) -> Result<Prediction, String> {
        let found = match decoder.describe(tensors, item, seen, thresholds.exclusive_confidence())? {
            Described::Found { value, score } => Some(Description { value, score }),
            Described::Nothing => None,
            Described::NotFinite => {
                Counters::add(&self.counters.non_finite, 1);
                None
            }
        };
        Counters::add(&self.counters.descriptions, usize::from(found.is_some()));
        Ok(Prediction::Description(found))
    }

    fn detections(
        &self,
        decoder: &dyn Decode,
        (tensors, item): (&Tensors<'_>, usize),
        seen: &Seen,
        thresholds: &Thresholds,
    ) -> Result<Vec<Detection>, String> {
        let mut candidates = Candidates::new(thresholds.exclusive_confidence(), self.model.labels.len());
        decoder.decode(tensors, item, &mut candidates)?;
        let mapping = decoder.mapping(seen);
        let place = |found: Candidate| {
            let (bbox, row) = (found.bbox, found.row);
            let mut detection = self.detection(found, &mapping)?;
            let oriented = decoder.oriented(tensors, item, row);
            detection.oriented = oriented.map(|oriented| oriented.placed(&|point| mapping.point_frame_from_model(point)));
            Some((detection, bbox, row))
        };
        let mut found: Vec<(Detection, BBox, usize)> = candidates.finish().into_iter().filter_map(place).collect();
        if found.iter().any(|(detection, ..)| detection.oriented.is_some()) {
            nms_oriented_by(&mut found, |(detection, ..)| detection, thresholds.iou, thresholds.class_agnostic);
        } else if self.model.card.output.needs_suppression() {
            nms_by(&mut found, |(detection, ..)| detection, thresholds.iou, thresholds.class_agnostic);
        }
        found.sort_by(|(a, ..), (b, ..)| b.score.total_cmp(&a.score));
        let beyond = found.len().saturating_sub(thresholds.max_detections);
        found.truncate(thresholds.max_detections);
        let mut detections = Vec::with_capacity(found.len());
        for (mut detection, bbox, row) in found {
            if let Some(mask) = decoder.mask(tensors, item, row, &bbox, seen)? {
                let (model, value) = (Arc::clone(&self.model.name), AttributeValue::Mask(Arc::new(mask)));
                detection.attributes.push(Attribute { model, value });
            }
            detections.push(detection);
        }
        let counters = &self.counters;
        Counters::add(&counters.detections, detections.len());
        counters.non_finite.fetch_add(candidates.non_finite, Relaxed);
        counters.over_limit.fetch_add(candidates.over_limit, Relaxed);
        Counters::add(&counters.over_max_detections, beyond);
        Ok(detections)
    }

    /// A box as a detection in frame pixels; counted and left out if it has no area.
    pub(crate) fn detection(&self, found: Candidate, mapping: &ModelMapping) -> Option<Detection> {
        let label = self.model.labels.get(found.class)?.clone();
        if found.bbox.width() <= 0.0 || found.bbox.height() <= 0.0 {
            Counters::add(&self.counters.without_area, 1);
            return None;
        }
        Counters::add(&self.counters.scores_above_one, usize::from(found.score > MAX_SCORE));
        let mut detection = Detection::new(mapping.bbox_frame_from_model(found.bbox), found.score, label);
        detection.landmarks = found.landmarks.into_iter().map(|point| mapping.point_frame_from_model(point)).collect();
        Some(detection)
    }
}
