//! The `null` stage: discards frames, at full speed or in real time.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use framerail_core::{CancelToken, Frame, Pts, StreamId};
use framerail_pipeline::{
    Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionSpec, PlanError, Registry, RegistryError, Stage, StageContext,
    StageError, StagePlan, StageSpec, Work,
};

use super::link::input_of;

/// Minimum lateness that counts; less is the system's scheduling.
const LATE_AFTER: Duration = Duration::from_millis(10);

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(NullPlan { sync: options.switch("sync") })))
}

fn spec() -> StageSpec {
    StageSpec::sink("null", "discards frames, for measuring")
        .other_names(["fakesink", "discard"])
        .details(
            "With sync=true each stream runs in real time, as in a player: a frame is released at its time, counted from the stream's \
             first frame. Frames that arrive more than 10 ms after their time are counted as frames_late, with the mean and maximum \
             lateness in late_mean_ms and late_max_ms; none is dropped.",
        )
        .option(OptionSpec::switch("sync").default("no").help("whether to run in real time"))
        .example("read in.mp4 ! null", "how fast a file decodes")
        .example("read in.mp4 ! infer centerface ! null sync=true", "whether detection keeps up with the clip")
}

struct NullPlan {
    sync: bool,
}

impl StagePlan for NullPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        input_of(input)?;
        Ok(None)
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![if self.sync { Box::new(Paced::default()) } else { Box::new(Null) }]))
    }
}

struct Null;

impl Stage for Null {
    fn frame(&mut self, _: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        Ok(Flow::More)
    }

    fn control(&mut self, _: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        Ok(Flow::More)
    }
}

/// When a stream started to play, and at which timestamp.
struct StreamClock {
    started: Instant,
    first: Pts,
    last: Pts,
}

struct Counters {
    late: Counter,
    mean_ms: Counter,
    max_ms: Counter,
}

#[derive(Default)]
struct Paced {
    clocks: HashMap<StreamId, StreamClock>,
    /// Cancelled when the run is stopped or torn down.
    stop: CancelToken,
    late: u64,
    late_sum: Duration,
    late_max: Duration,
    counters: Option<Counters>,
}

impl Stage for Paced {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.stop = context.stop_token();
        self.counters = Some(Counters {
            late: context.counter("frames_late"),
            mean_ms: context.counter("late_mean_ms"),
            max_ms: context.counter("late_max_ms"),
        });
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let due = self.due(&item.frame);
        let now = Instant::now();
        if now > due + LATE_AFTER {
            self.count_late(now - due);
        } else {
            self.sleep_until(due);
        }
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Item::StreamEnd(end) = item {
            self.clocks.remove(&end.id);
        }
        Ok(Flow::More)
    }
}

impl Paced {
    fn due(&mut self, frame: &Frame) -> Instant {
        let fresh = || StreamClock { started: Instant::now(), first: frame.pts, last: frame.pts };
        let clock = self.clocks.entry(frame.stream).or_insert_with(fresh);
        if frame.pts < clock.last {
            // Time has jumped back: the stream restarts.
            *clock = fresh();
        }
        clock.last = frame.pts;
        let secs = frame.time_base.seconds(frame.pts.0.saturating_sub(clock.first.0));
        let offset = Duration::try_from_secs_f64(secs).unwrap_or(Duration::ZERO);
        clock.started.checked_add(offset).unwrap_or(clock.started)
    }

    fn sleep_until(&self, due: Instant) {
        self.stop.wait_for(due.saturating_duration_since(Instant::now()));
    }

    fn count_late(&mut self, lateness: Duration) {
        self.late += 1;
        self.late_sum += lateness;
        self.late_max = self.late_max.max(lateness);
        let Some(counters) = &self.counters else { return };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        counters.late.set(self.late);
        counters.mean_ms.set(millis(self.late_sum) / self.late);
        counters.max_ms.set(millis(self.late_max));
    }
}
