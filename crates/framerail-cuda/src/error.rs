//! What can go wrong on a device.

use cudarc::driver::sys;

/// Why something on a device failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver cannot be used on this machine.
    #[error("no CUDA driver: {reason}")]
    NoDriver {
        /// Why.
        reason: String,
    },
    /// There is no card with this number.
    #[error("no CUDA device {ordinal}: this machine has {count}; `framerail doctor` lists them")]
    NoDevice {
        /// The number asked for.
        ordinal: u32,
        /// Cards there are.
        count: u32,
    },
    /// Device memory is used up.
    #[error(
        "out of device memory: {wanted_bytes} bytes were requested, {free_bytes} are free; use fewer engines, a smaller batch, or less \
         memory for frames decoded ahead"
    )]
    OutOfMemory {
        /// Bytes asked for.
        wanted_bytes: u64,
        /// Bytes that the driver said were free.
        free_bytes: u64,
    },
    /// The device failed in a way that ends its use by this process; every later call gives this error again.
    #[error("CUDA device {ordinal} failed and cannot be used by this process any more; restart the process ({action}: {code}{})", describe(.message))]
    DeviceLost {
        /// Its number.
        ordinal: u32,
        /// What was being done when the failure showed; the cause may be work that was queued before.
        action: String,
        /// The driver's name for the error, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        code: String,
        /// The driver's words.
        message: String,
    },
    /// A call to the driver failed.
    #[error("{action} failed: {code}{}", describe(.message))]
    Driver {
        /// What was being done.
        action: String,
        /// The driver's name for the error, such as `CUDA_ERROR_ILLEGAL_ADDRESS`.
        code: String,
        /// The driver's words.
        message: String,
    },
    /// The video decoder cannot be used on this machine.
    #[error("no NVDEC: {reason}")]
    NoDecoder {
        /// Why.
        reason: String,
    },
    /// The card cannot decode this stream.
    #[error("the GPU does not decode {what}: {reason}")]
    Unsupported {
        /// The stream: codec, chroma, depth, size.
        what: String,
        /// What it can do instead.
        reason: String,
    },
    /// A kernel could not be compiled.
    #[error("compiling {kernel} failed: {reason}")]
    Compile {
        /// Name of the source.
        kernel: String,
        /// The compiler's first words, or why there is no compiler.
        reason: String,
    },
    /// A caller's mistake: sizes that do not fit.
    #[error("{what}")]
    BadArgument {
        /// What does not fit.
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

    /// Whether another file, a smaller batch or the CPU may still work: everything but a device that has failed for good.
    pub fn is_recoverable(&self) -> bool {
        !matches!(self, CudaError::DeviceLost { .. })
    }
}

/// Turns the answer of a call that is not about one device into a result.
pub(crate) fn check(code: sys::CUresult, action: &str) -> Result<(), CudaError> {
    check_code(code as u32, action)
}

/// The same for a code from a library that answers in the driver's codes.
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

/// Name and words for a code that this build may not know.
fn name_of(code: u32) -> (String, String) {
    type Lookup = unsafe extern "C" fn(u32, *mut *const std::ffi::c_char) -> u32;
    // SAFETY: checked before; the two functions have this signature in every version of the driver, and give static strings.
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
