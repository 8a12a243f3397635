//! The `maps` stage: shows depth and optical flow as images.

use std::{collections::HashMap, sync::Arc};

use framerail_core::{
    AttributeValue, ColorDescription, ColorMatrix, ColorRange, DepthMap, DepthUnit, FlowMap, Frame, FramePool, HdrMetadata, HostSurface,
    PixelFormat, StreamId, StreamInfo, Surface,
};
use framerail_media::{Converter, ScaleOptions};
use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, LinkMismatch, OptionSpec, Options, PlanError, Registry,
    RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::dense::{DenseRows, flow_color, heat_color, usual_range};

use super::link::host_frames;
use crate::{
    convert::{core_error, input_error},
    parts::FrameAttributes,
};

/// Buffers kept for results.
const KEPT_BUFFERS: usize = 8;

/// Time in which an estimated range follows a change by about two thirds. Faster, and brightness flickers.
const SETTLING_SECS: f64 = 1.0;

/// Grey levels for each metre: millimetres, as depth cameras write them.
const LEVELS_PER_METRE: f32 = 1000.0;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| MapsPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    let limit = |name: &str| OptionSpec::float(name, -1e9..=1e9);
    StageSpec::transform("maps", "shows depth or optical flow as an image")
        .other_names(["depth", "flow", "colorize"])
        .details(
            "Replaces the pixels of each frame by the map of a depth or flow model before it, at the frame's size. Depth is dark where it \
             is far and light where it is near (the colours of inferno). In flow, hue is the direction, saturation the speed, and white \
             does not move (the colour wheel of the Middlebury benchmark: Baker et al., 2011).\n\nWithout from= and to=, the ends of the \
             scale follow the frames slowly and leave out 2% of the cells at each end. as=gray16 is for `frames` (16-bit PNG): \
             millimetres for models that give metres, else the values between from= and to= as 0 to 65535, larger where the model's \
             values are. A frame without a map, such as the first of a flow model, shows the map before it, and is counted. Works in host \
             memory.",
        )
        .option(
            OptionSpec::choice("show", &[("auto", "the last map"), ("depth", "depth"), ("flow", "optical flow")])
                .default("auto")
                .help("which map, where frames have several"),
        )
        .option(
            OptionSpec::choice("as", &[("color", "8-bit RGB"), ("gray16", "depth as 16-bit grey")])
                .default("color")
                .help("what frames become"),
        )
        .option(OptionSpec::float("blend", 0.0..=1.0).default(1).help("share of the map in the image; the rest is the frame"))
        .option(limit("from").help("depth at the lower end of the scale; default: follows the frames"))
        .option(
            limit("to").help(
                "depth at the upper end of the scale, or for flow the speed in pixels at full saturation; default: follows the frames",
            ),
        )
        .workers(1)
        .example("read in.mp4 ! infer depth.toml ! maps ! write depth.mp4", "depth as a video")
        .example("read in.mp4 ! infer depth.toml ! maps as=gray16 ! frames 'depth/{index:06}.png'", "depth as 16-bit images")
        .example("read in.mp4 ! infer flow.toml ! maps blend=0.6 to=20 ! write flow.mp4", "motion over the frames")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    Last,
    Depth,
    Flow,
}

#[derive(Clone, Copy)]
struct MapsPlan {
    show: Show,
    is_gray: bool,
    blend: f32,
    from: Option<f32>,
    to: Option<f32>,
}

impl MapsPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let number = |name: &str| options.optional_float(name).map(|value| value as f32);
        let show = match options.choice("show") {
            "depth" => Show::Depth,
            "flow" => Show::Flow,
            _ => Show::Last,
        };
        let plan = Self {
            show,
            is_gray: options.choice("as") == "gray16",
            blend: options.float("blend") as f32,
            from: number("from"),
            to: number("to"),
        };
        if plan.is_gray && plan.show == Show::Flow {
            return Err(ConfigError::at("as", "optical flow has a direction, which grey cannot show").help("use as=color, or show=depth"));
        }
        if plan.is_gray && plan.blend < 1.0 {
            return Err(ConfigError::at("blend", "16-bit depth is not mixed with the frame").help("use as=color, or leave blend out"));
        }
        if let (Some(from), Some(to)) = (plan.from, plan.to)
            && from >= to
        {
            return Err(ConfigError::at("to", format_args!("to={to} is not above from={from}")));
        }
        Ok(plan)
    }

    fn pixel_format(&self) -> PixelFormat {
        if self.is_gray { PixelFormat::Gray16 } else { PixelFormat::Rgb24 }
    }

    fn color(&self, color: &ColorDescription) -> ColorDescription {
        let color = if self.blend < 1.0 { *color } else { ColorDescription::default() };
        let matrix = if self.is_gray { color.matrix } else { ColorMatrix::Rgb };
        ColorDescription { matrix, range: ColorRange::Full, ..color }
    }
}

impl StagePlan for MapsPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        if !input.has_maps {
            let (needs, hint) = ("frames with depth or optical flow", "put `infer` with a depth or flow model before it");
            return Err(PlanError::Link(LinkMismatch { needs: needs.into(), hint: hint.into() }));
        }
        Ok(Some(EdgeFormat { pixel_format: Some(self.pixel_format()), ..input.clone() }))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let converter = Converter::new(ScaleOptions::default());
        let maps = Maps { plan: *self, streams: HashMap::new(), pool: FramePool::new(KEPT_BUFFERS), converter, without: None };
        Ok(Work::Stages(vec![Box::new(maps)]))
    }
}

/// A map to show.
#[derive(Clone)]
enum Shown {
    Depth(Arc<DepthMap>),
    Flow(Arc<FlowMap>),
}

/// State of a stream.
#[derive(Default)]
struct Stream {
    last: Option<Shown>,
    /// Ends of the scale, and when they were estimated.
    range: Option<((f32, f32), f64)>,
}

impl Stream {
    /// The ends of the scale, which follow `now` slowly.
    fn settle(&mut self, now: (f32, f32), secs: f64) -> (f32, f32) {
        let settled = match self.range {
            Some(((from, to), before)) if secs >= before => {
                let share = (1.0 - (-(secs - before) / SETTLING_SECS).exp()) as f32;
                (from + (now.0 - from) * share, to + (now.1 - to) * share)
            }
            _ => now,
        };
        self.range = Some((settled, secs));
        settled
    }
}

struct Maps {
    plan: MapsPlan,
    streams: HashMap<StreamId, Stream>,
    pool: FramePool,
    converter: Converter,
    without: Option<Counter>,
}

impl Stage for Maps {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.without = Some(context.counter("frames_without_map"));
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let found = self.plan.map_of(&item);
        if let Some(without) = self.without.as_ref().filter(|_| found.is_none()) {
            without.add(1);
        }
        let stream = self.streams.entry(item.frame.stream).or_default();
        if let Some(found) = found {
            stream.last = Some(found);
        }
        let scale = stream.last.clone().map(|map| (self.plan.scale(&map, stream, item.frame.seconds()), map));
        let mut image = self.background(&item.frame)?;
        if let Some((range, map)) = scale {
            self.plan.paint(&map, range, &mut image);
        }
        let color = self.plan.color(&item.frame.color);
        (item.frame.surface, item.frame.color, item.frame.hdr) = (Surface::Host(image), color, None);
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let item = match item {
            Item::StreamStart(info) => {
                let color = self.plan.color(&info.color);
                let pixel_format = self.plan.pixel_format();
                Item::StreamStart(Arc::new(StreamInfo { pixel_format, color, hdr: HdrMetadata::default(), ..(*info).clone() }))
            }
            Item::StreamEnd(end) => {
                self.streams.remove(&end.id);
                Item::StreamEnd(end)
            }
            other => other,
        };
        out.push(item)?;
        Ok(Flow::More)
    }
}

impl Maps {
    /// The image before the map is painted: the frame where it is seen, else black.
    fn background(&mut self, frame: &Frame) -> Result<HostSurface, StageError> {
        let format = self.plan.pixel_format();
        let mut image = if self.plan.blend < 1.0 {
            let host = frame.surface.host().map_err(core_error)?;
            self.converter.convert(host, &frame.color, format, frame.width, frame.height, &self.pool).map_err(input_error)?
        } else {
            self.pool.surface(format, frame.width, frame.height).map_err(core_error)?
        };
        if self.plan.blend >= 1.0
            && let Some(mut planes) = image.planes_mut()
        {
            planes.plane(0).fill(0);
        }
        Ok(image)
    }
}

impl MapsPlan {
    fn map_of(&self, item: &FrameItem) -> Option<Shown> {
        let attributes = &item.attachments.get::<FrameAttributes>()?.0;
        attributes.iter().rev().find_map(|attribute| match &attribute.value {
            AttributeValue::Depth(depth) if self.show != Show::Flow => Some(Shown::Depth(Arc::clone(depth))),
            AttributeValue::Flow(flow) if self.show != Show::Depth && !self.is_gray => Some(Shown::Flow(Arc::clone(flow))),
            _ => None,
        })
    }

    /// The ends of the scale for a map.
    fn scale(&self, map: &Shown, stream: &mut Stream, secs: f64) -> (f32, f32) {
        let needed = match map {
            Shown::Depth(_) if self.is_gray && self.from.is_none() && self.to.is_none() => true,
            Shown::Depth(_) => self.from.is_none() || self.to.is_none(),
            Shown::Flow(_) => self.to.is_none(),
        };
        if !needed {
            return (self.from.unwrap_or(0.0), self.to.unwrap_or(1.0));
        }
        let now = match map {
            Shown::Depth(depth) => usual_range(depth.map.cells()),
            Shown::Flow(flow) => {
                let speeds: Vec<f32> = flow.map.cells().iter().map(|[x, y]| x.hypot(*y)).collect();
                (0.0, usual_range(&speeds).1)
            }
        };
        let (from, to) = stream.settle(now, secs);
        (self.from.unwrap_or(from), self.to.unwrap_or(to))
    }

    fn paint(&self, map: &Shown, (from, to): (f32, f32), image: &mut HostSurface) {
        let (width, height) = (image.width() as usize, image.height() as usize);
        let span = (to - from).max(f32::MIN_POSITIVE);
        let Some(mut planes) = image.planes_mut() else { return };
        let mut paint_row = |row: usize, colors: &mut dyn Iterator<Item = Option<[u8; 3]>>| {
            for (pixel, color) in planes.row(0, row).chunks_exact_mut(3).zip(colors) {
                let Some(color) = color else { continue };
                for (value, painted) in pixel.iter_mut().zip(color) {
                    let mixed = f32::from(*value) + (f32::from(painted) - f32::from(*value)) * self.blend;
                    *value = (mixed + 0.5) as u8;
                }
            }
        };
        match map {
            Shown::Flow(flow) => {
                let rows = DenseRows::new(&flow.map, width);
                (0..height).for_each(|row| paint_row(row, &mut rows.row(row).map(|motion| Some(flow_color(motion?, to)))));
            }
            Shown::Depth(depth) if !self.is_gray => {
                let rows = DenseRows::new(&depth.map, width);
                let brightness = |value: f32| {
                    let share = (value - from) / span;
                    if depth.unit.grows_towards_camera() { share } else { 1.0 - share }
                };
                (0..height).for_each(|row| paint_row(row, &mut rows.row(row).map(|value| Some(heat_color(brightness(value?))))));
            }
            Shown::Depth(depth) => {
                let rows = DenseRows::new(&depth.map, width);
                let is_millimetres = depth.unit == DepthUnit::Metres && self.from.is_none() && self.to.is_none();
                let level = |value: f32| if is_millimetres { value * LEVELS_PER_METRE } else { (value - from) / span * 65535.0 };
                for row in 0..height {
                    for (pixel, value) in planes.row(0, row).chunks_exact_mut(2).zip(rows.row(row)) {
                        // `as` saturates.
                        let level = value.map_or(0, |value| (level(value) + 0.5) as u16);
                        pixel.copy_from_slice(&level.to_le_bytes());
                    }
                }
            }
        }
    }
}
