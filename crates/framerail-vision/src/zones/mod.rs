//! Zones and lines in the frame: which objects are where, for how long, and which cross a line.
//!
//! A [`ZoneMap`] holds the user's definitions. A [`ZoneWatcher`] follows one stream's detections through it and returns a
//! [`FrameZones`] for each frame.

mod geometry;
mod map;
mod outline;
mod sketch;
#[cfg(test)]
mod tests;
mod watcher;

use std::sync::Arc;

use framerail_core::Point;

pub use self::{
    map::{Anchor, LineSpec, ShapeSpec, TimeSpan, Units, ZoneMap, ZoneSpec},
    outline::Outline,
    watcher::ZoneWatcher,
};

/// The state of zones and lines on one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameZones {
    /// The stream's zones, in the map's order.
    pub zones: Vec<ZoneState>,
    /// The stream's lines, in the map's order.
    pub lines: Vec<LineState>,
    /// Events on this frame.
    pub events: Vec<ZoneEvent>,
}

impl FrameZones {
    /// Names of the zones that a track is in.
    pub fn zones_of(&self, track_id: u64) -> impl Iterator<Item = &Arc<str>> {
        let holds = move |zone: &&ZoneState| zone.inside.iter().any(|presence| presence.track_id == track_id);
        self.zones.iter().filter(holds).map(|zone| &zone.name)
    }
}

/// The state of a zone on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneState {
    /// Name of the zone.
    pub name: Arc<str>,
    /// Corners in frame pixels.
    pub points: Arc<[Point]>,
    /// Detections inside, with and without an identity.
    pub count: usize,
    /// Tracks inside, by identity.
    pub inside: Vec<Presence>,
    /// Tracks that entered so far. A track that enters twice counts twice.
    pub entered: u64,
    /// Tracks that left or vanished so far.
    pub left: u64,
    /// Mean length of the completed stays, in seconds; 0 while there are none.
    pub mean_dwell_secs: f64,
}

/// A track inside a zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Presence {
    /// Identity of the track.
    pub track_id: u64,
    /// Seconds since it entered.
    pub dwell_secs: f64,
}

/// The state of a line on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct LineState {
    /// Name of the line.
    pub name: Arc<str>,
    /// Start in frame pixels.
    pub from: Point,
    /// End in frame pixels.
    pub to: Point,
    /// Crossings from left to right so far, as seen from `from` towards `to`.
    pub crossed_in: u64,
    /// Crossings in the other direction so far.
    pub crossed_out: u64,
}

/// The direction of a crossing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From left to right, as seen from the line's start towards its end.
    In,
    /// From right to left.
    Out,
}

/// An event on a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum ZoneEvent {
    /// A track entered a zone, or appeared in it.
    Entered {
        /// Name of the zone.
        zone: Arc<str>,
        /// Identity of the track.
        track_id: u64,
        /// Class of the track.
        label: Arc<str>,
    },
    /// A track left a zone, or has not been seen there for a while.
    Left {
        /// Name of the zone.
        zone: Arc<str>,
        /// Identity of the track.
        track_id: u64,
        /// Class of the track.
        label: Arc<str>,
        /// Seconds that it was inside; for a vanished track, until it was last seen.
        dwell_secs: f64,
        /// Whether the track vanished rather than being seen to leave.
        vanished: bool,
    },
    /// A track crossed a line.
    Crossed {
        /// Name of the line.
        line: Arc<str>,
        /// Identity of the track.
        track_id: u64,
        /// Class of the track.
        label: Arc<str>,
        /// Direction of the crossing.
        direction: Direction,
    },
}
