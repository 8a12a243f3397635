//! Frames of a file by their number, decoded in pieces: what readers and clips share on the host and on cards.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    ReaderError,
    frame_index::FrameIndex,
    parallel::{NextPicture, ParallelDecoder, PieceDecoder},
    piece_source::{PieceSource, Wanted},
};

/// What comes next of the frames that were asked for.
pub(crate) enum NextFrame<P> {
    /// A frame's number and its picture.
    Frame(usize, P),
    /// It does not come in pieces: a piece is damaged, or headers change on the way.
    NotInPieces,
    /// All were given. A frame that did not come out was left out.
    End,
}

/// The pieces of a file that hold wanted frames, and their decoders.
pub(crate) struct PieceFrames<D: PieceDecoder> {
    source: PieceSource,
    decoder: ParallelDecoder<D>,
    /// Groups that are still to be given to the decoders.
    groups: VecDeque<(usize, Wanted)>,
}

impl<D: PieceDecoder + 'static> PieceFrames<D> {
    pub(crate) fn new(source: PieceSource, decoder: ParallelDecoder<D>) -> Self {
        Self { source, decoder, groups: VecDeque::new() }
    }

    /// Pictures by their frames' numbers, each group of pictures visited once; `None` where they do not come in pieces. A frame that
    /// does not come out is not in it.
    ///
    /// # Errors
    /// As the decoders; of no use after that.
    #[cfg(feature = "cuda")]
    pub(crate) fn pictures(&mut self, numbers: &[usize]) -> Result<Option<HashMap<usize, D::Picture>>, ReaderError> {
        let decoder = &mut self.decoder;
        self.source.pieces(numbers.iter().copied(), |piece| {
            decoder.submit(piece);
            Ok::<_, ReaderError>(())
        })?;
        let mut found = HashMap::new();
        loop {
            match self.next()? {
                NextFrame::Frame(number, picture) => drop(found.insert(number, picture)),
                NextFrame::NotInPieces => return Ok(None),
                NextFrame::End => return Ok(Some(found)),
            }
        }
    }

    /// Says which frames [`PieceFrames::next`] gives; they rise.
    pub(crate) fn begin(&mut self, numbers: &[usize]) {
        self.groups = self.source.groups(numbers.iter().copied()).into_iter().collect();
    }

    /// The next frame. The decoders are kept busy as far as the window allows.
    ///
    /// # Errors
    /// As the decoders; of no use after that.
    pub(crate) fn next(&mut self) -> Result<NextFrame<D::Picture>, ReaderError> {
        loop {
            while self.decoder.wants_piece()
                && let Some((start, wanted)) = self.groups.pop_front()
            {
                match self.source.piece(start, &wanted)? {
                    Some(piece) => self.decoder.submit(piece),
                    // No start after all: these decode from one further back.
                    None => self.source.groups(wanted.into_values()).into_iter().rev().for_each(|group| self.groups.push_front(group)),
                }
            }
            if self.source.changes_headers() {
                return Ok(NextFrame::NotInPieces);
            }
            match self.decoder.next_picture()? {
                NextPicture::Picture(tagged) => {
                    let place = usize::try_from(tagged.tag).ok();
                    if let Some(number) = place.and_then(|place| self.source.index().number_at(place)) {
                        return Ok(NextFrame::Frame(number, tagged.picture));
                    }
                }
                NextPicture::NeedsContext => return Ok(NextFrame::NotInPieces),
                NextPicture::None if self.groups.is_empty() => return Ok(NextFrame::End),
                NextPicture::None | NextPicture::WantsPiece => {}
            }
        }
    }

    pub(crate) fn index(&self) -> &Arc<FrameIndex> {
        self.source.index()
    }

    /// Seeks and packets left out since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        self.source.take_counts()
    }
}
