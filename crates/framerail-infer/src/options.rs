//! What to load and how to run it, and what was done.

use std::path::PathBuf;

use framerail_core::Device;

use crate::{CudaOptions, InferError, Precision, SizeRequest, card::Thresholds, search::SearchPath};

/// The most frames of one run: beyond that an option is a mistake.
const MAX_BATCH: usize = 256;

/// Beyond this many threads one picture is cut too fine to gain.
const MAX_DEFAULT_THREADS: usize = 16;

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
    /// How it runs on a card; unused on the CPU.
    pub cuda: CudaOptions,
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
            cuda: CudaOptions::default(),
            runtime_library: None,
            search: SearchPath::from_env(),
        }
    }
}

/// What a model and its forks have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectorStats {
    /// Frames, or parts of frames, that went through the model.
    pub frames: u64,
    /// Detections given out.
    pub detections: u64,
    /// Answers of models that are not for detection; less than `frames` where nothing scored above the threshold.
    pub descriptions: u64,
    /// Boxes and answers left out because a number of theirs was NaN or infinite.
    pub non_finite: u64,
    /// Boxes left out because their corners span no area: x2 ≤ x1 or y2 ≤ y1, as where a card names the corners in a wrong order.
    pub without_area: u64,
    /// Detections with a score above 1, as where a card leaves out the activation that turns the model's numbers into scores.
    pub scores_above_one: u64,
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
    /// Runs of the model on a card.
    pub runs: u64,
    /// Places that stayed empty in batches on a card: those run whole always.
    pub padded: u64,
    /// Frames that lay on the host and were uploaded for a model on a card.
    pub uploaded: u64,
    /// Sessions on a card of which some operators run on the CPU, with copies there and back.
    pub sessions_partly_on_cpu: u64,
    /// Sessions on a card whose outputs cross to the host whole, because nothing on the card reads them.
    pub sessions_decoded_on_host: u64,
}

impl DetectorStats {
    /// The sum of two: the same model on two devices.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            detections: self.detections + other.detections,
            descriptions: self.descriptions + other.descriptions,
            non_finite: self.non_finite + other.non_finite,
            without_area: self.without_area + other.without_area,
            scores_above_one: self.scores_above_one + other.scores_above_one,
            over_limit: self.over_limit + other.over_limit,
            over_max_detections: self.over_max_detections + other.over_max_detections,
            sessions: self.sessions + other.sessions,
            weights_clamped: self.weights_clamped + other.weights_clamped,
            weights_raised: self.weights_raised + other.weights_raised,
            runs: self.runs + other.runs,
            padded: self.padded + other.padded,
            uploaded: self.uploaded + other.uploaded,
            sessions_partly_on_cpu: self.sessions_partly_on_cpu + other.sessions_partly_on_cpu,
            sessions_decoded_on_host: self.sessions_decoded_on_host + other.sessions_decoded_on_host,
        }
    }
}

/// Refuses options that are out of range whatever the model.
pub(crate) fn check(options: &DetectorOptions) -> Result<(), InferError> {
    if !(1..=MAX_BATCH).contains(&options.batch) {
        return Err(option_error("batch", options.batch, format!("give 1 to {MAX_BATCH}")));
    }
    if !(1..=1024).contains(&options.intra_threads) {
        return Err(option_error("intra_threads", options.intra_threads, "give 1 to 1024".into()));
    }
    if !(1..=CudaOptions::MAX_SLOTS).contains(&options.cuda.slots) {
        return Err(option_error("slots", options.cuda.slots, format!("give 1 to {}", CudaOptions::MAX_SLOTS)));
    }
    Ok(())
}

/// The thresholds in force: those of the options, else the card's.
pub(crate) fn thresholds(options: &DetectorOptions, card: Thresholds) -> Result<Thresholds, InferError> {
    let chosen = Thresholds {
        confidence: options.confidence_threshold.unwrap_or(card.confidence),
        iou: options.iou_threshold.unwrap_or(card.iou),
        max_detections: options.max_detections.unwrap_or(card.max_detections),
        ..card
    };
    changed(chosen)
}

/// Thresholds that are in range.
pub(crate) fn changed(chosen: Thresholds) -> Result<Thresholds, InferError> {
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

fn option_error(option: &'static str, given: impl ToString, reason: String) -> InferError {
    InferError::Option { option, given: given.to_string(), reason }
}
