//! Reads frames of a file by number, decoded in pieces; shared by readers and clips on the host and on GPUs.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    ReaderError,
    frame_index::FrameIndex,
    parallel::{NextDecoded, ParallelDecoder, PieceDecoder},
    piece_source::{PieceSource, Wanted},
};

/// The next result among the requested frames.
pub(crate) enum NextFrame<P> {
    /// A frame number and the frame.
    Frame(usize, P),
    /// The frames cannot be decoded in pieces: a piece is damaged, or headers change midway.
    NotInPieces,
    /// All frames were returned. Frames that the decoder did not output are missing.
    End,
}

/// The pieces of a file that contain wanted frames, and their decoders.
pub(crate) struct PieceFrames<D: PieceDecoder> {
    source: PieceSource,
    decoder: ParallelDecoder<D>,
    /// GOPs not yet submitted to the decoders.
    groups: VecDeque<(usize, Wanted)>,
}

impl<D: PieceDecoder + 'static> PieceFrames<D> {
    pub(crate) fn new(source: PieceSource, decoder: ParallelDecoder<D>) -> Self {
        Self { source, decoder, groups: VecDeque::new() }
    }

    /// Frames by number, visiting each GOP once; `None` when they cannot be decoded in pieces. The map lacks frames that were not decoded.
    ///
    /// # Errors
    /// The errors of the decoders; the value cannot be used afterwards.
    #[cfg(feature = "cuda")]
    pub(crate) fn images(&mut self, numbers: &[usize]) -> Result<Option<HashMap<usize, D::Decoded>>, ReaderError> {
        let decoder = &mut self.decoder;
        self.source.pieces(numbers.iter().copied(), |piece| {
            decoder.submit(piece);
            Ok::<_, ReaderError>(())
        })?;
        let mut found = HashMap::new();
        loop {
            match self.next()? {
                NextFrame::Frame(number, image) => drop(found.insert(number, image)),
                NextFrame::NotInPieces => return Ok(None),
                NextFrame::End => return Ok(Some(found)),
            }
        }
    }

    /// Sets the frames that [`PieceFrames::next`] returns; they must rise.
    pub(crate) fn begin(&mut self, numbers: &[usize]) {
        self.groups = self.source.groups(numbers.iter().copied()).into_iter().collect();
    }

    /// Returns the next frame, keeping the decoders busy as far as the window allows.
    ///
    /// # Errors
    /// The errors of the decoders; the value cannot be used afterwards.
    pub(crate) fn next(&mut self) -> Result<NextFrame<D::Decoded>, ReaderError> {
        loop {
            while self.decoder.wants_piece()
                && let Some((start, wanted)) = self.groups.pop_front()
            {
                match self.source.piece(start, &wanted)? {
                    Some(piece) => self.decoder.submit(piece),
                    // It is not a random access point after all: its frames decode from an earlier one.
                    None => self.source.groups(wanted.into_values()).into_iter().rev().for_each(|group| self.groups.push_front(group)),
                }
            }
            if self.source.changes_headers() {
                return Ok(NextFrame::NotInPieces);
            }
            match self.decoder.next_decoded()? {
                NextDecoded::Decoded(tagged) => {
                    let place = usize::try_from(tagged.tag).ok();
                    if let Some(number) = place.and_then(|place| self.source.index().number_at(place)) {
                        return Ok(NextFrame::Frame(number, tagged.image));
                    }
                }
                NextDecoded::NeedsContext => return Ok(NextFrame::NotInPieces),
                NextDecoded::None if self.groups.is_empty() => return Ok(NextFrame::End),
                NextDecoded::None | NextDecoded::WantsPiece => {}
            }
        }
    }

    pub(crate) fn index(&self) -> &Arc<FrameIndex> {
        self.source.index()
    }

    /// Seeks and skipped packets since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        self.source.take_counts()
    }
}
