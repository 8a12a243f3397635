//! What was said of tracks last, for frames in which they are not looked at again.

use std::collections::HashMap;

use framerail_core::{Attribute, BBox, Detection, StreamId};
use framerail_pipeline::FrameItem;

/// Frames after which what was said of a track that was not seen is forgotten.
const FORGET_AFTER: u64 = 1000;

/// What was said of a track, and where it was then.
struct Word {
    detection: Detection,
    /// The frame, by number, in which it was needed last.
    needed: u64,
}

#[derive(Default)]
struct Stream {
    frames: u64,
    tracks: HashMap<u64, Word>,
}

/// What was said of the tracks of every stream; empty unless `crop` looks at tracks in every Nth frame only.
#[derive(Default)]
pub(super) struct KeptAttributes {
    is_needed: bool,
    streams: HashMap<StreamId, Stream>,
}

impl KeptAttributes {
    pub(super) fn new(is_needed: bool) -> Self {
        Self { is_needed, streams: HashMap::new() }
    }

    /// Takes down what was said of a detection: nothing, too.
    pub(super) fn remember(&mut self, stream: StreamId, detection: &Detection, attribute: Option<&Attribute>) {
        let Some(track) = detection.track_id.filter(|_| self.is_needed) else { return };
        let stream = self.streams.entry(stream).or_default();
        let attributes = attribute.cloned().into_iter().collect();
        let detection = Detection { landmarks: Vec::new(), attributes, ..detection.clone() };
        stream.tracks.insert(track, Word { detection, needed: stream.frames });
    }

    /// Puts what was said of these detections' tracks on them, moved along with their boxes; gives the number of attributes.
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

    /// Forgets a stream that has ended.
    pub(super) fn forget(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }
}

fn moved(said_of: &Detection, bbox: BBox) -> Vec<Attribute> {
    said_of.moved_to(bbox).attributes
}
