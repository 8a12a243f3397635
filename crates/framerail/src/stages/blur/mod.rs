//! The `blur` stage: hides detections and areas.

mod areas;
mod settings;

use std::path::{Path, PathBuf};

use framerail_core::{Attribute, AttributeValue, Detection, FramePool};
use framerail_cuda::kernels::{ObscureJob, obscure_batch};
use framerail_pipeline::{
    ConfigError, CopyKind, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionSpec, Options, PlanError,
    Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{MaskOptions, MaskShape, MosaicCell, Obscure, ObscureCounts, Obscurer, Overlay};

use self::{
    areas::{AreaSet, BlurAreas, FrameAreas},
    settings::{BlurSettings, Cover},
};
use super::link::{detections_of, host_frames, input_of, note_reads};
use crate::{
    convert::{core_error, cuda_error, vision_error},
    gpu_canvas::{GpuCanvas, GpuCanvases},
};

/// Default growth of a contour, which follows the face.
const CONTOUR_SCALE: f32 = 1.1;

/// Buffers kept for copies of frames that the decoder still needs.
const KEPT_BUFFERS: usize = 8;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| BlurPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    let spec = StageSpec::transform("blur", "hides detections or fixed areas: blur, mosaic, colour or image").other_names(["anonymize", "anonymise", "pixelate", "hide", "obscure"])
        .details(
            "Works in the frame's pixel format; only frames with detections or areas are changed. Strengths are relative to the size of the face, \
             so that near and far faces are hidden equally. The soft edge lies outside the mask. Frames on a GPU are changed in place; \
             kind=image needs them on the host. strength, cell, mask_scale, feather and contour_share can be changed during the \
             run.\n\nshape=contour follows the result of a further model for each face: the last mask among its attributes, else the hull \
             of the last landmarks there (3 or more), else of the detector's landmarks (20 or more). A contour that is missing, or covers \
             less than contour_share of the box, is replaced by the ellipse, with a counter and a notice; hulls of 20 landmarks or more \
             are always used.\n\nalso= hides fixed areas in every frame, with or without a model before this stage: exactly the pixels \
             that they touch, with strengths relative to the area's larger side. only_inside= and except= select detections by the centre \
             of their box; everything inside except= stays visible. An area in a file can apply to certain streams and to a time range \
             (start, end), counted from the start of what is read. Where no area of only_inside= applies, all detections are hidden.",
        )
        .option(
            OptionSpec::choice(
                "kind",
                &[
                    ("gaussian", "a Gaussian blur"),
                    ("box", "the mean over a square"),
                    ("mosaic", "squares of their mean colour"),
                    ("solid", "one colour"),
                    ("image", "a picture"),
                    ("none", "nothing: frames pass untouched"),
                ],
            )
            .default("gaussian")
            .help("what replaces a face"),
        )
        .option(
            OptionSpec::float("strength", 0.01..=4.0).help(
                "gaussian: standard deviation (default 0.15, at most 2), box: side (default 0.5); relative to the face's larger side",
            ),
        )
        .option(OptionSpec::integer("cell", 2..=4096).unit("pixels").help("mosaic: side of a cell; default: a fifth of the face"))
        .option(OptionSpec::color("color").default("#000000").help("solid: the colour"))
        .option(OptionSpec::path("image").help("image: PNG or JPEG file"))
        .option(
            OptionSpec::choice(
                "shape",
                &[
                    ("ellipse", "rotated by the line between the eyes if landmarks are known"),
                    ("rectangle", "the box"),
                    ("contour", "a model's mask, or the hull of landmarks; the ellipse if there is neither"),
                ],
            )
            .default("ellipse")
            .help("outline of the mask"),
        )
        .option(
            OptionSpec::float("mask_scale", 0.6..=10.0)
                .default(1.3)
                .help("size of the mask: the box grows by (mask_scale - 1) of its size on each side; contours too, default 1.1"),
        )
        .option(
            OptionSpec::float("contour_share", 0.0..=1.0)
                .default(0.2)
                .help("shape=contour: minimum share of the box that a contour must cover"),
        )
        .option(OptionSpec::float("feather", 0.0..=1.0).default(0.05).help("width of the soft edge relative to the face's larger side"))
        .option(OptionSpec::text("only").help("labels to hide, separated by commas; default: all detections"))
        .option(
            OptionSpec::text("except_class")
                .help("classes, separated by commas: detections that a later model or `identify` gave one of these stay visible"),
        )
        .workers(1);
    areas::with_options(spec)
        .example("read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4", "blur faces")
        .example(
            "read in.mp4 ! infer centerface ! hold ! crop margin=0.25 ! infer face-mask.toml ! blur shape=contour ! write out.mp4",
            "only what a second model marks as face",
        )
        .example("read in.mp4 ! infer centerface ! hold ! blur kind=mosaic cell=20 shape=rectangle ! write out.mp4", "a mosaic instead")
        .example("read in.mp4 ! blur also=0,0,30%,8% ! write out.mp4", "a time stamp in the corner, without a model")
        .example("read in.mp4 ! infer centerface ! hold ! blur except=stage:40%,0,20%,60%@10-1:30 ! write out.mp4", "all but the speaker")
}

struct BlurPlan {
    /// Nothing is hidden without an obscurer.
    cover: Option<(Cover, Obscurer)>,
    /// Whether GPUs support it too.
    runs_on_gpus: bool,
    only: Option<Vec<String>>,
    except_class: Vec<String>,
    /// The image that covers.
    image: Option<PathBuf>,
    areas: BlurAreas,
    workers: usize,
}

impl BlurPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let mask = mask(options)?;
        let obscure = obscure(options)?;
        let runs_on_gpus = !matches!(obscure, Some(Obscure::Image(_)));
        let made = |obscure| {
            let cover = Cover { obscure, mask };
            let obscurer = cover.obscurer().map_err(|error| ConfigError::at("strength", error))?;
            Ok::<_, ConfigError>((cover, obscurer))
        };
        let cover = obscure.map(made).transpose()?;
        let listed =
            |option: &str| options.optional_text(option).map(|labels| labels.split(',').map(|label| label.trim().to_owned()).collect());
        let (only, except_class) = (listed("only"), listed("except_class").unwrap_or_default());
        let image = options.optional_path("image").map(Path::to_owned);
        let areas = BlurAreas::new(options)?;
        Ok(Self { cover, runs_on_gpus, only, except_class, image, areas, workers: options.workers() })
    }
}

fn mask(options: &Options) -> Result<MaskOptions, ConfigError> {
    let shape = match options.choice("shape") {
        "rectangle" => MaskShape::Rectangle,
        "contour" => MaskShape::Contour,
        _ => MaskShape::Ellipse,
    };
    if options.is_given("contour_share") && shape != MaskShape::Contour {
        let message = format_args!("shape={} takes no contour_share", options.choice("shape"));
        return Err(ConfigError::at("contour_share", message).help("leave it out, or use shape=contour"));
    }
    let is_by_contour = shape == MaskShape::Contour && !options.is_given("mask_scale");
    let mask_scale = if is_by_contour { CONTOUR_SCALE } else { options.float("mask_scale") as f32 };
    let [feather, contour_share] = ["feather", "contour_share"].map(|name| options.float(name) as f32);
    Ok(MaskOptions { shape, mask_scale, feather, contour_share })
}

fn obscure(options: &Options) -> Result<Option<Obscure>, ConfigError> {
    let strength = |default: f32| options.optional_float("strength").map_or(default, |value| value as f32);
    let kind = options.choice("kind");
    for (option, owners) in [("strength", &["gaussian", "box"][..]), ("cell", &["mosaic"]), ("color", &["solid"]), ("image", &["image"])] {
        if options.is_given(option) && !owners.contains(&kind) {
            let help = format!("leave it out, or use kind={}", owners.join(" or kind="));
            return Err(ConfigError::at(option, format_args!("kind={kind} takes no {option}")).help(help));
        }
    }
    let obscure = match kind {
        "box" => Obscure::Box { strength: strength(0.5) },
        "mosaic" => Obscure::Mosaic { cell: options.optional_integer("cell").map_or(MosaicCell::Relative(0.2), pixels) },
        "solid" => Obscure::Solid { rgb: options.color("color") },
        "image" => Obscure::Image(overlay(options.optional_path("image"))?),
        "none" => return Ok(None),
        _ => Obscure::Gaussian { strength: strength(0.15) },
    };
    Ok(Some(obscure))
}

fn pixels(cell: i64) -> MosaicCell {
    MosaicCell::Pixels(u32::try_from(cell).unwrap_or(u32::MAX))
}

fn overlay(path: Option<&Path>) -> Result<Overlay, ConfigError> {
    let Some(path) = path else {
        return Err(ConfigError::at("kind", "kind=image needs an image").help("give image=FILE.png"));
    };
    let pool = FramePool::new(0);
    let bad = |error: &dyn std::fmt::Display| ConfigError::at("image", error).kind(ErrorKind::Input);
    let picture = framerail_media::load_image(path, &pool).map_err(|error| bad(&error))?;
    let rows = (0..picture.height() as usize).flat_map(|row| picture.row(0, row).iter().copied());
    Overlay::new(picture.width(), picture.height(), rows.collect::<Vec<u8>>()).map_err(|error| bad(&error))
}

impl StagePlan for BlurPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = if self.runs_on_gpus { input_of(input)? } else { host_frames(input)? };
        self.areas.load(input.size, &context.files)?;
        note_reads(&context.files, self.image.as_deref())?;
        if input.detections.is_none() && self.areas.hide_without_detections() {
            return Ok(Some(input.clone()));
        }
        let detections = detections_of(input)?;
        let unknown = self.only.iter().flatten().find(|label| !detections.labels.contains(label));
        if let Some(label) = unknown.filter(|_| !detections.labels.is_empty()) {
            let known = detections.labels.join(", ");
            let message = format!("only={label}: {} finds no `{label}`; it finds {known}", detections.model);
            return Err(StageError::new(ErrorKind::Usage, message).into());
        }
        Ok(Some(input.clone()))
    }

    fn reads_pixels(&self) -> bool {
        self.cover.is_some()
    }

    fn takes_device_frames(&self) -> bool {
        self.runs_on_gpus
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let pool = FramePool::new(KEPT_BUFFERS);
        let worker = |_| {
            let (cover, obscurer) = self.cover.clone().unzip();
            let (only, except_class, pool) = (self.only.clone(), self.except_class.clone(), pool.clone());
            let areas = FrameAreas::new(&self.areas);
            let blur =
                Blur { obscurer, cover, settings: None, only, except_class, areas, pool, gpus: GpuCanvases::default(), counters: None };
            Box::new(blur) as Box<dyn Stage>
        };
        // Only one worker gets the start of a stream.
        let workers = if self.areas.follow_streams() { 1 } else { self.workers };
        Ok(Work::Stages((0..workers).map(worker).collect()))
    }
}

struct Counters {
    context: StageContext,
    hidden: Counter,
    outside: Counter,
    invalid: Counter,
    frames: Counter,
    areas: Counter,
    areas_outside: Counter,
    /// Detections that areas or classes leave visible.
    left: Counter,
    /// Counters of contour masks.
    contours_missing: Counter,
    contours_too_small: Counter,
}

impl Counters {
    fn count(&self, counts: ObscureCounts) {
        self.hidden.add(counts.hidden);
        self.outside.add(counts.outside);
        self.invalid.add(counts.invalid);
        let stand_in = "an ellipse covers them instead, and they are counted";
        if counts.contours_missing > 0 && self.contours_missing.value() == 0 {
            let help = "`crop ! infer MODEL` before this stage, with a model that gives masks or landmarks, makes contours";
            self.context.notice(format_args!("some faces have no contour: no mask, and too few landmarks; {stand_in}; {help}"));
        }
        if counts.contours_too_small > 0 && self.contours_too_small.value() == 0 {
            let help = "contour_share= sets the minimum share of the box";
            self.context.notice(format_args!("some contours cover too little of their face; {stand_in}; {help}"));
        }
        self.contours_missing.add(counts.contours_missing);
        self.contours_too_small.add(counts.contours_too_small);
    }
}

struct Blur {
    obscurer: Option<Obscurer>,
    /// Until the run begins.
    cover: Option<Cover>,
    settings: Option<BlurSettings>,
    only: Option<Vec<String>>,
    /// Classes by later models that leave a detection visible.
    except_class: Vec<String>,
    areas: Option<FrameAreas>,
    pool: FramePool,
    /// For frames on a GPU.
    gpus: GpuCanvases,
    counters: Option<Counters>,
}

impl Stage for Blur {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.settings = self.cover.take().map(|cover| BlurSettings::new(context, cover));
        self.counters = Some(Counters {
            context: context.clone(),
            hidden: context.counter("faces_hidden"),
            outside: context.counter("faces_outside_frame"),
            invalid: context.counter("boxes_invalid"),
            frames: context.counter("frames_changed"),
            areas: context.counter("areas_hidden"),
            areas_outside: context.counter("areas_outside_frame"),
            left: context.counter("detections_left_visible"),
            contours_missing: context.counter("contours_missing"),
            contours_too_small: context.counter("contours_too_small"),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.hide(&mut item)?;
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match (&item, &mut self.areas) {
            (Item::StreamStart(info), Some(areas)) => areas.begin(info),
            (Item::StreamEnd(end), Some(areas)) => areas.end(end.id),
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        if let (Some(areas), Some(counters)) = (&self.areas, &self.counters) {
            areas.finish(&counters.context);
        }
        Ok(())
    }
}

impl Blur {
    /// Whether a later model's best class leaves the detection visible. One with a non-finite box is never excepted, so that it is
    /// counted as invalid.
    fn is_excepted(&self, found: &Detection) -> bool {
        let is_listed = |attribute: &Attribute| match &attribute.value {
            AttributeValue::Classes(classes) => {
                classes.first().is_some_and(|best| self.except_class.iter().any(|class| **class == *best.label.name))
            }
            _ => false,
        };
        found.bbox.is_finite() && !self.except_class.is_empty() && found.attributes.iter().any(is_listed)
    }

    fn hide(&mut self, item: &mut FrameItem) -> Result<(), StageError> {
        if let Some(settings) = &mut self.settings
            && let Some(obscurer) = settings.take_changes().map_err(vision_error)?
        {
            self.obscurer = Some(obscurer);
        }
        let Some(obscurer) = &self.obscurer else { return Ok(()) };
        let areas = self.areas.as_mut().map(|areas| areas.of(&item.frame)).unwrap_or_default();
        let is_meant = |found: &Detection| self.only.as_ref().is_none_or(|only| only.iter().any(|label| **label == *found.label.name));
        let (chosen, left): (Vec<Detection>, Vec<Detection>) = item
            .detections
            .iter()
            .filter(|found| is_meant(found))
            .cloned()
            .partition(|found| areas.hides(found) && !self.is_excepted(found));
        if let Some(counters) = &self.counters {
            counters.left.add(left.len() as u64);
            counters.areas.add(areas.hidden.len() as u64);
            counters.areas_outside.add(areas.outside);
        }
        if chosen.is_empty() && areas.hidden.is_empty() {
            return Ok(());
        }
        let counts = match self.gpus.for_frame(&item.frame).map_err(cuda_error)? {
            Some(gpu) => hide_on_gpu(obscurer, gpu, item, &chosen, &areas)?,
            None => {
                let copied_bytes = item.frame.make_writable(&self.pool).map_err(core_error)?;
                if let Some(counters) = &self.counters {
                    counters.context.count_copy(CopyKind::Host, copied_bytes);
                }
                let color = item.frame.color;
                let surface = item.frame.surface.host_mut().map_err(core_error)?;
                obscurer.hide_areas(surface, &color, &areas.hidden).map_err(vision_error)?;
                obscurer.run(surface, &color, &chosen).map_err(vision_error)?
            }
        };
        if let Some(counters) = &self.counters {
            self.gpus.account(&counters.context);
            counters.frames.add(1);
            counters.count(counts);
        }
        Ok(())
    }
}

/// Queues the work on the GPU without waiting for it.
fn hide_on_gpu(
    obscurer: &Obscurer,
    gpu: &mut GpuCanvas,
    item: &mut FrameItem,
    chosen: &[Detection],
    areas: &AreaSet,
) -> Result<ObscureCounts, StageError> {
    let color = item.frame.color;
    let surface = gpu.writable(&mut item.frame).map_err(cuda_error)?;
    let (size, format) = ((surface.width(), surface.height()), surface.format());
    let mut plans = obscurer.plan_areas(size, format, &color, &areas.hidden).map_err(vision_error)?;
    let (faces, counts) = obscurer.plan(size, format, &color, chosen).map_err(vision_error)?;
    plans.extend(faces);
    obscure_batch(&gpu.stream, &gpu.pool, &mut gpu.uploads, &[ObscureJob { surface, regions: &plans }]).map_err(cuda_error)?;
    Ok(counts)
}
