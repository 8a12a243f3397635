//! The `hold` stage: fills in detections that the model misses for a few frames.

pub(super) mod cuts;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use framerail_core::{Device, Histogram, StreamId};
use framerail_cuda::Traffic;
use framerail_pipeline::{
    BatchPolicy, ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionSpec, Options, PlanError, Registry,
    RegistryError, Setting, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{HoldBuffer, HoldInput, HoldOptions, HoldStats, SceneDetector};

use self::cuts::{CountsUnderWay, GpuHistograms, cut_setting};
use super::link::{detections_of, input_of};
use crate::{convert::cuda_error, devices::account};

/// The threshold at which no change counts as a cut.
const NEVER: f64 = 1.0;

/// Frames on a GPU that are counted together.
const FRAMES_TOGETHER: usize = 4;

/// Calls whose counts may be in flight from a GPU while the next one is processed.
const CALLS_UNDER_WAY: usize = 1;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| HoldPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("hold", "fills in detections that the model misses for a few frames").other_names(["interpolate", "fill"])
        .details(
            "Links detections over time and fills in the frames where they are missing: between two sightings by interpolation, before the \
             first and after the last by holding the box. Frames are delayed by as much. Filled-in boxes are counted. Frames on a \
             GPU are checked for cuts there. If the decoder makes a model's input directly, there are no pixels to check; such frames pass \
             and are counted. cut can be changed during the run.\n\n\
             A sighting reaches a time, which is counted in frames of each stream's rate. A weak one, alone within that reach and with a \
             score below weak=, reaches a quarter of it: a detector's false finds are often seen once with a low score.\n\n\
             With start=, the model before it can run with a lower confidence: where it loses a face it often still sees it with a low score, \
             and the box is then known rather than carried on.\n\nWith follow=, an object that turns away is searched in the following frames \
             by its appearance, near where it was last: as long as it changes slowly from frame to frame, stays in the frame and is not covered \
             by something else, and at most for this time. It must have been detected in five frames, in one of them with a score of 0.3.",
        )
        .option(OptionSpec::time("time").default("350ms").help("how far a sighting reaches, forwards and backwards; at most 1000 frames"))
        .option(OptionSpec::integer("frames", 0..=1000).unit("frames").help("the same as a number of frames, in place of time"))
        .option(
            OptionSpec::float("start", 0.0..=1.0)
                .default(0)
                .help("score from which a detection counts; those below only continue what is followed, the others are dropped"),
        )
        .option(
            OptionSpec::float("weak", 0.0..=1.0)
                .default(0.3)
                .help("score below which a sighting without another within its reach is carried a quarter as far; 0 = never"),
        )
        .option(
            OptionSpec::time("follow")
                .default("0s")
                .help("how long an object that is no longer detected is followed by its appearance; 0s = not at all; frames on the CPU only"),
        )
        .option(
            OptionSpec::float("cut", 0.0..=1.0)
                .default(0.5)
                .help("change of the brightness histogram that counts as a cut, across which nothing is interpolated; 1 = never"),
        )
        .option(OptionSpec::switch("across_cuts").default("yes").help("whether boxes are held across a cut; a flash looks like a cut"))
        .example("read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4", "a face that is lost for a third of a second stays covered")
        .example("read in.mp4 ! infer centerface confidence=0.12 ! hold start=0.2 ! blur ! write out.mp4", "low scores continue faces")
        .example("read in.mp4 ! infer centerface every=3 ! hold frames=12 ! save boxes.jsonl", "boxes on every frame from every third")
}

/// Assumed frames per second if a stream states none.
const USUAL_RATE: f64 = 25.0;
/// Maximum number of frames that a detection reaches.
const MAX_FRAMES: f64 = 1000.0;
/// Share of the reach for weak detections.
const WEAK_SHARE: u32 = 4;

/// How far detections reach.
#[derive(Clone, Copy)]
enum Reach {
    Frames(u32),
    Secs(f64),
}

impl Reach {
    /// The options for a stream of this frame rate.
    fn options(self, options: HoldOptions, follow_secs: f64, rate: Option<f64>) -> HoldOptions {
        let rate = rate.filter(|rate| (0.1..=1000.0).contains(rate)).unwrap_or(USUAL_RATE);
        let hold_frames = match self {
            Reach::Frames(frames) => frames,
            // Rounded up slightly, for rates such as 30000/1001; at least one frame.
            Reach::Secs(secs) if secs > 0.0 => (secs * rate + 0.01).clamp(1.0, MAX_FRAMES) as u32,
            Reach::Secs(_) => 0,
        };
        let weak_frames = hold_frames.div_ceil(WEAK_SHARE);
        let follow_frames = (follow_secs * rate).round().min(f64::from(u32::MAX)) as u32;
        HoldOptions { hold_frames, weak_frames, follow_frames, frame_secs: (1.0 / rate) as f32, ..options }
    }
}

struct HoldPlan {
    reach: Reach,
    follow_secs: f64,
    options: HoldOptions,
    cut: f64,
    /// The device of the frames; known after linking.
    device: Device,
}

impl HoldPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let reach = match options.optional_integer("frames") {
            Some(_) if options.is_given("time") => {
                return Err(ConfigError::at("frames", "time and frames are both given").help("leave one out"));
            }
            Some(frames) => Reach::Frames(u32::try_from(frames).unwrap_or(u32::MAX)),
            None => Reach::Secs(options.time("time").as_secs_f64()),
        };
        let hold = HoldOptions {
            start_score: options.float("start") as f32,
            weak_score: options.float("weak") as f32,
            hold_across_cuts: options.switch("across_cuts"),
            ..HoldOptions::default()
        };
        let follow_secs = options.time("follow").as_secs_f64();
        Ok(Self { reach, follow_secs, options: hold, cut: options.float("cut"), device: Device::Cpu })
    }
}

impl StagePlan for HoldPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let detections = detections_of(input)?;
        self.options.max_unanalysed_frames = detections.max_unanalysed_frames;
        self.options.keep_identities = detections.has_identities;
        self.device = input.device;
        let mut output = input.clone();
        if let Some(detections) = &mut output.detections {
            detections.max_unanalysed_frames = 0;
            detections.has_identities = true;
        }
        Ok(Some(output))
    }

    fn batch(&self) -> BatchPolicy {
        match self.device {
            Device::Cpu => BatchPolicy::default(),
            _ => BatchPolicy { max_frames: FRAMES_TOGETHER, max_wait: Some(Duration::ZERO) },
        }
    }

    /// Uses pixels if there are any, but does not request them: model inputs made by the decoder save more.
    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Hold::new(self.reach, self.follow_secs, self.options, self.cut))]))
    }
}

struct Stream {
    buffer: HoldBuffer<FrameItem>,
    scenes: SceneDetector,
}

struct Counters {
    filled: Counter,
    gaps: Counter,
    interpolated: Counter,
    held: Counter,
    weak: Counter,
    followed: Counter,
    continued: Counter,
    dropped: Counter,
    unseen: Counter,
    context: StageContext,
}

/// The items of one call, and the counts of those with pixels on a GPU.
struct UnderWay {
    items: Vec<Item>,
    counts: Vec<CountsUnderWay>,
    /// The threshold when they arrived.
    cut: f64,
}

struct Hold {
    reach: Reach,
    follow_secs: f64,
    options: HoldOptions,
    /// Frame rates of streams that state one.
    rates: BTreeMap<StreamId, f64>,
    cut: f64,
    cut_setting: Option<Setting>,
    streams: BTreeMap<StreamId, Stream>,
    /// For frames on a GPU.
    gpu: GpuHistograms,
    under_way: VecDeque<UnderWay>,
    /// Totals of ended streams.
    ended: HoldStats,
    /// Frames without pixels, which could not be checked for cuts.
    frames_unseen: u64,
    /// Whether a notice said that frames on a GPU are not followed.
    is_follow_noticed: bool,
    counters: Option<Counters>,
}

impl Stage for Hold {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.cut_setting = Some(cut_setting(context, self.cut));
        self.counters = Some(Counters {
            filled: context.counter("frames_filled"),
            gaps: context.counter("gaps_filled"),
            interpolated: context.counter("boxes_interpolated"),
            held: context.counter("boxes_held"),
            weak: context.counter("sightings_weak"),
            followed: context.counter("boxes_followed"),
            continued: context.counter("detections_continuing"),
            dropped: context.counter("detections_below_start"),
            unseen: context.counter("frames_not_checked_for_cuts"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.cut = self.cut_setting.as_mut().and_then(Setting::take_change).unwrap_or(self.cut);
        let counts = if self.cut < NEVER { self.gpu.queue(&items).map_err(cuda_error)? } else { Vec::new() };
        self.under_way.push_back(UnderWay { items, counts, cut: self.cut });
        let is_ready = |calls: &VecDeque<UnderWay>| calls.front().is_some_and(|call| call.counts.is_empty());
        while is_ready(&self.under_way) || self.under_way.len() > CALLS_UNDER_WAY {
            self.idle(out)?;
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(call) = self.under_way.pop_front() else { return Ok(Flow::More) };
        let mut histograms = BTreeMap::new();
        for counts in call.counts {
            histograms.extend(counts.wait().map_err(cuda_error)?);
        }
        self.account();
        for (place, item) in call.items.into_iter().enumerate() {
            match item {
                Item::Frame(item) => self.hold(*item, histograms.get(&place), call.cut, out)?,
                Item::StreamEnd(end) => {
                    self.end_stream(end.id, out)?;
                    out.push(Item::StreamEnd(end))?;
                }
                Item::StreamStart(info) => {
                    self.rates.extend(info.frame_rate.map(|rate| (info.id, rate.as_f64())));
                    out.push(Item::StreamStart(info))?;
                }
                other => out.push(other)?,
            }
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while self.has_work_under_way() {
            self.idle(out)?;
        }
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.end_stream(id, out))
    }
}

impl Hold {
    fn new(reach: Reach, follow_secs: f64, options: HoldOptions, cut: f64) -> Self {
        Self {
            reach,
            follow_secs,
            options,
            rates: BTreeMap::new(),
            cut,
            cut_setting: None,
            streams: BTreeMap::new(),
            gpu: GpuHistograms::default(),
            under_way: VecDeque::new(),
            ended: HoldStats::default(),
            frames_unseen: 0,
            is_follow_noticed: false,
            counters: None,
        }
    }

    /// Accepts a frame, counted if it is on a GPU, and returns the frames that are settled.
    fn hold(&mut self, mut item: FrameItem, histogram: Option<&Histogram>, cut: f64, out: &mut dyn Emitter) -> Result<(), StageError> {
        let options = self.reach.options(self.options, self.follow_secs, self.rates.get(&item.frame.stream).copied());
        let stream = self
            .streams
            .entry(item.frame.stream)
            .or_insert_with(|| Stream { buffer: HoldBuffer::new(options), scenes: SceneDetector::new(cut as f32) });
        stream.scenes.set_threshold(cut as f32);
        let scene_changed = match (item.frame.surface.host(), histogram) {
            (Ok(surface), _) => stream.scenes.changed(surface),
            (Err(_), Some(histogram)) => stream.scenes.histogram_changed(histogram),
            (Err(_), None) => {
                self.frames_unseen += u64::from(cut < NEVER);
                false
            }
        };
        let input = HoldInput { detections: std::mem::take(&mut item.detections), analysed: item.analysed, scene_changed };
        // A surface is a handle: the clone shares the pixels.
        let surface = item.frame.surface.host().ok().filter(|_| options.follow_frames > 0).cloned();
        if surface.is_none() && options.follow_frames > 0 && !self.is_follow_noticed {
            self.is_follow_noticed = true;
            if let Some(counters) = &self.counters {
                counters.context.notice("follow= needs frames on the CPU: nothing is followed; put `download` before `hold`");
            }
        }
        let settled = stream.buffer.push_on(surface.as_ref(), item, input);
        give(settled, out)?;
        self.count();
        Ok(())
    }

    fn end_stream(&mut self, id: StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        self.rates.remove(&id);
        if let Some(mut stream) = self.streams.remove(&id) {
            give(stream.buffer.finish(), out)?;
            self.ended = sum(self.ended, stream.buffer.stats());
            self.count();
        }
        Ok(())
    }

    /// Adds copies and waits to the statistics.
    fn account(&self) {
        let (Some(counters), Some((device, bytes))) = (&self.counters, self.gpu.memory()) else { return };
        account(&counters.context, Traffic::take());
        counters.context.memory(device, bytes);
    }

    fn count(&self) {
        let Some(counters) = &self.counters else { return };
        let stats = self.streams.values().map(|stream| stream.buffer.stats()).fold(self.ended, sum);
        counters.filled.set(stats.frames_filled);
        counters.gaps.set(stats.gaps_filled);
        counters.interpolated.set(stats.interpolated);
        counters.held.set(stats.held);
        counters.weak.set(stats.weak);
        counters.followed.set(stats.followed);
        counters.continued.set(stats.continued);
        counters.dropped.set(stats.dropped);
        if self.frames_unseen > 0 && counters.unseen.value() == 0 {
            let words = "frames become the model's input while they are decoded, so shot changes cannot be detected and boxes may be \
                         interpolated across one";
            counters.context.notice(format_args!("{words}; put `download` before `hold` where that matters, or give cut=1"));
        }
        counters.unseen.set(self.frames_unseen);
    }
}

fn give(settled: Vec<(FrameItem, Vec<framerail_core::Detection>)>, out: &mut dyn Emitter) -> Result<(), StageError> {
    for (mut item, detections) in settled {
        item.detections = detections;
        out.push(item.into())?;
    }
    Ok(())
}

fn sum(a: HoldStats, b: HoldStats) -> HoldStats {
    HoldStats {
        frames: a.frames + b.frames,
        frames_unanalysed: a.frames_unanalysed + b.frames_unanalysed,
        frames_filled: a.frames_filled + b.frames_filled,
        gaps_filled: a.gaps_filled + b.gaps_filled,
        interpolated: a.interpolated + b.interpolated,
        held: a.held + b.held,
        weak: a.weak + b.weak,
        followed: a.followed + b.followed,
        continued: a.continued + b.continued,
        dropped: a.dropped + b.dropped,
    }
}
