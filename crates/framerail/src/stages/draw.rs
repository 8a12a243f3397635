//! The `draw` stage: draws detections on frames.

use std::{path::PathBuf, sync::Arc};

use framerail_core::{Detection, FramePool, Skeleton};
use framerail_pipeline::{
    ConfigError, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, LinkContext, OptionSpec, Options, PlanError, Registry, RegistryError,
    Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{ColorBy, DrawOptions, FrameZones, Letters, Sketch};

use super::{
    link::{input_of, models_of, note_reads},
    settings::{Number, OptionSettings, Place},
};
use crate::{canvas::FrameCanvas, parts::FrameAttributes, typeface::Typeface};

/// Buffers kept for frames that another branch still holds.
const KEPT_BUFFERS: usize = 4;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(DrawPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("draw", "draws boxes, labels, scores, landmarks, masks, zones and lines")
        .other_names(["annotate", "overlay", "visualize", "boxes"])
        .details(
            "Draws in the frame's pixel format. Each class has its colour, or with colors=track each identity. Masks (and hulls of \
             landmarks) are what `blur shape=contour` hides, before it grows. Boxes that were filled in (by `hold` or `track`) have lines \
             half as thick. Results of further models are drawn too: the best class beside the label, landmarks, boxes inside boxes; \
             classes of the whole frame in its top left corner. So are zones with the number inside, and lines with their crossings. A \
             frame that is shared with another branch is copied first, and the copies are counted. Frames on a GPU are drawn there. What \
             is drawn, and line_width, can be changed during the run.",
        )
        .option(OptionSpec::switch("boxes").default("yes").help("whether boxes are drawn"))
        .option(OptionSpec::switch("labels").default("yes").help("whether class names are written above the boxes"))
        .option(OptionSpec::switch("scores").default("yes").help("whether scores are written, in percent"))
        .option(OptionSpec::switch("landmarks").default("yes").help("whether landmarks are drawn as dots"))
        .option(OptionSpec::switch("masks").default("yes").help("whether masks and hulls of landmarks are tinted and outlined"))
        .option(OptionSpec::switch("tracks").default("no").help("whether identities are written, such as #7; they need `track` or `hold`"))
        .option(OptionSpec::switch("zones").default("yes").help("whether the areas and lines of `zones` are drawn"))
        .option(
            OptionSpec::integer("line_width", 1..=64)
                .default("auto")
                .unit("pixels")
                .or_word("auto", "1 per 400 pixels of the longer side")
                .help("width of lines; text grows with it"),
        )
        .option(OptionSpec::color("color").default("auto").or_word("auto", "by colors").help("colour of everything drawn"))
        .option(
            OptionSpec::choice(
                "colors",
                &[("class", "one colour per class"), ("track", "one colour per identity; without one, per class")],
            )
            .default("class")
            .help("what colours distinguish"),
        )
        .option(OptionSpec::path("font").help("TrueType or OpenType file for text; default: the included font, then the system's"))
        .option(OptionSpec::text("only").help("class names to draw, separated by commas; default: all"))
        .workers(1)
        .example("read in.mp4 ! infer centerface ! draw ! write boxes.mp4", "show the detections")
        .example("read in.mp4 ! infer centerface ! hold ! draw labels=no tracks=yes ! write boxes.mp4", "with identities, gaps filled")
}

/// What to draw.
#[derive(Clone, Copy)]
struct Drawn {
    options: DrawOptions,
    zones: bool,
}

/// Settings that can be changed during the run.
const PLACES: [Place<Drawn>; 8] = [
    switch("boxes", "boxes: 1 draws them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.options.boxes))),
    switch("labels", "class names: 1 writes them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.options.labels))),
    switch("scores", "scores: 1 writes them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.options.scores))),
    switch("landmarks", "landmarks: 1 draws them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.options.landmarks))),
    switch("masks", "masks: 1 draws them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.options.masks))),
    switch("tracks", "identities: 1 writes them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.options.track_ids))),
    switch("zones", "areas and lines: 1 draws them, 0 does not", |drawn| Some(Number::Switch(&mut drawn.zones))),
    Place {
        name: "line_width",
        range: 0.0..=64.0,
        unit: "pixels",
        help: "width of lines; 0 is 1 per 400 pixels of the longer side",
        find: |drawn| Some(Number::Automatic(&mut drawn.options.line_width)),
    },
];

const fn switch(name: &'static str, help: &'static str, find: fn(&mut Drawn) -> Option<Number<'_>>) -> Place<Drawn> {
    Place { name, range: 0.0..=1.0, unit: "", help, find }
}

struct DrawPlan {
    drawn: Drawn,
    only: Option<Vec<String>>,
    font: Option<PathBuf>,
    face: Option<Typeface>,
    skeletons: Vec<Skeleton>,
    workers: usize,
}

impl DrawPlan {
    fn new(options: &Options) -> Self {
        let draw = DrawOptions {
            boxes: options.switch("boxes"),
            labels: options.switch("labels"),
            scores: options.switch("scores"),
            track_ids: options.switch("tracks"),
            landmarks: options.switch("landmarks"),
            masks: options.switch("masks"),
            line_width: options.optional_integer("line_width").and_then(|width| u32::try_from(width).ok()),
            rgb: options.optional_color("color"),
            color_by: if options.choice("colors") == "track" { ColorBy::Track } else { ColorBy::Class },
        };
        let only = options.optional_text("only").map(|list| list.split(',').map(|label| label.trim().to_owned()).collect());
        let drawn = Drawn { options: draw, zones: options.switch("zones") };
        let font = options.optional_path("font").map(PathBuf::from);
        Self { drawn, only, font, face: None, skeletons: Vec::new(), workers: options.workers() }
    }
}

impl StagePlan for DrawPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let models = models_of(input)?;
        self.skeletons = models.map(|found| found.skeletons.clone()).unwrap_or_default();
        let known = models.map(|found| found.labels.clone()).unwrap_or_default();
        if let Some(stray) = self.only.iter().flatten().find(|label| !known.contains(label)) {
            let error = ConfigError::at("only", format_args!("the model has no class `{stray}`; it has {}", known.join(", ")));
            return Err(StageError::new(ErrorKind::Usage, error).into());
        }
        note_reads(&context.files, self.font.as_deref())?;
        self.face = Some(Typeface::new(self.font.as_deref())?);
        Ok(Some(input.clone()))
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let pool = FramePool::new(KEPT_BUFFERS * self.workers);
        let face = self.face.ok_or_else(|| StageError::new(ErrorKind::Internal, "the stage was not linked"))?;
        let draw = |_| {
            let (only, face, canvas) = (self.only.clone(), face.clone(), FrameCanvas::new(&pool));
            let skeletons = self.skeletons.clone();
            let stage = Draw { drawn: self.drawn, settings: None, only, face, skeletons, canvas };
            Box::new(stage) as Box<dyn Stage>
        };
        Ok(Work::Stages((0..self.workers).map(draw).collect()))
    }
}

struct Draw {
    drawn: Drawn,
    settings: Option<OptionSettings<Drawn>>,
    only: Option<Vec<String>>,
    face: Typeface,
    skeletons: Vec<Skeleton>,
    canvas: FrameCanvas,
}

impl Stage for Draw {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.settings = Some(OptionSettings::new(context, &PLACES, &mut self.drawn));
        self.canvas.start(context);
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Some(settings) = &mut self.settings {
            settings.take_changes(&mut self.drawn);
        }
        match &self.only {
            None => self.draw(&mut item, None)?,
            Some(only) => {
                let chosen = item.detections.iter().filter(|found| only.iter().any(|label| **label == *found.label.name));
                let chosen: Vec<Detection> = chosen.cloned().collect();
                self.draw(&mut item, Some(chosen))?;
            }
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }
}

impl Draw {
    /// Draws the selected detections; by default all of the item's.
    fn draw(&mut self, item: &mut FrameItem, chosen: Option<Vec<Detection>>) -> Result<(), StageError> {
        let detections = chosen.as_ref().unwrap_or(&item.detections);
        let zones = item.attachments.get::<FrameZones>().filter(|_| self.drawn.zones);
        let attributes = item.attachments.get::<FrameAttributes>();
        if detections.is_empty() && zones.is_none() && attributes.is_none() {
            return Ok(());
        }
        let options = self.drawn.options;
        let letters: Arc<dyn Letters> = Arc::new(self.face.clone());
        let sketched = |sketch: Sketch| {
            let mut sketch = sketch.with_letters(&letters);
            zones.into_iter().for_each(|zones| sketch.zones(zones, options.line_width));
            attributes.into_iter().for_each(|attributes| sketch.frame_attributes(&attributes.0, &options));
            sketch.skeletons(detections, &self.skeletons, &options);
            sketch.detections(detections, &options);
            sketch
        };
        self.canvas.draw(&mut item.frame, sketched)
    }
}
