//! The most doubtful frames, in bounded memory.

use std::collections::BTreeSet;

use framerail_core::{Detection, Frame};
use framerail_pipeline::StageError;

use super::image::Image;

/// Low scores of one object within this many frames count as one.
const SAME_DOUBT_FRAMES: u64 = 25;

/// Why a frame is doubtful, most serious first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DoubtKind {
    /// The object has a box before and after, and none on the frames between.
    OpenGap,
    /// The model missed the object here; the box is filled in.
    FilledGap,
    /// The object was detected on this frame only.
    SeenOnce,
    /// A low score.
    LowScore,
}

impl DoubtKind {
    pub(super) const ALL: [DoubtKind; 4] = [DoubtKind::OpenGap, DoubtKind::FilledGap, DoubtKind::SeenOnce, DoubtKind::LowScore];
}

/// A doubtful frame and its region of interest.
#[derive(Clone, Debug)]
pub(super) struct Uncertainty {
    pub(super) kind: DoubtKind,
    /// Index of the stream in the page.
    pub(super) stream: usize,
    pub(super) frame: u64,
    pub(super) secs: f64,
    pub(super) score: f32,
    pub(super) label: String,
    pub(super) track_id: Option<u64>,
    /// Frames of the gap.
    pub(super) gap_frames: u64,
    pub(super) image: Option<Image>,
}

impl Uncertainty {
    /// Rank among others of its kind.
    fn rank(&self) -> f64 {
        match self.kind {
            DoubtKind::OpenGap | DoubtKind::FilledGap => self.gap_frames as f64,
            DoubtKind::SeenOnce | DoubtKind::LowScore => f64::from(1.0 - self.score),
        }
    }

    fn is_same_as(&self, other: &Uncertainty) -> bool {
        self.kind == DoubtKind::LowScore
            && other.kind == DoubtKind::LowScore
            && (self.stream, self.track_id) == (other.stream, other.track_id)
            && self.frame.abs_diff(other.frame) <= SAME_DOUBT_FRAMES
    }
}

/// The most doubtful frames of each kind.
#[derive(Debug)]
pub(super) struct Doubts {
    capacity: usize,
    with_thumbnails: bool,
    /// By kind, each with the most doubtful first.
    kept: [Vec<Uncertainty>; 4],
    pub(super) pictures_taken: u64,
}

impl Doubts {
    pub(super) fn new(capacity: usize, with_thumbnails: bool) -> Self {
        Self { capacity, with_thumbnails, kept: Default::default(), pictures_taken: 0 }
    }

    pub(super) fn with_thumbnails(&self) -> bool {
        self.with_thumbnails
    }

    /// Whether a doubt would be kept at present.
    pub(super) fn wants(&self, doubt: &Uncertainty) -> bool {
        let kept = self.of(doubt.kind);
        match kept.iter().find(|other| other.is_same_as(doubt)) {
            Some(same) => doubt.rank() > same.rank(),
            None => kept.len() < self.capacity || kept.last().is_some_and(|last| doubt.rank() > last.rank()),
        }
    }

    /// Takes a thumbnail for a doubt, if thumbnails are wanted.
    ///
    /// # Errors
    /// If the image cannot be made.
    pub(super) fn image(&mut self, frame: &Frame, detections: &[Detection], of: &Detection) -> Result<Option<Image>, StageError> {
        if !self.with_thumbnails {
            return Ok(None);
        }
        self.pictures_taken += 1;
        Image::take(frame, detections, of).map(Some)
    }

    /// Keeps a doubt if it is among the most doubtful.
    pub(super) fn keep(&mut self, doubt: Uncertainty) {
        if !self.wants(&doubt) {
            return;
        }
        let capacity = self.capacity;
        let kept = self.of_mut(doubt.kind);
        kept.retain(|other| !other.is_same_as(&doubt));
        let place = kept.partition_point(|other| other.rank() >= doubt.rank());
        kept.insert(place, doubt);
        kept.truncate(capacity);
    }

    /// As many as fit, round-robin over the kinds, grouped by kind. A frame with two kinds is listed under the more serious one.
    pub(super) fn chosen(&self) -> Vec<&Uncertainty> {
        let mut shown: BTreeSet<(usize, u64, Option<u64>)> = BTreeSet::new();
        let fresh = |doubt: &&Uncertainty| shown.insert((doubt.stream, doubt.frame, doubt.track_id));
        let all: Vec<&Uncertainty> = self.kept.iter().flatten().filter(fresh).collect();
        let of_kind = |kind| all.iter().filter(move |doubt| doubt.kind == kind);
        let available = DoubtKind::ALL.map(|kind| of_kind(kind).count());
        let mut counts = [0; 4];
        for _ in 0..self.capacity {
            // The kind with the fewest so far, most serious first.
            let open = counts.iter().zip(available).enumerate().filter(|(_, (count, available))| *count < available);
            let Some((next, _)) = open.min_by_key(|(_, (count, _))| **count) else { break };
            counts[next] += 1;
        }
        DoubtKind::ALL.into_iter().zip(counts).flat_map(|(kind, count)| of_kind(kind).take(count).copied()).collect()
    }

    fn of(&self, kind: DoubtKind) -> &[Uncertainty] {
        let [open, filled, once, low] = &self.kept;
        match kind {
            DoubtKind::OpenGap => open,
            DoubtKind::FilledGap => filled,
            DoubtKind::SeenOnce => once,
            DoubtKind::LowScore => low,
        }
    }

    fn of_mut(&mut self, kind: DoubtKind) -> &mut Vec<Uncertainty> {
        let [open, filled, once, low] = &mut self.kept;
        match kind {
            DoubtKind::OpenGap => open,
            DoubtKind::FilledGap => filled,
            DoubtKind::SeenOnce => once,
            DoubtKind::LowScore => low,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn low(frame: u64, score: f32) -> Uncertainty {
        let (label, track_id, image) = ("face".to_owned(), Some(1), None);
        Uncertainty { kind: DoubtKind::LowScore, stream: 0, frame, secs: 0.0, score, label, track_id, gap_frames: 0, image }
    }

    #[test]
    fn the_most_doubtful_are_kept_and_neighbours_are_one() {
        let mut doubts = Doubts::new(3, false);
        for (frame, score) in [(0, 0.5), (10, 0.4), (20, 0.6), (100, 0.3), (200, 0.9), (300, 0.7), (400, 0.2)] {
            doubts.keep(low(frame, score));
        }
        let frames: Vec<u64> = doubts.chosen().iter().map(|doubt| doubt.frame).collect();
        assert_eq!(frames, [400, 100, 10]);
        assert!(!doubts.wants(&low(900, 0.4)) && doubts.wants(&low(900, 0.39)) && !doubts.wants(&low(410, 0.21)));
    }

    #[test]
    fn every_kind_gets_its_share() {
        let mut doubts = Doubts::new(4, false);
        for frame in 0..10u16 {
            doubts.keep(low(u64::from(frame) * 100, 0.5));
            doubts.keep(Uncertainty { kind: DoubtKind::FilledGap, gap_frames: frame.into(), ..low(frame.into(), 0.5) });
        }
        doubts.keep(Uncertainty { kind: DoubtKind::SeenOnce, ..low(5, 0.5) });
        let kinds: Vec<DoubtKind> = doubts.chosen().iter().map(|doubt| doubt.kind).collect();
        assert_eq!(kinds, [DoubtKind::FilledGap, DoubtKind::FilledGap, DoubtKind::SeenOnce, DoubtKind::LowScore]);
        assert_eq!(doubts.chosen()[0].gap_frames, 9);
    }
}
