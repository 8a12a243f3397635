//! The thread that calls a Python model, with batches in flight.
//!
//! It holds the GIL only for its calls. On a GPU it reads a batch's results when the next one is queued.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel},
    },
};

use framerail::{
    core::{BBox, Detection as CoreDetection},
    pipeline::{ErrorKind, FrameItem as PipelineItem, Setting, StageError},
    vision::ModelMapping,
};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyList};

use crate::{
    attribute::edges,
    detection::core_list,
    frame_item::FrameItem,
    hosted::attached,
    kept_thread::KeptThread,
    model_input::mapping,
    source::Raised,
    tensor::{Memory, Tensor},
};

/// One call of the model.
pub struct Job {
    /// A row for each item, possibly followed by padding.
    pub memory: Arc<Memory>,
    pub mappings: Vec<ModelMapping>,
    pub items: Vec<PipelineItem>,
    /// The part of each frame; `None` for the whole.
    pub areas: Vec<Option<BBox>>,
}

/// Results for each frame of a call.
pub type Found = Result<Vec<Vec<CoreDetection>>, StageError>;

/// Calls the model, on a separate thread.
pub struct Caller {
    /// `framerail.models.ModelRunner`.
    pub runner: Arc<Py<PyAny>>,
    pub raised: Raised,
    /// Maximum number of batches in flight.
    pub depth: usize,
    /// Minimum score, for known output forms.
    pub confidence: Option<Setting>,
}

impl Caller {
    fn drive(mut self, jobs: &Receiver<Job>, found: &Sender<Found>) {
        let result = self.call("start").and_then(|()| self.work(jobs, found));
        let result = result.and_then(|()| self.call("finish"));
        if let Err(error) = result {
            let _ = found.send(Err(error));
        }
    }

    fn call(&self, method: &str) -> Result<(), StageError> {
        attached(&self.raised, ErrorKind::Model, |py| self.runner.bind(py).call_method0(method).map(drop))
    }

    fn work(&mut self, jobs: &Receiver<Job>, found: &Sender<Found>) -> Result<(), StageError> {
        let mut under_way: VecDeque<(Py<PyAny>, usize)> = VecDeque::new();
        loop {
            let job = if under_way.is_empty() { jobs.recv().map_err(|_| TryRecvError::Disconnected) } else { jobs.try_recv() };
            match job {
                Ok(job) => {
                    let frames = job.items.len();
                    under_way.push_back((attached(&self.raised, ErrorKind::Model, |py| self.submit(py, job))?, frames));
                    if under_way.len() < self.depth {
                        continue;
                    }
                }
                Err(TryRecvError::Disconnected) if under_way.is_empty() => return Ok(()),
                Err(_) => {}
            }
            let Some((token, frames)) = under_way.pop_front() else { continue };
            let confidence = self.confidence.as_mut().and_then(Setting::take_change);
            let results = attached(&self.raised, ErrorKind::Model, |py| self.collect(py, token, frames, confidence))?;
            if found.send(Ok(results)).is_err() {
                return Ok(());
            }
        }
    }

    fn submit(&self, py: Python<'_>, job: Job) -> PyResult<Py<PyAny>> {
        let frames = job.items.iter().map(|item| FrameItem::new(py, item)).collect::<PyResult<Vec<_>>>()?;
        // Results of padding are discarded.
        let mappings: Vec<_> = job.mappings.iter().take(frames.len()).map(mapping).collect();
        let areas: Vec<_> = job.areas.iter().map(|area| area.as_ref().map(edges)).collect();
        Ok(self.runner.bind(py).call_method1("submit", (Tensor::of(job.memory), PyList::new(py, frames)?, mappings, areas))?.unbind())
    }

    /// The results of a batch; `confidence` if it was changed.
    fn collect(&self, py: Python<'_>, token: Py<PyAny>, frames: usize, confidence: Option<f64>) -> PyResult<Vec<Vec<CoreDetection>>> {
        let runner = self.runner.bind(py);
        if let Some(confidence) = confidence {
            runner.setattr("confidence", confidence)?;
        }
        let results = runner.call_method1("collect", (token,))?;
        let lists = results.try_iter()?.map(|list| core_list(&list?, "detections")).collect::<PyResult<Vec<_>>>()?;
        if lists.len() == frames {
            return Ok(lists);
        }
        let what = format!("results for {} frames were returned for {frames} frames; return one list of detections per frame", lists.len());
        Err(PyValueError::new_err(what))
    }
}

/// The thread that calls the model. Dropping it waits for the current call.
pub struct CallerThread {
    jobs: Option<SyncSender<Job>>,
    found: Receiver<Found>,
    thread: Option<KeptThread>,
}

impl CallerThread {
    /// Starts it, on a reused thread if possible.
    ///
    /// # Errors
    /// `Resource`.
    pub fn start(caller: Caller) -> Result<Self, StageError> {
        let ((jobs, to_do), (done, found)) = (sync_channel(1), channel());
        let thread = KeptThread::run(move || caller.drive(&to_do, &done));
        let thread = thread.map_err(|error| StageError::new(ErrorKind::Resource, format!("no thread could be started: {error}")))?;
        Ok(Self { jobs: Some(jobs), found, thread: Some(thread) })
    }

    /// Submits a batch; waits while the maximum is in flight.
    ///
    /// # Errors
    /// Why the thread has ended.
    pub fn submit(&self, job: Job) -> Result<(), StageError> {
        match self.jobs.as_ref().map(|jobs| jobs.send(job)) {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failure()),
        }
    }

    /// The results of the oldest batch; waits for it.
    pub fn collect(&self) -> Found {
        self.found.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// Why the thread has ended.
    fn failure(&self) -> StageError {
        self.found.iter().find_map(Result::err).unwrap_or_else(ended)
    }

    /// Lets the thread finish.
    ///
    /// # Errors
    /// What went wrong on the way.
    pub fn finish(&mut self) -> Result<(), StageError> {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| !thread.join()) {
            return Err(ended());
        }
        self.found.try_iter().find_map(Result::err).map_or(Ok(()), Err)
    }
}

impl Drop for CallerThread {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

/// The error for a thread that has ended.
pub fn ended() -> StageError {
    StageError::new(ErrorKind::Internal, "the thread that calls the model has ended; this is a bug in framerail, please report it")
}
