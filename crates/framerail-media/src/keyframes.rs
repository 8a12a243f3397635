//! Where decoding can start: a scan over the packets of a video stream.

use crate::{InputOptions, MediaError};

/// One packet of the video stream, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketEntry {
    /// Presentation time in ticks, when stated.
    pub pts: Option<i64>,
    /// Decoding time in ticks, when stated.
    pub dts: Option<i64>,
    /// Byte position in the file, when known.
    pub position: Option<u64>,
    /// Payload in bytes.
    pub size_bytes: u32,
    /// Whether decoding can start here.
    pub is_keyframe: bool,
}

/// All packets of a video stream.
#[derive(Clone, Debug)]
pub struct KeyframeIndex {
    /// Packets in file (decoding) order.
    pub packets: Vec<PacketEntry>,
    /// Seconds per tick.
    pub time_base: framerail_core::TimeBase,
}

impl KeyframeIndex {
    /// Reads every packet once, decoding nothing.
    ///
    /// # Errors
    /// As [`crate::Input::open`].
    pub fn scan(_options: &InputOptions) -> Result<Self, MediaError> {
        Err(MediaError::Unsupported { what: "scanning".into(), reason: "under construction".into() })
    }
}
