//! Frames of a video stream, and the packets that travel beside it, in the order in which the file holds them.

use framerail_core::{Frame, FramePool, Packet, StreamInfo};
use serde::Serialize;

use crate::{InputOptions, MediaError};

/// What a reader met that was not as it should be. All zero for a sound file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Packets that the container marks as damaged or cut off.
    pub packets_corrupt: u64,
    /// Packets that the decoder refused.
    pub packets_dropped: u64,
    /// Frames in which the decoder concealed errors.
    pub frames_repaired: u64,
    /// Frames whose timestamp was missing, doubled or backwards, and has been worked out.
    pub timestamps_repaired: u64,
    /// Errors that the decoder reported.
    pub decode_errors: u64,
    /// Numbers missing in an image sequence.
    pub images_missing: u64,
    /// Why the source ended before its time, if it did.
    pub ended_early: Option<String>,
}

impl Damage {
    /// Whether anything was damaged.
    pub fn is_any(&self) -> bool {
        *self != Damage::default()
    }
}

/// What a reader delivers.
#[derive(Clone, Debug)]
pub enum MediaItem {
    /// A decoded picture.
    Frame(Frame),
    /// A packet of a side stream.
    Packet(Packet),
}

/// Reads one video stream.
pub struct MediaReader {
    _private: (),
}

impl MediaReader {
    /// Opens a source and decodes up to its first frame. `pool` serves frames that must be copied (rotated, converted).
    ///
    /// # Errors
    /// Everything that keeps the source from giving a frame.
    pub fn open(_options: &InputOptions, _pool: &FramePool) -> Result<Self, MediaError> {
        Err(MediaError::Unsupported { what: "reading".into(), reason: "under construction".into() })
    }

    /// The stream: size, format and colour as the first frame has them.
    pub fn info(&self) -> &StreamInfo {
        unreachable!()
    }

    /// The next frame or packet; `None` at the end.
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`; damaged packets are no error but counted in [`MediaReader::damage`].
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<MediaItem>, MediaError> {
        Ok(None)
    }

    /// What was not as it should be, so far.
    pub fn damage(&self) -> Damage {
        Damage::default()
    }

    /// Frames that were converted because their pixel format is not in [`framerail_core::PixelFormat`]: (from, to, count).
    pub fn conversions(&self) -> Vec<(String, String, u64)> {
        Vec::new()
    }

    /// What a writer must add to timestamps so that a selection starts at zero; 0 without `start_secs`.
    pub fn start_offset_micros(&self) -> i64 {
        0
    }
}
