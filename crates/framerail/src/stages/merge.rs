//! The `merge` stage: merges the detections of several detectors.

use std::sync::Arc;

use framerail_core::Label;
use framerail_pipeline::{
    Counter, EdgeFormat, Emitter, Flow, FrameItem, LinkContext, OptionSpec, Options, PlanError, Registry, RegistryError, Stage,
    StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{MatchMetric, MergeOptions, MergeRule, merge};

use super::link::{detections_of, input_of};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| Ok(Box::new(MergePlan::new(options)) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("merge", "merges what several detectors found").other_names(["nms", "fuse", "ensemble"])
        .details(
            "Detectors one after another add their detections to the frame, with separate class numbers. This stage gives classes of one \
             name one number and keeps, of detections that overlap, the one with the highest score.\n\nWith the same model at two sizes, or \
             on a mirrored frame, it finds what one run misses.",
        )
        .option(OptionSpec::float("iou", 0.01..=1.0).default(0.35).help("overlap at which two detections are the same"))
        .option(OptionSpec::switch("by_class").default("yes").help("whether only detections of one class are merged"))
        .example(
            "read in.mp4 ! infer centerface ! flip horizontal ! infer centerface ! flip horizontal ! merge ! hold ! blur ! write out.mp4",
            "faces as found in the frame and in its mirror image",
        )
}

struct MergePlan {
    options: MergeOptions,
    /// Names of the classes by their new numbers.
    labels: Vec<Arc<str>>,
}

impl MergePlan {
    fn new(options: &Options) -> Self {
        let (threshold, by_class) = (options.float("iou") as f32, options.switch("by_class"));
        Self { options: MergeOptions { rule: MergeRule::Suppress, metric: MatchMetric::Iou, threshold, by_class }, labels: Vec::new() }
    }
}

impl StagePlan for MergePlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        self.labels.clear();
        for label in &detections_of(input)?.labels {
            if !self.labels.iter().any(|known| **known == **label) {
                self.labels.push(label.as_str().into());
            }
        }
        let mut output = input.clone();
        if let Some(detections) = &mut output.detections {
            detections.labels = self.labels.iter().map(|label| label.to_string()).collect();
        }
        Ok(Some(output))
    }

    fn reads_pixels(&self) -> bool {
        false
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Merge { plan: *self, merged: None })]))
    }
}

struct Merge {
    plan: MergePlan,
    merged: Option<Counter>,
}

impl Stage for Merge {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.merged = Some(context.counter("detections_merged"));
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        for found in &mut item.detections {
            if let Some((id, name)) = (0..).zip(&self.plan.labels).find(|(_, name)| **name == found.label.name) {
                found.label = Label { id, name: Arc::clone(name) };
            }
        }
        let merged = merge(&mut item.detections, &self.plan.options);
        if let Some(counter) = &self.merged {
            counter.add(merged as u64);
        }
        out.push(item.into())?;
        Ok(Flow::More)
    }
}
