//! The `infer` stage: runs a model on frames and attaches what it finds.

use std::{collections::HashMap, path::PathBuf};

use framerail_core::{Frame, StreamId};
use framerail_infer::{Detector, DetectorOptions, SizeRequest};
use framerail_pipeline::{
    ArgumentSpec, BatchPolicy, ConfigError, Counter, DetectionFormat, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionKind,
    OptionSpec, Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use super::link::host_frames;
use crate::convert::model_error;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| InferPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("infer", "finds things in frames with an ONNX model")
        .details(
            "The model is named by its card: a TOML file that says what the ONNX file takes and gives. Detections are attached to the \
             frame, in frame pixels. More workers use more memory: each holds its own activations.",
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
    loaded: Option<Detector>,
}

impl InferPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
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
        Ok(Self { model, detector, every, workers, loaded: None })
    }
}

impl StagePlan for InferPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        let mut detector = Detector::load(&self.detector).map_err(model_error)?;
        if let Some((width, height)) = input.size {
            detector.warm_up(width, height).map_err(model_error)?;
        }
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
        let stage = |detector| {
            let infer = Infer { model: self.model.clone(), detector, every: self.every, seen: HashMap::new(), counters: None };
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
    counters: Option<Counters>,
}

impl Stage for Infer {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
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
