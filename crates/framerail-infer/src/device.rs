//! Models on a GPU: frames in device memory become inputs there, runs are queued on one stream, batches overlap.
//!
//! The host waits only when it collects results.

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

use std::path::Path;

use crate::{Runtime, SearchPath};

pub use options::{CudaOptions, Provider};
#[cfg(feature = "cuda")]
pub(crate) use predictor::DevicePredictor;

/// Loads the libraries that models on a GPU need, if they exist; a later load reports missing ones.
pub fn load_ahead(runtime_library: Option<&Path>, search: &SearchPath) {
    let began = std::time::Instant::now();
    let Ok(runtime) = Runtime::load_for(framerail_core::Device::Cuda(0), runtime_library, search) else { return };
    if runtime.info().providers.iter().any(|provider| provider == "cuda") {
        #[cfg(feature = "cuda")]
        libraries::preload(search);
        log::debug!("ONNX Runtime and CUDA's libraries: loaded in {} ms", began.elapsed().as_millis());
    }
}
