//! Models and their cards: preprocessing, ONNX Runtime sessions and output decoders behind one [`Predictor`], or [`Detector`] for
//! detection models.
//!
//! A model is its card ([`card::ModelCard`]): a TOML file that describes how frames become its input and how its outputs become
//! detections, classes, landmarks, masks or embeddings. The ONNX file is prepared in memory on loading ([`onnx`]), which doubles the speed of older exports.
#![deny(unsafe_code)]

#[cfg(feature = "cuda")]
mod binding;
pub mod card;
pub mod decode;
pub mod detector;
pub mod device;
pub mod draft;
mod element;
pub mod error;
mod host;
mod memory;
mod model;
mod more_inputs;
mod nearest;
pub mod onnx;
mod openvino;
pub mod options;
mod outputs;
pub mod precision;
pub mod predictor;
mod quantize;
mod recheck;
pub mod runtime;
pub mod search;
pub mod session;
mod shared;
pub mod size;

pub use card::{CardFile, ModelCard, QUANTISED_SUFFIX, Thresholds};
pub use decode::Task;
pub use detector::Detector;
pub use device::{CudaOptions, Provider, load_ahead};
pub use draft::{CardDraft, draft};
pub use error::InferError;
pub use openvino::{HostProvider, OpenVinoDevice};
pub use options::{DetectorOptions, DetectorStats};
pub use precision::Precision;
pub use predictor::{Description, InputSpec, Prediction, Predictor, View};
pub use quantize::InputArray;
pub use runtime::{Runtime, RuntimeInfo};
pub use search::SearchPath;
pub use size::{InputSize, SizeRequest};
