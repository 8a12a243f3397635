//! Compressed packets from the demuxer.

use ffmpeg_the_third::ffi;
use framerail_core::Packet;

use crate::{MediaError, Parameters, av, av::AvPacket};

/// The stream that a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// The selected video stream.
    Video,
    /// A side stream, by its index in `StreamInfo::side_streams`.
    Side(usize),
}

/// A packet of the video or of a side stream. It owns its data and may be sent to another thread; see [`InputPacket::share`].
pub struct InputPacket {
    /// The stream it belongs to.
    pub kind: PacketKind,
    pub(crate) packet: AvPacket,
    /// Set if the codec changes with this packet (lists of images).
    pub(crate) new_parameters: Option<Parameters>,
}

impl InputPacket {
    /// A second packet over the same data, without a copy.
    ///
    /// # Errors
    /// `Ffmpeg` when memory is exhausted.
    pub fn share(&self) -> Result<Self, MediaError> {
        Ok(Self { kind: self.kind, packet: self.packet.share()?, new_parameters: self.new_parameters.clone() })
    }

    /// The codec's global headers, if they change with this packet (MP4 with several sample descriptions).
    pub fn new_extradata(&self) -> Option<&[u8]> {
        let mut size = 0;
        // SAFETY: a valid packet; the answer is null or `size` bytes that live as long as the packet, which is borrowed.
        unsafe {
            let data = ffi::av_packet_get_side_data(self.packet.as_ptr(), ffi::AVPacketSideDataType::NEW_EXTRADATA, &mut size);
            (!data.is_null() && size > 0).then(|| std::slice::from_raw_parts(data, size))
        }
    }

    /// The payload.
    pub fn data(&self) -> &[u8] {
        self.packet.data()
    }

    /// PTS in ticks of its stream.
    pub fn pts(&self) -> Option<i64> {
        av::timestamp(self.packet.pts)
    }

    /// DTS in ticks of its stream.
    pub fn dts(&self) -> Option<i64> {
        av::timestamp(self.packet.dts)
    }

    /// Duration in ticks; 0 if unknown.
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

    /// Whether its frame is decoded as a reference but not shown, according to an edit list.
    pub fn is_discarded(&self) -> bool {
        self.packet.flags & ffi::AV_PKT_FLAG_DISCARD != 0
    }

    /// Whether its data is missing or damaged, as far as the container can detect.
    pub fn is_corrupt(&self) -> bool {
        self.packet.flags & ffi::AV_PKT_FLAG_CORRUPT != 0
    }

    /// Whether the codec changes with this packet (lists of images).
    pub fn changes_codec(&self) -> bool {
        self.new_parameters.is_some()
    }
}

/// Content of `Packet::payload`: a side stream's packet with unchanged data and side data. Its time is that of the `Packet`.
pub struct SidePayload(pub(crate) AvPacket);

impl SidePayload {
    /// The payload's bytes.
    pub fn data(&self) -> &[u8] {
        self.0.data()
    }

    /// Duration in ticks; 0 if unknown.
    pub fn duration(&self) -> i64 {
        self.0.duration
    }

    /// A packet over the same data with all of its times, shifted as `packet` was.
    pub(crate) fn moved(&self, packet: &Packet) -> Result<AvPacket, MediaError> {
        let mut own = self.0.share()?;
        let stated = av::timestamp(own.pts).or(av::timestamp(own.dts));
        let shift = packet.pts.zip(stated).map_or(0, |(moved, stated)| moved.0.saturating_sub(stated));
        own.pts = av::timestamp(own.pts).map_or(ffi::AV_NOPTS_VALUE, |pts| pts.saturating_add(shift));
        own.dts = av::timestamp(own.dts).map_or(ffi::AV_NOPTS_VALUE, |dts| dts.saturating_add(shift));
        own.time_base = av::rational(packet.time_base.ratio());
        Ok(own)
    }

    /// A packet over the same data, with the time of `packet`: the container's time may have been shifted since.
    pub(crate) fn at(&self, packet: &Packet) -> Result<AvPacket, MediaError> {
        let mut own = self.0.share()?;
        own.pts = packet.pts.map_or(ffi::AV_NOPTS_VALUE, |pts| pts.0);
        own.dts = own.pts;
        own.time_base = av::rational(packet.time_base.ratio());
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_and_parameters_may_go_to_other_threads() {
        fn is_portable<T: Send + Sync>() {}
        is_portable::<InputPacket>();
        is_portable::<Parameters>();
    }
}
