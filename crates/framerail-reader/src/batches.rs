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
    Batch, HostTensor, ReadMode, ReaderError, Tensor,
    frame_index::FrameIndex,
    host_cursor::adopt_first,
    host_engine::HostEngine,
    streaming::{comes_in_pieces, stream},
    video::{Fault, Target, Video},
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
    total: usize,
    queue: usize,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
    /// Why no thread was started.
    failure: Option<String>,
    /// Where batches made on the host are uploaded to.
    #[cfg(feature = "cuda")]
    pub(crate) upload: Option<crate::device_engine::CardMemory>,
}

/// Progress of the threads, for error messages and cancellation.
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

/// Which frames to put into batches, and how.
pub(crate) struct Order {
    pub(crate) numbers: Arc<[usize]>,
    pub(crate) batch: usize,
    pub(crate) queue: usize,
}

impl Batches {
    /// Batches decoded on the host, sequentially or GOP by GOP.
    pub(crate) fn on_host(video: &Arc<Video>, index: &Arc<FrameIndex>, target: &Target, mode: ReadMode, order: Order) -> Self {
        let video = &video.with_own_cancel();
        // Rising frames in pieces are decoded ahead, and GOPs without wanted frames are skipped.
        let is_stream =
            mode == ReadMode::Stream || (order.numbers.is_sorted() && comes_in_pieces(video, index, target, &order.numbers, order.batch));
        let channel = sync_channel(order.queue.max(1));
        let (of_video, index) = (Arc::clone(video), Arc::clone(index));
        let make = move |target: &Target, sender: &SyncSender<Made>, order: &Order, progress: &Arc<Progress>| {
            if is_stream {
                stream(&of_video, &index, target, order, sender, progress)
            } else {
                seek(&of_video, &index, target, order, sender, progress)
            }
        };
        Self::spawn(video, target, order, channel, make)
    }

    /// Batches decoded on a GPU, GOP by GOP or sequentially.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_card(
        video: &Arc<Video>,
        index: &Arc<FrameIndex>,
        target: &Target,
        mode: ReadMode,
        order: Order,
        memory: crate::device_engine::CardMemory,
    ) -> Self {
        let video = &video.with_own_cancel();
        let channel = sync_channel(order.queue.max(1));
        let (of_video, index) = (Arc::clone(video), Arc::clone(index));
        let make = move |target: &Target, sender: &SyncSender<Made>, order: &Order, progress: &Arc<Progress>| {
            let mut engine = crate::device_engine::DeviceEngine::new(&of_video, &index, target, &memory)?;
            if mode == ReadMode::Stream {
                return engine.stream(order, sender, progress);
            }
            for numbers in order.numbers.chunks(order.batch.max(1)) {
                progress.at(numbers.first().copied().unwrap_or(0));
                if progress.is_stopped() || sender.send(Ok(engine.read(numbers)?)).is_err() {
                    return Ok(());
                }
            }
            Ok(())
        };
        Self::spawn(video, target, order, channel, make)
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

    /// Starts a thread that makes batches and sends them in order. If the first frame differs in size or format from the header, the thread
    /// starts again with the values of the frame.
    fn spawn(
        video: &Arc<Video>,
        target: &Target,
        order: Order,
        (sender, results): (SyncSender<Made>, Receiver<Made>),
        mut make: impl FnMut(&Target, &SyncSender<Made>, &Order, &Arc<Progress>) -> Result<(), Fault> + Send + 'static,
    ) -> Self {
        let total = order.numbers.len().div_ceil(order.batch.max(1));
        let (queue, progress) = (order.queue, Arc::new(Progress::default()));
        let (of_thread, at, mut target) = (Arc::clone(video), Arc::clone(&progress), target.clone());
        let spawned = std::thread::Builder::new().name("batches".into()).spawn(move || {
            let mut made = make(&target, &sender, &order, &at);
            if let Err(Fault::OtherKind) = made {
                made = adopt_first(&of_thread, &mut target).and_then(|_| make(&target, &sender, &order, &at));
            }
            if let Err(fault) = made {
                let error = of_thread.error_of(fault);
                if !at.is_stopped() {
                    // The receiver may be gone.
                    let _ = sender.send(Err(error));
                }
            }
        });
        let (thread, failure) = match spawned {
            Ok(thread) => (Some(thread), None),
            Err(error) => (None, Some(format!("{}: cannot start a thread: {error}; read fewer files at once", video.source_name()))),
        };
        Self {
            video: Arc::clone(video),
            results: Some(results),
            taken: 0,
            total,
            queue,
            progress,
            thread,
            failure,
            #[cfg(feature = "cuda")]
            upload: None,
        }
    }

    /// Cancelling this token ends the threads. For callers that cannot drop this value because another thread waits on it.
    pub fn cancel_token(&self) -> CancelToken {
        self.video.input.cancel.clone()
    }

    /// Number of batches not yet returned.
    pub fn remaining(&self) -> usize {
        self.total - self.taken
    }

    /// The next batch; `None` on timeout.
    fn wait(&self) -> Option<Made> {
        let Some(results) = &self.results else { return Some(Err(ReaderError::Closed)) };
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
        let state = format!("waiting for batch {} of {}; decoding frame {at}", self.taken, self.total);
        self.video.deadline().error(state)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, ReaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.taken >= self.total {
            return None;
        }
        if let Some(reason) = self.failure.take() {
            self.taken = self.total;
            return Some(Err(ReaderError::Failed { reason }));
        }
        // The batch may still arrive: the caller decides whether to wait again.
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

/// Makes each batch separately, by seeking.
fn seek(
    video: &Arc<Video>,
    index: &Arc<FrameIndex>,
    target: &Target,
    order: &Order,
    sender: &SyncSender<Made>,
    progress: &Progress,
) -> Result<(), Fault> {
    let mut engine = HostEngine::new(video, index, target, ReadMode::Seek);
    let shape = target.shape();
    for numbers in order.numbers.chunks(order.batch.max(1)) {
        progress.at(numbers.first().copied().unwrap_or(0));
        if progress.is_stopped() {
            return Ok(());
        }
        let mut memory = video.memory.buffer(shape.bytes() * numbers.len())?;
        let frames = engine.read(numbers, memory.as_mut_slice())?;
        let batch = Batch { tensor: Tensor::Host(HostTensor::new(numbers.len(), shape.clone(), memory)), frames };
        if sender.send(Ok(batch)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
