//! Batches made ahead of the caller on separate threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use framerail_core::CancelToken;

use crate::{
    Batch, HostTensor, ReadMode, ReaderError, Selection, Tensor,
    frame_index::FrameIndex,
    host_cursor::adopt_first,
    host_engine::HostEngine,
    plan, selection,
    streaming::{comes_in_pieces, stream},
    video::{Fault, MAX_TRIES, Target, Video},
};
#[cfg(feature = "cuda")]
use crate::{
    device_engine::{DeviceEngine, GpuMemory},
    frame_index::Access,
};

/// Batch buffers that a reader keeps for reuse, in addition to those in its queue: one held by the caller and one being filled.
pub(crate) const KEPT_BATCHES: usize = 2;

/// Message of a thread that makes batches.
pub(crate) type Made = Result<Batch, ReaderError>;

/// Batches of a selection, made ahead of the caller up to the queue length set in the options. Dropping it ends its threads, even when
/// they wait for a stalled source.
pub struct Batches {
    video: Arc<Video>,
    /// Dropped together with this value, which ends threads that wait for room in the queue.
    results: Option<Receiver<Made>>,
    taken: usize,
    queue: usize,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
    /// Why no thread was started.
    failure: Option<String>,
    /// Where batches made on the host are uploaded to.
    #[cfg(feature = "cuda")]
    upload: Option<GpuMemory>,
}

/// Progress of the threads, for the caller, for error messages and cancellation.
#[derive(Default)]
struct Progress {
    frame: AtomicUsize,
    is_stopped: AtomicBool,
    /// Batches sent to the caller.
    sent: AtomicUsize,
    /// Batches that the selection makes, which changes with the index.
    total: AtomicUsize,
}

/// Where a thread sends its batches.
#[derive(Clone)]
pub(crate) struct Outlet {
    sender: SyncSender<Made>,
    progress: Arc<Progress>,
}

impl Outlet {
    pub(crate) fn new(sender: SyncSender<Made>) -> Self {
        Self { sender, progress: Arc::default() }
    }

    /// Records the frame being decoded.
    pub(crate) fn at(&self, frame: usize) {
        self.progress.frame.store(frame, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.progress.is_stopped.load(Ordering::Relaxed)
    }

    /// Sends the next batch; returns whether the caller still takes batches.
    pub(crate) fn send(&self, batch: Batch) -> bool {
        let is_taken = self.sender.send(Ok(batch)).is_ok();
        self.progress.sent.fetch_add(usize::from(is_taken), Ordering::Relaxed);
        is_taken
    }
}

/// Which frames to put into batches.
pub(crate) struct Order {
    pub(crate) numbers: Arc<[usize]>,
    pub(crate) batch: usize,
    pub(crate) queue: usize,
}

/// The caller's request, from which an [`Order`] follows once the frames are known.
pub(crate) struct BatchRequest {
    pub(crate) selection: Selection,
    pub(crate) batch: usize,
    pub(crate) drop_last: bool,
    pub(crate) mode: ReadMode,
    pub(crate) queue: usize,
}

impl BatchRequest {
    fn numbers(&self, video: &Video, index: &FrameIndex) -> Result<Arc<[usize]>, ReaderError> {
        let mut numbers = selection::of_video(&self.selection, index.times(), || video.source_name())?;
        if self.drop_last {
            numbers.truncate(numbers.len() / self.batch * self.batch);
        }
        Ok(numbers.into())
    }
}

/// The GPU that receives the batches.
#[cfg(feature = "cuda")]
pub(crate) struct BatchGpu {
    pub(crate) memory: GpuMemory,
    /// Whether it decodes the video too.
    pub(crate) decodes: bool,
}

/// There is none without the feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub(crate) type BatchGpu = std::convert::Infallible;

/// Makes the batches of a request on one thread, and begins again where it stands when the index turns out wrong.
struct Maker {
    video: Arc<Video>,
    index: Arc<FrameIndex>,
    target: Target,
    request: BatchRequest,
    numbers: Arc<[usize]>,
    outlet: Outlet,
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "there is none"))]
    gpu: Option<BatchGpu>,
}

impl Maker {
    fn run(&mut self) -> Result<(), ReaderError> {
        let mut fault = Fault::IndexWrong;
        for _ in 0..=MAX_TRIES {
            let sent = self.sent_frames();
            let order = Order {
                numbers: self.numbers.get(sent..).unwrap_or_default().into(),
                batch: self.request.batch,
                queue: self.request.queue,
            };
            let Err(found) = self.make(&order) else { return Ok(()) };
            if self.outlet.is_stopped() {
                return Ok(());
            }
            fault = match found {
                Fault::OtherKind if !self.target.is_seen => {
                    adopt_first(&self.video, &mut self.target).map_err(|fault| self.video.error_of(fault))?;
                    Fault::OtherKind
                }
                found => {
                    self.repair(found)?;
                    Fault::IndexWrong
                }
            };
        }
        Err(self.video.error_of(fault))
    }

    /// Makes the batches of an order, on the GPU or on the host, GOP by GOP or from the first frame to the last.
    fn make(&self, order: &Order) -> Result<(), Fault> {
        let Self { video, index, target, outlet, .. } = self;
        let mode = plan::mode(self.request.mode, index, &order.numbers);
        #[cfg(feature = "cuda")]
        if let Some(gpu) = self.gpu.as_ref().filter(|gpu| gpu.decodes && index.access == Access::ByTime) {
            let mut engine = DeviceEngine::new(video, index, target, &gpu.memory)?;
            if mode == ReadMode::Stream {
                return engine.stream(order, outlet);
            }
            return each_alone(order, outlet, |numbers| engine.read(numbers));
        }
        // Rising frames in pieces are decoded ahead, and GOPs without wanted frames are skipped.
        let is_stream =
            mode == ReadMode::Stream || (order.numbers.is_sorted() && comes_in_pieces(video, index, target, &order.numbers, order.batch));
        if is_stream {
            return stream(video, index, target, order, outlet);
        }
        let mut engine = HostEngine::new(video, index, target, ReadMode::Seek);
        let shape = target.shape();
        each_alone(order, outlet, |numbers| {
            let mut memory = video.memory.buffer(shape.bytes() * numbers.len())?;
            let frames = engine.read(numbers, memory.as_mut_slice())?;
            Ok(Batch { tensor: Tensor::Host(HostTensor::new(numbers.len(), shape.clone(), memory)), frames })
        })
    }

    /// Replaces a wrong index, provided that the frames sent so far are the same by the new one.
    fn repair(&mut self, fault: Fault) -> Result<(), ReaderError> {
        let index = self.index.repaired(fault, &self.video.input, &self.video.frames).map_err(|fault| self.video.error_of(fault))?;
        let index = Arc::new(index);
        self.video.offer(&index);
        let numbers = self.request.numbers(&self.video, &index)?;
        let sent = self.numbers.get(..self.sent_frames()).unwrap_or_default();
        let pts = |index: &FrameIndex, number: usize| index.frames.get(number).map(|frame| frame.pts);
        let is_same = numbers.starts_with(sent) && sent.iter().all(|number| pts(&self.index, *number) == pts(&index, *number));
        if !is_same {
            let reason = "the packet index does not match the decoded frames, and frames that were already returned have other numbers; \
                          read again: the frames are counted now";
            return Err(self.video.failed(reason));
        }
        self.outlet.progress.total.store(numbers.len().div_ceil(self.request.batch), Ordering::Relaxed);
        (self.index, self.numbers) = (index, numbers);
        Ok(())
    }

    fn sent_frames(&self) -> usize {
        (self.outlet.progress.sent.load(Ordering::Relaxed) * self.request.batch).min(self.numbers.len())
    }
}

/// Makes each batch separately.
fn each_alone(order: &Order, outlet: &Outlet, mut read: impl FnMut(&[usize]) -> Result<Batch, Fault>) -> Result<(), Fault> {
    for numbers in order.numbers.chunks(order.batch) {
        outlet.at(numbers.first().copied().unwrap_or(0));
        if outlet.is_stopped() || !outlet.send(read(numbers)?) {
            break;
        }
    }
    Ok(())
}

impl Batches {
    /// Starts a thread that makes the batches of a request. `request.batch` is at least 1.
    ///
    /// # Errors
    /// `OutOfRange`, `BadOption`.
    pub(crate) fn new(
        video: &Arc<Video>,
        index: Arc<FrameIndex>,
        target: &Target,
        request: BatchRequest,
        gpu: Option<BatchGpu>,
    ) -> Result<Self, ReaderError> {
        let numbers = request.numbers(video, &index)?;
        let video = video.with_own_cancel();
        let (sender, results) = sync_channel(request.queue.max(1));
        let outlet = Outlet::new(sender);
        let (queue, progress) = (request.queue, Arc::clone(&outlet.progress));
        progress.total.store(numbers.len().div_ceil(request.batch), Ordering::Relaxed);
        #[cfg(feature = "cuda")]
        let upload = gpu.as_ref().map(|gpu| gpu.memory.clone());
        let mut maker = Maker { video: Arc::clone(&video), index, target: target.clone(), request, numbers, outlet, gpu };
        let spawned = std::thread::Builder::new().name("batches".into()).spawn(move || {
            if let Err(error) = maker.run()
                && !maker.outlet.is_stopped()
            {
                // The receiver may be gone.
                let _ = maker.outlet.sender.send(Err(error));
            }
        });
        let (thread, failure) = match spawned {
            Ok(thread) => (Some(thread), None),
            Err(error) => (None, Some(format!("{}: cannot start a thread: {error}; read fewer files at once", video.source_name()))),
        };
        Ok(Self {
            video,
            results: Some(results),
            taken: 0,
            queue,
            progress,
            thread,
            failure,
            #[cfg(feature = "cuda")]
            upload,
        })
    }

    /// Moves a batch made on the host to the reader's output device.
    fn placed(&self, batch: Batch) -> Made {
        #[cfg(feature = "cuda")]
        if let (Some(memory), Tensor::Host(tensor)) = (&self.upload, &batch.tensor) {
            let tensor = self.video.uploaded(memory, tensor)?;
            return Ok(Batch { tensor, frames: batch.frames });
        }
        Ok(batch)
    }

    /// Cancelling this token ends the threads. For callers that cannot drop this value because another thread waits on it.
    pub fn cancel_token(&self) -> CancelToken {
        self.video.input.cancel.clone()
    }

    /// Number of batches not yet returned. It changes when reading shows that the index was wrong.
    pub fn remaining(&self) -> usize {
        self.total().saturating_sub(self.taken)
    }

    fn total(&self) -> usize {
        self.progress.total.load(Ordering::Relaxed)
    }

    /// Waits for the next batch.
    fn wait(&self) -> Result<Made, RecvTimeoutError> {
        let Some(results) = &self.results else { return Err(RecvTimeoutError::Disconnected) };
        match self.video.timeout {
            None => results.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(timeout) => results.recv_timeout(timeout),
        }
    }

    fn timeout(&self) -> ReaderError {
        let at = self.progress.frame.load(Ordering::Relaxed);
        let state = format!("waiting for batch {} of {}; decoding frame {at}", self.taken, self.total());
        self.video.deadline().error(state)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ReaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining() == 0 {
            return None;
        }
        if let Some(reason) = self.failure.take() {
            self.taken = self.total();
            return Some(Err(ReaderError::Failed { reason }));
        }
        let made = match self.wait() {
            Ok(made) => made.and_then(|batch| self.placed(batch)),
            // A repaired index may hold fewer frames.
            Err(RecvTimeoutError::Disconnected) if self.remaining() == 0 => return None,
            Err(RecvTimeoutError::Disconnected) => Err(ReaderError::Closed),
            // The batch may still arrive: the caller decides whether to wait again.
            Err(RecvTimeoutError::Timeout) => return Some(Err(self.timeout())),
        };
        match &made {
            Ok(batch) => {
                self.taken += 1;
                self.video.counters.deliver(&batch.frames);
            }
            Err(_) => self.taken = self.total(),
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
        self.video.input.cancel.cancel();
        self.results = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("a thread that makes batches panicked; this is a bug, please report it");
        }
        // Releases the buffers that the stream needed in addition to these.
        self.video.memory.set_keep(self.queue + KEPT_BATCHES);
    }
}

#[cfg(test)]
mod tests {
    use framerail_testkit::{ClipSpec, Codec, Container};

    use super::*;
    use crate::{
        IndexSource, ReaderOptions, VideoReader,
        frame_index::{FramePlace, NOWHERE},
    };

    const FRAMES: usize = 32;

    #[test]
    fn an_index_that_turns_out_wrong_is_repaired_while_batches_are_made() {
        let clip = ClipSpec::new(Codec::H264, Container::Mkv).frames(FRAMES as u32).b_frames(2).gop(8).make();
        for mode in [ReadMode::Auto, ReadMode::Seek, ReadMode::Stream] {
            let options = ReaderOptions { mode, threads: 2, ..ReaderOptions::new(clip.path().to_string_lossy()) };
            let mut reader = VideoReader::open(options).expect("readable");
            let index = reader.frame_index().expect("an index");
            let truth: Vec<_> = index.times().iter().map(|time| time.pts).enumerate().collect();
            assert_eq!(truth.len(), FRAMES);
            // A frame that no packet shows: those behind it have other numbers.
            let mut frames = index.frames.clone();
            frames.insert(21, FramePlace { pts: frames[20].pts + 1, duration: 0, place: NOWHERE, is_keyframe: false });
            reader.adopt_kept(FrameIndex::new(IndexSource::Cache, index.access, index.packets.clone(), frames, index.starts.clone()));
            assert_eq!(reader.num_frames().expect("an index"), FRAMES + 1);
            let mut found = Vec::new();
            for made in reader.batches(Selection::All, 5, false).expect("batches") {
                let batch = made.unwrap_or_else(|error| panic!("{mode:?}: {error}"));
                found.extend(batch.frames.iter().map(|frame| (frame.number, frame.pts)));
            }
            assert_eq!(found, truth, "{mode:?}");
            assert_eq!(reader.num_frames().expect("an index"), FRAMES, "the reader takes the repaired index");
        }
    }
}
