//! Where decoding can start: a scan over the packets of a video stream.

use framerail_core::TimeBase;
use serde::Serialize;

use crate::{Damage, Input, InputOptions, InputPacket, MediaError, PacketKind, SideStreams};

/// One packet of the video stream, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PacketEntry {
    /// Presentation time in ticks, when stated.
    pub pts: Option<i64>,
    /// Decoding time in ticks, when stated.
    pub dts: Option<i64>,
    /// Ticks that it lasts; 0 when unknown.
    pub duration: i64,
    /// Byte position in the file, when known.
    pub position: Option<u64>,
    /// Payload in bytes.
    pub size_bytes: u32,
    /// Whether decoding can start here, as the container says. The packet knows better: see [`crate::FactsReader`].
    pub is_keyframe: bool,
    /// Ticks that were added to the file's own times because its clock was set again before (transport streams).
    pub clock_shift: i64,
}

impl PacketEntry {
    pub(crate) fn of(packet: &InputPacket, clock_shift: i64) -> Self {
        Self {
            pts: packet.pts(),
            dts: packet.dts(),
            duration: packet.duration(),
            position: packet.position(),
            size_bytes: u32::try_from(packet.data().len()).unwrap_or(u32::MAX),
            is_keyframe: packet.is_keyframe(),
            clock_shift,
        }
    }

    /// Whether this is the other's packet, read another time: decoding times may then be worked out differently.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
            a.zip(b).is_none_or(|(a, b)| a == b)
        }
        let is_timed = self.pts.is_some() && other.pts.is_some();
        self.size_bytes == other.size_bytes
            && agree(self.position, other.position)
            && agree(self.pts, other.pts)
            && (is_timed || agree(self.dts, other.dts))
    }
}

/// All packets of a video stream.
#[derive(Clone, Debug)]
pub struct KeyframeIndex {
    /// Packets in file (decoding) order.
    pub packets: Vec<PacketEntry>,
    /// Seconds per tick.
    pub time_base: TimeBase,
    /// What the scan met that was not as it should be.
    pub damage: Damage,
}

impl KeyframeIndex {
    /// Reads every packet once, decoding nothing. `start` and `end` of the options are ignored.
    ///
    /// # Errors
    /// As [`Input::open`] and [`Input::next_packet`].
    pub fn scan(options: &InputOptions) -> Result<Self, MediaError> {
        let whole =
            InputOptions { start_secs: None, end_secs: None, duration_secs: None, side_streams: SideStreams::None, ..options.clone() };
        Self::read(&mut Input::open(&whole)?)
    }

    /// The same of an open input: reads it to its end. [`Input::seek_packet`] leads back. Damage met is counted in the
    /// input too, and again when the same part is read again.
    ///
    /// # Errors
    /// As [`Input::next_packet`].
    pub fn read(input: &mut Input) -> Result<Self, MediaError> {
        Self::read_each(input, |_| ())
    }

    /// The same; shows every packet of the video on the way.
    ///
    /// # Errors
    /// As [`Input::next_packet`].
    pub fn read_each(input: &mut Input, mut visit: impl FnMut(&InputPacket)) -> Result<Self, MediaError> {
        let mut packets = Vec::new();
        while let Some(packet) = input.next_packet()? {
            if packet.kind == PacketKind::Video {
                visit(&packet);
                packets.push(PacketEntry::of(&packet, input.clock_shift()));
            }
        }
        Ok(Self { packets, time_base: input.info().time_base, damage: input.damage().clone() })
    }

    /// Places of the keyframes in [`KeyframeIndex::packets`].
    pub fn keyframes(&self) -> impl Iterator<Item = usize> + '_ {
        self.packets.iter().enumerate().filter(|(_, packet)| packet.is_keyframe).map(|(index, _)| index)
    }

    /// Packets from each keyframe to the next.
    pub fn gop_lengths(&self) -> Vec<usize> {
        let starts: Vec<usize> = self.keyframes().chain([self.packets.len()]).collect();
        starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Presentation times in ascending order; packets without one are left out.
    pub fn sorted_pts(&self) -> Vec<i64> {
        let mut pts: Vec<i64> = self.packets.iter().filter_map(|packet| packet.pts).collect();
        pts.sort_unstable();
        pts
    }
}
