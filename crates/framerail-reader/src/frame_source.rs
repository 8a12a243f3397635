//! A video read from its start to its end: what readers on the host and on cards have in common.

use std::collections::VecDeque;

use framerail_core::{Frame, StreamInfo};
use framerail_media::{Conversion, Damage, MediaItem};

use crate::{PiecePlan, ReaderError};

/// Reads one video stream: frames in presentation order with strictly increasing PTS, and its side packets between them.
///
/// # For implementors
/// The contract is `tests/frame_source.rs`.
pub trait FrameSource: Send {
    /// The stream: size, format and colour as the first frame has them.
    fn info(&self) -> &StreamInfo;

    /// The next frame or packet; `None` at the end, also when the source broke off (see [`FrameSource::damage`]).
    ///
    /// # Errors
    /// What ends the reading. Damaged packets are not an error but counted.
    fn next_item(&mut self) -> Result<Option<MediaItem>, ReaderError>;

    /// What was not as it should be, so far.
    fn damage(&self) -> Damage;

    /// Conversions of frames on the host to pixel formats that are passed on, so far.
    fn conversions(&self) -> Vec<Conversion>;

    /// What was done, so far.
    fn stats(&self) -> SourceStats;

    /// How it is read now.
    fn reading(&self) -> Reading;

    /// What the user should know of how it is read, from the start.
    fn notice(&self) -> Option<&str> {
        None
    }

    /// Where the host decoded in place of a card for the first time, in seconds, and why.
    fn on_host(&self) -> Option<(f64, String)> {
        None
    }
}

/// Reads on until the first frame: what was read, the frame last, and that frame, unless the source ends before it.
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
    /// One decoder takes packets as they come; why.
    Sequential(String),
    /// Pieces are decoded side by side.
    Pieces(PiecePlan),
}

/// What a source has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceStats {
    /// Decoders that ran side by side.
    pub decoders: usize,
    /// Pieces that the stream was cut into; 0 when it was decoded as one.
    pub pieces: u64,
    /// Pictures that a card decoded, shown or not.
    pub pictures_decoded: u64,
    /// The most frames that waited for their turn.
    pub most_waiting: usize,
    /// Frames that the host decoded in place of the card, and gave as they are.
    pub frames_on_host: u64,
    /// What was moved between host and card, and who waited.
    #[cfg(feature = "cuda")]
    pub traffic: framerail_cuda::Traffic,
}
