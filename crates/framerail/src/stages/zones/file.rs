//! Zones and lines as a TOML file.

use std::{fs, path::Path};

use framerail_core::Point;
use framerail_pipeline::{ErrorKind, StageError, parse_time};
use framerail_vision::zones::{Anchor, LineSpec, ShapeSpec, TimeSpan, Units, ZoneMap, ZoneSpec};
use serde::Deserialize;

/// Default distance beyond an edge that counts, relative to the box's height.
const DEFAULT_MARGIN: f32 = 0.1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MapText {
    units: Option<UnitsText>,
    margin: Option<f32>,
    #[serde(default)]
    zone: Vec<ZoneText>,
    #[serde(default)]
    line: Vec<LineText>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UnitsText {
    #[serde(alias = "normalized")]
    Normalised,
    Pixels,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AnchorText {
    Bottom,
    #[serde(alias = "center")]
    Centre,
    Corners,
}

/// A time as options take it, or a number of seconds.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "toml::Value")]
struct TimeText(f64);

impl TryFrom<toml::Value> for TimeText {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Integer(secs) => Ok(Self(secs as f64)),
            toml::Value::Float(secs) => Ok(Self(secs)),
            toml::Value::String(text) => parse_time(&text).map(|time| Self(time.as_secs_f64())),
            _ => Err("a time is a number of seconds, or a text such as \"1:30\"".into()),
        }
    }
}

/// `[x, y]` only.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "Vec<f32>")]
struct PointText(Point);

impl TryFrom<Vec<f32>> for PointText {
    type Error = String;

    fn try_from(numbers: Vec<f32>) -> Result<Self, String> {
        match numbers[..] {
            [x, y] => Ok(Self(Point { x, y })),
            _ => Err(format!("a point has {} numbers; write it as [x, y]", numbers.len())),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneText {
    name: String,
    points: Vec<PointText>,
    units: Option<UnitsText>,
    margin: Option<f32>,
    anchor: Option<AnchorText>,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    streams: Vec<String>,
    start: Option<TimeText>,
    end: Option<TimeText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineText {
    name: String,
    from: PointText,
    to: PointText,
    units: Option<UnitsText>,
    margin: Option<f32>,
    anchor: Option<AnchorText>,
    #[serde(default)]
    classes: Vec<String>,
    #[serde(default)]
    streams: Vec<String>,
}

/// Parses a file's zones and lines, without checks against frames.
pub(in crate::stages) fn read(path: &Path) -> Result<ZoneMap, StageError> {
    let text = fs::read_to_string(path)
        .map_err(|error| StageError::new(ErrorKind::Input, format!("{}: {error}; zones and lines are read from there", path.display())))?;
    parse(&text).map_err(|problem| StageError::new(ErrorKind::Usage, format!("{}, {problem}", path.display())))
}

fn parse(text: &str) -> Result<ZoneMap, String> {
    let map: MapText = toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join("; "))
    })?;
    let (units, margin) = (map.units, map.margin);
    let units = |own: Option<UnitsText>| match own.or(units) {
        Some(UnitsText::Pixels) => Units::Pixels,
        _ => Units::Normalized,
    };
    let margin = |own: Option<f32>| own.or(margin).unwrap_or(DEFAULT_MARGIN);
    let zone = |zone: ZoneText| ZoneSpec {
        points: zone.points.into_iter().map(|PointText(point)| point).collect(),
        shape: ShapeSpec {
            name: zone.name,
            units: units(zone.units),
            anchor: anchor(zone.anchor),
            classes: zone.classes,
            streams: zone.streams,
            margin: margin(zone.margin),
            during: TimeSpan { start_secs: zone.start.map(|time| time.0), end_secs: zone.end.map(|time| time.0) },
        },
    };
    let line = |line: LineText| LineSpec {
        from: line.from.0,
        to: line.to.0,
        shape: ShapeSpec {
            name: line.name,
            units: units(line.units),
            anchor: anchor(line.anchor),
            classes: line.classes,
            streams: line.streams,
            margin: margin(line.margin),
            during: TimeSpan::default(),
        },
    };
    Ok(ZoneMap { zones: map.zone.into_iter().map(zone).collect(), lines: map.line.into_iter().map(line).collect() })
}

fn anchor(text: Option<AnchorText>) -> Option<Anchor> {
    text.map(|text| match text {
        AnchorText::Bottom => Anchor::Bottom,
        AnchorText::Centre => Anchor::Center,
        AnchorText::Corners => Anchor::Corners,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_findings_are_reported_once() {
        let map = parse(
            "units = 'pixels'\nmargin = 0.2\n\
             [[zone]]\nname = 'gate'\npoints = [[0, 0], [10, 0], [10, 10.5]]\nanchor = 'centre'\nclasses = ['car']\n\
             [[line]]\nname = 'door'\nfrom = [0.1, 0.2]\nto = [1, 1]\nunits = 'normalized'\nmargin = 0\nstreams = ['cam1']\n",
        )
        .expect("well formed");
        let (zone, line) = (&map.zones[0], &map.lines[0]);
        assert_eq!((zone.points[2], zone.shape.units, zone.shape.margin), (Point { x: 10.0, y: 10.5 }, Units::Pixels, 0.2));
        assert_eq!((zone.shape.anchor, zone.shape.classes.as_slice()), (Some(Anchor::Center), &["car".to_owned()][..]));
        assert_eq!((line.shape.units, line.shape.margin, line.shape.anchor), (Units::Normalized, 0.0, None));
        assert_eq!(line.shape.streams, ["cam1"]);
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        let reported = |text: &str| parse(text).expect_err("a mistake");
        assert!(reported("[[zone]]\nname = 'a'\npoint = [[0, 0]]\n").starts_with("line 3: unknown field `point`"));
        assert!(reported("[[zone]]\nname = 'a'\npoints = [[0, 0, 0]]\n").contains("a point has 3 numbers; write it as [x, y]"));
        assert!(reported("[[zone]]\nname = 'a'\nanchor = 'top'\npoints = []\n").starts_with("line 3: unknown variant `top`"));
        assert_eq!(reported("zone = [").lines().count(), 1);
    }
}
