//! Sequential reading of a video: the interface shared by the host and GPU readers.

use std::collections::VecDeque;

use framerail_core::{Frame, StreamInfo};
use framerail_media::{Conversion, Damage, MediaItem};

use crate::{PiecePlan, ReaderError};

/// Reads one video stream: frames in presentation order with strictly increasing PTS, and its side packets between them.
///
/// # For implementors
/// The contract is `tests/frame_source.rs`.
pub trait FrameSource: Send {
    /// Size, format and colour of the stream, as in its first frame.
    fn info(&self) -> &StreamInfo;

    /// Returns the next frame or packet; `None` at the end, also when the source ended early (see [`FrameSource::damage`]).
    ///
    /// # Errors
    /// Errors that end the reading. Damaged packets are counted instead.
    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError>;

    /// Damage found so far.
    fn damage(&self) -> Damage;

    /// Host conversions to supported pixel formats so far.
    fn conversions(&self) -> Vec<Conversion>;

    /// Statistics so far.
    fn stats(&self) -> SourceStats;

    /// How the source is being read.
    fn reading(&self) -> Reading;

    /// A notice to the user about how the source is read, available from the start.
    fn notice(&self) -> Option<&str> {
        None
    }

    /// When the host first decoded instead of a GPU, in seconds, and why.
    fn on_host(&self) -> Option<(f64, String)> {
        None
    }
}

/// Reads up to the first frame. Returns the items read, including that frame at the end, and the frame itself unless the source ended
/// before it.
///
/// # Errors
/// As [`FrameSource::next_item`].
pub(crate) fn until_first_frame(source: &mut impl FrameSource) -> Result<(VecDeque<MediaItem>, Option<Frame>), ReaderError> {
    let mut items = VecDeque::new();
    while let Some(item) = source.next_item()? {
        let first = if let MediaItem::Frame(frame) = &item { Some(frame.clone()) } else { None };
        items.push_back(item);
        if first.is_some() {
            return Ok((items, first));
        }
    }
    Ok((items, None))
}

/// How a source is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// One decoder processes packets in order, for this reason.
    Sequential(String),
    /// Pieces are decoded in parallel.
    Pieces(PiecePlan),
}

/// Statistics of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Decoders that ran in parallel.
    pub decoders: usize,
    /// Pieces of the stream; 0 when it was decoded as one.
    pub pieces: u64,
    /// Frames decoded by a GPU, shown or not.
    pub pictures_decoded: u64,
    /// Maximum number of frames that waited for their turn.
    pub most_waiting: usize,
    /// Frames that the host decoded instead of the GPU and returned in host memory.
    pub frames_on_host: u64,
    /// Transfers between host and GPU, and waits.
    #[cfg(feature = "cuda")]
    pub traffic: framerail_cuda::Traffic,
}
