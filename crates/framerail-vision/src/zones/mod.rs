//! Areas and lines in the picture: who is where, for how long, and who crosses what.
//!
//! A [`ZoneMap`] is what a user writes down; a [`ZoneWatcher`] follows one stream's detections through it and gives a
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

/// What is known of zones and lines on one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameZones {
    /// The stream's zones, in the map's order.
    pub zones: Vec<ZoneState>,
    /// The stream's lines, in the map's order.
    pub lines: Vec<LineState>,
    /// What happened on this frame.
    pub events: Vec<ZoneEvent>,
}

impl FrameZones {
    /// Names of the zones that a track is in.
    pub fn zones_of(&self, track_id: u64) -> impl Iterator<Item = &Arc<str>> {
        let holds = move |zone: &&ZoneState| zone.inside.iter().any(|presence| presence.track_id == track_id);
        self.zones.iter().filter(holds).map(|zone| &zone.name)
    }
}

/// A zone on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneState {
    /// Its name.
    pub name: Arc<str>,
    /// Its corners, in frame pixels.
    pub points: Arc<[Point]>,
    /// Detections inside, with and without an identity.
    pub count: usize,
    /// Tracks inside, by identity.
    pub inside: Vec<Presence>,
    /// Tracks that came in so far. One that comes twice counts twice.
    pub entered: u64,
    /// Tracks that went out or vanished so far.
    pub left: u64,
    /// Mean length of the stays that have ended, in seconds; 0 while there are none.
    pub mean_dwell_secs: f64,
}

/// A track inside a zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Presence {
    /// Its identity.
    pub track_id: u64,
    /// Seconds since it came in.
    pub dwell_secs: f64,
}

/// A line on one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct LineState {
    /// Its name.
    pub name: Arc<str>,
    /// Where it begins, in frame pixels.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
    /// Crossings from its left to its right so far, as seen looking from `from` to `to`.
    pub crossed_in: u64,
    /// Crossings the other way.
    pub crossed_out: u64,
}

/// Which way a line is crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the line's left to its right, as seen looking from its beginning to its end.
    In,
    /// From its right to its left.
    Out,
}

/// What happened on a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum ZoneEvent {
    /// A track came into a zone, or appeared in it.
    Entered {
        /// The zone.
        zone: Arc<str>,
        /// Who.
        track_id: u64,
        /// Its class.
        label: Arc<str>,
    },
    /// A track went out of a zone, or has not been seen there for a while.
    Left {
        /// The zone.
        zone: Arc<str>,
        /// Who.
        track_id: u64,
        /// Its class.
        label: Arc<str>,
        /// Seconds that it was inside; of one that vanished, until it was last seen.
        dwell_secs: f64,
        /// Whether it was not seen to go.
        vanished: bool,
    },
    /// A track crossed a line.
    Crossed {
        /// The line.
        line: Arc<str>,
        /// Who.
        track_id: u64,
        /// Its class.
        label: Arc<str>,
        /// Which way.
        direction: Direction,
    },
}
