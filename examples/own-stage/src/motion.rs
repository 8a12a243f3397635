//! The stage and its plan.

use std::collections::HashMap;

use framerail_core::{HostSurface, PixelFamily, PixelFormat, StreamId};
use framerail_pipeline::{
    Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, LinkMismatch, Options, PlanError, Stage, StageContext,
    StageError, StagePlan, Work,
};

/// Step in pixels and rows between compared samples.
const STEP: usize = 4;

/// How much of a frame moves: attached to each frame that the stage passes on.
///
/// Later stages and callbacks read it with `item.attachments.get::<Motion>()`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Motion {
    /// Share of the frame that changed since the previous one, 0 to 1; 0 for a stream's first frame.
    pub share: f64,
}

/// The configured stage before the run.
pub(crate) struct MotionPlan {
    least: f64,
    change: u8,
    keeps_still: bool,
}

impl MotionPlan {
    // Types, ranges and defaults were checked by the specification: values are valid here.
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            least: options.float("least"),
            change: u8::try_from(options.integer("change")).unwrap_or(u8::MAX),
            keeps_still: options.choice("keep") == "all",
        }
    }
}

impl StagePlan for MotionPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let needs = || PlanError::Link(LinkMismatch { needs: "8-bit frames with luma on cpu".into(), hint: "leave it out".into() });
        let input = input.ok_or_else(needs)?;
        // With several streams the format may be unknown before the first frame.
        if input.pixel_format.is_some_and(|format| !has_luma(format)) {
            return Err(needs());
        }
        Ok(Some(input.clone()))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        // One worker: it compares with the frame before, so it must see all of them in order.
        Ok(Work::Stages(vec![Box::new(MotionStage { plan: *self, before: HashMap::new(), still: None })]))
    }
}

/// The running stage.
struct MotionStage {
    plan: MotionPlan,
    /// The latest brightness of each stream: frames of several streams are interleaved.
    before: HashMap<StreamId, Vec<u8>>,
    still: Option<Counter>,
}

impl Stage for MotionStage {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.still = Some(context.counter("frames_still"));
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let surface = item.frame.surface.host().map_err(|error| StageError::new(ErrorKind::Internal, error))?;
        if !has_luma(surface.format()) {
            let message = format!("frame {} is {}; movement takes 8-bit frames with luma", item.frame.index, surface.format());
            return Err(StageError::new(ErrorKind::Input, message));
        }
        let now = brightness(surface);
        let before = self.before.get(&item.frame.stream);
        let share = before.map(|before| changed(before, &now, self.plan.change));
        self.before.insert(item.frame.stream, now);
        let is_kept = self.plan.keeps_still || share.is_none_or(|share| share >= self.plan.least);
        item.attachments.insert(Motion { share: share.unwrap_or(0.0) });
        if is_kept {
            out.push(item.into())?;
        } else if let Some(still) = &self.still {
            still.add(1);
        }
        Ok(Flow::More)
    }

    // Starts and ends of streams and audio packets are passed on. State is released at the end of its stream.
    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        if let Item::StreamEnd(end) = &item {
            self.before.remove(&end.id);
        }
        out.push(item)?;
        Ok(Flow::More)
    }
}

/// Whether the first plane holds 8-bit luma and nothing else.
fn has_luma(format: PixelFormat) -> bool {
    format.bits() == 8 && matches!(format.family(), PixelFamily::Gray | PixelFamily::Yuv)
}

fn brightness(surface: &HostSurface) -> Vec<u8> {
    let rows = (0..surface.height() as usize).step_by(STEP);
    rows.flat_map(|row| surface.row(0, row).iter().copied().take(surface.width() as usize).step_by(STEP)).collect()
}

/// Share of the samples that differ by as much as `change`; all of them where the size changed.
fn changed(before: &[u8], now: &[u8], change: u8) -> f64 {
    if before.len() != now.len() || now.is_empty() {
        return 1.0;
    }
    let count = before.iter().zip(now).filter(|(before, now)| before.abs_diff(**now) >= change).count();
    count as f64 / now.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_what_is_above_the_noise() {
        assert_eq!(changed(&[10, 10, 10, 10], &[10, 15, 22, 200], 12), 0.5);
        assert_eq!(changed(&[10, 10], &[10, 10, 10], 12), 1.0);
        assert_eq!(changed(&[], &[], 12), 1.0);
    }
}
