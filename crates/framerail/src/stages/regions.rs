//! The `regions` stage: the next model looks at fixed areas of the frame.

use std::{path::Path, sync::Arc};

use framerail_core::{BBox, Point};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, Counter, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, OptionKind, OptionSpec,
    Options, PartFormat, PlanError, Registry, RegistryError, Stage, StageContext, StageError, StagePlan, StageSpec, Work,
};
use framerail_vision::{
    MatchMetric, MergeOptions, MergeRule,
    zones::{Anchor, Outline, Units, ZoneSpec},
};

use super::{link::input_of, zones::read_zones};
use crate::parts::{FrameParts, Part, PartOf};

/// More regions than anyone draws.
const MAX_REGIONS: usize = 1000;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |options| RegionsPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>))
}

fn spec() -> StageSpec {
    StageSpec::transform("regions", "makes the next model run on fixed areas of the frame")
        .details(
            "Areas are given as x,y,w,h in frame pixels or in percent of the frame's sides (25%,0,50%,100%), separated by semicolons, each \
             optionally with a name and a colon before it (gate:0,0,320,240); or as a zones file: the model sees the boxes around the \
             polygons.\n\nThe following `infer` runs on each area. A detector adds detections to the frame; if areas overlap, the better \
             of two detections of one class that overlap by half or more is kept. A classifier or an embedding makes each area a detection \
             with the area's name and its results. Detections outside a zone's polygon, by the zone's anchor, are removed and counted by \
             the model's stage (detections_outside). No pixels are copied.",
        )
        .argument(ArgumentSpec::required(
            "areas",
            OptionKind::Text,
            "x,y,w,h in pixels or percent, separated by semicolons; or a zones file",
        ))
        .option(OptionSpec::float("iou", 0.0..=1.0).default(0.5).help(
            "IoU at which the weaker of two detections of overlapping areas is \
                                                                   suppressed",
        ))
        .example("read in.mp4 ! regions 25%,0,50%,100% ! infer centerface ! draw ! write out.mp4", "faces in the middle half")
        .example("read yard.mp4 ! regions yard.toml ! infer weather.toml ! save states.jsonl", "classify each zone")
}

/// An area before frames are known.
#[derive(Clone, Debug, PartialEq)]
struct Area {
    name: Arc<str>,
    bounds: Bounds,
    /// Names of the streams that it is for; empty for all.
    streams: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Bounds {
    /// Left, top, width, height.
    Rectangle([Length; 4]),
    /// Of a zone.
    Polygon(Units, Vec<Point>, Anchor),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Length {
    Pixels(f32),
    /// 0 to 1.
    Share(f32),
}

impl Length {
    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.trim().parse::<f32>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        match text.trim().strip_suffix('%') {
            Some(percent) => number(percent).filter(|percent| *percent <= 100.0).map(|percent| Self::Share(percent / 100.0)),
            None => number(text).map(Self::Pixels),
        }
    }

    fn of(self, side: u32) -> f32 {
        match self {
            Self::Pixels(pixels) => pixels,
            Self::Share(share) => share * side as f32,
        }
    }
}

impl Area {
    /// The areas that a text names; numbered from 1 where they have no name.
    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        let parse = |(index, text): (usize, &str)| {
            let (name, numbers) = text.split_once(':').unwrap_or(("", text));
            let lengths: Option<Vec<Length>> = numbers.split(',').map(Length::parse).collect();
            let lengths = lengths.and_then(|lengths| <[Length; 4]>::try_from(lengths).ok());
            let bounds = lengths.ok_or_else(|| format!("`{}` is not an area: write x,y,w,h in pixels or percent", text.trim()))?;
            let name = if name.trim().is_empty() { format!("region-{}", index + 1) } else { name.trim().to_owned() };
            Ok(Self { name: name.into(), bounds: Bounds::Rectangle(bounds), streams: Vec::new() })
        };
        text.split(';').filter(|text| !text.trim().is_empty()).enumerate().map(parse).collect()
    }

    fn of_zone(zone: &ZoneSpec) -> Self {
        let shape = &zone.shape;
        let bounds = Bounds::Polygon(shape.units, zone.points.clone(), shape.anchor);
        Self { name: shape.name.as_str().into(), bounds, streams: shape.streams.clone() }
    }

    /// In frame pixels, within the frame; `None` when nothing of it is there.
    fn in_frame(&self, width: u32, height: u32) -> Option<BBox> {
        let bbox = match &self.bounds {
            Bounds::Rectangle([x, y, w, h]) => {
                let (x, y) = (x.of(width), y.of(height));
                BBox::from_xyxy(x, y, x + w.of(width), y + h.of(height))
            }
            Bounds::Polygon(units, points, _) => around(&placed(*units, points, width, height)),
        };
        let bbox = bbox.clamped(width, height);
        (bbox.width() >= 1.0 && bbox.height() >= 1.0).then_some(bbox)
    }

    /// What of it counts in frames of a size; `None` for all.
    fn outline(&self, width: u32, height: u32) -> Option<Arc<Outline>> {
        match &self.bounds {
            Bounds::Rectangle(_) => None,
            Bounds::Polygon(units, points, anchor) => Some(Arc::new(Outline::new(&placed(*units, points, width, height), *anchor))),
        }
    }
}

/// Points in frame pixels.
fn placed(units: Units, points: &[Point], width: u32, height: u32) -> Vec<Point> {
    let (across, down) = match units {
        Units::Pixels => (1.0, 1.0),
        Units::Normalized => (width as f32, height as f32),
    };
    points.iter().map(|point| Point { x: point.x * across, y: point.y * down }).collect()
}

fn around(points: &[Point]) -> BBox {
    let start = BBox::from_xyxy(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY);
    let grow =
        |bbox: BBox, point: &Point| BBox::from_xyxy(bbox.x1.min(point.x), bbox.y1.min(point.y), bbox.x2.max(point.x), bbox.y2.max(point.y));
    points.iter().fold(start, grow)
}

struct RegionsPlan {
    given: String,
    areas: Vec<Area>,
    merge: MergeOptions,
}

impl RegionsPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let given = options.text("areas").to_owned();
        let areas = if is_file(&given) { Vec::new() } else { Area::parse_all(&given).map_err(|error| ConfigError::at("areas", error))? };
        let threshold = options.float("iou") as f32;
        let merge = MergeOptions { rule: MergeRule::Suppress, metric: MatchMetric::Iou, threshold, by_class: true };
        Ok(Self { given, areas, merge })
    }

    fn usage(&self, problem: impl std::fmt::Display) -> StageError {
        StageError::new(ErrorKind::Usage, format!("regions `{}`: {problem}", self.given))
    }

    fn read(&mut self) -> Result<(), StageError> {
        if is_file(&self.given) {
            let map = read_zones(Path::new(&self.given))?;
            map.check().map_err(|error| self.usage(error))?;
            self.areas = map.zones.iter().map(Area::of_zone).collect();
        }
        match self.areas.len() {
            0 => Err(self.usage("there are no areas; write x,y,w,h, or a [[zone]] in the file")),
            1..=MAX_REGIONS => Ok(()),
            many => Err(self.usage(format_args!("{many} are too many; at most {MAX_REGIONS}"))),
        }
    }

    fn check_size(&self, width: u32, height: u32) -> Result<(), StageError> {
        let outside = self.areas.iter().find(|area| area.streams.is_empty() && area.in_frame(width, height).is_none());
        outside.map_or(Ok(()), |area| Err(self.usage(format_args!("`{}` lies outside of frames of {width}x{height}", area.name))))
    }
}

/// Areas have commas, and files an ending.
fn is_file(given: &str) -> bool {
    Path::new(given).extension().is_some_and(|ending| ending == "toml")
}

impl StagePlan for RegionsPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        self.read()?;
        if let Some((width, height)) = input.size {
            self.check_size(width, height)?;
        }
        let names = self.areas.iter().map(|area| area.name.to_string()).collect();
        Ok(Some(EdgeFormat { parts: Some(PartFormat::Regions { names }), ..input.clone() }))
    }

    /// The model behind it looks at the frame's pixels, so the source must keep them.
    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::new(Regions { plan: *self, names: Vec::new(), counters: None })]))
    }
}

struct Counters {
    parts: Counter,
    outside: Counter,
}

struct Regions {
    plan: RegionsPlan,
    /// Streams by their numbers, where some areas are for certain streams.
    names: Vec<(framerail_core::StreamId, String)>,
    counters: Option<Counters>,
}

impl Stage for Regions {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters { parts: context.counter("parts"), outside: context.counter("parts_outside_frame") });
        Ok(())
    }

    fn frame(&mut self, mut item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let stream = self.names.iter().find(|(id, _)| *id == item.frame.stream).map(|(_, name)| name.as_str());
        let is_for = |area: &Area| area.streams.is_empty() || area.streams.iter().any(|name| Some(name.as_str()) == stream);
        let (mut parts, mut outside) = (Vec::new(), 0);
        for (number, area) in self.plan.areas.iter().enumerate().filter(|(_, area)| is_for(area)) {
            let (width, height) = (item.frame.width, item.frame.height);
            match area.in_frame(width, height) {
                Some(bbox) => {
                    let part = Part::new(bbox, PartOf::Region(number as u32, Arc::clone(&area.name)));
                    parts.push(Part { outline: area.outline(width, height), ..part });
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
            Item::StreamStart(info) if self.plan.areas.iter().any(|area| !area.streams.is_empty()) => {
                self.names.push((info.id, info.name.clone()));
            }
            Item::StreamEnd(end) => self.names.retain(|(id, _)| *id != end.id),
            _ => {}
        }
        out.push(item)?;
        Ok(Flow::More)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_pixels_or_percent() {
        let areas = Area::parse_all("gate: 10,20,30,40; 25%,0,50%,100% ;").expect("well formed");
        assert_eq!(areas.iter().map(|area| &*area.name).collect::<Vec<_>>(), ["gate", "region-2"]);
        assert_eq!(areas[0].in_frame(640, 480), Some(BBox::from_xyxy(10.0, 20.0, 40.0, 60.0)));
        assert_eq!(areas[1].in_frame(640, 480), Some(BBox::from_xyxy(160.0, 0.0, 480.0, 480.0)));
        assert_eq!(areas[0].in_frame(10, 480), None);
        for wrong in ["1,2,3", "a,b,c,d", "-1,0,5,5", "0,0,120%,5", "0,0,inf,5", "x:"] {
            assert!(Area::parse_all(wrong).expect_err("no area").contains("write x,y,w,h"), "{wrong}");
        }
    }
}
