//! Reads the packets of one video stream, with properties parsed from their bytes, and the side packets between them.

use framerail_core::Packet;
use framerail_media::{
    Break, Input, InputPacket, MediaError, PacketKind, Parameters, SidePackets,
    facts::{FactsReader, PacketFacts},
};

/// A video packet.
pub struct VideoPacket {
    /// The packet as stored in the container.
    pub packet: InputPacket,
    /// Properties parsed from its bytes.
    pub facts: PacketFacts,
}

/// An item of a packet stream.
pub enum StreamPacket {
    /// A video packet.
    Video(VideoPacket),
    /// A side stream packet within the selection.
    Side(Packet),
}

/// Reads an input's packets in file order.
pub struct PacketReader {
    input: Input,
    sides: SidePackets,
    facts: Option<FactsReader>,
    /// A video packet to return after its copy for stages that take packets.
    next_video: Option<VideoPacket>,
}

impl PacketReader {
    /// Reads the packets of an open input.
    pub fn new(input: Input) -> Self {
        let sides = SidePackets::new(&input);
        let facts = FactsReader::new(input.parameters());
        Self { input, sides, facts, next_video: None }
    }

    /// Returns the input and the state of its side packets.
    pub fn into_parts(mut self) -> (Input, SidePackets) {
        self.next_video.into_iter().for_each(|video| self.input.unread(video.packet));
        (self.input, self.sides)
    }

    /// The input.
    pub fn input(&self) -> &Input {
        &self.input
    }

    /// As [`Input::take_breaks`].
    pub fn take_breaks(&mut self) -> Vec<Break> {
        self.input.take_breaks()
    }

    /// Codec parameters.
    pub fn parameters(&self) -> &Parameters {
        self.input.parameters()
    }

    /// The next packet; `None` at the end.
    ///
    /// # Errors
    /// As [`Input::next_packet`].
    pub fn next_packet(&mut self) -> Result<Option<StreamPacket>, MediaError> {
        if let Some(packet) = self.next_video.take() {
            return Ok(Some(StreamPacket::Video(packet)));
        }
        while let Some(packet) = self.input.next_packet()? {
            match packet.kind {
                PacketKind::Video => {
                    let facts = self.facts.as_mut().map_or(PacketFacts::UNKNOWN, |facts| facts.read(&packet));
                    let copy = self.sides.of_video(&packet)?;
                    let packet = VideoPacket { packet, facts };
                    return Ok(Some(match copy {
                        None => StreamPacket::Video(packet),
                        Some(copy) => {
                            self.next_video = Some(packet);
                            StreamPacket::Side(copy)
                        }
                    }));
                }
                PacketKind::Side(side) => {
                    if let Some(packet) = self.sides.select(side, packet) {
                        return Ok(Some(StreamPacket::Side(packet)));
                    }
                }
            }
        }
        Ok(None)
    }

    /// The next side packet of the selection after its last frame; `None` when no more can follow.
    ///
    /// # Errors
    /// As [`Input::next_packet`].
    pub fn next_side(&mut self) -> Result<Option<Packet>, MediaError> {
        while self.sides.may_come() {
            let Some(packet) = self.input.next_packet()? else { return Ok(None) };
            match packet.kind {
                PacketKind::Video => self.sides.pass(&packet),
                PacketKind::Side(side) => {
                    if let Some(packet) = self.sides.select(side, packet) {
                        return Ok(Some(packet));
                    }
                }
            }
        }
        Ok(None)
    }
}
