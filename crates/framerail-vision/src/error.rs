//! Errors of this crate: options out of range, and unusable surfaces.

use framerail_core::{CoreError, PixelFormat};

/// An invalid option, buffer or surface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VisionError {
    /// The frame is in device memory, or its size is out of range.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// An option has an invalid value.
    #[error("{option} is {given}; give {expected}")]
    OptionOutOfRange {
        /// Name of the option.
        option: &'static str,
        /// The given value.
        given: String,
        /// The accepted values.
        expected: &'static str,
    },
    /// The length of a model input differs from the specification.
    #[error("the model input holds {have} elements; its layout {layout} needs {need}")]
    OutputLength {
        /// Elements in the slice.
        have: usize,
        /// Elements of one frame.
        need: usize,
        /// The shape as text, such as `3x384x640`.
        layout: String,
    },
    /// The surface's memory is shared or belongs to a decoder.
    #[error("the {format} surface is shared or read-only; make the frame writable before this step")]
    NotWritable {
        /// The surface's pixel format.
        format: PixelFormat,
    },
    /// Two surfaces to be compared or joined do not match.
    #[error("surfaces differ: {left} and {right}; convert one of them first")]
    SurfacesDiffer {
        /// Format and size of the first surface.
        left: String,
        /// Format and size of the second surface.
        right: String,
    },
    /// An augmentation's batch is invalid, or its parameters do not fit the batch.
    #[error("augmentation: {0}")]
    Augmentation(String),
    /// A zone or line is invalid.
    #[error("{0}")]
    Zone(String),
}

impl VisionError {
    pub(crate) fn option(option: &'static str, given: impl ToString, expected: &'static str) -> Self {
        VisionError::OptionOutOfRange { option, given: given.to_string(), expected }
    }
}
