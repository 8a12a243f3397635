//! Runs stages on generated frames: the source `given` outputs them, the sink `collect` keeps what arrives.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use framerail::{
    core::{
        BBox, ColorDescription, Detection, DetectionOrigin, Frame, FramePool, Label, PixelFormat, Point, Pts, Rational, Rotation, StreamId,
        StreamInfo, TimeBase,
    },
    pipeline::{
        Description, DetectionFormat, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, PlanError, Registry, RunOptions, RunOutcome,
        Source, Stage, StageError, StagePlan, StageSpec, StreamEnd, Work, check,
    },
};
use parking_lot::Mutex;

/// Ticks per second of every test stream.
pub const TICKS: i64 = 1000;
/// Ticks from frame to frame.
pub const STEP: i64 = 40;

pub fn stream(id: u32, name: &str) -> Arc<StreamInfo> {
    Arc::new(StreamInfo {
        id: StreamId(id),
        source: format!("{name}.mp4").into(),
        name: name.into(),
        codec: "rawvideo".into(),
        container: "test".into(),
        width: 64,
        height: 48,
        pixel_format: PixelFormat::Yuv420p,
        sample_aspect_ratio: None,
        color: ColorDescription::default(),
        rotation: Rotation::None,
        time_base: TimeBase::new(1, TICKS).expect("positive"),
        frame_rate: Rational::new(25, 1),
        start_offset_micros: 0,
        duration_secs: None,
        frames_estimate: Some(100),
        bit_rate: None,
        metadata: Vec::new(),
        hdr: framerail_core::HdrMetadata::default(),
        field_order: framerail_core::FieldOrder::default(),
        not_delivered: Vec::new(),
        side_streams: Vec::new(),
    })
}

/// A grey 64x48 frame, brighter each time.
pub fn frame(stream: u32, index: u64) -> FrameItem {
    let mut surface = FramePool::new(1).surface(PixelFormat::Yuv420p, 64, 48).expect("size in range");
    let mut planes = surface.planes_mut().expect("own");
    planes.plane(0).fill(40 + (index % 180) as u8);
    planes.plane(1).fill(128);
    planes.plane(2).fill(128);
    FrameItem::new(Frame {
        stream: StreamId(stream),
        index,
        pts: Pts(index as i64 * STEP),
        duration: Some(STEP),
        time_base: TimeBase::new(1, TICKS).expect("positive"),
        ..Frame::of(surface)
    })
}

pub fn face(score: f32, track: Option<u64>, origin: DetectionOrigin) -> Detection {
    let mut face = Detection::new(BBox::from_xyxy(10.125, 12.0, 30.5, 36.25), score, Label { id: 0, name: "face".into() });
    face.landmarks = vec![Point { x: 15.0, y: 20.0 }, Point { x: 25.0, y: 20.123_46 }];
    face.track_id = track;
    face.origin = origin;
    face
}

/// A frame that was analysed by a model.
pub fn seen(stream: u32, index: u64, faces: Vec<Detection>) -> FrameItem {
    FrameItem { detections: faces, analysed: true, ..frame(stream, index) }
}

pub fn end(id: u32) -> Item {
    Item::StreamEnd(StreamEnd { id: StreamId(id), ended_early: None })
}

/// A complete stream of this many frames without detections.
pub fn whole(id: u32, name: &str, frames: u64) -> Vec<Item> {
    let start = [Item::StreamStart(stream(id, name))];
    start.into_iter().chain((0..frames).map(|index| frame(id, index).into())).chain([end(id)]).collect()
}

/// Interleaves the items of both.
pub fn interleaved(a: Vec<Item>, b: Vec<Item>) -> Vec<Item> {
    let mut both = Vec::new();
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        let before = both.len();
        both.extend(a.next());
        both.extend(b.next());
        if both.len() == before {
            return both;
        }
    }
}

/// What arrived, and the outcome of the run.
pub struct Ran {
    pub items: Vec<Item>,
    pub outcome: RunOutcome,
}

impl Ran {
    /// Frame numbers that arrived, by stream.
    pub fn frames(&self) -> BTreeMap<u32, Vec<u64>> {
        let mut frames: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for item in &self.items {
            if let Item::Frame(item) = item {
                frames.entry(item.frame.stream.0).or_default().push(item.frame.index);
            }
        }
        frames
    }

    pub fn error(&self) -> String {
        self.outcome.result.as_ref().map_or_else(ToString::to_string, |()| "none".to_owned())
    }

    pub fn counter(&self, name: &str) -> u64 {
        self.outcome.stats.counter(name)
    }
}

/// Runs `given ! TEXT`, where `collect` may be the sink. The number of streams is known beforehand.
pub fn run(text: &str, items: Vec<Item>) -> Ran {
    let streams = items.iter().filter(|item| matches!(item, Item::StreamStart(_))).count();
    try_run(text, items, Some(streams)).unwrap_or_else(|problem| panic!("`{text}`: {problem}"))
}

/// The same; errors before the start are returned as text.
pub fn try_run(text: &str, items: Vec<Item>, streams: Option<usize>) -> Result<Ran, String> {
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let registry = registry(items, streams, &arrived);
    let description = Description::parse(&format!("given ! {text}")).map_err(|problem| problem.to_string())?;
    let mut plan = check(&description, &registry).map_err(|problem| problem.to_string())?;
    plan.link().map_err(|problem| problem.to_string())?;
    let graph = plan.into_graph().map_err(|problem| problem.to_string())?.graph;
    let outcome = graph.start(RunOptions::default()).map_err(|problem| problem.to_string())?.wait();
    let items = std::mem::take(&mut *arrived.lock());
    Ok(Ran { items, outcome })
}

fn registry(items: Vec<Item>, streams: Option<usize>, arrived: &Arc<Mutex<Vec<Item>>>) -> Registry {
    let mut registry = framerail::registry();
    register_given(&mut registry, items, streams);
    let arrived = Arc::clone(arrived);
    let collect = StageSpec::sink("collect", "keeps what arrives");
    let result = registry.register_with(collect, move |_| Ok(Box::new(Collect { arrived: Arc::clone(&arrived) })));
    result.expect("a new name");
    registry
}

/// Registers the source `given`.
pub fn register_given(registry: &mut Registry, items: Vec<Item>, streams: Option<usize>) {
    let items = Arc::new(Mutex::new(items));
    let given = StageSpec::source("given", "gives the test's items");
    let result = registry.register_with(given, move |_| Ok(Box::new(Given { items: Arc::clone(&items), streams })));
    result.expect("a new name");
}

struct Given {
    items: Arc<Mutex<Vec<Item>>>,
    streams: Option<usize>,
}

impl StagePlan for Given {
    fn link(&mut self, _: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let labels = vec!["face".into(), "plate".into()];
        let detections = DetectionFormat { model: "test".into(), labels, landmarks: 2, ..DetectionFormat::default() };
        let frame_rate = Rational::new(25, 1);
        Ok(Some(EdgeFormat { streams: self.streams, frame_rate, detections: Some(detections), ..EdgeFormat::default() }))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let items = std::mem::take(&mut *self.items.lock()).into_iter();
        Ok(Work::Source(Box::new(Giver { items: items.collect::<Vec<_>>().into_iter() })))
    }
}

struct Giver {
    items: std::vec::IntoIter<Item>,
}

impl Source for Giver {
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(item) = self.items.next() else { return Ok(Flow::Done) };
        out.push(item)?;
        Ok(Flow::More)
    }
}

struct Collect {
    arrived: Arc<Mutex<Vec<Item>>>,
}

impl StagePlan for Collect {
    fn link(&mut self, _: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        Ok(None)
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Collector { arrived: self.arrived })]))
    }
}

struct Collector {
    arrived: Arc<Mutex<Vec<Item>>>,
}

impl Stage for Collector {
    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.arrived.lock().push(item.into());
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.arrived.lock().push(item);
        Ok(Flow::More)
    }
}

/// A source of items that the test gives one by one.
#[derive(Clone)]
struct Gate {
    items: Arc<Mutex<Receiver<Item>>>,
    format: EdgeFormat,
}

impl StagePlan for Gate {
    fn link(&mut self, _: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        Ok(Some(self.format.clone()))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Source(self))
    }
}

impl Source for Gate {
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Ok(item) = self.items.lock().recv() else { return Ok(Flow::Done) };
        out.push(item)?;
        Ok(Flow::More)
    }
}

/// All stages, and a source `gate` of this format that gives what is sent to it.
pub fn gated(format: EdgeFormat) -> (Registry, Sender<Item>) {
    let (give, items) = channel();
    let gate = Gate { items: Arc::new(Mutex::new(items)), format };
    let mut registry = framerail::registry();
    let spec = StageSpec::source("gate", "gives what the test gives");
    registry.register_with(spec, move |_| Ok(Box::new(gate.clone()))).expect("a new name");
    (registry, give)
}

/// Names of the files in a folder, in order.
pub fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<String> = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
