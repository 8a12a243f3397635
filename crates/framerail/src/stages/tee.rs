//! The `tee` stage: passes every item to several branches.

use framerail_pipeline::{
    EdgeFormat, Emitter, Flow, FrameItem, LinkContext, PlanError, Registry, RegistryError, Stage, StageError, StagePlan, StageSpec, Work,
};

use super::link::input_of;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |_| Ok(Box::new(TeePlan)))
}

fn spec() -> StageSpec {
    StageSpec::transform("tee", "passes every item to several branches")
        .details(
            "Each branch is a pipeline in parentheses; the stages after `tee`, if any, are a further branch. Branches share frames without \
             a copy; a stage that changes pixels copies a frame only while another branch still uses it. The slowest branch sets the pace; \
             `queue=` on its first stage lets the others run ahead.",
        )
        .branches()
        .example("read in.mp4 ! infer centerface ! tee ( save boxes.jsonl ) ( draw ! write boxes.mp4 )", "boxes as text and as video")
        .example("read in.mp4 ! tee ( frames stills every=100 ) ! infer centerface ! blur ! write out.mp4", "stills on the side")
}

struct TeePlan;

impl StagePlan for TeePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        Ok(Some(input_of(input)?.clone()))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Tee)]))
    }
}

/// The engine passes a stage's output to every following stage.
struct Tee;

impl Stage for Tee {
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        out.push(item.into())?;
        Ok(Flow::More)
    }
}
