//! Batches made ahead by threads of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use framerail_core::Frame;

use crate::{
    Batch, FrameInfo, FrameStatus, HostTensor, ReadMode, ReaderError, Tensor,
    frame_index::FrameIndex,
    host_cursor::{Found, HostCursor},
    host_engine::{HostEngine, status_of},
    host_memory::HostBuffer,
    host_pictures::HostPictures,
    video::{Fault, Target, Video},
};

/// Decoded frames that wait for each converting thread, at most.
const FRAMES_AHEAD: usize = 4;
/// Decoding threads for which one thread converts.
const THREADS_PER_CONVERTER: usize = 4;
const MAX_CONVERTERS: usize = 8;

/// What a thread that makes batches sends.
pub(crate) type Made = Result<Batch, ReaderError>;

/// Batches of a selection, made ahead up to the queue that the options ask for. Dropping it ends its threads.
pub struct Batches {
    video: Arc<Video>,
    /// Batches come from each in turn.
    results: Vec<Receiver<Made>>,
    taken: usize,
    total: usize,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
    /// Where batches made on the host are copied to.
    #[cfg(feature = "cuda")]
    pub(crate) upload: Option<crate::device_engine::CardMemory>,
}

/// Where the threads are.
#[derive(Default)]
pub(crate) struct Progress {
    frame: AtomicUsize,
    is_stopped: AtomicBool,
}

impl Progress {
    pub(crate) fn at(&self, frame: usize) {
        self.frame.store(frame, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

/// What batches are made of.
pub(crate) struct Order {
    pub(crate) numbers: Arc<[usize]>,
    pub(crate) batch: usize,
    pub(crate) queue: usize,
}

impl Batches {
    /// Decoded on the host, from frame to frame or by groups.
    pub(crate) fn on_host(video: &Arc<Video>, index: &Arc<FrameIndex>, target: &Target, mode: ReadMode, order: Order) -> Self {
        let is_stream = mode == ReadMode::Stream;
        let converters = if is_stream { (video.threads / THREADS_PER_CONVERTER).clamp(1, MAX_CONVERTERS) } else { 1 };
        let (senders, results): (Vec<_>, Vec<_>) = (0..converters).map(|_| sync_channel(order.queue.max(1).div_ceil(converters))).unzip();
        let (of_video, index, target) = (Arc::clone(video), Arc::clone(index), target.clone());
        let make = move |senders: Vec<SyncSender<Made>>, order: &Order, progress: &Arc<Progress>| {
            if is_stream {
                stream(&of_video, &index, &target, order, &senders, progress)
            } else {
                seek(&of_video, &index, &target, order, &senders, progress)
            }
        };
        Self::spawn(video, order, senders, results, make)
    }

    /// Decoded on a card, by groups or from frame to frame.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_card(
        video: &Arc<Video>,
        index: &Arc<FrameIndex>,
        target: &Target,
        mode: ReadMode,
        order: Order,
        memory: crate::device_engine::CardMemory,
    ) -> Self {
        let (sender, results) = sync_channel(order.queue.max(1));
        let (of_video, index, target) = (Arc::clone(video), Arc::clone(index), target.clone());
        let make = move |senders: Vec<SyncSender<Made>>, order: &Order, progress: &Arc<Progress>| {
            let mut engine = crate::device_engine::DeviceEngine::new(&of_video, &index, &target, &memory)?;
            if mode == ReadMode::Stream {
                return engine.stream(order, &senders, progress);
            }
            let Some(sender) = senders.first() else { return Ok(()) };
            for numbers in order.numbers.chunks(order.batch.max(1)) {
                progress.at(numbers.first().copied().unwrap_or(0));
                if progress.is_stopped() || sender.send(Ok(engine.read(numbers)?)).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        Self::spawn(video, order, vec![sender], vec![results], make)
    }

    /// A batch made on the host, where the reader's are wanted.
    fn placed(&self, batch: Batch) -> Made {
        #[cfg(feature = "cuda")]
        if let (Some(memory), Tensor::Host(tensor)) = (&self.upload, &batch.tensor) {
            let tensor = self.video.uploaded(memory, tensor)?;
            return Ok(Batch { tensor, frames: batch.frames });
        }
        Ok(batch)
    }

    /// A thread that makes batches and sends them in turn.
    pub(crate) fn spawn(
        video: &Arc<Video>,
        order: Order,
        senders: Vec<SyncSender<Made>>,
        results: Vec<Receiver<Made>>,
        make: impl FnOnce(Vec<SyncSender<Made>>, &Order, &Arc<Progress>) -> Result<(), Fault> + Send + 'static,
    ) -> Self {
        let total = order.numbers.len().div_ceil(order.batch.max(1));
        let progress = Arc::new(Progress::default());
        let (of_thread, at) = (Arc::clone(video), Arc::clone(&progress));
        let thread = std::thread::spawn(move || {
            let failed = senders.clone();
            if let Err(fault) = make(senders, &order, &at) {
                let error = of_thread.error_of(fault);
                // Whichever is asked next hears of it; the reader may be gone.
                let text = error.to_string();
                let mut error = Some(error);
                for sender in failed {
                    let own = error.take().unwrap_or_else(|| ReaderError::Failed { reason: text.clone() });
                    if !at.is_stopped() {
                        let _ = sender.send(Err(own));
                    }
                }
            }
        });
        Self {
            video: Arc::clone(video),
            results,
            taken: 0,
            total,
            progress,
            thread: Some(thread),
            #[cfg(feature = "cuda")]
            upload: None,
        }
    }

    /// Batches that are still to come.
    pub fn remaining(&self) -> usize {
        self.total - self.taken
    }

    /// What comes next; `None` when the time is over.
    fn wait(&self) -> Option<Made> {
        let Some(results) = self.results.get(self.taken % self.results.len().max(1)) else { return Some(Err(ReaderError::Closed)) };
        match self.video.timeout {
            None => Some(results.recv().unwrap_or(Err(ReaderError::Closed))),
            Some(timeout) => match results.recv_timeout(timeout) {
                Ok(made) => Some(made),
                Err(RecvTimeoutError::Disconnected) => Some(Err(ReaderError::Closed)),
                Err(RecvTimeoutError::Timeout) => None,
            },
        }
    }

    fn timeout(&self) -> ReaderError {
        let at = self.progress.frame.load(Ordering::Relaxed);
        let state = format!("batch {} of {} was waited for, frame {at} is being decoded", self.taken, self.total);
        self.video.deadline().error(state)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ReaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken >= self.total {
            return None;
        }
        // It may still come: the caller decides whether to wait again.
        let Some(made) = self.wait() else { return Some(Err(self.timeout())) };
        let made = made.and_then(|batch| self.placed(batch));
        match &made {
            Ok(batch) => {
                self.taken += 1;
                self.video.counters.deliver(&batch.frames);
            }
            Err(_) => self.taken = self.total,
        }
        Some(made)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), None)
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.progress.is_stopped.store(true, Ordering::Relaxed);
        // Whoever waits for room in a queue finds it gone.
        self.results.clear();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("a thread that makes batches panicked; this is a bug, please report it");
        }
    }
}

/// Makes each batch by itself.
fn seek(
    video: &Arc<Video>,
    index: &Arc<FrameIndex>,
    target: &Target,
    order: &Order,
    senders: &[SyncSender<Made>],
    progress: &Progress,
) -> Result<(), Fault> {
    let mut engine = HostEngine::new(video, index, target, ReadMode::Seek);
    let shape = target.shape();
    let Some(sender) = senders.first() else { return Ok(()) };
    for numbers in order.numbers.chunks(order.batch.max(1)) {
        progress.at(numbers.first().copied().unwrap_or(0));
        if progress.is_stopped() {
            return Ok(());
        }
        let mut memory = video.memory.buffer(shape.bytes() * numbers.len());
        let frames = engine.read(numbers, memory.as_mut_slice())?;
        let batch = Batch { tensor: Tensor::Host(HostTensor::new(numbers.len(), shape.clone(), memory)), frames };
        if sender.send(Ok(batch)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// What a converting thread is told.
// Moved once; boxing frames would cost an allocation each.
#[allow(clippy::large_enum_variant)]
enum Work {
    /// A batch of so many pictures begins.
    Begin(usize),
    /// The batch's next pictures, all of one frame.
    Frame(Frame, Vec<FrameInfo>),
    /// The same, made already.
    Picture(Vec<u8>, Vec<FrameInfo>),
}

/// Decodes from the first frame to the last; converting is done beside.
fn stream(
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
    cursor: HostCursor,
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
    /// Of a frame that is missing, with none before it in this stretch.
    Picture(Vec<u8>),
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
        let cursor = HostCursor::new(video, index, video.stream_threads())?;
        let mut streaming = Self { video, index, target: target.clone(), order, progress, cursor, unique, at: 0, last: None };
        // The first frame tells what pictures are like, where only the header did so far.
        if let (false, Some(first)) = (target.is_seen, streaming.unique.first().copied()) {
            let shown = streaming.shown(first)?;
            if let Shown::Frame(frame, _) = &shown {
                let surface = frame.surface.host().map_err(framerail_media::MediaError::from)?;
                streaming.target.kind = crate::host_pictures::FrameKind::of(surface);
            }
            streaming.target.is_seen = true;
            streaming.last = Some((first, shown));
        }
        Ok(streaming)
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
                let infos = |status| {
                    let info = self.video.info(self.index, number, status)?;
                    Ok::<_, ReaderError>(vec![info; same.len()])
                };
                let work = match shown.clone() {
                    Shown::Frame(frame, status) => Work::Frame(*frame, infos(status)?),
                    Shown::Picture(bytes) => Work::Picture(bytes, infos(FrameStatus::Missing)?),
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
        let upcoming = self.unique.get(self.at..).unwrap_or_default();
        self.at += 1;
        let deadline = self.video.deadline();
        Ok(match self.cursor.next(upcoming, true, &deadline)? {
            Found::Frame(frame) => {
                let status = status_of(&frame);
                Shown::Frame(Box::new(frame), status)
            }
            Found::Missing(Some(before)) => Shown::Frame(Box::new(before), FrameStatus::Missing),
            Found::Missing(None) => {
                let mut bytes = vec![0; self.target.shape().bytes()];
                HostEngine::new(self.video, self.index, &self.target, ReadMode::Seek).read(&[number], &mut bytes)?;
                Shown::Picture(bytes)
            }
        })
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
                    out.copy_from_slice(&picture);
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
