//! Runs kernels: passes their parameters and records the events of the buffers they use.

use std::ffi::c_void;

use crate::{CudaError, CudaStream, DeviceBuffer, KernelSource, Launch};

/// Runs kernels: a stream, or a GPU emulation in tests.
pub trait Runner {
    /// Runs a kernel whose only parameter is a struct.
    ///
    /// # Safety
    /// `parameters` points to a value of the kernel's parameter type; the memory it refers to is live until the kernel has run, large
    /// enough, and ordered with its other uses.
    ///
    /// # Errors
    /// `Compile`, `Driver`.
    unsafe fn run(
        &self,
        source: &'static KernelSource,
        kernel: &'static str,
        launch: Launch,
        parameters: *const c_void,
    ) -> Result<(), CudaError>;
}

impl Runner for CudaStream {
    unsafe fn run(
        &self,
        source: &'static KernelSource,
        kernel: &'static str,
        launch: Launch,
        parameters: *const c_void,
    ) -> Result<(), CudaError> {
        let kernel = self.device().kernel(source, kernel)?;
        // SAFETY: guaranteed by the caller; the driver only reads the parameter.
        unsafe { kernel.launch(self, launch, &mut [parameters.cast_mut()]) }
    }
}

/// Runs a kernel with a struct of its parameter type.
///
/// # Safety
/// As for [`Runner::run`].
pub(super) unsafe fn run_with<P: Copy>(
    runner: &dyn Runner,
    source: &'static KernelSource,
    kernel: &'static str,
    (grid, block): ((u32, u32, u32), (u32, u32, u32)),
    parameters: &P,
) -> Result<(), CudaError> {
    let launch = Launch { grid, block, shared_bytes: 0 };
    // SAFETY: guaranteed by the caller.
    unsafe { runner.run(source, kernel, launch, std::ptr::from_ref(parameters).cast()) }
}

/// Queues work on a stream, bracketed with the buffers that it reads and writes. A buffer may be listed several times.
///
/// # Errors
/// Errors of the work, `Driver`.
pub(super) fn bracketed<'a>(
    stream: &CudaStream,
    reads: impl IntoIterator<Item = &'a DeviceBuffer>,
    writes: impl IntoIterator<Item = &'a DeviceBuffer>,
    work: impl FnOnce() -> Result<(), CudaError>,
) -> Result<(), CudaError> {
    let (reads, writes) = (distinct(reads), distinct(writes));
    for buffer in &reads {
        buffer.begin_read(stream)?;
    }
    for buffer in &writes {
        buffer.begin_write(stream)?;
    }
    work()?;
    for buffer in &reads {
        buffer.end_read(stream)?;
    }
    writes.iter().try_for_each(|buffer| buffer.end_write(stream))
}

/// Removes duplicates.
fn distinct<'a>(buffers: impl IntoIterator<Item = &'a DeviceBuffer>) -> Vec<&'a DeviceBuffer> {
    let mut distinct: Vec<&DeviceBuffer> = Vec::new();
    for buffer in buffers {
        if !distinct.iter().any(|known| std::ptr::eq(*known, buffer)) {
            distinct.push(buffer);
        }
    }
    distinct
}

/// Fills the slots of a parameter struct from the first on; the rest keep their default.
pub(super) fn slots<T: Copy + Default, const N: usize>(items: impl IntoIterator<Item = T>) -> [T; N] {
    let mut slots = [T::default(); N];
    slots.iter_mut().zip(items).for_each(|(slot, item)| *slot = item);
    slots
}
