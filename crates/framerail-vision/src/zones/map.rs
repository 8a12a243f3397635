//! Zones and lines as a user writes them down.

use std::{collections::BTreeSet, sync::Arc};

use framerail_core::{BBox, Point};

use super::{
    geometry::{Place, area, crossing_edges, place},
    watcher::ZoneWatcher,
};
use crate::VisionError;

/// Which point of a box is where the thing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The middle of the lower edge: where people stand and cars touch the road.
    #[default]
    Bottom,
    /// The middle.
    Center,
    /// Any corner: inside a zone with the first corner in; across a line with the last corner over.
    Corners,
}

impl Anchor {
    /// The points of a box that count.
    pub(super) fn places(self, bbox: &BBox) -> Vec<Place> {
        let (left, top, right, bottom) = (f64::from(bbox.x1), f64::from(bbox.y1), f64::from(bbox.x2), f64::from(bbox.y2));
        let middle = (left + right) / 2.0;
        match self {
            Anchor::Bottom => vec![(middle, bottom)],
            Anchor::Center => vec![(middle, (top + bottom) / 2.0)],
            Anchor::Corners => vec![(left, top), (right, top), (right, bottom), (left, bottom)],
        }
    }
}

/// What coordinates are measured in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Parts of the picture's width and height, 0 to 1.
    #[default]
    Normalized,
    /// Pixels of the frame.
    Pixels,
}

/// When a shape holds, in seconds from where its stream begins.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeSpan {
    /// Its first instant; `None` for the beginning.
    pub start_secs: Option<f64>,
    /// Its end, which is not part of it; `None` for no end.
    pub end_secs: Option<f64>,
}

impl TimeSpan {
    /// Frames' times are rounded to ticks: so near to an end is at it.
    const TOLERANCE_SECS: f64 = 1e-4;

    /// Whether an instant lies in it.
    pub fn holds(&self, secs: f64) -> bool {
        let secs = secs + Self::TOLERANCE_SECS;
        self.start_secs.is_none_or(|start| secs >= start) && self.end_secs.is_none_or(|end| secs < end)
    }

    /// # Errors
    /// When it ends before it starts, or one of its ends is not a time.
    pub fn check(&self) -> Result<(), String> {
        let is_time = |secs: Option<f64>| secs.is_none_or(|secs| secs.is_finite() && secs >= 0.0);
        match (self.start_secs, self.end_secs) {
            (start, end) if !is_time(start) || !is_time(end) => Err("its times must be 0 seconds or more".into()),
            (Some(start), Some(end)) if end <= start => Err(format!("its time range ends before it starts ({start} to {end} seconds)")),
            _ => Ok(()),
        }
    }
}

/// What zones and lines have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShapeSpec {
    /// Unlike that of any other zone or line.
    pub name: String,
    /// Of its points.
    pub units: Units,
    /// Which point of a box counts; `None` leaves it to who asks, [`Anchor::Bottom`] where zones are watched.
    pub anchor: Option<Anchor>,
    /// Names of the classes that count; all when empty.
    pub classes: Vec<String>,
    /// Names of the streams that have it; all when empty.
    pub streams: Vec<String>,
    /// How far beyond an edge or line a box must be to have left or crossed it, as a part of its height. What jitters by less is
    /// still where it was.
    pub margin: f32,
    /// When it holds.
    pub during: TimeSpan,
}

/// An area.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneSpec {
    /// Name, anchor and filters.
    pub shape: ShapeSpec,
    /// Its corners, in order; the last is joined with the first.
    pub points: Vec<Point>,
}

/// A line to be crossed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineSpec {
    /// Name, anchor and filters.
    pub shape: ShapeSpec,
    /// Where it begins.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
}

/// All zones and lines of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneMap {
    /// Areas.
    pub zones: Vec<ZoneSpec>,
    /// Lines.
    pub lines: Vec<LineSpec>,
}

fn wrong(what: &str, name: &str, problem: impl std::fmt::Display) -> VisionError {
    VisionError::Zone(format!("{what} `{name}` {problem}"))
}

impl ZoneMap {
    /// Names, filters and margins of everything.
    pub fn shapes(&self) -> impl Iterator<Item = &ShapeSpec> {
        self.zones.iter().map(|zone| &zone.shape).chain(self.lines.iter().map(|line| &line.shape))
    }

    /// Looks for what can never work, whatever the picture's size: pixels are left to [`ZoneMap::watcher`].
    ///
    /// # Errors
    /// `Zone`, one line, for the first problem found: no name or the same name twice, fewer than three corners, edges that cross,
    /// points outside of the picture, a line without length.
    pub fn check(&self) -> Result<(), VisionError> {
        if self.zones.is_empty() && self.lines.is_empty() {
            return Err(VisionError::Zone("there is no zone or line; add at least one [[zone]] or [[line]]".into()));
        }
        let mut names = BTreeSet::new();
        for shape in self.shapes() {
            if shape.name.trim().is_empty() {
                return Err(VisionError::Zone("a zone or line has no name; give each a unique name".into()));
            }
            if !names.insert(&shape.name) {
                return Err(VisionError::Zone(format!("the name `{}` is used twice; give each zone and line a unique name", shape.name)));
            }
            shape.during.check().map_err(|problem| wrong("shape", &shape.name, format_args!("cannot be used: {problem}")))?;
            if !(0.0..=10.0).contains(&shape.margin) {
                return Err(wrong("shape", &shape.name, format_args!("has the margin {}; it goes from 0 to 10", shape.margin)));
            }
        }
        self.zones.iter().try_for_each(check_zone)?;
        self.lines.iter().try_for_each(check_line)
    }

    /// Follows a stream of this name, whose frames have this size in pixels.
    ///
    /// # Errors
    /// `Zone` for points given in pixels that lie outside of the picture, and for what [`ZoneMap::check`] finds.
    pub fn watcher(&self, stream: &str, width: u32, height: u32) -> Result<ZoneWatcher, VisionError> {
        self.check()?;
        let is_here = |shape: &ShapeSpec| shape.streams.is_empty() || shape.streams.iter().any(|name| name == stream);
        let mut watcher = ZoneWatcher::default();
        for zone in self.zones.iter().filter(|zone| is_here(&zone.shape)) {
            watcher.add_zone(zone.shape.clone(), placed("zone", &zone.shape, &zone.points, width, height)?);
        }
        for line in self.lines.iter().filter(|line| is_here(&line.shape)) {
            if let [from, to] = *placed("line", &line.shape, &[line.from, line.to], width, height)? {
                watcher.add_line(line.shape.clone(), from, to);
            }
        }
        Ok(watcher)
    }
}

fn check_zone(zone: &ZoneSpec) -> Result<(), VisionError> {
    let name = &zone.shape.name;
    check_points("zone", &zone.shape, &zone.points)?;
    if zone.points.len() < 3 {
        return Err(wrong("zone", name, format_args!("has {} points; an area needs three or more", zone.points.len())));
    }
    let corners: Vec<Place> = zone.points.iter().copied().map(place).collect();
    if let Some((first, second)) = crossing_edges(&corners) {
        let problem = format_args!(
            "crosses itself: its side from point {} meets that from point {}; give the corners in order around the area",
            first + 1,
            second + 1
        );
        return Err(wrong("zone", name, problem));
    }
    if area(&corners) <= 0.0 {
        return Err(wrong("zone", name, "has no area; its corners lie on one line"));
    }
    Ok(())
}

fn check_line(line: &LineSpec) -> Result<(), VisionError> {
    check_points("line", &line.shape, &[line.from, line.to])?;
    if line.from == line.to {
        return Err(wrong("line", &line.shape.name, "starts where it ends; give it a length"));
    }
    Ok(())
}

fn check_points(what: &str, shape: &ShapeSpec, points: &[Point]) -> Result<(), VisionError> {
    let (width, height) = match shape.units {
        Units::Normalized => (1.0, 1.0),
        Units::Pixels => (f32::MAX, f32::MAX),
    };
    let Some((number, point)) = first_outside(points, width, height) else { return Ok(()) };
    let rule = match shape.units {
        Units::Normalized => "outside of the picture; parts of width and height go from 0 to 1 (or give units = \"pixels\")",
        Units::Pixels => "outside of the picture; pixels are counted from 0 at the top left",
    };
    Err(wrong(what, &shape.name, format_args!("has point {} at [{}, {}], {rule}", number + 1, point.x, point.y)))
}

fn first_outside(points: &[Point], width: f32, height: f32) -> Option<(usize, &Point)> {
    points.iter().enumerate().find(|(_, point)| !(0.0..=width).contains(&point.x) || !(0.0..=height).contains(&point.y))
}

/// Points in pixels.
fn placed(what: &str, shape: &ShapeSpec, points: &[Point], width: u32, height: u32) -> Result<Arc<[Point]>, VisionError> {
    let (width, height) = (width as f32, height as f32);
    match shape.units {
        Units::Normalized => Ok(points.iter().map(|point| Point { x: point.x * width, y: point.y * height }).collect()),
        Units::Pixels => match first_outside(points, width, height) {
            None => Ok(points.into()),
            Some((number, point)) => {
                let problem = format_args!(
                    "has point {} at [{}, {}], outside of the picture of {width}x{height} pixels",
                    number + 1,
                    point.x,
                    point.y
                );
                Err(wrong(what, &shape.name, problem))
            }
        },
    }
}
