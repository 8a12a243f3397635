//! Zones and lines as users define them.

use std::{collections::BTreeSet, sync::Arc};

use framerail_core::{BBox, Point};

use super::{
    geometry::{Place, area, crossing_edges, place},
    watcher::ZoneWatcher,
};
use crate::VisionError;

/// The point of a box that counts as the object's position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Anchor {
    /// The middle of the bottom edge: where people stand and cars touch the road.
    #[default]
    Bottom,
    /// The centre.
    Center,
    /// Any corner: inside a zone once the first corner is in; across a line once the last corner is over.
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

/// The unit of coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// Fractions of the frame's width and height, 0 to 1.
    #[default]
    Normalized,
    /// Frame pixels.
    Pixels,
}

/// When a shape is active, in seconds from the start of the stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TimeSpan {
    /// Start, inclusive; `None` for the start of the stream.
    pub start_secs: Option<f64>,
    /// End, exclusive; `None` for no end.
    pub end_secs: Option<f64>,
}

impl TimeSpan {
    /// Frame times are rounded to ticks, so a time this close before a boundary counts as the boundary.
    const TOLERANCE_SECS: f64 = 1e-4;

    /// Whether a time lies in the span.
    pub fn holds(&self, secs: f64) -> bool {
        let secs = secs + Self::TOLERANCE_SECS;
        self.start_secs.is_none_or(|start| secs >= start) && self.end_secs.is_none_or(|end| secs < end)
    }

    /// Checks the span.
    ///
    /// # Errors
    /// When it ends before it starts, or a boundary is not a valid time.
    pub fn check(&self) -> Result<(), String> {
        let is_time = |secs: Option<f64>| secs.is_none_or(|secs| secs.is_finite() && secs >= 0.0);
        match (self.start_secs, self.end_secs) {
            (start, end) if !is_time(start) || !is_time(end) => Err("its times must be 0 seconds or more".into()),
            (Some(start), Some(end)) if end <= start => Err(format!("its time range ends before it starts ({start} to {end} seconds)")),
            _ => Ok(()),
        }
    }
}

/// Settings shared by zones and lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShapeSpec {
    /// Name, unique among all zones and lines.
    pub name: String,
    /// The unit of the points.
    pub units: Units,
    /// The point of a box that counts. `None` leaves it to the caller; [`ZoneWatcher`] uses [`Anchor::Bottom`].
    pub anchor: Option<Anchor>,
    /// Names of the classes that count; empty means all.
    pub classes: Vec<String>,
    /// Names of the streams to which the shape applies; empty means all.
    pub streams: Vec<String>,
    /// How far beyond an edge or line a box must be to have left or crossed it, as a fraction of its height. Smaller jitter is
    /// ignored.
    pub margin: f32,
    /// When the shape is active.
    pub during: TimeSpan,
}

/// A zone: an area of the frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneSpec {
    /// Name, anchor and filters.
    pub shape: ShapeSpec,
    /// Corners in order; the last is joined with the first.
    pub points: Vec<Point>,
}

/// A line whose crossings are counted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineSpec {
    /// Name, anchor and filters.
    pub shape: ShapeSpec,
    /// Start of the line.
    pub from: Point,
    /// End of the line.
    pub to: Point,
}

/// All zones and lines of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneMap {
    /// Zones.
    pub zones: Vec<ZoneSpec>,
    /// Lines.
    pub lines: Vec<LineSpec>,
}

fn wrong(what: &str, name: &str, problem: impl std::fmt::Display) -> VisionError {
    VisionError::Zone(format!("{what} `{name}` {problem}"))
}

impl ZoneMap {
    /// The shared settings of all zones and lines.
    pub fn shapes(&self) -> impl Iterator<Item = &ShapeSpec> {
        self.zones.iter().map(|zone| &zone.shape).chain(self.lines.iter().map(|line| &line.shape))
    }

    /// Checks the map as far as it does not depend on the frame size. [`ZoneMap::watcher`] checks points in pixels.
    ///
    /// # Errors
    /// `Zone`, in one line, for the first problem found: no zones or lines, a missing or duplicate name, an invalid time span or margin,
    /// fewer than three corners, crossing edges, points outside the frame, a line without length.
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
                return Err(wrong("shape", &shape.name, format_args!("has the margin {}; it must be from 0 to 10", shape.margin)));
            }
        }
        self.zones.iter().try_for_each(check_zone)?;
        self.lines.iter().try_for_each(check_line)
    }

    /// Creates a watcher for the stream of this name, whose frames have this size in pixels.
    ///
    /// # Errors
    /// `Zone` for points in pixels that lie outside the frame, and for the problems that [`ZoneMap::check`] finds.
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
        Units::Normalized => "outside of the frame; parts of width and height go from 0 to 1 (or give units = \"pixels\")",
        Units::Pixels => "outside of the frame; pixels are counted from 0 at the top left",
    };
    Err(wrong(what, &shape.name, format_args!("has point {} at [{}, {}], {rule}", number + 1, point.x, point.y)))
}

fn first_outside(points: &[Point], width: f32, height: f32) -> Option<(usize, &Point)> {
    points.iter().enumerate().find(|(_, point)| !(0.0..=width).contains(&point.x) || !(0.0..=height).contains(&point.y))
}

/// Converts points to pixels.
fn placed(what: &str, shape: &ShapeSpec, points: &[Point], width: u32, height: u32) -> Result<Arc<[Point]>, VisionError> {
    let (width, height) = (width as f32, height as f32);
    match shape.units {
        Units::Normalized => Ok(points.iter().map(|point| Point { x: point.x * width, y: point.y * height }).collect()),
        Units::Pixels => match first_outside(points, width, height) {
            None => Ok(points.into()),
            Some((number, point)) => {
                let problem =
                    format_args!("has point {} at [{}, {}], outside of the frame of {width}x{height} pixels", number + 1, point.x, point.y);
                Err(wrong(what, &shape.name, problem))
            }
        },
    }
}
