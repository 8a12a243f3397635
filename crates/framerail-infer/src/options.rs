//! Options of loading and running a model, and its counters.

use std::path::PathBuf;

use framerail_core::Device;

use crate::{
    CardFile, CudaOptions, HostProvider, InferError, OpenVinoDevice, Precision, SizeRequest, card::Thresholds, openvino, search::SearchPath,
};

/// Maximum number of frames in a run.
const MAX_BATCH: usize = 256;

/// Maximum number of threads.
const MAX_DEFAULT_THREADS: usize = 16;

/// What to load and how to run it.
#[derive(Clone, Debug)]
pub struct DetectorOptions {
    /// Name of a model, such as `centerface`, or the path of its card.
    pub model: String,
    /// Size of the model input; by default the card's.
    pub size: SizeRequest,
    /// Where the model runs.
    pub device: Device,
    /// Frames in one run of the model. On the CPU more than 1 gains nothing.
    pub batch: usize,
    /// Threads of one run; by default one per CPU. Use 1 for each of several forks: somewhat faster beside busy stages, but each fork
    /// holds its own activations (CenterFace at 1280x736: about 130 MB).
    pub intra_threads: usize,
    /// Whether idle threads of the model spin: faster alone, slower beside other stages.
    pub spin: bool,
    /// Overrides the card's; 0 to 1.
    pub confidence_threshold: Option<f32>,
    /// Overrides the card's; 0 to 1.
    pub iou_threshold: Option<f32>,
    /// Overrides the card's; 1 or more.
    pub max_detections: Option<usize>,
    /// The model's arithmetic.
    pub precision: Precision,
    /// Overrides the card's `prepare`.
    pub prepare: Option<bool>,
    /// What runs it on the CPU.
    pub host_provider: HostProvider,
    /// Options for GPUs; unused on the CPU.
    pub cuda: CudaOptions,
    /// ONNX Runtime's library file; searched for if not given.
    pub runtime_library: Option<PathBuf>,
    /// Search paths of cards, models and the library.
    pub search: SearchPath,
}

impl DetectorOptions {
    /// Defaults for a model: the card's size and thresholds, CPU, one frame per run, all CPUs, the environment's search path.
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
            host_provider: HostProvider::default(),
            cuda: CudaOptions::default(),
            runtime_library: None,
            search: SearchPath::from_env(),
        }
    }
}

impl DetectorOptions {
    /// Whether the model runs on the CPU only: by its precision, its provider, or because its card is of a quantised model.
    pub fn is_for_the_cpu(&self) -> bool {
        let is_quantised = || CardFile::find(&self.model, &self.search).is_ok_and(|found| found.card.is_quantised());
        self.precision.is_of_the_cpu() || self.host_provider != HostProvider::OnnxRuntime || is_quantised()
    }
}

/// Counters of a model and its forks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectorStats {
    /// Frames, or parts of frames, that were run.
    pub frames: u64,
    /// Number of detections returned.
    pub detections: u64,
    /// Number of results of other models; less than `frames` if nothing scored above the threshold.
    pub descriptions: u64,
    /// Boxes and results left out because one of their numbers was NaN or infinite.
    pub non_finite: u64,
    /// Boxes left out because they have no area: x2 ≤ x1 or y2 ≤ y1, as when a card names the corners in a wrong order.
    pub without_area: u64,
    /// Detections with a score above 1, as when a card omits the activation.
    pub scores_above_one: u64,
    /// Boxes above the threshold left out before suppression, because one frame had too many.
    pub over_limit: u64,
    /// Detections left out beyond `max_detections`.
    pub over_max_detections: u64,
    /// Sessions created: one per input size and fork, more if sizes change often.
    pub sessions: u64,
    /// Weights beyond float16's range, which were clamped; 0 in float32.
    pub weights_clamped: u64,
    /// Weights smaller than float16's smallest number, set to it; 0 in float32.
    pub weights_raised: u64,
    /// Views on which the float32 model ran too, because a score of the quantised model was close to the threshold.
    pub rechecked: u64,
    /// Runs on a GPU.
    pub runs: u64,
    /// Unused places in batches on a GPU, which always run whole.
    pub padded: u64,
    /// Frames on the host that were uploaded for a model on a GPU.
    pub uploaded: u64,
    /// Sessions on a GPU with some operators on the CPU, with copies in both directions.
    pub sessions_partly_on_cpu: u64,
    /// Sessions on a GPU whose outputs are copied to the host whole, because the GPU has no decoder for them.
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
            rechecked: self.rechecked + other.rechecked,
            runs: self.runs + other.runs,
            padded: self.padded + other.padded,
            uploaded: self.uploaded + other.uploaded,
            sessions_partly_on_cpu: self.sessions_partly_on_cpu + other.sessions_partly_on_cpu,
            sessions_decoded_on_host: self.sessions_decoded_on_host + other.sessions_decoded_on_host,
        }
    }
}

/// Refuses options that are out of range for every model.
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
    check_for_device(options)
}

/// Refuses a precision or provider that the device does not have.
fn check_for_device(options: &DetectorOptions) -> Result<(), InferError> {
    let precision = |reason: &str| Err(option_error("precision", options.precision, reason.into()));
    if options.device != Device::Cpu {
        return match options.host_provider {
            HostProvider::OpenVino(_) => Err(option_error("provider", "openvino", "runs models of device=cpu only".into())),
            HostProvider::OnnxRuntime if options.precision.is_of_the_cpu() => {
                precision("runs on the CPU only; give device=cpu, or precision=fp16 on a GPU")
            }
            HostProvider::OnnxRuntime => Ok(()),
        };
    }
    match (options.precision, options.host_provider) {
        (Precision::Bf16, HostProvider::OnnxRuntime) if !cfg!(target_arch = "aarch64") => {
            precision("ONNX Runtime has no bfloat16 kernels for this CPU; add provider=openvino, or use int8")
        }
        (Precision::Bf16, HostProvider::OnnxRuntime | HostProvider::OpenVino(OpenVinoDevice::Cpu)) if !openvino::has_bf16() => {
            precision("this CPU has no bfloat16 instructions; leave precision out, or use int8")
        }
        _ => Ok(()),
    }
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
