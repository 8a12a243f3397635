//! Links detections of the same object across frames.

use framerail_core::{BBox, Detection, Point};

/// Options of a [`Linker`]: when two detections may be the same object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkerOptions {
    /// Frames that an object may be out of sight and still keep its identity. Default 16.
    pub max_gap_frames: u64,
    /// Maximum distance between the predicted and the detected centre within 40 ms, as a fraction of the mean box side. It grows by a
    /// tenth for each further 40 ms. Default 0.6.
    pub max_center_distance: f32,
    /// Seconds between frames: over a longer time, objects may move farther. Default 0.04.
    pub frame_secs: f32,
    /// Maximum ratio of box sides. Default 2.
    pub max_size_ratio: f32,
}

impl Default for LinkerOptions {
    fn default() -> Self {
        Self { max_gap_frames: 16, max_center_distance: 0.6, frame_secs: 0.04, max_size_ratio: 2.0 }
    }
}

#[derive(Clone, Debug)]
struct Track {
    id: u64,
    class: u32,
    bbox: BBox,
    seen: u64,
    /// Velocity of the centre in pixels per frame.
    velocity: Point,
}

impl Track {
    /// Predicts the box at constant velocity.
    fn predicted(&self, frame: u64) -> BBox {
        let frames = frame.saturating_sub(self.seen) as f32;
        shifted(&self.bbox, self.velocity.x * frames, self.velocity.y * frames)
    }

    fn see(&mut self, bbox: &BBox, frame: u64) {
        let frames = frame.saturating_sub(self.seen).max(1) as f32;
        let (from, to) = (self.bbox.center(), bbox.center());
        let measured = Point { x: (to.x - from.x) / frames, y: (to.y - from.y) / frames };
        // Averaged with the previous velocity: boxes jitter, but objects do turn.
        self.velocity = Point { x: (self.velocity.x + measured.x) / 2.0, y: (self.velocity.y + measured.y) / 2.0 };
        (self.bbox, self.seen) = (*bbox, frame);
    }
}

pub(crate) fn shifted(bbox: &BBox, dx: f32, dy: f32) -> BBox {
    BBox { x1: bbox.x1 + dx, y1: bbox.y1 + dy, x2: bbox.x2 + dx, y2: bbox.y2 + dy }
}

fn mean_side(bbox: &BBox) -> f32 {
    (bbox.width() + bbox.height()) / 2.0
}

/// Assigns identities to detections across frames. Pairs are matched greedily, best first, by overlap and distance between the
/// detection and the position of each known object, predicted at constant velocity or unmoved.
#[derive(Clone, Debug)]
pub struct Linker {
    options: LinkerOptions,
    tracks: Vec<Track>,
    next_id: u64,
}

impl Linker {
    /// Creates a linker without known objects.
    pub fn new(options: LinkerOptions) -> Self {
        Self { options, tracks: Vec::new(), next_id: 1 }
    }

    /// Sets `track_id` on every detection of a frame. `frame` must increase with each call; it may skip frames that were not analysed.
    pub fn link(&mut self, frame: u64, detections: &mut [Detection]) {
        self.tracks.retain(|track| frame.saturating_sub(track.seen) <= self.options.max_gap_frames + 1);
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (track_index, track) in self.tracks.iter().enumerate() {
            for (index, detection) in detections.iter().enumerate() {
                if let Some(affinity) = self.affinity(track, detection, frame) {
                    pairs.push((affinity, track_index, index));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let known = self.tracks.len();
        let (mut track_taken, mut linked) = (vec![false; known], vec![false; detections.len()]);
        for (_, track_index, index) in pairs {
            if !track_taken[track_index] && !linked[index] {
                (track_taken[track_index], linked[index]) = (true, true);
                self.tracks[track_index].see(&detections[index].bbox, frame);
                detections[index].track_id = Some(self.tracks[track_index].id);
            }
        }
        for (detection, _) in detections.iter_mut().zip(linked).filter(|(_, linked)| !linked) {
            let id = self.next_id;
            self.next_id += 1;
            detection.track_id = Some(id);
            let (class, bbox) = (detection.label.id, detection.bbox);
            self.tracks.push(Track { id, class, bbox, seen: frame, velocity: Point::default() });
        }
    }

    /// Places an object that was found in a frame by other means than a detection.
    pub fn place(&mut self, id: u64, frame: u64, bbox: &BBox) {
        if let Some(track) = self.tracks.iter_mut().find(|track| track.id == id && track.seen < frame) {
            track.see(bbox, frame);
        }
    }

    /// Forgets all objects, as after a cut.
    pub fn forget(&mut self) {
        self.tracks.clear();
    }

    /// How well a detection fits a track; `None` when they cannot be the same object.
    fn affinity(&self, track: &Track, detection: &Detection, frame: u64) -> Option<f32> {
        if track.class != detection.label.id || track.seen >= frame || !detection.bbox.is_finite() {
            return None;
        }
        let (old_side, side) = (mean_side(&track.bbox).max(1e-3), mean_side(&detection.bbox).max(1e-3));
        if (old_side / side).max(side / old_side) > self.options.max_size_ratio {
            return None;
        }
        let gap = (frame - track.seen) as f32 * self.options.frame_secs / 0.04;
        let reach = self.options.max_center_distance * (1.0 + 0.1 * (gap - 1.0).max(0.0));
        // An object may keep its course or stop: the better fit counts.
        let fit = |guess: BBox| {
            let (from, to) = (guess.center(), detection.bbox.center());
            let distance = (to.x - from.x).hypot(to.y - from.y) / ((old_side + side) / 2.0);
            (distance <= reach).then(|| guess.iou(&detection.bbox) + 0.5 * (1.0 - distance / reach))
        };
        let (moving, still) = (fit(track.predicted(frame)), fit(track.bbox));
        moving.into_iter().chain(still).max_by(f32::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::Label;

    use super::*;

    fn at(x: f32, y: f32, side: f32) -> Detection {
        Detection::new(BBox::from_cxcywh(x, y, side, side), 0.9, Label { id: 0, name: Arc::from("face") })
    }

    fn ids(detections: &[Detection]) -> Vec<u64> {
        detections.iter().map(|detection| detection.track_id.expect("linked")).collect()
    }

    #[test]
    fn two_that_cross_keep_their_identity() {
        let mut linker = Linker::new(LinkerOptions::default());
        for frame in 0..60u64 {
            let t = frame as f32;
            let mut detections = vec![at(50.0 + 5.0 * t, 100.0, 40.0), at(350.0 - 5.0 * t, 130.0, 44.0)];
            linker.link(frame, &mut detections);
            assert_eq!(ids(&detections), [1, 2], "frame {frame}");
        }
    }

    #[test]
    fn every_third_frame_is_enough() {
        let mut linker = Linker::new(LinkerOptions::default());
        for frame in (0..90u64).step_by(3) {
            let mut detections = vec![at(30.0 + 6.0 * frame as f32, 80.0, 40.0)];
            linker.link(frame, &mut detections);
            assert_eq!(ids(&detections), [1], "frame {frame}");
        }
    }

    #[test]
    fn other_sizes_classes_and_places_are_others() {
        let mut linker = Linker::new(LinkerOptions::default());
        let mut first = vec![at(100.0, 100.0, 40.0)];
        linker.link(0, &mut first);
        let mut other_class = at(100.0, 100.0, 40.0);
        other_class.label.id = 1;
        let mut second = vec![at(100.0, 100.0, 130.0), at(400.0, 100.0, 40.0), other_class];
        linker.link(1, &mut second);
        assert_eq!(ids(&second), [2, 3, 4]);
        linker.forget();
        let mut third = vec![at(100.0, 100.0, 40.0)];
        linker.link(2, &mut third);
        assert_eq!(ids(&third), [5]);
    }

    #[test]
    fn a_long_absence_ends_an_identity() {
        let mut linker = Linker::new(LinkerOptions { max_gap_frames: 5, ..Default::default() });
        let mut linked = |frame: u64| {
            let mut detections = vec![at(100.0, 100.0, 40.0)];
            linker.link(frame, &mut detections);
            ids(&detections)[0]
        };
        assert_eq!([linked(0), linked(6), linked(13)], [1, 1, 2]);
    }
}
