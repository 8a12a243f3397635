//! The record of a frame: the same numbers in every format.

use std::time::{SystemTime, UNIX_EPOCH};

use framerail_core::{Detection, DetectionOrigin, OrientedBox};
use framerail_pipeline::FrameItem;
use framerail_vision::FrameZones;
use serde::{Serialize, Serializer};

use super::attributes::AttributeRecord;
use crate::{parts::FrameAttributes, stages::zones::ZonesRecord};

/// The record of a frame. Serialised it is a line of JSON lines, and the message of `kafka`, `mqtt`, `redis` and `webhook`.
#[derive(Serialize)]
pub(in crate::stages) struct FrameRecord<'a> {
    pub(super) stream: &'a str,
    pub(super) stream_id: u32,
    /// Number in the stream as decoded, from 0.
    pub(super) frame: u64,
    pub(super) pts: i64,
    /// Seconds per tick, as `1/12800`.
    pub(super) time_base: String,
    pub(super) seconds: f64,
    /// Arrival time of the frame; for live and paced streams only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wall_time: Option<WallTime>,
    pub(super) analysed: bool,
    pub(super) detections: Vec<DetectionRecord<'a>>,
    /// Results of models for the whole frame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<AttributeRecord<'a>>,
    #[serde(flatten)]
    pub(super) zones: Option<ZonesRecord<'a>>,
    /// Width and height in pixels.
    #[serde(skip)]
    pub(super) size: (u32, u32),
}

/// The record of a detection, in frame pixels.
#[derive(Serialize)]
pub(in crate::stages) struct DetectionRecord<'a> {
    pub(super) label: &'a str,
    pub(super) label_id: u32,
    pub(super) score: f64,
    /// `[x1, y1, x2, y2]`
    #[serde(rename = "box")]
    pub(super) bbox: [f64; 4],
    /// `[center x, center y, width, height, radians clockwise]`; for rotated boxes only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oriented: Option<[f64; 5]>,
    /// Corners of the rotated box, `[x, y]` each.
    #[serde(skip)]
    pub(super) corners: Option<[[f64; 2]; 4]>,
    pub(super) landmarks: Vec<[f64; 2]>,
    pub(super) track_id: Option<u64>,
    pub(super) origin: DetectionOrigin,
    /// Names of the zones that contain it; `None` without the stage `zones`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zones: Option<Vec<&'a str>>,
    /// Results of further models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) attributes: Vec<AttributeRecord<'a>>,
}

/// Whether a frame has no detections, attributes or events.
pub(in crate::stages) fn is_uneventful(item: &FrameItem) -> bool {
    item.detections.is_empty()
        && item.attachments.get::<FrameAttributes>().is_none_or(|attributes| attributes.0.is_empty())
        && item.attachments.get::<FrameZones>().is_none_or(|zones| zones.events.is_empty())
}

impl<'a> FrameRecord<'a> {
    /// A frame's record, and the number of boxes left out because they are not finite.
    pub(in crate::stages) fn new(item: &'a FrameItem, stream: &'a str) -> (Self, u64) {
        let base = item.frame.time_base.ratio();
        let zones = item.attachments.get::<FrameZones>();
        let detections: Vec<_> = item.detections.iter().filter_map(|found| DetectionRecord::new(found, zones)).collect();
        let not_finite = item.detections.len().saturating_sub(detections.len()) as u64;
        let record = Self {
            stream,
            stream_id: item.frame.stream.0,
            frame: item.frame.index,
            pts: item.frame.pts.0,
            time_base: format!("{}/{}", base.num, base.den),
            seconds: rounded(item.frame.seconds(), 6),
            wall_time: item.arrival.map(|arrival| WallTime::new(arrival.wall)),
            analysed: item.analysed,
            detections,
            attributes: item
                .attachments
                .get::<FrameAttributes>()
                .map(|attributes| AttributeRecord::list(&attributes.0))
                .unwrap_or_default(),
            zones: zones.map(ZonesRecord::from),
            size: (item.frame.width, item.frame.height),
        };
        (record, not_finite)
    }
}

impl<'a> DetectionRecord<'a> {
    pub(super) fn new(found: &'a Detection, zones: Option<&'a FrameZones>) -> Option<Self> {
        let point = |x: f32, y: f32| [rounded(x.into(), 4), rounded(y.into(), 4)];
        let ([x1, y1], [x2, y2]) = (point(found.bbox.x1, found.bbox.y1), point(found.bbox.x2, found.bbox.y2));
        let landmarks: Vec<[f64; 2]> = found.landmarks.iter().map(|landmark| point(landmark.x, landmark.y)).collect();
        let finite = found.bbox.is_finite() && found.score.is_finite() && landmarks.iter().flatten().all(|value| value.is_finite());
        let oriented = found.oriented.filter(OrientedBox::is_finite);
        finite.then(|| Self {
            label: &found.label.name,
            label_id: found.label.id,
            score: rounded(found.score.into(), 6),
            bbox: [x1, y1, x2, y2],
            oriented: oriented.map(|it| {
                let ([x, y], [width, height]) = (point(it.center.x, it.center.y), point(it.width, it.height));
                [x, y, width, height, rounded(it.angle.into(), 6)]
            }),
            corners: oriented.map(|it| it.corners().map(|corner| point(corner.x, corner.y))),
            landmarks,
            track_id: found.track_id,
            origin: found.origin,
            zones: zones.map(|zones| found.track_id.iter().flat_map(|id| zones.zones_of(*id)).map(|name| &**name).collect()),
            attributes: AttributeRecord::list(&found.attributes),
        })
    }

    /// `[left, top, width, height]`
    pub(super) fn bbox_ltwh(&self) -> [f64; 4] {
        let [x1, y1, x2, y2] = self.bbox;
        [x1, y1, rounded((x2 - x1).max(0.0), 4), rounded((y2 - y1).max(0.0), 4)]
    }

    pub(super) fn origin(&self) -> &'static str {
        match self.origin {
            DetectionOrigin::Detected => "detected",
            DetectionOrigin::Interpolated => "interpolated",
            DetectionOrigin::Held => "held",
        }
    }
}

/// Short, and far finer than a model's precision: 1/10000 of a pixel changes the IoU of a 10-pixel box by 0.00004 at most.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// A time on the machine's clock, in microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WallTime(pub(super) i64);

impl WallTime {
    fn new(time: SystemTime) -> Self {
        let micros = |span: std::time::Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        Self(time.duration_since(UNIX_EPOCH).map_or_else(|before| -micros(before.duration()), micros))
    }
}

/// As RFC 3339 has it, such as `2026-11-21T09:30:00.250000Z`.
impl std::fmt::Display for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const DAY: i64 = 86_400_000_000;
        let (days, micros) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        let seconds = micros / 1_000_000;
        let (hour, minute, second, fraction) = (seconds / 3600, seconds / 60 % 60, seconds % 60, micros % 1_000_000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}Z")
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
fn date_of(days: i64) -> (i64, i64, i64) {
    // Years that begin in March have the leap day last, and a cycle of 400 of them has 146,097 days.
    let day = days + 719_468;
    let (cycle, day) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (cycle * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let text = |value: f32| serde_json::to_string(&rounded(value.into(), 4)).expect("finite");
        assert_eq!(text(12.345_678), "12.3457");
        assert_eq!(text(1e6 / 3.0), "333333.3438");
        assert_eq!(text(-0.1), "-0.1");
    }

    #[test]
    fn times_are_dates() {
        let text = |secs: i64, micros: i64| WallTime(secs * 1_000_000 + micros).to_string();
        assert_eq!(text(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(text(951_782_399, 999_999), "2000-02-28T23:59:59.999999Z");
        assert_eq!(text(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(text(951_868_800, 1), "2000-03-01T00:00:00.000001Z");
        assert_eq!(text(1_795_253_400, 250_000), "2026-11-21T09:30:00.250000Z");
        assert_eq!(text(-1, 0), "1969-12-31T23:59:59.000000Z");
        assert_eq!(text(4_107_542_399, 0), "2100-02-28T23:59:59.000000Z");
        assert_eq!(text(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}
