//! Models and their cards: preprocessing, ONNX Runtime sessions and output decoders behind one [`Detector`].
//!
//! A model is its card ([`card::ModelCard`]): a TOML that says how frames become its input and how its outputs become
//! detections. The ONNX file is prepared in memory on loading ([`onnx`]), which doubles the speed of older exports.
#![forbid(unsafe_code)]

pub mod card;
pub mod decode;
pub mod detector;
pub mod error;
mod model;
mod nearest;
pub mod onnx;
pub mod precision;
pub mod runtime;
pub mod search;
pub mod session;
pub mod size;

pub use card::{CardFile, ModelCard, Thresholds};
pub use detector::{Detector, DetectorOptions, DetectorStats};
pub use error::InferError;
pub use precision::Precision;
pub use runtime::{Runtime, RuntimeInfo};
pub use search::SearchPath;
pub use size::{InputSize, SizeRequest};
