//! Open sources that are kept for the next clip of them.

#[cfg(feature = "cuda")]
use super::card::CardSource;
use super::output::SourceOutput;
use crate::VideoReader;

/// An open source, and what is made of its pictures.
pub(super) struct Opened {
    pub(super) reader: VideoReader,
    pub(super) output: SourceOutput,
    /// What makes clips on a card, once that was tried.
    #[cfg(feature = "cuda")]
    pub(super) card: CardState,
}

/// Whether a source's clips are made on the card.
#[cfg(feature = "cuda")]
pub(super) enum CardState {
    Untried,
    Ready(Box<CardSource>),
    /// The host makes them.
    Refused,
}

/// Sources that no thread uses now, the longest unused first.
pub(super) struct Kept {
    most: usize,
    sources: Vec<(SourceKey, Opened)>,
}

/// A source's key, and whether it was opened for a thread that decodes on a core for a card.
pub(super) type SourceKey = (u64, bool);

impl Kept {
    pub(super) fn new(most: usize) -> Self {
        Self { most, sources: Vec::new() }
    }

    /// The source of this key, if one is open and idle.
    pub(super) fn take(&mut self, key: SourceKey) -> Option<Opened> {
        let place = self.sources.iter().rposition(|(kept, _)| *kept == key)?;
        Some(self.sources.remove(place).1)
    }

    /// Keeps a source; gives those that are too many, to be closed outside of the lock.
    #[must_use]
    pub(super) fn put(&mut self, key: SourceKey, opened: Opened) -> Vec<(SourceKey, Opened)> {
        self.sources.push((key, opened));
        let surplus = self.sources.len().saturating_sub(self.most);
        self.sources.drain(..surplus).collect()
    }
}
