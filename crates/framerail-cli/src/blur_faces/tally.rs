//! Counts what a run covers, for the lines at its end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use framerail::{
    core::DetectionOrigin,
    pipeline::{FrameItem, Probe, Verdict},
};

/// Faces on their way to being covered.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    frames_with_faces: AtomicU64,
    seen: AtomicU64,
    filled: AtomicU64,
}

impl Tally {
    /// For the edge into the stage that covers faces.
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

    /// In words: `382 faces in 380 frames, 12 of them filled in`.
    pub fn words(&self) -> String {
        let [frames, seen, filled] =
            [&self.counts.frames_with_faces, &self.counts.seen, &self.counts.filled].map(|count| count.load(Ordering::Relaxed));
        if seen + filled == 0 {
            return "no faces found".into();
        }
        let faces = seen + filled;
        let filled = if filled > 0 { format!(", {filled} of them filled in") } else { String::new() };
        format!("{} in {}{filled}", counted(faces, "face"), counted(frames, "frame"))
    }
}

/// `1 face`, `2 faces`.
pub fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}
