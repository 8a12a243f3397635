//! The sightings of one object, and its box in frames without one.

use std::collections::VecDeque;

use framerail_core::{BBox, Detection, DetectionOrigin, Point};

use super::{HELD_GROWTH_PER_SEC, HoldOptions};
use crate::link::shifted;

#[derive(Clone, Debug)]
pub(super) struct Sighting {
    pub(super) frame: u64,
    pub(super) scene: u64,
    pub(super) detection: Detection,
    /// Whether it was followed by its appearance, not detected.
    pub(super) is_followed: bool,
}

/// Returns a face's box for a frame without a sighting of it. `None` when it was seen there or is out of reach.
pub(super) fn fill(sightings: &VecDeque<Sighting>, frame: u64, scene: u64, options: &HoldOptions) -> Option<Detection> {
    let (reach, across_cuts) = (options.delay_frames(), options.hold_across_cuts);
    let split = sightings.partition_point(|sighting| sighting.frame < frame);
    if sightings.get(split).is_some_and(|sighting| sighting.frame == frame) {
        return None;
    }
    let in_scene = |sighting: &Sighting| across_cuts || sighting.scene == scene;
    let before = split.checked_sub(1).and_then(|index| sightings.get(index));
    let after = sightings.get(split);
    if let (Some(before), Some(after)) = (before, after) {
        // All sightings of a face lie in one scene: identities end at cuts.
        if after.frame - before.frame <= reach + 1 {
            return Some(interpolated(before, after, frame));
        }
    }
    let reaches = |sighting: &Sighting| {
        let own = if is_weak(sightings, sighting.frame, options) { options.weak_reach() } else { reach };
        frame.abs_diff(sighting.frame) <= own && in_scene(sighting)
    };
    let growth = HELD_GROWTH_PER_SEC * options.frame_secs;
    let before = before.filter(|sighting| reaches(sighting));
    let after = after.filter(|sighting| reaches(sighting));
    let before = before.map(|sighting| held(sighting, speed(sightings.iter().take(split).rev(), reach), frame, growth));
    let after = after.map(|sighting| held(sighting, speed(sightings.iter().skip(split), reach), frame, growth));
    match (before, after) {
        (Some(before), Some(after)) => Some(before.moved_to(joined(&before.bbox, &after.bbox))),
        (before, after) => before.or(after),
    }
}

/// Whether the sighting on a frame has a low score and no other known sighting of the same object lies within reach.
pub(super) fn is_weak(sightings: &VecDeque<Sighting>, frame: u64, options: &HoldOptions) -> bool {
    let is_near = |sighting: &&Sighting| !sighting.is_followed && sighting.frame.abs_diff(frame) <= options.delay_frames();
    let mut near = sightings.iter().filter(is_near);
    matches!((near.next(), near.next()), (Some(alone), None) if alone.frame == frame && alone.detection.score < options.weak_score)
}

fn interpolated(before: &Sighting, after: &Sighting, frame: u64) -> Detection {
    let t = (frame - before.frame) as f32 / (after.frame - before.frame) as f32;
    let (from, to) = (&before.detection, &after.detection);
    let mix = |a: f32, b: f32| a + (b - a) * t;
    let landmarks = if from.landmarks.len() == to.landmarks.len() {
        from.landmarks.iter().zip(&to.landmarks).map(|(a, b)| Point { x: mix(a.x, b.x), y: mix(a.y, b.y) }).collect()
    } else {
        Vec::new()
    };
    let (bbox, score) = (from.bbox.lerp(&to.bbox, t), mix(from.score, to.score));
    let track_id = from.track_id.or(to.track_id);
    let (near, far) = if t <= 0.5 { (from, to) } else { (to, from) };
    let described = if near.attributes.is_empty() { far } else { near };
    let attributes = described.moved_to(bbox).attributes;
    let oriented = near.moved_to(bbox).oriented;
    Detection { bbox, oriented, score, landmarks, track_id, origin: DetectionOrigin::Interpolated, attributes, ..from.clone() }
}

/// Carries a sighting over to another frame.
fn held(sighting: &Sighting, speed: Point, frame: u64, growth: f32) -> Detection {
    let frames = frame as f32 - sighting.frame as f32;
    let bbox = sighting.detection.bbox;
    let (dx, dy) = (speed.x * frames, speed.y * frames);
    let moved = shifted(&bbox, dx.clamp(-bbox.width(), bbox.width()), dy.clamp(-bbox.height(), bbox.height()));
    let grown = joined(&bbox, &moved).scaled(1.0 + growth * frames.abs());
    // Upright: a rotated box inside a grown one would leave its corners uncovered.
    Detection { origin: DetectionOrigin::Held, oriented: None, ..sighting.detection.moved_to(grown) }
}

/// Mean speed of the centre, in pixels per frame, over the sightings within reach of the first one.
pub(super) fn speed<'a>(mut nearest_first: impl Iterator<Item = &'a Sighting>, reach: u64) -> Point {
    let Some(nearest) = nearest_first.next() else { return Point::default() };
    let Some(farthest) = nearest_first.take_while(|sighting| sighting.frame.abs_diff(nearest.frame) <= reach.max(1)).last() else {
        return Point::default();
    };
    let frames = nearest.frame as f32 - farthest.frame as f32;
    let (from, to) = (farthest.detection.bbox.center(), nearest.detection.bbox.center());
    Point { x: (to.x - from.x) / frames, y: (to.y - from.y) / frames }
}

fn joined(a: &BBox, b: &BBox) -> BBox {
    BBox { x1: a.x1.min(b.x1), y1: a.y1.min(b.y1), x2: a.x2.max(b.x2), y2: a.y2.max(b.y2) }
}
