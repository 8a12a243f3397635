//! The `report` stage: an HTML page on detections and the most doubtful frames.

mod chart;
mod doubt;
pub(in crate::stages) mod image;
mod page;
mod record;
mod timeline;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{StreamId, StreamInfo};
use framerail_cuda::Traffic;
use framerail_media::{Committed, Ending, OutputRules};
use framerail_pipeline::{
    ArgumentSpec, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options, PlanError,
    Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use self::{doubt::Doubts, page::Page, record::StreamRecord};
use super::link::{detections_of, input_of};
use crate::{
    devices::account,
    outputs::{
        Misplaced, OutputFile, claim_output, ending, ends_by_stop, has_stream_placeholder, is_standard_output, link_output,
        note_unfinished, output_path,
    },
};

/// Number of listed doubtful frames without thumbnails.
const LISTED_WITHOUT_PICTURES: usize = 24;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(ReportPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("report", "writes an HTML report on detections, with the most doubtful frames")
        .details(
            "Passes frames unchanged and counts frames with detections, boxes by origin, gaps that `hold` filled, gaps left open, objects \
             seen in only one frame, lowest scores. The page has a timeline of each stream and thumbnails of the most doubtful frames; it \
             is one self-contained file, written when the run ends.\n\nPut it before `blur`, so that its thumbnails show the detections. \
             THE THUMBNAILS THEREFORE SHOW UNBLURRED FACES: protect the page as you protect the footage, or leave them out with \
             thumbnails=0.\n\nAll streams of a run share one page; with {name} or {stream} in its name each has its own.",
        )
        .argument(ArgumentSpec::required("file", OptionKind::Path, "page to write, such as report.html"))
        .option(
            OptionSpec::integer("thumbnails", 0..=200)
                .default(24)
                .unit("frames")
                .help("doubtful frames shown as thumbnails, unblurred; 0 lists them without thumbnails"),
        )
        .option(OptionSpec::switch("overwrite").default("no").help("whether an existing file may be replaced"))
        .example("read in.mp4 ! infer centerface ! hold ! report report.html ! blur ! write out.mp4", "blur, and report where to check")
        .example("read in.mp4 ! infer centerface ! report report.html thumbnails=0 ! null", "figures only, no thumbnails")
}

struct ReportPlan {
    template: PathBuf,
    thumbnails: usize,
    rules: OutputRules,
    is_live: bool,
    subject: Subject,
}

/// Content of the page.
#[derive(Clone, Debug, Default)]
struct Subject {
    /// Name of the model.
    model: String,
    /// The model's class in singular and plural: `face`, `faces`.
    singular: String,
    plural: String,
    /// Whether the model skips frames that no stage fills in.
    has_gaps_by_plan: bool,
}

impl ReportPlan {
    fn new(options: &Options) -> Self {
        Self {
            template: options.path("file").to_owned(),
            thumbnails: options.count("thumbnails"),
            rules: OutputRules { overwrite: options.switch("overwrite"), ..OutputRules::default() },
            is_live: false,
            subject: Subject::default(),
        }
    }
}

impl StagePlan for ReportPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let detections = detections_of(input)?;
        let singular = match detections.labels.as_slice() {
            [only] => only.clone(),
            _ => "detection".to_owned(),
        };
        let has_gaps_by_plan = detections.max_unanalysed_frames > 0;
        self.subject = Subject { model: detections.model.clone(), plural: format!("{singular}s"), singular, has_gaps_by_plan };
        if is_standard_output(&self.template) {
            return Err(StageError::new(ErrorKind::Usage, "the page cannot go to standard output; name a file").into());
        }
        self.rules.files = context.files.clone();
        self.is_live = input.is_live;
        link_output(&self.template, &self.rules)?;
        Ok(Some(input.clone()))
    }

    fn reads_pixels(&self) -> bool {
        self.thumbnails > 0
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (pages, streams, misplaced) = (BTreeMap::new(), HashMap::new(), Misplaced::default());
        let report = Report { plan: *self, pages, streams, misplaced, images: None, context: None };
        Ok(Work::Stages(vec![Box::new(report)]))
    }
}

/// A page being made.
struct OpenPage {
    file: OutputFile,
    ends_by_stop: bool,
    /// In order of their start.
    streams: Vec<StreamRecord>,
    doubts: Doubts,
}

struct Report {
    plan: ReportPlan,
    pages: BTreeMap<PathBuf, OpenPage>,
    /// The page of each stream and its index there.
    streams: HashMap<StreamId, (PathBuf, usize)>,
    misplaced: Misplaced,
    images: Option<Counter>,
    context: Option<StageContext>,
}

impl Stage for Report {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.images = Some(context.counter("pictures_taken"));
        self.context = Some(context.clone());
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let known = self.streams.get(&item.frame.stream).and_then(|(path, place)| {
            let OpenPage { streams, doubts, .. } = self.pages.get_mut(path)?;
            Some((streams.get_mut(*place)?, doubts))
        });
        let Some((record, doubts)) = known else {
            let message = format!("a frame of stream {} came before the stream's start", item.frame.stream);
            return Err(StageError::new(ErrorKind::Internal, message));
        };
        let before = doubts.pictures_taken;
        record.frame(&item, doubts)?;
        if let Some(context) = &self.context
            && doubts.pictures_taken > before
        {
            account(context, Traffic::take());
        }
        if let Some(counter) = &self.images {
            counter.add(doubts.pictures_taken - before);
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => self.begin(info)?,
            Item::StreamEnd(end) => self.end(end.id, end.ended_early.clone())?,
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let mut open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.sort();
        open.into_iter().try_for_each(|id| self.end(id, None))?;
        while let Some((path, page)) = self.pages.pop_first() {
            self.write(&path, page)?;
        }
        self.misplaced.end()
    }

    fn abandon(&mut self) {
        for (path, page) in std::mem::take(&mut self.pages) {
            let kept = page.file(&self.plan.subject).ok().and_then(OutputFile::keep_unfinished);
            note_unfinished(&path, kept, self.context.as_ref());
        }
    }
}

impl Report {
    fn begin(&mut self, info: &Arc<StreamInfo>) -> Result<(), StageError> {
        let path = output_path(&self.plan.template, info);
        if !self.pages.contains_key(&path) {
            claim_output(&self.plan.template, info, &self.plan.rules)?;
            let file = OutputFile::create(&path, &self.plan.rules, self.context.as_ref())?;
            let listed = if self.plan.thumbnails == 0 { LISTED_WITHOUT_PICTURES } else { self.plan.thumbnails };
            let doubts = Doubts::new(listed, self.plan.thumbnails > 0);
            self.pages
                .insert(path.clone(), OpenPage { file, ends_by_stop: ends_by_stop(self.plan.is_live, info), streams: Vec::new(), doubts });
        }
        if let Some(page) = self.pages.get_mut(&path) {
            let place = page.streams.len();
            page.streams.push(StreamRecord::new(info, place));
            self.streams.insert(info.id, (path, place));
        }
        Ok(())
    }

    fn end(&mut self, stream: StreamId, ended_early: Option<String>) -> Result<(), StageError> {
        let Some((path, place)) = self.streams.remove(&stream) else { return Ok(()) };
        if let Some(page) = self.pages.get_mut(&path)
            && let Some(record) = page.streams.get_mut(place)
        {
            record.end(ended_early, &mut page.doubts);
        }
        // The stream's own page is complete now.
        if has_stream_placeholder(&self.plan.template)
            && let Some(page) = self.pages.remove(&path)
        {
            self.write(&path, page)?;
        }
        Ok(())
    }

    fn write(&mut self, path: &Path, page: OpenPage) -> Result<(), StageError> {
        let context = self.context.as_ref();
        let ending = ending(context, page.ends_by_stop);
        let written = page.write(&self.plan.subject, ending)?;
        self.misplaced.note(path, &written.path, written.elsewhere.as_ref(), context);
        Ok(())
    }
}

impl OpenPage {
    fn write(self, subject: &Subject, ending: Ending) -> Result<Committed, StageError> {
        self.file(subject)?.complete(ending)
    }

    /// The page, written but not yet renamed.
    fn file(self, subject: &Subject) -> Result<OutputFile, StageError> {
        let Self { mut file, streams, doubts, .. } = self;
        let with_thumbnails = doubts.with_thumbnails();
        let html = Page { subject, streams: &streams, doubts: &doubts.chosen(), with_thumbnails }.html();
        file.write(html.as_bytes())?;
        Ok(file)
    }
}
