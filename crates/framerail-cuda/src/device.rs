//! A CUDA device: its primary context, properties and memory.

use std::{
    collections::HashMap,
    ffi::c_char,
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use cudarc::driver::sys;
use framerail_core::Device;
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    context::{Context, Entered},
    error::{CudaError, check},
    module::LoadedModules,
    stream::SpareEvents,
};

/// Properties of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceInfo {
    /// Device ordinal, from 0.
    pub ordinal: u32,
    /// Name, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Compute capability, major and minor: 9.0 is `(9, 0)`.
    pub compute_capability: (u32, u32),
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// Device memory in bytes.
    pub memory_bytes: u64,
}

/// An open GPU with its primary context, which other libraries in the process share.
pub struct CudaDevice {
    info: DeviceInfo,
    pub(crate) context: Context,
    pub(crate) modules: LoadedModules,
    pub(crate) events: SpareEvents,
    /// Free memory and the time of the last query.
    free: Mutex<Option<(Instant, u64)>>,
}

impl fmt::Debug for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CudaDevice({}, {})", self.info.ordinal, self.info.name)
    }
}

/// How long a query of free memory stays valid.
const LATELY: Duration = Duration::from_secs(1);

static OPEN: OnceLock<Mutex<HashMap<u32, Arc<CudaDevice>>>> = OnceLock::new();

/// Loads and initialises the driver.
fn start_driver() -> Result<(), CudaError> {
    // SAFETY: only searches for the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(CudaError::NoDriver { reason: "libcuda.so.1 is not on this machine; install NVIDIA's driver".into() });
    }
    // SAFETY: no preconditions.
    let code = unsafe { sys::cuInit(0) };
    check(code, "initialising the driver").map_err(|error| CudaError::NoDriver { reason: format!("{error}; is there a GPU?") })
}

/// The CUDA version that the driver supports, such as `(13, 0)`.
///
/// # Errors
/// `NoDriver`.
pub fn driver_version() -> Result<(u32, u32), CudaError> {
    start_driver()?;
    let mut version = 0;
    // SAFETY: an out value.
    check(unsafe { sys::cuDriverGetVersion(&mut version) }, "querying the driver's version")?;
    let version = u32::try_from(version).unwrap_or(0);
    Ok((version / 1000, version % 1000 / 10))
}

/// Number of GPUs.
///
/// # Errors
/// `NoDriver`.
pub fn device_count() -> Result<u32, CudaError> {
    start_driver()?;
    let mut count = 0;
    // SAFETY: an out value.
    check(unsafe { sys::cuDeviceGetCount(&mut count) }, "counting GPUs")?;
    Ok(u32::try_from(count).unwrap_or(0))
}

fn handle(ordinal: u32) -> Result<sys::CUdevice, CudaError> {
    let count = device_count()?;
    if ordinal >= count {
        return Err(CudaError::NoDevice { ordinal, count });
    }
    let mut device = 0;
    // SAFETY: an out value and an ordinal in range.
    check(unsafe { sys::cuDeviceGet(&mut device, ordinal as i32) }, "finding the GPU")?;
    Ok(device)
}

/// Queries the properties of a GPU without opening it.
///
/// # Errors
/// `NoDriver`, `NoDevice`.
pub fn device_info(ordinal: u32) -> Result<DeviceInfo, CudaError> {
    let device = handle(ordinal)?;
    let attribute = |attribute| -> Result<u32, CudaError> {
        let mut value = 0;
        // SAFETY: an out value and a valid device.
        check(unsafe { sys::cuDeviceGetAttribute(&mut value, attribute, device) }, "querying a GPU property")?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    let mut name = [0 as c_char; 256];
    // SAFETY: a buffer of the stated length, and a valid device.
    check(unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 255, device) }, "querying the GPU's name")?;
    // SAFETY: the last byte stays zero.
    let name = unsafe { std::ffi::CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
    let mut memory = 0;
    // SAFETY: an out value and a valid device.
    check(unsafe { sys::cuDeviceTotalMem_v2(&mut memory, device) }, "querying the GPU's memory")?;
    use sys::CUdevice_attribute as Attribute;
    Ok(DeviceInfo {
        ordinal,
        name,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory_bytes: memory as u64,
    })
}

impl CudaDevice {
    /// Opens a GPU, once per process: later calls return the same device.
    ///
    /// # Errors
    /// `NoDriver`, `NoDevice`, `OutOfMemory`, `Driver`.
    pub fn open(ordinal: u32) -> Result<Arc<CudaDevice>, CudaError> {
        let mut open = OPEN.get_or_init(Mutex::default).lock();
        if let Some(device) = open.get(&ordinal) {
            return Ok(Arc::clone(device));
        }
        let began = Instant::now();
        let info = device_info(ordinal)?;
        let started = began.elapsed();
        let context = Context::retain(ordinal, handle(ordinal)?)?;
        let millis = |time: Duration| time.as_millis();
        log::debug!("CUDA device {ordinal}: driver started in {} ms, context in {} ms", millis(started), millis(began.elapsed() - started));
        let device = Arc::new(CudaDevice {
            info,
            context,
            modules: LoadedModules::default(),
            events: SpareEvents::default(),
            free: Mutex::default(),
        });
        open.insert(ordinal, Arc::clone(&device));
        Ok(device)
    }

    /// Properties.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// The device as a core type.
    pub fn id(&self) -> Device {
        Device::Cuda(self.info.ordinal)
    }

    /// Makes the context current on this thread while the guard lives. Every driver call of this crate is preceded by this.
    ///
    /// # Errors
    /// `DeviceLost`, `Driver`.
    pub(crate) fn enter(&self) -> Result<Entered<'_>, CudaError> {
        self.context.enter()
    }

    /// Whether this device can access the other's memory directly, over NVLink or PCIe. Copies between the two work either way.
    pub fn reaches(&self, other: &CudaDevice) -> bool {
        let (Ok(own), Ok(other)) = (handle(self.info.ordinal), handle(other.info.ordinal)) else { return false };
        let mut can = 0;
        // SAFETY: an out value and two valid devices.
        own != other && unsafe { sys::cuDeviceCanAccessPeer(&mut can, own, other) } == sys::CUresult::CUDA_SUCCESS && can != 0
    }

    /// Free and total device memory in bytes, as reported by the driver for all processes.
    ///
    /// # Errors
    /// `Driver`.
    pub fn memory(&self) -> Result<(u64, u64), CudaError> {
        let entered = self.enter()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: out values, with a current context.
        entered.check(unsafe { sys::cuMemGetInfo_v2(&mut free, &mut total) }, "querying free memory")?;
        Ok((free as u64, total as u64))
    }

    /// Free device memory in bytes, cached for up to a second, because querying the driver takes part of the time to open a small file.
    ///
    /// # Errors
    /// `Driver`.
    pub fn free_memory_lately(&self) -> Result<u64, CudaError> {
        let mut known = self.free.lock();
        if let Some((_, free)) = known.filter(|(asked, _)| asked.elapsed() < LATELY) {
            return Ok(free);
        }
        let (free, _) = self.memory()?;
        *known = Some((Instant::now(), free));
        Ok(free)
    }

    /// Adds the requested and free bytes to an out-of-memory error.
    pub(crate) fn explain(&self, error: CudaError, wanted_bytes: usize) -> CudaError {
        match error {
            CudaError::OutOfMemory { .. } => {
                let free_bytes = self.memory().map_or(0, |(free, _)| free);
                CudaError::OutOfMemory { wanted_bytes: wanted_bytes as u64, free_bytes }
            }
            other => other,
        }
    }

    /// Waits for all work on the device. For measurements and shutdown only.
    ///
    /// # Errors
    /// `Driver`, including errors of work queued earlier.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        let entered = self.enter()?;
        crate::Traffic::count_sync();
        // SAFETY: a current context.
        entered.check(unsafe { sys::cuCtxSynchronize() }, "waiting for the GPU")
    }
}
