//! Media errors, grouped by how the caller can react.

use std::{io, path::Path};

/// An error of reading, converting or writing media.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The source does not exist.
    #[error("{source_name}: no such file or stream; check the name")]
    NotFound {
        /// The source as given.
        source_name: String,
    },
    /// The source exists but is not media that FFmpeg can read.
    #[error("{source_name}: {reason}; give a video file, or name its container with the format option")]
    NotMedia {
        /// The source as given.
        source_name: String,
        /// What it is instead.
        reason: String,
    },
    /// Media without video.
    #[error("{source_name}: no video stream; it holds {found}")]
    NoVideo {
        /// The source as given.
        source_name: String,
        /// The streams that it has.
        found: String,
    },
    /// Media without audio.
    #[error("{source_name}: no audio stream; it holds {found}")]
    NoAudio {
        /// The source as given.
        source_name: String,
        /// The streams that it has.
        found: String,
    },
    /// The server cannot be reached.
    #[error("{source_name}: cannot be reached: {reason}")]
    Unreachable {
        /// The source as given.
        source_name: String,
        /// Why: unknown host name, connection refused, or no response.
        reason: String,
    },
    /// The source refers to something that it may not open, or its certificate is invalid.
    #[error("{source_name}: refused: {reason}")]
    Refused {
        /// The source as given.
        source_name: String,
        /// What was refused, and how to allow it.
        reason: String,
    },
    /// A codec, format or size that this build cannot handle.
    #[error("{what} is not supported: {reason}")]
    Unsupported {
        /// The codec, format or size.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Media that is too damaged to deliver anything.
    #[error("{source_name}: damaged, {reason}")]
    Damaged {
        /// The source as given.
        source_name: String,
        /// What is damaged.
        reason: String,
    },
    /// Frames that need more memory than allowed, or that exceed FFmpeg's size limit.
    #[error("{source_name}: frames of {width}x{height} are too large; {limit}")]
    TooLarge {
        /// The source as given.
        source_name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The limit, and what to do.
        limit: String,
    },
    /// The disk is full, or a file-size limit is reached.
    #[error("{path}: no space left; free some or write elsewhere")]
    DiskFull {
        /// The output file.
        path: String,
    },
    /// The system is out of a resource: open files, memory, threads.
    #[error("{path}: {reason}")]
    Exhausted {
        /// The file or stream.
        path: String,
        /// What is exhausted, and what to do.
        reason: String,
    },
    /// Any other I/O failure.
    #[error("{path}: {reason}")]
    Io {
        /// The file or stream.
        path: String,
        /// The system's or FFmpeg's message.
        reason: String,
    },
    /// The output already exists.
    #[error("{path} exists; choose another name, or replace it with overwrite=true (--overwrite)")]
    Exists {
        /// The output file.
        path: String,
    },
    /// The output is the same file as the input.
    #[error("{path}: output and input are the same file; choose another name")]
    SameFile {
        /// The output file.
        path: String,
    },
    /// Two outputs of a run have the same name.
    #[error("{path}: two outputs of this run have this name; give each a different name")]
    SameOutput {
        /// The output file.
        path: String,
    },
    /// Writing failed, and a usable part of the output was kept.
    #[error("{error}; the data written so far is kept as {kept}")]
    Unfinished {
        /// What went wrong.
        error: Box<MediaError>,
        /// Path of the kept file.
        kept: String,
    },
    /// The cancel token was cancelled.
    #[error("{source_name}: cancelled")]
    Cancelled {
        /// The source as given.
        source_name: String,
    },
    /// The source sent nothing for too long.
    #[error("{source_name}: nothing arrived for {seconds} s")]
    Timeout {
        /// The source as given.
        source_name: String,
        /// The time limit in seconds.
        seconds: f64,
    },
    /// An unknown option, or an invalid value.
    #[error("option '{name}': {reason}{}", nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    BadOption {
        /// The option, or the invalid value.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// The nearest valid name.
        nearest: Option<String>,
    },
    /// FFmpeg failed at something that should succeed.
    #[error("{context}: FFmpeg reports '{message}'")]
    Ffmpeg {
        /// The operation, and the file or stream.
        context: String,
        /// FFmpeg's message.
        message: String,
    },
    /// A surface of the wrong kind or size.
    #[error(transparent)]
    Core(#[from] framerail_core::CoreError),
}

impl MediaError {
    /// Whether retrying or waiting may help: a live source that went quiet, a full disk.
    pub fn is_transient(&self) -> bool {
        matches!(self, MediaError::Timeout { .. } | MediaError::DiskFull { .. })
    }

    /// Whether the request was invalid, as opposed to the media being damaged.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            MediaError::BadOption { .. } | MediaError::Exists { .. } | MediaError::SameFile { .. } | MediaError::SameOutput { .. }
        )
    }

    /// Wraps the error in `Unfinished` if a part of the output was kept.
    pub fn kept_as(self, kept: Option<&Path>) -> Self {
        match kept {
            Some(kept) => MediaError::Unfinished { error: Box::new(self), kept: kept.display().to_string() },
            None => self,
        }
    }

    /// An error for a system failure to read or write a file.
    pub fn of_io(path: &Path, error: &io::Error) -> Self {
        Self::io(path, error)
    }

    /// The error for a system that is out of open files or memory; `None` for other system errors.
    pub fn of_exhausted(path: &Path, error: &io::Error) -> Option<Self> {
        error.raw_os_error().and_then(|code| exhausted(&path.display().to_string(), code))
    }

    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        let path = path.display().to_string();
        let code = error.raw_os_error().filter(|code| *code != libc::EAGAIN);
        if let Some(exhausted) = code.and_then(|code| exhausted(&path, code)) {
            return exhausted;
        }
        match error.raw_os_error() {
            Some(code) if is_no_space(code) => MediaError::DiskFull { path },
            _ if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => MediaError::DiskFull { path },
            _ if error.kind() == io::ErrorKind::BrokenPipe => {
                MediaError::Io { reason: format!("broken pipe: the reader of {path} closed it"), path }
            }
            _ if error.kind() == io::ErrorKind::NotFound => MediaError::NotFound { source_name: path },
            _ => MediaError::Io { path, reason: system_words(error) },
        }
    }
}

/// The error for a system that is out of open files, memory or threads; `None` for other system errors.
pub(crate) fn exhausted(path: &str, errno: i32) -> Option<MediaError> {
    let reason = match errno {
        libc::EMFILE => "too many open files; raise the limit (ulimit -n), or read and write fewer files",
        libc::ENFILE => "the system has too many open files; close other programs",
        // Creating a thread fails with this code.
        libc::EAGAIN => "the system has no more threads; read fewer streams, or use fewer decoder threads (threads=)",
        libc::ENOMEM => "out of memory; use smaller frames or fewer streams",
        _ => return None,
    };
    Some(MediaError::Exhausted { path: path.to_owned(), reason: reason.into() })
}

/// The error for a failed write that FFmpeg reports with this code.
pub(crate) fn write_error(path: &str, code: i32) -> MediaError {
    // FFmpeg's codes are negated errno values.
    match exhausted(path, -code).filter(|_| -code != libc::EAGAIN) {
        _ if is_no_space(-code) => MediaError::DiskFull { path: path.to_owned() },
        Some(exhausted) => exhausted,
        None => MediaError::Io { path: path.to_owned(), reason: crate::av::error_text(code).to_lowercase() },
    }
}

/// Whether a system error means that no space is left.
pub(crate) fn is_no_space(errno: i32) -> bool {
    matches!(errno, libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
}

/// The system's message without Rust's "(os error 13)".
pub(crate) fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The candidate nearest to a name by edit distance, if close enough to be a typo.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let limit = (name.chars().count() / 3).max(2);
    let holds = |candidate: &str| name.len() > 2 && candidate.contains(name);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || holds(candidate))
        // A part of the name, such as x264 of libx264, is a better match than a similar spelling.
        .min_by_key(|(distance, candidate)| (*distance > 1 && !holds(candidate), *distance))
        .map(|(_, candidate)| candidate.to_owned())
}

/// Levenshtein distance.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name() {
        let names = ["h261", "libx264", "libx265", "ffv1", "libvpx-vp9"];
        assert_eq!(nearest("libx246", names).as_deref(), Some("libx264"));
        assert_eq!(nearest("x264", names).as_deref(), Some("libx264"));
        assert_eq!(nearest("vp9", names).as_deref(), Some("libvpx-vp9"));
        assert_eq!(nearest("something else", names), None);
    }

    #[test]
    fn a_full_disk_is_distinguished_from_other_errors() {
        let full = MediaError::io(Path::new("out.mp4"), &io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(full, MediaError::DiskFull { .. }));
        let denied = MediaError::io(Path::new("out.mp4"), &io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(denied.to_string(), "out.mp4: permission denied");
    }

    #[test]
    fn a_lack_of_open_files_is_named_when_ffmpeg_writes_too() {
        let error = write_error("out.mp4", -libc::EMFILE);
        assert!(matches!(error, MediaError::Exhausted { .. }) && error.to_string().contains("ulimit -n"), "{error}");
        assert!(matches!(write_error("out.mp4", -libc::ENOSPC), MediaError::DiskFull { .. }));
        assert_eq!(write_error("out.mp4", -libc::EAGAIN).to_string(), "out.mp4: resource temporarily unavailable");
    }
}
