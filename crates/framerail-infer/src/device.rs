//! Models on a card: pictures in device memory become inputs there, runs are queued on one stream, batches overlap.
//!
//! Nothing waits on the host but the collecting of results.

#[cfg(feature = "cuda")]
mod boxes;
#[cfg(feature = "cuda")]
mod detector;
#[cfg(feature = "cuda")]
mod input;
#[cfg(feature = "cuda")]
mod libraries;
#[cfg(feature = "cuda")]
mod memory;
mod options;
#[cfg(feature = "cuda")]
mod session;
#[cfg(feature = "cuda")]
mod sized;

#[cfg(feature = "cuda")]
pub(crate) use detector::DeviceDetector;
pub use options::{CudaOptions, Provider};
