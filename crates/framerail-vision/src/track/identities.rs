//! One identity for an object that several streams show, recognised by its appearance.

use std::collections::{BTreeMap, BTreeSet};

use framerail_core::{AttributeValue, Detection, DetectionOrigin, StreamId};

use super::appearance::{self, Appearance};

/// Tracks of each stream whose identity is remembered; beyond it, those unseen longest are forgotten.
const MAX_TRACKS: usize = 4096;

/// Share of its embedding that an object keeps when it is seen.
const KEPT_APPEARANCE: f64 = 0.9;

/// How [`SharedIdentities`] recognises objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SharedOptions {
    /// Minimum cosine of two embeddings of the same object. Default 0.8.
    pub similarity: f32,
    /// Maximum number of objects that are remembered; beyond it, the one unseen longest is forgotten. Default 1000.
    pub max_objects: usize,
    /// Whether objects of different classes may be the same. Default false.
    pub across_classes: bool,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self { similarity: 0.8, max_objects: 1000, across_classes: false }
    }
}

/// An object.
#[derive(Clone, Debug)]
struct Known {
    class: u32,
    /// Smoothed over its detections; `None` until one has an embedding.
    appearance: Option<Appearance>,
    /// Number of the frame that showed it last.
    seen_at: u64,
}

/// The identity of a track.
#[derive(Clone, Copy, Debug)]
struct Track {
    identity: u64,
    /// Whether it was compared with the other objects: once, with its first embedding.
    is_compared: bool,
    seen_at: u64,
}

/// Replaces the identities of each stream by identities of all streams, which are numbered from 1.
///
/// A track is compared once, with its first embedding, to the objects that no other detection of its frame shows; the most similar one above
/// the limit gives it its identity. Streams may show an object at the same time.
#[derive(Clone, Debug)]
pub struct SharedIdentities {
    options: SharedOptions,
    objects: BTreeMap<u64, Known>,
    tracks: BTreeMap<StreamId, BTreeMap<u64, Track>>,
    next: u64,
    frames: u64,
    recognised: u64,
}

impl SharedIdentities {
    /// Without objects.
    pub fn new(options: SharedOptions) -> Self {
        Self { options, objects: BTreeMap::new(), tracks: BTreeMap::new(), next: 1, frames: 0, recognised: 0 }
    }

    /// Replaces the `track_id` of the detections of a stream's next frame.
    pub fn assign(&mut self, stream: StreamId, detections: &mut [Detection]) {
        self.frames += 1;
        let mut tracks = self.tracks.remove(&stream).unwrap_or_default();
        // Objects that tracks of this frame show already; others of its detections show other objects.
        let mut shown: BTreeSet<u64> = detections
            .iter()
            .filter_map(|found| tracks.get(&found.track_id?).filter(|track| track.is_compared))
            .map(|it| it.identity)
            .collect();
        let mut taken = BTreeSet::new();
        for found in detections {
            let Some(local) = found.track_id else { continue };
            let seen = embedding(found);
            let known = tracks.get(&local).copied().filter(|track| self.objects.contains_key(&track.identity));
            let track = match known {
                // Two tracks of one frame are two objects.
                Some(track) if track.is_compared && !taken.contains(&track.identity) => track,
                known => {
                    let recognised = seen.as_ref().and_then(|seen| self.recognise(found.label.id, seen, &shown));
                    let before = known.filter(|track| !taken.contains(&track.identity)).map(|track| track.identity);
                    let identity = recognised.or(before).unwrap_or_else(|| self.add(found.label.id));
                    self.recognised += u64::from(recognised.is_some());
                    if let Some(before) = before.filter(|before| *before != identity) {
                        self.objects.remove(&before);
                    }
                    Track { identity, is_compared: seen.is_some(), seen_at: 0 }
                }
            };
            shown.insert(track.identity);
            taken.insert(track.identity);
            if let Some(object) = self.objects.get_mut(&track.identity) {
                object.seen_at = self.frames;
                appearance::follow(&mut object.appearance, seen.as_ref(), KEPT_APPEARANCE);
            }
            found.track_id = Some(track.identity);
            tracks.insert(local, Track { seen_at: self.frames, ..track });
        }
        if tracks.len() > MAX_TRACKS {
            forget(&mut tracks, MAX_TRACKS / 2, |track| track.seen_at);
        }
        self.tracks.insert(stream, tracks);
        if self.objects.len() > self.options.max_objects {
            forget(&mut self.objects, self.options.max_objects, |object| object.seen_at);
        }
    }

    /// Forgets the tracks of a stream that ended; its objects are remembered.
    pub fn end(&mut self, stream: StreamId) {
        self.tracks.remove(&stream);
    }

    /// Number of tracks that were recognised as a known object.
    pub fn recognised(&self) -> u64 {
        self.recognised
    }

    /// Number of objects that are remembered.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }

    fn add(&mut self, class: u32) -> u64 {
        let identity = self.next;
        self.next += 1;
        self.objects.insert(identity, Known { class, appearance: None, seen_at: self.frames });
        identity
    }

    /// The most similar object that is not shown, if it is similar enough.
    fn recognise(&self, class: u32, seen: &Appearance, shown: &BTreeSet<u64>) -> Option<u64> {
        let is_candidate =
            |(identity, object): &(&u64, &Known)| !shown.contains(identity) && (self.options.across_classes || object.class == class);
        let alike = |(identity, object): (&u64, &Known)| Some((*identity, object.appearance.as_ref()?.similarity(seen)?));
        let best = self.objects.iter().filter(is_candidate).filter_map(alike).max_by(|a, b| a.1.total_cmp(&b.1))?;
        (best.1 >= f64::from(self.options.similarity) - 1e-6).then_some(best.0)
    }
}

/// The embedding of what the model saw; that of a predicted box is old.
fn embedding(found: &Detection) -> Option<Appearance> {
    let attributes = found.attributes.iter().filter(|_| found.origin == DetectionOrigin::Detected);
    attributes.into_iter().find_map(|attribute| match &attribute.value {
        AttributeValue::Embedding(embedding) => Appearance::new(embedding),
        _ => None,
    })
}

/// Keeps the entries that were seen last.
fn forget<V>(entries: &mut BTreeMap<u64, V>, keep: usize, seen_at: impl Fn(&V) -> u64) {
    let mut times: Vec<(u64, u64)> = entries.iter().map(|(key, entry)| (seen_at(entry), *key)).collect();
    times.sort_unstable();
    times.iter().take(times.len().saturating_sub(keep)).for_each(|(_, key)| drop(entries.remove(key)));
}

#[cfg(test)]
mod tests {
    use framerail_core::{Attribute, BBox, Label};

    use super::*;

    fn seen(track: u64, embedding: &[f32]) -> Detection {
        let mut found = Detection::new(BBox::from_xyxy(0.0, 0.0, 1.0, 1.0), 0.9, Label { id: 0, name: "person".into() });
        found.track_id = Some(track);
        if !embedding.is_empty() {
            found.attributes = vec![Attribute { model: "reid".into(), value: AttributeValue::Embedding(embedding.into()) }];
        }
        found
    }

    fn ids(shared: &mut SharedIdentities, stream: u32, mut found: Vec<Detection>) -> Vec<u64> {
        shared.assign(StreamId(stream), &mut found);
        found.iter().filter_map(|one| one.track_id).collect()
    }

    const ANNA: [f32; 3] = [1.0, 0.1, 0.0];
    const BEN: [f32; 3] = [0.0, 1.0, 0.1];

    #[test]
    fn an_object_has_one_number_in_all_streams() {
        let mut shared = SharedIdentities::new(SharedOptions::default());
        assert_eq!(ids(&mut shared, 0, vec![seen(1, &ANNA), seen(2, &BEN)]), [1, 2]);
        assert_eq!(ids(&mut shared, 1, vec![seen(1, &BEN), seen(2, &[0.0, 0.0, 1.0])]), [2, 3]);
        assert_eq!(ids(&mut shared, 1, vec![seen(7, &ANNA)]), [1], "while stream 0 shows it");
        shared.end(StreamId(0));
        assert_eq!(ids(&mut shared, 0, vec![seen(1, &BEN)]), [2], "numbers of a new stream begin again");
        assert_eq!(shared.recognised(), 3);
    }

    #[test]
    fn two_tracks_of_a_frame_are_two_objects() {
        let mut shared = SharedIdentities::new(SharedOptions::default());
        assert_eq!(ids(&mut shared, 0, vec![seen(1, &ANNA), seen(2, &ANNA)]), [1, 2]);
        assert_eq!(ids(&mut shared, 0, vec![seen(2, &ANNA), seen(1, &ANNA)]), [2, 1]);
        // Track 1 is hidden, track 3 takes its number, and track 1 returns.
        assert_eq!(ids(&mut shared, 0, vec![seen(2, &ANNA), seen(3, &ANNA)]), [2, 1]);
        let both = ids(&mut shared, 0, vec![seen(3, &ANNA), seen(1, &ANNA)]);
        assert_eq!(both[0], 1);
        assert_ne!(both[1], 1);
    }

    #[test]
    fn a_track_is_compared_with_its_first_embedding() {
        let mut shared = SharedIdentities::new(SharedOptions::default());
        ids(&mut shared, 0, vec![seen(1, &ANNA)]);
        assert_eq!(ids(&mut shared, 1, vec![seen(1, &[])]), [2], "not known yet");
        assert_eq!(ids(&mut shared, 1, vec![seen(1, &ANNA)]), [1]);
        assert_eq!(ids(&mut shared, 1, vec![seen(1, &BEN)]), [1], "and keeps its number");
        assert_eq!(shared.objects(), 1);
        let mut predicted = seen(5, &ANNA);
        predicted.origin = DetectionOrigin::Held;
        assert_eq!(ids(&mut shared, 2, vec![predicted]), [3], "the embedding of a predicted box does not count");
    }

    #[test]
    fn memory_is_bounded() {
        let mut shared = SharedIdentities::new(SharedOptions { max_objects: 3, ..SharedOptions::default() });
        for track in 1..20 {
            let mut embedding = [0.0; 32];
            embedding[track as usize] = 1.0;
            ids(&mut shared, 0, vec![seen(track, &embedding)]);
            assert!(shared.objects() <= 3);
        }
        for track in 0..3 * MAX_TRACKS as u64 {
            ids(&mut shared, 1, vec![seen(track, &[])]);
        }
        assert!(shared.tracks[&StreamId(1)].len() <= MAX_TRACKS);
    }
}
