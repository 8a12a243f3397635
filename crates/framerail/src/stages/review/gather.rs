//! Collects the page's data of a stream, in bounded memory, while frames pass.

use std::collections::{BTreeMap, HashMap, VecDeque};

use framerail_core::{BBox, Detection, DetectionOrigin, Frame, HostSurface, StreamInfo};
use framerail_pipeline::{FrameItem, StageError};

use super::super::report::image::Jpeg;
use crate::{convert::cuda_error, devices::host_image};

/// Assumed frames per second if a stream states none.
const USUAL_RATE: f64 = 25.0;
/// Size of frames to draw on, and of thumbnails.
const FRAME_SIZE: (u32, u32) = (640, 480);
const THUMBNAIL_SIZE: (u32, u32) = (96, 96);
/// Maximum number of frames to draw on at even intervals; with twice as many, every second one is dropped.
const MOST_FRAMES: usize = 120;
/// Maximum thumbnails of a track, and of all tracks together; beyond that, new tracks keep few.
const MOST_THUMBNAILS: usize = 10;
const FEW_THUMBNAILS: usize = 2;
const MANY_THUMBNAILS: usize = 4000;
/// Maximum number of frames shown because a track begins or ends there.
const MOST_EDGES: usize = 200;
/// Maximum number of lost tracks that may become gaps.
const MOST_PENDING: usize = 64;
/// A track that reappears within this time, near its last position, is the same object.
const REJOIN_SECS: f64 = 4.0;
/// Distance from the frame's border, relative to the box, within which objects enter and leave.
const BORDER: f32 = 0.3;

/// A thumbnail of a track.
pub(super) struct Thumbnail {
    pub(super) frame: u64,
    pub(super) secs: f64,
    pub(super) score: f32,
    pub(super) origin: DetectionOrigin,
    pub(super) jpeg: Jpeg,
}

/// A track.
pub(super) struct Track {
    pub(super) id: u64,
    pub(super) first: (u64, f64, BBox),
    pub(super) last: (u64, f64, BBox),
    pub(super) seen: u64,
    pub(super) filled: u64,
    pub(super) best: f32,
    pub(super) lowest: f32,
    pub(super) thumbnails: Vec<Thumbnail>,
    step: u64,
    most: usize,
}

/// A frame to draw on.
pub(super) struct Shown {
    pub(super) secs: f64,
    pub(super) jpeg: Jpeg,
    /// Tracks with their boxes.
    pub(super) boxes: Vec<(u64, BBox)>,
    /// Whether it marks a begin or an end rather than an interval.
    is_edge: bool,
}

/// Why a place is doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// Lost and found again, with nothing covered in between.
    Gap,
    /// A track ends away from the border, without continuation.
    Ends,
    /// A track begins away from the border, without a predecessor.
    Begins,
}

/// A doubtful place.
pub(super) struct Place {
    pub(super) doubt: Doubt,
    /// First and last uncovered frame.
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) secs: f64,
    /// The tracks before and after it.
    pub(super) before: Option<(u64, BBox)>,
    pub(super) after: Option<(u64, BBox)>,
}

/// A lost track, with the first frame without it.
struct Loss {
    id: u64,
    bbox: BBox,
    frame: u64,
    secs: f64,
}

pub(super) struct Gathered {
    pub(super) frames: u64,
    pub(super) covered_frames: u64,
    pub(super) boxes: u64,
    pub(super) filled: u64,
    pub(super) rate: f64,
    pub(super) span: Option<(u64, u64)>,
    pub(super) size: (u32, u32),
    pub(super) tracks: BTreeMap<u64, Track>,
    pub(super) shown: BTreeMap<u64, Shown>,
    pub(super) places: Vec<Place>,
    step: u64,
    thumbnails: usize,
    edges: usize,
    losses: VecDeque<Loss>,
    /// Boxes of the previous frame, and the frame itself, for tracks that begin now.
    present: HashMap<u64, BBox>,
    before: Option<(Frame, Vec<(u64, BBox)>)>,
}

impl Gathered {
    pub(super) fn new(info: &StreamInfo, every_secs: f64) -> Self {
        let rate = info.frame_rate.map(|rate| rate.as_f64()).filter(|rate| (0.1..=1000.0).contains(rate)).unwrap_or(USUAL_RATE);
        Self {
            frames: 0,
            covered_frames: 0,
            boxes: 0,
            filled: 0,
            rate,
            span: None,
            size: (info.width, info.height),
            tracks: BTreeMap::new(),
            shown: BTreeMap::new(),
            places: Vec::new(),
            step: ((every_secs * rate).round() as u64).max(1),
            thumbnails: 0,
            edges: 0,
            losses: VecDeque::new(),
            present: HashMap::new(),
            before: None,
        }
    }

    /// Adds a frame.
    ///
    /// # Errors
    /// If an image cannot be made.
    pub(super) fn frame(&mut self, item: &FrameItem) -> Result<(), StageError> {
        let (frame, index) = (&item.frame, item.frame.index);
        let is_due = self.frames.is_multiple_of(self.step);
        self.frames += 1;
        self.size = (frame.width, frame.height);
        self.span = Some((self.span.map_or(index, |(first, _)| first), index));
        let found: Vec<(u64, &Detection)> = item
            .detections
            .iter()
            .filter(|found| found.bbox.is_finite() && found.score.is_finite())
            .filter_map(|found| Some((found.track_id?, found)))
            .collect();
        self.covered_frames += u64::from(!found.is_empty());
        self.boxes += found.len() as u64;
        self.filled += found.iter().filter(|(_, found)| found.origin != DetectionOrigin::Detected).count() as u64;
        let boxes: Vec<(u64, BBox)> = found.iter().map(|(id, found)| (*id, found.bbox)).collect();
        let mut image: Option<HostSurface> = None;
        for (id, found) in &found {
            if self.track(*id, found, frame) {
                let surface = match &image {
                    Some(surface) => surface,
                    None => image.insert(host_image(frame).map_err(cuda_error)?),
                };
                self.thumbnail(*id, found, frame, surface)?;
            }
        }
        if is_due {
            self.show(frame, &boxes, false)?;
        }
        self.follow(frame, &boxes)?;
        self.present = boxes.iter().copied().collect();
        self.before = Some((frame.clone(), boxes));
        Ok(())
    }

    /// Counts a detection for its track; returns whether a thumbnail is due.
    fn track(&mut self, id: u64, found: &Detection, frame: &Frame) -> bool {
        let at = (frame.index, frame.seconds(), found.bbox);
        let most = if self.thumbnails < MANY_THUMBNAILS { MOST_THUMBNAILS } else { FEW_THUMBNAILS };
        let track = self.tracks.entry(id).or_insert_with(|| Track {
            id,
            first: at,
            last: at,
            seen: 0,
            filled: 0,
            best: 0.0,
            lowest: 1.0,
            thumbnails: Vec::new(),
            step: 1,
            most,
        });
        track.last = at;
        let is_due = (track.seen + track.filled).is_multiple_of(track.step);
        if found.origin == DetectionOrigin::Detected {
            track.seen += 1;
            track.best = track.best.max(found.score);
            track.lowest = track.lowest.min(found.score);
        } else {
            track.filled += 1;
        }
        is_due
    }

    fn thumbnail(&mut self, id: u64, found: &Detection, frame: &Frame, surface: &HostSurface) -> Result<(), StageError> {
        let Some(jpeg) = Jpeg::around(surface, &frame.color, &found.bbox, THUMBNAIL_SIZE)? else { return Ok(()) };
        let Some(track) = self.tracks.get_mut(&id) else { return Ok(()) };
        let before = track.thumbnails.len();
        let (score, origin) = (found.score, found.origin);
        track.thumbnails.push(Thumbnail { frame: frame.index, secs: frame.seconds(), score, origin, jpeg });
        if track.thumbnails.len() >= 2 * track.most {
            let mut place = 0;
            track.thumbnails.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            track.step *= 2;
        }
        self.thumbnails = (self.thumbnails + track.thumbnails.len()).saturating_sub(before);
        Ok(())
    }

    /// Keeps a frame to draw on.
    fn show(&mut self, frame: &Frame, boxes: &[(u64, BBox)], is_edge: bool) -> Result<(), StageError> {
        if self.shown.contains_key(&frame.index) {
            return Ok(());
        }
        let surface = host_image(frame).map_err(cuda_error)?;
        let jpeg = Jpeg::of_frame(&surface, &frame.color, FRAME_SIZE)?;
        self.shown.insert(frame.index, Shown { secs: frame.seconds(), jpeg, boxes: boxes.to_vec(), is_edge });
        if is_edge {
            self.edges += 1;
        } else if self.shown.len() - self.edges >= 2 * MOST_FRAMES {
            let mut place = 0;
            self.shown.retain(|_, shown| {
                place += usize::from(!shown.is_edge);
                shown.is_edge || place % 2 == 1
            });
            self.step *= 2;
        }
        Ok(())
    }

    fn show_edge(&mut self, frame: &Frame, boxes: &[(u64, BBox)]) -> Result<(), StageError> {
        if self.edges < MOST_EDGES { self.show(frame, boxes, true) } else { Ok(()) }
    }

    /// Records tracks that disappeared since the previous frame, and new ones.
    fn follow(&mut self, frame: &Frame, boxes: &[(u64, BBox)]) -> Result<(), StageError> {
        let (index, secs) = (frame.index, frame.seconds());
        while self.losses.front().is_some_and(|loss| secs - loss.secs > REJOIN_SECS)
            && let Some(loss) = self.losses.pop_front()
        {
            self.ends(loss, index.saturating_sub(1));
        }
        let is_here = |id: u64| boxes.iter().any(|(here, _)| *here == id);
        let gone: Vec<(u64, BBox)> =
            self.present.iter().filter(|(id, bbox)| !is_here(**id) && !self.is_at_border(bbox)).map(|(id, bbox)| (*id, *bbox)).collect();
        let fresh: Vec<(u64, BBox)> = boxes.iter().filter(|(id, _)| !self.present.contains_key(id)).copied().collect();
        for (id, bbox) in fresh {
            self.begins(id, bbox, index, secs)?;
        }
        if !gone.is_empty() {
            self.show_edge(frame, boxes)?;
        }
        for (id, bbox) in gone {
            self.losses.push_back(Loss { id, bbox, frame: index, secs });
            if self.losses.len() > MOST_PENDING
                && let Some(oldest) = self.losses.pop_front()
            {
                self.ends(oldest, index);
            }
        }
        Ok(())
    }

    fn is_at_border(&self, bbox: &BBox) -> bool {
        let (width, height) = (self.size.0 as f32, self.size.1 as f32);
        let (across, down) = (bbox.width() * BORDER, bbox.height() * BORDER);
        bbox.x1 < across || bbox.y1 < down || bbox.x2 > width - across || bbox.y2 > height - down
    }

    /// Handles a new track: a continuation of a lost one, or really new.
    fn begins(&mut self, id: u64, bbox: BBox, index: u64, secs: f64) -> Result<(), StageError> {
        let side = |bbox: &BBox| (bbox.width() + bbox.height()).max(1e-3) / 2.0;
        let distance = |loss: &Loss| {
            let (from, to) = (loss.bbox.center(), bbox.center());
            let ratio = side(&loss.bbox) / side(&bbox);
            let distance = (to.x - from.x).hypot(to.y - from.y) / ((side(&loss.bbox) + side(&bbox)) / 2.0);
            let reach = 1.0 + (secs - loss.secs) as f32;
            (loss.id == id || (0.4..=2.5).contains(&ratio) && distance <= reach).then_some(distance)
        };
        let near = self.losses.iter().enumerate().filter_map(|(place, loss)| Some((place, distance(loss)?)));
        let nearest = near.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place);
        let before = self.before.take();
        if let Some(loss) = nearest.and_then(|place| self.losses.remove(place)) {
            let last = before.as_ref().map_or(index, |(frame, _)| frame.index);
            let (before_gap, after_gap) = (Some((loss.id, loss.bbox)), Some((id, bbox)));
            // Found again in the frame in which it was lost: only its identity changed.
            if last >= loss.frame {
                self.places.push(Place {
                    doubt: Doubt::Gap,
                    first: loss.frame,
                    last,
                    secs: loss.secs,
                    before: before_gap,
                    after: after_gap,
                });
            }
        } else if let Some((frame, boxes)) = &before
            && !self.is_at_border(&bbox)
            && self.tracks.get(&id).is_some_and(|track| track.first.0 == index)
        {
            self.show_edge(frame, boxes)?;
            let (first, after) = (frame.index, Some((id, bbox)));
            self.places.push(Place { doubt: Doubt::Begins, first, last: first, secs: frame.seconds(), before: None, after });
        }
        self.before = before;
        Ok(())
    }

    fn ends(&mut self, loss: Loss, last: u64) {
        let before = Some((loss.id, loss.bbox));
        self.places.push(Place { doubt: Doubt::Ends, first: loss.frame, last, secs: loss.secs, before, after: None });
    }

    /// Ends the stream: returns the remaining doubtful places, most serious first.
    pub(super) fn end(&mut self) {
        let last = self.span.map_or(0, |(_, last)| last);
        while let Some(loss) = self.losses.pop_front() {
            self.ends(loss, last);
        }
        self.before = None;
        let tracks = &self.tracks;
        let sightings = |side: Option<(u64, BBox)>| side.and_then(|(id, _)| tracks.get(&id)).map_or(0, |track| track.seen);
        self.places.sort_by_key(|place| {
            let weight = match place.doubt {
                Doubt::Gap => place.last - place.first + 1,
                // A track with many detections does not end or begin without a reason.
                Doubt::Ends => sightings(place.before),
                Doubt::Begins => sightings(place.after),
            };
            (place.doubt, std::cmp::Reverse(weight))
        });
    }
}
