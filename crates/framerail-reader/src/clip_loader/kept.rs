//! Open sources kept for later clips.

#[cfg(feature = "cuda")]
use super::gpu::GpuSource;
use super::output::SourceOutput;
use crate::VideoReader;

/// An open source, and how its frames are converted.
pub(super) struct Opened {
    pub(super) reader: VideoReader,
    pub(super) output: SourceOutput,
    /// Whether the GPU makes the clips of this source.
    #[cfg(feature = "cuda")]
    pub(super) gpu: GpuState,
}

/// Whether a source's clips are made on the GPU.
#[cfg(feature = "cuda")]
pub(super) enum GpuState {
    Untried,
    Ready(Box<GpuSource>),
    /// The host makes them.
    Refused,
}

/// Idle sources, least recently used first.
pub(super) struct Kept {
    most: usize,
    sources: Vec<(SourceKey, Opened)>,
}

/// A source's key, and whether it was opened for a thread that decodes on a CPU core for a GPU.
pub(super) type SourceKey = (u64, bool);

impl Kept {
    pub(super) fn new(most: usize) -> Self {
        Self { most, sources: Vec::new() }
    }

    /// The source with this key, if one is open and idle.
    pub(super) fn take(&mut self, key: SourceKey) -> Option<Opened> {
        let place = self.sources.iter().rposition(|(kept, _)| *kept == key)?;
        Some(self.sources.remove(place).1)
    }

    /// Keeps a source; returns the surplus ones, which the caller closes outside of the lock.
    #[must_use]
    pub(super) fn put(&mut self, key: SourceKey, opened: Opened) -> Vec<(SourceKey, Opened)> {
        self.sources.push((key, opened));
        let surplus = self.sources.len().saturating_sub(self.most);
        self.sources.drain(..surplus).collect()
    }
}
