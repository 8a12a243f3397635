//! Pieces decoded by FFmpeg on the host.

use std::collections::{HashMap, HashSet};

use framerail_core::{Frame, FramePool};
use framerail_media::{Conversion, Damage, Decoded, Decoder, DecoderSetup};

use crate::{
    ReaderError,
    parallel::{PieceDecoder, PieceOutput, Tagged},
    piece::Piece,
};

/// The tag of a picture whose packet states no PTS.
const UNKNOWN_TAG: i64 = -1;

/// Decodes pieces on the host, one thread each unless the setup says otherwise.
pub struct CpuPieces {
    setup: DecoderSetup,
    pool: FramePool,
    decoder: Decoder,
    is_used: bool,
    pictures: u64,
}

impl CpuPieces {
    /// A decoder for the stream.
    ///
    /// # Errors
    /// `Media` when this FFmpeg cannot decode it.
    pub fn new(setup: &DecoderSetup, pool: &FramePool) -> Result<Self, ReaderError> {
        let decoder = Decoder::open_with(setup, pool)?;
        Ok(Self { setup: setup.clone(), pool: pool.clone(), decoder, is_used: false, pictures: 0 })
    }

    /// Pictures that came out of the decoder, shown or not, since the last call.
    pub fn take_pictures(&mut self) -> u64 {
        std::mem::take(&mut self.pictures)
    }

    /// Conversions to pixel formats that are passed on, so far.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.decoder.conversions()
    }

    /// What was not as it should be, so far.
    pub fn damage(&self) -> &Damage {
        self.decoder.damage()
    }

    fn take(&mut self, shown: &Shown, output: &mut dyn PieceOutput<Frame>) -> Result<(), ReaderError> {
        while let Decoded::Frame(frame) = self.decoder.receive()? {
            self.pictures += 1;
            let tag = shown.tags.get(&frame.pts.0).copied();
            if tag.is_none_or(|tag| !shown.hidden.contains(&tag)) {
                output.reserve()?;
                output.push(Tagged { tag: tag.unwrap_or(UNKNOWN_TAG), picture: frame });
            }
        }
        Ok(())
    }
}

/// FFmpeg's decoders hand on the packet's PTS, so pictures are told apart by it. A stream without PTS is one piece, which
/// shows all of its pictures.
struct Shown {
    tags: HashMap<i64, i64>,
    hidden: HashSet<i64>,
}

impl PieceDecoder for CpuPieces {
    type Picture = Frame;

    fn decode(&mut self, piece: Piece, output: &mut dyn PieceOutput<Frame>) -> Result<(), ReaderError> {
        // Where references lack, decoders make do with what earlier pictures left behind, flushed or not.
        let is_whole = piece.packets.first().is_none_or(|first| first.facts.random_access.is_exact());
        if self.is_used && !is_whole {
            self.decoder = Decoder::open_with(&self.setup, &self.pool)?;
        }
        self.decoder.flush();
        self.is_used = true;
        let mut shown = Shown { tags: HashMap::new(), hidden: HashSet::new() };
        for packet in &piece.packets {
            if let Some(pts) = packet.packet.pts() {
                shown.tags.insert(pts, packet.tag);
            }
            if !packet.is_shown {
                shown.hidden.insert(packet.tag);
            }
        }
        for packet in &piece.packets {
            output.check()?;
            self.decoder.send(Some(&packet.packet))?;
            self.take(&shown, output)?;
        }
        self.decoder.send(None)?;
        self.take(&shown, output)
    }
}
