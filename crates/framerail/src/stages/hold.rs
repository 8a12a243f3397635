//! The `hold` stage: what a detector loses for a few frames stays known.

use std::collections::BTreeMap;

use framerail_core::StreamId;
use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionSpec, Options, PlanError, Registry, RegistryError,
    Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{HoldBuffer, HoldInput, HoldOptions, HoldStats, SceneDetector};

use super::link::{detections_of, input_of};

/// The threshold at which no change counts as a cut.
const NEVER: f64 = 1.0;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| HoldPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("hold", "keeps what the model loses for a few frames")
        .details(
            "Links detections over time and fills in the frames on which they are missing: between two sightings by interpolation, \
             before the first and after the last by holding the box. Frames come out late by as many frames. What was filled in is counted. \
             Frames on a card pass without a look for cuts; they are counted too.",
        )
        .option(OptionSpec::integer("frames", 0..=1000).default(8).unit("frames").help("how far a sighting reaches, forwards and backwards"))
        .option(
            OptionSpec::float("cut", 0.0..=1.0)
                .default(0.5)
                .help("change of the brightness histogram that counts as a cut, across which nothing is interpolated; 1 is never"),
        )
        .option(OptionSpec::switch("across_cuts").default("yes").help("whether a box is held on beyond a cut; a flash looks like a cut"))
        .example("read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4", "a face that is lost for up to 8 frames stays covered")
        .example("read in.mp4 ! infer centerface every=3 ! hold frames=12 ! save boxes.jsonl", "boxes on every frame from every third")
}

struct HoldPlan {
    options: HoldOptions,
    cut: f64,
}

impl HoldPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let hold = HoldOptions {
            hold_frames: u32::try_from(options.count("frames")).unwrap_or(u32::MAX),
            max_unanalysed_frames: 0,
            hold_across_cuts: options.switch("across_cuts"),
        };
        Ok(Self { options: hold, cut: options.float("cut") })
    }
}

impl StagePlan for HoldPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let detections = detections_of(input)?;
        self.options.max_unanalysed_frames = detections.max_unanalysed_frames;
        let mut output = input.clone();
        if let Some(detections) = &mut output.detections {
            detections.max_unanalysed_frames = 0;
        }
        Ok(Some(output))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let (options, cut) = (self.options, self.cut);
        Ok(Work::Stages(vec![Box::new(Hold {
            options,
            cut,
            streams: BTreeMap::new(),
            ended: HoldStats::default(),
            frames_unseen: 0,
            counters: None,
        })]))
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
    unseen: Counter,
    context: StageContext,
}

struct Hold {
    options: HoldOptions,
    cut: f64,
    streams: BTreeMap<StreamId, Stream>,
    /// What streams that have ended filled in.
    ended: HoldStats,
    /// Frames on a card, whose pixels are not looked at for cuts.
    frames_unseen: u64,
    counters: Option<Counters>,
}

impl Stage for Hold {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            filled: context.counter("frames_filled"),
            gaps: context.counter("gaps_filled"),
            interpolated: context.counter("boxes_interpolated"),
            held: context.counter("boxes_held"),
            unseen: context.counter("frames_not_checked_for_cuts"),
            context: context.clone(),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let (options, cut) = (self.options, self.cut);
        let stream = self
            .streams
            .entry(item.frame.stream)
            .or_insert_with(|| Stream { buffer: HoldBuffer::new(options), scenes: SceneDetector::new(cut as f32) });
        let scene_changed = match item.frame.surface.host() {
            Ok(surface) => stream.scenes.changed(surface),
            Err(_) => {
                self.frames_unseen += u64::from(cut < NEVER);
                false
            }
        };
        let input = HoldInput { detections: std::mem::take(&mut item.detections), analysed: item.analysed, scene_changed };
        let settled = stream.buffer.push(item, input);
        give(settled, out)?;
        self.count();
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Item::StreamEnd(end) = &item {
            self.end_stream(end.id, out)?;
        }
        out.push(item)?;
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        let open: Vec<StreamId> = self.streams.keys().copied().collect();
        open.into_iter().try_for_each(|id| self.end_stream(id, out))
    }
}

impl Hold {
    fn end_stream(&mut self, id: StreamId, out: &mut dyn Emitter) -> Result<(), StageError> {
        if let Some(mut stream) = self.streams.remove(&id) {
            give(stream.buffer.finish(), out)?;
            self.ended = sum(self.ended, stream.buffer.stats());
            self.count();
        }
        Ok(())
    }

    fn count(&self) {
        let Some(counters) = &self.counters else { return };
        let stats = self.streams.values().map(|stream| stream.buffer.stats()).fold(self.ended, sum);
        counters.filled.set(stats.frames_filled);
        counters.gaps.set(stats.gaps_filled);
        counters.interpolated.set(stats.interpolated);
        counters.held.set(stats.held);
        if self.frames_unseen > 0 && counters.unseen.value() == 0 {
            let words = "frames on a card are not looked at for cuts, so boxes may be interpolated across one";
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
    }
}
