//! Decodes a stream of packets in pieces; packets are read as far ahead as the decoders need them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use framerail_core::Packet;
use framerail_media::{Break, MediaError, facts::RandomAccess};

use crate::{
    ReaderError,
    packets::{PacketReader, StreamPacket, VideoPacket},
    parallel::{NextDecoded, ParallelDecoder, PieceDecoder, Tagged},
    piece::{Piece, PieceCutter, PiecePacket},
    plan::MAX_PIECE_PACKETS,
};

/// Next result of a stream in pieces.
pub(crate) enum Step<P> {
    /// The next frame.
    Decoded(Tagged<P>),
    /// The rest must be decoded as one: see [`PieceStream::into_packets`].
    AsOne,
    /// All frames were returned.
    End,
}

/// The pieces of a stream and their decoders.
pub(crate) struct PieceStream<D: PieceDecoder> {
    packets: PacketReader,
    cutter: PieceCutter,
    decoder: ParallelDecoder<D>,
    /// Whether only packets with PTS can be decoded in pieces.
    needs_pts: bool,
    /// Whether a packet without PTS was read.
    lacks_pts: bool,
    /// Decode timestamps of packets without PTS: the first displayed frame gets the first one.
    untimed: BTreeSet<i64>,
    /// Side packets, each with the number of the piece that was open when it was read.
    sides: VecDeque<(u64, Packet)>,
    pieces: u64,
    is_read: bool,
}

impl<D: PieceDecoder + 'static> PieceStream<D> {
    /// Pieces of at least `piece_packets` packets.
    pub(crate) fn new(packets: PacketReader, decoder: ParallelDecoder<D>, piece_packets: usize) -> Self {
        Self {
            packets,
            cutter: PieceCutter::new(piece_packets),
            decoder,
            needs_pts: false,
            lacks_pts: false,
            untimed: BTreeSet::new(),
            sides: VecDeque::new(),
            pieces: 0,
            is_read: false,
        }
    }

    /// For decoders that identify frames by PTS: packets without PTS are not decoded in pieces.
    pub(crate) fn of_timed(self) -> Self {
        Self { needs_pts: true, ..self }
    }

    pub(crate) fn packets(&self) -> &PacketReader {
        &self.packets
    }

    /// As [`PacketReader::take_breaks`].
    pub(crate) fn take_breaks(&mut self) -> Vec<Break> {
        self.packets.take_breaks()
    }

    pub(crate) fn untimed(&mut self) -> &mut BTreeSet<i64> {
        &mut self.untimed
    }

    /// Number of pieces so far.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    /// Number of decoders so far, and the maximum number of frames that waited.
    pub(crate) fn progress(&self) -> (usize, usize) {
        (self.decoder.workers(), self.decoder.most_waiting())
    }

    /// Keeps the decoders busy and waits for the next frame.
    pub(crate) fn next(&mut self) -> Result<Step<D::Decoded>, ReaderError> {
        loop {
            self.submit()?;
            if self.needs_pts && self.packets.input().has_breaks() {
                // A single decoder detects which frames are missing around damage.
                return Ok(Step::AsOne);
            }
            match self.decoder.next_decoded()? {
                NextDecoded::Decoded(image) => return Ok(Step::Decoded(image)),
                NextDecoded::WantsPiece => {}
                NextDecoded::None if self.is_read => return Ok(Step::End),
                NextDecoded::None | NextDecoded::NeedsContext => return Ok(Step::AsOne),
            }
        }
    }

    /// Reads packets while a decoder wants a piece.
    fn submit(&mut self) -> Result<(), MediaError> {
        while !self.is_read && self.decoder.wants_piece() && self.cutter.held() < MAX_PIECE_PACKETS && !(self.needs_pts && self.lacks_pts) {
            match self.packets.next_packet()? {
                Some(StreamPacket::Side(packet)) => self.sides.push_back((self.pieces, packet)),
                Some(StreamPacket::Video(packet)) if !self.is_behind(&packet) => {
                    if packet.packet.pts().is_none() {
                        self.lacks_pts = true;
                        self.untimed.extend(packet.packet.dts());
                    }
                    let piece = self.cutter.push(packet)?;
                    self.give(piece);
                }
                _ => {
                    self.is_read = true;
                    let rest = self.cutter.finish();
                    self.give(rest);
                }
            }
        }
        Ok(())
    }

    fn give(&mut self, pieces: impl IntoIterator<Item = Piece>) {
        for piece in pieces {
            self.pieces += 1;
            self.decoder.submit(piece);
        }
    }

    /// Whether a packet is a clean start after the end of the selection, so that nothing from it on is wanted.
    fn is_behind(&self, packet: &VideoPacket) -> bool {
        let secs = packet.packet.pts().map(|pts| self.packets.input().info().time_base.seconds(pts));
        let end = self.packets.input().selection().1;
        packet.facts.random_access == RandomAccess::Clean && secs.zip(end).is_some_and(|(secs, end)| secs >= end)
    }

    /// The next side packet due after frames up to this time: audio does not run ahead of frames by more than their piece.
    pub(crate) fn side_due(&mut self, reached_secs: f64) -> Option<Packet> {
        let (piece, packet) = self.sides.front()?;
        let is_reached = packet.pts.is_none_or(|pts| packet.time_base.seconds(pts.0) <= reached_secs);
        let is_due = is_reached || self.decoder.turn().is_none_or(|turn| *piece < turn);
        if is_due { self.sides.pop_front().map(|(_, packet)| packet) } else { None }
    }

    /// The next side packet of the selection after its last frame; `None` when no more can follow.
    ///
    /// # Errors
    /// As [`PacketReader::next_side`].
    pub(crate) fn next_side(&mut self) -> Result<Option<Packet>, MediaError> {
        match self.sides.pop_front() {
            Some((_, packet)) => Ok(Some(packet)),
            None => self.packets.next_side(),
        }
    }

    /// Stops all decoders. Returns the packets that are not fully decoded, preceded by those of the previous piece, and the side packets
    /// already read.
    pub(crate) fn into_packets(mut self) -> Result<(PacketReader, Vec<VideoPacket>, Vec<Packet>), ReaderError> {
        let given = self.decoder.into_pieces();
        let rest = self.cutter.finish();
        // Two pieces of an open GOP share packets; a single decoder needs each once.
        let mut packets: BTreeMap<i64, VideoPacket> = BTreeMap::new();
        for PiecePacket { packet, facts, tag, .. } in given.iter().map(AsRef::as_ref).chain(&rest).flat_map(|piece| &piece.packets) {
            if !packets.contains_key(tag) {
                packets.insert(*tag, VideoPacket { packet: packet.share()?, facts: *facts });
            }
        }
        let sides = self.sides.into_iter().map(|(_, packet)| packet).collect();
        Ok((self.packets, packets.into_values().collect(), sides))
    }
}
