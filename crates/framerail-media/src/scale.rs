//! Pixel formats and sizes through libswscale.

use framerail_core::{ColorDescription, FramePool, HostSurface, PixelFormat};

use crate::MediaError;

/// The resampling kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScaleQuality {
    /// Linear interpolation.
    Bilinear,
    /// Cubic interpolation, FFmpeg's default.
    #[default]
    Bicubic,
    /// Mean over the source area: for shrinking.
    Area,
}

/// How a [`Converter`] works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScaleOptions {
    /// The kernel.
    pub quality: ScaleQuality,
    /// Exact rounding and full chroma interpolation: slower, within 1 of the formulas.
    pub accurate: bool,
}

/// Converts surfaces; keeps its tables between calls of the same kind.
pub struct Converter {
    _options: ScaleOptions,
}

impl Converter {
    /// A converter.
    pub fn new(options: ScaleOptions) -> Self {
        Self { _options: options }
    }

    /// A copy in another format or size, by the matrix and range of `color`.
    ///
    /// # Errors
    /// `Core` for a size out of range, `Unsupported` for a pair of formats that swscale does not know.
    pub fn convert(
        &mut self,
        _source: &HostSurface,
        _color: &ColorDescription,
        _format: PixelFormat,
        _width: u32,
        _height: u32,
        _pool: &FramePool,
    ) -> Result<HostSurface, MediaError> {
        Err(MediaError::Unsupported { what: "conversion".into(), reason: "under construction".into() })
    }

    /// Surfaces converted so far.
    pub fn converted(&self) -> u64 {
        0
    }
}
