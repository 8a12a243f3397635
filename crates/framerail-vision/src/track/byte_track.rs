//! ByteTrack: matches detections of low score too, to existing tracks.

use super::{
    appearance::{self, Appearance},
    assignment::Costs,
    boxes::{Corners, Observation},
    camera::CameraMotion,
    kalman::Kalman,
};

/// Settings of ByteTrack; defaults as published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ByteTrackOptions {
    /// Detections above this score are matched first, to every confirmed track. Default 0.6.
    pub track_thresh: f32,
    /// Detections above this score, up to `track_thresh`, are matched second, to tracks seen on the previous frame. Default 0.1.
    pub low_thresh: f32,
    /// Minimum score at which a new track begins. Default 0.7.
    pub new_thresh: f32,
    /// Maximum cost, `1 - IoU * score`, of a first match. Default 0.8.
    pub match_thresh: f32,
    /// How long an unseen track can be found again, in frames at 30 frames/s. Default 30.
    pub track_buffer: u32,
    /// Maximum distance of embeddings, half of 1 - cosine, at which appearance counts. Default 0.25, as in BoT-SORT.
    pub appearance_thresh: f32,
    /// Maximum `1 - IoU` at which appearance counts. Default 0.5, as in BoT-SORT.
    pub proximity_thresh: f32,
}

impl Default for ByteTrackOptions {
    fn default() -> Self {
        Self {
            track_thresh: 0.6,
            low_thresh: 0.1,
            new_thresh: 0.7,
            match_thresh: 0.8,
            track_buffer: 30,
            appearance_thresh: 0.25,
            proximity_thresh: 0.5,
        }
    }
}

/// Maximum cost, `1 - IoU`, of a second match.
const SECOND_MATCH_COST: f64 = 0.5;

/// Maximum cost of a match with a track that was seen once.
const UNCONFIRMED_MATCH_COST: f64 = 0.7;

/// Share of its embedding that a track keeps when it is seen.
const KEPT_APPEARANCE: f64 = 0.9;

/// Tracks that overlap by more than this are duplicates.
const DUPLICATE_IOU: f64 = 0.85;

/// Standard deviations relative to the box's height: of position and size, and of their speed per frame.
const PLACE_DEVIATION: f64 = 1.0 / 20.0;
const SPEED_DEVIATION: f64 = 1.0 / 160.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Seen once; dropped unless the next update sees it again.
    Unconfirmed,
    Tracked,
    Lost,
}

#[derive(Clone, Debug)]
struct Track {
    id: u64,
    class: u32,
    state: State,
    /// Centre, width / height, height.
    filter: Kalman<8>,
    began: u64,
    seen: u64,
    /// Frames since it was seen.
    unseen_frames: f64,
    appearance: Option<Appearance>,
}

/// A detection as it is matched.
struct Found<'a> {
    observation: &'a Observation<'a>,
    appearance: Option<Appearance>,
}

/// How a round of matching compares tracks with detections.
#[derive(Clone, Copy)]
struct Round {
    /// Maximum cost of a match.
    limit: f64,
    /// Whether scores and appearance count.
    is_high: bool,
}

/// Centre, width / height, and height of a box.
fn measured(observation: &Observation<'_>) -> [f64; 4] {
    let corners = Corners::from(&observation.bbox);
    let (x, y) = corners.center();
    [x, y, corners.width() / corners.height(), corners.height()]
}

fn corners([x, y, ratio, height]: [f64; 4]) -> Corners {
    Corners::from_center((x, y), ratio * height, height)
}

/// Overlap of boxes whose right and bottom edge pixels belong to them, as the published program counts.
fn overlap(a: &Corners, b: &Corners) -> f64 {
    let whole = |corners: &Corners| Corners { x2: corners.x2 + 1.0, y2: corners.y2 + 1.0, ..*corners };
    whole(a).iou(&whole(b))
}

impl Track {
    fn new(id: u64, found: &Found<'_>, step: u64, state: State) -> Self {
        let observation = found.observation;
        let measured = measured(observation);
        let (place, speed) = (2.0 * PLACE_DEVIATION * measured[3], 10.0 * SPEED_DEVIATION * measured[3]);
        let deviations = [place, place, 1e-2, place, speed, speed, 1e-5, speed];
        let filter = Kalman::new(measured, deviations.map(|deviation| deviation * deviation));
        let appearance = found.appearance.clone();
        Self { id, class: observation.class, state, filter, began: step, seen: step, unseen_frames: 0.0, appearance }
    }

    fn corners(&self) -> Corners {
        corners(self.filter.ahead(0.0))
    }

    fn predict(&mut self, frames: f64) {
        if self.state == State::Lost {
            // A box that is not seen keeps its height.
            self.filter.mean[7] = 0.0;
        }
        let (place, speed) = (PLACE_DEVIATION * self.filter.mean[3], SPEED_DEVIATION * self.filter.mean[3]);
        let deviations = [place, place, 1e-2, place, speed, speed, 1e-5, speed];
        self.filter.predict(frames, &deviations.map(|deviation| deviation * deviation));
    }

    fn see(&mut self, found: &Found<'_>, step: u64, is_high: bool) {
        let place = PLACE_DEVIATION * self.filter.mean[3];
        let deviations = [place, place, 1e-1, place];
        self.filter.update(&measured(found.observation), &deviations.map(|deviation| deviation * deviation));
        (self.state, self.seen, self.unseen_frames) = (State::Tracked, step, 0.0);
        // A low score means that the object is hidden in part: its embedding is that of something else.
        if is_high {
            appearance::follow(&mut self.appearance, found.appearance.as_ref(), KEPT_APPEARANCE);
        }
    }

    fn iou(&self, observation: &Observation<'_>) -> f64 {
        if self.class == observation.class { overlap(&self.corners(), &Corners::from(&observation.bbox)) } else { 0.0 }
    }
}

fn patience(options: &ByteTrackOptions, frames_per_second: f64) -> f64 {
    (frames_per_second / 30.0 * f64::from(options.track_buffer)).floor()
}

/// ByteTrack for one stream.
///
/// Source: Y. Zhang et al., ByteTrack: Multi-Object Tracking by Associating Every Detection Box, ECCV 2022, and its published program.
/// Each step, cost and constant is the same, except that classes are kept apart. Detections with embeddings are matched as in
/// N. Aharon et al., BoT-SORT: Robust Associations Multi-Pedestrian Tracking, 2022: the cost of a first match is the smaller one of
/// overlap and appearance, where both are near enough.
#[derive(Clone, Debug)]
pub struct ByteTrack {
    options: ByteTrackOptions,
    /// Frames that a track may stay unseen.
    patience_frames: f64,
    tracks: Vec<Track>,
    step: u64,
    next_id: u64,
}

impl ByteTrack {
    /// Creates a tracker without tracks, for frames at this rate.
    pub fn new(options: ByteTrackOptions, frames_per_second: f64) -> Self {
        Self { options, patience_frames: patience(&options, frames_per_second), tracks: Vec::new(), step: 0, next_id: 1 }
    }

    /// Changes the settings from the next frame on.
    pub fn set_options(&mut self, options: ByteTrackOptions, frames_per_second: f64) {
        (self.options, self.patience_frames) = (options, patience(&options, frames_per_second));
    }

    /// Takes the detections of the next frame, `frames` after the previous one. Returns the identity of each, `None` if it has none yet.
    pub fn update(&mut self, observations: &[Observation<'_>], frames: f64) -> Vec<Option<u64>> {
        self.step += 1;
        let mut ids = vec![None; observations.len()];
        for track in &mut self.tracks {
            track.unseen_frames += frames;
            if track.state != State::Unconfirmed {
                track.predict(frames);
            }
        }
        let found: Vec<Found<'_>> =
            observations.iter().map(|observation| Found { observation, appearance: observation.appearance() }).collect();
        let sound = |index: &usize| observations[*index].is_sound();
        let (track_thresh, low_thresh) = (self.options.track_thresh, self.options.low_thresh);
        let (high, low): (Vec<usize>, Vec<usize>) =
            (0..observations.len()).filter(sound).partition(|&index| observations[index].score > track_thresh);
        let low: Vec<usize> = low.into_iter().filter(|&index| observations[index].score > low_thresh).collect();

        let pool = self.places(|track| track.state != State::Unconfirmed);
        let first = Round { limit: f64::from(self.options.match_thresh), is_high: true };
        let (pool, high) = self.matched(&pool, &high, &found, first, &mut ids);
        let seen_before: Vec<usize> = pool.into_iter().filter(|&place| self.tracks[place].state == State::Tracked).collect();
        let (gone, _) = self.matched(&seen_before, &low, &found, Round { limit: SECOND_MATCH_COST, is_high: false }, &mut ids);
        for place in gone {
            self.tracks[place].state = State::Lost;
        }
        let unconfirmed = self.places(|track| track.state == State::Unconfirmed);
        let (_, high) = self.matched(&unconfirmed, &high, &found, Round { limit: UNCONFIRMED_MATCH_COST, is_high: true }, &mut ids);

        let (step, patience) = (self.step, self.patience_frames);
        self.tracks.retain(|track| match track.state {
            State::Unconfirmed => false,
            State::Tracked => true,
            // The published program tries to match a track once more after giving it up.
            State::Lost => track.unseen_frames <= patience + 1.0 || track.seen + 1 == step,
        });
        for index in high.into_iter().filter(|&index| observations[index].score >= self.options.new_thresh) {
            // On the first frame there is nothing to confirm.
            let state = if step == 1 { State::Tracked } else { State::Unconfirmed };
            ids[index] = (state == State::Tracked).then_some(self.next_id);
            self.tracks.push(Track::new(self.next_id, &found[index], step, state));
            self.next_id += 1;
        }
        self.drop_duplicates(&mut ids);
        ids
    }

    /// Changes to the coordinates of the next frame of a camera that moves.
    pub(super) fn move_camera(&mut self, motion: &CameraMotion) {
        for track in &mut self.tracks {
            track.filter.move_camera(motion, [1.0, motion.scale()]);
        }
    }

    /// Drops a track, whose object continues as another one.
    pub(super) fn drop_track(&mut self, id: u64) {
        self.tracks.retain(|track| track.id != id);
    }

    fn cost(&self, track: &Track, found: &Found<'_>, round: Round) -> f64 {
        let iou = track.iou(found.observation);
        if !round.is_high {
            return 1.0 - iou;
        }
        let by_place = 1.0 - iou * f64::from(found.observation.score);
        let distance = appearance::similarity(track.appearance.as_ref(), found.appearance.as_ref()).map(|cosine| (1.0 - cosine) / 2.0);
        match distance {
            Some(distance)
                if distance <= f64::from(self.options.appearance_thresh) && 1.0 - iou <= f64::from(self.options.proximity_thresh) =>
            {
                by_place.min(distance)
            }
            _ => by_place,
        }
    }

    fn places(&self, wanted: impl Fn(&Track) -> bool) -> Vec<usize> {
        (0..self.tracks.len()).filter(|&place| wanted(&self.tracks[place])).collect()
    }

    /// Matches tracks with detections, both given by index, and returns those that are left.
    fn matched(
        &mut self,
        tracks: &[usize],
        places: &[usize],
        found: &[Found<'_>],
        round: Round,
        ids: &mut [Option<u64>],
    ) -> (Vec<usize>, Vec<usize>) {
        let costs =
            Costs::new(tracks.len(), places.len(), |row, column| self.cost(&self.tracks[tracks[row]], &found[places[column]], round));
        let (mut tracks_left, mut found_left) = (vec![true; tracks.len()], vec![true; places.len()]);
        for (row, column) in costs.assign_below(round.limit) {
            (tracks_left[row], found_left[column]) = (false, false);
            let track = &mut self.tracks[tracks[row]];
            track.see(&found[places[column]], self.step, round.is_high);
            ids[places[column]] = Some(track.id);
        }
        let left =
            |places: &[usize], is_left: Vec<bool>| places.iter().zip(is_left).filter_map(|(place, left)| left.then_some(*place)).collect();
        (left(tracks, tracks_left), left(places, found_left))
    }

    /// Of a seen and a lost track in the same place, keeps the one that was followed longer.
    fn drop_duplicates(&mut self, ids: &mut [Option<u64>]) {
        let mut dropped = Vec::new();
        for seen in self.tracks.iter().filter(|track| track.state != State::Lost) {
            for lost in self.tracks.iter().filter(|track| track.state == State::Lost && track.class == seen.class) {
                if overlap(&seen.corners(), &lost.corners()) > DUPLICATE_IOU {
                    let seen_is_longer = seen.seen - seen.began > lost.seen - lost.began;
                    dropped.push(if seen_is_longer { lost.id } else { seen.id });
                }
            }
        }
        self.tracks.retain(|track| !dropped.contains(&track.id));
        for id in ids.iter_mut() {
            *id = id.filter(|id| !dropped.contains(id));
        }
    }

    /// All known tracks, predicted for `frames` after the last update.
    pub(super) fn known(&self, frames: f64) -> impl Iterator<Item = super::KnownTrack> + '_ {
        self.tracks.iter().map(move |track| {
            let mut ahead = track.filter.ahead(frames);
            if track.state == State::Lost {
                ahead[3] = track.filter.mean[3];
            }
            let (is_seen, age) = (track.seen == self.step, self.step - track.began);
            super::KnownTrack { id: track.id, corners: corners(ahead), is_seen, age }
        })
    }
}
