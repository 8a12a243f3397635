//! Frames in rising order made into batches: decoded in pieces or by one decoder, converted beside.

use std::sync::{
    Arc,
    mpsc::{Receiver, SyncSender, sync_channel},
};

use framerail_core::Frame;

use crate::{
    Batch, CpuPieces, FrameInfo, FrameStatus, HostTensor, IndexSource, MakeDecoder, ParallelDecoder, PieceCounts, PiecePlan, ReadMode,
    ReaderError, Tensor,
    batches::{Made, Order, Progress},
    frame_index::{Access, FrameIndex},
    host_cursor::{Found, HostCursor},
    host_engine::{HostEngine, check_kind, status_of},
    host_memory::{HostBuffer, HostPool},
    host_pictures::{FrameKind, HostPictures},
    parallel::{Ahead, PieceDecoder, PieceEnd, PieceOutput, Tagged},
    piece::Piece,
    piece_frames::{NextFrame, PieceFrames},
    piece_source::PieceSource,
    plan::{self, Sequence},
    video::{Fault, Target, Video},
};

/// Decoded frames that wait for each converting thread, at most.
const FRAMES_AHEAD: usize = 4;
/// Bytes up to which a picture is converted where it was decoded and copied to its batch: that costs less than decoded frames that
/// wait for their turn.
const SMALL_PICTURE_BYTES: usize = 2 << 20;
/// Converted pictures kept for the next ones.
const KEPT_PICTURES: usize = 256;

/// What a converting thread is told.
// Moved once; boxing frames would cost an allocation each.
#[allow(clippy::large_enum_variant)]
enum Work {
    /// A batch of so many pictures begins.
    Begin(usize),
    /// The batch's next pictures, all of one frame.
    Frame(Frame, Vec<FrameInfo>),
    /// The same, made already.
    Picture(Arc<HostBuffer>, Vec<FrameInfo>),
}

/// Decodes from the first frame to the last; converting is done beside.
pub(crate) fn stream(
    video: &Arc<Video>,
    index: &Arc<FrameIndex>,
    target: &Target,
    order: &Order,
    senders: &[SyncSender<Made>],
    progress: &Arc<Progress>,
) -> Result<(), Fault> {
    let mut decoding = Streaming::new(video, index, target, order, progress)?;
    std::thread::scope(|scope| {
        let mut converters = Vec::new();
        for sender in senders {
            let (work, orders) = sync_channel(FRAMES_AHEAD);
            let target = decoding.target.clone();
            scope.spawn(move || {
                let outcome = convert(video, &target, &orders, sender);
                if let Err(error) = outcome {
                    // The reader may be gone.
                    let _ = sender.send(Err(error));
                }
            });
            converters.push(work);
        }
        decoding.run(&converters)
    })
}

/// Decodes what converters are given.
struct Streaming<'a> {
    video: &'a Arc<Video>,
    index: &'a Arc<FrameIndex>,
    target: Target,
    order: &'a Order,
    progress: &'a Progress,
    supply: Supply,
    /// The wanted frames, each once.
    unique: Vec<usize>,
    at: usize,
    /// The last frame, for the next batch if that starts with it too.
    last: Option<(usize, Shown)>,
}

/// What is shown in a frame's place.
#[derive(Clone)]
enum Shown {
    Frame(Box<Frame>, FrameStatus),
    /// Made already.
    Picture(Arc<HostBuffer>, FrameStatus),
}

/// Where frames come from.
enum Supply {
    Pieces(Box<PieceFrames<ReadyPieces>>, PieceCounts),
    Cursor(HostCursor),
}

impl<'a> Streaming<'a> {
    fn new(
        video: &'a Arc<Video>,
        index: &'a Arc<FrameIndex>,
        target: &Target,
        order: &'a Order,
        progress: &'a Progress,
    ) -> Result<Self, Fault> {
        let mut unique = order.numbers.to_vec();
        unique.dedup();
        let supply = match plan_of(video, index, target, &unique) {
            Ok(plan) => {
                log::debug!("{}: {} pieces side by side, {} threads each", video.source_name(), plan.decoders, plan.threads);
                in_pieces(video, index, target, plan, &unique)?
            }
            Err(reason) => {
                log::debug!("{}: one decoder: {reason}", video.source_name());
                Supply::Cursor(HostCursor::new(video, index, plan::threads_alone(video.threads))?)
            }
        };
        Ok(Self { video, index, target: target.clone(), order, progress, supply, unique, at: 0, last: None })
    }

    fn run(&mut self, converters: &[SyncSender<Work>]) -> Result<(), Fault> {
        for (batch, numbers) in self.order.numbers.chunks(self.order.batch.max(1)).enumerate() {
            let Some(converter) = converters.get(batch % converters.len().max(1)) else { return Ok(()) };
            let mut is_open = converter.send(Work::Begin(numbers.len())).is_ok();
            for same in numbers.chunk_by(|a, b| a == b) {
                let number = same.first().copied().unwrap_or(0);
                self.progress.at(number);
                if !is_open || self.progress.is_stopped() {
                    // The reader, or the converter after an error of its own, is gone.
                    return Ok(());
                }
                let shown = match self.last.take() {
                    Some((last, shown)) if last == number => shown,
                    _ => self.shown(number)?,
                };
                let work = match shown.clone() {
                    Shown::Frame(frame, status) => {
                        let info = self.video.info_of(self.index, number, status, &frame)?;
                        Work::Frame(*frame, vec![info; same.len()])
                    }
                    Shown::Picture(picture, status) => {
                        let info = self.video.info(self.index, number, status)?;
                        Work::Picture(picture, vec![info; same.len()])
                    }
                };
                is_open = converter.send(work).is_ok();
                if self.order.numbers.len() > self.unique.len() {
                    self.last = Some((number, shown));
                }
            }
        }
        Ok(())
    }

    fn shown(&mut self, number: usize) -> Result<Shown, Fault> {
        if let Supply::Pieces(frames, counts) = &mut self.supply {
            let next = frames.next()?;
            let (seeks, skipped) = frames.take_counts();
            self.video.counters.seeks.add(seeks);
            self.video.counters.packets_skipped.add(skipped);
            self.video.counters.pictures_decoded.add(counts.take_pictures());
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
            Ready::Picture(picture, status) => Ok(Shown::Picture(Arc::new(picture), status)),
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

    /// Goes on with one decoder, from the start of the piece before this frame's: it sees what a decode from the start sees.
    fn go_on_as_one(&mut self, number: usize) -> Result<(), Fault> {
        let mut cursor = HostCursor::new(self.video, self.index, plan::threads_alone(self.video.threads))?;
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
                let mut memory = HostPool::new(0).buffer(self.target.shape().bytes());
                HostEngine::new(self.video, self.index, &self.target, ReadMode::Seek).read(&[number], memory.as_mut_slice())?;
                Shown::Picture(Arc::new(memory), FrameStatus::Missing)
            }
        })
    }
}

/// How rising frames are decoded in pieces; `Err` says why by one decoder.
fn plan_of(video: &Video, index: &FrameIndex, target: &Target, numbers: &[usize]) -> Result<PiecePlan, String> {
    if index.access != Access::ByTime || index.source == IndexSource::Approximate {
        return Err("its packets do not tell its frames".into());
    }
    let is_file = || std::fs::metadata(video.input.source.reveal()).is_ok_and(|found| found.is_file());
    if video.input.custom.is_none() && !is_file() {
        return Err("it is not a local file".into());
    }
    let (pieces, longest) = index.groups_of(numbers);
    Sequence {
        threads: video.threads,
        piece_frames: longest,
        pieces: Some(pieces),
        frame_bytes: waiting_bytes(target),
        memory_bytes: video.memory_bytes,
    }
    .plan()
}

/// Whether rising frames are decoded in pieces.
pub(crate) fn comes_in_pieces(video: &Video, index: &FrameIndex, target: &Target, numbers: &[usize]) -> bool {
    plan_of(video, index, target, numbers).is_ok()
}

/// Bytes of a frame that waits for its turn.
fn waiting_bytes(target: &Target) -> u64 {
    let FrameKind { width, height, format } = target.kind;
    let decoded = plan::frame_bytes(width, height, format);
    if is_small(target) { decoded.min(target.shape().bytes() as u64) } else { decoded }
}

/// Whether pictures are converted where they are decoded.
fn is_small(target: &Target) -> bool {
    target.shape().bytes() <= SMALL_PICTURE_BYTES
}

fn in_pieces(
    video: &Arc<Video>,
    index: &Arc<FrameIndex>,
    target: &Target,
    plan: PiecePlan,
    numbers: &[usize],
) -> Result<Supply, ReaderError> {
    let source = PieceSource::new(video.open()?, Arc::clone(index));
    let (of_video, target, counts) = (Arc::clone(video), target.clone(), PieceCounts::default());
    let (of_pieces, pool) = (counts.clone(), HostPool::new(plan.frames.min(KEPT_PICTURES)));
    let make: MakeDecoder<ReadyPieces> = Arc::new(move || {
        let inner = CpuPieces::new(&of_video.decoder_setup(plan.threads), &of_video.frames)?.strict(&of_pieces);
        let early = match is_small(&target) {
            true => Some(Early { pictures: HostPictures::new(&target.output, target.kind, &of_video.source_name())?, pool: pool.clone() }),
            false => None,
        };
        Ok(ReadyPieces { inner, early, video: Arc::clone(&of_video), target: target.clone() })
    });
    let ahead = Ahead { workers: plan.decoders, frames: plan.frames, adapts: true };
    let mut frames = PieceFrames::new(source, ParallelDecoder::new(ahead, make));
    frames.begin(numbers);
    Ok(Supply::Pieces(Box::new(frames), counts))
}

/// A frame of a piece.
enum Ready {
    /// As decoded, and whether frames of its kind were expected.
    Frame(Frame, bool),
    /// Converted in the piece's own thread, while it was in the cache.
    Picture(HostBuffer, FrameStatus),
}

/// Converts frames in the threads that decode them.
struct Early {
    pictures: HostPictures,
    pool: HostPool,
}

/// Decodes pieces, and converts their pictures where these are small.
struct ReadyPieces {
    inner: CpuPieces,
    early: Option<Early>,
    video: Arc<Video>,
    target: Target,
}

impl PieceDecoder for ReadyPieces {
    type Picture = Ready;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Ready>) -> Result<PieceEnd, ReaderError> {
        let mut sink = ReadySink { output, early: self.early.as_mut(), video: &self.video, target: &self.target, error: None };
        let outcome = self.inner.decode(piece, &mut sink);
        sink.error.map_or(outcome, Err)
    }
}

struct ReadySink<'a> {
    output: &'a mut dyn PieceOutput<Ready>,
    early: Option<&'a mut Early>,
    video: &'a Video,
    target: &'a Target,
    error: Option<ReaderError>,
}

impl ReadySink<'_> {
    fn ready(&mut self, frame: Frame) -> Result<Ready, ReaderError> {
        let kind = FrameKind::of(frame.surface.host().map_err(framerail_media::MediaError::from)?);
        match &mut self.early {
            // Others are scaled to the first one's size, and counted.
            Some(Early { pictures, pool }) if kind == self.target.kind => {
                let mut memory = pool.buffer(self.target.shape().bytes());
                pictures.make(0, &frame, memory.as_mut_slice())?;
                self.video.counters.pictures_converted.add(1);
                Ok(Ready::Picture(memory, status_of(&frame)))
            }
            _ => Ok(Ready::Frame(frame, self.target.is_seen)),
        }
    }
}

impl PieceOutput<Frame> for ReadySink<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        self.output.reserve()
    }

    fn check(&mut self) -> Result<(), ReaderError> {
        if self.error.is_some() { Err(ReaderError::Closed) } else { self.output.check() }
    }

    fn push(&mut self, picture: Tagged<Frame>) {
        match self.ready(picture.picture) {
            Ok(ready) => self.output.push(Tagged { tag: picture.tag, picture: ready }),
            Err(error) => self.error = Some(error),
        }
    }
}

/// Converts the batches that it is given and sends them.
fn convert(video: &Video, target: &Target, work: &Receiver<Work>, sender: &SyncSender<Made>) -> Result<(), ReaderError> {
    let mut pictures = HostPictures::new(&target.output, target.kind, &video.source_name())?;
    let shape = target.shape();
    let bytes = shape.bytes();
    let mut open: Option<(HostBuffer, Vec<FrameInfo>, usize)> = None;
    while let Ok(work) = work.recv() {
        match (work, &mut open) {
            (Work::Begin(count), _) => open = Some((video.memory.buffer(bytes * count), Vec::with_capacity(count), count)),
            (Work::Frame(frame, infos), Some((memory, frames, _))) => {
                let number = infos.first().map_or(0, |info| info.number);
                let at = frames.len() * bytes;
                if let Some(out) = memory.as_mut_slice().get_mut(at..at + bytes) {
                    pictures.make(number, &frame, out)?;
                }
                video.counters.pictures_converted.add(1);
                video.counters.frames_rescaled.add(pictures.take_rescaled());
                repeat(memory, at, bytes, infos.len());
                frames.extend(infos);
            }
            (Work::Picture(picture, infos), Some((memory, frames, _))) => {
                let at = frames.len() * bytes;
                if let Some(out) = memory.as_mut_slice().get_mut(at..at + bytes) {
                    out.copy_from_slice(picture.as_slice());
                }
                repeat(memory, at, bytes, infos.len());
                frames.extend(infos);
            }
            (_, None) => {}
        }
        if let Some((memory, frames, count)) = open.take_if(|(_, frames, count)| frames.len() >= *count) {
            let tensor = Tensor::Host(HostTensor::new(count, shape.clone(), memory));
            if sender.send(Ok(Batch { tensor, frames })).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Copies a picture to the places behind it.
fn repeat(memory: &mut HostBuffer, at: usize, bytes: usize, times: usize) {
    for copy in 1..times {
        let to = at + copy * bytes;
        let slice = memory.as_mut_slice();
        if to + bytes <= slice.len() {
            slice.copy_within(at..at + bytes, to);
        }
    }
}
