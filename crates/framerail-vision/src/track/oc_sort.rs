//! OC-SORT: trusts observations more than predictions.

use std::collections::BTreeMap;

use super::{
    appearance::{self, Appearance},
    assignment::Costs,
    boxes::{Corners, Observation},
    camera::CameraMotion,
    kalman::Kalman,
};

/// Settings of OC-SORT; defaults as published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OcSortOptions {
    /// Detections above this score are tracked. Default 0.6.
    pub det_thresh: f32,
    /// Frames that a track may stay unseen. Default 30.
    pub max_age: u32,
    /// A track gets its identity once it has been seen this often in a row after its first time. Default 3.
    pub min_hits: u32,
    /// Minimum overlap of a match. Default 0.3.
    pub iou_threshold: f32,
    /// Number of frames over which the direction of movement is measured. Default 3.
    pub delta_t: u32,
    /// Weight of the direction of movement relative to the overlap. Default 0.2.
    pub inertia: f32,
    /// Whether detections above `low_thresh`, up to `det_thresh`, are matched second, as in ByteTrack. Default false.
    pub use_byte: bool,
    /// See `use_byte`. Default 0.1.
    pub low_thresh: f32,
    /// Weight of appearance relative to the overlap. Default 0.75, as in Deep OC-SORT.
    pub appearance_weight: f32,
}

impl Default for OcSortOptions {
    fn default() -> Self {
        Self {
            det_thresh: 0.6,
            max_age: 30,
            min_hits: 3,
            iou_threshold: 0.3,
            delta_t: 3,
            inertia: 0.2,
            use_byte: false,
            low_thresh: 0.1,
            appearance_weight: 0.75,
        }
    }
}

/// Variances of a new track's centre, area and aspect ratio, and of the speeds of centre and area.
const FIRST_VARIANCES: [f64; 7] = [10.0, 10.0, 10.0, 10.0, 10_000.0, 10_000.0, 10_000.0];
/// Variances that one frame adds.
const MOTION_VARIANCES: [f64; 7] = [1.0, 1.0, 1.0, 1.0, 0.01, 0.01, 0.0001];
/// Variances of a measurement.
const MEASURED_VARIANCES: [f64; 4] = [1.0, 1.0, 10.0, 10.0];

/// Share of its embedding that a track keeps when it is seen with full confidence.
const KEPT_APPEARANCE: f64 = 0.95;
/// Limit of the additional weight of an appearance that stands out among the others.
const MAX_DISTINCTION: f64 = 0.5;

/// A direction as (down, right).
type Direction = (f64, f64);

/// Direction from the centre of one box to that of another.
fn direction(from: &Corners, to: &Corners) -> Direction {
    let ((x1, y1), (x2, y2)) = (from.center(), to.center());
    let (dx, dy) = (x2 - x1, y2 - y1);
    let norm = dx.hypot(dy) + 1e-6;
    (dy / norm, dx / norm)
}

/// Centre, area, width / height.
fn measured(corners: &Corners) -> [f64; 4] {
    let (x, y) = corners.center();
    [x, y, corners.width() * corners.height(), corners.width() / (corners.height() + 1e-6)]
}

fn corners([x, y, area, ratio]: [f64; 4]) -> Corners {
    let width = (area * ratio).sqrt();
    Corners::from_center((x, y), width, area / width)
}

/// The state of a track before it was lost.
#[derive(Clone, Debug)]
struct Frozen {
    /// The state as predicted for the first frame on which it was not seen.
    filter: Kalman<7>,
    /// The last box seen.
    seen: [f64; 4],
}

#[derive(Clone, Debug)]
struct Track {
    id: u64,
    class: u32,
    filter: Kalman<7>,
    /// The last few boxes, by the update that saw them. The box that began the track is not included.
    seen: BTreeMap<u64, Corners>,
    direction: Option<Direction>,
    frozen: Option<Frozen>,
    /// Frames of each update since the track was last seen.
    steps: Vec<f64>,
    age: u64,
    hit_streak: u32,
    updates_unseen: u32,
    unseen_frames: f64,
    appearance: Option<Appearance>,
}

impl Track {
    fn new(id: u64, observation: &Observation<'_>) -> Self {
        let filter = Kalman::new(measured(&Corners::from(&observation.bbox)), FIRST_VARIANCES);
        Self {
            id,
            class: observation.class,
            filter,
            seen: BTreeMap::new(),
            direction: None,
            frozen: None,
            steps: Vec::new(),
            age: 0,
            hit_streak: 0,
            updates_unseen: 0,
            unseen_frames: 0.0,
            appearance: observation.appearance(),
        }
    }

    fn predict(&mut self, frames: f64) {
        if self.filter.mean[6] * frames + self.filter.mean[2] <= 0.0 {
            self.filter.mean[6] = 0.0;
        }
        self.filter.predict(frames, &MOTION_VARIANCES);
        self.age += 1;
        if self.updates_unseen > 0 {
            self.hit_streak = 0;
        }
        self.updates_unseen += 1;
        self.unseen_frames += frames;
        self.steps.push(frames);
    }

    /// The box seen `delta_t` updates ago, or the next later one, or else the last one seen.
    fn earlier(&self, delta_t: u32) -> Option<&Corners> {
        let ages = (1..=u64::from(delta_t)).rev().filter_map(|ago| self.age.checked_sub(ago));
        ages.filter_map(|age| self.seen.get(&age)).next().or_else(|| self.last_seen())
    }

    fn last_seen(&self) -> Option<&Corners> {
        self.seen.last_key_value().map(|(_, corners)| corners)
    }

    fn see(&mut self, observation: &Observation<'_>, options: &OcSortOptions) {
        let delta_t = options.delta_t;
        let found = Corners::from(&observation.bbox);
        self.direction = self.earlier(delta_t).map(|earlier| direction(earlier, &found)).or(self.direction);
        let measured = measured(&found);
        if let Some(frozen) = self.frozen.take() {
            self.go_back(frozen, measured);
        }
        self.filter.update(&measured, &MEASURED_VARIANCES);
        self.seen.insert(self.age, found);
        while self.seen.len() > delta_t as usize + 1 {
            self.seen.pop_first();
        }
        self.hit_streak += 1;
        (self.updates_unseen, self.unseen_frames) = (0, 0.0);
        self.steps.clear();
        self.follow_appearance(observation, f64::from(options.det_thresh));
    }

    /// The less a detection is trusted, the less it changes the track's appearance.
    fn follow_appearance(&mut self, observation: &Observation<'_>, det_thresh: f64) {
        let trust = ((f64::from(observation.score) - det_thresh) / (1.0 - det_thresh).max(1e-6)).clamp(0.0, 1.0);
        let keep = KEPT_APPEARANCE + (1.0 - KEPT_APPEARANCE) * (1.0 - trust);
        appearance::follow(&mut self.appearance, observation.appearance().as_ref(), keep);
    }

    /// Changes to the coordinates of the next frame of a camera that moves.
    fn move_camera(&mut self, motion: &CameraMotion) {
        let scale = motion.scale();
        let factors = [scale * scale, 1.0];
        self.filter.move_camera(motion, factors);
        self.seen.values_mut().for_each(|corners| *corners = motion.corners(corners));
        self.direction = self.direction.map(|(down, right)| {
            let (right, down) = motion.vector((right, down));
            let norm = right.hypot(down).max(1e-12);
            (down / norm, right / norm)
        });
        if let Some(frozen) = &mut self.frozen {
            frozen.filter.move_camera(motion, factors);
            (frozen.seen[0], frozen.seen[1]) = motion.point((frozen.seen[0], frozen.seen[1]));
            frozen.seen[2] *= factors[0];
        }
    }

    /// Discards the predictions made while the track was lost, and follows a straight path between the two boxes seen instead.
    fn go_back(&mut self, frozen: Frozen, found: [f64; 4]) {
        let size = |[_, _, area, ratio]: [f64; 4]| ((area * ratio).sqrt(), (area / ratio).sqrt());
        let ((width_then, height_then), (width_now, height_now)) = (size(frozen.seen), size(found));
        let mix = |then: f64, now: f64, part: f64| then + (now - then) * part;
        let frames: f64 = self.steps.iter().sum();
        self.filter = frozen.filter;
        let mut passed = 0.0;
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                self.filter.predict(*step, &MOTION_VARIANCES);
            }
            passed += step;
            let part = if frames > 0.0 { passed / frames } else { 1.0 };
            let (width, height) = (mix(width_then, width_now, part), mix(height_then, height_now, part));
            let (x, y) = (mix(frozen.seen[0], found[0], part), mix(frozen.seen[1], found[1], part));
            self.filter.update(&[x, y, width * height, width / height], &MEASURED_VARIANCES);
        }
    }

    fn miss(&mut self) {
        if self.frozen.is_none()
            && let Some(seen) = self.last_seen()
        {
            self.frozen = Some(Frozen { seen: measured(seen), filter: self.filter.clone() });
        }
    }
}

/// OC-SORT for one stream.
///
/// Source: J. Cao et al., Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking, CVPR 2023, and its published
/// program. Each step, cost and constant is the same, except that classes are kept apart. Detections with embeddings are matched as in
/// G. Maggiolino et al., Deep OC-SORT: Multi-Pedestrian Tracking by Adaptive Re-Identification, ICIP 2023: appearance is added to the
/// cost, with more weight where it stands out, and a track's embedding follows detections that are trusted.
#[derive(Clone, Debug)]
pub struct OcSort {
    options: OcSortOptions,
    tracks: Vec<Track>,
    step: u64,
    next_id: u64,
}

impl OcSort {
    /// Creates a tracker without tracks.
    pub fn new(options: OcSortOptions) -> Self {
        Self { options, tracks: Vec::new(), step: 0, next_id: 1 }
    }

    /// Changes the settings from the next frame on.
    pub fn set_options(&mut self, options: OcSortOptions) {
        self.options = options;
    }

    /// Takes the detections of the next frame, `frames` after the previous one. Returns the identity of each, `None` if it has none yet.
    pub fn update(&mut self, observations: &[Observation<'_>], frames: f64) -> Vec<Option<u64>> {
        self.step += 1;
        self.tracks.iter_mut().for_each(|track| track.predict(frames));
        self.tracks.retain(|track| corners(track.filter.ahead(0.0)).is_sound());
        let sound = |index: &usize| observations[*index].is_sound();
        let (det_thresh, low_thresh) = (self.options.det_thresh, self.options.low_thresh);
        let (high, low): (Vec<usize>, Vec<usize>) =
            (0..observations.len()).filter(sound).partition(|&index| observations[index].score > det_thresh);

        let mut matching = Matching { track_of: vec![None; observations.len()], is_taken: vec![false; self.tracks.len()] };
        self.match_by_place_and_direction(&high, observations, &mut matching);
        if self.options.use_byte {
            let low: Vec<usize> = low.into_iter().filter(|&index| observations[index].score > low_thresh).collect();
            self.match_by_overlap(&low, observations, &mut matching, |track| Some(corners(track.filter.ahead(0.0))));
        }
        let left: Vec<usize> = high.iter().copied().filter(|&index| matching.track_of[index].is_none()).collect();
        self.match_by_overlap(&left, observations, &mut matching, |track| track.last_seen().copied());

        for (observation, place) in observations.iter().zip(&matching.track_of) {
            if let Some(track) = place.and_then(|place| self.tracks.get_mut(place)) {
                track.see(observation, &self.options);
            }
        }
        for (track, _) in self.tracks.iter_mut().zip(&matching.is_taken).filter(|(_, taken)| !**taken) {
            track.miss();
        }
        for index in high.into_iter().filter(|&index| matching.track_of[index].is_none()).collect::<Vec<_>>() {
            matching.track_of[index] = Some(self.tracks.len());
            self.tracks.push(Track::new(self.next_id, &observations[index]));
            self.next_id += 1;
        }
        let ids = matching.track_of.iter().map(|place| place.and_then(|place| self.identity(&self.tracks[place]))).collect();
        let max_age = f64::from(self.options.max_age);
        self.tracks.retain(|track| track.unseen_frames <= max_age || track.updates_unseen <= 1);
        ids
    }

    /// The identity of a track that was just seen; `None` until it has enough hits.
    fn identity(&self, track: &Track) -> Option<u64> {
        (track.hit_streak >= self.options.min_hits || self.step <= u64::from(self.options.min_hits)).then_some(track.id)
    }

    /// First round: matches by overlap with the predicted box and by agreement with the track's direction.
    fn match_by_place_and_direction(&self, found: &[usize], observations: &[Observation<'_>], matching: &mut Matching) {
        let predicted: Vec<Corners> = self.tracks.iter().map(|track| corners(track.filter.ahead(0.0))).collect();
        let boxes: Vec<Corners> = found.iter().map(|&index| Corners::from(&observations[index].bbox)).collect();
        let same = |row: usize, column: usize| self.tracks[column].class == observations[found[row]].class;
        let overlaps = Costs::new(
            found.len(),
            self.tracks.len(),
            |row, column| {
                if same(row, column) { boxes[row].iou(&predicted[column]) } else { 0.0 }
            },
        );
        let threshold = f64::from(self.options.iou_threshold);
        let pairs = unambiguous(&overlaps, found.len(), self.tracks.len(), threshold).unwrap_or_else(|| {
            let inertia = f64::from(self.options.inertia);
            let likeness = self.likeness(found, observations, &overlaps);
            let costs = Costs::new(found.len(), self.tracks.len(), |row, column| {
                let score = f64::from(observations[found[row]].score);
                let agreement = agreement(&self.tracks[column], &boxes[row], self.options.delta_t);
                -(overlaps.at(row, column) + inertia * score * agreement + likeness.at(row, column))
            });
            costs.assign_all()
        });
        for (row, column) in pairs {
            if overlaps.at(row, column) >= threshold && same(row, column) {
                matching.pair(found[row], column);
            }
        }
    }

    /// Weighted similarity of detections (rows) and tracks (columns) that overlap; 0 where an embedding is missing.
    ///
    /// The weight grows with the difference between the best and the second best of the row, and of the column.
    fn likeness(&self, found: &[usize], observations: &[Observation<'_>], overlaps: &Costs) -> Costs {
        let (rows, columns) = (found.len(), self.tracks.len());
        let seen: Vec<Option<Appearance>> = found.iter().map(|&index| observations[index].appearance()).collect();
        let cosines = Costs::new(rows, columns, |row, column| match overlaps.at(row, column) {
            overlap if overlap > 0.0 => appearance::similarity(seen[row].as_ref(), self.tracks[column].appearance.as_ref()).unwrap_or(0.0),
            _ => 0.0,
        });
        let of_rows: Vec<f64> = (0..rows).map(|row| distinction((0..columns).map(|column| cosines.at(row, column)))).collect();
        let of_columns: Vec<f64> = (0..columns).map(|column| distinction((0..rows).map(|row| cosines.at(row, column)))).collect();
        let weight = f64::from(self.options.appearance_weight);
        Costs::new(rows, columns, |row, column| {
            let distinction = (of_rows[row] + of_columns[column]) / 2.0;
            if weight > 0.0 { (weight + distinction) * cosines.at(row, column) } else { 0.0 }
        })
    }

    /// Changes to the coordinates of the next frame of a camera that moves.
    pub(super) fn move_camera(&mut self, motion: &CameraMotion) {
        self.tracks.iter_mut().for_each(|track| track.move_camera(motion));
    }

    /// Drops a track, whose object continues as another one.
    pub(super) fn drop_track(&mut self, id: u64) {
        self.tracks.retain(|track| track.id != id);
    }

    /// Later rounds: matches the remaining detections by overlap with a box of each remaining track.
    fn match_by_overlap(
        &self,
        found: &[usize],
        observations: &[Observation<'_>],
        matching: &mut Matching,
        place_of: impl Fn(&Track) -> Option<Corners>,
    ) {
        let left: Vec<usize> = (0..self.tracks.len()).filter(|&place| !matching.is_taken[place]).collect();
        let places: Vec<Option<Corners>> = left.iter().map(|&place| place_of(&self.tracks[place])).collect();
        let overlaps = Costs::new(found.len(), left.len(), |row, column| {
            let observation = &observations[found[row]];
            let same = self.tracks[left[column]].class == observation.class;
            places[column].filter(|_| same).map_or(0.0, |place| -Corners::from(&observation.bbox).iou(&place))
        });
        let threshold = f64::from(self.options.iou_threshold);
        for (row, column) in overlaps.assign_all() {
            let overlap = -overlaps.at(row, column);
            if overlap >= threshold && overlap > 0.0 {
                matching.pair(found[row], left[column]);
            }
        }
    }

    /// All known tracks, predicted for `frames` after the last update.
    pub(super) fn known(&self, frames: f64) -> impl Iterator<Item = super::KnownTrack> + '_ {
        self.tracks.iter().map(move |track| {
            let mut ahead = track.filter.ahead(frames);
            if ahead[2] <= 0.0 {
                ahead[2] = track.filter.mean[2];
            }
            super::KnownTrack { id: track.id, corners: corners(ahead), is_seen: track.updates_unseen == 0, age: track.age }
        })
    }
}

/// The track of each observation, and which tracks are matched.
struct Matching {
    track_of: Vec<Option<usize>>,
    is_taken: Vec<bool>,
}

impl Matching {
    fn pair(&mut self, observation: usize, track: usize) {
        self.track_of[observation] = Some(track);
        self.is_taken[track] = true;
    }
}

/// Returns the pairs that overlap enough, if there are any and no row or column has two of them.
fn unambiguous(overlaps: &Costs, rows: usize, columns: usize, threshold: f64) -> Option<Vec<(usize, usize)>> {
    let mut pairs = Vec::new();
    let mut taken = vec![false; columns];
    for row in 0..rows {
        let mut overlapping = (0..columns).filter(|&column| overlaps.at(row, column) > threshold);
        let Some(column) = overlapping.next() else { continue };
        if overlapping.next().is_some() || std::mem::replace(&mut taken[column], true) {
            return None;
        }
        pairs.push((row, column));
    }
    (!pairs.is_empty()).then_some(pairs)
}

/// How far the best of these similarities is above the second best, up to a limit.
fn distinction(similarities: impl Iterator<Item = f64>) -> f64 {
    let (mut best, mut second, mut count) = (f64::NEG_INFINITY, f64::NEG_INFINITY, 0);
    for value in similarities {
        count += 1;
        (best, second) = if value > best { (value, best) } else { (best, second.max(value)) };
    }
    if count < 2 { 0.0 } else { (best - second).min(MAX_DISTINCTION) }
}

/// How well a box agrees with the direction of a track: 0.5 straight ahead, -0.5 straight back, 0 if no direction is known.
fn agreement(track: &Track, found: &Corners, delta_t: u32) -> f64 {
    let (Some((down, right)), Some(earlier)) = (track.direction, track.earlier(delta_t)) else { return 0.0 };
    let (to_down, to_right) = direction(earlier, found);
    let angle = (down * to_down + right * to_right).clamp(-1.0, 1.0).acos();
    0.5 - angle / std::f64::consts::PI
}
