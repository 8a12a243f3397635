//! Errors of CUDA operations.

use cudarc::driver::sys;

/// Why a CUDA operation failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver cannot be used on this machine.
    #[error("the CUDA driver is not available: {reason}")]
    NoDriver {
        /// The reason.
        reason: String,
    },
    /// There is no GPU with this ordinal.
    #[error("no CUDA device {ordinal}: this machine has {count}; `framerail doctor` lists them")]
    NoDevice {
        /// The requested ordinal.
        ordinal: u32,
        /// Number of GPUs.
        count: u32,
    },
    /// Device memory is exhausted.
    #[error(
        "out of device memory: {wanted_bytes} bytes were requested, {free_bytes} are free; use fewer engines, a smaller batch, or less \
         memory for frames decoded ahead"
    )]
    OutOfMemory {
        /// Requested bytes.
        wanted_bytes: u64,
        /// Free bytes, as reported by the driver.
        free_bytes: u64,
    },
    /// The device failed in a way that makes it unusable for this process; every later call returns this error again.
    #[error("CUDA device {ordinal} failed and cannot be used by this process any more; restart the process ({action}: {code}{})", describe(.message))]
    DeviceLost {
        /// Device ordinal.
        ordinal: u32,
        /// The action that reported the failure; the cause may be work queued earlier.
        action: String,
        /// The driver's name for the error, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        code: String,
        /// The driver's description.
        message: String,
    },
    /// A call to the driver failed.
    #[error("{action} failed: {code}{}", describe(.message))]
    Driver {
        /// The attempted action.
        action: String,
        /// The driver's name for the error, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        code: String,
        /// The driver's description.
        message: String,
    },
    /// The video decoder cannot be used on this machine.
    #[error("NVDEC is not available: {reason}")]
    NoDecoder {
        /// The reason.
        reason: String,
    },
    /// The GPU cannot decode this stream.
    #[error("the GPU does not decode {what}: {reason}")]
    Unsupported {
        /// The stream: codec, chroma, depth, size.
        what: String,
        /// What is supported instead.
        reason: String,
    },
    /// A kernel could not be compiled.
    #[error("compiling {kernel} failed: {reason}")]
    Compile {
        /// Name of the source.
        kernel: String,
        /// The compiler's first error messages, or why no compiler was found.
        reason: String,
    },
    /// An invalid argument, such as sizes that do not match.
    #[error("{what}")]
    BadArgument {
        /// What is invalid.
        what: String,
    },
}

fn describe(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl CudaError {
    pub(crate) fn argument(what: impl Into<String>) -> Self {
        CudaError::BadArgument { what: what.into() }
    }

    /// Whether another file, a smaller batch or the CPU may still work: true for all errors but `DeviceLost`.
    pub fn is_recoverable(&self) -> bool {
        !matches!(self, CudaError::DeviceLost { .. })
    }
}

/// Converts a driver code to a result, for calls that do not concern one device.
pub(crate) fn check(code: sys::CUresult, action: &str) -> Result<(), CudaError> {
    check_code(code as u32, action)
}

/// Like `check`, for a library that returns the driver's codes.
pub(crate) fn check_code(code: u32, action: &str) -> Result<(), CudaError> {
    const OUT_OF_MEMORY: u32 = sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY as u32;
    match code {
        0 => Ok(()),
        OUT_OF_MEMORY => Err(CudaError::OutOfMemory { wanted_bytes: 0, free_bytes: 0 }),
        code => {
            let (name, message) = name_of(code);
            Err(CudaError::Driver { action: action.to_owned(), code: name, message })
        }
    }
}

/// Name and description of a code, which may be unknown to this build.
fn name_of(code: u32) -> (String, String) {
    type Lookup = unsafe extern "C" fn(u32, *mut *const std::ffi::c_char) -> u32;
    // SAFETY: the driver was checked to be present; both functions have this signature in every version and return static strings.
    let text = |symbol: &[u8]| unsafe {
        if !sys::is_culib_present() {
            return None;
        }
        let lookup = sys::culib().get::<Lookup>(symbol).ok()?;
        let mut text = std::ptr::null();
        (lookup(code, &mut text) == 0 && !text.is_null()).then(|| std::ffi::CStr::from_ptr(text).to_string_lossy().into_owned())
    };
    (text(b"cuGetErrorName\0").unwrap_or_else(|| format!("error {code}")), text(b"cuGetErrorString\0").unwrap_or_default())
}
