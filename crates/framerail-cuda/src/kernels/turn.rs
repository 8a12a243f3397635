//! Rotates and mirrors frames for display.

use framerail_core::Rotation;

use super::{HEADERS, RawImage, Runner, bracketed, run_with};
use crate::{CudaError, CudaStream, CudaSurface, DevicePlanes, DevicePool, KernelSource, Traffic};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "turn", code: include_str!("turn.cu"), headers: HEADERS };

/// Width and height, in samples of the output, that a block writes. As in `turn.cu`.
const TILE: u32 = 32;
/// Rows of threads in a block.
const BLOCK_ROWS: u32 = 8;

/// Same layout as `TurnParams` in `turn.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Parameters {
    from: [u64; 3],
    to: [u64; 3],
    from_pitch: [u32; 3],
    to_pitch: [u32; 3],
    columns: [u32; 3],
    rows: [u32; 3],
    step: [u8; 3],
    quarters: u8,
}

const _: () = assert!(size_of::<Parameters>() == 104);

/// Rotates a frame into memory from the pool; queued on the stream. The caller orders reads of the frame.
///
/// # Errors
/// `BadArgument` for a quarter turn of a format whose horizontal and vertical chroma subsampling differ, and for formats with more
/// than three planes; `OutOfMemory`, `Compile`, `Driver`.
pub fn turned(planes: &DevicePlanes<'_>, rotation: Rotation, pool: &DevicePool, stream: &CudaStream) -> Result<CudaSurface, CudaError> {
    let (width, height) = if rotation.swaps_sides() { (planes.height, planes.width) } else { (planes.width, planes.height) };
    let target = CudaSurface::new(pool, planes.format, width, height)?;
    Traffic::count_device_copy(target.image_bytes());
    bracketed(stream, [], [target.buffer()], || {
        // SAFETY: the view guarantees a live frame; the target has the rotated size, and its writes are bracketed.
        unsafe { turn_raw(stream, &RawImage::of_planes(planes), rotation, &RawImage::of(&target)) }
    })?;
    Ok(target)
}

/// Rotates one frame into another of the same format.
///
/// # Safety
/// Every plane is live until the work is done, has the size given by its format, dimensions and pitch, and is ordered with its other uses.
///
/// # Errors
/// `BadArgument` for formats or sizes that do not match, `Compile`, `Driver`.
pub unsafe fn turn_raw(runner: &dyn Runner, from: &RawImage, rotation: Rotation, to: &RawImage) -> Result<(), CudaError> {
    from.check()?;
    to.check()?;
    let format = from.format;
    let size = if rotation.swaps_sides() { (from.height, from.width) } else { (from.width, from.height) };
    let (shift_x, shift_y) = format.chroma_shift();
    let turnable = !rotation.swaps_sides() || shift_x == shift_y;
    if !turnable || format.planes() > 3 || rotation == Rotation::None || (to.format, to.width, to.height) != (format, size.0, size.1) {
        let sizes = format!("{}x{} to {}x{}", from.width, from.height, to.width, to.height);
        return Err(CudaError::argument(format!("no turn by {}° from {format} to {}, {sizes}", rotation.degrees(), to.format)));
    }
    let mut parameters = Parameters { quarters: (rotation.degrees() / 90) as u8, ..Parameters::default() };
    for plane in 0..format.planes() {
        let step = format.components().iter().find(|component| component.plane == plane).map_or(1, |component| component.step_bytes);
        if !matches!(step, 1 | 2 | 4) || !(from.planes[plane] | to.planes[plane]).is_multiple_of(step as u64) {
            return Err(CudaError::argument(format!("{format} frames are not rotated on the GPU")));
        }
        let (row_bytes, rows) = format.plane_size(plane, from.width, from.height);
        (parameters.from[plane], parameters.to[plane]) = (from.planes[plane], to.planes[plane]);
        (parameters.from_pitch[plane], parameters.to_pitch[plane]) = (from.pitches_bytes[plane] as u32, to.pitches_bytes[plane] as u32);
        (parameters.columns[plane], parameters.rows[plane]) = ((row_bytes / step) as u32, rows as u32);
        parameters.step[plane] = step as u8;
    }
    let grid = (to.width.div_ceil(TILE), to.height.div_ceil(TILE), format.planes() as u32);
    // SAFETY: guaranteed by the caller; sizes and pitches were checked.
    unsafe { run_with(runner, &SOURCE, "turn", (grid, (TILE, BLOCK_ROWS, 1)), &parameters) }
}
