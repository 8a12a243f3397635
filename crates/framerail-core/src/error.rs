//! Errors of this crate: invalid sizes and formats, unknown names.

use crate::PixelFormat;

/// An error about a surface, a format or a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// An unknown device name; known are `cpu`, `cuda`, `cuda:N`, `cuda:all` and lists such as `cuda:0,1`.
    #[error("unknown device '{given}'; use cpu, cuda, cuda:N, or several as cuda:0,1 or cuda:all")]
    UnknownDevice {
        /// The text to parse.
        given: String,
    },
    /// A frame side that is zero or above [`crate::surface::MAX_SIDE`].
    #[error("frame size {width}x{height} is out of range; width and height must be from 1 to {max}", max = crate::surface::MAX_SIDE)]
    SizeOutOfRange {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A plane shorter than its layout requires.
    #[error("plane {plane} of a {format} surface holds {have} bytes, but its layout needs {need}")]
    PlaneTooShort {
        /// Plane index.
        plane: usize,
        /// Pixel format of the surface.
        format: PixelFormat,
        /// Actual size in bytes.
        have: usize,
        /// Required size in bytes.
        need: usize,
    },
    /// Allocating a frame failed.
    #[error("no memory for a frame of {bytes} bytes; use smaller frames, or free memory")]
    OutOfMemory {
        /// Size of the frame in bytes.
        bytes: usize,
    },
    /// A mask whose grid, values and box do not match.
    #[error("a mask of {columns}x{rows} cells cannot have {values} values over a box of {area} square pixels")]
    BadMask {
        /// Cells per row.
        columns: u32,
        /// Rows.
        rows: u32,
        /// Number of values.
        values: usize,
        /// Area of the box; 0 when it is empty, NaN when it is not finite.
        area: f32,
    },
    /// A host operation on a surface in device memory.
    #[error("the frame is in GPU memory; put `download` before this stage")]
    NotOnHost,
}
