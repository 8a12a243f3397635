//! Compressed packets as the demuxer gives them.

use crate::{MediaError, Parameters, av, av::AvPacket};
use ffmpeg_the_third::ffi;

/// The stream that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// The selected video stream.
    Video,
    /// A side stream, by its index in `StreamInfo::side_streams`.
    Side(usize),
}

/// A packet of the video or of a side stream.
pub struct InputPacket {
    /// Where it belongs.
    pub kind: PacketKind,
    pub(crate) packet: AvPacket,
    /// Set when the codec changes with this packet (lists of images).
    pub(crate) new_parameters: Option<Parameters>,
}

impl InputPacket {
    /// The payload.
    pub fn data(&self) -> &[u8] {
        self.packet.data()
    }

    /// Presentation time in ticks of its stream.
    pub fn pts(&self) -> Option<i64> {
        av::timestamp(self.packet.pts)
    }

    /// Decoding time in ticks of its stream.
    pub fn dts(&self) -> Option<i64> {
        av::timestamp(self.packet.dts)
    }

    /// Ticks that it lasts; 0 when unknown.
    pub fn duration(&self) -> i64 {
        self.packet.duration
    }

    /// Byte position in the file.
    pub fn position(&self) -> Option<u64> {
        u64::try_from(self.packet.pos).ok()
    }

    /// Whether decoding can start here.
    pub fn is_keyframe(&self) -> bool {
        self.packet.flags & ffi::AV_PKT_FLAG_KEY != 0
    }
}

/// What `Packet::payload` holds: the packet of a side stream, bytes and side data untouched.
pub struct SidePayload(pub(crate) AvPacket);

impl SidePayload {
    /// The payload's bytes.
    pub fn data(&self) -> &[u8] {
        self.0.data()
    }

    /// Ticks that it lasts; 0 when unknown.
    pub fn duration(&self) -> i64 {
        self.0.duration
    }

    pub(crate) fn share(&self) -> Result<AvPacket, MediaError> {
        self.0.share()
    }
}
