//! The `review` stage: a page for checking every face by hand, removing false detections and adding missed ones.

mod gather;
mod page;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{StreamId, StreamInfo};
use framerail_cuda::Traffic;
use framerail_media::OutputRules;
use framerail_pipeline::{
    ArgumentSpec, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options, PlanError, Registry,
    RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use self::{gather::Gathered, page::Subject};
use super::link::{detections_of, input_of};
use crate::{
    devices::account,
    outputs::{
        Misplaced, OneStreamGuard, OutputFile, claim_output, ending, ends_by_stop, is_standard_output, link_output, note_unfinished,
        output_path,
    },
};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(ReviewPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("review", "writes an HTML page for checking and correcting detections by hand")
        .details(
            "Passes frames unchanged. The page works in a browser without a server: a timeline, doubtful places first, every track as a \
             strip of thumbnails with scores. Tracks can be marked as wrong or left visible, and missed objects are drawn with the mouse. \
             It writes a corrections.toml for the stage `load`, which takes the detections from the file that `save` writes in the same \
             run.\n\nPut it after `hold` or `track`, for the identities, and before `blur`. THE PAGE SHOWS UNBLURRED FACES: protect it as \
             you protect the footage.",
        )
        .argument(ArgumentSpec::required("file", OptionKind::Path, "page to write, such as review.html"))
        .option(OptionSpec::path("detections").help("file of `save` in the same run, which the corrections will name"))
        .option(OptionSpec::time("every").default("1s").help("interval of the frames to draw on; longer for long videos"))
        .option(OptionSpec::switch("overwrite").default("no").help("whether an existing file may be replaced"))
        .example(
            "read in.mp4 ! infer centerface ! hold ! tee ( save boxes.jsonl ) ! review review.html detections=boxes.jsonl ! blur ! write \
             out.mp4",
            "blur, and a page to check it with",
        )
}

struct ReviewPlan {
    template: PathBuf,
    detections: Option<PathBuf>,
    every_secs: f64,
    rules: OutputRules,
    is_live: bool,
    subject: Subject,
}

impl ReviewPlan {
    fn new(options: &Options) -> Self {
        Self {
            template: options.path("file").to_owned(),
            detections: options.optional_path("detections").map(Path::to_owned),
            every_secs: options.time("every").as_secs_f64().max(0.04),
            rules: OutputRules { overwrite: options.switch("overwrite"), ..OutputRules::default() },
            is_live: false,
            subject: Subject::default(),
        }
    }
}

impl StagePlan for ReviewPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let detections = detections_of(input)?;
        if !detections.has_identities {
            let (needs, hint) = ("detections with identities".into(), "put `hold` or `track` before it".into());
            return Err(PlanError::Link(framerail_pipeline::LinkMismatch { needs, hint }));
        }
        self.subject = Subject::of(&detections.labels);
        if is_standard_output(&self.template) {
            return Err(StageError::new(ErrorKind::Usage, "the page cannot go to standard output; name a file").into());
        }
        self.rules.files = context.files.clone();
        self.is_live = input.is_live;
        link_output(&self.template, &self.rules)?;
        Ok(Some(input.clone()))
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (guard, misplaced) = (OneStreamGuard::default(), Misplaced::default());
        let review = Review { plan: *self, guard, pages: HashMap::new(), misplaced, context: None };
        Ok(Work::Stages(vec![Box::new(review)]))
    }
}

/// A page being made.
struct OpenPage {
    path: PathBuf,
    file: OutputFile,
    ends_by_stop: bool,
    info: Arc<StreamInfo>,
    gathered: Gathered,
}

struct Review {
    plan: ReviewPlan,
    guard: OneStreamGuard,
    pages: HashMap<StreamId, OpenPage>,
    misplaced: Misplaced,
    context: Option<StageContext>,
}

impl Stage for Review {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Some(page) = self.pages.get_mut(&item.frame.stream) {
            page.gathered.frame(&item)?;
            if let Some(context) = &self.context {
                account(context, Traffic::take());
            }
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => self.begin(info)?,
            Item::StreamEnd(end) => self.end(end.id)?,
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        let mut open: Vec<StreamId> = self.pages.keys().copied().collect();
        open.sort();
        open.into_iter().try_for_each(|id| self.end(id))?;
        self.misplaced.end()
    }

    fn abandon(&mut self) {
        for (_, page) in std::mem::take(&mut self.pages) {
            let path = page.path.clone();
            let kept = self.written(page).ok().and_then(OutputFile::keep_unfinished);
            note_unfinished(&path, kept, self.context.as_ref());
        }
    }
}

impl Review {
    fn begin(&mut self, info: &Arc<StreamInfo>) -> Result<(), StageError> {
        let plan = &self.plan;
        self.guard.admit(&plan.template, info)?;
        let path = output_path(&plan.template, info);
        claim_output(&plan.template, info, &plan.rules)?;
        let file = OutputFile::create(&path, &plan.rules, self.context.as_ref())?;
        let gathered = Gathered::new(info, plan.every_secs);
        let ends_by_stop = ends_by_stop(plan.is_live, info);
        self.pages.insert(info.id, OpenPage { path, file, ends_by_stop, info: Arc::clone(info), gathered });
        Ok(())
    }

    fn end(&mut self, stream: StreamId) -> Result<(), StageError> {
        let Some(page) = self.pages.remove(&stream) else { return Ok(()) };
        let (path, ending) = (page.path.clone(), ending(self.context.as_ref(), page.ends_by_stop));
        let file = self.written(page)?;
        let written = file.complete(ending)?;
        self.misplaced.note(&path, &written.path, written.elsewhere.as_ref(), self.context.as_ref());
        Ok(())
    }

    /// The page, written but not yet renamed.
    fn written(&self, page: OpenPage) -> Result<OutputFile, StageError> {
        let OpenPage { mut file, info, mut gathered, .. } = page;
        gathered.end();
        let detections = self.plan.detections.as_deref().map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        file.write(page::html(&self.plan.subject, &info, detections.as_deref(), &gathered).as_bytes())?;
        Ok(file)
    }
}
