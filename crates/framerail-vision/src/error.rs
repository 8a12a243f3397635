//! The errors of this crate: options out of range, surfaces that cannot be worked on.

use framerail_core::{CoreError, PixelFormat};

/// What can be wrong with an option, a buffer or a surface.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VisionError {
    /// The frame is in device memory, or its size is out of range.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// An option's value that makes no sense.
    #[error("{option} is {given}; give {expected}")]
    OptionOutOfRange {
        /// Name of the option.
        option: &'static str,
        /// The value as given.
        given: String,
        /// The values that are taken.
        expected: &'static str,
    },
    /// A model input of another length than the specification's.
    #[error("the model input holds {have} elements; its layout {layout} needs {need}")]
    OutputLength {
        /// Elements in the slice.
        have: usize,
        /// Elements of one picture.
        need: usize,
        /// The shape in words, such as `3x384x640`.
        layout: String,
    },
    /// The surface's memory is shared or belongs to a decoder.
    #[error("the {format} surface is shared or read-only; make the frame writable before this step")]
    NotWritable {
        /// Its pixel format.
        format: PixelFormat,
    },
    /// Two surfaces that were to be compared or joined do not match.
    #[error("surfaces differ: {left} and {right}; convert one of them first")]
    SurfacesDiffer {
        /// The first, as format and size.
        left: String,
        /// The second, as format and size.
        right: String,
    },
    /// Batches that an augmentation cannot work on, or numbers that do not fit them.
    #[error("augmentation: {0}")]
    Augmentation(String),
    /// A zone or line that cannot be watched.
    #[error("{0}")]
    Zone(String),
}

impl VisionError {
    pub(crate) fn option(option: &'static str, given: impl ToString, expected: &'static str) -> Self {
        VisionError::OptionOutOfRange { option, given: given.to_string(), expected }
    }
}
