//! Records of zones and lines for `save`.

use framerail_vision::{
    FrameZones, ZoneEvent,
    zones::{Direction, LineState, ZoneState},
};
use serde::{Serialize, Serializer};

/// The keys of zones and lines in a frame's record.
#[derive(Serialize)]
pub(in crate::stages) struct ZonesRecord<'a> {
    zones: Vec<ZoneRecord<'a>>,
    lines: Vec<LineRecord<'a>>,
    events: Vec<EventRecord<'a>>,
}

#[derive(Serialize)]
struct ZoneRecord<'a> {
    name: &'a str,
    count: usize,
    tracks: Vec<StayRecord>,
    entered: u64,
    left: u64,
    mean_dwell_secs: f64,
}

#[derive(Serialize)]
struct StayRecord {
    track_id: u64,
    dwell_secs: f64,
}

#[derive(Serialize)]
struct LineRecord<'a> {
    name: &'a str,
    r#in: u64,
    out: u64,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum EventRecord<'a> {
    Entered {
        zone: &'a str,
        track_id: u64,
        label: &'a str,
    },
    Left {
        zone: &'a str,
        track_id: u64,
        label: &'a str,
        dwell_secs: f64,
        vanished: bool,
    },
    Crossed {
        line: &'a str,
        track_id: u64,
        label: &'a str,
        #[serde(serialize_with = "direction_word")]
        direction: Direction,
    },
}

fn direction_word<S: Serializer>(direction: &Direction, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match direction {
        Direction::In => "in",
        Direction::Out => "out",
    })
}

/// Milliseconds are as precise as frames.
fn rounded(secs: f64) -> f64 {
    (secs * 1000.0).round() / 1000.0
}

impl<'a> From<&'a FrameZones> for ZonesRecord<'a> {
    fn from(found: &'a FrameZones) -> Self {
        Self {
            zones: found.zones.iter().map(ZoneRecord::from).collect(),
            lines: found.lines.iter().map(LineRecord::from).collect(),
            events: found.events.iter().map(EventRecord::from).collect(),
        }
    }
}

impl<'a> From<&'a ZoneState> for ZoneRecord<'a> {
    fn from(zone: &'a ZoneState) -> Self {
        let stays = zone.inside.iter().map(|stay| StayRecord { track_id: stay.track_id, dwell_secs: rounded(stay.dwell_secs) });
        Self {
            name: &zone.name,
            count: zone.count,
            tracks: stays.collect(),
            entered: zone.entered,
            left: zone.left,
            mean_dwell_secs: rounded(zone.mean_dwell_secs),
        }
    }
}

impl<'a> From<&'a LineState> for LineRecord<'a> {
    fn from(line: &'a LineState) -> Self {
        Self { name: &line.name, r#in: line.crossed_in, out: line.crossed_out }
    }
}

impl<'a> From<&'a ZoneEvent> for EventRecord<'a> {
    fn from(event: &'a ZoneEvent) -> Self {
        match event {
            ZoneEvent::Entered { zone, track_id, label } => EventRecord::Entered { zone, track_id: *track_id, label },
            ZoneEvent::Left { zone, track_id, label, dwell_secs, vanished } => {
                EventRecord::Left { zone, track_id: *track_id, label, dwell_secs: rounded(*dwell_secs), vanished: *vanished }
            }
            ZoneEvent::Crossed { line, track_id, label, direction } => {
                EventRecord::Crossed { line, track_id: *track_id, label, direction: *direction }
            }
        }
    }
}
