//! Detects objects in frames: a [`Predictor`] with a detection model.

use framerail_core::{Detection, Device, Frame};

use crate::{
    DetectorOptions, DetectorStats, InferError, InputSpec, Prediction, Predictor, View,
    card::{ModelCard, Thresholds},
    decode::Task,
    runtime::RuntimeInfo,
    size::InputSize,
};

/// A loaded detection model. One thread uses one; [`Detector::fork`] creates more.
///
/// Use [`Detector::detect`], or submit and collect batches, so that on a GPU one batch is prepared and another is read while a third runs.
/// For parts of frames and for other families of models use [`Predictor`].
pub struct Detector(Predictor);

impl Detector {
    /// Finds card, model and ONNX Runtime, loads and checks them.
    ///
    /// # Errors
    /// As [`Predictor::load`], and `Option` for a model that is not for detection.
    pub fn load(options: &DetectorOptions) -> Result<Detector, InferError> {
        let predictor = Predictor::load(options)?;
        match predictor.task() {
            Task::Detection => Ok(Self(predictor)),
            task => {
                let reason = format!("it is a model for {task}; a detector is needed here");
                Err(InferError::Option { option: "model", given: options.model.clone(), reason })
            }
        }
    }

    /// Another detector for another thread: see [`Predictor::fork`].
    pub fn fork(&self) -> Detector {
        Self(self.0.fork())
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        self.0.card()
    }

    /// The library that runs the model.
    pub fn runtime(&self) -> &RuntimeInfo {
        self.0.runtime()
    }

    /// Where the model runs.
    pub fn device(&self) -> Device {
        self.0.device()
    }

    /// Frames in one run of the model.
    pub fn batch(&self) -> usize {
        self.0.batch()
    }

    /// The thresholds in force: the card's, or those of the options.
    pub fn thresholds(&self) -> Thresholds {
        self.0.thresholds()
    }

    /// The model's input size for frames of this size.
    ///
    /// # Errors
    /// `Option` if the model does not support the requested size.
    pub fn input_size_for(&self, width: u32, height: u32) -> Result<InputSize, InferError> {
        self.0.input_size_for(width, height)
    }

    /// The model's input for frames of this size: see [`Predictor::input_spec`].
    ///
    /// # Errors
    /// As [`Detector::input_size_for`].
    pub fn input_spec(&self, width: u32, height: u32) -> Result<InputSpec, InferError> {
        self.0.input_spec(width, height)
    }

    /// Creates the session for frames of this size: see [`Predictor::warm_up`].
    ///
    /// # Errors
    /// As [`Predictor::warm_up`].
    pub fn warm_up(&mut self, width: u32, height: u32) -> Result<(), InferError> {
        self.0.warm_up(width, height)
    }

    /// The detections of each frame, best first, in frame pixels. Frames may differ in size, and be on the host or the model's GPU; for
    /// a model on a GPU, host frames are uploaded and counted.
    ///
    /// # Errors
    /// `Frame` for one that cannot be preprocessed (leave it out and go on); `Run` or `Cuda` when the model itself fails.
    pub fn detect(&mut self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        self.0.predict(&views(frames)).map(detections)
    }

    /// Submits frames; [`Detector::collect`] returns their detections: see [`Predictor::submit`].
    ///
    /// # Errors
    /// As [`Detector::detect`]. After `Frame`, none of these frames was submitted.
    pub fn submit(&mut self, frames: &[&Frame]) -> Result<(), InferError> {
        self.0.submit(&views(frames))
    }

    /// The detections of the oldest batch, best first, in frame pixels; waits for it. `None` if all were collected.
    ///
    /// # Errors
    /// `Run` or `Cuda` when the model failed.
    pub fn collect(&mut self) -> Result<Option<Vec<Vec<Detection>>>, InferError> {
        self.0.collect().map(|found| found.map(detections))
    }

    /// Number of batches submitted and not collected.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight()
    }

    /// Whether [`Detector::submit`] would wait for an earlier batch: collect that first.
    pub fn would_wait(&self) -> bool {
        self.0.would_wait()
    }

    /// Counts of this detector and its forks so far.
    pub fn stats(&self) -> DetectorStats {
        self.0.stats()
    }

    /// The peak device memory of inputs, outputs and uploads: see [`Predictor::device_bytes`].
    pub fn device_bytes(&self) -> usize {
        self.0.device_bytes()
    }
}

fn views<'a>(frames: &[&'a Frame]) -> Vec<View<'a>> {
    frames.iter().map(|frame| View::whole(frame)).collect()
}

fn detections(predictions: Vec<Prediction>) -> Vec<Vec<Detection>> {
    let found = |prediction| match prediction {
        Prediction::Detections(found) => found,
        // Loading refuses other models.
        Prediction::Description(_) => Vec::new(),
    };
    predictions.into_iter().map(found).collect()
}
