//! Errors of the crates below as errors of a stage: the one place that knows what each calls for.

use framerail_core::CoreError;
use framerail_cuda::CudaError;
use framerail_infer::InferError;
use framerail_media::MediaError;
use framerail_pipeline::{ErrorKind, StageError};
use framerail_reader::ReaderError;
use framerail_vision::VisionError;

/// A failure of reading.
pub(crate) fn input_error(mut error: MediaError) -> StageError {
    // `read` calls it otherwise.
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

/// A failure of reading in pieces or on a card.
pub(crate) fn reader_error(error: ReaderError) -> StageError {
    match error {
        ReaderError::Media(error) => input_error(error),
        ReaderError::Cuda { source_name, error } => {
            let error = cuda_error(error);
            StageError::new(error.kind, format!("{source_name}: {}", error.message))
        }
        other => StageError::new(ErrorKind::Input, other),
    }
}

/// A failure of a card.
pub(crate) fn cuda_error(error: CudaError) -> StageError {
    let kind = match &error {
        CudaError::BadArgument { .. } => ErrorKind::Internal,
        CudaError::Unsupported { .. } => ErrorKind::Input,
        _ => ErrorKind::Resource,
    };
    StageError::new(kind, error)
}

/// A failure of writing.
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

/// A surface of a kind that a stage cannot work on.
pub(crate) fn vision_error(error: VisionError) -> StageError {
    StageError::new(ErrorKind::Internal, error)
}

/// The same from below.
pub(crate) fn core_error(error: CoreError) -> StageError {
    let kind = if matches!(error, CoreError::OutOfMemory { .. }) { ErrorKind::Resource } else { ErrorKind::Internal };
    StageError::new(kind, error)
}
