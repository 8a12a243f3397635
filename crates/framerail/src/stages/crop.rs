//! The `crop` stage: makes the next model run on the parts around detections.

use std::collections::HashMap;

use framerail_core::{BBox, Detection, StreamId};
use framerail_pipeline::{
    ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, LinkMismatch, OptionSpec, Options,
    PartFormat, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};

use super::{
    face_square::face_square,
    link::{detections_of, input_of},
};
use crate::parts::{FrameParts, Part, PartOf};

/// Frames after which an unseen track is forgotten.
const FORGET_AFTER: u64 = 1000;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| CropPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("crop", "makes the next model run on the parts around detections")
        .details(
            "The following `infer` runs on each detection instead of the whole frame, batched over frames and streams. Its results become \
             attributes of the detection; those of a detector become its parts. No pixels are copied: parts are cut out while the model's \
             input is made.\n\nAfter `track`, with every=N, the model runs on a track in every Nth frame; in between, the last results are \
             kept and move with its box. New tracks are processed immediately. Predicted boxes are processed like others.",
        )
        .option(OptionSpec::text("labels").help("classes to process, separated by commas; default: all"))
        .option(OptionSpec::float("min_score", 0.0..=1.0).default(0).help("minimum score"))
        .option(OptionSpec::integer("min_size", 0..=32_768).default(0).unit("pixels").help("minimum width and height, before the margin"))
        .option(OptionSpec::float("margin", 0.0..=4.0).default(0).help("share of the box's size that is added on each side"))
        .option(OptionSpec::switch("square").default("no").help("extend the shorter side to the longer one"))
        .option(
            OptionSpec::choice(
                "around",
                &[
                    ("box", "the box, with margin= and square="),
                    (
                        "landmarks",
                        "the square that face recognition models expect around eyes, nose and mouth; a square around the box for detections \
                         without these five landmarks",
                    ),
                ],
            )
            .default("box")
            .help("what a part surrounds"),
        )
        .option(
            OptionSpec::integer("max", 1..=10_000)
                .default("all")
                .or_word("all", "no limit")
                .unit("parts")
                .help("maximum number of parts per frame; those with the highest scores"),
        )
        .option(OptionSpec::integer("every", 1..=1000).default(1).unit("frames").help("interval of model runs for a track"))
        .example(
            "read in.mp4 ! infer person.toml ! crop margin=0.1 ! infer centerface size=320x320 ! save faces.jsonl",
            "faces of persons, also where they are small in the frame",
        )
        .example(
            "read in.mp4 ! infer car.toml ! track ! crop labels=car every=10 min_size=40 ! infer color.toml ! save cars.jsonl",
            "the colour of each car, updated in every tenth frame",
        )
}

#[derive(Clone)]
struct CropPlan {
    labels: Option<Vec<String>>,
    min_score: f32,
    min_size: f32,
    margin: f32,
    square: bool,
    /// Whether parts surround the landmarks of faces.
    around_landmarks: bool,
    max: Option<usize>,
    every: u64,
}

impl CropPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let around_landmarks = options.choice("around") == "landmarks";
        if let Some(option) = ["margin", "square"].into_iter().find(|option| around_landmarks && options.is_given(option)) {
            return Err(ConfigError::at(option, format_args!("around=landmarks takes no {option}")).help("leave one of them out"));
        }
        Ok(Self {
            labels: options.optional_text("labels").map(|list| list.split(',').map(|label| label.trim().to_owned()).collect()),
            min_score: options.float("min_score") as f32,
            min_size: options.integer("min_size") as f32,
            margin: options.float("margin") as f32,
            square: options.switch("square"),
            around_landmarks,
            max: options.optional_integer("max").and_then(|max| usize::try_from(max).ok()),
            every: options.count("every") as u64,
        })
    }

    fn is_wanted(&self, found: &Detection) -> bool {
        found.score >= self.min_score && self.labels.as_ref().is_none_or(|labels| labels.iter().any(|label| **label == *found.label.name))
    }

    /// The part around a detection.
    fn area(&self, found: &Detection, width: u32, height: u32) -> Option<BBox> {
        if self.around_landmarks { clipped(face_square(found), width, height) } else { self.area_of_box(&found.bbox, width, height) }
    }

    /// The part around a box.
    fn area_of_box(&self, bbox: &BBox, width: u32, height: u32) -> Option<BBox> {
        let mut sides = (bbox.width() * (1.0 + 2.0 * self.margin), bbox.height() * (1.0 + 2.0 * self.margin));
        if self.square {
            sides = (sides.0.max(sides.1), sides.0.max(sides.1));
        }
        let center = bbox.center();
        let area = BBox::from_cxcywh(center.x, center.y, sides.0, sides.1);
        let visible = clipped(area, width, height)?;
        if self.square { clipped(shifted_inside(area, width as f32, height as f32), width, height) } else { Some(visible) }
    }
}

/// An area within the frame; `None` if nothing is left.
fn clipped(area: BBox, width: u32, height: u32) -> Option<BBox> {
    if !area.is_finite() || area.x2 <= 0.0 || area.y2 <= 0.0 || area.x1 >= width as f32 || area.y1 >= height as f32 {
        return None;
    }
    let area = area.clamped(width, height);
    (area.width() >= 1.0 && area.height() >= 1.0).then_some(area)
}

/// A box that fits is moved into the frame, so that it keeps its aspect ratio at the edges.
fn shifted_inside(area: BBox, width: f32, height: f32) -> BBox {
    let shift = |from: f32, to: f32, side: f32| if to - from > side { 0.0 } else { (-from).max(0.0) + (side - to).min(0.0) };
    let (across, down) = (shift(area.x1, area.x2, width), shift(area.y1, area.y2, height));
    BBox::from_xyxy(area.x1 + across, area.y1 + down, area.x2 + across, area.y2 + down)
}

impl StagePlan for CropPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let found = detections_of(input)?;
        let is_known = |label: &&String| found.labels.is_empty() || found.labels.contains(label);
        if let Some(stray) = self.labels.iter().flatten().find(|label| !is_known(label)) {
            let error = ConfigError::at("labels", format_args!("the model has no class `{stray}`; it has {}", found.labels.join(", ")));
            return Err(StageError::new(ErrorKind::Usage, error).into());
        }
        if self.every > 1 && !found.has_identities {
            let (needs, hint) = ("detections with identities, for every=N".into(), "put `track` before it".into());
            return Err(PlanError::Link(LinkMismatch { needs, hint }));
        }
        let every = u32::try_from(self.every).unwrap_or(u32::MAX);
        Ok(Some(EdgeFormat { parts: Some(PartFormat::Detections { every }), ..input.clone() }))
    }

    /// The next model reads the frame's pixels, so the source must keep them.
    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Crop { plan: *self, streams: HashMap::new(), counters: None })]))
    }
}

struct Counters {
    parts: Counter,
    too_small: Counter,
    beyond_max: Counter,
    kept: Counter,
}

/// Of a track: the frames of its last model run and its last appearance.
struct LastRun {
    last: u64,
    seen: u64,
}

#[derive(Default)]
struct Stream {
    /// Number of frames so far.
    frames: u64,
    tracks: HashMap<u64, LastRun>,
}

struct Crop {
    plan: CropPlan,
    /// Only used with every=N.
    streams: HashMap<StreamId, Stream>,
    counters: Option<Counters>,
}

impl Stage for Crop {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters {
            parts: context.counter("parts"),
            too_small: context.counter("parts_too_small"),
            beyond_max: context.counter("parts_beyond_max"),
            kept: context.counter("parts_kept"),
        });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let parts = self.parts(&item);
        item.attachments.insert(parts);
        out.push(item.into())?;
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

impl Crop {
    fn parts(&mut self, item: &FrameItem) -> FrameParts {
        let (mut chosen, mut too_small) = (Vec::new(), 0);
        for (index, found) in item.detections.iter().enumerate().filter(|(_, found)| self.plan.is_wanted(found)) {
            let is_large = found.bbox.width() >= self.plan.min_size && found.bbox.height() >= self.plan.min_size;
            match self.plan.area(found, item.frame.width, item.frame.height).filter(|_| is_large) {
                Some(area) => chosen.push((index, area)),
                None => too_small += 1,
            }
        }
        let score = |index: usize| item.detections.get(index).map_or(0.0, |found| found.score);
        chosen.sort_by(|(a, _), (b, _)| score(*b).total_cmp(&score(*a)));
        let (due, mut kept) = self.due(chosen, item);
        let beyond = due.len().saturating_sub(self.plan.max.unwrap_or(usize::MAX));
        let mut due = due;
        // Skipped detections are due again in the next frame.
        kept.extend(due.drain(due.len() - beyond..).map(|(index, _)| index));
        self.remember(&due, item);
        if let Some(counters) = &self.counters {
            counters.parts.add(due.len() as u64);
            counters.too_small.add(too_small);
            counters.beyond_max.add(beyond as u64);
            counters.kept.add((kept.len() - beyond) as u64);
        }
        if self.plan.every == 1 {
            kept.clear();
        }
        let parts = due.into_iter().map(|(index, area)| Part::new(area, PartOf::Detection(index)));
        FrameParts { parts: parts.collect(), kept, merge: None }
    }

    /// Parts for the model in this frame, and the detections that are not yet due.
    fn due(&mut self, chosen: Vec<(usize, BBox)>, item: &FrameItem) -> (Vec<(usize, BBox)>, Vec<usize>) {
        if self.plan.every == 1 {
            return (chosen, Vec::new());
        }
        let stream = self.streams.entry(item.frame.stream).or_default();
        stream.frames += 1;
        let is_due = |index: usize| {
            let track = item.detections.get(index).and_then(|found| found.track_id);
            let last_run = track.and_then(|track| stream.tracks.get(&track));
            last_run.is_none_or(|run| stream.frames - run.last >= self.plan.every)
        };
        let (due, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|(index, _)| is_due(*index));
        (due, kept.into_iter().map(|(index, _)| index).collect())
    }

    /// Records which tracks the model ran on, and forgets those that are gone.
    fn remember(&mut self, due: &[(usize, BBox)], item: &FrameItem) {
        let Some(stream) = self.streams.get_mut(&item.frame.stream) else { return };
        let (now, every) = (stream.frames, self.plan.every);
        let track_of = |index: usize| item.detections.get(index).and_then(|found| found.track_id);
        for track in due.iter().filter_map(|(index, _)| track_of(*index)) {
            // Tracks that appeared together take turns, so that they are not all due in one frame.
            let turn = if stream.tracks.contains_key(&track) { 0 } else { track % every };
            stream.tracks.insert(track, LastRun { last: now.saturating_sub(turn), seen: now });
        }
        for track in item.detections.iter().filter_map(|found| found.track_id) {
            if let Some(run) = stream.tracks.get_mut(&track) {
                run.seen = now;
            }
        }
        stream.tracks.retain(|_, run| now - run.seen < FORGET_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(margin: f32, square: bool) -> CropPlan {
        CropPlan { labels: None, min_score: 0.0, min_size: 0.0, margin, square, around_landmarks: false, max: None, every: 1 }
    }

    #[test]
    fn parts_stay_in_the_frame_and_squares_stay_square() {
        let bbox = BBox::from_xyxy(10.0, 20.0, 30.0, 60.0);
        let area = |plan: CropPlan, bbox: &BBox| plan.area_of_box(bbox, 100, 80);
        assert_eq!(area(plan(0.0, false), &bbox), Some(bbox));
        assert_eq!(area(plan(0.5, false), &bbox), Some(BBox::from_xyxy(0.0, 0.0, 40.0, 80.0)));
        assert_eq!(area(plan(0.0, true), &bbox), Some(BBox::from_xyxy(0.0, 20.0, 40.0, 60.0)));
        let corner = BBox::from_xyxy(90.0, 70.0, 120.0, 78.0);
        assert_eq!(area(plan(0.0, true), &corner), Some(BBox::from_xyxy(70.0, 50.0, 100.0, 80.0)));
        assert_eq!(area(plan(0.0, true), &BBox::from_xyxy(0.0, 10.0, 100.0, 20.0)), Some(BBox::from_xyxy(0.0, 0.0, 100.0, 65.0)));
        for gone in [(120.0, 0.0, 130.0, 10.0), (0.0, -20.0, 10.0, 0.0), (5.0, 5.0, 5.2, 9.0), (f32::NAN, 0.0, 5.0, 5.0)] {
            assert_eq!(area(plan(0.0, false), &BBox::from_xyxy(gone.0, gone.1, gone.2, gone.3)), None);
        }
    }
}
