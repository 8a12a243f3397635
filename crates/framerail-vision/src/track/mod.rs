//! Tracks objects across frames: ByteTrack and OC-SORT, as published.
//!
//! [`Tracker`] works on the detections of one stream, including frames that were not analysed, gaps in time, and cuts. It runs one of
//! two algorithms, [`ByteTrack`] and [`OcSort`], on boxes and, where a model gave them, embeddings of their appearance. Objects that were
//! hidden are found again by appearance. [`CameraMotion`] moves tracks with the camera's image. [`evaluate`] measures identities where the true ones are known.

mod appearance;
mod assignment;
mod boxes;
mod byte_track;
mod camera;
pub mod evaluate;
mod gallery;
mod identities;
mod kalman;
mod oc_sort;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use framerail_core::{AttributeValue, Detection, DetectionOrigin};

use self::{
    appearance::Appearance,
    gallery::{Gallery, Newcomer},
};
pub use self::{
    boxes::Observation,
    byte_track::{ByteTrack, ByteTrackOptions},
    camera::CameraMotion,
    evaluate::{Evaluation, Evaluator, IdentifiedBox},
    identities::{SharedIdentities, SharedOptions},
    oc_sort::{OcSort, OcSortOptions},
};

/// A track as an algorithm reports it.
struct KnownTrack {
    id: u64,
    corners: boxes::Corners,
    /// Whether the last update saw it.
    is_seen: bool,
    /// Updates since the one that began it.
    age: u64,
}

/// The algorithm with its settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrackAlgorithm {
    /// Also matches detections of low score. For detectors whose score falls when objects are partly hidden.
    ByteTrack(ByteTrackOptions),
    /// Uses the direction of movement, and corrects the track after a gap. For objects that turn and hide.
    OcSort(OcSortOptions),
}

impl TrackAlgorithm {
    /// Detections above this score are taken to show the object itself, not what hides it.
    fn trusted_score(&self) -> f32 {
        match self {
            TrackAlgorithm::ByteTrack(options) => options.track_thresh,
            TrackAlgorithm::OcSort(options) => options.det_thresh,
        }
    }
}

/// Options of a [`Tracker`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrackerOptions {
    /// The algorithm.
    pub algorithm: TrackAlgorithm,
    /// Whether objects of different classes may match, for detectors that waver, as between car and van. Default false.
    pub across_classes: bool,
    /// Whether boxes are replaced by those of the tracker's filter: steadier, with a slight lag. For both algorithms. Default false.
    pub filtered_boxes: bool,
    /// Number of frames for which a track that the model no longer finds continues with predicted boxes. Default 0.
    pub coast_frames: u32,
    /// Frames per second of the stream; ByteTrack's `track_buffer` and `reidentify_frames` are scaled by it. Default 30.
    pub frames_per_second: f64,
    /// Whether the first embedding among the attributes of a detection counts as its appearance. Default false.
    pub appearance: bool,
    /// How long an object that is not seen keeps its identity for a new track of the same appearance, in frames at 30 frames/s; 0 for not
    /// at all. With `appearance`. Default 150.
    pub reidentify_frames: u32,
    /// Minimum cosine of two embeddings of the same object, for `reidentify_frames`. Default 0.8, as in N. Wojke et al., Simple Online and
    /// Realtime Tracking with a Deep Association Metric, 2017.
    pub reidentify_similarity: f32,
}

impl Default for TrackerOptions {
    fn default() -> Self {
        Self {
            algorithm: TrackAlgorithm::ByteTrack(ByteTrackOptions::default()),
            across_classes: false,
            filtered_boxes: false,
            coast_frames: 0,
            frames_per_second: 30.0,
            appearance: false,
            reidentify_frames: 150,
            reidentify_similarity: 0.8,
        }
    }
}

/// Counts of a tracker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerStats {
    /// Identities assigned.
    pub tracks_begun: u64,
    /// Identities that ended and will not be assigned again.
    pub tracks_ended: u64,
    /// Detections that were assigned an identity.
    pub detections_tracked: u64,
    /// Detections without an identity: too low a score, or not seen often enough yet.
    pub detections_untracked: u64,
    /// Predicted boxes.
    pub boxes_predicted: u64,
    /// Tracks that got their earlier identity back by their appearance.
    pub reidentified: u64,
}

impl std::ops::AddAssign for TrackerStats {
    fn add_assign(&mut self, other: Self) {
        self.tracks_begun += other.tracks_begun;
        self.tracks_ended += other.tracks_ended;
        self.detections_tracked += other.detections_tracked;
        self.detections_untracked += other.detections_untracked;
        self.boxes_predicted += other.boxes_predicted;
        self.reidentified += other.reidentified;
    }
}

#[derive(Clone, Debug)]
enum Running {
    ByteTrack(ByteTrack),
    OcSort(OcSort),
}

impl Running {
    fn new(options: &TrackerOptions) -> Self {
        match options.algorithm {
            TrackAlgorithm::ByteTrack(settings) => Running::ByteTrack(ByteTrack::new(settings, options.frames_per_second)),
            TrackAlgorithm::OcSort(settings) => Running::OcSort(OcSort::new(settings)),
        }
    }

    fn update(&mut self, observations: &[Observation<'_>], frames: f64) -> Vec<Option<u64>> {
        match self {
            Running::ByteTrack(tracker) => tracker.update(observations, frames),
            Running::OcSort(tracker) => tracker.update(observations, frames),
        }
    }

    fn move_camera(&mut self, motion: &CameraMotion) {
        match self {
            Running::ByteTrack(tracker) => tracker.move_camera(motion),
            Running::OcSort(tracker) => tracker.move_camera(motion),
        }
    }

    fn drop_track(&mut self, id: u64) {
        match self {
            Running::ByteTrack(tracker) => tracker.drop_track(id),
            Running::OcSort(tracker) => tracker.drop_track(id),
        }
    }

    fn known(&self, frames: f64) -> Vec<KnownTrack> {
        match self {
            Running::ByteTrack(tracker) => tracker.known(frames).collect(),
            Running::OcSort(tracker) => tracker.known(frames).collect(),
        }
    }
}

/// An object with an identity.
#[derive(Clone, Debug)]
struct Thing {
    /// Its last detection, with its identity.
    last: Detection,
    /// Frames since then.
    unseen_frames: f64,
    /// Updates since then.
    unseen_updates: u64,
    /// Smoothed over its detections.
    appearance: Option<Appearance>,
}

/// Share of its embedding that an object keeps when it is seen.
const KEPT_APPEARANCE: f64 = 0.9;

/// Assigns identities to the detections of one stream, and predicts boxes for frames that were not analysed.
#[derive(Clone, Debug)]
pub struct Tracker {
    options: TrackerOptions,
    running: Running,
    /// By the algorithm's track number.
    things: BTreeMap<u64, Thing>,
    /// Objects whose tracks have ended.
    gallery: Gallery,
    /// Frames since the algorithm's last update.
    waited_frames: f64,
    next_id: u64,
    stats: TrackerStats,
}

impl Tracker {
    /// Creates a tracker without tracks.
    pub fn new(options: TrackerOptions) -> Self {
        let running = Running::new(&options);
        let (things, gallery) = (BTreeMap::new(), Gallery::default());
        Self { options, running, things, gallery, waited_frames: 0.0, next_id: 1, stats: TrackerStats::default() }
    }

    /// Changes the algorithm's settings from the next frame on; tracks are kept. A different algorithm is ignored.
    pub fn set_algorithm(&mut self, algorithm: TrackAlgorithm) {
        match (&mut self.running, algorithm) {
            (Running::ByteTrack(tracker), TrackAlgorithm::ByteTrack(options)) => {
                tracker.set_options(options, self.options.frames_per_second)
            }
            (Running::OcSort(tracker), TrackAlgorithm::OcSort(options)) => tracker.set_options(options),
            _ => return,
        }
        self.options.algorithm = algorithm;
    }

    /// Sets `track_id` on the detections of the next frame. `frames` is the time since the previous frame, in frames at the stream's
    /// rate, above 0. Detections without an identity are kept. With `coast_frames`, predicted boxes of objects that were not found are
    /// added (`Held`).
    pub fn track(&mut self, detections: &mut Vec<Detection>, frames: f64) {
        let frames = sound_frames(frames);
        let observations: Vec<Observation<'_>> = detections.iter().map(|detection| self.observation(detection)).collect();
        let ids = self.running.update(&observations, self.waited_frames + frames);
        self.waited_frames = 0.0;
        self.wait(frames);
        self.things.values_mut().for_each(|thing| thing.unseen_updates += 1);
        self.gallery.update();
        let mut known = self.running.known(0.0);
        self.end_all_but(&known.iter().map(|track| track.id).collect());
        self.find_again(detections, &ids, &mut known);
        for (detection, id) in detections.iter_mut().zip(ids) {
            detection.track_id = id.map(|id| self.see(id, detection));
            match detection.track_id {
                Some(_) => self.stats.detections_tracked += 1,
                None => self.stats.detections_untracked += 1,
            }
        }
        if self.options.filtered_boxes {
            self.take_filtered_boxes(detections, &known);
        }
        let unseen: Vec<KnownTrack> = known.into_iter().filter(|track| !track.is_seen).collect();
        detections.extend(self.predicted(&unseen, 0.0));
    }

    /// Advances to the next frame, which was not analysed.
    pub fn skip(&mut self, frames: f64) {
        let frames = sound_frames(frames);
        self.waited_frames += frames;
        self.wait(frames);
    }

    /// Moves all tracks to the coordinates of the next frame, as estimated from the image ([`crate::CameraMotionEstimator`]). Called before
    /// that frame's [`Tracker::track`], [`Tracker::skip`] or [`Tracker::predict`].
    pub fn move_camera(&mut self, motion: &CameraMotion) {
        self.running.move_camera(motion);
    }

    /// Like [`Tracker::skip`], and returns predicted boxes (`Held`) for that frame: of every object that was seen on the last analysed
    /// frame, or within `coast_frames`.
    pub fn predict(&mut self, frames: f64) -> Vec<Detection> {
        self.skip(frames);
        let known = self.running.known(self.waited_frames);
        self.predicted(&known, self.waited_frames)
    }

    /// Ends every track, as after a cut or at the end of a stream.
    pub fn forget(&mut self) {
        self.end_all_but(&BTreeSet::new());
        self.stats.tracks_ended += self.gallery.clear();
        self.running = Running::new(&self.options);
        self.waited_frames = 0.0;
    }

    /// The counts so far.
    pub fn stats(&self) -> TrackerStats {
        self.stats
    }

    fn observation<'a>(&self, detection: &'a Detection) -> Observation<'a> {
        let class = if self.options.across_classes { 0 } else { detection.label.id };
        Observation { bbox: detection.bbox, score: detection.score, class, embedding: self.embedding(detection) }
    }

    fn embedding<'a>(&self, detection: &'a Detection) -> Option<&'a [f32]> {
        let embedding = |value: &'a AttributeValue| match value {
            AttributeValue::Embedding(embedding) => Some(&embedding[..]),
            _ => None,
        };
        detection.attributes.iter().filter(|_| self.options.appearance).find_map(|attribute| embedding(&attribute.value))
    }

    /// Lets time pass for objects that are not seen.
    fn wait(&mut self, frames: f64) {
        self.things.values_mut().for_each(|thing| thing.unseen_frames += frames);
        let limit = self.reidentify_frames();
        self.stats.tracks_ended += self.gallery.wait(frames, limit);
    }

    /// Frames for which an identity can be given again.
    fn reidentify_frames(&self) -> f64 {
        let frames = if self.options.appearance { f64::from(self.options.reidentify_frames) } else { 0.0 };
        frames * self.options.frames_per_second / 30.0
    }

    /// Gives new tracks the identities of objects of the same appearance that are not seen now.
    fn find_again(&mut self, detections: &[Detection], ids: &[Option<u64>], known: &mut Vec<KnownTrack>) {
        let limit = self.reidentify_frames();
        let ages: BTreeMap<u64, u64> = known.iter().map(|track| (track.id, track.age)).collect();
        let newcomer = |(detection, id): (&Detection, &Option<u64>)| {
            let id = id.filter(|id| limit > 0.0 && !self.things.contains_key(id))?;
            let appearance = Some(self.embedding(detection).and_then(Appearance::new)?);
            let thing = Thing { last: detection.clone(), unseen_frames: 0.0, unseen_updates: 0, appearance };
            Some(Newcomer { id, thing, age: *ages.get(&id)? })
        };
        let newcomers: Vec<Newcomer> = detections.iter().zip(ids).filter_map(newcomer).collect();
        if newcomers.is_empty() {
            return;
        }
        // Some that are seen have no identity on this frame.
        let seen: BTreeSet<u64> = known.iter().filter(|track| track.is_seen).map(|track| track.id).collect();
        let lost = self.things.iter().filter(|(id, thing)| !seen.contains(id) && thing.unseen_frames <= limit).map(|(_, thing)| thing);
        let candidates: Vec<&Thing> = lost.chain(self.gallery.things()).collect();
        let pairs = gallery::pairs(&newcomers, &candidates, self.options.reidentify_similarity.into(), self.options.across_classes);
        let found: Vec<(u64, Option<u64>)> =
            pairs.into_iter().map(|(row, column)| (newcomers[row].id, candidates[column].last.track_id)).collect();
        for (id, track_id) in found {
            let Some(thing) = track_id.and_then(|track_id| self.take_unseen(track_id, known)) else { continue };
            self.things.insert(id, thing);
            self.stats.reidentified += 1;
        }
    }

    /// Takes an object that is not seen from the tracks or the gallery.
    fn take_unseen(&mut self, track_id: u64, known: &mut Vec<KnownTrack>) -> Option<Thing> {
        let lost = self.things.iter().find(|(_, thing)| thing.last.track_id == Some(track_id)).map(|(id, _)| *id);
        let Some(id) = lost else { return self.gallery.take(track_id) };
        self.running.drop_track(id);
        known.retain(|track| track.id != id);
        self.things.remove(&id)
    }

    /// Remembers a detection of a track. Returns its public identity; these count from 1.
    fn see(&mut self, id: u64, detection: &Detection) -> u64 {
        let known = self.things.get(&id).and_then(|thing| thing.last.track_id);
        let track_id = known.unwrap_or_else(|| {
            self.stats.tracks_begun += 1;
            let track_id = self.next_id;
            self.next_id += 1;
            track_id
        });
        let last = Detection { track_id: Some(track_id), ..detection.clone() };
        let mut appearance = self.things.remove(&id).and_then(|thing| thing.appearance);
        let seen = self.embedding(detection).filter(|_| detection.score > self.options.algorithm.trusted_score());
        appearance::follow(&mut appearance, seen.and_then(Appearance::new).as_ref(), KEPT_APPEARANCE);
        self.things.insert(id, Thing { last, unseen_frames: 0.0, unseen_updates: 0, appearance });
        track_id
    }

    fn end_all_but(&mut self, alive: &BTreeSet<u64>) {
        let limit = self.reidentify_frames();
        let ended: Vec<u64> = self.things.keys().filter(|id| !alive.contains(id)).copied().collect();
        for thing in ended.iter().filter_map(|id| self.things.remove(id)).collect::<Vec<_>>() {
            let is_kept = thing.appearance.is_some() && thing.unseen_frames <= limit;
            self.stats.tracks_ended += if is_kept { self.gallery.keep(thing) } else { 1 };
        }
    }

    fn take_filtered_boxes(&mut self, detections: &mut [Detection], known: &[KnownTrack]) {
        for track in known.iter().filter(|track| track.corners.is_sound()) {
            let Some(thing) = self.things.get_mut(&track.id).filter(|thing| thing.unseen_frames == 0.0) else { continue };
            thing.last = thing.last.moved_to(track.corners.to_bbox());
            if let Some(detection) = detections.iter_mut().find(|detection| detection.track_id == thing.last.track_id) {
                *detection = thing.last.clone();
            }
        }
    }

    /// Predicted boxes of these tracks, `waited` frames after the last update.
    fn predicted(&mut self, tracks: &[KnownTrack], waited: f64) -> Vec<Detection> {
        let coast = f64::from(self.options.coast_frames);
        let mut predicted = Vec::new();
        for track in tracks.iter().filter(|track| track.corners.is_sound()) {
            let Some(thing) = self.things.get(&track.id) else { continue };
            // Between two analysed frames, every object continues that was seen on the first of them.
            let was_seen_last = waited > 0.0 && thing.unseen_frames <= waited;
            if was_seen_last || thing.unseen_frames <= coast {
                predicted.push(Detection { origin: DetectionOrigin::Held, ..thing.last.moved_to(track.corners.to_bbox()) });
            }
        }
        self.stats.boxes_predicted += predicted.len() as u64;
        predicted
    }
}

/// Time steps that are not above 0 count as one frame.
fn sound_frames(frames: f64) -> f64 {
    if frames.is_finite() && frames > 0.0 { frames } else { 1.0 }
}
