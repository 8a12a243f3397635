//! The `infer` stage: runs a model on frames and attaches what it finds.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use framerail_core::{Device, Frame, StreamId};
use framerail_infer::{Detector, DetectorOptions, InferError, Precision, Runtime, SizeRequest};
use framerail_pipeline::{
    ArgumentSpec, BatchPolicy, ConfigError, Counter, DetectionFormat, DeviceChoice, EdgeFormat, Emitter, Flow, FrameItem, Item,
    LinkContext, OptionKind, OptionSpec, Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan,
    StageSpec, Work,
};

use super::link::input_of;
use crate::{
    convert::model_error,
    devices::{Devices, Settled, unusable},
};

pub(super) fn register(registry: &mut Registry, devices: &Arc<Devices>) -> Result<(), RegistryError> {
    let devices = Arc::clone(devices);
    registry.register_with(spec(), move |options| InferPlan::new(options, &devices).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("infer", "finds things in frames with an ONNX model")
        .details(
            "The model is named by its card: a TOML file that says what the ONNX file takes and gives. Detections are attached to the \
             frame, in frame pixels. More workers use more memory: each holds its own activations.\n\n\
             On a card, frames that lie there are taken as they are, and only detections come back; frames on the host are uploaded.",
        )
        .argument(ArgumentSpec::required("model", OptionKind::Text, "name of a model, such as centerface, or path of its card"))
        .option(OptionSpec::float("confidence", 0.0..=1.0).help("least score of a detection; the card's otherwise"))
        .option(OptionSpec::float("iou", 0.0..=1.0).help("overlap above which the weaker of two boxes goes; the card's otherwise"))
        .option(OptionSpec::integer("max_detections", 1..=100_000).help("most detections in a frame; the card's otherwise"))
        .option(
            OptionSpec::text("size").default("auto").help("model input: auto (the card's), full, WIDTHxHEIGHT, 50%, or the longest side"),
        )
        .option(OptionSpec::integer("every", 1..=1000).default(1).unit("frames").help("look at every Nth frame; `hold` fills in between"))
        .option(OptionSpec::integer("batch", 1..=256).default(1).unit("frames").help("frames in one run of the model; no gain on the CPU"))
        .option(OptionSpec::integer("threads", 1..=1024).help("threads of one run of the model; all processors, shared among the workers"))
        .option(DeviceChoice::option("where the model runs: auto, cpu, cuda or cuda:N; what --device says otherwise"))
        .option(
            OptionSpec::choice(
                "precision",
                &[
                    ("auto", "float32; on a card its products round their inputs to 10 bits (TF32)"),
                    ("fp32", "float32"),
                    ("fp16", "float16: for cards; slower on the CPU"),
                ],
            )
            .default("auto")
            .help("the model's arithmetic"),
        )
        .option(OptionSpec::path("runtime").help("ONNX Runtime's library file; looked for otherwise"))
        .workers(1)
        .example("read in.mp4 ! infer centerface confidence=0.3 ! save boxes.jsonl", "find faces")
        .example("read in.mp4 ! infer centerface every=3 size=640x384 ! hold ! blur ! write out.mp4", "faster: every third frame, smaller")
}

struct InferPlan {
    model: String,
    detector: DetectorOptions,
    every: u64,
    workers: usize,
    devices: Arc<Devices>,
    choice: DeviceChoice,
    /// The card, once it was looked for.
    settled: Option<Settled>,
    loaded: Option<Detector>,
}

impl InferPlan {
    fn new(options: &Options, devices: &Arc<Devices>) -> Result<Self, ConfigError> {
        let model = options.text("model").to_owned();
        let workers = options.workers();
        let every = options.count("every") as u64;
        if every > 1 && workers > 1 {
            return Err(ConfigError::at("workers", "workers cannot count frames together").help("with every=N, use one worker"));
        }
        let mut detector = DetectorOptions::new(&model);
        detector.size = options.text("size").parse::<SizeRequest>().map_err(|error| ConfigError::at("size", error))?;
        detector.confidence_threshold = options.optional_float("confidence").map(|value| value as f32);
        detector.iou_threshold = options.optional_float("iou").map(|value| value as f32);
        detector.max_detections = options.optional_integer("max_detections").and_then(|count| usize::try_from(count).ok());
        detector.batch = options.count("batch");
        let share = detector.intra_threads.div_ceil(workers);
        detector.intra_threads = options.optional_integer("threads").and_then(|count| usize::try_from(count).ok()).unwrap_or(share);
        detector.runtime_library = options.optional_path("runtime").map(PathBuf::from);
        detector.precision = options.choice("precision").parse::<Precision>().map_err(|error| ConfigError::at("precision", error))?;
        let choice = devices.choice(DeviceChoice::of(options)?);
        Ok(Self { model, detector, every, workers, devices: Arc::clone(devices), choice, settled: None, loaded: None })
    }

    /// Loads the model where it is to run: on the card that was found, or, where the device is ours to choose and the model
    /// does not run there, on the CPU.
    fn load(&mut self, input: &EdgeFormat) -> Result<Detector, PlanError> {
        if self.settled.is_none() {
            let can = |_: &Arc<framerail_cuda::CudaDevice>| has_cuda_provider(&self.detector);
            self.settled = Some(self.devices.settle(self.choice, input.device, "running the model", can)?);
        }
        let settled = self.settled.get_or_insert_default();
        if let Some(card) = &settled.card {
            let error = match load_on(&self.detector, card.id(), input.size) {
                Ok(detector) => return Ok(detector),
                Err(error) => error,
            };
            if !is_about_the_card(&error) {
                return Err(model_error(error).into());
            }
            if self.choice != DeviceChoice::Auto {
                return Err(unusable(card.id(), &error.to_string()).into());
            }
            *settled = Settled { card: None, notice: self.devices.fall_back("running the model", error.to_string()) };
        }
        if input.device != Device::Cpu {
            return Err(PlanError::NeedsDevice(Device::Cpu));
        }
        Ok(load_on(&self.detector, Device::Cpu, input.size).map_err(model_error)?)
    }
}

/// Whether ONNX Runtime can run models on cards.
fn has_cuda_provider(options: &DetectorOptions) -> Result<(), String> {
    let runtime = Runtime::load(options.runtime_library.as_deref(), &options.search).map_err(|error| error.to_string())?;
    let info = runtime.info();
    if info.providers.iter().any(|provider| provider == "cuda") {
        return Ok(());
    }
    Err(format!(
        "ONNX Runtime {} at {} runs on {} only; install onnxruntime-gpu",
        info.version,
        info.path.display(),
        info.providers.join(", ")
    ))
}

fn load_on(options: &DetectorOptions, device: Device, size: Option<(u32, u32)>) -> Result<Detector, InferError> {
    let mut detector = Detector::load(&DetectorOptions { device, ..options.clone() })?;
    if let Some((width, height)) = size {
        detector.warm_up(width, height)?;
    }
    Ok(detector)
}

/// Whether the model may well run on the CPU.
fn is_about_the_card(error: &InferError) -> bool {
    matches!(error, InferError::Runtime { .. } | InferError::Run { .. } | InferError::Option { option: "device", .. })
}

impl StagePlan for InferPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let detector = self.load(input)?;
        let card = detector.card();
        let detections = DetectionFormat {
            model: card.name.clone(),
            labels: card.labels.clone(),
            landmarks: card.landmarks.len(),
            max_unanalysed_frames: u32::try_from(self.every - 1).unwrap_or(u32::MAX),
        };
        self.loaded = Some(detector);
        Ok(Some(EdgeFormat { detections: Some(detections), ..input.clone() }))
    }

    fn batch(&self) -> BatchPolicy {
        BatchPolicy { max_frames: self.detector.batch, max_wait: None }
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let detector = match self.loaded {
            Some(detector) => detector,
            None => Detector::load(&self.detector).map_err(model_error)?,
        };
        let forks: Vec<Detector> = (1..self.workers).map(|_| detector.fork()).collect();
        let mut notice = self.settled.and_then(|settled| settled.notice);
        let stage = |detector| {
            let notice = notice.take();
            let infer = Infer { model: self.model.clone(), detector, every: self.every, seen: HashMap::new(), notice, counters: None };
            Box::new(infer) as Box<dyn Stage>
        };
        Ok(Work::Stages(std::iter::once(detector).chain(forks).map(stage).collect()))
    }
}

struct Counters {
    context: StageContext,
    analysed: Counter,
    detections: Counter,
    failed: Counter,
    non_finite: Counter,
    over_limit: Counter,
}

struct Infer {
    model: String,
    detector: Detector,
    every: u64,
    /// Frames of each stream so far; only kept when frames are skipped.
    seen: HashMap<StreamId, u64>,
    /// What was decided while linking and the user should know.
    notice: Option<String>,
    counters: Option<Counters>,
}

impl Stage for Infer {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        if let Some(notice) = self.notice.take() {
            context.notice(notice);
        }
        self.counters = Some(Counters {
            context: context.clone(),
            analysed: context.counter("frames_analysed"),
            detections: context.counter("detections"),
            failed: context.counter("frames_not_analysed"),
            non_finite: context.counter("boxes_not_finite"),
            over_limit: context.counter("boxes_over_limit"),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, mut items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let mut chosen = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match item {
                Item::Frame(item) if self.is_due(item.frame.stream) => chosen.push(place),
                Item::StreamEnd(end) => {
                    self.seen.remove(&end.id);
                }
                _ => {}
            }
        }
        self.analyse(&mut items, &chosen)?;
        for item in items {
            out.push(item)?;
        }
        Ok(Flow::More)
    }
}

impl Infer {
    fn is_due(&mut self, stream: StreamId) -> bool {
        if self.every == 1 {
            return true;
        }
        let seen = self.seen.entry(stream).or_insert(0);
        *seen += 1;
        (*seen - 1).is_multiple_of(self.every)
    }

    fn analyse(&mut self, items: &mut [Item], chosen: &[usize]) -> Result<(), StageError> {
        let frames: Vec<&Frame> = chosen.iter().filter_map(|place| frame_of(items.get(*place)?)).collect();
        if frames.is_empty() {
            return Ok(());
        }
        let found = match self.detector.detect(&frames) {
            Ok(found) => found,
            Err(error) if error.is_recoverable() => return self.leave_out(items, chosen, error),
            Err(error) => return Err(model_error(error)),
        };
        if let Some(counters) = &self.counters {
            let stats = self.detector.stats();
            counters.analysed.add(found.len() as u64);
            counters.detections.add(found.iter().map(|detections| detections.len() as u64).sum());
            counters.non_finite.set(stats.non_finite);
            counters.over_limit.set(stats.over_limit + stats.over_max_detections);
        }
        for (place, detections) in chosen.iter().zip(found) {
            if let Some(Item::Frame(item)) = items.get_mut(*place) {
                item.detections = detections;
                item.analysed = true;
            }
        }
        Ok(())
    }

    /// A frame that cannot be made into a model input passes as not analysed; in a batch, the others are tried alone.
    fn leave_out(&mut self, items: &mut [Item], chosen: &[usize], error: framerail_infer::InferError) -> Result<(), StageError> {
        if chosen.len() > 1 {
            return chosen.iter().try_for_each(|place| self.analyse(items, &[*place]));
        }
        if let Some(counters) = &self.counters {
            counters.failed.add(1);
            if counters.failed.value() == 1 {
                counters.context.notice(format_args!("{} did not look at a frame: {error}", self.model));
            }
        }
        Ok(())
    }
}

fn frame_of(item: &Item) -> Option<&Frame> {
    match item {
        Item::Frame(item) => Some(&item.frame),
        _ => None,
    }
}
