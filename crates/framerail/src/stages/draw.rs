//! The `draw` stage: detections drawn into the frames.

use framerail_core::{Detection, FramePool};
use framerail_cuda::{
    Traffic,
    kernels::{DrawJob, draw_batch},
};
use framerail_pipeline::{
    ConfigError, CopyKind, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, LinkContext, OptionSpec, Options, PlanError, Registry,
    RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{Canvas, DrawOptions, Sketch};

use super::link::{detections_of, input_of};
use crate::{
    card_canvas::CardCanvas,
    convert::{core_error, cuda_error, vision_error},
    devices::account,
};

/// Buffers kept for frames that another branch still holds.
const KEPT_BUFFERS: usize = 4;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(DrawPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("draw", "draws boxes, labels, scores and landmarks")
        .details(
            "Draws in the frame's own pixel format. Each class has its colour. Boxes that `hold` filled in have lines half as thick. \
             A frame that another branch still holds is copied first; the copies are counted. Frames on a card are drawn on there.",
        )
        .option(OptionSpec::switch("boxes").default("yes").help("whether boxes are drawn"))
        .option(OptionSpec::switch("labels").default("yes").help("whether class names are written above the boxes"))
        .option(OptionSpec::switch("scores").default("yes").help("whether scores are written, in percent"))
        .option(OptionSpec::switch("landmarks").default("yes").help("whether landmarks are drawn as dots"))
        .option(OptionSpec::switch("tracks").default("no").help("whether identities are written, as #7; `hold` finds them"))
        .option(
            OptionSpec::integer("line_width", 1..=64)
                .default("auto")
                .unit("pixels")
                .or_word("auto", "one for each 400 pixels of the longer side")
                .help("width of lines; text grows with it"),
        )
        .option(OptionSpec::color("color").default("auto").or_word("auto", "one for each class").help("colour of everything drawn"))
        .option(OptionSpec::text("only").help("class names to draw, separated by commas; all otherwise"))
        .workers(1)
        .example("read in.mp4 ! infer centerface ! draw ! write boxes.mp4", "see what the model finds")
        .example("read in.mp4 ! infer centerface ! hold ! draw labels=no tracks=yes ! write boxes.mp4", "with identities, gaps filled")
}

struct DrawPlan {
    options: DrawOptions,
    only: Option<Vec<String>>,
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
            line_width: options.optional_integer("line_width").and_then(|width| u32::try_from(width).ok()),
            rgb: options.optional_color("color"),
        };
        let only = options.optional_text("only").map(|list| list.split(',').map(|label| label.trim().to_owned()).collect());
        Self { options: draw, only, workers: options.workers() }
    }
}

impl StagePlan for DrawPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let known = &detections_of(input)?.labels;
        if let Some(stray) = self.only.iter().flatten().find(|label| !known.contains(label)) {
            let error = ConfigError::at("only", format_args!("the model has no class `{stray}`; it has {}", known.join(", ")));
            return Err(StageError::new(ErrorKind::Usage, error).into());
        }
        Ok(Some(input.clone()))
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let pool = FramePool::new(KEPT_BUFFERS * self.workers);
        let draw = |_| {
            let stage = Draw { options: self.options, only: self.only.clone(), pool: pool.clone(), card: None, context: None };
            Box::new(stage) as Box<dyn Stage>
        };
        Ok(Work::Stages((0..self.workers).map(draw).collect()))
    }
}

struct Draw {
    options: DrawOptions,
    only: Option<Vec<String>>,
    pool: FramePool,
    /// For frames on a card.
    card: Option<CardCanvas>,
    context: Option<StageContext>,
}

impl Stage for Draw {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &self.only {
            _ if item.detections.is_empty() => {}
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
    /// Draws the chosen detections, by default all of the item's.
    fn draw(&mut self, item: &mut FrameItem, chosen: Option<Vec<Detection>>) -> Result<(), StageError> {
        let detections = chosen.as_ref().unwrap_or(&item.detections);
        if detections.is_empty() {
            return Ok(());
        }
        if let Some(card) = CardCanvas::for_frame(&mut self.card, &item.frame).map_err(cuda_error)? {
            let color = item.frame.color;
            let surface = card.writable(&mut item.frame).map_err(cuda_error)?;
            let mut sketch = Sketch::new((surface.width(), surface.height()), surface.format(), &color);
            sketch.detections(detections, &self.options);
            draw_batch(&card.stream, &card.pool, &[DrawJob { surface, strokes: sketch.strokes() }]).map_err(cuda_error)?;
            if let Some(context) = &self.context {
                account(context, Traffic::take());
                context.memory(card.pool.device().id(), card.memory_bytes());
            }
            return Ok(());
        }
        let copied_bytes = item.frame.make_writable(&self.pool).map_err(core_error)?;
        if let Some(context) = &self.context {
            context.count_copy(CopyKind::Host, copied_bytes);
        }
        let surface = item.frame.surface.host_mut().map_err(core_error)?;
        Canvas::new(surface, &item.frame.color).detections(detections, &self.options).map_err(vision_error)
    }
}
