//! Frames in, detections out: a model by its card, run on ONNX Runtime.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use framerail_core::{Detection, Device, Frame};
use framerail_vision::{ModelMapping, Preprocess, Preprocessor, nms::nms};

use crate::{
    InferError, Precision, SizeRequest,
    card::{ModelCard, Thresholds},
    decode::{Candidate, Candidates, Decode, Tensors},
    model::Model,
    onnx::{HalfEnds, InputShape},
    runtime::{Runtime, RuntimeInfo},
    search::SearchPath,
    session::{ModelSession, SessionOptions},
    size::{InputSize, input_size},
};

/// Sessions for different input sizes that one detector keeps. Each holds the model's weights and activations.
const MAX_SESSIONS: usize = 2;

/// Beyond this many threads one picture is cut too fine to gain.
const MAX_DEFAULT_THREADS: usize = 16;

/// The most frames of one run: beyond that an option is a mistake.
const MAX_BATCH: usize = 256;

/// What to load and how to run it.
#[derive(Clone, Debug)]
pub struct DetectorOptions {
    /// Name of a model, such as `centerface`, or the path of its card.
    pub model: String,
    /// Size of the model input; by default what the card says.
    pub size: SizeRequest,
    /// Where the model runs.
    pub device: Device,
    /// Frames in one run of the model. On the CPU more than 1 gains nothing.
    pub batch: usize,
    /// Threads that one run of the model uses; by default as many as there are processors. Give 1 to each of several forks:
    /// somewhat faster beside busy stages, but each fork holds its own activations (CenterFace at 1280x736: about 130 MB).
    pub intra_threads: usize,
    /// Whether idle threads of the model spin: faster alone, slower beside other stages.
    pub spin: bool,
    /// In place of the card's; 0 to 1.
    pub confidence_threshold: Option<f32>,
    /// In place of the card's; 0 to 1.
    pub iou_threshold: Option<f32>,
    /// In place of the card's; 1 or more.
    pub max_detections: Option<usize>,
    /// The arithmetic of the model.
    pub precision: Precision,
    /// In place of the card's `prepare`.
    pub prepare: Option<bool>,
    /// ONNX Runtime's library file; looked for when not given.
    pub runtime_library: Option<PathBuf>,
    /// Where cards, models and the library are looked for.
    pub search: SearchPath,
}

impl DetectorOptions {
    /// Defaults for a model: the card's size and thresholds, CPU, one frame a run, all processors, the environment's search path.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            size: SizeRequest::Auto,
            device: Device::Cpu,
            batch: 1,
            intra_threads: std::thread::available_parallelism().map_or(1, |count| count.get().min(MAX_DEFAULT_THREADS)),
            spin: false,
            confidence_threshold: None,
            iou_threshold: None,
            max_detections: None,
            precision: Precision::Auto,
            prepare: None,
            runtime_library: None,
            search: SearchPath::from_env(),
        }
    }
}

/// What a detector and its forks have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectorStats {
    /// Frames that went through the model.
    pub frames: u64,
    /// Detections given out.
    pub detections: u64,
    /// Boxes left out because a number of theirs was NaN or infinite.
    pub non_finite: u64,
    /// Boxes above the threshold left out before suppression, because one frame had more than can be sorted out.
    pub over_limit: u64,
    /// Detections left out beyond `max_detections`.
    pub over_max_detections: u64,
    /// Sessions made: one for each input size and fork, more when sizes change often.
    pub sessions: u64,
    /// Weights beyond float16's range, cut off there; 0 in float32.
    pub weights_clamped: u64,
    /// Weights nearer to zero than float16's smallest number, set to it; 0 in float32.
    pub weights_raised: u64,
}

#[derive(Default)]
struct Counters {
    frames: AtomicU64,
    detections: AtomicU64,
    non_finite: AtomicU64,
    over_limit: AtomicU64,
    over_max_detections: AtomicU64,
    sessions: AtomicU64,
    weights_clamped: AtomicU64,
    weights_raised: AtomicU64,
}

/// What a detector and its forks have in common.
struct Shared {
    model: Model,
    runtime: &'static Runtime,
    size: SizeRequest,
    batch: usize,
    precision: Precision,
    session: SessionOptions,
    thresholds: Thresholds,
    counters: Counters,
}

/// Everything for one input size.
struct SizedModel {
    size: InputSize,
    session: ModelSession,
    preprocessor: Preprocessor,
    decoder: Box<dyn Decode>,
}

/// A loaded model that finds things in frames. One thread uses one; [`Detector::fork`] makes more.
pub struct Detector {
    shared: Arc<Shared>,
    /// The last used is at the end.
    sized: Vec<SizedModel>,
}

impl Detector {
    /// Finds card, model and ONNX Runtime, loads and checks them.
    ///
    /// A session is made with the first frame of a size, or by [`Detector::warm_up`].
    ///
    /// # Errors
    /// One clear line each for: card or model missing, card with a wrong key, file that is no ONNX model, model that does not fit
    /// its card, ONNX Runtime missing or too old, option out of range.
    pub fn load(options: &DetectorOptions) -> Result<Detector, InferError> {
        let model = Model::load(&options.model, options.prepare, &options.search)?;
        let thresholds = thresholds(options, model.card.thresholds)?;
        check_device(options.device)?;
        if !(1..=MAX_BATCH).contains(&options.batch) {
            return Err(option_error("batch", options.batch, format!("give 1 to {MAX_BATCH}")));
        }
        if !(1..=1024).contains(&options.intra_threads) {
            return Err(option_error("intra_threads", options.intra_threads, "give 1 to 1024".into()));
        }
        let batch = model.batch(options.batch)?;
        let runtime = Runtime::load(options.runtime_library.as_deref(), &options.search)?;
        let session = SessionOptions { intra_threads: options.intra_threads, spin: options.spin, ..SessionOptions::default() };
        let (size, precision, counters) = (options.size, options.precision, Counters::default());
        let shared = Shared { model, runtime, size, batch, precision, session, thresholds, counters };
        Ok(Detector { shared: Arc::new(shared), sized: Vec::new() })
    }

    /// Another detector for another thread, with sessions of its own; file, card, thresholds and statistics are shared.
    pub fn fork(&self) -> Detector {
        Detector { shared: Arc::clone(&self.shared), sized: Vec::new() }
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.shared.model.card
    }

    /// The library that runs the model.
    pub fn runtime(&self) -> &RuntimeInfo {
        self.shared.runtime.info()
    }

    /// The thresholds in force: the card's, or those of the options.
    pub fn thresholds(&self) -> Thresholds {
        self.shared.thresholds
    }

    /// The model input's size for frames of this size.
    ///
    /// # Errors
    /// `Option` when the size asked for is not one that the model takes.
    pub fn input_size_for(&self, width: u32, height: u32) -> Result<InputSize, InferError> {
        input_size(&self.shared.model.card.input, self.shared.size, InputSize { width, height })
    }

    /// Makes the session for frames of this size, so that a model which ONNX Runtime refuses is found before the first frame.
    ///
    /// # Errors
    /// `Run` when ONNX Runtime refuses the model; `Option` as [`Detector::input_size_for`].
    pub fn warm_up(&mut self, width: u32, height: u32) -> Result<(), InferError> {
        let size = self.input_size_for(width, height)?;
        self.sized_for(size).map(|_| ())
    }

    /// The detections of each frame, best first, in frame pixels. Frames may differ in size.
    ///
    /// # Errors
    /// `Frame` for one that cannot be preprocessed (leave it out and go on); `Run` when the model itself fails.
    pub fn detect(&mut self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        let mut found = Vec::with_capacity(frames.len());
        let mut rest = frames;
        while let [first, ..] = rest {
            let size = self.input_size_for(first.width, first.height)?;
            let mut run = 1;
            while run < self.shared.batch
                && let Some(next) = rest.get(run)
                && self.input_size_for(next.width, next.height)? == size
            {
                run += 1;
            }
            let (now, later) = rest.split_at(run);
            found.extend(self.detect_run(size, now)?);
            rest = later;
        }
        Ok(found)
    }

    /// What this detector and its forks have done so far.
    pub fn stats(&self) -> DetectorStats {
        let counters = &self.shared.counters;
        DetectorStats {
            frames: counters.frames.load(Relaxed),
            detections: counters.detections.load(Relaxed),
            non_finite: counters.non_finite.load(Relaxed),
            over_limit: counters.over_limit.load(Relaxed),
            over_max_detections: counters.over_max_detections.load(Relaxed),
            sessions: counters.sessions.load(Relaxed),
            weights_clamped: counters.weights_clamped.load(Relaxed),
            weights_raised: counters.weights_raised.load(Relaxed),
        }
    }

    /// One run of the model on frames that share an input size.
    fn detect_run(&mut self, size: InputSize, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        let shared = Arc::clone(&self.shared);
        let sized = self.sized_for(size)?;
        let mut mappings = Vec::with_capacity(frames.len());
        for (item, frame) in frames.iter().enumerate() {
            let mapping = sized.preprocessor.run(frame, sized.session.input_mut(item)).map_err(|source| InferError::Frame {
                index: frame.index,
                stream: frame.stream.0,
                pts: frame.pts.0,
                source,
            })?;
            mappings.push(mapping);
        }
        let decoder = &sized.decoder;
        sized.session.run(frames.len(), |tensors| {
            mappings.iter().enumerate().map(|(item, mapping)| shared.read(decoder.as_ref(), tensors, item, mapping)).collect()
        })
    }

    fn sized_for(&mut self, size: InputSize) -> Result<&mut SizedModel, InferError> {
        match self.sized.iter().position(|sized| sized.size == size) {
            Some(index) => {
                let used = self.sized.remove(index);
                self.sized.push(used);
            }
            None => {
                if self.sized.len() >= MAX_SESSIONS {
                    self.sized.remove(0);
                }
                self.sized.push(self.shared.sized(size)?);
            }
        }
        let missing = || InferError::Run { model: self.shared.model.card.name.clone(), reason: "it has no session".into() };
        self.sized.last_mut().ok_or_else(missing)
    }
}

impl Shared {
    fn sized(&self, size: InputSize) -> Result<SizedModel, InferError> {
        let (model, input) = (&self.model, &self.model.card.input);
        let spec = Preprocess {
            width: size.width,
            height: size.height,
            fit: input.fit(),
            channel_order: input.channel_order(),
            layout: input.layout,
            scale: input.scale,
            mean: input.mean,
            std: input.std,
        };
        let refused = |reason: String| InferError::Run { model: model.card.name.clone(), reason };
        let preprocessor = Preprocessor::new(spec).map_err(|error| refused(error.to_string()))?.with_sampling(input.sampling());
        let shape = model.shape(size, self.batch);
        let bytes = match self.precision.is_half() {
            // The host writes and reads float32; the model casts at both ends.
            true => self.half_bytes(&shape, HalfEnds::default())?.into(),
            false => model.bytes(&shape)?,
        };
        let session = ModelSession::new(self.runtime, &bytes, &model.card.name, shape, self.batch, &self.session)?;
        self.counters.sessions.fetch_add(1, Relaxed);
        let decoder = model.card.output.decoder(&model.card, size);
        Ok(SizedModel { size, session, preprocessor, decoder })
    }

    fn half_bytes(&self, shape: &InputShape, ends: HalfEnds) -> Result<Vec<u8>, InferError> {
        let half = self.model.half_bytes(shape, ends)?;
        self.counters.weights_clamped.store(half.clamped, Relaxed);
        self.counters.weights_raised.store(half.raised, Relaxed);
        Ok(half.bytes)
    }

    /// The detections of one item of a batch.
    fn read(&self, decoder: &dyn Decode, tensors: &Tensors<'_>, item: usize, mapping: &ModelMapping) -> Result<Vec<Detection>, String> {
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
        counters.frames.fetch_add(1, Relaxed);
        counters.detections.fetch_add(detections.len() as u64, Relaxed);
        counters.non_finite.fetch_add(candidates.non_finite, Relaxed);
        counters.over_limit.fetch_add(candidates.over_limit, Relaxed);
        counters.over_max_detections.fetch_add(beyond as u64, Relaxed);
        Ok(detections)
    }

    fn detection(&self, found: Candidate, mapping: &ModelMapping) -> Option<Detection> {
        let label = self.model.labels.get(found.class)?.clone();
        let mut detection = Detection::new(mapping.bbox_frame_from_model(found.bbox), found.score, label);
        detection.landmarks = found.landmarks.into_iter().map(|point| mapping.point_frame_from_model(point)).collect();
        Some(detection)
    }
}

fn thresholds(options: &DetectorOptions, card: Thresholds) -> Result<Thresholds, InferError> {
    let chosen = Thresholds {
        confidence: options.confidence_threshold.unwrap_or(card.confidence),
        iou: options.iou_threshold.unwrap_or(card.iou),
        max_detections: options.max_detections.unwrap_or(card.max_detections),
        ..card
    };
    chosen.check().map_err(|(key, takes)| {
        let (option, given) = match key {
            "confidence" => ("confidence_threshold", chosen.confidence.to_string()),
            "iou" => ("iou_threshold", chosen.iou.to_string()),
            _ => ("max_detections", chosen.max_detections.to_string()),
        };
        option_error(option, given, format!("give {takes}"))
    })?;
    Ok(chosen)
}

fn check_device(device: Device) -> Result<(), InferError> {
    match device {
        Device::Cpu => Ok(()),
        other => Err(option_error("device", other, "models run on the CPU for now; give device=cpu".into())),
    }
}

fn option_error(option: &'static str, given: impl ToString, reason: String) -> InferError {
    InferError::Option { option, given: given.to_string(), reason }
}
