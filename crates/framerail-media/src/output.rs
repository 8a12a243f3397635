//! An output file that appears under its name only when it is complete.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::{MediaError, container::is_url};

/// Numbers the partial files of this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A file on its way; removed when dropped before [`OutputFile::complete`].
pub(crate) struct OutputFile {
    path: PathBuf,
    /// Where bytes go; none for devices and pipes, which are written directly.
    partial: Option<PathBuf>,
    overwrite: bool,
}

impl OutputFile {
    /// Checks that `path` may be written and makes its partial file.
    ///
    /// # Errors
    /// `SameFile` when it is one of `inputs`, `Exists` without `overwrite`, `Io` for a folder that is missing or read-only.
    pub(crate) fn create(path: &Path, overwrite: bool, inputs: &[PathBuf]) -> Result<Self, MediaError> {
        let shown = || path.display().to_string();
        let existing = fs::metadata(path).ok();
        if let Some(existing) = &existing {
            let is_same =
                |input: &PathBuf| fs::metadata(input).is_ok_and(|other| (other.dev(), other.ino()) == (existing.dev(), existing.ino()));
            if inputs.iter().any(is_same) {
                return Err(MediaError::SameFile { path: shown() });
            }
            if existing.is_dir() {
                return Err(MediaError::Io { path: shown(), reason: "is a folder; name a file in it".into() });
            }
            if !overwrite {
                return Err(MediaError::Exists { path: shown() });
            }
            if !existing.is_file() {
                return Ok(Self { path: path.to_owned(), partial: None, overwrite });
            }
        }
        let partial = partial_path(path)?;
        fs::File::create_new(&partial).map_err(|error| MediaError::io(path, &error))?;
        Ok(Self { path: path.to_owned(), partial: Some(partial), overwrite })
    }

    /// The file to write to.
    pub(crate) fn working_path(&self) -> &Path {
        self.partial.as_deref().unwrap_or(&self.path)
    }

    /// The name that was asked for.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether bytes can be read back and the file renamed.
    pub(crate) fn is_regular(&self) -> bool {
        self.partial.is_some()
    }

    /// Gives the file its name; returns its size in bytes.
    ///
    /// # Errors
    /// `Exists` when a file of that name has appeared meanwhile and must not be replaced, `Io`, `DiskFull`.
    pub(crate) fn complete(mut self) -> Result<u64, MediaError> {
        let Some(partial) = self.partial.take() else { return Ok(0) };
        let finish = || {
            let bytes = fs::metadata(&partial)?.len();
            rename(&partial, &self.path, self.overwrite)?;
            Ok(bytes)
        };
        finish().map_err(|error: io::Error| {
            // Nothing half-done stays; that it is gone already is fine.
            let _ = fs::remove_file(&partial);
            if error.kind() == io::ErrorKind::AlreadyExists {
                return MediaError::Exists { path: self.path.display().to_string() };
            }
            MediaError::io(&self.path, &error)
        })
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(partial) = self.partial.take() {
            // Dropping cannot report; a file that is gone already is what is wanted.
            let _ = fs::remove_file(partial);
        }
    }
}

/// Renames; without `overwrite` never over another file, where the file system can promise that.
fn rename(from: &Path, to: &Path, overwrite: bool) -> io::Result<()> {
    if overwrite {
        return fs::rename(from, to);
    }
    // A second name fails when it is taken, where a rename would replace the file.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // No hard links there (FAT, some network drives).
        Err(_) => fs::rename(from, to),
    }
}

/// `.NAME.partial-PID-N.EXT` beside the file.
fn partial_path(path: &Path) -> Result<PathBuf, MediaError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = || path.display().to_string();
    match fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(MediaError::Io { path: shown(), reason: format!("{} is not a folder", folder.display()) }),
        Err(error) => {
            let reason = format!("the folder {} cannot be used ({})", folder.display(), crate::error::system_words(&error));
            return Err(MediaError::Io { path: shown(), reason });
        }
    }
    let Some(stem) = path.file_stem() else {
        return Err(MediaError::Io { path: shown(), reason: "is not a file name".into() });
    };
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(stem);
    name.push(format!(".partial-{}-{number}", std::process::id()));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    Ok(folder.join(name))
}

/// The input of a run as a path, when it is one.
pub(crate) fn local_input(source: &str) -> Option<PathBuf> {
    (source != "-" && !is_url(source)).then(|| PathBuf::from(source.strip_prefix("file:").unwrap_or(source)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_only_when_complete() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("out.mp4");
        let count = || fs::read_dir(folder.path()).expect("folder").count();
        let output = OutputFile::create(&path, false, &[]).expect("creatable");
        fs::write(output.working_path(), b"half").expect("written");
        assert!(!path.exists());
        drop(output);
        assert_eq!(count(), 0);
        let output = OutputFile::create(&path, false, &[]).expect("creatable");
        fs::write(output.working_path(), b"whole").expect("written");
        assert_eq!(output.complete().expect("renamed"), 5);
        assert_eq!((fs::read(&path).expect("there"), count()), (b"whole".to_vec(), 1));
        assert!(matches!(OutputFile::create(&path, false, &[]), Err(MediaError::Exists { .. })));
        let link = folder.path().join("link.mp4");
        fs::hard_link(&path, &link).expect("linked");
        assert!(matches!(OutputFile::create(&link, true, std::slice::from_ref(&path)), Err(MediaError::SameFile { .. })));
        assert!(matches!(OutputFile::create(&path.join("under.mp4"), false, &[]), Err(MediaError::Io { .. })));
        assert!(matches!(OutputFile::create(&folder.path().join("no/out.mp4"), false, &[]), Err(MediaError::Io { .. })));
    }
}
