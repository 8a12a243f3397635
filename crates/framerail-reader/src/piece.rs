//! Cuts a stream into pieces that decode independently.
//!
//! A piece starts at a random access point and shows exactly the frames from there to the start of the next piece. Leading frames (open
//! GOPs) follow a random access point in decoding order but precede it in presentation order, and may refer to frames on both sides. The
//! previous piece also decodes the random access point and shows them; the piece that starts there does not.

use framerail_media::{
    InputPacket, MediaError,
    facts::{Leading, PacketFacts, RandomAccess},
};

use crate::packets::VideoPacket;

/// A packet of a piece.
pub struct PiecePacket {
    /// The packet as stored in the container.
    pub packet: InputPacket,
    /// Properties parsed from its bytes.
    pub facts: PacketFacts,
    /// Number in the stream, in decoding order; decoders attach it to the frame.
    pub tag: i64,
    /// Whether this piece shows its frame.
    pub is_shown: bool,
}

/// Packets that decode independently of others, in decoding order.
pub struct Piece {
    /// Index of the piece, from 0.
    pub number: u64,
    /// Its packets.
    pub packets: Vec<PiecePacket>,
}

impl Piece {
    /// Number of frames that it shows, assuming one frame per packet.
    pub fn shown(&self) -> usize {
        self.packets.iter().filter(|packet| packet.is_shown).count()
    }
}

/// Cuts a stream of packets into pieces.
pub struct PieceCutter {
    /// Minimum number of packets in a piece before a new one begins.
    min_packets: usize,
    open: Vec<PiecePacket>,
    /// The random access point at which the next piece starts, with the packets read since.
    next: Option<Next>,
    next_tag: i64,
    next_number: u64,
}

struct Next {
    start_pts: i64,
    packets: Vec<PiecePacket>,
}

impl PieceCutter {
    /// A cutter that begins a new piece at the first random access point after `min_packets`.
    pub fn new(min_packets: usize) -> Self {
        Self { min_packets, open: Vec::new(), next: None, next_tag: 0, next_number: 0 }
    }

    /// Takes the next packet in decoding order; returns a piece when one is complete.
    ///
    /// # Errors
    /// When memory is exhausted.
    pub fn push(&mut self, packet: VideoPacket) -> Result<Option<Piece>, MediaError> {
        let VideoPacket { packet, facts } = packet;
        let tag = self.next_tag;
        self.next_tag += 1;
        let pts = packet.pts();
        let is_shown = facts.is_shown && !packet.is_discarded();
        let packet = PiecePacket { packet, facts, tag, is_shown };
        if let Some(next) = &mut self.next {
            if pts.is_some_and(|pts| pts < next.start_pts) {
                // Leading: shown by the open piece; the next piece decodes it only for frames that refer to it. Leading frames marked as
                // needing earlier frames are only referred to by others of that kind.
                if facts.leading != Leading::NeedsEarlier {
                    next.packets.push(PiecePacket { packet: packet.packet.share()?, is_shown: false, facts, tag });
                }
                self.open.push(packet);
                return Ok(None);
            }
            next.packets.push(packet);
            return Ok(self.complete());
        }
        let starts_piece = self.open.len() >= self.min_packets.max(1);
        match (facts.random_access, pts) {
            (RandomAccess::Clean, Some(_)) if starts_piece => {
                let piece = self.take(vec![packet]);
                return Ok(Some(piece));
            }
            (RandomAccess::OpenGop, Some(start_pts)) if starts_piece => {
                // The open piece decodes it too, for leading frames that may follow.
                self.open.push(PiecePacket { packet: packet.packet.share()?, is_shown: false, facts, tag });
                self.next = Some(Next { start_pts, packets: vec![packet] });
            }
            _ => self.open.push(packet),
        }
        Ok(None)
    }

    /// Returns the remaining pieces at the end of the stream, up to two.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = self.complete().into_iter().collect();
        if !self.open.is_empty() {
            pieces.push(self.take(Vec::new()));
        }
        pieces
    }

    /// Number of packets held until their piece is complete.
    pub fn held(&self) -> usize {
        self.open.len() + self.next.as_ref().map_or(0, |next| next.packets.len())
    }

    fn complete(&mut self) -> Option<Piece> {
        let next = self.next.take()?;
        // Without leading frames, the open piece does not need the random access point.
        let start_tag = next.packets.first().map(|first| first.tag);
        if self.open.last().map(|last| last.tag) == start_tag {
            self.open.pop();
        }
        Some(self.take(next.packets))
    }

    fn take(&mut self, start_of_next: Vec<PiecePacket>) -> Piece {
        let number = self.next_number;
        self.next_number += 1;
        Piece { number, packets: std::mem::replace(&mut self.open, start_of_next) }
    }
}
