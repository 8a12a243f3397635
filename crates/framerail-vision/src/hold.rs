//! Keeps track of faces that a detector loses for a while: fills gaps between, before and after sightings.

mod sightings;

use std::collections::{BTreeMap, VecDeque};

use framerail_core::{Detection, DetectionOrigin, HostSurface};

use self::sightings::{Sighting, fill, is_weak, speed};
use crate::{
    follow::Follower,
    link::{Linker, LinkerOptions, shifted},
};

/// A held box grows by this fraction of its size per second since (or until) its sighting, as the object may have moved.
pub const HELD_GROWTH_PER_SEC: f32 = 0.5;

/// A followed box grows by the same per second since its last sighting, up to this factor.
const MAX_FOLLOWED_GROWTH: f32 = 1.5;

/// Sightings that an object needs before it is followed by its appearance, and the score that one of them needs: false detections
/// are rarely steady, and would be carried far.
const FOLLOWED_SIGHTINGS: u32 = 5;
const FOLLOWED_SCORE: f32 = 0.3;

/// Overlap with another box at which an object is no longer followed: that box covers it.
const COVERED_IOU: f32 = 0.3;

/// Options of a [`HoldBuffer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HoldOptions {
    /// Frames before and after a sighting that it covers, and the longest gap between two sightings that is filled. Default 8. With 0,
    /// only frames that were not analysed are filled.
    pub hold_frames: u32,
    /// Seconds between frames, for growth and speed. Default 0.04.
    pub frame_secs: f32,
    /// Minimum score of a detection that counts. Lower ones only continue an object with a sighting that counts, and are dropped
    /// elsewhere. Default 0: all count. A detector that loses a face often still finds it with a low score, so its position is known.
    pub start_score: f32,
    /// Score below which a detection that is alone within its reach is [weak](Self::weak_frames). Default 0: none are.
    pub weak_score: f32,
    /// Frames that a weak detection reaches: at least [`HoldOptions::max_unanalysed_frames`], at most as many as others reach. False
    /// positives are often weak: detected once, with a low score.
    pub weak_frames: u32,
    /// Frames for which an object that is no longer detected is followed by its appearance ([`Follower`]), if it was detected in five
    /// frames and once with a score of 0.3 or more. Needs [`HoldBuffer::push_on`]. Default 0: not at all.
    pub follow_frames: u32,
    /// Maximum number of consecutive frames that are not analysed (with detection on every third frame: 2). The reach is never shorter.
    pub max_unanalysed_frames: u32,
    /// Whether boxes are held across a cut. Default true: a flash looks like a cut, and a face must not show in it.
    /// Boxes are never interpolated across a cut.
    pub hold_across_cuts: bool,
    /// Whether detections keep the identity that they came with; filled-in boxes then take it over. By default, the buffer assigns
    /// identities. Gaps are always filled by position, because faces without an identity must be covered too.
    pub keep_identities: bool,
}

impl Default for HoldOptions {
    fn default() -> Self {
        Self {
            hold_frames: 8,
            frame_secs: 0.04,
            start_score: 0.0,
            weak_score: 0.0,
            weak_frames: 0,
            follow_frames: 0,
            max_unanalysed_frames: 0,
            hold_across_cuts: true,
            keep_identities: false,
        }
    }
}

impl HoldOptions {
    /// Number of frames that a sighting reaches, which is also the delay of the output.
    pub fn delay_frames(&self) -> u64 {
        u64::from(self.hold_frames.max(self.max_unanalysed_frames))
    }

    /// Number of frames that a weak sighting reaches.
    fn weak_reach(&self) -> u64 {
        u64::from(self.weak_frames.max(self.max_unanalysed_frames)).min(self.delay_frames())
    }
}

/// Counts of filled-in boxes and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldStats {
    /// Frames returned.
    pub frames: u64,
    /// Frames among them that were not analysed.
    pub frames_unanalysed: u64,
    /// Frames with at least one filled-in box.
    pub frames_filled: u64,
    /// Filled runs of frames between two sightings of one face.
    pub gaps_filled: u64,
    /// Boxes interpolated between two sightings.
    pub interpolated: u64,
    /// Boxes held from an earlier or later sighting.
    pub held: u64,
    /// Weak sightings, which have a shorter reach.
    pub weak: u64,
    /// Boxes of objects that were followed by their appearance; not among `held`.
    pub followed: u64,
    /// Detections below `start_score` that continued an object.
    pub continued: u64,
    /// Detections below `start_score` that continued no object and were dropped.
    pub dropped: u64,
}

/// A frame's detections and state, as input to [`HoldBuffer::push`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HoldInput {
    /// The model's detections; empty when it did not run.
    pub detections: Vec<Detection>,
    /// Whether the model ran on the frame.
    pub analysed: bool,
    /// Whether the frame starts a new scene.
    pub scene_changed: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    payload: T,
    input: HoldInput,
    /// The identity to which each detection was linked.
    linked: Vec<Option<u64>>,
    scene: u64,
}

/// An object that is followed.
#[derive(Debug, Default)]
struct Followed {
    /// Oldest first.
    sightings: VecDeque<Sighting>,
    /// Whether any sighting reached `start_score`.
    counts: bool,
    /// Detections so far, the highest score among them, and the frame of the last one.
    detected: u32,
    best_score: f32,
    last_detected: u64,
}

impl Followed {
    fn see(&mut self, sighting: Sighting, start_score: f32) {
        self.counts |= sighting.detection.score >= start_score;
        self.detected += 1;
        self.best_score = self.best_score.max(sighting.detection.score);
        self.last_detected = sighting.frame;
        self.sightings.push_back(sighting);
    }

    /// Whether this is an object and no false detection.
    fn is_certain(&self) -> bool {
        self.counts && self.detected >= FOLLOWED_SIGHTINGS && self.best_score >= FOLLOWED_SCORE
    }
}

/// Delays frames by [`HoldOptions::delay_frames`] and fills in missing detections.
///
/// Every frame within reach of a sighting of a face, before or after it, is returned with a box for that face. The reach is
/// [`HoldOptions::delay_frames`], or less for weak sightings. Between two sightings with at most that many missing frames, box and
/// landmarks are interpolated (`Interpolated`). Elsewhere, the nearest sightings are carried over (`Held`): the box is joined with its
/// position at the last known speed (at most one box size away) and grown by [`HELD_GROWTH_PER_SEC`]. The
/// attributes of the nearest sighting are copied, with masks and landmarks stretched with the box. Boxes may extend beyond the frame;
/// masks are clipped to it.
#[derive(Debug)]
pub struct HoldBuffer<T> {
    options: HoldOptions,
    linker: Linker,
    follower: Follower,
    waiting: VecDeque<Waiting<T>>,
    tracks: BTreeMap<u64, Followed>,
    /// Number of the oldest waiting frame.
    oldest: u64,
    scene: u64,
    stats: HoldStats,
}

impl<T> HoldBuffer<T> {
    /// Creates an empty buffer.
    pub fn new(options: HoldOptions) -> Self {
        let max_gap_frames = 2 * options.delay_frames() + 1;
        let linker = Linker::new(LinkerOptions { max_gap_frames, frame_secs: options.frame_secs, ..Default::default() });
        let (waiting, tracks) = (VecDeque::new(), BTreeMap::new());
        Self { options, linker, follower: Follower::default(), waiting, tracks, oldest: 0, scene: 0, stats: HoldStats::default() }
    }

    /// Adds the next frame. Returns the frames whose detections are settled, in order: at most one, [`HoldOptions::delay_frames`] late.
    pub fn push(&mut self, payload: T, input: HoldInput) -> Vec<(T, Vec<Detection>)> {
        self.push_on(None, payload, input)
    }

    /// Like [`HoldBuffer::push`], with the frame's pixels, in which objects that are no longer detected are followed.
    pub fn push_on(&mut self, surface: Option<&HostSurface>, payload: T, mut input: HoldInput) -> Vec<(T, Vec<Detection>)> {
        let frame = self.oldest + self.waiting.len() as u64;
        if input.scene_changed {
            self.scene += 1;
            self.linker.forget();
        }
        let given: Vec<Option<u64>> = input.detections.iter().map(|detection| detection.track_id).collect();
        self.linker.link(frame, &mut input.detections);
        let mut links = Vec::with_capacity(input.detections.len());
        for (detection, given) in input.detections.iter_mut().zip(given) {
            let linked = detection.track_id;
            links.push(linked);
            if self.options.keep_identities {
                detection.track_id = given;
            }
            if let Some(id) = linked.filter(|_| detection.bbox.is_finite()) {
                let sighting = Sighting { frame, scene: self.scene, detection: detection.clone(), is_followed: false };
                self.tracks.entry(id).or_default().see(sighting, self.options.start_score);
            }
        }
        if let Some(surface) = surface.filter(|_| self.options.follow_frames > 0 && input.analysed) {
            let found = self.follow(surface, frame, &input.detections);
            links.extend(found.iter().map(|(id, _)| Some(*id)));
            input.detections.extend(found.into_iter().map(|(_, detection)| detection));
        }
        self.waiting.push_back(Waiting { payload, input, linked: links, scene: self.scene });
        let ready = (self.waiting.len() as u64).saturating_sub(self.options.delay_frames()) as usize;
        (0..ready).filter_map(|_| self.settle()).collect()
    }

    /// Looks for the objects that were not detected in this frame.
    fn follow(&mut self, surface: &HostSurface, frame: u64, detections: &[Detection]) -> Vec<(u64, Detection)> {
        let mut found: Vec<(u64, Detection)> = Vec::new();
        self.follower.retain(|id| self.tracks.contains_key(&id));
        for (id, followed) in self.tracks.iter_mut().filter(|(_, followed)| followed.is_certain()) {
            let Some(last) = followed.sightings.back() else { continue };
            if last.frame == frame {
                self.follower.see(*id, surface, &last.detection.bbox);
                continue;
            }
            if last.scene != self.scene || frame - followed.last_detected > u64::from(self.options.follow_frames) {
                continue;
            }
            let frames = (frame - last.frame) as f32;
            let speed = speed(followed.sightings.iter().rev(), self.options.delay_frames());
            let guess = shifted(&last.detection.bbox, speed.x * frames, speed.y * frames);
            let Some(bbox) = self.follower.follow(*id, surface, &guess) else { continue };
            let mut others = detections.iter().chain(found.iter().map(|(_, found)| found));
            if others.any(|other| other.bbox.iou(&bbox) > COVERED_IOU) {
                continue;
            }
            let detection = Detection { origin: DetectionOrigin::Held, ..last.detection.moved_to(bbox) };
            self.linker.place(*id, frame, &bbox);
            let secs = (frame - followed.last_detected) as f32 * self.options.frame_secs;
            let grown = bbox.scaled((1.0 + HELD_GROWTH_PER_SEC * secs).min(MAX_FOLLOWED_GROWTH));
            found.push((*id, detection.moved_to(grown)));
            followed.sightings.push_back(Sighting { frame, scene: self.scene, detection, is_followed: true });
        }
        found
    }

    /// Returns the frames that still wait, in order.
    pub fn finish(&mut self) -> Vec<(T, Vec<Detection>)> {
        (0..self.waiting.len()).filter_map(|_| self.settle()).collect()
    }

    /// Counts over the frames returned so far.
    pub fn stats(&self) -> HoldStats {
        self.stats
    }

    fn settle(&mut self) -> Option<(T, Vec<Detection>)> {
        let Waiting { payload, input, linked, scene } = self.waiting.pop_front()?;
        let (frame, reach) = (self.oldest, self.options.delay_frames());
        self.oldest += 1;
        let mut detections = Vec::with_capacity(input.detections.len());
        for (detection, linked) in input.detections.into_iter().zip(linked) {
            let is_low = detection.score < self.options.start_score;
            let continues = linked.and_then(|id| self.tracks.get(&id)).is_some_and(|followed| followed.counts);
            self.stats.continued += u64::from(is_low && continues);
            self.stats.dropped += u64::from(is_low && !continues);
            if !is_low || continues {
                detections.push(detection);
            }
        }
        let mut filled = 0;
        for sightings in self.tracks.values().filter(|followed| followed.counts).map(|followed| &followed.sightings) {
            let is_here = sightings.iter().any(|sighting| sighting.frame == frame);
            self.stats.weak += u64::from(is_here && is_weak(sightings, frame, &self.options));
            self.stats.followed += u64::from(sightings.iter().any(|sighting| sighting.frame == frame && sighting.is_followed));
            let Some(fill) = fill(sightings, frame, scene, &self.options) else { continue };
            filled += 1;
            match fill.origin {
                DetectionOrigin::Interpolated => self.stats.interpolated += 1,
                _ => self.stats.held += 1,
            }
            let begins_gap = sightings.iter().any(|sighting| sighting.frame + 1 == frame);
            self.stats.gaps_filled += u64::from(begins_gap && fill.origin == DetectionOrigin::Interpolated);
            detections.push(fill);
        }
        self.stats.frames += 1;
        self.stats.frames_unanalysed += u64::from(!input.analysed);
        self.stats.frames_filled += u64::from(filled > 0);
        self.forget_before(frame, reach);
        Some((payload, detections))
    }

    /// Drops sightings that no later frame needs. Sightings up to two reaches back are kept, to compute a speed.
    fn forget_before(&mut self, frame: u64, reach: u64) {
        self.tracks.retain(|_, Followed { sightings, .. }| {
            while sightings.front().is_some_and(|sighting| sighting.frame + 2 * reach < frame) {
                sightings.pop_front();
            }
            !sightings.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::{Attribute, AttributeValue, BBox, InstanceMask, Label, Point};
    use proptest::prelude::*;

    use super::*;

    fn face(x: f32, y: f32) -> Detection {
        let mut detection = Detection::new(BBox::from_cxcywh(x, y, 40.0, 50.0), 0.9, Label { id: 0, name: Arc::from("face") });
        detection.landmarks = vec![Point { x: x - 8.0, y }, Point { x: x + 8.0, y }];
        detection
    }

    fn seen(detections: Vec<Detection>) -> HoldInput {
        HoldInput { detections, analysed: true, scene_changed: false }
    }

    fn options(hold_frames: u32) -> HoldOptions {
        HoldOptions { hold_frames, ..Default::default() }
    }

    /// Pushes numbered frames and returns the output.
    fn run(options: HoldOptions, inputs: Vec<HoldInput>) -> (Vec<Vec<Detection>>, HoldStats) {
        let mut buffer = HoldBuffer::new(options);
        let mut out = Vec::new();
        for (number, input) in inputs.into_iter().enumerate() {
            let drained = buffer.push(number, input);
            assert_eq!(drained.len(), usize::from(number as u64 >= options.delay_frames()), "one in, one out");
            out.extend(drained);
        }
        out.extend(buffer.finish());
        assert!(out.iter().enumerate().all(|(number, (payload, _))| number == *payload), "in order");
        (out.into_iter().map(|(_, detections)| detections).collect(), buffer.stats())
    }

    fn covers(detections: &[Detection], x: f32, y: f32) -> bool {
        let inside = |d: &Detection| {
            d.bbox.x1 <= x - 20.0 + 0.01 && d.bbox.x2 >= x + 20.0 - 0.01 && d.bbox.y1 <= y - 25.0 + 0.01 && d.bbox.y2 >= y + 25.0 - 0.01
        };
        detections.iter().any(inside)
    }

    #[test]
    fn a_gap_is_interpolated_with_its_landmarks() {
        let mut inputs: Vec<_> = (0..5).map(|_| seen(vec![])).collect();
        inputs[0] = seen(vec![face(100.0, 100.0)]);
        inputs[4] = seen(vec![face(108.0, 104.0)]);
        let (out, stats) = run(options(3), inputs);
        let middle = &out[2][0];
        assert_eq!(middle.origin, DetectionOrigin::Interpolated);
        assert_eq!(middle.bbox.center(), Point { x: 104.0, y: 102.0 });
        assert_eq!(middle.landmarks[0], Point { x: 96.0, y: 102.0 });
        assert_eq!(middle.track_id, out[0][0].track_id);
        assert_eq!((stats.gaps_filled, stats.interpolated, stats.held, stats.frames_filled), (1, 3, 0, 3));
    }

    /// A face with the mask and the landmark of a second model; `fill` distinguishes masks.
    fn masked(x: f32, y: f32, fill: u8) -> Detection {
        let mut masked = face(x, y);
        let model: Arc<str> = Arc::from("second");
        let mask = InstanceMask::new(masked.bbox, 2, 1, vec![fill, 255]).expect("a mask");
        let values = [AttributeValue::Mask(Arc::new(mask)), AttributeValue::Landmarks(vec![Point { x, y }])];
        masked.attributes = values.map(|value| Attribute { model: Arc::clone(&model), value }).into();
        masked
    }

    /// The mask's box and first cell, and the landmark.
    fn attributes(of: &Detection) -> (BBox, u8, Point) {
        match &of.attributes[..] {
            [Attribute { value: AttributeValue::Mask(mask), .. }, Attribute { value: AttributeValue::Landmarks(points), .. }] => {
                (*mask.bbox(), mask.coverage()[0], points[0])
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn masks_and_landmarks_go_along_from_the_nearest_sighting() {
        let mut inputs: Vec<_> = (0..9).map(|_| seen(vec![])).collect();
        inputs[0] = seen(vec![masked(100.0, 100.0, 1)]);
        inputs[4] = seen(vec![masked(108.0, 104.0, 2)]);
        let (out, _) = run(options(4), inputs);
        for (frame, fill) in [(1, 1), (2, 1), (3, 2)] {
            let (mask, first, point) = attributes(&out[frame][0]);
            assert_eq!(out[frame][0].origin, DetectionOrigin::Interpolated);
            assert_eq!((mask, first, point), (out[frame][0].bbox, fill, out[frame][0].bbox.center()), "frame {frame}");
        }
        let held = &out[8][0];
        assert_eq!((held.origin, attributes(held).0), (DetectionOrigin::Held, held.bbox), "the mask grows along");
        assert!(held.bbox.width() > 41.0, "{:?}", held.bbox);
        assert_eq!(held.landmarks.len(), 2);
    }

    #[test]
    fn a_sighting_that_no_second_model_processed_takes_the_others_mask() {
        let mut inputs: Vec<_> = (0..5).map(|_| seen(vec![])).collect();
        inputs[0] = seen(vec![face(100.0, 100.0)]);
        inputs[4] = seen(vec![masked(108.0, 104.0, 2)]);
        let (out, _) = run(options(4), inputs);
        assert_eq!(attributes(&out[1][0]).0, out[1][0].bbox);
        assert!(out[0][0].attributes.is_empty());
    }

    #[test]
    fn a_face_held_from_both_sides_of_a_cut_keeps_its_mask() {
        let mut inputs: Vec<_> = (0..8).map(|_| seen(vec![])).collect();
        inputs[1] = seen(vec![masked(100.0, 100.0, 1)]);
        inputs[4].scene_changed = true;
        inputs[6] = seen(vec![masked(104.0, 100.0, 2)]);
        let (out, _) = run(HoldOptions { hold_frames: 6, hold_across_cuts: true, ..Default::default() }, inputs);
        assert!(out.iter().flatten().all(|found| attributes(found).0 == found.bbox));
    }

    #[test]
    fn a_single_detection_reaches_exactly_as_far_as_configured() {
        let mut inputs: Vec<_> = (0..20).map(|_| seen(vec![])).collect();
        inputs[10] = seen(vec![face(100.0, 100.0)]);
        let (out, stats) = run(options(4), inputs);
        for (frame, detections) in out.iter().enumerate() {
            assert_eq!(detections.len(), usize::from((6..=14).contains(&frame)), "frame {frame}");
            assert_eq!(covers(detections, 100.0, 100.0), (6..=14).contains(&frame));
        }
        assert!((out[14][0].bbox.width() - 40.0 * 1.08).abs() < 1e-3, "grown by two hundredths a frame");
        assert_eq!((stats.held, stats.gaps_filled, stats.frames, stats.frames_filled), (8, 0, 20, 8));
    }

    #[test]
    fn a_weak_sighting_reaches_less_far_unless_it_has_company() {
        let weak = |x: f32| Detection { score: 0.25, ..face(x, 100.0) };
        let reached = |sightings: &[(usize, f32)]| {
            let mut inputs: Vec<_> = (0..24).map(|_| seen(vec![])).collect();
            sightings.iter().for_each(|(frame, x)| inputs[*frame] = seen(vec![weak(*x)]));
            let (out, stats) = run(HoldOptions { weak_score: 0.35, weak_frames: 1, ..options(6) }, inputs);
            let covered: Vec<usize> = out.iter().enumerate().filter(|(_, found)| !found.is_empty()).map(|(frame, _)| frame).collect();
            (covered, stats.weak)
        };
        assert_eq!(reached(&[(10, 100.0)]), (vec![9, 10, 11], 1));
        // For frames before it, the second sighting is known once it lies within the delay.
        assert_eq!(reached(&[(10, 100.0), (13, 102.0)]), ((7..=19).collect(), 0), "two support each other");
        let unanalysed = HoldOptions { weak_score: 0.35, weak_frames: 0, max_unanalysed_frames: 2, ..options(6) };
        assert_eq!(unanalysed.weak_reach(), 2);
    }

    #[test]
    fn low_scores_continue_what_is_followed_and_begin_nothing() {
        let low = |x: f32| Detection { score: 0.14, ..face(x, 100.0) };
        let mut inputs: Vec<_> = (0..16).map(|_| seen(vec![])).collect();
        // Low scores before a strong one within its reach, and a chain of them after it; another elsewhere, and one too early.
        inputs[0] = seen(vec![low(100.0)]);
        inputs[4] = seen(vec![low(100.0)]);
        inputs[6] = seen(vec![face(102.0, 100.0), low(300.0)]);
        for frame in [8, 10, 12] {
            inputs[frame] = seen(vec![low(100.0 + frame as f32)]);
        }
        let (out, stats) = run(HoldOptions { start_score: 0.2, ..options(2) }, inputs);
        let covered: Vec<usize> = out.iter().enumerate().filter(|(_, found)| !found.is_empty()).map(|(frame, _)| frame).collect();
        assert_eq!(covered, (4..=14).collect::<Vec<_>>());
        assert!(out.iter().all(|found| found.len() <= 1), "nothing at 300");
        assert_eq!((stats.continued, stats.dropped), (4, 2));
        let (out, _) = run(HoldOptions { start_score: 0.2, keep_identities: true, ..options(2) }, vec![seen(vec![low(10.0)]); 3]);
        assert!(out.iter().all(Vec::is_empty));
    }

    #[test]
    fn growth_depends_on_time() {
        let mut inputs: Vec<_> = (0..3).map(|_| seen(vec![])).collect();
        inputs[0] = seen(vec![face(100.0, 100.0)]);
        let (out, _) = run(HoldOptions { frame_secs: 0.1, ..options(3) }, inputs);
        assert!((out[2][0].bbox.width() - 40.0 * 1.1).abs() < 1e-3, "{:?}", out[2][0].bbox);
    }

    #[test]
    fn frames_that_no_model_processed_are_filled_even_without_hold() {
        let inputs = (0..10).map(|frame| match frame % 3 {
            0 => seen(vec![face(100.0 + 6.0 * frame as f32, 100.0)]),
            _ => HoldInput::default(),
        });
        let settings = HoldOptions { hold_frames: 0, max_unanalysed_frames: 2, ..Default::default() };
        let (out, stats) = run(settings, inputs.collect());
        for (frame, detections) in out.iter().enumerate() {
            assert_eq!(detections.len(), 1, "frame {frame}");
            assert!((detections[0].bbox.center().x - (100.0 + 6.0 * frame as f32)).abs() < 1e-3);
        }
        assert_eq!((stats.frames_unanalysed, stats.gaps_filled, stats.interpolated), (6, 3, 6));
    }

    #[test]
    fn existing_identities_are_kept_if_configured() {
        for keep_identities in [true, false] {
            let mut inputs: Vec<_> = (0..9).map(|_| seen(vec![])).collect();
            for (frame, track_id) in [(0, None), (4, Some(71)), (8, Some(71))] {
                inputs[frame] = seen(vec![Detection { track_id, ..face(100.0, 100.0) }]);
            }
            let (out, _) = run(HoldOptions { keep_identities, ..options(4) }, inputs);
            let ids: Vec<_> = out.iter().map(|detections| detections[0].track_id).collect();
            if keep_identities {
                assert_eq!((ids[0], &ids[1..]), (None, &[Some(71); 8][..]), "what lies between takes the identity that is known");
            } else {
                assert_eq!(ids, [Some(1); 9]);
            }
        }
    }

    #[test]
    fn nothing_is_interpolated_across_a_cut() {
        let cut = |hold_across_cuts| {
            let mut inputs: Vec<_> = (0..8).map(|_| seen(vec![])).collect();
            inputs[1] = seen(vec![face(100.0, 100.0)]);
            inputs[4].scene_changed = true;
            inputs[6] = seen(vec![face(104.0, 100.0)]);
            run(HoldOptions { hold_frames: 6, hold_across_cuts, ..Default::default() }, inputs)
        };
        let (out, stats) = cut(false);
        assert_eq!(stats.interpolated, 0);
        assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [1; 8]);
        assert_ne!(out[3][0].track_id, out[4][0].track_id, "each scene has its own");
        let (out, stats) = cut(true);
        assert_eq!(stats.interpolated, 0);
        assert_eq!(out[3].len(), 2, "held from both sides");
    }

    #[test]
    fn a_held_box_follows_a_moving_face() {
        let mut inputs: Vec<_> = (0..5).map(|frame| seen(vec![face(100.0 + 10.0 * frame as f32, 100.0)])).collect();
        inputs.extend((0..4).map(|_| seen(vec![])));
        let (out, _) = run(options(4), inputs);
        for (frame, detections) in out.iter().enumerate() {
            assert!(covers(detections, 100.0 + 10.0 * frame as f32, 100.0), "frame {frame}");
        }
    }

    /// Boxes of 24 frames on which an object moves to the right, is detected on the first ones and stays visible up to frame 20.
    fn follow(detected: usize, score: f32, follow_frames: u32) -> (Vec<Vec<Detection>>, HoldStats) {
        use framerail_core::{ColorDescription, PixelFormat};
        let place = |frame: usize| (60.0 + 4.0 * frame as f32, 60.0);
        let mut buffer = HoldBuffer::new(HoldOptions { follow_frames, ..options(2) });
        let mut out = Vec::new();
        for frame in 0..24 {
            let mut surface = crate::test_images::noisy(PixelFormat::Yuv420p, 240, 120);
            let color = ColorDescription::default();
            let mut canvas = crate::Canvas::new(&mut surface, &color);
            let (x, y) = place(frame);
            let parts = [
                ([0.0, 0.0, 40.0, 50.0], 50),
                ([-8.0, -8.0, 10.0, 8.0], 230),
                ([8.0, -10.0, 8.0, 10.0], 190),
                ([0.0, 14.0, 24.0, 6.0], 140),
            ];
            for ([dx, dy, width, height], level) in parts.into_iter().filter(|_| frame <= 20) {
                canvas.fill(&BBox::from_cxcywh(x + dx, y + dy, width, height), [level; 3], 255).expect("writable");
            }
            let detections = if frame < detected { vec![Detection { score, ..face(x, y) }] } else { Vec::new() };
            out.extend(buffer.push_on(Some(&surface), frame, seen(detections)));
        }
        out.extend(buffer.finish());
        (out.into_iter().map(|(_, detections)| detections).collect(), buffer.stats())
    }

    #[test]
    fn an_object_that_is_lost_is_followed_by_its_appearance() {
        let (out, stats) = follow(6, 0.9, 100);
        for (frame, detections) in out.iter().enumerate().take(21) {
            assert!(covers(detections, 60.0 + 4.0 * frame as f32, 60.0) || frame < 6, "frame {frame}: {detections:?}");
            assert_eq!(detections.len(), 1, "frame {frame}");
        }
        assert!(out[23].is_empty(), "gone, and out of reach");
        assert_eq!((stats.followed, out[20][0].track_id), (15, out[0][0].track_id));
        assert_eq!(out[20][0].origin, DetectionOrigin::Held);
    }

    #[test]
    fn following_ends_at_its_limit_and_needs_certain_objects() {
        let covered = |detected, score, limit| follow(detected, score, limit).0.iter().filter(|found| !found.is_empty()).count();
        assert_eq!(covered(6, 0.9, 5), 6 + 5 + 2, "and as far as any sighting reaches");
        assert_eq!(covered(6, 0.9, 0), 6 + 2);
        assert_eq!((covered(4, 0.9, 100), covered(6, 0.25, 100)), (4 + 2, 6 + 2));
    }

    #[test]
    fn malformed_boxes_pass_through_and_spread_nothing() {
        let mut broken = face(0.0, 0.0);
        broken.bbox.x1 = f32::NAN;
        let (out, stats) = run(options(3), vec![seen(vec![]), seen(vec![broken]), seen(vec![])]);
        assert_eq!(out.iter().map(Vec::len).collect::<Vec<_>>(), [0, 1, 0]);
        assert_eq!(stats.held, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// For any pattern of sightings of slowly moving faces: no frame within reach of a sighting shows the face. When no gap is longer
        /// than the reach, no frame between the first and the last sighting shows it.
        #[test]
        fn no_frame_near_a_sighting_is_left_uncovered(
            pattern in proptest::collection::vec(any::<bool>(), 1..60),
            hold_frames in 0u32..12,
            skip in 1usize..4,
            speed in -3.0f32..3.0,
            second_face in any::<bool>(),
        ) {
            let place = |frame: usize| (300.0 + speed * frame as f32, 200.0);
            let is_seen = |frame: usize| pattern[frame] && frame.is_multiple_of(skip);
            let inputs = (0..pattern.len()).map(|frame| {
                let mut detections = Vec::new();
                if is_seen(frame) {
                    detections.push(face(place(frame).0, place(frame).1));
                }
                if second_face && frame.is_multiple_of(skip) {
                    detections.push(face(320.0 - speed * frame as f32, 330.0));
                }
                HoldInput { detections, analysed: frame.is_multiple_of(skip), scene_changed: false }
            });
            let settings = HoldOptions { hold_frames, max_unanalysed_frames: skip as u32 - 1, ..Default::default() };
            let reach = settings.delay_frames() as usize;
            let (out, stats) = run(settings, inputs.collect());
            prop_assert_eq!(stats.frames as usize, pattern.len());
            for (frame, detections) in out.iter().enumerate() {
                let previous = (0..=frame).rev().find(|&f| is_seen(f));
                let next = (frame..pattern.len()).find(|&f| is_seen(f));
                let between = matches!((previous, next), (Some(a), Some(b)) if b - a <= reach + 1);
                for sighting in previous.filter(|a| frame - a <= reach).into_iter().chain(next.filter(|b| b - frame <= reach)) {
                    // Where both sides are known, the box lies between them; elsewhere it covers at least the sighting.
                    let (x, y) = if between { place(frame) } else { place(sighting) };
                    prop_assert!(covers(detections, x, y), "frame {} near sighting {}", frame, sighting);
                }
                if between {
                    prop_assert!(covers(detections, place(frame).0, place(frame).1), "frame {} in a gap", frame);
                }
            }
        }
    }
}
