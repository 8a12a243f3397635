//! Frames in, detections out: a model by its card, run on ONNX Runtime.

use std::{collections::VecDeque, sync::Arc};

use framerail_core::{DType, Detection, Device, Frame};
use framerail_vision::{Preprocess, Sampling};

#[cfg(feature = "cuda")]
use crate::device::DeviceDetector;
use crate::{
    DetectorOptions, DetectorStats, InferError,
    card::{ModelCard, Thresholds},
    host::HostDetector,
    model::Model,
    options,
    runtime::{Runtime, RuntimeInfo},
    session::SessionOptions,
    shared::{Counters, Shared},
    size::InputSize,
};

/// What a model takes of each frame: enough to make its input elsewhere, in the decoder for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputSpec {
    /// Size, fit, channels, layout and normalisation.
    pub preprocess: Preprocess,
    /// How samples are found.
    pub sampling: Sampling,
    /// Type of the elements.
    pub dtype: DType,
}

/// A loaded model that finds things in frames. One thread uses one; [`Detector::fork`] makes more.
///
/// Either frames go in and detections come out ([`Detector::detect`]), or batches are submitted and collected, so that on a card
/// one batch is made ready and another is read while a third runs.
pub struct Detector {
    shared: Arc<Shared>,
    backend: Backend,
    /// Frames of each batch that was submitted and not collected, oldest first.
    submitted: VecDeque<usize>,
    /// What was found in their first frames.
    done: VecDeque<Vec<Detection>>,
}

/// Where the model runs.
enum Backend {
    Host(HostDetector),
    #[cfg(feature = "cuda")]
    Card(Box<DeviceDetector>),
}

impl Backend {
    fn new(shared: &Arc<Shared>) -> Result<Self, InferError> {
        match shared.device {
            Device::Cpu => Ok(Backend::Host(HostDetector::new(shared))),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Ok(Backend::Card(Box::new(DeviceDetector::new(shared, ordinal)?))),
            #[allow(unreachable_patterns, reason = "devices may be added, and cards left out of a build")]
            device => Err(InferError::Device { device, reason: "this build runs models on the CPU only; give device=cpu".into() }),
        }
    }
}

impl Detector {
    /// Finds card, model and ONNX Runtime, loads and checks them.
    ///
    /// A session is made with the first frame of a size, or by [`Detector::warm_up`].
    ///
    /// # Errors
    /// One clear line each for: card or model missing, card with a wrong key, file that is no ONNX model, model that does not fit
    /// its card, ONNX Runtime missing or too old, option out of range; `Device` when there is no such card or no driver.
    pub fn load(options: &DetectorOptions) -> Result<Detector, InferError> {
        let model = Model::load(&options.model, options.prepare, &options.search)?;
        let thresholds = options::thresholds(options, model.card.thresholds)?;
        options::check(options)?;
        let batch = model.batch(options.batch)?;
        let runtime = Runtime::load_for(options.device, options.runtime_library.as_deref(), &options.search)?;
        let session = SessionOptions { intra_threads: options.intra_threads, spin: options.spin, ..SessionOptions::default() };
        let shared = Arc::new(Shared {
            model,
            runtime,
            device: options.device,
            size: options.size,
            batch,
            precision: options.precision,
            session,
            cuda: options.cuda.clone(),
            search: options.search.clone(),
            thresholds,
            counters: Counters::default(),
        });
        Ok(Self { backend: Backend::new(&shared)?, shared, submitted: VecDeque::new(), done: VecDeque::new() })
    }

    /// Another detector for another thread, with sessions of its own; file, card, thresholds and statistics are shared.
    /// On a card one is enough: a second holds weights and activations once more, and shares the stream.
    pub fn fork(&self) -> Detector {
        let backend = match &self.backend {
            Backend::Host(_) => Backend::Host(HostDetector::new(&self.shared)),
            #[cfg(feature = "cuda")]
            Backend::Card(card) => Backend::Card(Box::new(card.fork())),
        };
        Self { shared: Arc::clone(&self.shared), backend, submitted: VecDeque::new(), done: VecDeque::new() }
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.shared.model.card
    }

    /// The library that runs the model.
    pub fn runtime(&self) -> &RuntimeInfo {
        self.shared.runtime.info()
    }

    /// Where the model runs.
    pub fn device(&self) -> Device {
        self.shared.device
    }

    /// Frames in one run of the model.
    pub fn batch(&self) -> usize {
        self.shared.batch
    }

    /// The thresholds in force: the card's, or those of the options.
    pub fn thresholds(&self) -> Thresholds {
        self.shared.thresholds
    }

    /// The model input's size for frames of this size.
    ///
    /// # Errors
    /// `Option` when the size asked for is not one that the model takes.
    pub fn input_size_for(&self, width: u32, height: u32) -> Result<InputSize, InferError> {
        self.shared.input_size(width, height)
    }

    /// What the model takes of frames of this size. On a card, frames whose surface is a tensor of just this kind
    /// (`framerail_cuda::CudaTensor`) go in by a copy within the card; width and height of such a frame are those of its picture.
    ///
    /// # Errors
    /// As [`Detector::input_size_for`].
    pub fn input_spec(&self, width: u32, height: u32) -> Result<InputSpec, InferError> {
        let size = self.input_size_for(width, height)?;
        let is_half = self.shared.device != Device::Cpu && self.shared.precision.is_half();
        Ok(InputSpec {
            preprocess: self.shared.preprocess(size),
            sampling: self.shared.model.card.input.sampling(),
            dtype: if is_half { DType::F16 } else { DType::F32 },
        })
    }

    /// Makes the session for frames of this size, so that a model which ONNX Runtime refuses is found before the first frame.
    ///
    /// # Errors
    /// `Run` when ONNX Runtime refuses the model; `Device` when the card's part of it cannot be used; `Option` as
    /// [`Detector::input_size_for`].
    pub fn warm_up(&mut self, width: u32, height: u32) -> Result<(), InferError> {
        let size = self.input_size_for(width, height)?;
        match &mut self.backend {
            Backend::Host(host) => host.warm_up(size),
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.warm_up(size),
        }
    }

    /// The detections of each frame, best first, in frame pixels. Frames may differ in size, and lie on the host or on the model's
    /// card; for a model on a card those on the host are uploaded and counted.
    ///
    /// # Errors
    /// `Frame` for one that cannot be preprocessed (leave it out and go on); `Run` or `Cuda` when the model itself fails.
    pub fn detect(&mut self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        self.submit(frames)?;
        while self.finish_oldest()? {}
        // Earlier batches stay for `collect`.
        let count = self.submitted.pop_back().unwrap_or(0);
        let first = self.done.len().saturating_sub(count);
        Ok(self.done.split_off(first).into())
    }

    /// Puts frames to work; [`Detector::collect`] gives what was found in them, batch by batch in the order of submission.
    ///
    /// On a card this queues work and returns, unless as many are in flight as may be ([`Detector::would_wait`]); on the CPU it runs the model.
    /// Frames may be dropped when it returns.
    ///
    /// # Errors
    /// As [`Detector::detect`]. After `Frame` nothing of these frames was put to work.
    pub fn submit(&mut self, frames: &[&Frame]) -> Result<(), InferError> {
        for (size, frames) in self.runs(frames)? {
            let outcome = match &mut self.backend {
                Backend::Host(host) => host.run(size, frames).map(|found| self.done.extend(found)),
                #[cfg(feature = "cuda")]
                Backend::Card(card) => card.queue(size, frames, &mut self.done),
            };
            if let Err(error) = outcome {
                self.forget_unfinished();
                return Err(error);
            }
        }
        self.submitted.push_back(frames.len());
        Ok(())
    }

    /// What was found in the frames of the oldest batch, best first, in frame pixels; waits for it. `None` when all were collected.
    ///
    /// # Errors
    /// `Run` or `Cuda` when the model failed.
    pub fn collect(&mut self) -> Result<Option<Vec<Vec<Detection>>>, InferError> {
        let Some(count) = self.submitted.front().copied() else { return Ok(None) };
        while self.done.len() < count {
            if !self.finish_oldest()? {
                return Err(self.shared.run_error("results of a batch are missing"));
            }
        }
        self.submitted.pop_front();
        Ok(Some(self.done.drain(..count).collect()))
    }

    /// Batches that were submitted and not collected.
    pub fn in_flight(&self) -> usize {
        self.submitted.len()
    }

    /// Whether [`Detector::submit`] would wait for an earlier batch: collect that first.
    pub fn would_wait(&self) -> bool {
        match &self.backend {
            Backend::Host(_) => false,
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.runs_in_flight() >= self.shared.cuda.slots,
        }
    }

    /// What this detector and its forks have done so far.
    pub fn stats(&self) -> DetectorStats {
        self.shared.counters.stats()
    }

    /// The most device memory that inputs, outputs and uploads took, in bytes: 0 on the CPU. ONNX Runtime's own is not among it.
    pub fn device_bytes(&self) -> usize {
        match &self.backend {
            Backend::Host(_) => 0,
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.high_water_bytes(),
        }
    }

    /// Frames that go into the model together: neighbours of one input size, at most a batch.
    fn runs<'f, 'a>(&self, frames: &'f [&'a Frame]) -> Result<Vec<(InputSize, &'f [&'a Frame])>, InferError> {
        let mut runs = Vec::new();
        let mut rest = frames;
        while let [first, ..] = rest {
            let size = self.input_size_for(first.width, first.height)?;
            let mut count = 1;
            while count < self.shared.batch
                && let Some(next) = rest.get(count)
                && self.input_size_for(next.width, next.height)? == size
            {
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            runs.push((size, now));
            rest = later;
        }
        Ok(runs)
    }

    /// Drops what was found in a batch of which a part was refused.
    fn forget_unfinished(&mut self) {
        // A failure here shows again with the next batch.
        while matches!(self.finish_oldest(), Ok(true)) {}
        self.done.truncate(self.submitted.iter().sum());
    }

    /// Reads the oldest run; `false` when there is none.
    fn finish_oldest(&mut self) -> Result<bool, InferError> {
        match &mut self.backend {
            Backend::Host(_) => Ok(false),
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.finish_oldest(&mut self.done),
        }
    }
}
