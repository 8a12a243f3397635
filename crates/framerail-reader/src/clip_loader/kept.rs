//! Open sources that are kept for the next clip of them.

use super::output::SourceOutput;
use crate::VideoReader;

/// An open source, and what is made of its pictures.
pub(super) struct Opened {
    pub(super) reader: VideoReader,
    pub(super) output: SourceOutput,
}

/// Sources that no thread uses now, the longest unused first.
pub(super) struct Kept {
    most: usize,
    sources: Vec<(u64, Opened)>,
}

impl Kept {
    pub(super) fn new(most: usize) -> Self {
        Self { most, sources: Vec::new() }
    }

    /// The source of this key, if one is open and idle.
    pub(super) fn take(&mut self, key: u64) -> Option<Opened> {
        let place = self.sources.iter().rposition(|(kept, _)| *kept == key)?;
        Some(self.sources.remove(place).1)
    }

    /// Keeps a source; gives those that are too many, to be closed outside of the lock.
    #[must_use]
    pub(super) fn put(&mut self, key: u64, opened: Opened) -> Vec<(u64, Opened)> {
        self.sources.push((key, opened));
        let surplus = self.sources.len().saturating_sub(self.most);
        self.sources.drain(..surplus).collect()
    }
}
