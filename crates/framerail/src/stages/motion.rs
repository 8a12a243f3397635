//! The `motion` stage: passes frames with motion to a model.

use std::collections::BTreeMap;

use framerail_core::StreamId;
use framerail_pipeline::{
    Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionSpec, Options, PlanError, Registry, RegistryError, Setting,
    SettingSpec, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::MotionDetector;

use super::link::host_frames;
use crate::convert::core_error;

const ROUNDING_SECS: f64 = 1e-6;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(MotionPlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("motion", "passes frames with motion, and holds the others back")
        .details(
            "Compares the brightness of blocks of 8x8 pixels with a background that follows slowly. A frame passes when at least area= \
             of it differs by more than change=, and for hold= after that. A frame that becomes brighter or darker as a whole, as when a \
             camera adapts its exposure, does not count. Objects that stay in place become background within about 60 frames. The first \
             frame of a \
             stream passes.\n\n\
             Frames that are held back are counted by stream and not passed on: use it on a branch of `tee` where a file is to have all \
             frames. Works in host memory.",
        )
        .option(OptionSpec::float("area", 0.0..=100.0).default(0.5).unit("percent").help("minimum share of the frame that moves"))
        .option(OptionSpec::float("change", 0.5..=255.0).default(8).help("minimum change of brightness that counts, of 255"))
        .option(OptionSpec::time("hold").default("1s").help("time for which frames pass after the last motion"))
        .option(OptionSpec::time("every").help("pass a frame at least this often, whether anything moves or not; default: never"))
        .example("read rtsp://host/cam ! motion ! infer centerface ! save faces.jsonl", "run the model only when something moves")
        .example(
            "read in.mp4 ! tee ( write copy.mp4 ) ( motion area=2 hold=3s ! infer centerface ! save faces.jsonl )",
            "the whole file, and detections where there is motion",
        )
}

struct MotionPlan {
    area: f64,
    change: f64,
    hold: f64,
    every: Option<f64>,
}

impl MotionPlan {
    fn new(options: &Options) -> Self {
        Self {
            area: options.float("area"),
            change: options.float("change"),
            hold: options.time("hold").as_secs_f64(),
            every: options.optional_time("every").map(|time| time.as_secs_f64()),
        }
    }
}

impl StagePlan for MotionPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        Ok(Some(host_frames(input)?.clone()))
    }

    fn changes_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Motion { plan: *self, streams: BTreeMap::new(), settings: None, counters: None })]))
    }
}

#[derive(Default)]
struct Watched {
    detector: MotionDetector,
    moved_at: Option<f64>,
    passed_at: Option<f64>,
}

struct Motion {
    plan: MotionPlan,
    streams: BTreeMap<StreamId, Watched>,
    /// Area and change, which can be changed during the run.
    settings: Option<[Setting; 2]>,
    /// Frames passed and frames held back.
    counters: Option<[Counter; 2]>,
}

impl Stage for Motion {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        let area = SettingSpec::new("area", 0.0..=100.0).unit("percent").help("minimum share of the frame that moves");
        let change = SettingSpec::new("change", 0.5..=255.0).help("minimum change of brightness that counts, of 255");
        self.settings = Some([context.setting(area, self.plan.area), context.setting(change, self.plan.change)]);
        self.counters = Some([context.counter("frames_passed"), context.counter("frames_held_back")]);
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Some([area, change]) = &self.settings {
            (self.plan.area, self.plan.change) = (area.value(), change.value());
        }
        let (surface, secs) = (item.frame.surface.host().map_err(core_error)?, item.frame.seconds());
        let watched = self.streams.entry(item.frame.stream).or_default();
        let moves = watched.detector.share(surface, self.plan.change as f32).is_none_or(|share| {
            // Without any difference there is no motion, even with area=0.
            share > 0.0 && f64::from(share) * 100.0 >= self.plan.area
        });
        if moves {
            watched.moved_at = Some(secs);
        }
        let since = |at: Option<f64>| at.map_or(f64::INFINITY, |at| secs - at);
        // Differences of times are inexact.
        let passes = since(watched.moved_at) <= self.plan.hold + ROUNDING_SECS
            || self.plan.every.is_some_and(|every| since(watched.passed_at) >= every - ROUNDING_SECS);
        if let Some([passed, held]) = &self.counters {
            if passes { passed.add(1) } else { held.add(1) }
        }
        if passes {
            watched.passed_at = Some(secs);
            out.push(item.into())?;
        }
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Item::StreamEnd(end) = &item {
            self.streams.remove(&end.id);
        }
        out.push(item)?;
        Ok(Flow::More)
    }
}
