//! Safe CUDA wrappers: devices, streams, device memory, surfaces, kernels compiled at run time, and NVDEC.
//!
//! All libraries are loaded at run time: the same binary starts on a machine without a driver, where every call returns
//! [`CudaError::NoDriver`].
//!
//! # Order
//! Work on one [`CudaStream`] runs in order; work on different streams is ordered by the events that each [`DeviceBuffer`] carries.
//! Bracket work queued on a buffer with `begin_read`/`end_read` or `begin_write`/`end_write`. The host waits
//! only where a function's documentation says so; each wait and each byte copied is counted in [`Traffic`].

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
