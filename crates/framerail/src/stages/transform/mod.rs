//! The stages that change size, shape, orientation and samples of frames: `scale`, `pad`, `rotate`, `flip`, `cropto`, `convert`,
//! `caps`. Detections and everything else with a position in the frame are transformed too.

mod change;
mod layout;

use std::sync::Arc;

use framerail_core::{ColorMatrix, ColorRange, PixelFormat, Rotation, StreamInfo};
use framerail_media::ScaleQuality;
use framerail_pipeline::{
    ArgumentSpec, Choice, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec,
    Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::ToneMap;

use self::{
    change::{Change, Changer, Samples},
    layout::{At, Fit, Placing, Target},
};
use super::{areas::Area, link::host_frames};

/// Part of all descriptions.
const ALONG: &str = "Detections, landmarks, masks, tracks and zones are transformed too. Works in host memory; frames on a GPU are downloaded first, \
                     which is shown.";

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    let mut add = |spec: StageSpec, change: fn(&Options) -> Result<Change, ConfigError>| {
        registry.register_with(spec, move |options| {
            let plan = TransformPlan { change: change(options)?, workers: options.workers(), checks: None };
            Ok(Box::new(plan) as Box<dyn StagePlan>)
        })
    };
    add(scale_spec(), scale)?;
    add(pad_spec(), pad)?;
    add(rotate_spec(), rotate)?;
    add(flip_spec(), flip)?;
    add(cropto_spec(), cropto)?;
    add(convert_spec(), convert)?;
    registry.register_with(caps_spec(), |options| {
        let checks = Checks::new(options)?;
        let change = if checks.is_request { checks.change() } else { Change::default() };
        Ok(Box::new(TransformPlan { change, workers: options.workers(), checks: Some(checks) }) as Box<dyn StagePlan>)
    })
}

/// A choice of words, for an argument.
fn words(choices: &[(&str, &str)]) -> OptionKind {
    OptionKind::Choice { choices: choices.iter().map(|(value, help)| Choice::new(*value, *help)).collect() }
}

/// The size argument of `scale`, and of sinks that scale.
fn target(options: &Options, name: &str) -> Result<Target, ConfigError> {
    Target::parse(options.text(name)).map_err(|error| ConfigError::at(name, error))
}

const FITS: [(&str, &str); 4] = [
    ("inside", "as large as fits into the size"),
    ("pad", "the same, padded to the size"),
    ("fill", "fills the size; the excess is cut off"),
    ("stretch", "exactly the size; the pixel aspect ratio changes too, so that players show the original aspect ratio"),
];

fn fit(options: &Options) -> Fit {
    match options.choice("fit") {
        "pad" => Fit::Pad,
        "fill" => Fit::Fill,
        "stretch" => Fit::Stretch,
        _ => Fit::Inside,
    }
}

fn scale_spec() -> StageSpec {
    StageSpec::transform("scale", "changes the size of frames")
        .other_names(["resize", "rescale", "resample", "videoscale"])
        .details(format!(
            "The aspect ratio is kept and pixels become square, unless fit=stretch. Sides follow the chroma subsampling: even for 4:2:0. \
             {ALONG}"
        ))
        .argument(ArgumentSpec::required("size", OptionKind::Text, "1280x720; 1280x or x720, where the other side follows; or 50%"))
        .option(OptionSpec::choice("fit", &FITS).default("inside").help("how frames of another aspect ratio are fitted"))
        .option(
            OptionSpec::choice(
                "quality",
                &[
                    ("bicubic", "cubic interpolation"),
                    ("bilinear", "linear interpolation, faster"),
                    ("area", "mean over the source's area"),
                ],
            )
            .default("bicubic")
            .help("interpolation"),
        )
        .option(OptionSpec::color("color").default("#000000").help("fit=pad: colour of the bars"))
        .workers(1)
        .example("read in.mp4 ! scale 1280x720 ! write out.mp4", "fits into 1280x720")
        .example("read in.mp4 ! infer centerface ! hold ! blur ! scale x360 ! write small.mp4", "faces found at full size, written small")
        .example("read in.mp4 ! scale 1080x1920 fit=fill ! write tall.mp4", "the middle of it, for a telephone")
}

fn scale(options: &Options) -> Result<Change, ConfigError> {
    let quality = match options.choice("quality") {
        "bilinear" => ScaleQuality::Bilinear,
        "area" => ScaleQuality::Area,
        _ => ScaleQuality::Bicubic,
    };
    let fit = fit(options);
    if options.is_given("color") && fit != Fit::Pad {
        return Err(ConfigError::at("color", "bars have a colour only with fit=pad").help("leave it out, or use fit=pad"));
    }
    let placing = Placing::Scale(target(options, "size")?, fit);
    Ok(Change { placing, quality, background: options.color("color"), ..Change::default() })
}

fn pad_spec() -> StageSpec {
    StageSpec::transform("pad", "puts frames on a larger canvas")
        .details(format!(
            "Frames keep their size. One that is larger than the canvas is an error: `scale` with fit=pad shrinks it. {ALONG}"
        ))
        .argument(ArgumentSpec::required("size", OptionKind::Size, "size of the canvas, such as 1920x1080"))
        .option(OptionSpec::integer("x", 0..=32_768).unit("pixels").help("left edge on the canvas; default: centred"))
        .option(OptionSpec::integer("y", 0..=32_768).unit("pixels").help("upper edge on the canvas; default: centred"))
        .option(OptionSpec::color("color").default("#000000").help("colour of the canvas"))
        .workers(1)
        .example("read in.mp4 ! pad 1920x1080 color=#202020 ! write out.mp4", "in the middle of a grey canvas")
}

fn pad(options: &Options) -> Result<Change, ConfigError> {
    let side = |name: &str| options.optional_integer(name).and_then(|side| u32::try_from(side).ok());
    let at = match (side("x"), side("y")) {
        (None, None) => At::Center,
        (Some(x), Some(y)) => At::Pixels(x, y),
        (x, _) => {
            let (given, other) = if x.is_some() { ("x", "y") } else { ("y", "x") };
            return Err(ConfigError::at(given, format_args!("needs {other}= as well")).help("give both, or none for the middle"));
        }
    };
    Ok(Change { placing: Placing::Pad(options.size("size"), at), background: options.color("color"), ..Change::default() })
}

fn rotate_spec() -> StageSpec {
    StageSpec::transform("rotate", "rotates frames by 90, 180 or 270 degrees")
        .other_names(["turn", "transpose"])
        .details(format!("The file's display rotation is applied first. {ALONG}"))
        .argument(ArgumentSpec::required(
            "degrees",
            words(&[("90", "a quarter turn clockwise"), ("180", "upside down"), ("270", "a quarter turn anticlockwise")]),
            "clockwise",
        ))
        .workers(1)
        .example("read in.mp4 ! rotate 90 ! write out.mp4", "a clip that was filmed on its side")
}

fn rotate(options: &Options) -> Result<Change, ConfigError> {
    let turn = match options.choice("degrees") {
        "90" => Rotation::Clockwise90,
        "180" => Rotation::Half,
        _ => Rotation::Clockwise270,
    };
    Ok(Change { turn, ..Change::default() })
}

fn flip_spec() -> StageSpec {
    StageSpec::transform("flip", "mirrors frames")
        .other_names(["mirror", "videoflip"])
        .details(format!("The file's display rotation is applied first. {ALONG}"))
        .argument(ArgumentSpec::required(
            "direction",
            words(&[("horizontal", "left and right"), ("vertical", "top and bottom")]),
            "which sides are swapped",
        ))
        .workers(1)
        .example("read in.mp4 ! flip horizontal ! write out.mp4", "as in a mirror")
}

fn flip(options: &Options) -> Result<Change, ConfigError> {
    let turn = if options.choice("direction") == "vertical" { Rotation::FlipVertical } else { Rotation::FlipHorizontal };
    Ok(Change { turn, ..Change::default() })
}

fn cropto_spec() -> StageSpec {
    StageSpec::transform("cropto", "crops frames to an area")
        .other_names(["videocrop"])
        .details(format!(
            "No pixels are copied. The area begins on a whole chroma sample: with 4:2:0 on an even column and row, at or before the place \
             that is given. Detections outside are removed and counted (detections_outside). {ALONG}\n\n\
             `crop` is different: it makes the next model run on parts of the frame and leaves the frame whole."
        ))
        .argument(ArgumentSpec::required(
            "area",
            OptionKind::Text,
            "x,y,w,h in pixels or percent; or an aspect ratio such as 9:16, centred",
        ))
        .workers(1)
        .example("read in.mp4 ! cropto 25%,0,50%,100% ! write out.mp4", "the middle half")
        .example("read in.mp4 ! cropto 9:16 ! scale 1080x1920 ! write tall.mp4", "upright, for a telephone")
}

fn cropto(options: &Options) -> Result<Change, ConfigError> {
    let text = options.text("area");
    let wrong = |error: String| ConfigError::at("area", error);
    let shape =
        text.split_once(':').and_then(|(width, height)| Some((width.trim().parse::<f64>().ok()?, height.trim().parse::<f64>().ok()?)));
    let placing = match shape {
        Some((width, height)) if width > 0.0 && height > 0.0 && (0.01..=100.0).contains(&(width / height)) => {
            Placing::CutTo(width / height)
        }
        Some(_) => return Err(wrong(format!("`{text}` is not an aspect ratio: write width:height, such as 9:16"))),
        None => {
            let area = Area::parse(text, 1).map_err(wrong)?;
            if !area.is_box() {
                return Err(wrong("frames are rectangles: write x,y,w,h".into()));
            }
            Placing::Cut(area)
        }
    };
    Ok(Change { placing, ..Change::default() })
}

fn convert_spec() -> StageSpec {
    StageSpec::transform("convert", "changes pixel format, colour matrix, range, or HDR to SDR")
        .other_names(["videoconvert", "colorspace", "format"])
        .details(
            "Converts samples and updates the tags; properties that are not given stay. RGB becomes limited-range Y'CbCr, BT.709 from \
             720 rows and BT.601 below. tone_map= converts frames with PQ or HLG to SDR in BT.709, 8-bit 4:2:0 unless format= is given, \
             and leaves others unchanged. Works in host memory; frames on a GPU are downloaded first, \
             which is shown.",
        )
        .option(OptionSpec::text("format").help("pixel format by FFmpeg's name, such as yuv420p, nv12, rgb24 or gray"))
        .option(
            OptionSpec::choice(
                "matrix",
                &[("bt601", "standard definition"), ("bt709", "high definition"), ("bt2020", "ultra high definition")],
            )
            .help("matrix of Y'CbCr"),
        )
        .option(OptionSpec::choice("range", &[("limited", "16 to 235"), ("full", "0 to 255")]).help("range of Y'CbCr"))
        .option(
            OptionSpec::choice("tone_map", &[("bt2390", "the curve of Report ITU-R BT.2390"), ("hable", "John Hable's filmic curve")])
                .help("HDR to SDR by this curve"),
        )
        .workers(1)
        .example("read in.mp4 ! convert format=yuv420p range=limited ! write out.mp4", "plays everywhere")
        .example("read hdr.mp4 ! convert tone_map=bt2390 ! write sdr.mp4", "HDR to SDR")
}

fn format(options: &Options) -> Result<Option<PixelFormat>, ConfigError> {
    let parse = |name: &str| {
        name.parse().map_err(|_| {
            let known: Vec<&str> = PixelFormat::ALL.iter().map(|format| format.name()).collect();
            ConfigError::at("format", format_args!("`{name}` is not a pixel format here")).help(format_args!("one of {}", known.join(", ")))
        })
    };
    options.optional_text("format").map(parse).transpose()
}

fn convert(options: &Options) -> Result<Change, ConfigError> {
    let matrix = options.optional_choice("matrix").map(|name| match name {
        "bt709" => ColorMatrix::Bt709,
        "bt2020" => ColorMatrix::Bt2020,
        _ => ColorMatrix::Bt601,
    });
    let range = options.optional_choice("range").map(|name| if name == "full" { ColorRange::Full } else { ColorRange::Limited });
    let tone_map = options.optional_choice("tone_map").map(|name| if name == "hable" { ToneMap::Hable } else { ToneMap::Bt2390 });
    let samples = Samples { format: format(options)?, matrix, range, tone_map };
    if samples == Samples::default() {
        return Err(ConfigError::new("there is nothing to convert").help("give format=, matrix=, range= or tone_map="));
    }
    Ok(Change { samples, ..Change::default() })
}

fn caps_spec() -> StageSpec {
    StageSpec::transform("caps", "fixes the size, format or rate of frames at this point")
        .details(
            "With otherwise=convert, frames of another size or pixel format are converted: scaled, with bars if the aspect ratio \
             differs. With otherwise=fail they are an error, before the start if it is known by then. fps is checked only; `sample` \
             reduces the rate.",
        )
        .option(OptionSpec::text("format").help("pixel format by FFmpeg's name, such as nv12"))
        .option(OptionSpec::size("size").help("width and height, such as 1280x720"))
        .option(OptionSpec::rate("fps").help("frames per second"))
        .option(
            OptionSpec::choice("otherwise", &[("convert", "frames are converted"), ("fail", "the run fails")])
                .default("convert")
                .help("what happens to other frames"),
        )
        .workers(1)
        .example("read in.mp4 ! caps format=yuv420p size=1280x720 ! write out.mp4", "any input, one output format")
        .example("read cam.mp4 ! caps size=1920x1080 fps=30 otherwise=fail ! infer centerface ! save faces.jsonl", "fails on other frames")
}

/// `size=` and `fit=` of a sink: `scale` on the sink's own thread.
#[derive(Clone, Debug)]
pub(super) struct Resize {
    change: Change,
}

impl Resize {
    /// Adds the options to a sink's.
    pub(super) fn options(spec: StageSpec) -> StageSpec {
        spec.option(OptionSpec::text("size").help("size of the output: 1280x720, 1280x, x720 or 50%; default: that of the frames")).option(
            OptionSpec::choice("fit", &FITS).default("inside").help("size=: how frames of another aspect ratio are fitted, as in `scale`"),
        )
    }

    /// `None` without a size.
    pub(super) fn new(options: &Options) -> Result<Option<Self>, ConfigError> {
        if options.optional_text("size").is_none() {
            return match options.is_given("fit") {
                true => Err(ConfigError::at("fit", "needs size= as well").help("give a size, such as size=1280x720")),
                false => Ok(None),
            };
        }
        let placing = Placing::Scale(target(options, "size")?, fit(options));
        Ok(Some(Self { change: Change { placing, ..Change::default() } }))
    }

    /// # Errors
    /// `Usage` for an impossible size.
    pub(super) fn check(&self, input: &EdgeFormat) -> Result<(), StageError> {
        self.change.edge(input).map(drop).map_err(|problem| StageError::new(ErrorKind::Usage, problem))
    }

    pub(super) fn worker(&self) -> Resizer {
        Resizer(Changer::new(self.change.clone()))
    }

    /// The stream as written.
    ///
    /// # Errors
    /// `Input` for one that does not fit.
    pub(super) fn stream(&self, info: &StreamInfo) -> Result<Arc<StreamInfo>, StageError> {
        let changed =
            self.change.stream(info).map_err(|problem| StageError::new(ErrorKind::Input, format!("{}: {problem}", info.source)))?;
        Ok(Arc::new(changed))
    }
}

/// Scales the frames of one worker of a sink.
pub(super) struct Resizer(Changer);

impl Resizer {
    /// # Errors
    /// As for [`Changer::apply`].
    pub(super) fn frame(&mut self, item: &mut FrameItem) -> Result<(), StageError> {
        self.0.apply(item).map(drop)
    }
}

/// The format that `caps` requires.
struct Checks {
    format: Option<PixelFormat>,
    size: Option<(u32, u32)>,
    fps: Option<f64>,
    is_request: bool,
}

impl Checks {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let fps = options.optional_rate("fps").map(framerail_core::Rational::as_f64);
        let checks = Self {
            format: format(options)?,
            size: options.optional_size("size"),
            fps,
            is_request: options.choice("otherwise") == "convert",
        };
        if checks.format.is_none() && checks.size.is_none() && checks.fps.is_none() {
            return Err(ConfigError::new("there is nothing to check").help("give format=, size= or fps="));
        }
        Ok(checks)
    }

    fn change(&self) -> Change {
        let placing = self.size.map_or(Placing::Keep, |(width, height)| Placing::Scale(Target::Sides(Some(width), Some(height)), Fit::Pad));
        Change { placing, samples: Samples { format: self.format, ..Samples::default() }, ..Change::default() }
    }

    /// Known deviations from the required format.
    fn problem(&self, size: Option<(u32, u32)>, format: Option<PixelFormat>, fps: Option<f64>) -> Option<String> {
        if let (Some(pinned), Some(fps)) = (self.fps, fps)
            && (pinned / fps - 1.0).abs() > 0.01
        {
            return Some(format!("the frame rate is {:.2}, not {pinned:.2}", fps));
        }
        if self.is_request {
            return None;
        }
        match (self.size, size, self.format, format) {
            (Some(pinned), Some(size), ..) if pinned != size => {
                Some(format!("frames are {}x{}, not {}x{}", size.0, size.1, pinned.0, pinned.1))
            }
            (.., Some(pinned), Some(format)) if pinned != format => Some(format!("frames are {format}, not {pinned}")),
            _ => None,
        }
    }
}

struct TransformPlan {
    change: Change,
    workers: usize,
    checks: Option<Checks>,
}

impl StagePlan for TransformPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        let usage = |problem: String| PlanError::Stage(StageError::new(ErrorKind::Usage, problem));
        if let Some(checks) = &self.checks {
            let fps = input.frame_rate.map(framerail_core::Rational::as_f64);
            if let Some(problem) = checks.problem(input.size, input.pixel_format, fps) {
                return Err(usage(problem));
            }
        }
        self.change.edge(input).map(Some).map_err(usage)
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let checks = self.checks.map(Arc::new);
        let worker = |_| {
            let changer = Changer::new(self.change.clone());
            Box::new(Transform { changer, checks: checks.clone(), counters: None }) as Box<dyn Stage>
        };
        Ok(Work::Stages((0..self.workers).map(worker).collect()))
    }
}

struct Counters {
    changed: Counter,
    outside: Counter,
    mixed: Counter,
    context: StageContext,
}

struct Transform {
    changer: Changer,
    checks: Option<Arc<Checks>>,
    counters: Option<Counters>,
}

impl Transform {
    fn check(&self, info: Option<f64>, size: (u32, u32), format: Option<PixelFormat>) -> Result<(), StageError> {
        let problem = self.checks.as_ref().and_then(|checks| checks.problem(Some(size), format, info));
        problem.map_or(Ok(()), |problem| Err(StageError::new(ErrorKind::Input, problem)))
    }
}

impl Stage for Transform {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            changed: context.counter("frames_changed"),
            outside: context.counter("detections_outside"),
            mixed: context.counter("frames_fields_mixed"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if self.checks.is_some() {
            let format = item.frame.surface.host().ok().map(framerail_core::HostSurface::format);
            self.check(None, (item.frame.width, item.frame.height), format)?;
        }
        let changed = self.changer.apply(&mut item)?;
        if let Some(counters) = &self.counters {
            counters.changed.add(1);
            counters.outside.add(changed.outside);
            if changed.mixed_fields && counters.mixed.value() == 0 {
                let help = "give `read` the option deinterlace=bwdif";
                counters.context.notice(format_args!("frames are interlaced, and this mixes the rows of their two fields; {help}"));
            }
            counters.mixed.add(u64::from(changed.mixed_fields));
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let item = match item {
            Item::StreamStart(info) => {
                self.check(info.frame_rate.map(framerail_core::Rational::as_f64), (info.width, info.height), Some(info.pixel_format))?;
                let changed = self
                    .changer
                    .change()
                    .stream(&info)
                    .map_err(|problem| StageError::new(ErrorKind::Input, format!("{}: {problem}", info.source)))?;
                Item::StreamStart(Arc::new(changed))
            }
            other => other,
        };
        out.push(item)?;
        Ok(Flow::More)
    }
}
