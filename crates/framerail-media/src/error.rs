//! What can go wrong with media, cut by what the caller can do about it.

use std::{io, path::Path};

/// An error of reading, converting or writing media.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The source is not there.
    #[error("{source_name}: no such file or stream; check the name")]
    NotFound {
        /// The source as given.
        source_name: String,
    },
    /// The source is there but is not media that FFmpeg knows.
    #[error("{source_name}: {reason}; give a video file, or name its container with the format option")]
    NotMedia {
        /// The source as given.
        source_name: String,
        /// What it is instead.
        reason: String,
    },
    /// Media without a picture.
    #[error("{source_name}: no video stream; it holds {found}")]
    NoVideo {
        /// The source as given.
        source_name: String,
        /// What it holds.
        found: String,
    },
    /// Media without audio.
    #[error("{source_name}: no audio stream; it holds {found}")]
    NoAudio {
        /// The source as given.
        source_name: String,
        /// What it holds.
        found: String,
    },
    /// A server that cannot be reached.
    #[error("{source_name}: cannot be reached: {reason}")]
    Unreachable {
        /// The source as given.
        source_name: String,
        /// Why: its name is not known, it refuses connections, it is silent.
        reason: String,
    },
    /// Something that a source may not have opened on its behalf, or a certificate that does not hold.
    #[error("{source_name}: refused: {reason}")]
    Refused {
        /// The source as given.
        source_name: String,
        /// What, and how to allow it.
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
    /// Media so damaged that nothing can be delivered.
    #[error("{source_name}: damaged, {reason}")]
    Damaged {
        /// The source as given.
        source_name: String,
        /// What is broken.
        reason: String,
    },
    /// Pictures that need more memory than is allowed, or that FFmpeg does not decode for their size.
    #[error("{source_name}: frames of {width}x{height} are too large; {limit}")]
    TooLarge {
        /// The source as given.
        source_name: String,
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// The limit, and what to do.
        limit: String,
    },
    /// The disk, or a size limit, is exhausted.
    #[error("{path}: no space left; free some or write elsewhere")]
    DiskFull {
        /// The output file.
        path: String,
    },
    /// The system has no more of something: open files, memory, threads.
    #[error("{path}: {reason}")]
    Exhausted {
        /// The file or stream.
        path: String,
        /// What is exhausted, and what to do.
        reason: String,
    },
    /// Any other failure of input or output.
    #[error("{path}: {reason}")]
    Io {
        /// The file or stream.
        path: String,
        /// The system's or FFmpeg's words.
        reason: String,
    },
    /// The output is there already.
    #[error("{path} exists; choose another name, or replace it with overwrite=true (--overwrite)")]
    Exists {
        /// The output file.
        path: String,
    },
    /// Output and input are one file.
    #[error("{path}: output and input are the same file; choose another name")]
    SameFile {
        /// The output file.
        path: String,
    },
    /// Two outputs of a run have one name.
    #[error("{path}: two outputs of this run have this name; give each a different name")]
    SameOutput {
        /// The output file.
        path: String,
    },
    /// A failure to write that left something of use.
    #[error("{error}; the data written so far is kept as {kept}")]
    Unfinished {
        /// What went wrong.
        error: Box<MediaError>,
        /// Where it lies.
        kept: String,
    },
    /// The cancel token was cancelled.
    #[error("{source_name}: cancelled")]
    Cancelled {
        /// The source as given.
        source_name: String,
    },
    /// The source gave nothing for too long.
    #[error("{source_name}: nothing arrived for {seconds} s")]
    Timeout {
        /// The source as given.
        source_name: String,
        /// The limit.
        seconds: f64,
    },
    /// An option that does not exist, or a value that it does not take.
    #[error("option '{name}': {reason}{}", nearest.as_ref().map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    BadOption {
        /// The option, or the value where that is what is wrong.
        name: String,
        /// What is wrong with it.
        reason: String,
        /// The nearest that exists.
        nearest: Option<String>,
    },
    /// FFmpeg refused something that it should have taken.
    #[error("{context}: FFmpeg says '{message}'")]
    Ffmpeg {
        /// What was being done, to which file or stream.
        context: String,
        /// FFmpeg's words.
        message: String,
    },
    /// A surface of the wrong kind or size.
    #[error(transparent)]
    Core(#[from] framerail_core::CoreError),
}

impl MediaError {
    /// Whether trying again, or waiting, may help: a live source that went quiet, a full disk.
    pub fn is_transient(&self) -> bool {
        matches!(self, MediaError::Timeout { .. } | MediaError::DiskFull { .. })
    }

    /// Whether the user asked for something that cannot be, as opposed to the media being at fault.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            MediaError::BadOption { .. } | MediaError::Exists { .. } | MediaError::SameFile { .. } | MediaError::SameOutput { .. }
        )
    }

    /// The same, and what was kept of the output.
    pub fn kept_as(self, kept: Option<&Path>) -> Self {
        match kept {
            Some(kept) => MediaError::Unfinished { error: Box::new(self), kept: kept.display().to_string() },
            None => self,
        }
    }

    /// A failure of the system's to read or write a file.
    pub fn of_io(path: &Path, error: &io::Error) -> Self {
        Self::io(path, error)
    }

    /// The error for a system that has no more open files or memory; `None` for another system error.
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

/// The error for a system that has no more open files, memory or threads; none for another system error.
pub(crate) fn exhausted(path: &str, errno: i32) -> Option<MediaError> {
    let reason = match errno {
        libc::EMFILE => "too many open files; raise the limit (ulimit -n), or read and write fewer files",
        libc::ENFILE => "the system has too many open files; close other programs",
        // What creating a thread fails with.
        libc::EAGAIN => "the system has no more threads; read fewer streams, or use fewer decoder threads (threads=)",
        libc::ENOMEM => "out of memory; use smaller frames or fewer streams",
        _ => return None,
    };
    Some(MediaError::Exhausted { path: path.to_owned(), reason: reason.into() })
}

/// Whether a system error means that no more bytes fit.
pub(crate) fn is_no_space(errno: i32) -> bool {
    matches!(errno, libc::ENOSPC | libc::EDQUOT | libc::EFBIG)
}

/// The system's words without Rust's "(os error 13)".
pub(crate) fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

/// The candidate nearest to a name by edit distance, when near enough to be a slip.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let limit = (name.chars().count() / 3).max(2);
    let holds = |candidate: &str| name.len() > 2 && candidate.contains(name);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || holds(candidate))
        // A part of the name, such as x264 of libx264, says more than letters that are the same.
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
    fn a_full_disk_is_told_from_other_errors() {
        let full = MediaError::io(Path::new("out.mp4"), &io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(full, MediaError::DiskFull { .. }));
        let denied = MediaError::io(Path::new("out.mp4"), &io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(denied.to_string(), "out.mp4: permission denied");
    }
}
