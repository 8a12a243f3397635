//! Converts surfaces between plane layouts.

use framerail_core::PixelFormat;

use super::{HEADERS, RawImage, Runner, bracketed, run_with};
use crate::{CudaError, CudaStream, CudaSurface, DevicePool, KernelSource, Traffic};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "copy", code: include_str!("copy.cu"), headers: HEADERS };

/// Samples per row that a block copies. As in `copy.cu`.
const BLOCK_COLUMNS: u32 = 256;
/// Rows that a block copies.
const BLOCK_ROWS: u32 = 8;

/// Same layout as `RepackParams` in `copy.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Parameters {
    from: [u64; 3],
    to: [u64; 3],
    from_pitch: [u32; 2],
    to_pitch: [u32; 2],
    width: [u32; 2],
    height: [u32; 2],
    from_step: [u8; 2],
    to_step: [u8; 2],
    sample_bytes: u8,
    from_shift: u8,
    to_shift: u8,
    unused: u8,
}

const _: () = assert!(size_of::<Parameters>() == 88);

/// The planar counterpart of a format with interleaved chroma, and vice versa; both hold the same samples.
///
/// NV12 and yuv420p, P010 and yuv420p10; `None` for others.
pub fn repacked_format(format: PixelFormat) -> Option<PixelFormat> {
    match format {
        PixelFormat::Nv12 => Some(PixelFormat::Yuv420p),
        PixelFormat::Yuv420p => Some(PixelFormat::Nv12),
        PixelFormat::P010 => Some(PixelFormat::Yuv420p10),
        PixelFormat::Yuv420p10 => Some(PixelFormat::P010),
        _ => None,
    }
}

/// Copies a surface to the format given by [`repacked_format`], for host encoders or kernels.
///
/// # Errors
/// `BadArgument` for a format without counterpart, `OutOfMemory`, `Compile`, `Driver`.
pub fn repacked(surface: &CudaSurface, pool: &DevicePool, stream: &CudaStream) -> Result<CudaSurface, CudaError> {
    let format = surface.format();
    let other = repacked_format(format).ok_or_else(|| CudaError::argument(format!("{format} surfaces are not repacked")))?;
    let copy = CudaSurface::new(pool, other, surface.width(), surface.height())?;
    Traffic::count_device_copy(copy.image_bytes());
    bracketed(stream, [surface.buffer()], [copy.buffer()], || {
        // SAFETY: two live surfaces of known size, bracketed by their events.
        unsafe { repack_raw(stream, &RawImage::of(surface), &RawImage::of(&copy)) }
    })?;
    Ok(copy)
}

/// Copies the samples of one frame to another of the same size, in the same format or its [`repacked_format`].
///
/// # Safety
/// Every plane is live until the work is done, has the size given by its format, dimensions and pitch, and is ordered with its other uses.
///
/// # Errors
/// `BadArgument` for formats or sizes that do not match, `Compile`, `Driver`.
pub unsafe fn repack_raw(runner: &dyn Runner, from: &RawImage, to: &RawImage) -> Result<(), CudaError> {
    from.check()?;
    to.check()?;
    let fitting = from.format == to.format || repacked_format(from.format) == Some(to.format);
    if !fitting || (from.width, from.height) != (to.width, to.height) {
        let sizes = format!("{}x{} to {}x{}", from.width, from.height, to.width, to.height);
        return Err(CudaError::argument(format!("no copy from {} to {}, {sizes}", from.format, to.format)));
    }
    let components = from.format.color_components().len();
    let size = [0, 1].map(|index| from.format.component_size(index, from.width, from.height));
    let (from_layout, to_layout) = (from.sample_layout(), to.sample_layout());
    let ((from_components, from_pitch), (to_components, to_pitch)) = (from.components()?, to.components()?);
    let parameters = Parameters {
        from: from_components,
        to: to_components,
        from_pitch,
        to_pitch,
        width: size.map(|size| size.0),
        height: size.map(|size| size.1),
        from_step: from_layout.step,
        to_step: to_layout.step,
        sample_bytes: from_layout.sample_bytes,
        from_shift: from_layout.value_shift,
        to_shift: to_layout.value_shift,
        unused: 0,
    };
    let grid = (from.width.div_ceil(BLOCK_COLUMNS), from.height.div_ceil(BLOCK_ROWS), components as u32);
    // SAFETY: guaranteed by the caller; sizes and pitches were checked.
    unsafe { run_with(runner, &SOURCE, "repack", (grid, (32, BLOCK_ROWS, 1)), &parameters) }
}
