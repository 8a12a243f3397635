//! Corrections from the review page: tracks to remove or to leave visible, and boxes to add.

use std::{
    fs,
    path::{Path, PathBuf},
};

use framerail_core::{BBox, Detection, DetectionOrigin, Label};
use framerail_pipeline::{ErrorKind, StageError};
use serde::Deserialize;

use super::records::Records;

/// More than a person adds by hand.
const MAX_BYTES: u64 = 16 << 20;

/// Frames of a track; the whole track without limits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfTrack {
    track: u64,
    #[serde(default)]
    first: u64,
    #[serde(default = "last")]
    last: u64,
}

fn last() -> u64 {
    u64::MAX
}

impl OfTrack {
    fn holds(&self, track: u64, frame: u64) -> bool {
        self.track == track && (self.first..=self.last).contains(&frame)
    }
}

/// An object that no detector found.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Added {
    first: u64,
    last: u64,
    /// Frame, then x1, y1, x2, y2 in its pixels; boxes in between are interpolated, and beyond the ends they stay in place.
    boxes: Vec<(u64, f32, f32, f32, f32)>,
}

impl Added {
    fn check(&self) -> Result<(), &'static str> {
        let is_box =
            |(_, x1, y1, x2, y2): &(u64, f32, f32, f32, f32)| [x1, y1, x2, y2].iter().all(|at| at.is_finite()) && x2 > x1 && y2 > y1;
        match () {
            () if self.first > self.last => Err("'first' lies behind 'last'"),
            () if self.boxes.is_empty() => Err("'boxes' has no box"),
            () if !self.boxes.iter().all(is_box) => Err("a box is [frame, x1, y1, x2, y2] with x1 < x2 and y1 < y2"),
            () if !self.boxes.is_sorted_by(|a, b| a.0 < b.0) => Err("the frames of 'boxes' must increase"),
            () => Ok(()),
        }
    }

    fn at(&self, frame: u64) -> Option<BBox> {
        if !(self.first..=self.last).contains(&frame) {
            return None;
        }
        let bbox = |(_, x1, y1, x2, y2): &(u64, f32, f32, f32, f32)| BBox::from_xyxy(*x1, *y1, *x2, *y2);
        let place = self.boxes.partition_point(|(at, ..)| *at <= frame);
        match (place.checked_sub(1).and_then(|before| self.boxes.get(before)), self.boxes.get(place)) {
            (Some(before), Some(after)) => {
                let way = (frame - before.0) as f32 / (after.0 - before.0) as f32;
                Some(bbox(before).lerp(&bbox(after), way))
            }
            (Some(only), None) | (None, Some(only)) => Some(bbox(only)),
            (None, None) => None,
        }
    }
}

/// What to do with a recorded detection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    Cover,
    Remove,
    LeaveVisible,
}

/// The corrections file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Corrections {
    #[serde(skip)]
    path: PathBuf,
    /// The detections that are corrected.
    detections: Option<PathBuf>,
    /// Name of the input, as information.
    #[serde(default)]
    #[allow(dead_code, reason = "a note to people")]
    input: String,
    /// Width and height of the frames.
    pub(super) size: Option<[u32; 2]>,
    #[serde(default)]
    remove: Vec<OfTrack>,
    #[serde(default)]
    visible: Vec<OfTrack>,
    #[serde(default)]
    add: Vec<Added>,
}

impl Corrections {
    /// Reads a file.
    ///
    /// # Errors
    /// `Input`, with the file and what is wrong.
    pub(super) fn read(path: &Path) -> Result<Self, StageError> {
        let wrong = |reason: &dyn std::fmt::Display| StageError::new(ErrorKind::Input, format!("{}: {reason}", path.display()));
        let bytes = fs::metadata(path).map_err(|error| wrong(&error))?.len();
        if bytes > MAX_BYTES {
            return Err(wrong(&format_args!("{bytes} bytes are too many for corrections; at most {MAX_BYTES}")));
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
        let read: Self = toml::from_str(&text).map_err(|error| {
            let line = error.span().map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
            let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
            wrong(&format_args!("{place}{}", error.message().lines().collect::<Vec<_>>().join(" ")))
        })?;
        for (number, added) in read.add.iter().enumerate() {
            added.check().map_err(|why| wrong(&format_args!("[[add]] number {}: {why}", number + 1)))?;
        }
        Ok(Self { path: path.to_owned(), ..read })
    }

    /// The detections file as named, else a file of this name beside the corrections: pages and downloads may be in different folders.
    pub(super) fn detections_file(&self) -> Option<PathBuf> {
        let named = self.detections.as_deref()?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let beside = named.file_name().map(|name| folder.join(name)).filter(|path| path.is_file());
        let placed = folder.join(named);
        Some(if placed.is_file() { placed } else { beside.unwrap_or(placed) })
    }

    /// Checks that every named track exists.
    ///
    /// # Errors
    /// `Input`, with the track.
    pub(super) fn check(&self, records: &Records) -> Result<(), StageError> {
        let stray = self.remove.iter().chain(&self.visible).find(|of| !records.tracks.contains(&of.track));
        stray.map_or(Ok(()), |of| {
            let (corrections, detections) = (self.path.display(), records.path.display());
            let message = format!("{corrections}: there is no track {} in {detections}; the two do not belong together", of.track);
            Err(StageError::new(ErrorKind::Input, message))
        })
    }

    /// What to do with a track on a frame.
    pub(super) fn ruling(&self, track: Option<u64>, frame: u64) -> Ruling {
        let Some(track) = track else { return Ruling::Cover };
        let names = |list: &[OfTrack]| list.iter().any(|of| of.holds(track, frame));
        match () {
            () if names(&self.remove) => Ruling::Remove,
            () if names(&self.visible) => Ruling::LeaveVisible,
            () => Ruling::Cover,
        }
    }

    /// Boxes added to a frame, numbered after the recorded tracks.
    pub(super) fn added(&self, frame: u64, records: &Records) -> Vec<Detection> {
        let label = records.labels.first().cloned().unwrap_or_else(|| Label { id: 0, name: "added".into() });
        let next = records.tracks.last().map_or(0, |last| last + 1);
        let detection = |(number, added): (u64, &Added)| {
            let mut detection = Detection::new(added.at(frame)?, 1.0, label.clone());
            (detection.track_id, detection.origin) = (Some(next + number), DetectionOrigin::Detected);
            Some(detection)
        };
        (0..).zip(&self.add).filter_map(detection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_boxes_move_between_their_frames() {
        let added = Added { first: 5, last: 20, boxes: vec![(10, 0.0, 0.0, 10.0, 10.0), (14, 8.0, 0.0, 18.0, 10.0)] };
        assert_eq!(added.check(), Ok(()));
        let left = |frame| added.at(frame).map(|bbox| bbox.x1);
        assert_eq!([4, 5, 10, 12, 14, 20, 21].map(left), [None, Some(0.0), Some(0.0), Some(4.0), Some(8.0), Some(8.0), None]);
    }

    #[test]
    fn wrong_boxes_are_named() {
        let added = |first, boxes: &[(u64, f32, f32, f32, f32)]| Added { first, last: 20, boxes: boxes.into() }.check();
        assert!(added(21, &[(1, 0.0, 0.0, 1.0, 1.0)]).is_err_and(|why| why.contains("behind")));
        assert!(added(0, &[]).is_err_and(|why| why.contains("no box")));
        assert!(added(0, &[(1, 1.0, 0.0, 1.0, 1.0)]).is_err_and(|why| why.contains("x1 < x2")));
        assert!(added(0, &[(1, 0.0, 0.0, f32::NAN, 1.0)]).is_err_and(|why| why.contains("x1 < x2")));
        assert!(added(0, &[(2, 0.0, 0.0, 1.0, 1.0), (2, 0.0, 0.0, 1.0, 1.0)]).is_err_and(|why| why.contains("increase")));
    }
}
