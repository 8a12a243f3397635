//! Single pictures: PNG and JPEG.

use std::path::Path;

use framerail_core::{Frame, FramePool, HostSurface};

use crate::MediaError;

/// Saves a frame as PNG or JPEG, by the file name's extension. `jpeg_quality` goes from 1 to 100.
///
/// # Errors
/// `BadOption` for another extension, `Io`, `DiskFull`.
pub fn save_image(_frame: &Frame, _path: &Path, _jpeg_quality: u8) -> Result<(), MediaError> {
    Err(MediaError::Unsupported { what: "saving".into(), reason: "under construction".into() })
}

/// Reads a picture as RGBA.
///
/// # Errors
/// `NotFound`, `NotMedia`, `Damaged`.
pub fn load_image(_path: &Path, _pool: &FramePool) -> Result<HostSurface, MediaError> {
    Err(MediaError::Unsupported { what: "loading".into(), reason: "under construction".into() })
}
