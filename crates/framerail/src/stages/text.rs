//! The `text` stage: writes clock, names, times and counts on frames.

mod template;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use framerail_core::{BBox, FramePool, StreamId, StreamInfo};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options,
    PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::Sketch;

use self::template::Template;
use super::link::{input_of, note_reads};
use crate::{
    canvas::FrameCanvas,
    typeface::{Setting, Typeface},
};

/// Buffers kept for frames that another branch still holds.
const KEPT_BUFFERS: usize = 4;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| TextPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("text", "writes text on frames: clock, stream, time, counts").other_names(["caption", "textoverlay", "osd", "clock"])
        .details(
            "TEXT may hold placeholders in braces; {{ is a brace, and \\n starts a new line:\n\n\
             {stream} name of the stream; {source} its file or address; {time} time of the frame, such as 0:01:30.500, in the output; {pts} its \
             PTS in seconds, as in the source; {frame} its number; {width} and {height}; {count} number of detections, {count:face} of one \
             class; {clock} local date and time, for live and paced streams when the frame came in, {clock:%H:%M} in strftime's format.\n\n\
             A font with Latin letters is included. Characters that it does not have come from the system's fonts, in every script. Frames \
             on a GPU are changed there.",
        )
        .argument(ArgumentSpec::required("text", OptionKind::Text, "the text, such as '{stream} {clock}'"))
        .option(
            OptionSpec::choice(
                "at",
                &[
                    ("top-left", "left-aligned"),
                    ("top", "centred"),
                    ("top-right", "right end at the margin"),
                    ("center", "in the middle of the frame"),
                    ("bottom-left", "left-aligned"),
                    ("bottom", "centred"),
                    ("bottom-right", "right end at the margin"),
                ],
            )
            .default("top-left")
            .help("place on the frame"),
        )
        .option(OptionSpec::float("size", 0.5..=50.0).default(4).unit("percent").help("font size, relative to the frame's height"))
        .option(OptionSpec::float("margin", 0.0..=45.0).default(1.5).unit("percent").help("distance from the edges, relative to the frame's height"))
        .option(OptionSpec::color("color").default("#ffffff").help("colour of the letters"))
        .option(OptionSpec::color("outline").default("#000000").help("colour of their outline"))
        .option(
            OptionSpec::float("outline_width", 0.0..=20.0)
                .default(6)
                .unit("percent")
                .help("width of the outline, relative to the font size; 0 = none"),
        )
        .option(OptionSpec::color("background").help("colour of a box behind the text; default: none"))
        .option(OptionSpec::float("opacity", 0.0..=1.0).default(0.6).help("opacity of the box"))
        .option(OptionSpec::path("font").help("TrueType or OpenType file; default: the included font"))
        .workers(1)
        .example("read in.mp4 ! text '{stream}  {time}' ! write out.mp4", "name and time in the corner")
        .example("read cam.mp4 realtime=yes ! text '{clock:%F %T}' at=bottom-right ! write out.m3u8", "a clock for a live stream")
        .example("read in.mp4 ! infer centerface ! text '{count:face} faces' size=6 at=top ! write out.mp4", "count what a model found")
}

#[derive(Clone, Copy)]
struct Place {
    /// 0 = left or top, 0.5 = middle, 1 = right or bottom.
    across: f32,
    down: f32,
}

#[derive(Clone)]
struct Look {
    place: Place,
    /// Relative to the frame's height.
    size: f32,
    margin: f32,
    /// Relative to the font size.
    outline_width: f32,
    rgb: [u8; 3],
    outline_rgb: [u8; 3],
    background: Option<([u8; 3], u8)>,
}

struct TextPlan {
    template: Template,
    look: Look,
    font: Option<PathBuf>,
    face: Option<Typeface>,
    workers: usize,
}

impl TextPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let template = Template::parse(options.text("text")).map_err(|error| ConfigError::at("text", error))?;
        let at = options.choice("at");
        let side = |first: &str, last: &str| match at {
            at if at.contains(first) => 0.0,
            at if at.contains(last) => 1.0,
            _ => 0.5,
        };
        let percent = |name: &str| options.float(name) as f32 / 100.0;
        let opacity = (options.float("opacity") * 255.0).round() as u8;
        let look = Look {
            place: Place { across: side("left", "right"), down: side("top", "bottom") },
            size: percent("size"),
            margin: percent("margin"),
            outline_width: percent("outline_width"),
            rgb: options.color("color"),
            outline_rgb: options.color("outline"),
            background: options.optional_color("background").map(|rgb| (rgb, opacity)),
        };
        let font = options.optional_path("font").map(PathBuf::from);
        Ok(Self { template, look, font, face: None, workers: options.workers() })
    }
}

impl StagePlan for TextPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        note_reads(&context.files, self.font.as_deref())?;
        if let Some(label) = self.template.labels().find(|label| {
            input.detections.as_ref().is_none_or(|found| !found.labels.is_empty() && !found.labels.iter().any(|known| known == label))
        }) {
            let known = input.detections.as_ref().map(|found| found.labels.join(", ")).filter(|known| !known.is_empty());
            let known = known.map_or("there is no model before this stage".to_owned(), |known| format!("the model has {known}"));
            return Err(StageError::new(ErrorKind::Usage, format!("{{count:{label}}}: there is no class `{label}`; {known}")).into());
        }
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
        let face = self.face.ok_or_else(|| StageError::new(ErrorKind::Internal, "the stage was not linked"))?;
        // Only one worker gets the start of a stream.
        let workers = if self.template.needs_stream() { 1 } else { self.workers };
        let pool = FramePool::new(KEPT_BUFFERS * workers);
        let text = |_| {
            let (template, look, face, canvas) = (self.template.clone(), self.look.clone(), face.clone(), FrameCanvas::new(&pool));
            Box::new(Text { template, look, face, canvas, streams: BTreeMap::new(), noticed: false, context: None }) as Box<dyn Stage>
        };
        Ok(Work::Stages((0..workers).map(text).collect()))
    }
}

struct Text {
    template: Template,
    look: Look,
    face: Typeface,
    canvas: FrameCanvas,
    streams: BTreeMap<StreamId, Arc<StreamInfo>>,
    /// Whether a character without a font was reported.
    noticed: bool,
    context: Option<StageContext>,
}

impl Stage for Text {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.canvas.start(context);
        self.context = Some(context.clone());
        self.check_fonts(&self.template.fixed());
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let text = self.template.fill(&item, self.streams.get(&item.frame.stream).map(AsRef::as_ref));
        if !text.trim().is_empty() {
            self.write(&mut item, &text)?;
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => {
                self.check_fonts(&self.template.of_stream(info));
                self.streams.insert(info.id, Arc::clone(info));
            }
            Item::StreamEnd(end) => {
                self.streams.remove(&end.id);
            }
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }
}

impl Text {
    /// Reports the first character that no font has.
    fn check_fonts(&mut self, text: &str) {
        let missing = if self.noticed { None } else { self.face.missing(text) };
        if let (Some(character), Some(context)) = (missing, &self.context) {
            let code = u32::from(character);
            context.notice(format_args!("no font has the character `{character}` (U+{code:04X}): install one, or give it with font="));
            self.noticed = true;
        }
    }

    fn write(&mut self, item: &mut FrameItem, text: &str) -> Result<(), StageError> {
        let (width, height) = (item.frame.width, item.frame.height);
        let pixels = (self.look.size * height as f32).round().max(6.0);
        let outline = if self.look.outline_width > 0.0 { (self.look.outline_width * pixels).max(1.0) } else { 0.0 };
        let setting = self.face.set(text, pixels, outline);
        let look = &self.look;
        self.canvas.draw(&mut item.frame, |mut sketch| {
            sketch_text(&mut sketch, &setting, look, (width, height));
            sketch
        })
    }
}

fn sketch_text(sketch: &mut Sketch, set: &Setting, look: &Look, (width, height): (u32, u32)) {
    let (margin, border) = ((look.margin * height as f32).round(), set.border as f32);
    let block = &set.letters;
    // The outline extends into the margin, if there is one.
    let edge = (margin - border).max(0.0);
    let place = |share: f32, frame: u32, block: u32| {
        let (from, to) = (edge, frame as f32 - edge - block as f32);
        (from + (to - from) * share).round()
    };
    let (x, y) = (place(look.place.across, width, block.width), place(look.place.down, height, block.height));
    if let Some((rgb, opacity)) = look.background {
        sketch.fill(&BBox::from_xyxy(x, y, x + block.width as f32, y + block.height as f32), rgb, opacity);
    }
    sketch.text_block(x as i64, y as i64, &set.outline, look.outline_rgb);
    sketch.text_block(x as i64, y as i64, block, look.rgb);
}
