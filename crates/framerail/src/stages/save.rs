//! The `save` stage: detections as JSON lines.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use framerail_core::{Detection, DetectionOrigin, StreamId, StreamInfo};
use framerail_pipeline::{
    ArgumentSpec, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options, PlanError,
    Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::FrameZones;
use serde::Serialize;

use super::{
    link::{detections_of, input_of},
    zones::ZonesRecord,
};
use crate::outputs::{OneStreamGuard, OutputFile, check_output, is_standard_output, output_path, refuse_source};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(SavePlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::sink("save", "writes detections as JSON lines")
        .details(
            "One JSON object a line for every frame, in order, also for frames in which nothing was found. Its keys: stream (name), \
             stream_id (number in this run, from 0), frame (number in the stream as decoded, from 0), pts (ticks), time_base (seconds a \
             tick, as 1/12800), seconds, analysed (whether the model looked at this frame), detections.\n\n\
             Each detection has label, label_id, score (0 to 1), box [x1, y1, x2, y2] and landmarks [[x, y], ...] in frame pixels from \
             the top left corner, where a box may reach beyond the frame, track_id (the same number for the same thing over time; null \
             without `track` or `hold`) and origin: detected, interpolated (between two sightings) or held (carried on from one).\n\n\
             Behind `zones` there are also zones (name, count, tracks with track_id and dwell_secs, entered, left, mean_dwell_secs), lines \
             (name, in, out) and events (entered, left, crossed), and each detection has the names of its zones.\n\n\
             The file appears under its name only when it is complete. With several streams, put {name} or {stream} into its name. \
             Standard output takes several streams after one another.",
        )
        .argument(ArgumentSpec::required("file", OptionKind::Path, "file to write, such as boxes.jsonl, or - for standard output"))
        .option(
            OptionSpec::switch("only_found")
                .default("no")
                .help("whether frames in which nothing was found, and nothing happened, are left out"),
        )
        .option(OptionSpec::switch("overwrite").default("no").help("whether an existing file may be replaced"))
        .example("read in.mp4 ! infer centerface ! save boxes.jsonl", "a line for every frame")
        .example("read clips/ ! infer centerface ! hold ! save 'boxes/{name}.jsonl' only_found=yes", "a file for each clip, gaps filled")
}

struct SavePlan {
    template: PathBuf,
    only_found: bool,
    overwrite: bool,
}

impl SavePlan {
    fn new(options: &Options) -> Self {
        Self { template: options.path("file").to_owned(), only_found: options.switch("only_found"), overwrite: options.switch("overwrite") }
    }
}

impl StagePlan for SavePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        detections_of(input)?;
        if !is_standard_output(&self.template) {
            OneStreamGuard::check_count(&self.template, input.streams)?;
        }
        check_output(&self.template, self.overwrite)?;
        Ok(None)
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let save = Save { plan: *self, guard: OneStreamGuard::default(), streams: HashMap::new(), files: Vec::new(), not_finite: None };
        Ok(Work::Stages(vec![Box::new(save)]))
    }
}

/// An open file, by its path. Standard output stays open for every stream.
struct OpenFile {
    path: PathBuf,
    file: OutputFile,
}

struct Save {
    plan: SavePlan,
    guard: OneStreamGuard,
    streams: HashMap<StreamId, (Arc<StreamInfo>, PathBuf)>,
    files: Vec<OpenFile>,
    not_finite: Option<Counter>,
}

impl Stage for Save {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.not_finite = Some(context.counter("boxes_not_finite"));
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let zones = item.attachments.get::<FrameZones>();
        if self.plan.only_found && item.detections.is_empty() && zones.is_none_or(|zones| zones.events.is_empty()) {
            return Ok(Flow::More);
        }
        let Some((info, path)) = self.streams.get(&item.frame.stream) else {
            let message = format!("a frame of stream {} came before the stream's start", item.frame.stream);
            return Err(StageError::new(ErrorKind::Internal, message));
        };
        let (record, not_finite) = FrameRecord::new(&item, &info.name);
        if let Some(counter) = &self.not_finite {
            counter.add(not_finite);
        }
        let mut line = serde_json::to_vec(&record).map_err(|error| StageError::new(ErrorKind::Internal, error))?;
        line.push(b'\n');
        match self.files.iter_mut().find(|open| open.path == *path) {
            Some(open) => open.file.write(&line)?,
            None => return Err(StageError::new(ErrorKind::Internal, format!("{} is not open", path.display()))),
        }
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        match item {
            Item::StreamStart(info) => self.begin(info)?,
            Item::StreamEnd(end) => self.end(end.id)?,
            _ => {}
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        self.files.drain(..).try_for_each(|open| open.file.complete().map(|_| ()))
    }
}

impl Save {
    fn begin(&mut self, info: Arc<StreamInfo>) -> Result<(), StageError> {
        let path = output_path(&self.plan.template, &info);
        if !is_standard_output(&path) {
            self.guard.admit(&self.plan.template, &info)?;
            refuse_source(&path, &info)?;
        }
        if !self.files.iter().any(|open| open.path == path) {
            self.files.push(OpenFile { file: OutputFile::create(&path, self.plan.overwrite)?, path: path.clone() });
        }
        self.streams.insert(info.id, (info, path));
        Ok(())
    }

    fn end(&mut self, stream: StreamId) -> Result<(), StageError> {
        let Some((_, path)) = self.streams.remove(&stream) else { return Ok(()) };
        let place = self.files.iter().position(|open| open.path == path);
        match place {
            // For whoever reads along.
            Some(place) if is_standard_output(&path) => self.files.get_mut(place).map_or(Ok(()), |open| open.file.flush()),
            Some(place) => self.files.swap_remove(place).file.complete().map(|_| ()),
            None => Ok(()),
        }
    }
}

/// A line of the file.
#[derive(Serialize)]
struct FrameRecord<'a> {
    stream: &'a str,
    stream_id: u32,
    frame: u64,
    pts: i64,
    time_base: String,
    seconds: f64,
    analysed: bool,
    detections: Vec<DetectionRecord<'a>>,
    #[serde(flatten)]
    zones: Option<ZonesRecord<'a>>,
}

#[derive(Serialize)]
struct DetectionRecord<'a> {
    label: &'a str,
    label_id: u32,
    score: f64,
    #[serde(rename = "box")]
    bbox: [f64; 4],
    landmarks: Vec<[f64; 2]>,
    track_id: Option<u64>,
    origin: DetectionOrigin,
    #[serde(skip_serializing_if = "Option::is_none")]
    zones: Option<Vec<&'a str>>,
}

impl<'a> FrameRecord<'a> {
    /// A frame's line, and the number of boxes left out because they are not finite.
    fn new(item: &'a FrameItem, stream: &'a str) -> (Self, u64) {
        let base = item.frame.time_base.ratio();
        let zones = item.attachments.get::<FrameZones>();
        let detections: Vec<_> = item.detections.iter().filter_map(|found| DetectionRecord::new(found, zones)).collect();
        let not_finite = item.detections.len().saturating_sub(detections.len()) as u64;
        let record = Self {
            stream,
            stream_id: item.frame.stream.0,
            frame: item.frame.index,
            pts: item.frame.pts.0,
            time_base: format!("{}/{}", base.num, base.den),
            seconds: rounded(item.frame.seconds(), 6),
            analysed: item.analysed,
            detections,
            zones: zones.map(ZonesRecord::from),
        };
        (record, not_finite)
    }
}

impl<'a> DetectionRecord<'a> {
    fn new(found: &'a Detection, zones: Option<&'a FrameZones>) -> Option<Self> {
        let point = |x: f32, y: f32| [rounded(x.into(), 4), rounded(y.into(), 4)];
        let ([x1, y1], [x2, y2]) = (point(found.bbox.x1, found.bbox.y1), point(found.bbox.x2, found.bbox.y2));
        let landmarks: Vec<[f64; 2]> = found.landmarks.iter().map(|landmark| point(landmark.x, landmark.y)).collect();
        let finite = found.bbox.is_finite() && found.score.is_finite() && landmarks.iter().flatten().all(|value| value.is_finite());
        finite.then(|| Self {
            label: &found.label.name,
            label_id: found.label.id,
            score: rounded(found.score.into(), 6),
            bbox: [x1, y1, x2, y2],
            landmarks,
            track_id: found.track_id,
            origin: found.origin,
            zones: zones.map(|zones| found.track_id.iter().flat_map(|id| zones.zones_of(*id)).map(|name| &**name).collect()),
        })
    }
}

/// Short to write and far finer than what a model can tell: 1/10000 of a pixel changes the IoU of a 10-pixel box by 0.00004 at most.
fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let text = |value: f32| serde_json::to_string(&rounded(value.into(), 4)).expect("finite");
        assert_eq!(text(12.345_678), "12.3457");
        assert_eq!(text(1e6 / 3.0), "333333.3438");
        assert_eq!(text(-0.1), "-0.1");
    }
}
