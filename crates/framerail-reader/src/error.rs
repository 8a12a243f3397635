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
    /// An option, or a combination, that cannot be.
    #[error("option '{name}': {reason}")]
    BadOption {
        /// The option.
        name: &'static str,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A frame that could not be decoded as it was encoded, where the options do not allow repairs.
    #[error("{source_name}: frame {number} at PTS {pts}: {reason}")]
    Decode {
        /// The source as given.
        source_name: String,
        /// The frame.
        number: usize,
        /// Its presentation time in ticks of the stream.
        pts: i64,
        /// What went wrong.
        reason: String,
    },
    /// A picture that the output cannot hold or the converter cannot convert.
    #[error("{source_name}: {error}")]
    Convert {
        /// The source as given.
        source_name: String,
        /// What the converter says.
        error: framerail_vision::VisionError,
    },
    /// A frame of another size than the batch, in an output that is not scaled.
    #[error(
        "{source_name}: frame {number} is {width}x{height}, the batch {expected_width}x{expected_height}; set size for tensors of one size"
    )]
    SizeChanged {
        /// The source as given.
        source_name: String,
        /// The frame.
        number: usize,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// Width of the batch's pictures.
        expected_width: u32,
        /// Height of the batch's pictures.
        expected_height: u32,
    },
    /// The frames did not come in time.
    #[error("{source_name}: no frame within {seconds} s; {state}")]
    Timeout {
        /// The source as given.
        source_name: String,
        /// The limit.
        seconds: f64,
        /// What was waited for, and where the decoder stands.
        state: String,
    },
    /// A clip that the video does not have.
    #[error("{source_name}: {error}")]
    Clip {
        /// The source as given.
        source_name: String,
        /// Which option, range or clip is impossible, and what there is instead.
        error: crate::ClipError,
    },
    /// Reading in the background ended; the first to hear of it was told more.
    #[error("{reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// The reader was closed while a piece was decoded.
    #[error("reading was ended")]
    Closed,
}
