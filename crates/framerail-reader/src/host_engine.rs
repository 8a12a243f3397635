//! Frames by number, decoded on the host.

use std::{
    collections::HashMap,
    sync::{Arc, mpsc::sync_channel},
};

use framerail_core::{Frame, FrameStatus as Decoded};
use parking_lot::Mutex;

use crate::{
    CpuPieces, FrameInfo, FrameStatus, IndexSource, Piece, PieceDecoder, PieceOutput, ReadMode, ReaderError, Tagged,
    frame_index::{Access, FrameIndex},
    host_cursor::{Found, HostCursor, is_undamaged},
    host_frames::{FrameKind, HostFrames},
    piece_source::{PieceSource, span},
    plan,
    video::{Deadline, Fault, Target, Video},
};

/// Number of earlier frames that are tried in place of a missing one.
const MAX_TRIES: usize = 300;

/// A decoder and the conversion of its frames.
struct Worker {
    threads: usize,
    pieces: CpuPieces,
    images: HostFrames,
}

/// Reads frames by number; keeps its decoders between requests.
pub(crate) struct HostEngine {
    video: Arc<Video>,
    index: Arc<FrameIndex>,
    target: Target,
    mode: ReadMode,
    source: Option<PieceSource>,
    workers: Vec<Worker>,
    cursor: Option<(HostCursor, HostFrames)>,
    /// Last frame of the previous request.
    last: Option<usize>,
    /// Metadata from the decoded frames themselves, for frames that the index does not describe.
    known: HashMap<usize, FrameInfo>,
}

impl HostEngine {
    pub(crate) fn new(video: &Arc<Video>, index: &Arc<FrameIndex>, target: &Target, mode: ReadMode) -> Self {
        Self {
            video: Arc::clone(video),
            index: Arc::clone(index),
            target: target.clone(),
            mode,
            source: None,
            workers: Vec::new(),
            cursor: None,
            last: None,
            known: HashMap::new(),
        }
    }

    /// Uses an input that is at its first packet.
    pub(crate) fn with_input(mut self, input: Option<framerail_media::Input>) -> Self {
        self.source = input.map(|input| PieceSource::at_start(input, Arc::clone(&self.index)));
        self
    }

    /// Changes the output of the following frames; the decoders are kept.
    ///
    /// # Errors
    /// `Convert`; the engine cannot be used afterwards.
    pub(crate) fn set_target(&mut self, target: &Target) -> Result<(), ReaderError> {
        self.target = target.clone();
        let images = self.workers.iter_mut().map(|worker| &mut worker.images).chain(self.cursor.as_mut().map(|(_, images)| images));
        for images in images {
            *images = HostFrames::new(&target.output, target.kind, &self.video.source_name())?;
        }
        Ok(())
    }

    /// Writes the frames in the order requested. `out` has exactly the length that they need.
    pub(crate) fn read(&mut self, numbers: &[usize], out: &mut [u8]) -> Result<Vec<FrameInfo>, Fault> {
        let image_bytes = self.target.shape().bytes().max(1);
        let mut unique: Vec<usize> = numbers.to_vec();
        unique.sort_unstable();
        unique.dedup();
        // Each frame is written to its first position; duplicates are copied from there.
        let mut first: HashMap<usize, usize> = HashMap::new();
        for (place, number) in numbers.iter().enumerate() {
            first.entry(*number).or_insert(place);
        }
        let mut chunks: Vec<Option<&mut [u8]>> = out.chunks_exact_mut(image_bytes).map(Some).collect();
        let chunk = |number: &usize| chunks.get_mut(*first.get(number)?)?.take();
        let mut slots: Vec<&mut [u8]> = unique.iter().filter_map(chunk).collect();
        if slots.len() != unique.len() {
            return Err(ReaderError::Closed.into());
        }
        self.known.clear();
        let statuses = self.read_unique(&unique, &mut slots)?;
        for (place, number) in numbers.iter().enumerate() {
            let from = first.get(number).copied().unwrap_or(place);
            if from != place {
                out.copy_within(from * image_bytes..(from + 1) * image_bytes, place * image_bytes);
            }
        }
        let status = |number: &usize| unique.binary_search(number).ok().and_then(|slot| statuses.get(slot).copied());
        let info = |number: &usize| match self.known.get(number) {
            Some(known) => Ok(*known),
            None => self.video.info(&self.index, *number, status(number).unwrap_or(FrameStatus::Missing)),
        };
        let infos = numbers.iter().map(info).collect::<Result<Vec<_>, _>>()?;
        self.last = unique.last().copied();
        Ok(infos)
    }

    /// Reads rising frames, one per slot.
    fn read_unique(&mut self, numbers: &[usize], slots: &mut [&mut [u8]]) -> Result<Vec<FrameStatus>, Fault> {
        let deadline = self.video.deadline();
        if self.goes_on(numbers) {
            return self.read_on(numbers, slots, &deadline);
        }
        let found = self.read_pieces(numbers, slots, &deadline)?;
        let mut statuses = Vec::with_capacity(found.len());
        for ((number, status), slot) in numbers.iter().zip(found).zip(slots) {
            if status.is_none() {
                self.stand_in(*number, slot, &deadline)?;
            }
            statuses.push(status.unwrap_or(FrameStatus::Missing));
        }
        Ok(statuses)
    }

    /// Whether one decoder that continues from frame to frame decodes less than several that start again.
    fn goes_on(&self, numbers: &[usize]) -> bool {
        if self.index.access == Access::Counted || self.mode == ReadMode::Stream {
            return true;
        }
        let (Some(first), Some(last)) = (numbers.first().copied(), numbers.last().copied()) else { return true };
        let Some(source) = &self.source else { return false };
        if let Some((cursor, _)) = &self.cursor
            && cursor.distance(first).is_some()
        {
            let groups = source.groups(numbers.iter().copied());
            return plan::goes_on(&groups, cursor.distance(last));
        }
        // This is the second consecutive forward request in one GOP: expect more.
        self.last.is_some_and(|before| before < first && source.start_of(before) == source.start_of(last))
    }

    fn read_on(&mut self, numbers: &[usize], slots: &mut [&mut [u8]], deadline: &Deadline) -> Result<Vec<FrameStatus>, Fault> {
        let threads = self.video.threads.alone();
        let (mut cursor, mut images) = match self.cursor.take() {
            Some(cursor) => cursor,
            None => (HostCursor::new(&self.video, &self.index, threads)?, self.images()?),
        };
        let mut statuses = Vec::with_capacity(numbers.len());
        for (at, slot) in slots.iter_mut().enumerate() {
            let upcoming = numbers.get(at..).unwrap_or_default();
            let number = upcoming.first().copied().unwrap_or(0);
            let (frame, status) = match cursor.next(upcoming, false, deadline)? {
                Found::Frame(frame) => {
                    let status = status_of(&frame);
                    (Some(frame), status)
                }
                Found::Missing(before) => (before, FrameStatus::Missing),
            };
            match frame {
                Some(frame) => {
                    check_kind(&self.target, &frame)?;
                    images.make(number, &frame, slot)?;
                    if self.index.source == IndexSource::Approximate && status != FrameStatus::Missing {
                        self.known.insert(number, self.video.info_of(&self.index, number, status, &frame)?);
                    }
                    self.video.counters.pictures_converted.add(1);
                }
                None => self.stand_in(number, slot, deadline)?,
            }
            statuses.push(status);
        }
        self.video.counters.frames_rescaled.add(images.take_rescaled());
        self.target.is_seen = true;
        // Kept only on success: after an error the state of the cursor is unknown.
        self.cursor = Some((cursor, images));
        if self.source.is_none() && self.index.access == Access::ByTime {
            self.source = Some(PieceSource::new(self.video.open()?, Arc::clone(&self.index)));
        }
        Ok(statuses)
    }

    fn images(&self) -> Result<HostFrames, ReaderError> {
        HostFrames::new(&self.target.output, self.target.kind, &self.video.source_name())
    }

    /// Fills the slot with the nearest decodable frame before a missing one.
    fn stand_in(&mut self, number: usize, slot: &mut &mut [u8], deadline: &Deadline) -> Result<(), Fault> {
        if self.index.access == Access::ByTime {
            for before in (number.saturating_sub(MAX_TRIES)..number).rev() {
                if self.read_pieces(&[before], std::slice::from_mut(slot), deadline)?.first().is_some_and(Option::is_some) {
                    return Ok(());
                }
            }
        }
        let reason = "neither it nor a frame before it can be decoded";
        Err(self.video.decode_error(&self.index, number, reason).into())
    }

    /// Reads frames by pieces, several in parallel; `None` for frames that the decoder did not output.
    fn read_pieces(&mut self, numbers: &[usize], slots: &mut [&mut [u8]], deadline: &Deadline) -> Result<Vec<Option<FrameStatus>>, Fault> {
        let mut source = match self.source.take() {
            Some(source) => source,
            None => PieceSource::new(self.video.open()?, Arc::clone(&self.index)),
        };
        let groups = source.groups(numbers.iter().copied());
        let pixels = u64::from(self.target.kind.width) * u64::from(self.target.kind.height);
        let longest = groups.iter().map(|(start, wanted)| span(*start, wanted)).max().unwrap_or(0);
        let (count, threads) = plan::for_groups(self.video.threads, groups.len(), longest, pixels);
        let mut workers = self.take_workers(count, threads)?;
        let job = Job {
            index: &self.index,
            target: &self.target,
            deadline,
            numbers,
            slots: slots.iter_mut().map(|slot| Mutex::new(Slot { bytes: slot, status: None })).collect(),
            fault: Mutex::new(None),
        };
        let outcome = match workers.as_mut_slice() {
            [worker] => source.pieces(numbers.iter().copied(), |piece| job.run(worker, &piece)),
            several => side_by_side(&mut source, several, &job),
        };
        if source.changes_headers() {
            return Err(Fault::IndexWrong);
        }
        outcome?;
        if let Some(fault) = job.fault.into_inner() {
            return Err(fault);
        }
        let statuses: Vec<_> = job.slots.into_iter().map(|slot| slot.into_inner().status).collect();
        self.target.is_seen |= statuses.iter().any(Option::is_some);
        let counters = &self.video.counters;
        for worker in &mut workers {
            counters.pictures_decoded.add(worker.pieces.take_frames());
            counters.frames_rescaled.add(worker.images.take_rescaled());
        }
        counters.pictures_converted.add(statuses.iter().flatten().count() as u64);
        let (seeks, skipped) = source.take_counts();
        counters.seeks.add(seeks);
        counters.packets_skipped.add(skipped);
        self.workers.append(&mut workers);
        self.source = Some(source);
        Ok(statuses)
    }

    fn take_workers(&mut self, count: usize, threads: usize) -> Result<Vec<Worker>, ReaderError> {
        let (mut taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.workers).into_iter().partition(|worker| worker.threads == threads);
        self.workers = kept;
        while taken.len() > count {
            self.workers.extend(taken.pop());
        }
        while taken.len() < count {
            let pieces = CpuPieces::new(&self.video.decoder_setup(threads), &self.video.frames)?;
            taken.push(Worker { threads, pieces, images: self.images()? });
        }
        Ok(taken)
    }
}

/// Whether the decoder reported the frame as intact.
pub(crate) fn status_of(frame: &Frame) -> FrameStatus {
    match frame.status {
        Decoded::Ok => FrameStatus::Ok,
        Decoded::Repaired => FrameStatus::Repaired,
    }
}

/// Checks that a frame matches the header, while only the header is known.
pub(crate) fn check_kind(target: &Target, frame: &Frame) -> Result<(), Fault> {
    let surface = frame.surface.host().map_err(framerail_media::MediaError::from)?;
    if !target.is_seen && FrameKind::of(surface) != target.kind {
        return Err(Fault::OtherKind);
    }
    Ok(())
}

/// A request, shared by its workers.
struct Job<'a, 'b> {
    index: &'a FrameIndex,
    target: &'a Target,
    deadline: &'a Deadline,
    /// Rising; number i belongs to slot i.
    numbers: &'a [usize],
    slots: Vec<Mutex<Slot<'a, 'b>>>,
    fault: Mutex<Option<Fault>>,
}

struct Slot<'a, 'b> {
    bytes: &'a mut &'b mut [u8],
    status: Option<FrameStatus>,
}

impl Job<'_, '_> {
    fn run(&self, worker: &mut Worker, piece: &Piece) -> Result<(), Fault> {
        let shown = piece.shown();
        let before = worker.pieces.damage().clone();
        let mut sink = Sink { job: self, images: &mut worker.images, made: 0, fault: None };
        let outcome = worker.pieces.decode(piece, &mut sink);
        let (made, fault) = (sink.made, sink.fault);
        if let Some(fault) = fault {
            return Err(fault);
        }
        outcome?;
        if made < shown && is_undamaged(&before, worker.pieces.damage()) {
            return Err(Fault::IndexWrong);
        }
        Ok(())
    }

    fn fail(&self, fault: Fault) {
        self.fault.lock().get_or_insert(fault);
    }
}

/// Converts the frames of a piece into their slots.
struct Sink<'a, 'b, 'c> {
    job: &'a Job<'b, 'c>,
    images: &'a mut HostFrames,
    made: usize,
    fault: Option<Fault>,
}

impl Sink<'_, '_, '_> {
    fn make(&mut self, tag: i64, frame: &Frame) -> Result<(), Fault> {
        let number = usize::try_from(tag).ok().and_then(|place| self.job.index.number_at(place));
        let slot = number.and_then(|number| self.job.numbers.binary_search(&number).ok());
        let Some((number, slot)) = number.zip(slot.and_then(|slot| self.job.slots.get(slot))) else { return Ok(()) };
        check_kind(self.job.target, frame)?;
        let mut slot = slot.lock();
        self.images.make(number, frame, slot.bytes)?;
        slot.status = Some(status_of(frame));
        self.made += 1;
        Ok(())
    }
}

impl PieceOutput<Frame> for Sink<'_, '_, '_> {
    fn check(&mut self) -> Result<(), ReaderError> {
        if self.fault.is_some() || self.job.fault.lock().is_some() {
            return Err(ReaderError::Closed);
        }
        let wanted = || {
            let (first, last) = (self.job.numbers.first(), self.job.numbers.last());
            format!("waiting for frames {} to {}", first.copied().unwrap_or(0), last.copied().unwrap_or(0))
        };
        self.job.deadline.check(wanted)
    }

    fn reserve(&mut self) -> Result<(), ReaderError> {
        if self.fault.is_some() { Err(ReaderError::Closed) } else { Ok(()) }
    }

    fn push(&mut self, image: Tagged<Frame>) {
        if let Err(fault) = self.make(image.tag, &image.image) {
            self.fault = Some(fault);
        }
    }
}

/// Reads packets on this thread; each worker decodes pieces on its own thread.
fn side_by_side(source: &mut PieceSource, workers: &mut [Worker], job: &Job<'_, '_>) -> Result<(), Fault> {
    let (sender, receiver) = sync_channel::<Piece>(workers.len());
    let receiver = Mutex::new(receiver);
    std::thread::scope(|scope| {
        for worker in workers {
            let receiver = &receiver;
            scope.spawn(move || {
                loop {
                    let next = receiver.lock().recv();
                    let Ok(piece) = next else { return };
                    // After a fault, pieces are only drained from the queue, so that the sender does not block.
                    let is_failed = job.fault.lock().is_some();
                    if !is_failed && let Err(fault) = job.run(worker, &piece) {
                        job.fail(fault);
                    }
                }
            });
        }
        let outcome = source.pieces(job.numbers.iter().copied(), |piece| {
            let is_failed = job.fault.lock().is_some();
            if is_failed || sender.send(piece).is_err() { Err(Fault::Error(ReaderError::Closed)) } else { Ok(()) }
        });
        drop(sender);
        match outcome {
            // The stored fault has the details.
            Err(Fault::Error(ReaderError::Closed)) => Ok(()),
            other => other,
        }
    })
}
