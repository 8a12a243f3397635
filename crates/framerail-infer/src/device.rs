//! Models on a card: pictures in device memory become inputs there, runs are queued on one stream, batches overlap.
//!
//! Nothing waits on the host but the collecting of results.

#[cfg(feature = "cuda")]
mod boxes;
#[cfg(feature = "cuda")]
mod input;
#[cfg(feature = "cuda")]
mod libraries;
#[cfg(feature = "cuda")]
mod memory;
mod options;
#[cfg(feature = "cuda")]
mod predictor;
#[cfg(feature = "cuda")]
mod session;
#[cfg(feature = "cuda")]
mod sized;

pub use options::{CudaOptions, Provider};
#[cfg(feature = "cuda")]
pub(crate) use predictor::DevicePredictor;
