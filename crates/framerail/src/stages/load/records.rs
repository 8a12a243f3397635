//! Reads detections from the JSON lines of `save`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{BBox, Detection, DetectionOrigin, Frame, Label, OrientedBox, Point};
use framerail_pipeline::{ErrorKind, StageError};
use serde::Deserialize;

/// Maximum length of a record's line.
const MAX_LINE_BYTES: usize = 64 << 20;

/// A line: one frame.
#[derive(Deserialize)]
struct Line {
    stream: String,
    frame: u64,
    seconds: f64,
    detections: Vec<Found>,
}

#[derive(Clone, Debug, Deserialize)]
struct Found {
    label: String,
    #[serde(default)]
    label_id: u32,
    score: f32,
    #[serde(rename = "box")]
    bbox: [f32; 4],
    /// Centre x, centre y, width, height, radians clockwise.
    oriented: Option<[f32; 5]>,
    #[serde(default)]
    landmarks: Vec<[f32; 2]>,
    track_id: Option<u64>,
    #[serde(default)]
    origin: DetectionOrigin,
}

/// The record of a frame.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) frame: u64,
    found: Vec<Found>,
}

/// The records of a file.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: PathBuf,
    /// By stream, then by time in microseconds.
    streams: HashMap<String, BTreeMap<i64, Record>>,
    /// Classes in the order of their numbers.
    pub(super) labels: Vec<Label>,
    pub(super) tracks: BTreeSet<u64>,
}

impl Records {
    /// Reads a file of JSON lines.
    ///
    /// # Errors
    /// `Input`, with the file and the line.
    pub(super) fn read(path: &Path) -> Result<Self, StageError> {
        let wrong =
            |place: &str, reason: &dyn std::fmt::Display| StageError::new(ErrorKind::Input, format!("{}{place}: {reason}", path.display()));
        let file = File::open(path).map_err(|error| wrong("", &error))?;
        let mut records = Self { path: path.to_owned(), ..Self::default() };
        let mut labels: BTreeMap<u32, Arc<str>> = BTreeMap::new();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let place = format!(":{}", number + 1);
            let line = line.map_err(|error| wrong(&place, &error))?;
            if line.trim().is_empty() {
                continue;
            }
            if line.len() > MAX_LINE_BYTES {
                return Err(wrong(&place, &"the line is too long for a record"));
            }
            let record: Line = serde_json::from_str(&line)
                .map_err(|error| wrong(&place, &format_args!("not a record of `save` in JSON lines ({error})")))?;
            let is_finite = |found: &Found| {
                found
                    .bbox
                    .iter()
                    .chain(found.oriented.iter().flatten())
                    .chain(found.landmarks.iter().flatten())
                    .all(|value| value.is_finite())
            };
            if !record.seconds.is_finite() || !record.detections.iter().all(is_finite) {
                return Err(wrong(&place, &"a number is not finite"));
            }
            for found in &record.detections {
                labels.entry(found.label_id).or_insert_with(|| found.label.as_str().into());
                records.tracks.extend(found.track_id);
            }
            let frames = records.streams.entry(record.stream).or_default();
            frames.insert(micros(record.seconds), Record { frame: record.frame, found: record.detections });
        }
        if records.streams.is_empty() {
            return Err(wrong("", &"there are no records in it"));
        }
        records.labels = labels.into_iter().map(|(id, name)| Label { id, name }).collect();
        Ok(records)
    }

    /// The record of a frame. Records of a single stream match a stream of any name, because files are renamed.
    pub(super) fn of(&self, stream: &str, frame: &Frame) -> Option<&Record> {
        let only = self.streams.values().next().filter(|_| self.streams.len() == 1);
        self.streams.get(stream).or(only)?.get(&micros(frame.seconds()))
    }

    /// The detections of a record.
    pub(super) fn detections(&self, record: &Record) -> Vec<Detection> {
        let label = |found: &Found| {
            let known = self.labels.iter().find(|label| label.id == found.label_id && *label.name == *found.label);
            known.cloned().unwrap_or_else(|| Label { id: found.label_id, name: found.label.as_str().into() })
        };
        let detection = |found: &Found| {
            let [x1, y1, x2, y2] = found.bbox;
            let mut detection = Detection::new(BBox::from_xyxy(x1, y1, x2, y2), found.score, label(found));
            detection.oriented =
                found.oriented.map(|[x, y, width, height, angle]| OrientedBox { center: Point { x, y }, width, height, angle });
            detection.landmarks = found.landmarks.iter().map(|[x, y]| Point { x: *x, y: *y }).collect();
            (detection.track_id, detection.origin) = (found.track_id, found.origin);
            detection
        };
        record.found.iter().map(detection).collect()
    }
}

/// Records have six decimals.
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}
