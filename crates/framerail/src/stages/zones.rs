//! The `zones` stage: counts objects in areas, their dwell times, and crossings of lines.

mod file;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use framerail_core::{StreamId, StreamInfo};
use framerail_pipeline::{
    ArgumentSpec, Counter, DetectionFormat, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, LinkMismatch, OptionKind,
    Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{
    FrameZones, VisionError, ZoneEvent, ZoneMap, ZoneWatcher,
    zones::{Direction, TimeSpan},
};

use super::link::{detections_of, input_of, note_reads};

pub(super) use self::{file::read as read_zones, record::ZonesRecord};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(ZonesPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("zones", "counts tracks in areas, their dwell times, and crossings of lines")
        .details(
            "FILE is TOML with [[zone]] and [[line]] tables: name, points, and optionally anchor, classes, streams, units and margin. \
             `save` records the results and `draw` draws them.\n\nDetections in a zone are counted; for tracks the dwell time is measured \
             too. A line is crossed when a track is beyond it by more than the margin, relative to the box's height, so that jitter does \
             not count: `in` is from the line's left to its right as seen from its first point. Stays and crossings need identities: put \
             `track` before it.\n\nTracks that are inside when a stream ends leave on its last frame. For this, frames of files are passed \
             on one frame late; frames of live streams are passed on immediately, and such stays are only counted.",
        )
        .argument(ArgumentSpec::required("file", OptionKind::Path, "zones and lines, such as yard.toml"))
        .example(
            "read in.mp4 ! infer centerface confidence=0.1 ! track ! zones yard.toml ! draw tracks=yes ! write out.mp4",
            "draw zones \
                                                                                                                               and lines",
        )
        .example("read in.mp4 ! infer centerface ! track ! zones yard.toml ! save events.jsonl only_found=yes", "counts, stays, crossings")
}

fn usage(error: VisionError, file: &std::path::Path) -> StageError {
    StageError::new(ErrorKind::Usage, format!("{}: {error}", file.display()))
}

struct ZonesPlan {
    file: PathBuf,
    map: ZoneMap,
    has_identities: bool,
    /// Frames must not wait for the next one.
    is_live: bool,
}

impl ZonesPlan {
    fn new(options: &Options) -> Self {
        Self { file: options.path("file").to_owned(), map: ZoneMap::default(), has_identities: false, is_live: false }
    }

    fn check_classes(&self, detections: &DetectionFormat) -> Result<(), StageError> {
        let is_known = |class: &&String| detections.labels.is_empty() || detections.labels.contains(class);
        for shape in self.map.shapes() {
            if let Some(stray) = shape.classes.iter().find(|class| !is_known(class)) {
                let known = detections.labels.join(", ");
                let problem = format!(
                    "{}: `{}` is for class `{stray}`, which the model does not have; it has {known}",
                    self.file.display(),
                    shape.name
                );
                return Err(StageError::new(ErrorKind::Usage, problem));
            }
        }
        Ok(())
    }

    /// Points in pixels, checked against the frame size if it is known.
    fn check_size(&self, (width, height): (u32, u32)) -> Result<(), StageError> {
        let mut everywhere = self.map.clone();
        everywhere.zones.iter_mut().for_each(|zone| zone.shape.streams.clear());
        everywhere.lines.iter_mut().for_each(|line| line.shape.streams.clear());
        everywhere.watcher("", width, height).map(|_| ()).map_err(|error| usage(error, &self.file))
    }
}

impl StagePlan for ZonesPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let detections = detections_of(input)?;
        self.map = file::read(&self.file)?;
        note_reads(&context.files, [self.file.as_path()])?;
        self.map.check().map_err(|error| usage(error, &self.file))?;
        if let Some(timed) = self.map.shapes().find(|shape| shape.during != TimeSpan::default()) {
            let words = format_args!("`{}` has a start or an end, which hold for `blur` and `regions` only; leave them out", timed.name);
            return Err(StageError::new(ErrorKind::Usage, format!("{}: {words}", self.file.display())).into());
        }
        self.check_classes(detections)?;
        if let Some(size) = input.size {
            self.check_size(size)?;
        }
        self.has_identities = detections.has_identities;
        self.is_live = input.is_live;
        if !self.has_identities && !self.map.lines.is_empty() {
            return Err(PlanError::Link(LinkMismatch {
                needs: "detections with identities, for its lines".into(),
                hint: "put `track` before it".into(),
            }));
        }
        Ok(Some(input.clone()))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let zones = Zones { plan: *self, streams: BTreeMap::new(), last: BTreeMap::new(), came: BTreeSet::new(), counters: None };
        Ok(Work::Stages(vec![Box::new(zones)]))
    }
}

struct Counters {
    entered: Counter,
    left: Counter,
    crossed_in: Counter,
    crossed_out: Counter,
    context: StageContext,
}

struct Zones {
    plan: ZonesPlan,
    streams: BTreeMap<StreamId, ZoneWatcher>,
    /// The latest frame of each stream, which gets the events of its end.
    last: BTreeMap<StreamId, FrameItem>,
    /// Names of the streams that appeared, if shapes are for certain streams.
    came: BTreeSet<String>,
    counters: Option<Counters>,
}

impl Stage for Zones {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        if !self.plan.has_identities {
            context.notice("detections have no identity here, so they are counted but not timed; put `track` before it");
        }
        self.counters = Some(Counters {
            entered: context.counter("zones_entered"),
            left: context.counter("zones_left"),
            crossed_in: context.counter("lines_crossed_in"),
            crossed_out: context.counter("lines_crossed_out"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(watcher) = self.streams.get_mut(&item.frame.stream) else {
            let message = format!("a frame of stream {} came before the stream's start", item.frame.stream);
            return Err(StageError::new(ErrorKind::Internal, message));
        };
        let found = watcher.watch(&item.detections, item.frame.seconds());
        if let Some(counters) = &self.counters {
            found.events.iter().for_each(|event| counters.count(event));
        }
        item.attachments.insert(found);
        let ready = if self.holds_last() { self.last.insert(item.frame.stream, item) } else { Some(item) };
        if let Some(item) = ready {
            out.push(item.into())?;
        }
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => self.begin(info)?,
            Item::StreamEnd(end) => self.end(end.id, out)?,
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.end(id, out))?;
        let missing = |name: &&String| !self.came.contains(*name);
        for shape in self.plan.map.shapes() {
            if let (Some(name), Some(counters)) = (shape.streams.iter().find(missing), &self.counters) {
                counters.context.notice(format_args!("`{}` is for stream `{name}`, which did not appear", shape.name));
            }
        }
        Ok(())
    }
}

impl Zones {
    fn begin(&mut self, info: &StreamInfo) -> Result<(), StageError> {
        let watcher = self.plan.map.watcher(&info.name, info.width, info.height).map_err(|error| usage(error, &self.plan.file))?;
        self.streams.insert(info.id, watcher);
        if self.plan.map.shapes().any(|shape| shape.streams.contains(&info.name)) {
            self.came.insert(info.name.clone());
        }
        Ok(())
    }
}

impl Zones {
    fn holds_last(&self) -> bool {
        self.plan.has_identities && !self.plan.is_live && !self.plan.map.zones.is_empty()
    }

    /// Ends the stays of tracks that are still inside, and releases the last frame.
    fn end(&mut self, id: StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let (Some(mut watcher), last) = (self.streams.remove(&id), self.last.remove(&id)) else { return Ok(()) };
        let found = last.as_ref().and_then(|item| item.attachments.get::<FrameZones>());
        let mut found =
            found.cloned().unwrap_or_else(|| FrameZones { zones: watcher.states().0.cloned().collect(), ..FrameZones::default() });
        let known = found.events.len();
        watcher.end(&mut found);
        if let Some(counters) = &self.counters {
            found.events.iter().skip(known).for_each(|event| counters.count(event));
        }
        if let Some(mut item) = last {
            item.attachments.insert(found);
            out.push(item.into())?;
        }
        Ok(())
    }
}

impl Counters {
    fn count(&self, event: &ZoneEvent) {
        let counter = match event {
            ZoneEvent::Entered { .. } => &self.entered,
            ZoneEvent::Left { .. } => &self.left,
            ZoneEvent::Crossed { direction: Direction::In, .. } => &self.crossed_in,
            ZoneEvent::Crossed { direction: Direction::Out, .. } => &self.crossed_out,
        };
        counter.add(1);
    }
}
