//! The `infer` stage: runs a model on frames, or parts of them, and attaches the results.

mod answers;
mod counters;
mod kept;
mod kept_models;
mod lanes;
mod model;
mod output;
mod same_boxes;
mod stage;
mod swap;

use std::{path::PathBuf, sync::Arc};

use framerail_core::Device;
use framerail_infer::{DetectorOptions, HostProvider, OpenVinoDevice, Precision, Predictor, Provider, SizeRequest, Task};
use framerail_pipeline::{
    ArgumentSpec, BatchPolicy, ConfigError, DeviceChoice, EdgeFormat, ErrorKind, LinkContext, OptionKind, OptionSpec, Options, PartFormat,
    PlanError, Registry, RegistryError, Stage, StageError, StagePlan, StageSpec, TensorRequest, Work,
};
use parking_lot::Mutex;

pub use self::kept_models::keep_models;
pub(crate) use self::model::{ModelInput, SharedModels};
use self::{
    answers::{Answers, Finds},
    kept::KeptAttributes,
    model::{ANY_SIZE, Model},
    output::output,
    stage::Infer,
    swap::{Followed, Swap},
};
use super::link::{input_of, note_reads};
use crate::{convert::model_error, devices::Devices};

pub(super) fn register(registry: &mut Registry, devices: &Arc<Devices>) -> Result<(), RegistryError> {
    let devices = Arc::clone(devices);
    registry.register_with(spec(), move |options| InferPlan::new(options, &devices).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("infer", "runs an ONNX model: detections, classes, landmarks, masks, embeddings, depth, optical flow").other_names(["detect", "detector", "model", "predict", "onnx"])
        .details(
            "The model is given by its model card: a TOML file that describes the inputs and outputs of the ONNX file. Detections are \
             attached to the frame, in frame pixels, after those of an earlier `infer`. Results of a classifier or an embedding, depth and optical flow are \
             attached to the frame; a mask or landmarks make a detection around them. After `crop`, `regions` or `tiles` the model runs on \
             those parts instead of the whole frame: docs/several-models.md. Stages with the same model and options, except thresholds, \
             share it. confidence and iou can be changed during the run.\n\nMore workers use more memory: each has its own \
             activations.\n\nOn a GPU, frames are used in device memory, and only detections are copied back; frames on the host are \
             uploaded first. Two batches are in flight; one worker is enough. If no other stage reads pixels, `read` makes the model's \
             input while decoding, and the frames are not kept.",
        )
        .argument(ArgumentSpec::required("model", OptionKind::Text, "name of a model, such as centerface, or path of its model card"))
        .option(OptionSpec::float("confidence", 0.0..=1.0).help("minimum score of a detection or other result; default: the model card's"))
        .option(OptionSpec::float("iou", 0.0..=1.0).help("NMS IoU threshold; default: the model card's"))
        .option(
            OptionSpec::integer("max_detections", 1..=100_000).help("maximum number of detections per frame; default: the model card's"),
        )
        .option(OptionSpec::text("size").default("auto").help(
            "model input: auto (the model card's), full, WIDTHxHEIGHT, 50%, or the longer \
                                                           side",
        ))
        .option(OptionSpec::integer("every", 1..=1000).default(1).unit("frames").help(
            "run the model on every Nth frame; `hold` or `track` \
                                                                                       fill in between",
        ))
        .option(
            OptionSpec::choice(
                "finds",
                &[("parts", "parts of the detection"), ("detections", "detections of the frame, such as for `blur`")],
            )
            .default("parts")
            .help("after `crop`: what the detector's results become"),
        )
        .option(
            OptionSpec::integer("batch", 1..=256)
                .default("auto")
                .unit("frames")
                .or_word("auto", "1 on the CPU; 8 on a GPU, if the model supports batches")
                .help("frames, or parts of frames, per model run"),
        )
        .option(
            OptionSpec::time("max_wait")
                .help("maximum wait to fill a batch, such as 20ms; default: 40ms for live sources, 500ms for files"),
        )
        .option(OptionSpec::integer("threads", 1..=1024).help("threads of one model run; default: all CPUs, divided among the workers"))
        .option(DeviceChoice::option(
            "where the model runs: auto, cpu, cuda, cuda:N, or several GPUs as cuda:0,1 or cuda:all; default: --device",
        ))
        .option(
            OptionSpec::choice(
                "precision",
                &[
                    ("auto", "float32, or int8 if the model card is of a quantised model; on a GPU with TF32 (inputs of products rounded to 10 bits)"),
                    ("fp32", "float32"),
                    ("fp16", "float16: for GPUs; slower on the CPU"),
                    ("bf16", "bfloat16, on CPUs that have it: with provider=openvino, or on ARM"),
                    ("int8", "8-bit integers, on the CPU: the model that `framerail quantize` made"),
                ],
            )
            .default("auto")
            .help("the model's arithmetic"),
        )
        .option(
            OptionSpec::choice(
                "provider",
                &[
                    ("auto", "CUDA on a GPU, ONNX Runtime's own kernels on the CPU"),
                    ("cuda", "CUDA and cuDNN"),
                    ("tensorrt", "TensorRT, if installed; its first run takes minutes. Operators that it lacks run on CUDA. Not measured"),
                    ("openvino", "OpenVINO on the CPU, if its plugin is installed: pip install onnxruntime-ep-openvino"),
                    ("openvino-gpu", "OpenVINO on an Intel GPU. Not measured"),
                    ("openvino-npu", "OpenVINO on an Intel NPU. Not measured"),
                ],
            )
            .default("auto")
            .help("execution provider"),
        )
        .option(OptionSpec::integer("workspace", 16..=1_000_000).unit("MB").help("GPU: maximum memory for activations and workspaces"))
        .option(
            OptionSpec::choice(
                "graphs",
                &[
                    ("auto", "off"),
                    ("on", "runs are recorded once and replayed: less host work with small batches"),
                    ("off", "every run is launched separately"),
                ],
            )
            .default("auto")
            .help("GPU: CUDA graphs"),
        )
        .option(OptionSpec::path("runtime").help("ONNX Runtime's library file; default: searched"))
        .workers(1)
        .example("read in.mp4 ! infer centerface confidence=0.3 ! save boxes.jsonl", "find faces")
        .example("read in.mp4 ! infer centerface every=3 size=640x384 ! hold ! blur ! write out.mp4", "faster: every third frame, smaller")
}

/// The device for a provider: those of GPUs never fall back to the CPU, where they would be ignored.
fn on_gpu(provider: &str, choice: DeviceChoice) -> Result<DeviceChoice, ConfigError> {
    match (provider, choice) {
        ("cuda" | "tensorrt", DeviceChoice::Auto) => Ok(DeviceChoice::On(Device::Cuda(0))),
        ("cuda" | "tensorrt", DeviceChoice::On(Device::Cpu)) => {
            let error = ConfigError::at("provider", format_args!("provider={provider} runs on a GPU, and the device is cpu"));
            Err(error.help("give device=cuda, or leave provider out"))
        }
        (_, choice) => Ok(choice),
    }
}

struct InferPlan {
    name: String,
    /// Shared with the source, which may make the model's inputs.
    model: Arc<Mutex<Model>>,
    every: u64,
    /// The user's choice for results in parts around detections.
    finds: Option<Finds>,
    workers: usize,
    max_wait: Option<std::time::Duration>,
    /// How results are attached to frames; known after linking.
    answers: Option<Answers>,
    looks_at_parts: bool,
    /// Whether results of tracks are kept while the model does not run on them.
    keeps_tracks: bool,
    /// Size of the frames, where sessions can be made for it ahead.
    warm_size: Option<(u32, u32)>,
}

impl InferPlan {
    fn new(options: &Options, devices: &Arc<Devices>) -> Result<Self, ConfigError> {
        let name = options.text("model").to_owned();
        let workers = options.workers();
        let every = options.count("every") as u64;
        if every > 1 && workers > 1 {
            return Err(ConfigError::at("workers", "workers cannot count frames together").help("with every=N, use one worker"));
        }
        let count = |name: &str| options.optional_integer(name).and_then(|count| usize::try_from(count).ok());
        let mut detector = DetectorOptions::new(&name);
        detector.size = options.text("size").parse::<SizeRequest>().map_err(|error| ConfigError::at("size", error))?;
        detector.confidence_threshold = options.optional_float("confidence").map(|value| value as f32);
        detector.iou_threshold = options.optional_float("iou").map(|value| value as f32);
        detector.max_detections = count("max_detections");
        detector.precision = options.choice("precision").parse::<Precision>().map_err(|error| ConfigError::at("precision", error))?;
        let share = detector.intra_threads.div_ceil(workers);
        detector.intra_threads = count("threads").unwrap_or(share);
        detector.runtime_library = options.optional_path("runtime").map(PathBuf::from);
        match options.choice("provider") {
            "tensorrt" => detector.cuda.provider = Provider::TensorRt,
            "openvino" => detector.host_provider = HostProvider::OpenVino(OpenVinoDevice::Cpu),
            "openvino-gpu" => detector.host_provider = HostProvider::OpenVino(OpenVinoDevice::Gpu),
            "openvino-npu" => detector.host_provider = HostProvider::OpenVino(OpenVinoDevice::Npu),
            _ => {}
        }
        detector.cuda.memory_limit_bytes = count("workspace").map(|megabytes| megabytes.saturating_mul(1_000_000));
        detector.cuda.graphs = options.choice("graphs") == "on";
        let choice = on_gpu(options.choice("provider"), devices.choice(DeviceChoice::of(options)?))?;
        let model = Model::new(detector, count("batch"), devices, choice);
        let max_wait = options.optional_time("max_wait");
        let finds = if options.choice("finds") == "detections" { Finds::Detections } else { Finds::Parts };
        let finds = options.is_given("finds").then_some(finds);
        Ok(Self {
            name,
            model,
            every,
            finds,
            workers,
            max_wait,
            answers: None,
            looks_at_parts: false,
            keeps_tracks: false,
            warm_size: None,
        })
    }
}

impl StagePlan for InferPlan {
    fn prepare(&mut self) {
        self.model.lock().load_libraries_ahead();
    }

    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let mut model = self.model.lock();
        let size = input.size.map(|(width, height)| input.pixel_aspect.square_size(width, height));
        let predictor = model.load(input.device, size.filter(|_| input.parts.is_none()))?;
        note_reads(&context.files, predictor.files())?;
        if predictor.task() == Task::Flow && self.workers > 1 {
            let error = ConfigError::at("workers", "a model that compares frames needs them in order").help("leave workers out");
            return Err(StageError::new(ErrorKind::Usage, error).into());
        }
        let (format, answers) = output(predictor, input, self.every, self.finds)?;
        let warm_size = match (predictor.has_fixed_input(), &input.parts) {
            (true, _) => Some(size.unwrap_or(ANY_SIZE)),
            (false, None) => size,
            (false, Some(_)) => None,
        };
        if let Some((width, height)) = warm_size {
            // Nothing is left to do if linking loaded it.
            predictor.warm_up(width, height).map_err(model_error)?;
        }
        self.warm_size = warm_size;
        self.keeps_tracks = matches!(input.parts, Some(PartFormat::Detections { every }) if every > 1);
        if self.keeps_tracks && self.workers > 1 {
            let error =
                ConfigError::at("workers", "after `crop every=N` a single worker keeps the results of tracks").help("leave workers out");
            return Err(StageError::new(ErrorKind::Usage, error).into());
        }
        (self.answers, self.looks_at_parts) = (Some(answers), input.parts.is_some());
        if !input.other_devices.is_empty() {
            model.load_on_others(warm_size)?;
            if let Some(device) = input.other_devices.iter().find(|device| !model.other_devices().contains(device)) {
                log::debug!("{}: frames on {device} are copied to {}, where the model runs", self.name, input.device);
                return Err(PlanError::NeedsDevice(input.device));
            }
        }
        Ok(Some(format))
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn batch(&self) -> BatchPolicy {
        BatchPolicy { max_frames: self.model.lock().frames_together(), max_wait: self.max_wait }
    }

    fn wants_tensor(&self) -> Option<TensorRequest> {
        Some(Arc::new(ModelInput(Arc::clone(&self.model))))
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (mut loaded, notice) = self.model.lock().take();
        // With several GPUs, the model cannot be replaced.
        let alone = loaded.first().filter(|_| loaded.len() == 1);
        let swap = alone.map(|first| Arc::new(Swap::new(self.model.lock().options(), first, self.warm_size)));
        let not_linked = || StageError::new(ErrorKind::Internal, "the model was not loaded; link first");
        let first = loaded.first().ok_or_else(not_linked)?;
        let answers = self.answers.ok_or_else(not_linked)?;
        // A GPU runs one batch after the other; a second worker would only hold the weights again.
        let is_on_gpu = first.device() != Device::Cpu;
        let workers = if is_on_gpu { 1 } else { self.workers };
        let one_is_enough = || format!("one worker instead of {}: a GPU runs one batch after another", self.workers);
        let mut notices: Vec<String> = notice.into_iter().chain((workers < self.workers).then(one_is_enough)).collect();
        let forks: Vec<Vec<Predictor>> = (1..workers).map(|_| vec![first.fork()]).collect();
        if loaded.len() > 1 {
            notices.push(format!("runs on {} GPUs", loaded.len()));
        }
        let stage = |predictors| {
            let kept = KeptAttributes::new(self.keeps_tracks);
            let stage = Infer::new(&self.name, predictors, answers.clone(), kept, self.every);
            let followed = swap.clone().map(|swap| Followed { swap, generation: 0 });
            let stage = stage.with_parts(self.looks_at_parts).with_notices(std::mem::take(&mut notices)).with_swap(followed);
            Box::new(stage) as Box<dyn Stage>
        };
        Ok(Work::Stages(std::iter::once(std::mem::take(&mut loaded)).chain(forks).map(stage).collect()))
    }
}
