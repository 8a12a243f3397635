//! The stage `torch`: runs a user model on batches of frames.
//!
//! The stage's thread makes tensors; a second thread calls the model, so that the next batch is made meanwhile.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use framerail::{
    core::{Detection as CoreDetection, Device, StreamId},
    cuda::Traffic,
    devices::account,
    pipeline::{
        BatchPolicy, ConfigError, Counter, DetectionFormat, DeviceChoice, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem as PipelineItem,
        Item, LinkContext, LinkMismatch, Options, PartFormat, PlanError, SettingSpec, Stage, StageContext, StageError, StagePlan, Work,
    },
};
use pyo3::prelude::*;

use crate::{
    hosted::{at, attached, no_frames, nothing_given},
    model_answers::{Look, area, looks, put},
    model_caller::{Caller, CallerThread, Job, ended},
    model_input::{InputError, ModelInput, View},
    options,
    source::Raised,
};

/// Maximum number of frames per call of the stage.
const MOST_FRAMES: usize = 256;

/// A model before the run.
pub struct ModelPlan {
    name: String,
    /// `framerail.models.ModelRunner`.
    runner: Option<Arc<Py<PyAny>>>,
    raised: Raised,
    choice: DeviceChoice,
    batch: usize,
    is_padded: bool,
    every: usize,
    max_wait: Option<Duration>,
    input: Option<ModelInput>,
    /// Maximum number of batches in flight.
    depth: usize,
    /// Minimum score, for known output forms.
    confidence: Option<f64>,
}

impl ModelPlan {
    /// Looks up the model; a missing one is reported while linking.
    pub fn new(
        options: &Options,
        device: DeviceChoice,
        models: &BTreeMap<String, Arc<Py<PyAny>>>,
        raised: &Raised,
    ) -> Result<Self, ConfigError> {
        let name = options.text("model").to_owned();
        Ok(Self {
            runner: models.get(&name).cloned(),
            name,
            raised: Arc::clone(raised),
            choice: DeviceChoice::of(options)?.unwrap_or(device),
            batch: options.count("batch"),
            is_padded: options.switch("pad"),
            every: options.count("every"),
            max_wait: options.optional_time("max_wait"),
            input: None,
            depth: 1,
            confidence: None,
        })
    }

    /// The device of the model: as given, else its own if that is a GPU, else that of the frames.
    fn place(&self, runner: &Py<PyAny>, frames: Device) -> Result<Device, StageError> {
        if let DeviceChoice::On(device) = self.choice {
            return Ok(device);
        }
        let own = attached(&self.raised, ErrorKind::Model, |py| runner.bind(py).getattr("own_device")?.extract::<Option<String>>())?;
        Ok(own.and_then(|name| name.parse().ok()).unwrap_or(frames))
    }
}

impl StagePlan for ModelPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input.ok_or_else(no_frames)?;
        if let Some(PartFormat::Detections { every }) = &input.parts
            && *every > 1
        {
            let (needs, hint) = ("parts of every frame".into(), "leave out `every=` of the stage before it".into());
            return Err(PlanError::Link(LinkMismatch { needs, hint }));
        }
        let missing = || nothing_given("model", &self.name, &format!("pipeline.model({:?}, module)", self.name));
        let runner = self.runner.clone().ok_or_else(missing)?;
        at(input.device, self.place(&runner, input.device)?)?;
        let (output, labels, depth, confidence) = attached(&self.raised, ErrorKind::Model, |py| {
            let runner = runner.bind(py);
            runner.call_method1("prepare", (input.device.to_string(),))?;
            let output: String = runner.call_method0("output_json")?.extract()?;
            let labels: Vec<String> = runner.getattr("labels")?.extract()?;
            Ok((options::tensor(&output)?, labels, runner.getattr("depth")?.extract()?, runner.getattr("confidence")?.extract()?))
        })?;
        self.input = Some(ModelInput::new(output).map_err(|error| StageError::new(ErrorKind::Usage, error))?);
        self.depth = depth;
        self.confidence = confidence;
        let detections = DetectionFormat {
            model: self.name.clone(),
            labels,
            max_unanalysed_frames: u32::try_from(self.every - 1).unwrap_or(u32::MAX),
            ..DetectionFormat::default()
        };
        // Results for parts around detections belong to these.
        let is_of_detections = matches!(input.parts, Some(PartFormat::Detections { .. }));
        let detections = if is_of_detections { input.detections.clone() } else { Some(detections) };
        Ok(Some(EdgeFormat { detections, parts: None, ..input.clone() }))
    }

    fn takes_parts(&self) -> bool {
        true
    }

    fn batch(&self) -> BatchPolicy {
        // Enough for a full batch.
        BatchPolicy { max_frames: (self.batch * self.every).min(MOST_FRAMES), max_wait: self.max_wait }
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (Some(runner), Some(input)) = (self.runner, self.input) else {
            return Err(StageError::new(ErrorKind::Internal, "the model is not there; link first"));
        };
        let Self { name, raised, batch, is_padded, every, depth, confidence, .. } = *self;
        let caller = Caller { runner, raised, depth, confidence: None };
        let stage = ModelStage {
            name: name.into(),
            input,
            batch,
            is_padded,
            every: every as u64,
            seen: HashMap::new(),
            under_way: VecDeque::new(),
            depth,
            confidence,
            caller: Some(caller),
            thread: None,
            counters: None,
        };
        Ok(Work::Stages(vec![Box::new(stage)]))
    }
}

struct Counters {
    context: StageContext,
    analysed: Counter,
    parts: Counter,
    detections: Counter,
    outside: Counter,
    failed: Counter,
    calls: Counter,
    empty: Counter,
}

/// Items of one batch, with the views of each call.
struct UnderWay {
    items: Vec<Item>,
    calls: VecDeque<Vec<Look>>,
}

struct ModelStage {
    name: Arc<str>,
    input: ModelInput,
    batch: usize,
    /// Whether each call has exactly that many frames.
    is_padded: bool,
    every: u64,
    /// Number of frames of each stream so far; only used when frames are skipped.
    seen: HashMap<StreamId, u64>,
    under_way: VecDeque<UnderWay>,
    depth: usize,
    /// The settings at the start of the run.
    confidence: Option<f64>,
    caller: Option<Caller>,
    thread: Option<CallerThread>,
    counters: Option<Counters>,
}

impl Stage for ModelStage {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            context: context.clone(),
            analysed: context.counter("frames_analysed"),
            parts: context.counter("parts_analysed"),
            detections: context.counter("detections"),
            outside: context.counter("detections_outside"),
            failed: context.counter("frames_not_analysed"),
            calls: context.counter("calls"),
            empty: context.counter("places_empty"),
        });
        let confidence = |value| context.setting(SettingSpec::new("confidence", 0.0..=1.0).help("minimum score of a detection"), value);
        let caller = Caller { confidence: self.confidence.map(confidence), ..self.caller.take().ok_or_else(ended)? };
        self.thread = Some(CallerThread::start(caller)?);
        Ok(())
    }

    fn frame(&mut self, item: PipelineItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let mut chosen = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match item {
                Item::Frame(item) if self.is_due(item.frame.stream) => chosen.extend(looks(item, place)),
                Item::StreamEnd(end) => drop(self.seen.remove(&end.id)),
                _ => {}
            }
        }
        let mut batch = UnderWay { items, calls: VecDeque::new() };
        for looks in self.calls_of(&batch.items, &chosen) {
            self.submit(&mut batch, looks)?;
        }
        self.under_way.push_back(batch);
        while self.under_way.len() > self.depth {
            self.idle(out)?;
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(mut batch) = self.under_way.pop_front() else { return Ok(Flow::More) };
        let mut answers = Vec::new();
        while let Some(looks) = batch.calls.pop_front() {
            answers.extend(looks.iter().copied().zip(self.collect()?));
        }
        let outside = put(&self.name, &mut batch.items, answers);
        if let Some(counters) = &self.counters {
            counters.outside.add(outside);
            account(&counters.context, Traffic::take());
            if let Some((device, bytes)) = self.input.device_bytes() {
                counters.context.memory(device, bytes);
            }
        }
        batch.items.into_iter().try_for_each(|item| out.push(item))?;
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while self.has_work_under_way() {
            self.idle(out)?;
        }
        self.thread.as_mut().map_or(Ok(()), CallerThread::finish)
    }
}

impl ModelStage {
    fn is_due(&mut self, stream: StreamId) -> bool {
        if self.every == 1 {
            return true;
        }
        let seen = self.seen.entry(stream).or_insert(0);
        *seen += 1;
        (*seen - 1).is_multiple_of(self.every)
    }

    /// The selected views, in groups that become one tensor each.
    fn calls_of(&self, items: &[Item], chosen: &[Look]) -> Vec<Vec<Look>> {
        let form = |look: &Look| view_of(items, *look).map(|view| self.input.form(view));
        let alike = chosen.chunk_by(|a, b| form(a) == form(b));
        alike.flat_map(|group| group.chunks(self.batch)).map(<[Look]>::to_vec).collect()
    }

    /// Submits frames, or parts of them.
    fn submit(&mut self, batch: &mut UnderWay, looks: Vec<Look>) -> Result<(), StageError> {
        let mut views: Vec<View<'_>> = looks.iter().filter_map(|look| view_of(&batch.items, *look)).collect();
        let areas = views.iter().map(|view| view.area).collect();
        let empty = if self.is_padded { self.batch.saturating_sub(views.len()) } else { 0 };
        if let Some(last) = views.last().copied() {
            views.extend(std::iter::repeat_n(last, empty));
        }
        let made = match self.input.convert(&views) {
            Ok(made) => made,
            Err(InputError::Cuda(error)) => return Err(StageError::new(ErrorKind::Resource, error)),
            Err(error) => return self.leave_out(batch, &looks, &error),
        };
        let items = looks.iter().filter_map(|look| frame_of(&batch.items, look.place)).cloned().collect();
        self.thread.as_ref().ok_or_else(ended)?.submit(Job { memory: made.memory, mappings: made.mappings, items, areas })?;
        if let Some(counters) = &self.counters {
            counters.calls.add(1);
            counters.empty.add(empty as u64);
            let parts = looks.iter().filter(|look| look.part.is_some()).count() as u64;
            counters.parts.add(parts);
            counters.analysed.add(looks.len() as u64 - parts);
        }
        batch.calls.push_back(looks);
        Ok(())
    }

    /// Frames that cannot become a model input pass as not analysed; the others of the batch are tried one by one.
    fn leave_out(&mut self, batch: &mut UnderWay, looks: &[Look], error: &InputError) -> Result<(), StageError> {
        if looks.len() > 1 {
            return looks.iter().try_for_each(|look| self.submit(batch, vec![*look]));
        }
        if let Some(counters) = &self.counters {
            counters.failed.add(1);
            if counters.failed.value() == 1 {
                counters.context.notice(format_args!("{} did not run on a frame: {error}", self.name));
            }
        }
        Ok(())
    }

    /// The results of the oldest call; waits for it.
    fn collect(&self) -> Result<Vec<Vec<CoreDetection>>, StageError> {
        let found = self.thread.as_ref().ok_or_else(ended)?.collect()?;
        if let Some(counters) = &self.counters {
            counters.detections.add(found.iter().map(|detections| detections.len() as u64).sum());
        }
        Ok(found)
    }
}

fn frame_of(items: &[Item], place: usize) -> Option<&PipelineItem> {
    match items.get(place) {
        Some(Item::Frame(item)) => Some(item),
        _ => None,
    }
}

fn view_of(items: &[Item], look: Look) -> Option<View<'_>> {
    let item = frame_of(items, look.place)?;
    Some(View { frame: &item.frame, area: area(item, look) })
}
