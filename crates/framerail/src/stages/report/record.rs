//! Counts of one stream.

use std::{collections::BTreeMap, sync::Arc};

use framerail_core::{Detection, DetectionOrigin, Frame, StreamInfo};
use framerail_pipeline::{FrameItem, StageError};
use framerail_vision::{Linker, LinkerOptions};

use super::{
    doubt::{DoubtKind, Doubts, Uncertainty},
    image::Image,
    timeline::{Moment, Timeline},
};

/// Frames after which a missing object is no longer searched for.
const FORGET_AFTER_FRAMES: u64 = 300;
/// Maximum number of objects with a single detection whose thumbnails are kept.
const MAX_PENDING_PICTURES: usize = 64;
/// Analysed frames within which a new object at the same place counts as the one that disappeared.
const REJOIN_AFTER_FRAMES: u64 = 75;

/// Counts of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counts {
    pub(super) frames: u64,
    /// Frames on which the model ran.
    pub(super) analysed: u64,
    /// Frames with a box, detected or filled in.
    pub(super) with_boxes: u64,
    /// Frames with a filled-in box.
    pub(super) filled: u64,
    pub(super) detected: u64,
    pub(super) interpolated: u64,
    pub(super) held: u64,
    /// Distinct objects, as far as they could be tracked.
    pub(super) tracks: u64,
    pub(super) seen_once: u64,
    /// Gaps between two detections that were filled in on every frame, and the longest of them.
    pub(super) gaps_filled: u64,
    pub(super) longest_gap: u64,
    /// The same if the boxes were extended from both sides.
    pub(super) gaps_held: u64,
    /// Gaps between two detections with frames without a box.
    pub(super) gaps_open: u64,
    pub(super) frames_open: u64,
    pub(super) lowest_score: Option<f32>,
}

/// An object being tracked.
struct Track {
    sightings: u64,
    /// Number of analysed frames up to its last detection.
    seen_at: u64,
    /// The same up to its last box, detected or filled in.
    present_at: u64,
    /// Analysed frames since the last detection with a filled-in box.
    filled: u64,
    /// Of these, frames with extended rather than interpolated boxes.
    held: u64,
    /// Its last box.
    last: Detection,
    /// The first frame without its box, while it is missing.
    lost: Option<Uncertainty>,
    /// The frame of its first detection, while that is the only one.
    once: Option<Uncertainty>,
    /// A frame of the possible gap.
    gap: Option<Uncertainty>,
}

/// State of a stream.
pub(super) struct StreamRecord {
    pub(super) info: Arc<StreamInfo>,
    pub(super) counts: Counts,
    pub(super) timeline: Timeline,
    pub(super) ended_early: Option<String>,
    place: usize,
    linker: Linker,
    tracks: BTreeMap<u64, Track>,
}

impl StreamRecord {
    /// The record of the stream at an index of the page.
    pub(super) fn new(info: &Arc<StreamInfo>, place: usize) -> Self {
        Self {
            info: Arc::clone(info),
            counts: Counts::default(),
            timeline: Timeline::default(),
            ended_early: None,
            place,
            linker: Linker::new(LinkerOptions::default()),
            tracks: BTreeMap::new(),
        }
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// If an image of it cannot be made.
    pub(super) fn frame(&mut self, item: &FrameItem, doubts: &mut Doubts) -> Result<(), StageError> {
        let found = self.linked(item);
        self.count(item, &found);
        if item.analysed {
            self.note_losses(&item.frame, &found, doubts)?;
        }
        for detection in &found {
            self.follow(item, &found, detection, doubts)?;
        }
        if item.analysed {
            self.doubt_lowest(&item.frame, &found, doubts)?;
        }
        if self.counts.analysed.is_multiple_of(64) {
            self.forget(doubts, FORGET_AFTER_FRAMES);
        }
        Ok(())
    }

    /// Ends the stream.
    pub(super) fn end(&mut self, ended_early: Option<String>, doubts: &mut Doubts) {
        self.ended_early = ended_early;
        self.forget(doubts, 0);
    }

    /// The frame's finite detections, with new identities if no stage assigned any.
    fn linked(&mut self, item: &FrameItem) -> Vec<Detection> {
        let finite = item.detections.iter().filter(|found| found.bbox.is_finite() && found.score.is_finite());
        let mut found: Vec<Detection> = finite.cloned().collect();
        if item.analysed && found.iter().any(|found| found.track_id.is_none()) {
            self.linker.link(self.counts.analysed, &mut found);
        }
        found
    }

    fn count(&mut self, item: &FrameItem, found: &[Detection]) {
        let counts = &mut self.counts;
        let of = |origin| found.iter().filter(|found| found.origin == origin).count() as u64;
        let [detected, interpolated, held] = [DetectionOrigin::Detected, DetectionOrigin::Interpolated, DetectionOrigin::Held].map(of);
        counts.frames += 1;
        counts.analysed += u64::from(item.analysed);
        counts.with_boxes += u64::from(!found.is_empty());
        counts.filled += u64::from(interpolated + held > 0);
        (counts.detected, counts.interpolated, counts.held) =
            (counts.detected + detected, counts.interpolated + interpolated, counts.held + held);
        let lowest = lowest(found).map(|found| found.score);
        counts.lowest_score = [counts.lowest_score, lowest].into_iter().flatten().reduce(f32::min);
        let bounded = |count: u64| u32::try_from(count).unwrap_or(u32::MAX / 2);
        self.timeline.push(Moment {
            secs: item.frame.seconds(),
            detected: bounded(detected),
            filled: bounded(interpolated + held),
            lowest_score: lowest,
        });
    }

    /// Adds an object of a frame.
    fn follow(&mut self, item: &FrameItem, all: &[Detection], found: &Detection, doubts: &mut Doubts) -> Result<(), StageError> {
        let Some(id) = found.track_id else { return Ok(()) };
        let now = self.counts.analysed;
        if !self.tracks.contains_key(&id)
            && let Some(same) = self.vanished_at(found, all)
        {
            self.tracks.insert(id, same);
        }
        let pending = self.tracks.values().filter(|track| track.once.is_some()).count();
        let make = |kind, gap_frames| doubt(self.place, &item.frame, found, kind, gap_frames);
        let track = self.tracks.entry(id).or_insert_with(|| {
            self.counts.tracks += 1;
            let last = found.clone();
            Track { sightings: 0, seen_at: now, present_at: now, filled: 0, held: 0, last, lost: None, once: None, gap: None }
        });
        (track.present_at, track.last) = (now, found.clone());
        if found.origin != DetectionOrigin::Detected {
            // On frames that the model skipped, filled-in boxes are expected.
            if item.analysed && track.sightings > 0 {
                track.filled += 1;
                track.held += u64::from(found.origin == DetectionOrigin::Held);
                let doubt = make(DoubtKind::FilledGap, track.filled);
                // The first frame, then one near the middle.
                if track.filled.is_power_of_two() && doubts.wants(&doubt) {
                    track.gap = Some(Uncertainty { image: doubts.image(&item.frame, all, found)?, ..doubt });
                }
            }
            return Ok(());
        }
        track.sightings += 1;
        if track.sightings == 1 {
            let doubt = make(DoubtKind::SeenOnce, 0);
            if pending < MAX_PENDING_PICTURES && doubts.wants(&doubt) {
                track.once = Some(Uncertainty { image: doubts.image(&item.frame, all, found)?, ..doubt });
            }
        } else {
            track.once = None;
            let lost = now.saturating_sub(track.seen_at + 1);
            let open = lost.saturating_sub(track.filled);
            let gap = track.gap.take();
            let first_open = track.lost.take();
            if open > 0 {
                self.counts.gaps_open += 1;
                self.counts.frames_open += open;
                let doubt = make(DoubtKind::OpenGap, open);
                match first_open {
                    Some(first) => doubts.keep(Uncertainty { gap_frames: open, ..first }),
                    None if doubts.wants(&doubt) => {
                        let image: Option<Image> = doubts.image(&item.frame, all, found)?;
                        doubts.keep(Uncertainty { image, ..doubt });
                    }
                    None => {}
                }
            } else if lost > 0 {
                let way = if track.held > 0 { &mut self.counts.gaps_held } else { &mut self.counts.gaps_filled };
                *way += 1;
                self.counts.longest_gap = self.counts.longest_gap.max(lost);
                if let Some(gap) = gap {
                    doubts.keep(Uncertainty { gap_frames: lost, ..gap });
                }
            }
        }
        (track.seen_at, track.filled, track.held) = (now, 0, 0);
        Ok(())
    }

    /// Takes a thumbnail of the first frame without an object's box: if the object returns, that frame is the one to check.
    fn note_losses(&mut self, frame: &Frame, found: &[Detection], doubts: &mut Doubts) -> Result<(), StageError> {
        let (now, place) = (self.counts.analysed, self.place);
        let mut pending = self.tracks.values().filter(|track| track.lost.is_some()).count();
        let is_here = |id: u64| found.iter().any(|found| found.track_id == Some(id));
        for (_, track) in self.tracks.iter_mut().filter(|(id, track)| track.present_at + 1 == now && !is_here(**id)) {
            if pending < MAX_PENDING_PICTURES {
                pending += 1;
                let image = doubts.image(frame, found, &track.last)?;
                track.lost = Some(Uncertainty { image, ..doubt(place, frame, &track.last, DoubtKind::OpenGap, 0) });
            }
        }
        Ok(())
    }

    /// Removes the missing object that continues here with a new identity: `hold` and `track` assign one after a long gap.
    fn vanished_at(&mut self, found: &Detection, all: &[Detection]) -> Option<Track> {
        let now = self.counts.analysed;
        let is_here = |id: u64| all.iter().any(|found| found.track_id == Some(id));
        let side = |of: &Detection| (of.bbox.width() + of.bbox.height()).max(1e-3) / 2.0;
        let distance = |track: &Track| {
            let gap = now.saturating_sub(track.present_at);
            let (from, to) = (track.last.bbox.center(), found.bbox.center());
            let (mean, ratio) = ((side(&track.last) + side(found)) / 2.0, side(&track.last) / side(found));
            let distance = (to.x - from.x).hypot(to.y - from.y) / mean;
            let reach = (0.6 * (1.0 + 0.1 * gap as f32)).min(2.0);
            let fits = gap <= REJOIN_AFTER_FRAMES && track.last.label.id == found.label.id && (0.5..=2.0).contains(&ratio);
            (fits && distance <= reach).then_some(distance)
        };
        let candidates = self.tracks.iter().filter(|(id, _)| !is_here(**id));
        let nearest = candidates.filter_map(|(id, track)| Some((*id, distance(track)?))).min_by(|a, b| a.1.total_cmp(&b.1));
        nearest.and_then(|(id, _)| self.tracks.remove(&id))
    }

    fn doubt_lowest(&self, frame: &Frame, all: &[Detection], doubts: &mut Doubts) -> Result<(), StageError> {
        let Some(found) = lowest(all) else { return Ok(()) };
        let doubt = doubt(self.place, frame, found, DoubtKind::LowScore, 0);
        if doubts.wants(&doubt) {
            let image = doubts.image(frame, all, found)?;
            doubts.keep(Uncertainty { image, ..doubt });
        }
        Ok(())
    }

    /// Finishes objects that have been missing for longer.
    fn forget(&mut self, doubts: &mut Doubts, frames: u64) {
        let now = self.counts.analysed;
        let counts = &mut self.counts;
        self.tracks.retain(|_, track| {
            if frames > 0 && now.saturating_sub(track.present_at) <= frames {
                return true;
            }
            counts.seen_once += u64::from(track.sightings == 1);
            if let Some(once) = track.once.take() {
                doubts.keep(once);
            }
            false
        });
    }
}

/// The detection with the lowest score.
fn lowest(found: &[Detection]) -> Option<&Detection> {
    let detected = found.iter().filter(|found| found.origin == DetectionOrigin::Detected);
    detected.min_by(|a, b| a.score.total_cmp(&b.score))
}

fn doubt(stream: usize, frame: &Frame, found: &Detection, kind: DoubtKind, gap_frames: u64) -> Uncertainty {
    Uncertainty {
        kind,
        stream,
        frame: frame.index,
        secs: frame.seconds(),
        score: found.score,
        label: found.label.name.to_string(),
        track_id: found.track_id,
        gap_frames,
        image: None,
    }
}
