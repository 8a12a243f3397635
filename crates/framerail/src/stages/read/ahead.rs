//! Reads files one after another, with the next ones opened and decoded ahead.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use framerail_core::{CancelToken, StreamId, StreamInfo};
use framerail_pipeline::{StageError, StreamLine, StreamOpener, StreamReader, StreamRequest};
use framerail_reader::{Prefetching, frame_bytes};
use parking_lot::Mutex;

use super::{
    opener::SourceOpener,
    source::{Placement, naming},
};
use crate::convert::reader_error;

/// Minimum number of frames and packets of a file that are read ahead.
const MIN_ITEMS: usize = 8;

/// Share of the memory for a longer file before its turn; its decoders need memory for frames too.
const LONG_FILE_SHARE: u64 = 4;

/// A file that is opened and decoded before its turn.
struct Begun {
    id: StreamId,
    file: Prefetching<Placement, FileError>,
    /// Size of its frames in bytes, as far as it is read ahead.
    bytes: u64,
}

/// Why a file cannot be opened.
pub(super) struct FileError(StageError);

impl From<framerail_reader::ReaderError> for FileError {
    fn from(error: framerail_reader::ReaderError) -> Self {
        FileError(reader_error(error))
    }
}

struct State {
    /// Files that are not started yet.
    waiting: VecDeque<StreamRequest>,
    begun: VecDeque<Begun>,
    /// Whether the current file, which was started early, is fully decoded.
    present: Arc<AtomicBool>,
}

/// Opens files in order, and the following ones ahead: as many as decoders, not counting fully decoded ones, as far as memory allows.
/// The rest of the current file counts too, so a long file has all decoders until it nears its end.
pub(super) struct InTurn {
    opener: Arc<SourceOpener>,
    /// Number of concurrent files, including the current one.
    most: usize,
    memory_bytes: u64,
    state: Mutex<State>,
}

impl InTurn {
    /// `requests` are all files of the run.
    pub(super) fn new(opener: Arc<SourceOpener>, most: usize, memory_bytes: u64, requests: &[StreamRequest]) -> Arc<Self> {
        let state = State { waiting: requests.iter().cloned().collect(), begun: VecDeque::new(), present: Arc::default() };
        Arc::new(Self { opener, most, memory_bytes, state: Mutex::new(state) })
    }

    /// Starts further files if the current one, of which this many frames were delivered, leaves room for them.
    pub(super) fn go_on(&self, present: &StreamInfo, given: u64) {
        let mut state = self.state.lock();
        if state.waiting.is_empty() || !self.has_place(&state) {
            return;
        }
        let bytes = frame_bytes(present.width, present.height, present.pixel_format).max(1);
        let Some(frames) = present.frames_estimate else { return };
        let mut taken = frames.saturating_sub(given).saturating_mul(bytes);
        taken = state.begun.iter().fold(taken, |sum, begun| sum.saturating_add(begun.bytes));
        // Files of a folder are similar.
        let whole = frames.saturating_mul(bytes).max(bytes);
        let wanted = whole.min(self.memory_bytes / LONG_FILE_SHARE).max(bytes);
        // As many as fit share the decoders; one that does not fit gets all of them in its turn.
        let side_by_side = usize::try_from(self.memory_bytes / whole).unwrap_or(usize::MAX).min(self.most);
        let decoders = (side_by_side > 1).then(|| self.most.div_ceil(side_by_side));
        while self.has_place(&state) && taken.saturating_add(wanted) <= self.memory_bytes {
            let Some(request) = state.waiting.pop_front() else { return };
            let items = usize::try_from(wanted / bytes).unwrap_or(usize::MAX).max(MIN_ITEMS);
            let (opener, cancel, id) = (Arc::clone(&self.opener), CancelToken::default(), request.id);
            let of_file = cancel.clone();
            let open = move || opener.open_beside(&request, &of_file, decoders).map_err(FileError);
            state.begun.push_back(Begun { id, file: Prefetching::begin(items, &cancel, open), bytes: wanted });
            taken += wanted;
        }
    }

    /// Whether a decoder would be idle without a further file. Frames decoded long before their turn only cost memory.
    fn has_place(&self, state: &State) -> bool {
        let decoded = state.begun.iter().filter(|begun| begun.file.is_read()).count();
        let present = usize::from(!state.present.load(Ordering::Relaxed));
        present + state.begun.len() - decoded < self.most && decoded < self.most
    }

    /// Removes a started file from the queue, and forgets those before it.
    fn take(&self, id: StreamId) -> Option<Begun> {
        let mut state = self.state.lock();
        state.waiting.retain(|request| request.id.0 > id.0);
        let place = state.begun.iter().position(|begun| begun.id == id);
        let taken = place.and_then(|place| state.begun.drain(..=place).next_back());
        state.present = taken.as_ref().map_or_else(Arc::default, |begun| begun.file.read_flag());
        taken
    }

    /// Includes the file that was opened before the run.
    pub(super) fn opened(&self, id: StreamId) {
        drop(self.take(id));
    }
}

/// The opener of a run that reads its sources one after another.
pub(super) struct InTurnOpener(pub(super) Arc<InTurn>);

impl StreamOpener for InTurnOpener {
    fn admit(&self, source: &str, id: StreamId) -> Result<StreamRequest, StageError> {
        self.0.opener.admit(source, id)
    }

    fn open(&self, request: &StreamRequest, line: &StreamLine) -> Result<Box<dyn StreamReader>, StageError> {
        let opener = &self.0.opener;
        let opened = match self.0.take(request.id) {
            Some(begun) => match begun.file.wait(&line.cancel) {
                Ok((frames, placement)) => (Box::new(frames) as Box<_>, placement),
                Err(FileError(error)) => return Err(naming(&request.source.to_string(), error)),
            },
            None => opener.open_source(request, &line.cancel)?,
        };
        Ok(Box::new(opener.stream(opened, request, &line.cancel).in_turn(&self.0)))
    }
}
