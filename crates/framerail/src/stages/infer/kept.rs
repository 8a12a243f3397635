//! Keeps the last results of tracks for frames in which the model does not run on them.

use std::collections::HashMap;

use framerail_core::{Attribute, BBox, Detection, StreamId};
use framerail_pipeline::FrameItem;

/// Frames after which the results of an unseen track are forgotten.
const FORGET_AFTER: u64 = 1000;

/// The last result for a track, and its box at that time.
struct Word {
    detection: Detection,
    /// Number of the last frame that needed it.
    needed: u64,
}

#[derive(Default)]
struct Stream {
    frames: u64,
    tracks: HashMap<u64, Word>,
}

/// Results for the tracks of every stream; empty unless `crop` selects tracks in every Nth frame only.
#[derive(Default)]
pub(super) struct KeptAttributes {
    is_needed: bool,
    streams: HashMap<StreamId, Stream>,
}

impl KeptAttributes {
    pub(super) fn new(is_needed: bool) -> Self {
        Self { is_needed, streams: HashMap::new() }
    }

    /// Stores the result for a detection, even an empty one.
    pub(super) fn remember(&mut self, stream: StreamId, detection: &Detection, attribute: Option<&Attribute>) {
        let Some(track) = detection.track_id.filter(|_| self.is_needed) else { return };
        let stream = self.streams.entry(stream).or_default();
        let attributes = attribute.cloned().into_iter().collect();
        let detection = Detection { landmarks: Vec::new(), attributes, ..detection.clone() };
        stream.tracks.insert(track, Word { detection, needed: stream.frames });
    }

    /// Attaches the stored results of these detections' tracks, moved with their boxes; returns the number of attributes.
    pub(super) fn put(&mut self, item: &mut FrameItem, detections: &[usize]) -> u64 {
        if !self.is_needed {
            return 0;
        }
        let stream = self.streams.entry(item.frame.stream).or_default();
        stream.frames += 1;
        let mut count = 0;
        for index in detections {
            let Some(detection) = item.detections.get_mut(*index) else { continue };
            let word = detection.track_id.and_then(|track| stream.tracks.get_mut(&track));
            if let Some(word) = word {
                word.needed = stream.frames;
                let moved = moved(&word.detection, detection.bbox);
                count += moved.len() as u64;
                detection.attributes.extend(moved);
            }
        }
        let frames = stream.frames;
        stream.tracks.retain(|_, word| frames - word.needed < FORGET_AFTER);
        count
    }

    /// Forgets an ended stream.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }
}

fn moved(said_of: &Detection, bbox: BBox) -> Vec<Attribute> {
    said_of.moved_to(bbox).attributes
}
