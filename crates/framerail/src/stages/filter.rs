//! The `filter` stage: runs FFmpeg's video filters.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use framerail_core::{Frame, PixelAspect, Pts, Rational, StreamId, StreamInfo, Surface, TimeBase};
use framerail_media::{FilterFormat, FilterGraph, Filtered, MediaError, VideoFilter, settle_color};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, LinkMismatch, OptionKind,
    OptionSpec, Options, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use super::link::host_frames;
use crate::convert::input_error;

/// Number of frames whose metadata is kept, for filters that output frames late or more than once.
const KEPT_FRAMES: usize = 64;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| FilterPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("filter", "runs FFmpeg's video filters")
        .other_names(["ffmpeg", "vf"])
        .details(
            "GRAPH is a filter graph in FFmpeg's syntax with one input and one output, in quotation marks: filters separated by commas, \
             branches by [labels] and semicolons. Frames keep their exact times, unless a filter changes times. Frames that a filter \
             drops or adds are counted. framerail inserts no filters except a conversion to a pixel format that it has.\n\n\
             Detections pass through. Filters that move pixels (hflip, crop, pad and so on) or change the size are refused after a model, \
             because boxes would no longer fit: use `flip`, `rotate`, `scale`, `pad` or `cropto`, or put `filter` before the model, or set \
             detections=drop.\n\n\
             Filters that open files, devices or the network (movie, subtitles, lut3d, zmq, ...) need open=yes. What they open and write \
             is not compared with the other files of the run. Runs in host memory; frames on a GPU are downloaded first, which is shown.",
        )
        .argument(ArgumentSpec::required("graph", OptionKind::Text, "filter graph in quotation marks, such as 'hqdn3d,eq=contrast=1.1'"))
        .option(OptionSpec::switch("open").default("no").help("whether filters may open files, devices and the network"))
        .option(
            OptionSpec::choice(
                "detections",
                &[
                    ("fit", "are kept; filters that move pixels are refused"),
                    ("keep", "are kept where they are, whatever the filters do"),
                    ("drop", "are removed"),
                ],
            )
            .default("fit")
            .help("what happens to detections of earlier stages"),
        )
        .example("read in.mp4 ! filter 'hqdn3d,eq=contrast=1.1' ! write out.mp4", "less noise, more contrast")
        .example("read in.mp4 ! filter 'split[a][b];[b]gblur=sigma=20[c];[a][c]blend=all_mode=screen' ! write out.mp4", "a glow")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Detections {
    Fit,
    Keep,
    Drop,
}

struct FilterPlan {
    filter: VideoFilter,
    detections: Detections,
}

fn config_error(error: MediaError) -> ConfigError {
    match error {
        MediaError::BadOption { reason, .. } => ConfigError::at("graph", reason),
        other => ConfigError::at("graph", other),
    }
}

/// An error of opening filters: a mistake in the user's text.
fn usage(error: MediaError) -> StageError {
    match error {
        MediaError::BadOption { reason, .. } => StageError::new(ErrorKind::Usage, reason),
        MediaError::Unsupported { .. } | MediaError::Refused { .. } => StageError::new(ErrorKind::Usage, error),
        other => input_error(other),
    }
}

impl FilterPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let filter = VideoFilter::parse(options.text("graph"), options.switch("open")).map_err(config_error)?;
        let detections = match options.choice("detections") {
            "keep" => Detections::Keep,
            "drop" => Detections::Drop,
            _ => Detections::Fit,
        };
        Ok(Self { filter, detections })
    }
}

impl StagePlan for FilterPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = host_frames(input)?;
        let mut output = input.clone();
        // Without known formats, the filters' effect on them is checked with the first frame.
        let known = input.size.zip(input.pixel_format);
        (output.size, output.pixel_format) = (None, None);
        if let Some(((width, height), format)) = known {
            let ratio = (f64::from(input.pixel_aspect.ratio()) * 10_000.0).round() as i64;
            let sample_aspect_ratio = Rational::new(ratio, 10_000);
            let frame_rate = input.frame_rate;
            let given = FilterFormat { width, height, format, time_base: TimeBase::MICROS, sample_aspect_ratio, frame_rate };
            let graph = self.filter.open(&given).map_err(usage)?;
            let made = graph.output();
            output.size = Some((made.width, made.height));
            output.pixel_format = Some(made.format);
            output.pixel_aspect = PixelAspect::of(made.sample_aspect_ratio);
            output.frame_rate = made.frame_rate;
        }
        if self.detections == Detections::Drop {
            output.detections = None;
        } else if input.detections.is_some() && self.detections == Detections::Fit {
            let moving = self.filter.moving().map(|name| format!("the filter {name} moves pixels"));
            let is_resized = output.size.is_some() && output.size != input.size;
            if let Some(why) = moving.or(is_resized.then(|| "the filters change the size".into())) {
                let hint = "put `filter` before `infer`, use `flip`, `rotate`, `scale`, `pad` or `cropto`, or give detections=drop";
                let needs = format!("frames without detections, because {why} and boxes would no longer fit");
                return Err(PlanError::Link(LinkMismatch { needs, hint: hint.into() }));
            }
        }
        Ok(Some(output))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Filter { plan: *self, streams: BTreeMap::new(), counters: None })]))
    }
}

struct Counters {
    dropped: Counter,
    added: Counter,
}

/// A frame's metadata while its pixels are in the filters.
struct Known {
    tag: u64,
    item: FrameItem,
    /// Number of times that it was output.
    given: u64,
}

struct Stream {
    info: Arc<StreamInfo>,
    graph: FilterGraph,
    /// Of results, in input order.
    known: VecDeque<Known>,
    next_tag: u64,
    next_index: u64,
    /// Whether each frame was output once so far, so that numbers stay those of the source.
    keeps_numbers: bool,
}

struct Filter {
    plan: FilterPlan,
    streams: BTreeMap<StreamId, Stream>,
    counters: Option<Counters>,
}

impl Stage for Filter {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters =
            Some(Counters { dropped: context.counter("frames_dropped_by_filter"), added: context.counter("frames_added_by_filter") });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let id = item.frame.stream;
        let missing = || StageError::new(ErrorKind::Internal, format!("a frame of stream {id} came before the stream's start"));
        let stream = self.streams.get_mut(&id).ok_or_else(missing)?;
        let format = format_of(&item.frame, stream.graph.input())?;
        if format != *stream.graph.input() {
            // The size or format changed within the stream: frames inside are output first.
            stream.graph.end().map_err(input_error)?;
            give(stream, self.plan.detections, out)?;
            stream.graph = self.plan.filter.open(&format).map_err(usage)?;
        }
        let tag = stream.next_tag;
        stream.next_tag += 1;
        stream.graph.send(&item.frame, tag).map_err(input_error)?;
        // The filters hold the pixels now; a second holder would cause a copy.
        item.frame.surface = Surface::Host(placeholder()?);
        stream.known.push_back(Known { tag, item, given: 0 });
        give(stream, self.plan.detections, out)?;
        if stream.known.len() > KEPT_FRAMES
            && let Some(oldest) = stream.known.pop_front()
        {
            count(self.counters.as_ref(), &oldest);
        }
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let item = match item {
            Item::StreamStart(info) => Item::StreamStart(self.begin(&info)?),
            Item::StreamEnd(end) => {
                self.end(end.id, out)?;
                Item::StreamEnd(end)
            }
            other => other,
        };
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.end(id, out))
    }
}

impl Filter {
    fn begin(&mut self, info: &Arc<StreamInfo>) -> Result<Arc<StreamInfo>, StageError> {
        let given = FilterFormat {
            width: info.width,
            height: info.height,
            format: info.pixel_format,
            time_base: info.time_base,
            sample_aspect_ratio: info.sample_aspect_ratio,
            frame_rate: info.frame_rate,
        };
        let graph = self.plan.filter.open(&given).map_err(usage)?;
        let made = graph.output();
        let mut color = info.color;
        settle_color(&mut color, info.pixel_format, made.format);
        let changed = Arc::new(StreamInfo {
            width: made.width,
            height: made.height,
            pixel_format: made.format,
            sample_aspect_ratio: made.sample_aspect_ratio,
            time_base: made.time_base,
            frame_rate: made.frame_rate.or(info.frame_rate),
            color,
            ..(**info).clone()
        });
        let stream = Stream { info: Arc::clone(&changed), graph, known: VecDeque::new(), next_tag: 0, next_index: 0, keeps_numbers: true };
        self.streams.insert(info.id, stream);
        Ok(changed)
    }

    fn end(&mut self, id: StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        let Some(mut stream) = self.streams.remove(&id) else { return Ok(()) };
        stream.graph.end().map_err(input_error)?;
        give(&mut stream, self.plan.detections, out)?;
        stream.known.iter().for_each(|known| count(self.counters.as_ref(), known));
        Ok(())
    }
}

/// Placeholder for pixels that are in the filters.
fn placeholder() -> Result<framerail_core::HostSurface, StageError> {
    let pool = framerail_core::FramePool::new(0);
    pool.surface(framerail_core::PixelFormat::Gray8, 1, 1).map_err(crate::convert::core_error)
}

/// Frames output once are as expected; others were dropped or added.
fn count(counters: Option<&Counters>, known: &Known) {
    if let Some(counters) = counters {
        counters.dropped.add(u64::from(known.given == 0));
        counters.added.add(known.given.saturating_sub(1));
    }
}

fn format_of(frame: &Frame, before: &FilterFormat) -> Result<FilterFormat, StageError> {
    let surface = frame.surface.host().map_err(crate::convert::core_error)?;
    let sample_aspect_ratio = frame.sample_aspect_ratio.or(before.sample_aspect_ratio);
    Ok(FilterFormat { width: frame.width, height: frame.height, format: surface.format(), sample_aspect_ratio, ..before.clone() })
}

/// Passes on the results that are ready.
fn give(stream: &mut Stream, detections: Detections, out: &mut dyn Emitter) -> Result<(), StageError> {
    while let Some(filtered) = stream.graph.receive().map_err(input_error)? {
        let base = stream.graph.output().time_base;
        let (item, is_exact) = described(stream, &filtered, base);
        let Some(mut item) = item else { continue };
        let Filtered { surface, pts, sample_aspect_ratio, color, field_order, .. } = filtered;
        let frame = &mut item.frame;
        (frame.width, frame.height) = (surface.width(), surface.height());
        frame.surface = Surface::Host(surface);
        (frame.sample_aspect_ratio, frame.color, frame.field_order) = (sample_aspect_ratio, color, field_order);
        let to = stream.info.time_base;
        if !is_exact {
            frame.pts = pts.map_or(frame.pts, |pts| Pts(base.rescale(pts, to)));
            frame.duration = None;
        } else if frame.time_base != to {
            frame.pts = Pts(frame.time_base.rescale(frame.pts.0, to));
            frame.duration = frame.duration.map(|duration| frame.time_base.rescale(duration, to));
        }
        frame.time_base = to;
        stream.keeps_numbers &= is_exact && frame.index >= stream.next_index;
        if !stream.keeps_numbers {
            frame.index = stream.next_index;
        }
        stream.next_index = frame.index + 1;
        if detections == Detections::Drop {
            item.detections.clear();
        }
        out.push(item.into())?;
    }
    Ok(())
}

/// The input frame of a result, and whether its time is unchanged. `None` if no input frame is known.
fn described(stream: &mut Stream, filtered: &Filtered, base: TimeBase) -> (Option<FrameItem>, bool) {
    let by_tag = filtered.tag.and_then(|tag| stream.known.iter().position(|known| known.tag == tag));
    let place = by_tag.or_else(|| stream.known.len().checked_sub(1));
    let Some(known) = place.and_then(|place| stream.known.get_mut(place)) else { return (None, false) };
    known.given += 1;
    let own = known.item.frame.time_base.rescale(known.item.frame.pts.0, base);
    let is_exact = known.given == 1 && filtered.pts.is_none_or(|pts| pts == own);
    let item = known.item.clone();
    let tag = known.tag;
    // Their pixels have left the filters, so they no longer count as memory of the run.
    stream.known.iter_mut().filter(|known| known.tag <= tag).for_each(|known| known.item.lease = None);
    (Some(item), is_exact)
}
