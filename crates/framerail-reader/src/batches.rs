//! Batches made ahead by their own threads.

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

/// Batches that a reader keeps for the next ones, besides those of its queue: one that the caller has, and one that is made.
pub(crate) const KEPT_BATCHES: usize = 2;

/// What a thread that makes batches sends.
pub(crate) type Made = Result<Batch, ReaderError>;

/// Batches of a selection, made ahead up to the queue that the options ask for. Dropping it ends its threads, also where they wait for a
/// source that gives nothing.
pub struct Batches {
    video: Arc<Video>,
    /// Taken away when this value is dropped: threads that wait for room in it end.
    results: Option<Receiver<Made>>,
    taken: usize,
    total: usize,
    queue: usize,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
    /// Why there is no thread.
    failure: Option<String>,
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
        let video = &video.with_own_cancel();
        // Rising frames in pieces are decoded ahead, and groups without wanted ones are left out.
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

    /// A batch made on the host, where the reader's are wanted.
    fn placed(&self, batch: Batch) -> Made {
        #[cfg(feature = "cuda")]
        if let (Some(memory), Tensor::Host(tensor)) = (&self.upload, &batch.tensor) {
            let tensor = self.video.uploaded(memory, tensor)?;
            return Ok(Batch { tensor, frames: batch.frames });
        }
        Ok(batch)
    }

    /// A thread that makes batches and sends them in order. Where the first frame is of another kind than the header says, it begins
    /// again with the frame's.
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
                    // The reader may be gone.
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

    /// Ends the threads when it is cancelled: for one who cannot drop this value because another thread waits in it.
    pub fn cancel_token(&self) -> CancelToken {
        self.video.input.cancel.clone()
    }

    /// Batches that are still to come.
    pub fn remaining(&self) -> usize {
        self.total - self.taken
    }

    /// What comes next; `None` when the time is over.
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
        self.video.input.cancel.cancel();
        self.results = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("a thread that makes batches panicked; this is a bug, please report it");
        }
        // What a stream needed beside these.
        self.video.memory.set_keep(self.queue + KEPT_BATCHES);
    }
}

/// Makes each batch by itself.
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
