//! Objects that left or were hidden, and can be found again by their appearance.

use super::{Thing, appearance::similarity, assignment::Costs};

/// Maximum number of objects that are kept; beyond it, those unseen longest are given up.
const MAX_OBJECTS: usize = 1000;

/// A new track without an identity.
pub(super) struct Newcomer {
    /// The algorithm's number.
    pub(super) id: u64,
    /// As just seen; its embedding is in `appearance`.
    pub(super) thing: Thing,
    /// Updates since it was first seen.
    pub(super) age: u64,
}

/// Objects whose tracks have ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Gallery(Vec<Thing>);

impl Gallery {
    /// Keeps an object; returns how many were given up for it.
    pub(super) fn keep(&mut self, thing: Thing) -> u64 {
        self.0.push(thing);
        if self.0.len() <= MAX_OBJECTS {
            return 0;
        }
        let longest = self.0.iter().enumerate().max_by(|a, b| a.1.unseen_frames.total_cmp(&b.1.unseen_frames)).map(|(place, _)| place);
        longest.map_or(0, |place| {
            self.0.swap_remove(place);
            1
        })
    }

    /// Lets time pass; returns how many objects were unseen for more than `limit` frames and are given up.
    pub(super) fn wait(&mut self, frames: f64, limit: f64) -> u64 {
        let before = self.0.len();
        self.0.iter_mut().for_each(|thing| thing.unseen_frames += frames);
        self.0.retain(|thing| thing.unseen_frames <= limit);
        (before - self.0.len()) as u64
    }

    /// Counts an update that saw none of the objects.
    pub(super) fn update(&mut self) {
        self.0.iter_mut().for_each(|thing| thing.unseen_updates += 1);
    }

    pub(super) fn things(&self) -> impl Iterator<Item = &Thing> {
        self.0.iter()
    }

    pub(super) fn take(&mut self, track_id: u64) -> Option<Thing> {
        let place = self.0.iter().position(|thing| thing.last.track_id == Some(track_id))?;
        Some(self.0.swap_remove(place))
    }

    pub(super) fn clear(&mut self) -> u64 {
        std::mem::take(&mut self.0).len() as u64
    }
}

/// Pairs newcomers with the objects that they most resemble, by a cosine of at least `limit`. Returns indices.
///
/// An object that was still seen when the newcomer appeared is another one.
pub(super) fn pairs(newcomers: &[Newcomer], candidates: &[&Thing], limit: f64, across_classes: bool) -> Vec<(usize, usize)> {
    let costs = Costs::new(newcomers.len(), candidates.len(), |row, column| {
        let (newcomer, thing) = (&newcomers[row], candidates[column]);
        let is_possible = thing.unseen_updates > newcomer.age && (across_classes || thing.last.label.id == newcomer.thing.last.label.id);
        let cosine = similarity(newcomer.thing.appearance.as_ref(), thing.appearance.as_ref()).filter(|_| is_possible);
        cosine.map_or(f64::NAN, |cosine| 1.0 - cosine)
    });
    costs.assign_below(1.0 - limit + 1e-9)
}
