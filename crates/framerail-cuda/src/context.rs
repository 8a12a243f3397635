//! Makes a CUDA context current on a thread for the duration of our calls, and restores the previous one.
//!
//! A process shares its contexts with other libraries, such as PyTorch, whose current device is the thread's current context.
//! Code here must therefore always restore the context it found.

use std::{fmt, marker::PhantomData, sync::OnceLock};

use cudarc::driver::sys;

use crate::error::{CudaError, check_code};

/// The driver calls on a thread's context stack.
#[derive(Clone, Copy)]
struct StackCalls {
    push: unsafe fn(sys::CUcontext) -> sys::CUresult,
    pop: unsafe fn(*mut sys::CUcontext) -> sys::CUresult,
}

#[expect(clippy::disallowed_methods, reason = "the one place from which the guard calls it")]
const DRIVER: StackCalls = StackCalls { push: sys::cuCtxPushCurrent_v2, pop: sys::cuCtxPopCurrent_v2 };

/// A device's primary context. The driver's handle is private to this module, so [`Context::enter`] is the only way to make it
/// current.
pub(crate) struct Context {
    ordinal: u32,
    handle: sys::CUcontext,
    calls: StackCalls,
    /// The error that made the device unusable for this process.
    failure: OnceLock<CudaError>,
}

// SAFETY: any thread may push the driver's contexts.
unsafe impl Send for Context {}
// SAFETY: as above; the failure is set once.
unsafe impl Sync for Context {}

impl Context {
    /// Retains a device's primary context for the lifetime of the process.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub(crate) fn retain(ordinal: u32, device: sys::CUdevice) -> Result<Self, CudaError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: an out value and a valid device.
        let code = unsafe { sys::cuDevicePrimaryCtxRetain(&mut handle, device) };
        check_code(code as u32, &format!("opening CUDA device {ordinal}"))?;
        Ok(Self { ordinal, handle, calls: DRIVER, failure: OnceLock::new() })
    }

    /// Makes the context current on this thread until the guard is dropped.
    ///
    /// # Errors
    /// `DeviceLost` after an unrecoverable device error; `Driver`.
    pub(crate) fn enter(&self) -> Result<Entered<'_>, CudaError> {
        if let Some(failure) = self.failure.get() {
            return Err(failure.clone());
        }
        // SAFETY: the context lives as long as the process.
        let code = unsafe { (self.calls.push)(self.handle) };
        self.check(code as u32, "using the device")?;
        Ok(Entered { context: self, of_thread: PhantomData })
    }

    /// Converts a driver code to a result. An error that makes the device unusable is stored and returned by all later calls.
    fn check(&self, code: u32, action: &str) -> Result<(), CudaError> {
        check_code(code, action).map_err(|error| match error {
            CudaError::Driver { action, code: name, message } if is_sticky(code) => {
                self.failure.get_or_init(|| CudaError::DeviceLost { ordinal: self.ordinal, action, code: name, message }).clone()
            }
            error => error,
        })
    }
}

/// A guard while a device's context is current. Dropping it restores the previous context.
#[must_use = "the context is current only while this value lives"]
pub(crate) struct Entered<'a> {
    context: &'a Context,
    /// Not `Send`: the context stack belongs to the thread.
    of_thread: PhantomData<*const ()>,
}

impl Entered<'_> {
    /// Converts the driver code of a call on this device to a result.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`, `Driver`.
    pub(crate) fn check(&self, code: sys::CUresult, action: &str) -> Result<(), CudaError> {
        self.context.check(code as u32, action)
    }

    /// Like `check`, for another library that returns the driver's codes.
    ///
    /// # Errors
    /// As [`Entered::check`].
    pub(crate) fn check_code(&self, code: u32, action: &str) -> Result<(), CudaError> {
        self.context.check(code, action)
    }

    /// Queues a copy from another device's memory, over the link between them or through the host.
    ///
    /// # Errors
    /// `DeviceLost`, `Driver`.
    ///
    /// # Safety
    /// Both ranges are live device memory until the copy is done and ordered with their other uses; the stream belongs to this context.
    pub(crate) unsafe fn copy_from_peer(
        &self,
        to: u64,
        (source, from): (&Context, u64),
        bytes: usize,
        stream: sys::CUstream,
    ) -> Result<(), CudaError> {
        // SAFETY: guaranteed by the caller; both contexts live as long as the process.
        let code = unsafe { sys::cuMemcpyPeerAsync(to, self.context.handle, from, source.handle, bytes, stream) };
        self.check(code, "copying from another GPU")
    }

    /// Records an event after all work queued in the context, on any stream. If the driver does not support this (before CUDA
    /// 12.5), synchronises the context instead.
    ///
    /// # Errors
    /// `DeviceLost`, `Driver`; also fails while a stream of the context is being captured into a graph.
    pub(crate) fn record_all(&self, event: sys::CUevent) -> Result<(), CudaError> {
        type Record = unsafe extern "C" fn(sys::CUcontext, sys::CUevent) -> u32;
        // SAFETY: the function has this signature in every driver version that exports it (cuda.h).
        if let Ok(record) = unsafe { sys::culib().get::<Record>(b"cuCtxRecordEvent\0") } {
            // SAFETY: a live context and one of its live events.
            match self.check_code(unsafe { record(self.context.handle, event) }, "recording an event") {
                Err(CudaError::Driver { .. }) => {}
                done => return done,
            }
        }
        crate::Traffic::count_sync();
        // SAFETY: the context is current.
        self.check(unsafe { sys::cuCtxSynchronize() }, "waiting for the GPU")
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = std::ptr::null_mut();
        // SAFETY: pushed by `enter` on this thread, which the guard cannot leave.
        let code = unsafe { (self.context.calls.pop)(&mut popped) };
        if code != sys::CUresult::CUDA_SUCCESS || popped != self.context.handle {
            log::debug!("the CUDA context of device {} was not current when its use ended (error {})", self.context.ordinal, code as u32);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({})", self.ordinal)
    }
}

/// Errors after which all later calls on the context fail, until the process ends (CUDA driver API, `CUresult`).
fn is_sticky(code: u32) -> bool {
    const NAMED: [sys::CUresult; 14] = [
        sys::CUresult::CUDA_ERROR_DEINITIALIZED,
        sys::CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
        sys::CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
        sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
        sys::CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
        sys::CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
        sys::CUresult::CUDA_ERROR_ASSERT,
        sys::CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
        sys::CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
        sys::CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
        sys::CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
        sys::CUresult::CUDA_ERROR_INVALID_PC,
        sys::CUresult::CUDA_ERROR_LAUNCH_FAILED,
        sys::CUresult::CUDA_ERROR_MPS_RPC_FAILURE,
    ];
    // Newer than the bindings: a contained memory error, a tensor memory leak, and a terminated MPS client.
    const NUMBERED: [u32; 4] = [226, 721, 810, sys::CUresult::CUDA_ERROR_EXTERNAL_DEVICE as u32];
    NAMED.iter().any(|known| *known as u32 == code) || NUMBERED.contains(&code)
}

/// Restores the calling thread's CUDA context when dropped; for calls to libraries that change it, such as ONNX Runtime, on threads
/// that we did not create.
#[must_use = "the context is brought back when this value is dropped"]
pub struct KeptContext {
    current: Option<sys::CUcontext>,
}

impl fmt::Debug for KeptContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptContext")
    }
}

impl KeptContext {
    /// Saves the context that is current on this thread; does nothing without a driver.
    pub fn note() -> Self {
        // SAFETY: only searches for the library.
        if !*DRIVER_IS_HERE.get_or_init(|| unsafe { sys::is_culib_present() }) {
            return Self { current: None };
        }
        let mut current = std::ptr::null_mut();
        // SAFETY: an out value. An uninitialised driver returns an error, and no context is current then.
        unsafe { sys::cuCtxGetCurrent(&mut current) };
        Self { current: Some(current) }
    }
}

static DRIVER_IS_HERE: OnceLock<bool> = OnceLock::new();

impl Drop for KeptContext {
    #[expect(clippy::disallowed_methods, reason = "the caller's own context, as it was found")]
    fn drop(&mut self) {
        let Some(before) = self.current else { return };
        let mut now = std::ptr::null_mut();
        // SAFETY: an out value; then a context that was current on this thread a moment ago.
        unsafe {
            if sys::cuCtxGetCurrent(&mut now) == sys::CUresult::CUDA_SUCCESS && now != before {
                sys::cuCtxSetCurrent(before);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    thread_local! {
        /// The mock driver's context stack of this thread, and its result for a push.
        static STACK: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
        static ANSWER: RefCell<sys::CUresult> = const { RefCell::new(sys::CUresult::CUDA_SUCCESS) };
    }

    unsafe fn push(context: sys::CUcontext) -> sys::CUresult {
        let answer = ANSWER.with(|answer| *answer.borrow());
        if answer == sys::CUresult::CUDA_SUCCESS {
            STACK.with(|stack| stack.borrow_mut().push(context.addr()));
        }
        answer
    }

    unsafe fn pop(popped: *mut sys::CUcontext) -> sys::CUresult {
        let top = STACK.with(|stack| stack.borrow_mut().pop());
        // SAFETY: the guard's out value.
        unsafe { *popped = std::ptr::without_provenance_mut(top.unwrap_or(0)) };
        if top.is_some() { sys::CUresult::CUDA_SUCCESS } else { sys::CUresult::CUDA_ERROR_INVALID_CONTEXT }
    }

    fn context(handle: usize) -> Context {
        let handle: sys::CUcontext = std::ptr::without_provenance_mut(handle);
        Context { ordinal: handle.addr() as u32, handle, calls: StackCalls { push, pop }, failure: OnceLock::new() }
    }

    fn stack() -> Vec<usize> {
        STACK.with(|stack| stack.borrow().clone())
    }

    #[test]
    fn what_was_current_is_current_again_whatever_happens_inside() {
        // The caller's context is on the stack; two devices are used, one nested in the other.
        STACK.with(|stack| stack.borrow_mut().push(99));
        let (one, two) = (context(1), context(2));
        {
            let _one = one.enter().expect("pushes");
            assert_eq!(stack(), [99, 1]);
            let failed = || -> Result<(), CudaError> {
                let two = two.enter()?;
                assert_eq!(stack(), [99, 1, 2]);
                two.check(sys::CUresult::CUDA_ERROR_INVALID_VALUE, "trying")
            };
            assert!(matches!(failed(), Err(CudaError::Driver { .. })));
            assert_eq!(stack(), [99, 1], "an error pops as well");
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _two = two.enter().expect("pushes");
                panic!("inside");
            }));
            assert!(panicked.is_err());
            assert_eq!(stack(), [99, 1], "so does a panic");
        }
        assert_eq!(stack(), [99]);
        STACK.with(|stack| stack.borrow_mut().clear());
    }

    #[test]
    fn a_failed_push_pops_nothing() {
        ANSWER.with(|answer| *answer.borrow_mut() = sys::CUresult::CUDA_ERROR_INVALID_CONTEXT);
        STACK.with(|stack| stack.borrow_mut().push(99));
        assert!(context(1).enter().is_err());
        assert_eq!(stack(), [99]);
        ANSWER.with(|answer| *answer.borrow_mut() = sys::CUresult::CUDA_SUCCESS);
        STACK.with(|stack| stack.borrow_mut().clear());
    }

    #[test]
    fn an_error_that_ends_a_device_is_given_once_and_for_all_on_that_device_alone() {
        let (failed, sound) = (context(1), context(2));
        let first = failed.enter().expect("pushes").check(sys::CUresult::CUDA_ERROR_ILLEGAL_ADDRESS, "waiting for a stream");
        let Err(first @ CudaError::DeviceLost { ordinal: 1, .. }) = first else { panic!("not the end of the device: {first:?}") };
        assert!(first.to_string().contains("CUDA device 1") && first.to_string().contains("restart the process"), "{first}");
        assert_eq!(failed.enter().map(drop), Err(first.clone()), "the same error, and no call of the driver");
        assert_eq!(stack(), []);
        assert!(!first.is_recoverable() && sound.enter().is_ok());
    }

    #[test]
    fn every_error_after_which_a_context_is_of_no_use_counts() {
        let ends = [4, 214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 806, 810, 911];
        let passes = [1, 2, 100, 200, 209, 222, 400, 500, 600, 701, 720, 800, 801, 900, 906, 909, 999];
        for code in ends {
            assert!(is_sticky(code), "{code}");
        }
        for code in passes {
            assert!(!is_sticky(code), "{code}");
        }
    }
}
