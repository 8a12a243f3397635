//! Converts errors of the lower crates to stage errors: the only place that assigns their kinds.

use framerail_core::CoreError;
use framerail_cuda::CudaError;
use framerail_infer::InferError;
use framerail_media::MediaError;
use framerail_pipeline::{ErrorKind, StageError};
use framerail_reader::ReaderError;
use framerail_vision::VisionError;

/// A failure to read.
pub(crate) fn input_error(mut error: MediaError) -> StageError {
    // `read` has another name for this option.
    if let MediaError::BadOption { name, .. } = &mut error
        && name == "video_stream"
    {
        *name = "track".into();
    }
    let kind = match &error {
        MediaError::BadOption { .. } => ErrorKind::Usage,
        MediaError::Cancelled { .. } => ErrorKind::Cancelled,
        MediaError::TooLarge { .. } | MediaError::Exhausted { .. } | MediaError::Core(CoreError::OutOfMemory { .. }) => ErrorKind::Resource,
        _ => ErrorKind::Input,
    };
    StageError::new(kind, error)
}

/// A failure to read in pieces or on a GPU.
pub(crate) fn reader_error(error: ReaderError) -> StageError {
    match error {
        ReaderError::Media(error) => input_error(error),
        ReaderError::Cuda { source_name, error } => {
            let error = cuda_error(error);
            StageError::new(error.kind, format!("{source_name}: {}", error.message))
        }
        error @ ReaderError::Program { .. } => StageError::new(ErrorKind::Internal, error),
        other => StageError::new(ErrorKind::Input, other),
    }
}

/// A failure of a GPU.
pub(crate) fn cuda_error(error: CudaError) -> StageError {
    let kind = match &error {
        CudaError::BadArgument { .. } => ErrorKind::Internal,
        CudaError::Unsupported { .. } => ErrorKind::Input,
        _ => ErrorKind::Resource,
    };
    StageError::new(kind, error)
}

/// A failure to write.
pub(crate) fn output_error(error: MediaError) -> StageError {
    let kind = match &error {
        MediaError::BadOption { .. } => ErrorKind::Usage,
        MediaError::Exhausted { .. } | MediaError::Core(CoreError::OutOfMemory { .. }) => ErrorKind::Resource,
        _ => ErrorKind::Output,
    };
    StageError::new(kind, error)
}

/// A failure of a model.
pub(crate) fn model_error(error: InferError) -> StageError {
    let kind = match &error {
        InferError::Option { .. } => ErrorKind::Usage,
        InferError::Device { .. } | InferError::Cuda { .. } | InferError::Memory { .. } => ErrorKind::Resource,
        _ => ErrorKind::Model,
    };
    StageError::new(kind, error)
}

/// A surface that a stage does not support.
pub(crate) fn vision_error(error: VisionError) -> StageError {
    StageError::new(ErrorKind::Internal, error)
}

/// The same for errors of the lower crates.
pub(crate) fn core_error(error: CoreError) -> StageError {
    let kind = if matches!(error, CoreError::OutOfMemory { .. }) { ErrorKind::Resource } else { ErrorKind::Internal };
    StageError::new(kind, error)
}
