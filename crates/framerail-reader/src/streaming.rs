//! Makes batches of rising frames: decodes in pieces or with one decoder, and converts each frame into its position in a batch.
//!
//! A frame whose batch is within reach is converted by the thread that decoded it, while it is in the CPU cache. Other frames wait
//! unconverted and are converted by separate threads when they are due.

use std::{
    ops::Range,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use framerail_core::Frame;
use framerail_media::{DecodeBufferPool, PageMemory, Slot};
use parking_lot::Mutex;

use crate::{
    CpuPieces, FrameInfo, FrameStatus, IndexSource, MakeDecoder, ParallelDecoder, PieceCounts, PiecePlan, ReadMode, ReaderError,
    assembly::Assembly,
    batches::{KEPT_BATCHES, Order, Outlet},
    frame_index::{Access, FrameIndex},
    host_cursor::{Found, HostCursor},
    host_engine::{HostEngine, check_kind, status_of},
    host_frames::{FrameKind, HostFrames},
    parallel::{Ahead, PieceDecoder, PieceEnd, PieceOutput, Tagged},
    piece::Piece,
    piece_frames::{NextFrame, PieceFrames},
    piece_source::PieceSource,
    plan::{self, BatchPlan, BatchSequence},
    video::{Fault, Target, Video},
};

/// Number of decoding threads per converter thread.
const THREADS_PER_CONVERTER: usize = 4;
const MAX_CONVERTERS: usize = 16;
/// Decoded frames queued per converter thread.
const FRAMES_AHEAD: usize = 2;

/// A frame to be converted, and its positions.
struct Work {
    frame: Frame,
    places: Range<usize>,
    info: FrameInfo,
}

/// Decodes from the first frame to the last.
pub(crate) fn stream(video: &Arc<Video>, index: &Arc<FrameIndex>, target: &Target, order: &Order, outlet: &Outlet) -> Result<(), Fault> {
    let mut unique = order.numbers.to_vec();
    unique.dedup();
    let plan = plan_of(video, index, target, &unique, order.batch);
    let (reach, converters) = match &plan {
        Ok(plan) if plan.is_early => (plan.reach, 1),
        Ok(plan) => (plan.reach, video.threads.cores.clamp(1, MAX_CONVERTERS)),
        Err(_) => (0, (video.threads.cores / THREADS_PER_CONVERTER).clamp(1, MAX_CONVERTERS)),
    };
    video.memory.set_keep(order.queue + KEPT_BATCHES + reach);
    let assembly = Arc::new(Assembly::new(order, target.shape(), video.memory.clone(), reach, outlet.clone()));
    let supply = match plan {
        Ok(plan) => {
            let (pieces, name) = (plan.pieces, video.source_name());
            log::debug!("{name}: {} pieces side by side, {} threads each, {} batches ahead", pieces.decoders, pieces.threads, plan.reach);
            in_pieces(video, index, target, pieces, &unique, &assembly)?
        }
        Err(reason) => {
            log::debug!("{}: one decoder: {reason}", video.source_name());
            Supply::Cursor(HostCursor::new(video, index, video.threads.alone())?)
        }
    };
    let mut decoding = Streaming { video, index, target: target.clone(), order, outlet, supply, unique, at: 0, last: None };
    let outcome = std::thread::scope(|scope| {
        let (work, orders) = sync_channel(converters * FRAMES_AHEAD);
        let orders = Arc::new(Mutex::new(orders));
        for _ in 0..converters {
            let (assembly, target, orders) = (Arc::clone(&assembly), decoding.target.clone(), Arc::clone(&orders));
            scope.spawn(move || convert(video, &target, &orders, &assembly));
        }
        drop(orders);
        decoding.run(&assembly, &work)
    });
    assembly.take_failure().map_or(outcome, |error| Err(error.into()))
}

/// Decodes frames and passes unconverted ones to the converters.
struct Streaming<'a> {
    video: &'a Arc<Video>,
    index: &'a Arc<FrameIndex>,
    target: Target,
    order: &'a Order,
    outlet: &'a Outlet,
    supply: Supply,
    /// The wanted frames, without duplicates.
    unique: Vec<usize>,
    at: usize,
    /// The last frame, in case the next batch starts with it too.
    last: Option<(usize, Shown)>,
}

/// The content of a frame's positions.
enum Shown {
    Frame(Box<Frame>, FrameStatus),
    /// Already converted into the frame's first position.
    Placed(Slot, FrameStatus),
    /// Already converted, to be copied.
    Decoded(Arc<PageMemory>, FrameStatus),
}

/// Source of decoded frames.
enum Supply {
    Pieces(Box<PieceFrames<ReadyPieces>>, PieceCounts),
    Cursor(HostCursor),
}

impl<'a> Streaming<'a> {
    fn run(&mut self, assembly: &Assembly, work: &SyncSender<Work>) -> Result<(), Fault> {
        let mut place = 0;
        for (batch, numbers) in self.order.numbers.chunks(self.order.batch.max(1)).enumerate() {
            if !assembly.begin(batch) {
                return Ok(());
            }
            for same in numbers.chunk_by(|a, b| a == b) {
                let number = same.first().copied().unwrap_or(0);
                self.outlet.at(number);
                if self.outlet.is_stopped() {
                    return Ok(());
                }
                let shown = match self.last.take() {
                    Some((last, shown)) if last == number => shown,
                    _ => self.shown(number)?,
                };
                let places = place..place + same.len();
                place = places.end;
                let is_wanted_again = self.order.numbers.get(place) == Some(&number);
                let again = self.put(number, shown, places, assembly, work, is_wanted_again)?;
                self.last = again.map(|shown| (number, shown));
            }
        }
        Ok(())
    }

    /// Puts a frame into its positions; returns it for the next batch, if that needs it too.
    fn put(
        &self,
        number: usize,
        shown: Shown,
        places: Range<usize>,
        assembly: &Assembly,
        work: &SyncSender<Work>,
        is_wanted_again: bool,
    ) -> Result<Option<Shown>, Fault> {
        match shown {
            Shown::Frame(frame, status) => {
                let info = self.video.info_of(self.index, number, status, &frame)?;
                let again = is_wanted_again.then(|| Shown::Frame(frame.clone(), status));
                // Converters end only after recording an error, which then takes precedence.
                let _ = work.send(Work { frame: *frame, places, info });
                Ok(again)
            }
            Shown::Placed(mut slot, status) => {
                let info = self.video.info(self.index, number, status)?;
                let again = match is_wanted_again {
                    true => Some(Shown::Decoded(Arc::new(copied(slot.as_mut_slice())?), status)),
                    false => None,
                };
                fill_all(assembly, slot, places, info)?;
                Ok(again)
            }
            Shown::Decoded(image, status) => {
                let info = self.video.info(self.index, number, status)?;
                let mut slot = assembly.slot_due(places.start)?;
                slot.as_mut_slice().copy_from_slice(image.as_slice());
                fill_all(assembly, slot, places, info)?;
                Ok(is_wanted_again.then_some(Shown::Decoded(image, status)))
            }
        }
    }

    fn shown(&mut self, number: usize) -> Result<Shown, Fault> {
        if let Supply::Pieces(frames, counts) = &mut self.supply {
            let next = frames.next()?;
            let (seeks, skipped) = frames.take_counts();
            self.video.counters.seeks.add(seeks);
            self.video.counters.packets_skipped.add(skipped);
            self.video.counters.pictures_decoded.add(counts.take_frames());
            match next {
                NextFrame::Frame(found, ready) if found == number => {
                    self.at += 1;
                    return self.ready(ready);
                }
                _ => self.go_on_as_one(number)?,
            }
        }
        self.of_cursor(number)
    }

    fn ready(&mut self, ready: Ready) -> Result<Shown, Fault> {
        self.target.is_seen = true;
        match ready {
            Ready::Placed(slot, status) => Ok(Shown::Placed(slot, status)),
            Ready::Frame(frame, is_seen) => {
                self.target.is_seen = is_seen;
                self.decoded(frame)
            }
        }
    }

    fn decoded(&mut self, frame: Frame) -> Result<Shown, Fault> {
        check_kind(&self.target, &frame)?;
        self.target.is_seen = true;
        let status = status_of(&frame);
        Ok(Shown::Frame(Box::new(frame), status))
    }

    /// Continues with one decoder, from the start of the previous piece, so that it has the same context as a decode from the start.
    fn go_on_as_one(&mut self, number: usize) -> Result<(), Fault> {
        let mut cursor = HostCursor::new(self.video, self.index, self.video.threads.alone())?;
        let start = self.index.place(number).map_or(0, |place| self.index.start_of(place, &Default::default()));
        let before = (0..start).rev().find_map(|place| self.index.number_at(place)).filter(|before| *before < number);
        if let Some(before) = before {
            let upcoming: Vec<usize> = [before].iter().chain(self.unique.get(self.at..).unwrap_or_default()).copied().collect();
            cursor.next(&upcoming, true, &self.video.deadline())?;
        }
        self.supply = Supply::Cursor(cursor);
        Ok(())
    }

    fn of_cursor(&mut self, number: usize) -> Result<Shown, Fault> {
        let Supply::Cursor(cursor) = &mut self.supply else { return Err(ReaderError::Closed.into()) };
        let upcoming = self.unique.get(self.at..).unwrap_or_default();
        self.at += 1;
        Ok(match cursor.next(upcoming, true, &self.video.deadline())? {
            Found::Frame(frame) => self.decoded(frame)?,
            Found::Missing(Some(before)) => Shown::Frame(Box::new(before), FrameStatus::Missing),
            Found::Missing(None) => {
                let mut memory = PageMemory::new(self.target.shape().bytes())?;
                HostEngine::new(self.video, self.index, &self.target, ReadMode::Seek).read(&[number], memory.as_mut_slice())?;
                Shown::Decoded(Arc::new(memory), FrameStatus::Missing)
            }
        })
    }
}

/// Plan for decoding rising frames in pieces; `Err` with the reason for using one decoder.
fn plan_of(video: &Video, index: &FrameIndex, target: &Target, numbers: &[usize], batch: usize) -> Result<BatchPlan, String> {
    if index.access != Access::ByTime || index.source == IndexSource::Approximate {
        return Err("the packet index does not match the decoded frames".into());
    }
    let is_file = || std::fs::metadata(video.input.source.reveal()).is_ok_and(|found| found.is_file());
    if video.input.custom.is_none() && !is_file() {
        return Err("it is not a local file".into());
    }
    let (pieces, longest) = index.groups_of(numbers);
    let FrameKind { width, height, format } = target.kind;
    BatchSequence {
        threads: video.threads,
        piece_frames: longest,
        pieces,
        decoded_bytes: plan::frame_bytes(width, height, format),
        image_bytes: target.shape().bytes() as u64,
        batch,
        memory_bytes: video.memory_bytes,
    }
    .plan()
}

/// Whether rising frames are decoded in pieces.
pub(crate) fn comes_in_pieces(video: &Video, index: &FrameIndex, target: &Target, numbers: &[usize], batch: usize) -> bool {
    plan_of(video, index, target, numbers, batch).is_ok()
}

fn in_pieces(
    video: &Arc<Video>,
    index: &Arc<FrameIndex>,
    target: &Target,
    plan: PiecePlan,
    numbers: &[usize],
    assembly: &Arc<Assembly>,
) -> Result<Supply, ReaderError> {
    let source = PieceSource::new(video.open()?, Arc::clone(index));
    let (of_video, of_index, target) = (Arc::clone(video), Arc::clone(index), target.clone());
    let (counts, images, assembly) = (PieceCounts::default(), DecodeBufferPool::new(), Arc::clone(assembly));
    let of_pieces = counts.clone();
    let make: MakeDecoder<ReadyPieces> = Arc::new(move || {
        let mut setup = of_video.decoder_setup(plan.threads);
        setup.images = Some(images.clone());
        Ok(ReadyPieces {
            inner: CpuPieces::new(&setup, &of_video.frames)?.strict(&of_pieces),
            images: HostFrames::new(&target.output, target.kind, &of_video.source_name())?,
            assembly: Arc::clone(&assembly),
            index: Arc::clone(&of_index),
            video: Arc::clone(&of_video),
            target: target.clone(),
        })
    });
    let ahead = Ahead { workers: plan.decoders, frames: plan.frames, adapts: true };
    let mut frames = PieceFrames::new(source, ParallelDecoder::new(ahead, make));
    frames.begin(numbers);
    Ok(Supply::Pieces(Box::new(frames), counts))
}

/// A frame of a piece.
// Moved once; boxing frames would cost an allocation each.
#[allow(clippy::large_enum_variant)]
enum Ready {
    /// Not converted, and whether its size and format were expected.
    Frame(Frame, bool),
    /// Converted into its first position by the thread that decoded the piece.
    Placed(Slot, FrameStatus),
}

/// Decodes pieces and converts frames whose positions are within reach.
struct ReadyPieces {
    inner: CpuPieces,
    images: HostFrames,
    assembly: Arc<Assembly>,
    index: Arc<FrameIndex>,
    video: Arc<Video>,
    target: Target,
}

impl PieceDecoder for ReadyPieces {
    type Decoded = Ready;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Ready>) -> Result<PieceEnd, ReaderError> {
        let Self { inner, images, assembly, index, video, target } = self;
        let mut sink = ReadySink { output, images, assembly, index, video, target, error: None };
        let outcome = inner.decode(piece, &mut sink);
        sink.error.map_or(outcome, Err)
    }
}

struct ReadySink<'a> {
    output: &'a mut dyn PieceOutput<Ready>,
    images: &'a mut HostFrames,
    assembly: &'a Assembly,
    index: &'a FrameIndex,
    video: &'a Video,
    target: &'a Target,
    error: Option<ReaderError>,
}

impl ReadySink<'_> {
    fn ready(&mut self, tag: i64, frame: Frame) -> Result<Ready, ReaderError> {
        let kind = FrameKind::of(frame.surface.host().map_err(framerail_media::MediaError::from)?);
        let number = usize::try_from(tag).ok().and_then(|place| self.index.number_at(place));
        let place = number.and_then(|number| self.assembly.place_of(number));
        // Frames with a different size or format are scaled to the size of the first frame, which only the delivering thread knows.
        if let Some((number, place)) = number.zip(place)
            && kind == self.target.kind
            && let Some(mut slot) = self.assembly.slot_ahead(place)?
        {
            self.images.make(number, &frame, slot.as_mut_slice())?;
            self.video.counters.pictures_converted.add(1);
            return Ok(Ready::Placed(slot, status_of(&frame)));
        }
        Ok(Ready::Frame(frame, self.target.is_seen))
    }
}

impl PieceOutput<Frame> for ReadySink<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        self.output.reserve()
    }

    fn check(&mut self) -> Result<(), ReaderError> {
        if self.error.is_some() { Err(ReaderError::Closed) } else { self.output.check() }
    }

    fn push(&mut self, image: Tagged<Frame>) {
        match self.ready(image.tag, image.image) {
            Ok(ready) => self.output.push(Tagged { tag: image.tag, image: ready }),
            Err(error) => self.error = Some(error),
        }
    }
}

/// Converts frames into their positions.
fn convert(video: &Video, target: &Target, work: &Mutex<Receiver<Work>>, assembly: &Assembly) {
    let mut images = match HostFrames::new(&target.output, target.kind, &video.source_name()) {
        Ok(images) => images,
        Err(error) => return assembly.fail(error),
    };
    loop {
        let next = work.lock().recv();
        let Ok(Work { frame, places, info }) = next else { return };
        let made = assembly.slot_due(places.start).and_then(|mut slot| {
            images.make(info.number, &frame, slot.as_mut_slice())?;
            drop(frame);
            video.counters.pictures_converted.add(1);
            video.counters.frames_rescaled.add(images.take_rescaled());
            fill_all(assembly, slot, places, info)
        });
        if let Err(error) = made {
            return assembly.fail(error);
        }
    }
}

/// Completes the first of a frame's positions, which all lie in one batch, and copies it to the others.
fn fill_all(assembly: &Assembly, mut first: Slot, places: Range<usize>, info: FrameInfo) -> Result<(), ReaderError> {
    for place in places.clone().skip(1) {
        let mut slot = assembly.slot_due(place)?;
        slot.as_mut_slice().copy_from_slice(first.as_mut_slice());
        assembly.fill(place, slot, info);
    }
    assembly.fill(places.start, first, info);
    Ok(())
}

fn copied(bytes: &[u8]) -> Result<PageMemory, ReaderError> {
    let mut memory = PageMemory::new(bytes.len())?;
    memory.as_mut_slice().copy_from_slice(bytes);
    Ok(memory)
}
