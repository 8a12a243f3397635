//! Errors of this crate, divided by what the caller can do.

use std::path::PathBuf;

use framerail_core::Device;
use framerail_vision::VisionError;

/// Errors of a model, its card, ONNX Runtime or a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// No card of this name, or no ONNX file for it. Install it, or use another name.
    #[error("{what} not found; searched {}; {hint}", list(looked))]
    Missing {
        /// What was searched for, such as `model file centerface.onnx`.
        what: String,
        /// Every place that was searched.
        looked: Vec<PathBuf>,
        /// What to do.
        hint: String,
    },
    /// A model card that cannot be read or is invalid. Fix the card.
    #[error("model card {}{}: {reason}", path.display(), line.map(|line| format!(" line {line}")).unwrap_or_default())]
    Card {
        /// The card; `built-in NAME` for a built-in one.
        path: PathBuf,
        /// Line of the card, from 1, if known.
        line: Option<usize>,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// A model file that is not an ONNX model, is damaged, or is not the one that the card names.
    #[error("model {}: {reason}", path.display())]
    ModelFile {
        /// The ONNX file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A valid model whose inputs or outputs are not those that the card describes.
    #[error("model {} does not fit its card: {reason}", path.display())]
    ModelMismatch {
        /// The ONNX file.
        path: PathBuf,
        /// What the card states and what the model has.
        reason: String,
    },
    /// ONNX Runtime's library exists but cannot be used: not a library, too old, or another one is loaded.
    #[error("ONNX Runtime {}: {reason}", path.display())]
    Runtime {
        /// The library file.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// Models cannot run on this device here: no driver, no GPU, or parts of ONNX Runtime or CUDA are missing. Another device may work.
    #[error("models cannot run on {device}: {reason}")]
    Device {
        /// The requested device.
        device: Device,
        /// What is missing and what to do.
        reason: String,
    },
    /// The GPU failed while a model ran or its input was made.
    #[cfg(feature = "cuda")]
    #[error("model {model} failed on the GPU: {source}")]
    Cuda {
        /// Name from the card.
        model: String,
        /// What failed.
        source: framerail_cuda::CudaError,
    },
    /// An option that is invalid for this model or machine.
    #[error("{option}={given}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// The value as given.
        given: String,
        /// What is wrong and which values are allowed.
        reason: String,
    },
    /// The model failed while running; it would fail again.
    #[error("model {model} failed to run: {reason}")]
    Run {
        /// Name from the card.
        model: String,
        /// The error of ONNX Runtime or the decoder.
        reason: String,
    },
    /// The model needs more memory than available.
    #[error("model {model} does not fit in memory: {reason}")]
    Memory {
        /// Name from the card.
        model: String,
        /// What needs how much.
        reason: String,
    },
    /// A frame that cannot become a model input. The next one may.
    #[error("frame {index} of stream {stream} (PTS {pts}): {source}")]
    Frame {
        /// The frame's number in its stream.
        index: u64,
        /// The stream.
        stream: u32,
        /// Its presentation time in ticks.
        pts: i64,
        /// Why.
        source: VisionError,
    },
}

impl InferError {
    /// Whether the model may run on another device, such as the CPU.
    pub fn is_about_device(&self) -> bool {
        matches!(self, InferError::Device { .. })
    }

    /// Whether the model is still usable and only this frame has to be left out.
    pub fn is_recoverable(&self) -> bool {
        matches!(self, InferError::Frame { .. })
    }
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

/// An error's text on one line.
pub(crate) fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
