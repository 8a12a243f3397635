//! The `regions` stage: makes the next model run on fixed areas of the frame.

use std::sync::Arc;

use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec, Options,
    PartFormat, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{MatchMetric, MergeOptions, MergeRule, zones::Anchor};

use super::{
    areas::{self, AreaStreams, Areas},
    link::input_of,
};
use crate::parts::{FrameParts, Part, PartOf};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| RegionsPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("regions", "makes the next model run on fixed areas of the frame")
        .details(
            "Areas are boxes, x,y,w,h, or polygons, x1,y1,x2,y2,x3,y3,..., in frame pixels or in percent of the frame's sides \
             (25%,0,50%,100%), separated by semicolons, each optionally with a name and a colon before it (gate:0,0,320,240); or zones \
             files: the model sees the boxes around the polygons.\n\nThe following `infer` runs on each area. A detector adds detections to the frame; if areas overlap, the better \
             of two detections of one class that overlap by half or more is kept. A classifier or an embedding makes each area a detection \
             with the area's name and its results. Detections outside a zone's polygon, by the zone's anchor, are removed and counted by \
             the model's stage (detections_outside). No pixels are copied.",
        )
        .argument(ArgumentSpec::required("areas", OptionKind::Text, areas::SYNTAX))
        .option(OptionSpec::float("iou", 0.0..=1.0).default(0.5).help(
            "IoU at which the weaker of two detections of overlapping areas is \
                                                                   suppressed",
        ))
        .example("read in.mp4 ! regions 25%,0,50%,100% ! infer centerface ! draw ! write out.mp4", "faces in the middle half")
        .example("read yard.mp4 ! regions yard.toml ! infer weather.toml ! save states.jsonl", "classify each zone")
}

struct RegionsPlan {
    areas: Areas,
    merge: MergeOptions,
}

impl RegionsPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let areas = Areas::parse(options.text("areas")).map_err(|error| ConfigError::at("areas", error))?;
        let threshold = options.float("iou") as f32;
        let merge = MergeOptions { rule: MergeRule::Suppress, metric: MatchMetric::Iou, threshold, by_class: true };
        Ok(Self { areas, merge })
    }
}

impl StagePlan for RegionsPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        self.areas.load(input.size, &context.files)?;
        let names = self.areas.list.iter().map(|area| area.name.to_string()).collect();
        Ok(Some(EdgeFormat { parts: Some(PartFormat::Regions { names }), ..input.clone() }))
    }

    /// The next model reads the frame's pixels, so the source must keep them.
    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Regions { plan: *self, streams: AreaStreams::default(), counters: None })]))
    }
}

struct Counters {
    parts: Counter,
    outside: Counter,
}

struct Regions {
    plan: RegionsPlan,
    streams: AreaStreams,
    counters: Option<Counters>,
}

impl Stage for Regions {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters { parts: context.counter("parts"), outside: context.counter("parts_outside_frame") });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let (mut parts, mut outside) = (Vec::new(), 0);
        let areas = self.plan.areas.list.iter().enumerate();
        for (number, area) in areas.filter(|(_, area)| self.streams.is_for(area, &item.frame)) {
            let (width, height) = (item.frame.width, item.frame.height);
            match area.in_frame(width, height) {
                Some(bbox) => {
                    let part = Part::new(bbox, PartOf::Region(number as u32, Arc::clone(&area.name)));
                    let outline = (!area.is_box()).then(|| Arc::new(area.outline(width, height, Anchor::Bottom)));
                    parts.push(Part { outline, ..part });
                }
                None => outside += 1,
            }
        }
        if let Some(counters) = &self.counters {
            counters.parts.add(parts.len() as u64);
            counters.outside.add(outside);
        }
        let merge = (parts.len() > 1).then_some(self.plan.merge);
        item.attachments.insert(FrameParts { parts, kept: Vec::new(), merge });
        out.push(item.into())?;
        Ok(Flow::More)
    }

    fn control(&mut self, item: Item, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match &item {
            Item::StreamStart(info) => self.streams.begin(info),
            Item::StreamEnd(end) => self.streams.end(end.id),
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }
}
