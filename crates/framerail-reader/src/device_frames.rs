//! Frames of a file by their number, decoded by a card: what a clip and a reader share.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use framerail_media::{Input, InputOptions};

use crate::{
    ReaderError,
    device::{DeviceOptions, check, engines, setup},
    device_pieces::{DevicePicture, DevicePieces, DeviceSetup, MakeSurface},
    frame_index::{Access, FrameIndex},
    parallel::{MakeDecoder, ParallelDecoder},
    piece_source::{PieceSource, Wanted},
};

/// The decoders of a card on one file.
pub(crate) struct DeviceFrames {
    source: PieceSource,
    setup: Arc<DeviceSetup>,
    decoder: ParallelDecoder<DevicePieces>,
    decoders: usize,
    /// Groups that are still to be given to the decoders.
    groups: VecDeque<(usize, Wanted)>,
}

impl DeviceFrames {
    /// Decoders of a card for an input, which may be anywhere. Up to `window` pictures wait for their turn.
    ///
    /// # Errors
    /// `NotOnDevice` when the card cannot decode it, or frames cannot be told by their packets.
    pub(crate) fn new(
        input: Input,
        index: Arc<FrameIndex>,
        options: &InputOptions,
        device: &DeviceOptions,
        make: Arc<dyn MakeSurface>,
        window: usize,
    ) -> Result<Self, ReaderError> {
        let (codec, coded) = check(&input, &device.device)?;
        if index.access != Access::ByTime {
            return Err(ReaderError::NotOnDevice {
                source_name: input.info().source.to_string(),
                reason: "its packets do not tell its frames, which are counted from the start on the CPU".into(),
            });
        }
        let setup = setup(&device.device, codec, &input, options.rotation, make)?;
        let decoders = device.decoders.unwrap_or_else(|| engines(&device.device, codec, coded.bits()) + 1).max(1);
        let of_decoders = Arc::clone(&setup);
        let make: MakeDecoder<DevicePieces> = Arc::new(move || DevicePieces::new(&of_decoders));
        let decoder = ParallelDecoder::new(decoders, window.max(decoders), make);
        Ok(Self { source: PieceSource::new(input, index), setup, decoder, decoders, groups: VecDeque::new() })
    }

    /// Pictures by their frames' numbers, each group of pictures visited once. A frame that does not come out is not in it.
    ///
    /// # Errors
    /// `Media`, `Cuda`; of no use after that.
    pub(crate) fn pictures(&mut self, numbers: &[usize]) -> Result<HashMap<usize, DevicePicture>, ReaderError> {
        let decoder = &mut self.decoder;
        self.source.pieces(numbers.iter().copied(), |piece| {
            decoder.submit(piece);
            Ok::<_, ReaderError>(())
        })?;
        self.check_headers()?;
        let mut found = HashMap::new();
        while let Some(tagged) = self.decoder.next_picture()? {
            if let Some(number) = self.number_of(tagged.tag) {
                found.insert(number, tagged.picture);
            }
        }
        Ok(found)
    }

    /// Says which frames [`DeviceFrames::next`] gives; they rise.
    pub(crate) fn begin(&mut self, numbers: &[usize]) {
        self.groups = self.source.groups(numbers.iter().copied()).into_iter().collect();
    }

    /// The next picture and its frame's number; `None` at the end. The decoders are kept busy as far as the window allows.
    ///
    /// # Errors
    /// `Media`, `Cuda`; of no use after that.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, DevicePicture)>, ReaderError> {
        loop {
            while self.decoder.pieces_under_way() <= self.decoders
                && let Some((start, wanted)) = self.groups.pop_front()
            {
                let piece = self.source.piece(start, &wanted)?;
                self.check_headers()?;
                match piece {
                    Some(piece) => self.decoder.submit(piece),
                    // No start after all: these decode from one further back.
                    None => self.source.groups(wanted.into_values()).into_iter().rev().for_each(|group| self.groups.push_front(group)),
                }
            }
            match self.decoder.next_picture()? {
                Some(tagged) => {
                    if let Some(number) = self.number_of(tagged.tag) {
                        return Ok(Some((number, tagged.picture)));
                    }
                }
                None if self.groups.is_empty() => return Ok(None),
                None => {}
            }
        }
    }

    fn check_headers(&self) -> Result<(), ReaderError> {
        if self.source.changes_headers() {
            return Err(ReaderError::NotOnDevice {
                source_name: self.setup.source_name.clone(),
                reason: "its global headers change on the way, so frames are counted from the start on the CPU".into(),
            });
        }
        Ok(())
    }

    fn number_of(&self, tag: i64) -> Option<usize> {
        usize::try_from(tag).ok().and_then(|place| self.source.index().number_at(place))
    }

    pub(crate) fn index(&self) -> &Arc<FrameIndex> {
        self.source.index()
    }

    pub(crate) fn setup(&self) -> &Arc<DeviceSetup> {
        &self.setup
    }

    /// Seeks and packets left out since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        self.source.take_counts()
    }
}
