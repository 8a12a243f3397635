//! The `load` stage: attaches detections recorded by `save` to their frames, with manual corrections.

mod corrections;
mod records;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use framerail_core::{Frame, RunFiles, StreamId};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, DetectionFormat, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind,
    OptionSpec, Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use self::{
    corrections::{Corrections, Ruling},
    records::Records,
};
use super::link::{input_of, note_reads};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| LoadPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("load", "puts recorded detections on frames, in place of a model")
        .details(
            "Reads JSON lines that `save` has written and gives each frame the detections that were recorded of it. Frames are matched by \
             their time, so the input must be the same, or the same part of it: a frame without a record is an error.\n\nWith \
             corrections=, tracks are removed, left visible or added as a person decided on the page that `review` writes. The file names \
             the records too, so the argument can be left out.",
        )
        .argument(ArgumentSpec::optional("file", OptionKind::Path, "detections as JSON lines; default: those that corrections= names"))
        .option(OptionSpec::path("corrections").help("corrections.toml of the review page"))
        .example("read in.mp4 ! load boxes.jsonl ! blur ! write out.mp4", "blur again, without running the model again")
        .example("read in.mp4 ! load corrections=corrections.toml ! blur ! write out.mp4", "after a review")
}

struct LoadPlan {
    records_file: Option<PathBuf>,
    corrections_file: Option<PathBuf>,
    records: Records,
    corrections: Corrections,
}

impl LoadPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let path = |name: &str| options.optional_path(name).map(Path::to_owned);
        let (records_file, corrections_file) = (path("file"), path("corrections"));
        if records_file.is_none() && corrections_file.is_none() {
            return Err(ConfigError::at("file", "there is nothing to load").help("name a file of `save`, or give corrections=FILE"));
        }
        Ok(Self { records_file, corrections_file, records: Records::default(), corrections: Corrections::default() })
    }

    fn read(&mut self, files: &RunFiles) -> Result<(), StageError> {
        if let Some(path) = &self.corrections_file {
            self.corrections = Corrections::read(path)?;
            note_reads(files, [path.as_path()])?;
        }
        let named = self.records_file.clone().or_else(|| self.corrections.detections_file());
        let Some(path) = named else {
            let file = self.corrections_file.as_deref().unwrap_or(Path::new("corrections"));
            let message =
                format!("{}: it does not name the detections that it corrects; put their file before corrections=", file.display());
            return Err(StageError::new(ErrorKind::Input, message));
        };
        note_reads(files, [path.as_path()])?;
        self.records = Records::read(&path)?;
        self.corrections.check(&self.records)
    }
}

impl StagePlan for LoadPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        self.read(&context.files)?;
        let labels = self.records.labels.iter().map(|label| label.name.to_string()).collect();
        let format = DetectionFormat { model: "recorded detections".into(), labels, has_identities: true, ..DetectionFormat::default() };
        Ok(Some(EdgeFormat { detections: Some(format), ..input.clone() }))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Load { plan: *self, names: HashMap::new(), counters: None })]))
    }
}

struct Counters {
    loaded: Counter,
    added: Counter,
    removed: Counter,
    visible: Counter,
}

struct Load {
    plan: LoadPlan,
    names: HashMap<StreamId, String>,
    counters: Option<Counters>,
}

impl Stage for Load {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            loaded: context.counter("detections_loaded"),
            added: context.counter("detections_added"),
            removed: context.counter("detections_removed"),
            visible: context.counter("detections_left_visible"),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.put(&mut item)?;
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => {
                self.names.insert(info.id, info.name.clone());
            }
            Item::StreamEnd(end) => {
                self.names.remove(&end.id);
            }
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }
}

impl Load {
    fn put(&mut self, item: &mut FrameItem) -> Result<(), StageError> {
        let LoadPlan { records, corrections, .. } = &self.plan;
        let name = self.names.get(&item.frame.stream).map(String::as_str).unwrap_or_default();
        let record = records.of(name, &item.frame).ok_or_else(|| missing(records, name, &item.frame))?;
        if let Some([width, height]) = corrections.size
            && (width, height) != (item.frame.width, item.frame.height)
        {
            let (frame_width, frame_height) = (item.frame.width, item.frame.height);
            let message = format!("the corrections are for frames of {width}x{height}; {name} has {frame_width}x{frame_height}");
            return Err(StageError::new(ErrorKind::Input, message));
        }
        let (mut removed, mut visible) = (0, 0);
        let is_kept = |found: &framerail_core::Detection| match corrections.ruling(found.track_id, record.frame) {
            Ruling::Cover => true,
            Ruling::Remove => {
                removed += 1;
                false
            }
            Ruling::LeaveVisible => {
                visible += 1;
                false
            }
        };
        let mut detections: Vec<_> = records.detections(record);
        detections.retain(is_kept);
        let loaded = detections.len();
        detections.extend(corrections.added(record.frame, records));
        if let Some(counters) = &self.counters {
            counters.loaded.add(loaded as u64);
            counters.added.add((detections.len() - loaded) as u64);
            counters.removed.add(removed);
            counters.visible.add(visible);
        }
        (item.detections, item.analysed) = (detections, true);
        Ok(())
    }
}

fn missing(records: &Records, stream: &str, frame: &Frame) -> StageError {
    let message = format!(
        "{}: no record of the frame of {stream} at {:.3} s: the detections are those of another input, or of another part of it",
        records.path.display(),
        frame.seconds()
    );
    StageError::new(ErrorKind::Input, message)
}
