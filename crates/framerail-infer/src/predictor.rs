//! Runs a model of any family on frames or parts of frames, on ONNX Runtime.

use std::{collections::VecDeque, path::Path, sync::Arc};

use framerail_core::{AttributeValue, BBox, DType, Detection, Device, Frame, Label, StreamId};
use framerail_vision::{Preprocess, Sampling};

#[cfg(feature = "cuda")]
use crate::device::DevicePredictor;
use crate::{
    DetectorOptions, DetectorStats, HostProvider, InferError, OpenVinoDevice, Precision,
    card::{ModelCard, Thresholds},
    decode::Task,
    host::HostPredictor,
    model::Model,
    openvino, options,
    recheck::Recheck,
    runtime::{Runtime, RuntimeInfo},
    session::SessionOptions,
    shared::{Counters, Shared},
    size::InputSize,
};

/// A model's input for frames: enough to make it elsewhere, for example in the decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct InputSpec {
    /// Size, fit, channels, layout and normalisation.
    pub preprocess: Preprocess,
    /// Interpolation.
    pub sampling: Sampling,
    /// Type of the elements.
    pub dtype: DType,
}

/// A view for a model: a frame or a part of one.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    frame: &'a Frame,
    area: Option<BBox>,
}

impl<'a> View<'a> {
    /// The whole frame.
    pub fn whole(frame: &'a Frame) -> Self {
        Self { frame, area: None }
    }

    /// The part of a box, in frame pixels, that lies within the frame. An empty part is refused when it is submitted.
    pub fn part(frame: &'a Frame, area: BBox) -> Self {
        Self { frame, area: Some(area.clamped(frame.width, frame.height)) }
    }

    /// The frame.
    pub fn frame(&self) -> &'a Frame {
        self.frame
    }

    /// The part in frame pixels; `None` for the whole frame.
    pub fn area(&self) -> Option<BBox> {
        self.area
    }

    /// Width and height in square pixels, rounded.
    pub(crate) fn size(&self) -> (u32, u32) {
        let (width, height) = match self.area {
            None => (self.frame.width, self.frame.height),
            Some(area) => (area.width().round().max(1.0) as u32, area.height().round().max(1.0) as u32),
        };
        self.frame.pixel_aspect().square_size(width, height)
    }
}

/// A model's result for a view. Positions are in frame pixels, also for parts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Prediction {
    /// The detections, best first.
    Detections(Vec<Detection>),
    /// The result of any other model for the view as a whole; `None` if nothing scores above the threshold.
    Description(Option<Description>),
}

/// A model's result for a view as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Classes, landmarks, a mask or an embedding, by the model's [`Task`].
    pub value: AttributeValue,
    /// Score, 0 to 1: that of the best class, the presence of the object, or the mean probability inside a mask; 1 for models without a
    /// score.
    pub score: f32,
}

/// A loaded model of any family. One thread uses one; [`Predictor::fork`] creates more.
///
/// Use [`Predictor::predict`], or submit and collect batches, so that on a GPU one batch is prepared and another is read while a third
/// runs.
pub struct Predictor {
    shared: Arc<Shared>,
    thresholds: Thresholds,
    backend: Backend,
    /// For a quantised model whose card has a margin.
    recheck: Option<Box<Recheck>>,
    /// Number of views of each batch submitted and not collected, oldest first.
    submitted: VecDeque<usize>,
    /// Results of their first views.
    done: VecDeque<Prediction>,
}

/// Where the model runs.
enum Backend {
    Host(HostPredictor),
    #[cfg(feature = "cuda")]
    Card(Box<DevicePredictor>),
}

impl Backend {
    fn new(shared: &Arc<Shared>) -> Result<Self, InferError> {
        match shared.device {
            Device::Cpu => Ok(Backend::Host(HostPredictor::new(shared))),
            #[cfg(feature = "cuda")]
            Device::Cuda(ordinal) => Ok(Backend::Card(Box::new(DevicePredictor::new(shared, ordinal)?))),
            #[allow(unreachable_patterns, reason = "devices may be added, and GPUs left out of a build")]
            device => Err(InferError::Device { device, reason: "this build runs models on the CPU only; give device=cpu".into() }),
        }
    }
}

impl Predictor {
    /// Finds card, model and ONNX Runtime, loads and checks them.
    ///
    /// A session is made with the first view of a size, or by [`Predictor::warm_up`].
    ///
    /// # Errors
    /// One clear line each for: card or model missing, card with a wrong key, file that is not an ONNX model, model that does not fit
    /// its card, ONNX Runtime missing or too old, option out of range; `Device` without that GPU or a driver.
    pub fn load(options: &DetectorOptions) -> Result<Self, InferError> {
        let model = Model::load(&options.model, options.precision, options.prepare, &options.search)?;
        let thresholds = options::thresholds(options, model.card.thresholds)?;
        options::check(options)?;
        if options.device != Device::Cpu && model.card.is_quantised() {
            let reason =
                format!("model {} is quantised and runs on the CPU only; give device=cpu, or name the float32 model", options.model);
            return Err(InferError::Option { option: "precision", given: "int8".into(), reason });
        }
        let batch = model.batch(options.batch)?;
        if options.device != Device::Cpu && options.cuda.graphs && !model.more.is_empty() {
            let reason = "a CUDA graph needs fixed input addresses, which this model's additional inputs do not have; leave graphs out";
            return Err(InferError::Option { option: "graphs", given: "on".into(), reason: reason.into() });
        }
        let runtime = Runtime::load_for(options.device, options.runtime_library.as_deref(), &options.search)?;
        if let HostProvider::OpenVino(device) = options.host_provider {
            let (_, devices) = runtime.load_openvino(&options.search)?;
            if !devices.contains(&device) {
                let found = devices.iter().map(OpenVinoDevice::to_string).collect::<Vec<_>>().join(", ");
                let reason = format!("OpenVINO finds no {device} here; it finds: {found}");
                return Err(InferError::Option { option: "provider", given: format!("openvino-{device}").to_lowercase(), reason });
            }
        }
        let session = SessionOptions {
            intra_threads: options.intra_threads,
            spin: options.spin,
            provider: options.host_provider,
            precision: options.precision,
            cache: openvino::cache_folder(&options.search, options.precision),
            ..SessionOptions::default()
        };
        let (float, margin) = (model.float(&options.search)?, model.card.recheck_margin);
        let on = |model: Model, precision: Precision, session: SessionOptions| {
            let shared = Arc::new(Shared {
                model: Arc::new(model),
                runtime,
                device: options.device,
                size: options.size,
                batch,
                precision,
                session,
                cuda: options.cuda.clone(),
                search: options.search.clone(),
                max_detections: thresholds.max_detections,
                counters: Counters::default(),
            });
            Backend::new(&shared).map(|backend| Self::of(shared, thresholds, backend, None))
        };
        let in_float = || {
            let cache = openvino::cache_folder(&options.search, Precision::Fp32);
            SessionOptions { precision: Precision::Fp32, cache, ..session.clone() }
        };
        let float = float.map(|float| on(float, Precision::Fp32, in_float())).transpose()?;
        let mut predictor = on(model, options.precision, session)?;
        predictor.recheck = float.map(|float| Box::new(Recheck::new(margin, float)));
        Ok(predictor)
    }

    fn of(shared: Arc<Shared>, thresholds: Thresholds, backend: Backend, recheck: Option<Box<Recheck>>) -> Self {
        Self { shared, thresholds, backend, recheck, submitted: VecDeque::new(), done: VecDeque::new() }
    }

    /// Another predictor for another thread, with its own sessions; file, card, thresholds and statistics are shared. On a GPU one is
    /// enough: a second holds weights and activations again, and shares the stream.
    pub fn fork(&self) -> Self {
        let backend = match &self.backend {
            Backend::Host(_) => Backend::Host(HostPredictor::new(&self.shared)),
            #[cfg(feature = "cuda")]
            Backend::Card(card) => Backend::Card(Box::new(card.fork(&self.shared))),
        };
        let recheck = self.recheck.as_ref().map(|recheck| Box::new(recheck.fork()));
        Self::of(Arc::clone(&self.shared), self.thresholds, backend, recheck)
    }

    /// Another predictor that runs the same sessions: weights and activations exist once, and runs of both are serialised. Its
    /// thresholds and statistics are separate.
    pub fn share(&self) -> Self {
        let shared = Arc::new(self.shared.with_own_counters());
        let backend = match &self.backend {
            Backend::Host(host) => Backend::Host(host.share(&shared)),
            #[cfg(feature = "cuda")]
            Backend::Card(card) => Backend::Card(Box::new(card.share(&shared))),
        };
        let recheck = self.recheck.as_ref().map(|recheck| Box::new(recheck.share()));
        Self::of(shared, self.thresholds, backend, recheck)
    }

    pub(crate) fn model(&self) -> &Model {
        &self.shared.model
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The arithmetic of the model: as requested, else `int8` for a quantised model.
    pub fn precision(&self) -> Precision {
        match self.shared.precision {
            Precision::Auto => self.card().precision,
            asked => asked,
        }
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.shared.model.card
    }

    /// The files from which the model was loaded: its card, unless it is built in, and the ONNX file.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.shared.model.files()
    }

    /// The model's task.
    pub fn task(&self) -> Task {
        self.card().output.task()
    }

    /// The classes as labels of detections. For a model that describes its input: the label of the object that it finds by itself, such
    /// as that of its mask; empty for classes and embeddings.
    pub fn labels(&self) -> Vec<Label> {
        match self.task() {
            Task::Detection => self.shared.model.labels.clone(),
            Task::Landmarks | Task::Segmentation => vec![Label { id: 0, name: self.card().thing_name().into() }],
            Task::Classification | Task::Embedding | Task::Depth | Task::Flow => Vec::new(),
        }
    }

    /// The library that runs the model.
    pub fn runtime(&self) -> &RuntimeInfo {
        self.shared.runtime.info()
    }

    /// Where the model runs.
    pub fn device(&self) -> Device {
        self.shared.device
    }

    /// Views per run of the model.
    pub fn batch(&self) -> usize {
        self.shared.batch
    }

    /// Whether float32 decides where the scores of a quantised model are close to the threshold.
    pub fn rechecks(&self) -> bool {
        self.recheck.is_some()
    }

    pub(crate) fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    /// The thresholds in force: the card's, or those of the options.
    pub fn thresholds(&self) -> Thresholds {
        self.thresholds
    }

    /// Changes the confidence threshold of later submissions; forks keep theirs.
    ///
    /// # Errors
    /// `Option` outside of 0 to 1.
    pub fn set_confidence(&mut self, confidence: f32) -> Result<(), InferError> {
        self.thresholds = options::changed(Thresholds { confidence, ..self.thresholds })?;
        Ok(())
    }

    /// Changes the IoU threshold likewise.
    ///
    /// # Errors
    /// `Option` outside of 0 to 1.
    pub fn set_iou(&mut self, iou: f32) -> Result<(), InferError> {
        self.thresholds = options::changed(Thresholds { iou, ..self.thresholds })?;
        Ok(())
    }

    /// The model input's size for frames, or parts of frames, of this size in square pixels ([`framerail_core::PixelAspect::square_size`]).
    ///
    /// # Errors
    /// `Option` if the model does not support the requested size.
    pub fn input_size_for(&self, width: u32, height: u32) -> Result<InputSize, InferError> {
        self.shared.input_size(width, height)
    }

    /// Whether all views have the same input size, so that parts of all sizes share batches and one session.
    pub fn has_fixed_input(&self) -> bool {
        self.shared.has_fixed_input()
    }

    /// The model's input for frames of this size in square pixels. On a GPU, frames whose surface is a tensor of exactly this kind
    /// (`framerail_cuda::CudaTensor`) are copied within the GPU; width and height of such a frame are those of its image.
    ///
    /// # Errors
    /// As [`Predictor::input_size_for`].
    pub fn input_spec(&self, width: u32, height: u32) -> Result<InputSpec, InferError> {
        let size = self.input_size_for(width, height)?;
        Ok(InputSpec {
            preprocess: self.shared.preprocess(size),
            sampling: self.shared.model.card.input.sampling(),
            dtype: self.shared.input_dtype(),
        })
    }

    /// Creates the session for views of this size in square pixels, so that a model that ONNX Runtime refuses is found before the first
    /// frame.
    ///
    /// # Errors
    /// `Run` when ONNX Runtime refuses the model; `Device` when the GPU cannot run it; `Option` as
    /// [`Predictor::input_size_for`].
    pub fn warm_up(&mut self, width: u32, height: u32) -> Result<(), InferError> {
        let size = self.input_size_for(width, height)?;
        match &mut self.backend {
            Backend::Host(host) => host.warm_up(size),
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.warm_up(size, &self.thresholds),
        }
    }

    /// The results of each view. Frames may differ in size, and be on the host or the model's GPU; for a model on a GPU, host frames
    /// are uploaded and counted.
    ///
    /// # Errors
    /// `Frame` for one that cannot be preprocessed (leave it out and go on); `Run` or `Cuda` when the model itself fails.
    pub fn predict(&mut self, views: &[View<'_>]) -> Result<Vec<Prediction>, InferError> {
        self.submit(views)?;
        while self.finish_oldest()? {}
        // Earlier batches stay for `collect`.
        let count = self.submitted.pop_back().unwrap_or(0);
        let first = self.done.len().saturating_sub(count);
        Ok(self.done.split_off(first).into())
    }

    /// Submits views; [`Predictor::collect`] returns their results, batch by batch in the order of submission.
    ///
    /// On a GPU this queues work and returns, unless the maximum is in flight ([`Predictor::would_wait`]); on the CPU it runs the model.
    /// Frames may be dropped when it returns.
    ///
    /// # Errors
    /// As [`Predictor::predict`]. After `Frame`, none of these views was submitted.
    pub fn submit(&mut self, views: &[View<'_>]) -> Result<(), InferError> {
        for (size, views) in self.runs(views)? {
            let thresholds = self.thresholds;
            let outcome = match &mut self.backend {
                Backend::Host(host) => match &mut self.recheck {
                    None => host.run(size, views, &thresholds),
                    Some(recheck) => {
                        let found = host.run(size, views, &recheck.lowered(thresholds));
                        found.and_then(|found| recheck.decide(views, found, thresholds)).map(|decided| {
                            self.shared.counters.decided(&decided);
                            decided.predictions
                        })
                    }
                }
                .map(|found| self.done.extend(found)),
                #[cfg(feature = "cuda")]
                Backend::Card(card) => card.queue(size, views, &thresholds, &mut self.done),
            };
            if let Err(error) = outcome {
                self.forget_unfinished();
                return Err(error);
            }
        }
        self.submitted.push_back(views.len());
        Ok(())
    }

    /// The results of the oldest batch; waits for it. `None` if all were collected.
    ///
    /// # Errors
    /// `Run` or `Cuda` when the model failed.
    pub fn collect(&mut self) -> Result<Option<Vec<Prediction>>, InferError> {
        let Some(count) = self.submitted.front().copied() else { return Ok(None) };
        while self.done.len() < count {
            if !self.finish_oldest()? {
                return Err(self.shared.run_error("results of a batch are missing"));
            }
        }
        self.submitted.pop_front();
        Ok(Some(self.done.drain(..count).collect()))
    }

    /// Forgets the last frame of a stream that ended, with models that compare two frames.
    pub fn forget(&mut self, stream: StreamId) {
        if let Backend::Host(host) = &mut self.backend {
            host.forget(stream);
        }
    }

    /// Number of batches submitted and not collected.
    pub fn in_flight(&self) -> usize {
        self.submitted.len()
    }

    /// Whether [`Predictor::submit`] would wait for an earlier batch: collect that first.
    pub fn would_wait(&self) -> bool {
        match &self.backend {
            Backend::Host(_) => false,
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.runs_in_flight() >= self.shared.cuda.slots,
        }
    }

    /// Counts of this predictor and its forks so far.
    pub fn stats(&self) -> DetectorStats {
        self.shared.counters.stats()
    }

    /// The peak device memory of inputs, outputs and uploads, in bytes: 0 on the CPU. Without ONNX Runtime's own.
    pub fn device_bytes(&self) -> usize {
        match &self.backend {
            Backend::Host(_) => 0,
            #[cfg(feature = "cuda")]
            Backend::Card(card) => card.high_water_bytes(),
        }
    }

    /// Neighbouring views that run together: of one input size, at most a batch.
    fn runs<'v, 'a>(&self, views: &'v [View<'a>]) -> Result<Vec<(InputSize, &'v [View<'a>])>, InferError> {
        let size_of = |view: &View<'_>| {
            let (width, height) = view.size();
            self.input_size_for(width, height)
        };
        let mut runs = Vec::new();
        let mut rest = views;
        while let [first, ..] = rest {
            let size = size_of(first)?;
            let mut count = 1;
            while count < self.shared.batch
                && let Some(next) = rest.get(count)
                && size_of(next)? == size
            {
                count += 1;
            }
            let (now, later) = rest.split_at(count);
            runs.push((size, now));
            rest = later;
        }
        Ok(runs)
    }

    /// Discards the results of a batch of which a part was refused.
    fn forget_unfinished(&mut self) {
        // A failure here occurs again with the next batch.
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
