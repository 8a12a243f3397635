//! Decodes pieces with FFmpeg on the host.

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

/// Tag of a frame whose packet has no PTS.
const UNKNOWN_TAG: i64 = -1;

/// Statistics of decoders that run in parallel; clones share the counts.
#[derive(Clone, Default)]
pub struct PieceCounts(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    images: u64,
    conversions: BTreeMap<(String, String), u64>,
}

impl PieceCounts {
    /// Adds the frames and conversions of a decoder since `before`.
    fn add(&self, images: u64, before: &[Conversion], now: Vec<Conversion>) {
        let mut counts = self.0.lock();
        counts.images += images;
        for Conversion { from, to, frames } in now {
            let known = before.iter().find(|known| known.from == from && known.to == to).map_or(0, |known| known.frames);
            *counts.conversions.entry((from, to)).or_default() += frames - known;
        }
    }

    /// Frames output by the decoders, shown or not, since the last call.
    pub fn take_frames(&self) -> u64 {
        std::mem::take(&mut self.0.lock().images)
    }

    /// Conversions to supported pixel formats so far.
    pub fn conversions(&self) -> Vec<Conversion> {
        let counts = self.0.lock();
        counts.conversions.iter().map(|((from, to), frames)| Conversion { from: from.clone(), to: to.clone(), frames: *frames }).collect()
    }
}

/// Decodes pieces on the host, with one thread each unless the setup sets more.
pub struct CpuPieces {
    setup: DecoderSetup,
    pool: FramePool,
    decoder: Decoder,
    is_used: bool,
    /// Ends a piece at the first damage; the counts are added here.
    strict: Option<PieceCounts>,
    images: u64,
}

impl CpuPieces {
    /// A decoder for the stream.
    ///
    /// # Errors
    /// `Media` when this build of FFmpeg cannot decode it.
    pub fn new(setup: &DecoderSetup, pool: &FramePool) -> Result<Self, ReaderError> {
        let decoder = Decoder::open_with(setup, pool)?;
        Ok(Self { setup: setup.clone(), pool: pool.clone(), decoder, is_used: false, strict: None, images: 0 })
    }

    /// The same decoder, but it ends a piece at its first damage with [`PieceEnd::NeedsContext`], so that delivered frames are as good as
    /// those of a decode from the start. Its work is added to the counts.
    #[must_use]
    pub fn strict(mut self, counts: &PieceCounts) -> Self {
        self.strict = Some(counts.clone());
        self
    }

    /// Frames output by the decoder, shown or not, since the last call.
    pub fn take_frames(&mut self) -> u64 {
        std::mem::take(&mut self.images)
    }

    /// Conversions to supported pixel formats so far.
    pub fn conversions(&self) -> Vec<Conversion> {
        self.decoder.conversions()
    }

    /// Damage found so far.
    pub fn damage(&self) -> &Damage {
        self.decoder.damage()
    }

    /// Passes on the decoded frames; returns the number of shown frames, or `None` when the piece has ended.
    fn take(&mut self, shown: &Shown, output: &mut dyn PieceOutput<Frame>) -> Result<Option<usize>, ReaderError> {
        let mut count = 0;
        while let Decoded::Frame(frame) = self.decoder.receive()? {
            self.images += 1;
            if self.strict.is_some() && *self.decoder.damage() != shown.damage {
                return Ok(None);
            }
            let tag = shown.tags.get(&frame.pts.0).copied();
            if tag.is_none_or(|tag| !shown.hidden.contains(&tag)) {
                output.reserve()?;
                output.push(Tagged { tag: tag.unwrap_or(UNKNOWN_TAG), image: frame });
                count += 1;
            }
        }
        Ok((self.strict.is_none() || *self.decoder.damage() == shown.damage).then_some(count))
    }
}

/// The frames to show. FFmpeg's decoders pass on the PTS of the packet, which identifies the frame. A stream without PTS is one piece and
/// shows all of its frames.
struct Shown {
    tags: HashMap<i64, i64>,
    hidden: HashSet<i64>,
    /// Damage found by the decoder before the piece.
    damage: Damage,
}

impl PieceDecoder for CpuPieces {
    type Decoded = Frame;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Frame>) -> Result<PieceEnd, ReaderError> {
        // When references are missing, decoders fall back to data of earlier frames, even after a flush.
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
            strict.add(std::mem::take(&mut self.images), &before, self.decoder.conversions());
        }
        Ok(if is_short { PieceEnd::NeedsContext } else { PieceEnd::Complete })
    }
}
