//! Maps each error to a Python exception. The package's own classes are in `framerail/errors.py`.

use std::fmt::Display;

use framerail::{
    cuda::CudaError,
    media::MediaError,
    pipeline::{Diagnostics, ErrorKind, RunError, StageError},
    reader::ReaderError,
    vision::VisionError,
};
use framerail_serve::ServeError;
use pyo3::{
    exceptions::{
        PyConnectionError, PyFileExistsError, PyFileNotFoundError, PyIndexError, PyKeyboardInterrupt, PyMemoryError, PyOSError,
        PyPermissionError, PyRuntimeError, PyTimeoutError, PyValueError,
    },
    prelude::*,
};

/// A message as Python spells it: options as keywords, and functions in place of the program's options and commands.
pub fn for_python(message: &str) -> String {
    let message = message.replace(" (--overwrite)", "").replace("--memory", "memory=").replace("`framerail doctor`", "framerail.doctor()");
    let word = |word: &str| {
        let end = word.trim_end_matches([';', ',', '.', ':', ')']).len();
        let (option, rest) = word.split_at(end);
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match option.split_once('=') {
            Some((name, "yes" | "true")) if is_name(name) => format!("{name}=True{rest}"),
            Some((name, "no" | "false")) if is_name(name) => format!("{name}=False{rest}"),
            _ => word.to_owned(),
        }
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// An exception class of `framerail.errors`, created with these arguments.
fn own(py: Python<'_>, class: &str, arguments: impl for<'py> pyo3::call::PyCallArgs<'py>) -> PyErr {
    let made = || py.import("framerail.errors")?.getattr(class)?.call1(arguments);
    made().map_or_else(|error| error, PyErr::from_value)
}

fn decode(py: Python<'_>, error: &dyn Display, source: &str, frame: Option<usize>, pts: Option<i64>) -> PyErr {
    own(py, "DecodeError", (for_python(&error.to_string()), source, frame, pts))
}

/// The message of the GPU or its driver.
pub fn cuda(py: Python<'_>, error: &dyn Display) -> PyErr {
    own(py, "CudaError", (for_python(&error.to_string()),))
}

fn unsupported(py: Python<'_>, error: &dyn Display) -> PyErr {
    own(py, "UnsupportedError", (for_python(&error.to_string()),))
}

/// An error of reading.
pub fn reader(py: Python<'_>, error: &ReaderError) -> PyErr {
    let words = for_python(&error.to_string());
    match error {
        ReaderError::Media(error) => media(py, error),
        ReaderError::Cuda { error: CudaError::Unsupported { .. }, .. } | ReaderError::NotOnDevice { .. } => unsupported(py, error),
        ReaderError::Cuda { .. } => cuda(py, error),
        ReaderError::OutOfRange { .. } => PyIndexError::new_err(words),
        ReaderError::BadOption { .. } | ReaderError::Clip { .. } => PyValueError::new_err(words),
        ReaderError::Decode { source_name, number, pts, .. } => decode(py, error, source_name, Some(*number), Some(*pts)),
        ReaderError::SizeChanged { source_name, number, .. } => decode(py, error, source_name, Some(*number), None),
        ReaderError::Convert { error: VisionError::OptionOutOfRange { .. }, .. } => PyValueError::new_err(words),
        ReaderError::Convert { .. } => unsupported(py, error),
        ReaderError::Timeout { .. } => PyTimeoutError::new_err(words),
        _ => PyRuntimeError::new_err(words),
    }
}

/// An error of media, or the way to it.
pub fn media(py: Python<'_>, error: &MediaError) -> PyErr {
    let words = for_python(&error.to_string()).replace("option 'video_stream'", "option 'stream'");
    // The kept part of a file does not change the kind.
    let kind = if let MediaError::Unfinished { error, .. } = error { error } else { error };
    match kind {
        MediaError::NotFound { .. } => PyFileNotFoundError::new_err(words),
        MediaError::NotMedia { source_name, .. }
        | MediaError::NoVideo { source_name, .. }
        | MediaError::NoAudio { source_name, .. }
        | MediaError::Damaged { source_name, .. } => decode(py, error, source_name, None, None),
        MediaError::Ffmpeg { context, .. } => decode(py, error, context, None, None),
        MediaError::Unsupported { .. } => unsupported(py, error),
        MediaError::Io { reason, .. } if reason.contains("permission denied") => PyPermissionError::new_err(words),
        MediaError::Io { .. } | MediaError::DiskFull { .. } => PyOSError::new_err(words),
        MediaError::Unreachable { .. } => PyConnectionError::new_err(words),
        MediaError::Refused { .. } => PyPermissionError::new_err(words),
        MediaError::Exists { .. } => PyFileExistsError::new_err(words),
        MediaError::BadOption { .. } | MediaError::SameFile { .. } => PyValueError::new_err(words),
        MediaError::TooLarge { .. } => PyMemoryError::new_err(words),
        MediaError::Timeout { .. } => PyTimeoutError::new_err(words),
        MediaError::Cancelled { .. } => PyKeyboardInterrupt::new_err(words),
        _ => PyRuntimeError::new_err(words),
    }
}

/// Errors of a pipeline before it runs, including the position in its text.
pub fn diagnostics(py: Python<'_>, error: &Diagnostics) -> PyErr {
    // Lines of the pipeline's text stay as they were given.
    let is_message = |line: &&str| line.starts_with("error:") || line.trim_start().starts_with("help:");
    let line = |line: &str| if is_message(&line) { for_python(line) } else { line.to_owned() };
    let words: Vec<String> = error.render(false).lines().map(line).collect();
    pipeline(py, error.kind(), &words.join("\n"), None)
}

/// The first failure of a run.
pub fn run(py: Python<'_>, error: &RunError) -> PyErr {
    pipeline(py, error.kind(), &for_python(&error.to_string()), Some(&error.stage))
}

/// Why a run cannot be served.
pub fn serve(py: Python<'_>, error: &ServeError) -> PyErr {
    pipeline(py, error.kind(), &for_python(&format!("serve: {error}")), None)
}

/// Why a stage, or the export of a run, cannot do what was asked.
pub fn stage(py: Python<'_>, error: &StageError) -> PyErr {
    pipeline(py, error.kind, &for_python(&error.message), None)
}

fn pipeline(py: Python<'_>, kind: ErrorKind, words: &str, stage: Option<&str>) -> PyErr {
    let (class, kind, exit_code) = match kind {
        ErrorKind::Usage => ("PipelineUsageError", "usage", 2),
        ErrorKind::Input => ("PipelineError", "input", 3),
        ErrorKind::Output => ("PipelineError", "output", 4),
        ErrorKind::Model => ("PipelineError", "model", 5),
        ErrorKind::Resource => ("PipelineError", "resource", 6),
        ErrorKind::Cancelled => ("PipelineError", "cancelled", 130),
        _ => ("PipelineError", "internal", 1),
    };
    own(py, class, (words, kind, exit_code, stage))
}
