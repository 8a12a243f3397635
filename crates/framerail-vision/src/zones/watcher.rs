//! Follows tracks through zones and over lines.

use std::{collections::BTreeMap, sync::Arc};

use framerail_core::{Detection, Point};

use super::{
    Direction, FrameZones, LineState, Outline, Presence, ZoneEvent, ZoneState,
    geometry::{Place, distance_to_line, meeting, place},
    map::ShapeSpec,
};

/// A track that is not seen for this long has vanished: its stay ends, and its side of a line is forgotten.
const PATIENCE_SECS: f64 = 2.0;

/// Follows one stream's detections through its zones and over its lines.
#[derive(Clone, Debug, Default)]
pub struct ZoneWatcher {
    zones: Vec<WatchedZone>,
    lines: Vec<WatchedLine>,
    last_secs: f64,
}

#[derive(Clone, Debug)]
struct WatchedZone {
    shape: ShapeSpec,
    outline: Outline,
    state: ZoneState,
    stays: BTreeMap<u64, Stay>,
    /// Total seconds of the completed stays.
    dwelt_secs: f64,
}

/// A track inside a zone.
#[derive(Clone, Debug)]
struct Stay {
    label: Arc<str>,
    since_secs: f64,
    seen_secs: f64,
}

#[derive(Clone, Debug)]
struct WatchedLine {
    shape: ShapeSpec,
    from: Place,
    to: Place,
    state: LineState,
    tracks: BTreeMap<u64, Approach>,
}

/// A track's position relative to a line.
#[derive(Clone, Debug)]
struct Approach {
    /// The side on which it was last seen beyond the margin; the right side is `In`.
    side: Option<Direction>,
    /// Mean of its anchor points on the previous frame.
    before: Place,
    /// Where along the line it last crossed it: 0 to 1 between the line's ends.
    went_over: Option<f64>,
    seen_secs: f64,
}

fn counts(shape: &ShapeSpec, detection: &Detection) -> bool {
    let is_of_class = shape.classes.is_empty() || shape.classes.iter().any(|class| **class == *detection.label.name);
    is_of_class && detection.bbox.is_finite()
}

fn margin(shape: &ShapeSpec, detection: &Detection) -> f64 {
    f64::from(shape.margin) * f64::from(detection.bbox.height())
}

impl ZoneWatcher {
    pub(super) fn add_zone(&mut self, shape: ShapeSpec, points: Arc<[Point]>) {
        let outline = Outline::new(&points, shape.anchor.unwrap_or_default());
        let name = Arc::from(shape.name.as_str());
        let state = ZoneState { name, points, count: 0, inside: Vec::new(), entered: 0, left: 0, mean_dwell_secs: 0.0 };
        self.zones.push(WatchedZone { shape, outline, state, stays: BTreeMap::new(), dwelt_secs: 0.0 });
    }

    pub(super) fn add_line(&mut self, shape: ShapeSpec, from: Point, to: Point) {
        let state = LineState { name: Arc::from(shape.name.as_str()), from, to, crossed_in: 0, crossed_out: 0 };
        self.lines.push(WatchedLine { shape, from: place(from), to: place(to), state, tracks: BTreeMap::new() });
    }

    /// Takes the next frame's detections, at an increasing time in seconds. A detection without `track_id` counts where it is, but not
    /// for stays and crossings.
    pub fn watch(&mut self, detections: &[Detection], seconds: f64) -> FrameZones {
        // A clock that jumps back, as with live sources, must not make stays negative.
        if seconds < self.last_secs {
            self.move_clock(seconds - self.last_secs);
        }
        self.last_secs = seconds;
        let mut events = Vec::new();
        self.zones.iter_mut().for_each(|zone| zone.watch(detections, seconds, &mut events));
        self.lines.iter_mut().for_each(|line| line.watch(detections, seconds, &mut events));
        FrameZones {
            zones: self.zones.iter().map(|zone| zone.state.clone()).collect(),
            lines: self.lines.iter().map(|line| line.state.clone()).collect(),
            events,
        }
    }

    /// Ends the stream: tracks inside leave on the last frame, given with its state. They count as vanished, as none was seen to leave.
    pub fn end(&mut self, last: &mut FrameZones) {
        for (zone, state) in self.zones.iter_mut().zip(&mut last.zones) {
            let inside: Vec<u64> = zone.stays.keys().copied().collect();
            inside.into_iter().for_each(|track_id| zone.end_stay(track_id, None, &mut last.events));
            (state.left, state.mean_dwell_secs) = (zone.state.left, zone.state.mean_dwell_secs);
        }
    }

    /// The current state of zones and lines.
    pub fn states(&self) -> (impl Iterator<Item = &ZoneState>, impl Iterator<Item = &LineState>) {
        (self.zones.iter().map(|zone| &zone.state), self.lines.iter().map(|line| &line.state))
    }

    fn move_clock(&mut self, seconds: f64) {
        for stay in self.zones.iter_mut().flat_map(|zone| zone.stays.values_mut()) {
            stay.since_secs += seconds;
            stay.seen_secs += seconds;
        }
        self.lines.iter_mut().flat_map(|line| line.tracks.values_mut()).for_each(|track| track.seen_secs += seconds);
    }
}

impl WatchedZone {
    fn watch(&mut self, detections: &[Detection], seconds: f64, events: &mut Vec<ZoneEvent>) {
        self.state.count = 0;
        for detection in detections {
            if !counts(&self.shape, detection) {
                continue;
            }
            let depth = self.outline.depth(&detection.bbox);
            let is_inside = match detection.track_id {
                None => depth >= 0.0,
                Some(track_id) => self.follow(track_id, detection, depth, seconds, events),
            };
            self.state.count += usize::from(is_inside);
        }
        let vanished = |stay: &Stay| seconds - stay.seen_secs > PATIENCE_SECS;
        let gone: Vec<u64> = self.stays.iter().filter(|(_, stay)| vanished(stay)).map(|(id, _)| *id).collect();
        for track_id in gone {
            self.end_stay(track_id, None, events);
        }
        let presence = |(track_id, stay): (&u64, &Stay)| Presence { track_id: *track_id, dwell_secs: seconds - stay.since_secs };
        self.state.inside = self.stays.iter().filter(|(_, stay)| stay.seen_secs == seconds).map(presence).collect();
    }

    /// Whether a track is inside. It enters at the edge, and leaves beyond the margin.
    fn follow(&mut self, track_id: u64, detection: &Detection, depth: f64, seconds: f64, events: &mut Vec<ZoneEvent>) -> bool {
        if let Some(stay) = self.stays.get_mut(&track_id) {
            if depth >= -margin(&self.shape, detection) {
                stay.seen_secs = seconds;
                return true;
            }
            self.end_stay(track_id, Some(seconds), events);
            return false;
        }
        if depth < 0.0 {
            return false;
        }
        let label = Arc::clone(&detection.label.name);
        events.push(ZoneEvent::Entered { zone: Arc::clone(&self.state.name), track_id, label: Arc::clone(&label) });
        self.state.entered += 1;
        self.stays.insert(track_id, Stay { label, since_secs: seconds, seen_secs: seconds });
        true
    }

    /// Ends a stay at a time, or when the track was last seen.
    fn end_stay(&mut self, track_id: u64, until_secs: Option<f64>, events: &mut Vec<ZoneEvent>) {
        let Some(stay) = self.stays.remove(&track_id) else { return };
        let dwell_secs = until_secs.unwrap_or(stay.seen_secs) - stay.since_secs;
        self.dwelt_secs += dwell_secs;
        self.state.left += 1;
        self.state.mean_dwell_secs = self.dwelt_secs / self.state.left as f64;
        let zone = Arc::clone(&self.state.name);
        events.push(ZoneEvent::Left { zone, track_id, label: stay.label, dwell_secs, vanished: until_secs.is_none() });
    }
}

impl WatchedLine {
    fn watch(&mut self, detections: &[Detection], seconds: f64, events: &mut Vec<ZoneEvent>) {
        for detection in detections {
            let Some(track_id) = detection.track_id.filter(|_| counts(&self.shape, detection)) else { continue };
            let Some(direction) = self.follow(track_id, detection, seconds) else { continue };
            match direction {
                Direction::In => self.state.crossed_in += 1,
                Direction::Out => self.state.crossed_out += 1,
            }
            let (line, label) = (Arc::clone(&self.state.name), Arc::clone(&detection.label.name));
            events.push(ZoneEvent::Crossed { line, track_id, label, direction });
        }
        self.tracks.retain(|_, track| seconds - track.seen_secs <= PATIENCE_SECS);
    }

    /// The side on which a detection lies beyond the margin.
    fn side(&self, detection: &Detection) -> Option<Direction> {
        let margin = margin(&self.shape, detection);
        let places = self.shape.anchor.unwrap_or_default().places(&detection.bbox);
        let distances: Vec<f64> = places.into_iter().map(|place| distance_to_line(self.from, self.to, place)).collect();
        let all = |is_beyond: &dyn Fn(f64) -> bool| distances.iter().all(|distance| is_beyond(*distance));
        if all(&|distance| distance > margin) {
            Some(Direction::In)
        } else if all(&|distance| distance < -margin) {
            Some(Direction::Out)
        } else {
            None
        }
    }

    /// Returns the direction in which a track has just crossed. It has crossed once it is beyond the margin on the other side, and its
    /// last way over the line was between the line's ends.
    fn follow(&mut self, track_id: u64, detection: &Detection, seconds: f64) -> Option<Direction> {
        let places = self.shape.anchor.unwrap_or_default().places(&detection.bbox);
        let count = places.len() as f64;
        let now = places.iter().fold((0.0, 0.0), |sum, place| (sum.0 + place.0 / count, sum.1 + place.1 / count));
        let side = self.side(detection);
        let (from, to) = (self.from, self.to);
        let new = Approach { side, before: now, went_over: None, seen_secs: seconds };
        let track = self.tracks.entry(track_id).or_insert(new);
        let is_right = |place: Place| distance_to_line(from, to, place) >= 0.0;
        if is_right(track.before) != is_right(now) {
            track.went_over = meeting(from, to, track.before, now);
        }
        (track.before, track.seen_secs) = (now, seconds);
        let crossed = side.filter(|side| track.side.is_some_and(|known| known != *side));
        track.side = side.or(track.side);
        crossed.filter(|_| track.went_over.is_some_and(|along| (0.0..=1.0).contains(&along)))
    }
}
