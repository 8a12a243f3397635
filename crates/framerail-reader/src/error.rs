//! What can go wrong while reading frames.

use framerail_media::MediaError;

/// An error of reading frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// The media, or the way to it.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The card.
    #[cfg(feature = "cuda")]
    #[error("{source_name}: {error}")]
    Cuda {
        /// The source as given.
        source_name: String,
        /// What the card says.
        error: framerail_cuda::CudaError,
    },
    /// The card does not decode this stream, but a CPU may.
    #[error("{source_name}: {reason}")]
    NotOnDevice {
        /// The source as given.
        source_name: String,
        /// Why.
        reason: String,
    },
    /// A place or number that does not exist in the video.
    #[error("{source_name}: {reason}")]
    OutOfRange {
        /// The source as given.
        source_name: String,
        /// What was asked for and what there is.
        reason: String,
    },
    /// The reader was closed while a piece was decoded.
    #[error("reading was ended")]
    Closed,
}
