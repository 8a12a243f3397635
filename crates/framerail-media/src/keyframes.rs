//! A scan over the packets of a video stream, to find where decoding can start.

use framerail_core::TimeBase;
use serde::Serialize;

use crate::{Damage, Input, InputOptions, InputPacket, MediaError, PacketKind, SideStreams};

/// One packet of the video stream, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PacketEntry {
    /// PTS in ticks, if stated.
    pub pts: Option<i64>,
    /// DTS in ticks, if stated.
    pub dts: Option<i64>,
    /// Duration in ticks; 0 if unknown.
    pub duration: i64,
    /// Byte position in the file, if known.
    pub position: Option<u64>,
    /// Payload size in bytes.
    pub size_bytes: u32,
    /// Whether decoding can start here according to the container. The packet itself is more reliable: see [`crate::FactsReader`].
    pub is_keyframe: bool,
    /// Ticks added to the file's own times because of an earlier clock reset (transport streams).
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

    /// Whether this is the same packet as `other`, read at another time: DTS may have been derived differently.
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
    /// Damage found by the scan.
    pub damage: Damage,
}

impl KeyframeIndex {
    /// Reads every packet once, without decoding. The selection in `options` is ignored.
    ///
    /// # Errors
    /// As [`Input::open`] and [`Input::next_packet`].
    pub fn scan(options: &InputOptions) -> Result<Self, MediaError> {
        let whole =
            InputOptions { start_secs: None, end_secs: None, duration_secs: None, side_streams: SideStreams::None, ..options.clone() };
        Self::read(&mut Input::open(&whole)?)
    }

    /// As [`KeyframeIndex::scan`], for an open input, which is read to its end. [`Input::seek_packet`] goes back. Damage is also
    /// counted in the input, and again whenever the same part is read again.
    ///
    /// # Errors
    /// As [`Input::next_packet`].
    pub fn read(input: &mut Input) -> Result<Self, MediaError> {
        Self::read_each(input, |_| ())
    }

    /// As [`KeyframeIndex::read`]; calls `visit` for every video packet.
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

    /// Positions of the keyframes in [`KeyframeIndex::packets`].
    pub fn keyframes(&self) -> impl Iterator<Item = usize> + '_ {
        self.packets.iter().enumerate().filter(|(_, packet)| packet.is_keyframe).map(|(index, _)| index)
    }

    /// Number of packets from each keyframe to the next.
    pub fn gop_lengths(&self) -> Vec<usize> {
        let starts: Vec<usize> = self.keyframes().chain([self.packets.len()]).collect();
        starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// PTS in ascending order; packets without one are left out.
    pub fn sorted_pts(&self) -> Vec<i64> {
        let mut pts: Vec<i64> = self.packets.iter().filter_map(|packet| packet.pts).collect();
        pts.sort_unstable();
        pts
    }
}
