//! Fixed areas of frames for `regions` and `blur`: from the pipeline's text or a zones file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{BBox, Frame, Point, RunFiles, StreamId, StreamInfo};
use framerail_pipeline::{ErrorKind, StageError, parse_time};
use framerail_vision::zones::{Anchor, Outline, ShapeSpec, TimeSpan, Units, ZoneMap, ZoneSpec};

use super::{link::note_reads, zones::read_zones};

/// Maximum number of areas in an option.
const MAX_AREAS: usize = 1000;

/// Syntax of areas, for the help of options.
pub(super) const SYNTAX: &str = "x,y,w,h or the corners of a polygon x1,y1,x2,y2,x3,y3,..., in pixels or percent; a name before a \
                                 colon, a time range behind @ (@10-1:30); several with semicolons; or a file of zones (.toml)";

/// The expected form, for error messages.
const EXPECTED: &str = "write x,y,w,h or x1,y1,x2,y2,x3,y3,... in pixels or percent";

/// A length within a frame.
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

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Left, top, width, height.
    Rectangle([Length; 4]),
    /// Corners in order.
    Polygon(Vec<[Length; 2]>),
}

/// An area before the frame size is known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Area {
    pub(super) name: Arc<str>,
    shape: Shape,
    /// The point of a box that decides, if the area names one.
    anchor: Option<Anchor>,
    /// Streams to which it applies; empty for all.
    streams: Vec<String>,
    during: TimeSpan,
}

impl Area {
    /// Parses an area such as `gate:10,20,30,40@5-10`; unnamed ones are numbered.
    pub(super) fn parse(text: &str, number: usize) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{}` is not an area: {why}", text.trim());
        let (place, times) = text.split_once('@').map_or((text, None), |(place, times)| (place, Some(times)));
        let (name, numbers) = place.split_once(':').unwrap_or(("", place));
        let lengths: Option<Vec<Length>> = numbers.split(',').map(Length::parse).collect();
        let lengths = lengths.ok_or_else(|| wrong(EXPECTED))?;
        let name = if name.trim().is_empty() { format!("region-{number}") } else { name.trim().to_owned() };
        let shape = match (lengths.as_slice(), lengths.len()) {
            (&[x, y, w, h], _) => Shape::Rectangle([x, y, w, h]),
            (_, 6..) if lengths.len().is_multiple_of(2) => {
                Shape::Polygon(lengths.chunks_exact(2).filter_map(|pair| <[Length; 2]>::try_from(pair).ok()).collect())
            }
            _ => return Err(wrong(EXPECTED)),
        };
        let during = times.map_or(Ok(TimeSpan::default()), |times| span(times).map_err(|why| wrong(&why)))?;
        let area = Self { name: name.into(), shape, anchor: None, streams: Vec::new(), during };
        area.check().map_err(|why| wrong(&why))?;
        Ok(area)
    }

    fn of_zone(zone: &ZoneSpec) -> Self {
        let shape = &zone.shape;
        let length = |value: f32| match shape.units {
            Units::Pixels => Length::Pixels(value),
            Units::Normalized => Length::Share(value),
        };
        Self {
            name: shape.name.as_str().into(),
            shape: Shape::Polygon(zone.points.iter().map(|point| [length(point.x), length(point.y)]).collect()),
            anchor: shape.anchor,
            streams: shape.streams.clone(),
            during: shape.during,
        }
    }

    /// Polygons must have an area and must not cross themselves, for every aspect ratio.
    fn check(&self) -> Result<(), String> {
        let Shape::Polygon(_) = &self.shape else { return Ok(()) };
        let side = 1 << 14;
        let shape = ShapeSpec { name: self.name.to_string(), units: Units::Pixels, ..ShapeSpec::default() };
        let map = ZoneMap { zones: vec![ZoneSpec { shape, points: self.corners(side, side) }], lines: Vec::new() };
        map.check().map_err(|error| error.to_string())
    }

    /// Corners in pixels of frames of this size; may lie outside.
    pub(super) fn corners(&self, width: u32, height: u32) -> Vec<Point> {
        let point = |x: Length, y: Length| Point { x: x.of(width), y: y.of(height) };
        match &self.shape {
            Shape::Rectangle([x, y, w, h]) => {
                let (from, across, down) = (point(*x, *y), w.of(width), h.of(height));
                [(0.0, 0.0), (across, 0.0), (across, down), (0.0, down)].map(|(dx, dy)| Point { x: from.x + dx, y: from.y + dy }).into()
            }
            Shape::Polygon(corners) => corners.iter().map(|[x, y]| point(*x, *y)).collect(),
        }
    }

    /// The bounding box in frame pixels, clipped to the frame; `None` if nothing is left.
    pub(super) fn in_frame(&self, width: u32, height: u32) -> Option<BBox> {
        let start = BBox::from_xyxy(f32::INFINITY, f32::INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY);
        let grow = |bbox: BBox, point: Point| {
            BBox::from_xyxy(bbox.x1.min(point.x), bbox.y1.min(point.y), bbox.x2.max(point.x), bbox.y2.max(point.y))
        };
        let bbox = self.corners(width, height).into_iter().fold(start, grow).clamped(width, height);
        (bbox.width() >= 1.0 && bbox.height() >= 1.0).then_some(bbox)
    }

    /// The shape for tests whether boxes are inside, for a frame size; by this anchor unless the area names another.
    pub(super) fn outline(&self, width: u32, height: u32, anchor: Anchor) -> Outline {
        Outline::new(&self.corners(width, height), self.anchor.unwrap_or(anchor))
    }

    /// Whether the area is a box, so that nothing in its bounding box is outside of it.
    pub(super) fn is_box(&self) -> bool {
        matches!(self.shape, Shape::Rectangle(_))
    }
}

/// `10-1:30`, `10-`, `-1:30`.
fn span(text: &str) -> Result<TimeSpan, String> {
    let secs = |text: &str| match text.trim() {
        "" => Ok(None),
        text => parse_time(text).map(|time| Some(time.as_secs_f64())).map_err(|error| format!("its time range {error}")),
    };
    let (start, end) = text.split_once('-').ok_or("a time range has a hyphen, such as @10-20, @10- or @-1:30")?;
    let during = TimeSpan { start_secs: secs(start)?, end_secs: secs(end)? };
    during.check().map(|()| during)
}

/// A part of an option's text.
#[derive(Clone, Debug)]
enum Given {
    Area(Area),
    File(PathBuf),
}

/// The areas of an option.
#[derive(Clone, Debug, Default)]
pub(super) struct Areas {
    given: Vec<Given>,
    text: String,
    /// Known once files were read.
    pub(super) list: Vec<Area>,
}

impl Areas {
    /// Parses an option's text; files are read later, by [`Areas::load`].
    ///
    /// # Errors
    /// An error for a part of the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut given = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let is_file = Path::new(part).extension().is_some_and(|ending| ending == "toml");
            let number = given.len() + 1;
            given.push(if is_file { Given::File(part.into()) } else { Given::Area(Area::parse(part, number)?) });
        }
        if given.is_empty() {
            return Err(format!("no area is given; {EXPECTED}"));
        }
        Ok(Self { given, text: text.to_owned(), list: Vec::new() })
    }

    pub(super) fn is_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// Reads the files and checks the areas against the frame size, if it is known.
    ///
    /// # Errors
    /// `Input` and `Usage`, with the file or the area.
    pub(super) fn load(&mut self, size: Option<(u32, u32)>, files: &RunFiles) -> Result<(), StageError> {
        self.list.clear();
        for given in &self.given {
            match given {
                Given::Area(area) => self.list.push(area.clone()),
                Given::File(path) => {
                    let map = read_zones(path)?;
                    note_reads(files, [path.as_path()])?;
                    let wrong = |error: &dyn std::fmt::Display| StageError::new(ErrorKind::Usage, format!("{}: {error}", path.display()));
                    map.check().map_err(|error| wrong(&error))?;
                    if map.zones.is_empty() {
                        return Err(wrong(&"there are no areas in it; give at least one [[zone]]"));
                    }
                    self.list.extend(map.zones.iter().map(Area::of_zone));
                }
            }
        }
        if self.list.len() > MAX_AREAS {
            return Err(self.usage(format_args!("{} areas are too many; at most {MAX_AREAS}", self.list.len())));
        }
        let Some((width, height)) = size else { return Ok(()) };
        let outside = self.list.iter().find(|area| area.streams.is_empty() && area.in_frame(width, height).is_none());
        outside.map_or(Ok(()), |area| Err(self.usage(format_args!("`{}` lies outside of frames of {width}x{height}", area.name))))
    }

    fn usage(&self, problem: impl std::fmt::Display) -> StageError {
        StageError::new(ErrorKind::Usage, format!("areas `{}`: {problem}", self.text))
    }

    /// Whether the active areas depend on the stream or the time, so that a stage must track streams.
    pub(super) fn follow_streams(&self) -> bool {
        self.list.iter().any(|area| !area.streams.is_empty() || area.during != TimeSpan::default())
    }
}

/// Tracks the streams, for areas that apply to some of them or for a time.
#[derive(Debug, Default)]
pub(super) struct AreaStreams {
    open: BTreeMap<StreamId, Stream>,
    came: BTreeSet<String>,
}

#[derive(Debug)]
struct Stream {
    name: String,
    /// Added to a frame's time: 0 is the start of what is read.
    offset_secs: f64,
}

impl AreaStreams {
    pub(super) fn begin(&mut self, info: &StreamInfo) {
        self.came.insert(info.name.clone());
        let offset_secs = info.start_offset_micros as f64 / 1e6;
        self.open.insert(info.id, Stream { name: info.name.clone(), offset_secs });
    }

    pub(super) fn end(&mut self, id: StreamId) {
        self.open.remove(&id);
    }

    /// Whether an area applies to a frame.
    pub(super) fn is_for(&self, area: &Area, frame: &Frame) -> bool {
        let stream = self.open.get(&frame.stream);
        let is_here = area.streams.is_empty() || stream.is_some_and(|stream| area.streams.contains(&stream.name));
        is_here && area.during.holds(frame.seconds() + stream.map_or(0.0, |stream| stream.offset_secs))
    }

    /// Streams named by areas that never appeared, with the area's name.
    pub(super) fn missing<'a>(&'a self, areas: &'a Areas) -> impl Iterator<Item = (&'a str, &'a str)> {
        let stray =
            move |area: &'a Area| area.streams.iter().find(|name| !self.came.contains(*name)).map(|name| (&*area.name, name.as_str()));
        areas.list.iter().filter_map(stray)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Area> {
        let mut areas = Areas::parse(text).expect("well formed");
        areas.load(None, &RunFiles::default()).expect("no files");
        areas.list
    }

    #[test]
    fn areas_are_pixels_or_percent() {
        let areas = parsed("gate: 10,20,30,40; 25%,0,50%,100% ;");
        assert_eq!(areas.iter().map(|area| &*area.name).collect::<Vec<_>>(), ["gate", "region-2"]);
        assert_eq!(areas[0].in_frame(640, 480), Some(BBox::from_xyxy(10.0, 20.0, 40.0, 60.0)));
        assert_eq!(areas[1].in_frame(640, 480), Some(BBox::from_xyxy(160.0, 0.0, 480.0, 480.0)));
        assert_eq!(areas[0].in_frame(10, 480), None);
        for wrong in ["1,2,3", "1,2,3,4,5", "a,b,c,d", "-1,0,5,5", "0,0,120%,5", "0,0,inf,5", "x:"] {
            assert!(Areas::parse(wrong).expect_err("not an area").contains("write x,y,w,h"), "{wrong}");
        }
        assert!(Areas::parse(" ; ").expect_err("none").contains("no area is given"));
    }

    #[test]
    fn six_numbers_and_more_are_a_polygon() {
        let areas = parsed("roof: 0,0, 50%,0, 50%,25%");
        assert_eq!(areas[0].corners(200, 100), [(0.0, 0.0), (100.0, 0.0), (100.0, 25.0)].map(|(x, y)| Point { x, y }));
        assert_eq!(areas[0].in_frame(200, 100), Some(BBox::from_xyxy(0.0, 0.0, 100.0, 25.0)));
        assert!(!areas[0].is_box());
        assert!(Areas::parse("0,0,4,4,4,0,0,4").expect_err("a bow tie").contains("crosses itself"));
        assert!(Areas::parse("0,0,4,4,8,8").expect_err("a line").contains("crosses itself"));
    }

    #[test]
    fn a_time_range_follows_an_at_sign() {
        let during = |text: &str| parsed(text)[0].during;
        assert_eq!(during("gate:0,0,9,9@1:30-100"), TimeSpan { start_secs: Some(90.0), end_secs: Some(100.0) });
        assert_eq!(during("0,0,9,9@500ms-"), TimeSpan { start_secs: Some(0.5), end_secs: None });
        assert_eq!(during("0,0,9,9@-2s"), TimeSpan { start_secs: None, end_secs: Some(2.0) });
        for (wrong, why) in [("0,0,9,9@5", "hyphen"), ("0,0,9,9@9-5", "ends before"), ("0,0,9,9@x-5", "expects a time")] {
            assert!(Areas::parse(wrong).expect_err(wrong).contains(why), "{wrong}");
        }
    }
}
