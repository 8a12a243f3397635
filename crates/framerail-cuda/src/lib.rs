//! CUDA behind a fence: cards, streams, device memory, pictures in it, kernels compiled at run time, and NVDEC.
//!
//! Everything is loaded at run time: the same program starts on a machine without a driver, and every call says so
//! ([`CudaError::NoDriver`]).
//!
//! # Order
//! Work on a [`CudaStream`] runs in order; work on two streams is ordered by the marks that each [`DeviceBuffer`] carries.
//! Work queued on a buffer is bracketed with `begin_read`/`end_read` or `begin_write`/`end_write`. The host waits
//! only where a function says so; each wait and each byte that crosses is counted in [`Traffic`].

mod context;
pub mod device;
pub mod download;
pub mod error;
pub mod kernels;
pub mod memory;
pub mod module;
pub mod nvdec;
pub mod nvrtc;
pub mod pinned;
pub mod stream;
pub mod surface;
pub mod tensor;
pub mod traffic;
pub mod uploads;

pub use context::KeptContext;
pub use device::{CudaDevice, DeviceInfo, device_count, device_info, driver_version};
pub use download::Download;
pub use error::CudaError;
pub use memory::{DeviceBuffer, DevicePool, on_memory_pressure, release_memory};
pub use module::{Kernel, KernelSource, Launch, kernel_cache_folder};
pub use pinned::{PinnedBuffer, PinnedPool};
pub use stream::{CudaEvent, CudaStream};
pub use surface::{CudaSurface, DevicePlanes};
pub use tensor::{CudaTensor, convert_into};
pub use traffic::Traffic;
pub use uploads::Uploads;
