//! How kernels are run: their parameters, and the marks of the buffers that they touch.

use std::ffi::c_void;

use crate::{CudaError, CudaStream, DeviceBuffer, KernelSource, Launch};

/// Where kernels run: a stream, or an imitation of a card.
pub trait Runner {
    /// Runs a kernel whose only parameter is a structure.
    ///
    /// # Safety
    /// `parameters` points to a value of the kernel's type; the memory that it names is live until the kernel has run, large
    /// enough for it, and ordered with its other uses.
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
        // SAFETY: the caller's word; the driver only reads the parameter.
        unsafe { kernel.launch(self, launch, &mut [parameters.cast_mut()]) }
    }
}

/// Runs a kernel with a structure of its type.
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
    // SAFETY: the caller's word.
    unsafe { runner.run(source, kernel, launch, std::ptr::from_ref(parameters).cast()) }
}

/// Puts work on a stream between the marks of the buffers that it reads and writes. A buffer may be named several times.
///
/// # Errors
/// Those of the work, `Driver`.
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

/// Each buffer once.
fn distinct<'a>(buffers: impl IntoIterator<Item = &'a DeviceBuffer>) -> Vec<&'a DeviceBuffer> {
    let mut distinct: Vec<&DeviceBuffer> = Vec::new();
    for buffer in buffers {
        if !distinct.iter().any(|known| std::ptr::eq(*known, buffer)) {
            distinct.push(buffer);
        }
    }
    distinct
}

/// The places of a parameter structure, filled from the first on.
pub(super) fn slots<T: Copy + Default, const N: usize>(items: impl IntoIterator<Item = T>) -> [T; N] {
    let mut slots = [T::default(); N];
    slots.iter_mut().zip(items).for_each(|(slot, item)| *slot = item);
    slots
}
