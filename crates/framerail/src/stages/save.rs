//! The `save` stage: writes detections to a file, in one of several formats.

mod attributes;
mod coco;
mod format;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
pub(super) mod record;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{StreamId, StreamInfo};
use framerail_media::OutputRules;
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, DetectionFormat, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, LinkMismatch,
    OptionKind, OptionSpec, Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use self::{
    coco::{CocoFacts, CocoFile},
    format::{FORMATS, RecordFormat, RecordWriter, Written},
    lines::LineFile,
    record::{FrameRecord, is_uneventful},
};
use super::link::{detections_of, input_of, models_of};
use crate::outputs::{
    Misplaced, OneStreamGuard, OutputFile, claim_output, ending, ends_by_stop, has_stream_placeholder, is_standard_output, link_output,
    note_unfinished, output_path,
};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(SavePlan::new(options)?) as Box<dyn StagePlan>))
}

const DETAILS: &str = "The format is given by the file's extension, or by format=; docs/records.md describes each. All have the same \
                       values: boxes and landmarks in frame pixels from the top left corner, where a box may extend beyond the frame; \
                       frames numbered from 0 as decoded (COCO and MOT from 1); scores from 0 to 1; track_id, the identity over time (none \
                       without `track` or `hold`); and origin: detected, interpolated (between two sightings) or held (extended from \
                       one).\n\nJSON lines have an object for every frame, in order, including frames without detections: stream (name), \
                       stream_id (number in this run, from 0), frame, pts (ticks), time_base (seconds per tick, such as 1/12800), seconds, \
                       wall_time (of live and paced streams), analysed (whether the model ran on this frame), detections (label, label_id, \
                       score, box [x1, y1, x2, y2], landmarks [[x, y], ...], track_id, origin). After `zones` there are also zones (name, \
                       count, tracks with track_id and dwell_secs, entered, left, mean_dwell_secs), lines (name, in, out) and events \
                       (entered, left, crossed), and each detection has the names of its zones. After further models detections and frames \
                       have attributes (model, and classes, landmarks, mask, embedding or parts).\n\nCSV and Parquet have one row per \
                       detection, COCO has images and annotations, MOT one line per detection with an identity.\n\nThe file gets its name \
                       only when it is complete; standard output and pipes get each line immediately. Parquet is kept in the folder \
                       NAME.parts during the run, each row group a complete file, so that finished groups of an interrupted run can be \
                       read. With several streams, put {name} or {stream} into the name for one file per stream, or use together=yes for a \
                       single file (JSON lines, CSV, Parquet). Standard output takes several streams one after another.";

fn spec() -> StageSpec {
    StageSpec::sink("save", "writes detections: JSON lines, CSV, Parquet, COCO, MOT")
        .other_names(["json", "csv", "parquet", "log", "dump"])
        .details(DETAILS)
        .argument(ArgumentSpec::required("file", OptionKind::Path, "file to write, such as boxes.jsonl, or - for standard output"))
        .option(OptionSpec::choice("format", &FORMATS).default("auto").help("format of records"))
        .option(OptionSpec::switch("only_found").default("no").help("leave out frames without detections and events (JSON lines, COCO)"))
        .option(OptionSpec::switch("together").default("no").help("whether all streams share one file (JSON lines, CSV, Parquet)"))
        .option(OptionSpec::integer("group_rows", 1..=1_000_000).default(65_536).unit("rows").help("Parquet: maximum rows of a row group"))
        .option(OptionSpec::time("group_time").default("30s").help("Parquet: maximum time before a row group is synced to disk"))
        .option(OptionSpec::text("image_name").default("{name}-{index:06}.png").help("COCO: names of the images, as written by `frames`"))
        .option(OptionSpec::switch("overwrite").default("no").help("whether an existing file may be replaced"))
        .example("read in.mp4 ! infer centerface ! save boxes.jsonl", "one line per frame")
        .example("read clips/ ! infer centerface ! hold ! save 'boxes/{name}.jsonl' only_found=yes", "one file per clip, gaps filled")
        .example("read clips/ ! infer centerface ! save boxes.parquet together=yes", "one table for all clips")
        .example("read in.mp4 ! infer centerface confidence=0.1 ! track ! save tracks.txt", "for tools of the MOTChallenge")
}

struct SavePlan {
    template: PathBuf,
    format: RecordFormat,
    only_found: bool,
    together: bool,
    rules: OutputRules,
    is_live: bool,
    #[cfg(feature = "parquet")]
    groups: parquet::GroupLimits,
    coco: CocoFacts,
}

impl SavePlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let template = options.path("file").to_owned();
        let format = RecordFormat::of(options, &template)?;
        let name = format.name();
        let stray = |option: &str, takes: &str| {
            let message = format!("`{option}` is an option of {takes}, and the format is {name}");
            Err(ConfigError::at(option, message).help(format!("leave `{option}` out, or choose another format")))
        };
        if options.is_given("only_found") && !options.switch("only_found") && !format.has_empty_frames() {
            return stray("only_found", "jsonl and coco");
        }
        if options.switch("together") && !format.has_streams() {
            return stray("together", "jsonl, csv and parquet");
        }
        for option in ["group_rows", "group_time"] {
            if options.is_given(option) && format != RecordFormat::Parquet {
                return stray(option, "parquet");
            }
        }
        if options.is_given("image_name") && format != RecordFormat::Coco {
            return stray("image_name", "coco");
        }
        format.check_place(&template)?;
        Ok(Self {
            template,
            format,
            only_found: options.switch("only_found"),
            together: options.switch("together"),
            rules: OutputRules { overwrite: options.switch("overwrite"), leftover: format.leftover(), ..OutputRules::default() },
            is_live: false,
            #[cfg(feature = "parquet")]
            groups: parquet::GroupLimits { rows: options.count("group_rows"), time: options.time("group_time") },
            coco: CocoFacts { image_name: options.text("image_name").into(), ..CocoFacts::default() },
        })
    }

    /// Whether a file contains the records of several streams.
    fn is_shared(&self) -> bool {
        self.together || (is_standard_output(&self.template) && self.format.has_streams())
    }

    fn check_identities(&self, detections: &DetectionFormat) -> Result<(), PlanError> {
        if self.format != RecordFormat::Mot || detections.has_identities {
            return Ok(());
        }
        let hint = "put `track` before it, or save as .jsonl, .csv, .parquet or COCO".into();
        Err(PlanError::Link(LinkMismatch { needs: "detections with identities for MOT".into(), hint }))
    }

    fn writer(&self, path: &Path, context: Option<&StageContext>) -> Result<Box<dyn RecordWriter>, StageError> {
        let file = || OutputFile::create(path, &self.rules, context);
        Ok(match self.format {
            RecordFormat::JsonLines => Box::new(LineFile::json(file()?)),
            RecordFormat::Csv => Box::new(LineFile::csv(file()?)?),
            RecordFormat::Mot => Box::new(LineFile::mot(file()?)),
            RecordFormat::Coco => Box::new(CocoFile::new(path, file()?, self.coco.clone())?),
            #[cfg(feature = "parquet")]
            RecordFormat::Parquet => Box::new(parquet::ParquetFile::create(path, &self.rules, self.groups)?),
            #[cfg(not(feature = "parquet"))]
            RecordFormat::Parquet => return Err(StageError::new(ErrorKind::Usage, "this build writes no Parquet")),
        })
    }
}

impl StagePlan for SavePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        // Only JSON lines have records of frames without detections.
        let found = if self.format == RecordFormat::JsonLines { models_of(input)? } else { Some(detections_of(input)?) };
        if let Some(detections) = found {
            self.check_identities(detections)?;
            self.coco.of_detections(detections);
        }
        if !self.is_shared() {
            OneStreamGuard::check_count(&self.template, input.streams)?;
        }
        self.rules.files = context.files.clone();
        self.is_live = input.is_live;
        link_output(&self.template, &self.rules)?;
        #[cfg(feature = "parquet")]
        if self.format == RecordFormat::Parquet && !has_stream_placeholder(&self.template) {
            parquet::check_parts(&self.template, self.rules.overwrite)?;
        }
        Ok(None)
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (guard, misplaced) = (OneStreamGuard::default(), Misplaced::default());
        let save = Save { plan: *self, guard, streams: HashMap::new(), files: Vec::new(), misplaced, counters: None };
        Ok(Work::Stages(vec![Box::new(save)]))
    }
}

/// An open file, by its path. A shared one stays open for all streams.
struct OpenFile {
    path: PathBuf,
    ends_by_stop: bool,
    writer: Box<dyn RecordWriter>,
}

struct Counters {
    files: Counter,
    frames: Counter,
    detections: Counter,
    not_finite: Counter,
    without_identity: Option<Counter>,
    row_groups: Option<Counter>,
    context: StageContext,
}

impl Counters {
    fn add(&self, written: Written) {
        self.detections.add(written.detections);
        if let Some(row_groups) = &self.row_groups {
            row_groups.add(written.row_groups);
        }
        let Some(without_identity) = &self.without_identity else { return };
        if written.without_identity > 0 && without_identity.value() == 0 {
            self.context.notice("detections without an identity are dropped; MOT requires one");
        }
        without_identity.add(written.without_identity);
    }
}

struct Save {
    plan: SavePlan,
    guard: OneStreamGuard,
    streams: HashMap<StreamId, (Arc<StreamInfo>, PathBuf)>,
    files: Vec<OpenFile>,
    misplaced: Misplaced,
    counters: Option<Counters>,
}

impl Stage for Save {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let of_format = |format, name: &str| (self.plan.format == format).then(|| context.counter(name));
        self.counters = Some(Counters {
            files: context.counter("files_written"),
            frames: context.counter("frames_recorded"),
            detections: context.counter("detections_recorded"),
            not_finite: context.counter("boxes_not_finite"),
            without_identity: of_format(RecordFormat::Mot, "detections_without_identity"),
            row_groups: of_format(RecordFormat::Parquet, "row_groups_written"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        if self.plan.only_found && is_uneventful(&item) {
            return Ok(Flow::More);
        }
        let Some((info, path)) = self.streams.get(&item.frame.stream) else {
            let message = format!("a frame of stream {} came before the stream's start", item.frame.stream);
            return Err(StageError::new(ErrorKind::Internal, message));
        };
        let (record, not_finite) = FrameRecord::new(&item, &info.name);
        let written = match self.files.iter_mut().find(|open| open.path == *path) {
            Some(open) => open.writer.frame(&record)?,
            None => return Err(StageError::new(ErrorKind::Internal, format!("{} is not open", path.display()))),
        };
        if let Some(counters) = &self.counters {
            counters.frames.add(1);
            counters.not_finite.add(not_finite);
            counters.add(written);
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
        std::mem::take(&mut self.files).into_iter().try_for_each(|open| self.complete(open))?;
        self.misplaced.end()
    }

    fn abandon(&mut self) {
        for OpenFile { path, writer, .. } in std::mem::take(&mut self.files) {
            note_unfinished(&path, writer.keep_unfinished(), self.counters.as_ref().map(|counters| &counters.context));
        }
    }
}

impl Save {
    fn begin(&mut self, info: Arc<StreamInfo>) -> Result<(), StageError> {
        let path = output_path(&self.plan.template, &info);
        if !self.plan.is_shared() {
            self.guard.admit(&self.plan.template, &info)?;
        }
        let is_open = |open: &OpenFile| self.plan.is_shared() && open.path == path;
        let open = match self.files.iter().position(is_open) {
            Some(place) => self.files.get_mut(place),
            None => {
                claim_output(&self.plan.template, &info, &self.plan.rules)?;
                let context = self.counters.as_ref().map(|counters| &counters.context);
                let (writer, ends_by_stop) = (self.plan.writer(&path, context)?, ends_by_stop(self.plan.is_live, &info));
                self.files.push(OpenFile { writer, ends_by_stop, path: path.clone() });
                self.files.last_mut()
            }
        };
        if let Some(open) = open {
            open.writer.stream(&info);
        }
        self.streams.insert(info.id, (info, path));
        Ok(())
    }

    fn end(&mut self, stream: StreamId) -> Result<(), StageError> {
        let Some((_, path)) = self.streams.remove(&stream) else { return Ok(()) };
        let Some(place) = self.files.iter().position(|open| open.path == path) else { return Ok(()) };
        if self.plan.is_shared() && (is_standard_output(&path) || !has_stream_placeholder(&self.plan.template)) {
            // For concurrent readers.
            return self.files.get_mut(place).map_or(Ok(()), |open| open.writer.flush());
        }
        let open = self.files.swap_remove(place);
        self.complete(open)
    }

    fn complete(&mut self, open: OpenFile) -> Result<(), StageError> {
        let context = self.counters.as_ref().map(|counters| &counters.context);
        let (file, written) = open.writer.complete(ending(context, open.ends_by_stop))?;
        self.misplaced.note(&open.path, &file.path, file.elsewhere.as_ref(), context);
        if let Some(counters) = &self.counters {
            counters.files.add(1);
            counters.add(written);
        }
        Ok(())
    }
}
