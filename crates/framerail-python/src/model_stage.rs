//! The stage `torch`: a model of the user's on batches of frames.
//!
//! The stage's thread makes tensors; a second thread calls the model, so that the next batch is made meanwhile.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use framerail::{
    core::{Device, Frame, StreamId},
    cuda::Traffic,
    pipeline::{
        BatchPolicy, ConfigError, CopyKind, Counter, DetectionFormat, DeviceChoice, EdgeFormat, Emitter, ErrorKind, Flow,
        FrameItem as PipelineItem, Item, LinkContext, Options, PlanError, Stage, StageContext, StageError, StagePlan, Work,
    },
};
use pyo3::prelude::*;

use crate::{
    hosted::{at, attached, no_frames, nothing_given},
    model_caller::{Caller, CallerThread, Job, ended},
    model_input::{InputError, ModelInput},
    options,
    source::Raised,
};

/// Most frames that a stage takes at once.
const MOST_FRAMES: usize = 256;

/// A model before it runs.
pub struct ModelPlan {
    name: String,
    /// `framerail.models.ModelRunner`.
    runner: Option<Arc<Py<PyAny>>>,
    raised: Raised,
    choice: DeviceChoice,
    batch: usize,
    every: usize,
    max_wait: Option<Duration>,
    input: Option<ModelInput>,
    /// Batches in the model's hands at once.
    depth: usize,
}

impl ModelPlan {
    /// Looks the model up; one that is not there yet is missed while linking.
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
            every: options.count("every"),
            max_wait: options.optional_time("max_wait"),
            input: None,
            depth: 1,
        })
    }

    /// Where the model is to run: as it is said, else where it lies when that is a card, else where the frames are.
    fn place(&self, runner: &Py<PyAny>, frames: Device) -> Result<Device, StageError> {
        if let DeviceChoice::On(device) = self.choice {
            return Ok(device);
        }
        let own = attached(&self.raised, ErrorKind::Model, |py| runner.bind(py).getattr("own_device")?.extract::<Option<String>>())?;
        Ok(own.and_then(|name| name.parse().ok()).unwrap_or(frames))
    }
}

impl StagePlan for ModelPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input.ok_or_else(no_frames)?;
        let missing = || nothing_given("model", &self.name, &format!("pipeline.model({:?}, module)", self.name));
        let runner = self.runner.clone().ok_or_else(missing)?;
        at(input.device, self.place(&runner, input.device)?)?;
        let (output, labels, depth) = attached(&self.raised, ErrorKind::Model, |py| {
            let runner = runner.bind(py);
            runner.call_method1("prepare", (input.device.to_string(),))?;
            let output: String = runner.call_method0("output_json")?.extract()?;
            let labels: Vec<String> = runner.getattr("labels")?.extract()?;
            Ok((options::tensor(&output)?, labels, runner.getattr("depth")?.extract()?))
        })?;
        self.input = Some(ModelInput::new(output).map_err(|error| StageError::new(ErrorKind::Usage, error))?);
        self.depth = depth;
        let detections = DetectionFormat {
            model: self.name.clone(),
            labels,
            landmarks: 0,
            max_unanalysed_frames: u32::try_from(self.every - 1).unwrap_or(u32::MAX),
            has_identities: false,
        };
        Ok(Some(EdgeFormat { detections: Some(detections), ..input.clone() }))
    }

    fn batch(&self) -> BatchPolicy {
        // So many that a full batch is left of them.
        BatchPolicy { max_frames: (self.batch * self.every).min(MOST_FRAMES), max_wait: self.max_wait }
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (Some(runner), Some(input)) = (self.runner, self.input) else {
            return Err(StageError::new(ErrorKind::Internal, "the model is not there; link first"));
        };
        let Self { name, raised, batch, every, depth, .. } = *self;
        let caller = Caller { runner, raised, depth };
        let stage = ModelStage {
            name,
            input,
            batch,
            every: every as u64,
            seen: HashMap::new(),
            under_way: VecDeque::new(),
            depth,
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
    detections: Counter,
    failed: Counter,
    calls: Counter,
}

/// Items of one batch, with the places of the frames of each call among them.
struct UnderWay {
    items: Vec<Item>,
    calls: VecDeque<Vec<usize>>,
}

struct ModelStage {
    name: String,
    input: ModelInput,
    batch: usize,
    every: u64,
    /// Frames of each stream so far; only kept when frames are skipped.
    seen: HashMap<StreamId, u64>,
    under_way: VecDeque<UnderWay>,
    depth: usize,
    caller: Option<Caller>,
    thread: Option<CallerThread>,
    counters: Option<Counters>,
}

impl Stage for ModelStage {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            context: context.clone(),
            analysed: context.counter("frames_analysed"),
            detections: context.counter("detections"),
            failed: context.counter("frames_not_analysed"),
            calls: context.counter("calls"),
        });
        let caller = self.caller.take().ok_or_else(ended)?;
        self.thread = Some(CallerThread::start(caller, context.name())?);
        Ok(())
    }

    fn frame(&mut self, item: PipelineItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let mut chosen = Vec::new();
        for (place, item) in items.iter().enumerate() {
            match item {
                Item::Frame(item) if self.is_due(item.frame.stream) => chosen.push(place),
                Item::StreamEnd(end) => drop(self.seen.remove(&end.id)),
                _ => {}
            }
        }
        let mut batch = UnderWay { items, calls: VecDeque::new() };
        for places in self.calls_of(&batch.items, &chosen) {
            self.submit(&mut batch, places)?;
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
        while let Some(places) = batch.calls.pop_front() {
            self.collect(&mut batch.items, &places)?;
        }
        if let Some(counters) = &self.counters {
            count_traffic(&counters.context, Traffic::take());
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

    /// The chosen frames in groups that become one tensor each.
    fn calls_of(&self, items: &[Item], chosen: &[usize]) -> Vec<Vec<usize>> {
        let form = |place: &usize| frame_of(items, *place).map(|frame| self.input.form(frame));
        let alike = chosen.chunk_by(|a, b| form(a) == form(b));
        alike.flat_map(|group| group.chunks(self.batch)).map(<[usize]>::to_vec).collect()
    }

    /// Puts frames to work.
    fn submit(&mut self, batch: &mut UnderWay, places: Vec<usize>) -> Result<(), StageError> {
        let frames: Vec<&Frame> = places.iter().filter_map(|place| frame_of(&batch.items, *place)).collect();
        let made = match self.input.convert(&frames) {
            Ok(made) => made,
            Err(InputError::Cuda(error)) => return Err(StageError::new(ErrorKind::Resource, error)),
            Err(error) => return self.leave_out(batch, &places, &error),
        };
        let items = places.iter().filter_map(|place| match batch.items.get(*place) {
            Some(Item::Frame(item)) => Some((**item).clone()),
            _ => None,
        });
        let job = Job { memory: made.memory, mappings: made.mappings, items: items.collect() };
        self.thread.as_ref().ok_or_else(ended)?.submit(job)?;
        if let Some(counters) = &self.counters {
            counters.calls.add(1);
        }
        batch.calls.push_back(places);
        Ok(())
    }

    /// A frame that cannot be made into the model's input passes as not analysed; in a batch, the others are tried alone.
    fn leave_out(&mut self, batch: &mut UnderWay, places: &[usize], error: &InputError) -> Result<(), StageError> {
        if places.len() > 1 {
            return places.iter().try_for_each(|place| self.submit(batch, vec![*place]));
        }
        if let Some(counters) = &self.counters {
            counters.failed.add(1);
            if counters.failed.value() == 1 {
                counters.context.notice(format_args!("{} did not look at a frame: {error}", self.name));
            }
        }
        Ok(())
    }

    /// Attaches what was found in the frames of the oldest call; waits for it.
    fn collect(&mut self, items: &mut [Item], places: &[usize]) -> Result<(), StageError> {
        let found = self.thread.as_ref().ok_or_else(ended)?.collect()?;
        if let Some(counters) = &self.counters {
            counters.analysed.add(found.len() as u64);
            counters.detections.add(found.iter().map(|detections| detections.len() as u64).sum());
        }
        for (place, detections) in places.iter().zip(found) {
            if let Some(Item::Frame(item)) = items.get_mut(*place) {
                item.detections.extend(detections);
                item.analysed = true;
            }
        }
        Ok(())
    }
}

fn frame_of(items: &[Item], place: usize) -> Option<&Frame> {
    match items.get(place) {
        Some(Item::Frame(item)) => Some(&item.frame),
        _ => None,
    }
}

/// Puts what this thread moved and waited for into the statistics of its stage.
pub fn count_traffic(context: &StageContext, traffic: Traffic) {
    let copies = [
        (CopyKind::Upload, traffic.uploads, traffic.upload_bytes),
        (CopyKind::Download, traffic.downloads, traffic.download_bytes),
        (CopyKind::Device, traffic.device_copies, traffic.device_bytes),
    ];
    for (kind, count, bytes) in copies.into_iter().filter(|(_, count, _)| *count > 0) {
        context.count_copies(kind, count, bytes);
    }
    if traffic.syncs > 0 {
        context.count_syncs(traffic.syncs);
    }
}
