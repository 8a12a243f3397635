//! A stream cut into pieces that decode alone.
//!
//! A piece starts at a random access point and shows exactly the pictures from there to the next piece's start. Where
//! pictures follow a random access point but come before it in presentation (leading pictures, open GOPs), they may refer to
//! pictures on both sides: the piece before decodes the random access point too and shows them; the piece behind does not.

use framerail_media::{
    InputPacket, MediaError,
    facts::{Leading, PacketFacts, RandomAccess},
};

use crate::packets::VideoPacket;

/// A packet of a piece.
pub struct PiecePacket {
    /// The packet as the container holds it.
    pub packet: InputPacket,
    /// What its bytes say.
    pub facts: PacketFacts,
    /// Its number in the stream, in decoding order; decoders hand it on with the picture.
    pub tag: i64,
    /// Whether its picture is shown by this piece.
    pub is_shown: bool,
}

/// Packets that decode alone, in decoding order.
pub struct Piece {
    /// Place among the pieces, from 0.
    pub number: u64,
    /// Its packets.
    pub packets: Vec<PiecePacket>,
}

impl Piece {
    /// Pictures that it shows, if every packet that shows one holds one picture.
    pub fn shown(&self) -> usize {
        self.packets.iter().filter(|packet| packet.is_shown).count()
    }
}

/// Cuts a stream of packets into pieces.
pub struct PieceCutter {
    /// Packets that a piece should have before a new one is begun.
    min_packets: usize,
    open: Vec<PiecePacket>,
    /// The random access point at which the next piece starts, with the packets seen since.
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

    /// Takes the next packet in decoding order; gives a piece when one is complete.
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
                // Leading: shown by the piece before; the piece behind decodes it only for what refers to it. Marked ones that
                // need earlier pictures are referred to by their like alone.
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
                // Decoded by the piece before too, for the leading pictures that may follow.
                self.open.push(PiecePacket { packet: packet.packet.share()?, is_shown: false, facts, tag });
                self.next = Some(Next { start_pts, packets: vec![packet] });
            }
            _ => self.open.push(packet),
        }
        Ok(None)
    }

    /// The rest, at the end of the stream: up to two pieces.
    pub fn finish(&mut self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = self.complete().into_iter().collect();
        if !self.open.is_empty() {
            pieces.push(self.take(Vec::new()));
        }
        pieces
    }

    /// Packets that are held, waiting for their piece's end.
    pub fn held(&self) -> usize {
        self.open.len() + self.next.as_ref().map_or(0, |next| next.packets.len())
    }

    fn complete(&mut self) -> Option<Piece> {
        let next = self.next.take()?;
        // Without leading pictures the random access point is of no use to the piece before.
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
