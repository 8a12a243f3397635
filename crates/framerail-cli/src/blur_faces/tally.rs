//! Counts the covered objects, for the summary.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use framerail::{
    core::DetectionOrigin,
    pipeline::{FrameItem, Probe, Verdict},
};

/// Counts faces, or other objects of a model, before they are covered.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The name of the class.
    noun: String,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    frames_with_faces: AtomicU64,
    seen: AtomicU64,
    filled: AtomicU64,
}

impl Tally {
    /// For objects of this class.
    pub fn new(noun: &str) -> Self {
        Self { noun: noun.to_owned(), counts: Arc::default() }
    }

    /// The name of the class.
    pub fn noun(&self) -> &str {
        &self.noun
    }

    /// Callback for the edge into the stage that covers faces.
    pub fn probe(&self) -> Probe {
        let counts = Arc::clone(&self.counts);
        Arc::new(move |item: &mut FrameItem| {
            let filled = item.detections.iter().filter(|face| face.origin != DetectionOrigin::Detected).count();
            let seen = item.detections.len() - filled;
            counts.frames_with_faces.fetch_add(u64::from(!item.detections.is_empty()), Ordering::Relaxed);
            counts.seen.fetch_add(seen as u64, Ordering::Relaxed);
            counts.filled.fetch_add(filled as u64, Ordering::Relaxed);
            Verdict::Keep
        })
    }

    /// Formats the counts: `382 faces in 380 frames, 12 of them filled in`.
    pub fn words(&self) -> String {
        let [frames, seen, filled] =
            [&self.counts.frames_with_faces, &self.counts.seen, &self.counts.filled].map(|count| count.load(Ordering::Relaxed));
        if seen + filled == 0 {
            return format!("no {}s found", self.noun);
        }
        let faces = seen + filled;
        let filled = if filled > 0 { format!(", {filled} of them filled in") } else { String::new() };
        format!("{} in {}{filled}", counted(faces, &self.noun), counted(frames, "frame"))
    }
}

/// `1 face`, `2 faces`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
