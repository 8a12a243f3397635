//! The errors of this crate: wrong sizes and formats, unknown names.

use crate::PixelFormat;

/// What can be wrong with a surface, a format or a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// A device name that is not `cpu`, `cuda`, `cuda:N` or several such as `cuda:0,1`.
    #[error("unknown device '{given}'; use cpu, cuda, cuda:N, or several as cuda:0,1 or cuda:all")]
    UnknownDevice {
        /// The text as given.
        given: String,
    },
    /// A frame side of zero or beyond [`crate::surface::MAX_SIDE`].
    #[error("frame size {width}x{height} is out of range; sides go from 1 to {max}", max = crate::surface::MAX_SIDE)]
    SizeOutOfRange {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Plane memory that is shorter than its layout says.
    #[error("plane {plane} of a {format} surface holds {have} bytes, its layout needs {need}")]
    PlaneTooShort {
        /// Plane number.
        plane: usize,
        /// Pixel format of the surface.
        format: PixelFormat,
        /// Bytes present.
        have: usize,
        /// Bytes that the layout needs.
        need: usize,
    },
    /// Memory for a frame could not be allocated.
    #[error("no memory for a frame of {bytes} bytes; use smaller frames, or free memory")]
    OutOfMemory {
        /// Bytes of the frame.
        bytes: usize,
    },
    /// A mask whose grid, values and box do not belong together.
    #[error("a mask of {columns}x{rows} cells cannot have {values} values over a box of {area} square pixels")]
    BadMask {
        /// Cells in a row.
        columns: u32,
        /// Rows.
        rows: u32,
        /// Values given.
        values: usize,
        /// The box's area; 0 when it is empty, not a number when it is not finite.
        area: f32,
    },
    /// A host operation was asked of a surface in device memory.
    #[error("the frame is in device memory; put a download before this step")]
    NotOnHost,
}
