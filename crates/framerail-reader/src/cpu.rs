//! Pieces decoded by FFmpeg on the host.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use framerail_core::{Frame, FramePool};
use framerail_media::{Conversion, Damage, Decoded, Decoder, DecoderSetup};
use parking_lot::Mutex;

use crate::{
    ReaderError,
    parallel::{PieceDecoder, PieceEnd, PieceOutput, Tagged},
    piece::Piece,
};

/// The tag of a picture whose packet states no PTS.
const UNKNOWN_TAG: i64 = -1;

/// What decoders side by side have done; clones count together.
#[derive(Clone, Default)]
pub struct PieceCounts(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    pictures: u64,
    conversions: BTreeMap<(String, String), u64>,
}

impl PieceCounts {
    /// Adds what a decoder has given and converted since.
    fn add(&self, pictures: u64, before: &[Conversion], now: Vec<Conversion>) {
        let mut counts = self.0.lock();
        counts.pictures += pictures;
        for Conversion { from, to, frames } in now {
            let known = before.iter().find(|known| known.from == from && known.to == to).map_or(0, |known| known.frames);
            *counts.conversions.entry((from, to)).or_default() += frames - known;
        }
    }

    /// Pictures that came out of the decoders, shown or not, since the last call.
    pub fn take_pictures(&self) -> u64 {
        std::mem::take(&mut self.0.lock().pictures)
    }

    /// Conversions to pixel formats that are passed on, so far.
    pub fn conversions(&self) -> Vec<Conversion> {
        let counts = self.0.lock();
        counts.conversions.iter().map(|((from, to), frames)| Conversion { from: from.clone(), to: to.clone(), frames: *frames }).collect()
    }
}

/// Decodes pieces on the host, one thread each unless the setup says otherwise.
pub struct CpuPieces {
    setup: DecoderSetup,
    pool: FramePool,
    decoder: Decoder,
    is_used: bool,
    /// Ends a piece at the first damage, and counts here.
    strict: Option<PieceCounts>,
    pictures: u64,
}

impl CpuPieces {
    /// A decoder for the stream.
    ///
    /// # Errors
    /// `Media` when this FFmpeg cannot decode it.
    pub fn new(setup: &DecoderSetup, pool: &FramePool) -> Result<Self, ReaderError> {
        let decoder = Decoder::open_with(setup, pool)?;
        Ok(Self { setup: setup.clone(), pool: pool.clone(), decoder, is_used: false, strict: None, pictures: 0 })
    }

    /// The same, ending a piece at its first damage with [`PieceEnd::NeedsContext`]: what is delivered is never short of a decode
    /// from the start. What is done is added to the counts.
    #[must_use]
    pub fn strict(mut self, counts: &PieceCounts) -> Self {
        self.strict = Some(counts.clone());
        self
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

    /// Hands on what came out; gives how many shown pictures that were, none when the piece is over.
    fn take(&mut self, shown: &Shown, output: &mut dyn PieceOutput<Frame>) -> Result<Option<usize>, ReaderError> {
        let mut count = 0;
        while let Decoded::Frame(frame) = self.decoder.receive()? {
            self.pictures += 1;
            if self.strict.is_some() && *self.decoder.damage() != shown.damage {
                return Ok(None);
            }
            let tag = shown.tags.get(&frame.pts.0).copied();
            if tag.is_none_or(|tag| !shown.hidden.contains(&tag)) {
                output.reserve()?;
                output.push(Tagged { tag: tag.unwrap_or(UNKNOWN_TAG), picture: frame });
                count += 1;
            }
        }
        Ok((self.strict.is_none() || *self.decoder.damage() == shown.damage).then_some(count))
    }
}

/// FFmpeg's decoders hand on the packet's PTS, so pictures are told apart by it. A stream without PTS is one piece, which
/// shows all of its pictures.
struct Shown {
    tags: HashMap<i64, i64>,
    hidden: HashSet<i64>,
    /// What the decoder had met before the piece.
    damage: Damage,
}

impl PieceDecoder for CpuPieces {
    type Picture = Frame;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Frame>) -> Result<PieceEnd, ReaderError> {
        // Where references lack, decoders make do with what earlier pictures left behind, flushed or not.
        let is_whole = piece.packets.first().is_none_or(|first| first.facts.random_access.is_exact());
        if self.is_used && !is_whole {
            self.decoder = Decoder::open_with(&self.setup, &self.pool)?;
        }
        self.decoder.flush();
        self.is_used = true;
        let mut shown = Shown { tags: HashMap::new(), hidden: HashSet::new(), damage: self.decoder.damage().clone() };
        for packet in &piece.packets {
            if let Some(pts) = packet.packet.pts() {
                shown.tags.insert(pts, packet.tag);
            }
            if !packet.is_shown {
                shown.hidden.insert(packet.tag);
            }
        }
        let (mut count, before) = (0, self.decoder.conversions());
        for packet in piece.packets.iter().map(Some).chain([None]) {
            output.check()?;
            self.decoder.send(packet.map(|packet| &packet.packet))?;
            match self.take(&shown, output)? {
                Some(more) => count += more,
                None => return Ok(PieceEnd::NeedsContext),
            }
        }
        let is_short = self.strict.is_some() && count < piece.shown();
        if let Some(strict) = &self.strict {
            strict.add(std::mem::take(&mut self.pictures), &before, self.decoder.conversions());
        }
        Ok(if is_short { PieceEnd::NeedsContext } else { PieceEnd::Complete })
    }
}
