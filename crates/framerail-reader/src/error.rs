//! Errors of reading frames.

use framerail_media::MediaError;

/// An error of reading frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// An error of the media file, or of access to it.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// A CUDA error.
    #[cfg(feature = "cuda")]
    #[error("{source_name}: {error}")]
    Cuda {
        /// The source as given.
        source_name: String,
        /// The CUDA error.
        error: framerail_cuda::CudaError,
    },
    /// The GPU does not decode this stream, but a CPU might.
    #[error("{source_name}: {reason}")]
    NotOnDevice {
        /// The source as given.
        source_name: String,
        /// The reason.
        reason: String,
    },
    /// A position or frame number that does not exist in the video.
    #[error("{source_name}: {reason}")]
    OutOfRange {
        /// The source as given.
        source_name: String,
        /// What was requested, and what exists.
        reason: String,
    },
    /// An invalid option or combination of options.
    #[error("option '{name}': {reason}")]
    BadOption {
        /// The option.
        name: &'static str,
        /// What is wrong with it, and how to fix it.
        reason: String,
    },
    /// A frame that was not decoded as encoded, with options that do not allow repairs.
    #[error("{source_name}: frame {number} at PTS {pts}: {reason}")]
    Decode {
        /// The source as given.
        source_name: String,
        /// Frame number.
        number: usize,
        /// Presentation time in ticks of the stream.
        pts: i64,
        /// What went wrong.
        reason: String,
    },
    /// A frame that the output cannot hold or the converter cannot convert.
    #[error("{source_name}: {error}")]
    Convert {
        /// The source as given.
        source_name: String,
        /// The converter's error.
        error: framerail_vision::VisionError,
    },
    /// A frame that differs in size from the batch, in an output that is not scaled.
    #[error(
        "{source_name}: frame {number} is {width}x{height}, the batch {expected_width}x{expected_height}; set size for tensors of one size"
    )]
    SizeChanged {
        /// The source as given.
        source_name: String,
        /// Frame number.
        number: usize,
        /// Its width.
        width: u32,
        /// Its height.
        height: u32,
        /// Width of the frames in the batch.
        expected_width: u32,
        /// Height of the frames in the batch.
        expected_height: u32,
    },
    /// The frames did not arrive in time.
    #[error("{source_name}: no frame within {seconds} s; {state}")]
    Timeout {
        /// The source as given.
        source_name: String,
        /// The timeout.
        seconds: f64,
        /// What was awaited, and the progress of the decoder.
        state: String,
    },
    /// A clip that does not exist in the video.
    #[error("{source_name}: {error}")]
    Clip {
        /// The source as given.
        source_name: String,
        /// Which option, range or clip is impossible, and what is available instead.
        error: crate::ClipError,
    },
    /// A failure of the program that provides the frames.
    #[error("{source_name}: {reason}")]
    Program {
        /// The source as given.
        source_name: String,
        /// What the program says.
        reason: String,
    },
    /// Background reading ended; an earlier call returned the full error.
    #[error("{reason}")]
    Failed {
        /// The reason.
        reason: String,
    },
    /// The reader was closed while a piece was being decoded.
    #[error("reading was cancelled")]
    Closed,
}
