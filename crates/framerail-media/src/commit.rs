//! Atomic output files: a file appears under its final name only when it is complete and safe on the disk.
//!
//! # Protocol
//! 1. Bytes go to a hidden partial file with a short name, in the folder of the final file (symbolic links followed). The
//!    partial file is locked while its writer lives.
//! 2. At the end its data is synced, it gets its final name in one step, and the folder is synced. After a power failure
//!    either the older file or the complete new one is there.
//! 3. A file that must not be replaced is never replaced, even if it appeared while the new one was written: the new one
//!    gets a free name beside it. The same applies to a run that was stopped early and would replace an older file.
//! 4. A writer that fails keeps the usable part under a free name (`NAME.unfinished.EXT`). If a writer was killed, the
//!    next writer of the same name does this.
//!
//! Devices and pipes are written directly. The partial file of an object in object storage lies in the folder for temporary files, and is
//! uploaded in the place of step 2; one that cannot be uploaded is kept there.

mod durable;
mod leftover;
mod names;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use framerail_core::{FileConflict, RunFiles, run_files::resolved};

pub(crate) use self::names::short_stem;
pub use self::{leftover::Leftover, names::fitting};
use crate::{ForkSafe, MediaError, object::ObjectTarget};

/// Size of the write buffer.
const BUFFER_BYTES: usize = 1 << 16;

/// Rules for writing a file.
#[derive(Clone, Debug, Default)]
pub struct OutputRules {
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// The files of the run; its inputs are never replaced.
    pub files: RunFiles,
    /// What to do with the partial file of a killed writer of this name.
    pub leftover: Leftover,
    /// Whether the caller syncs many files at once ([`sync_file_system`]) instead of each one.
    pub syncs_later: bool,
}

/// How writing ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// Everything was written.
    #[default]
    Whole,
    /// The run was stopped: the file may hold less than an older file of this name.
    Stopped,
}

/// A file that is complete and safe on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Path of the file.
    pub path: PathBuf,
    /// Size in bytes; 0 for devices and pipes.
    pub bytes: u64,
    /// Why it has another name than requested.
    pub elsewhere: Option<Elsewhere>,
}

/// Why a complete file did not get the requested name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Elsewhere {
    /// A file of this name appeared in the meantime, or it cannot be replaced; holds one line for the user.
    Taken(String),
    /// The run was stopped, and an older file of this name was kept; holds one line for the user.
    Stopped(String),
}

impl Elsewhere {
    /// One line for the user.
    pub fn notice(&self) -> &str {
        match self {
            Elsewhere::Taken(line) | Elsewhere::Stopped(line) => line,
        }
    }
}

enum Target {
    Partial {
        path: PathBuf,
        file: BufWriter<File>,
    },
    /// A device or a named pipe, opened with the first byte: opening a pipe blocks until it has a reader.
    Direct(Option<BufWriter<File>>),
    StandardOutput(BufWriter<io::Stdout>),
    /// Completed or discarded.
    Done,
}

/// A file being written. If it is dropped before [`OutputFile::complete`], it is removed.
pub struct OutputFile {
    /// The requested path.
    named: PathBuf,
    /// The final path, with symbolic links resolved; for an object one in the folder for temporary files.
    place: PathBuf,
    target: Target,
    /// Where it is uploaded at the end.
    object: Option<ObjectTarget>,
    rules: OutputRules,
    /// Folders created for it, the outermost first.
    made: Vec<PathBuf>,
    notes: Vec<String>,
    listed: Option<Listed>,
}

/// Registers a partial file of this process while its writer lives.
struct Listed(PathBuf);

/// Partial files of this process, with their final names.
static UNFINISHED: ForkSafe<BTreeMap<PathBuf, PathBuf>> = ForkSafe::new(BTreeMap::new());

impl Listed {
    fn new(partial: &Path, named: &Path) -> Self {
        UNFINISHED.lock().insert(partial.to_owned(), named.to_owned());
        Self(partial.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        UNFINISHED.lock().remove(&self.0);
    }
}

/// Partial files that would be left behind if the process ended now, each with its final name.
pub fn unfinished() -> Vec<(PathBuf, PathBuf)> {
    UNFINISHED.lock().iter().map(|(partial, named)| (partial.clone(), named.clone())).collect()
}

/// Whether an output path means standard output.
pub fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Checks whether a file can be written, without creating anything.
///
/// # Errors
/// `SameFile` if the run reads it, `Exists` without `overwrite`, `Io` if it or its folder cannot be written.
pub fn check(path: &Path, rules: &OutputRules) -> Result<(), MediaError> {
    if is_standard_output(path) {
        return Ok(());
    }
    let shown = || path.display().to_string();
    if rules.files.is_input(path) {
        return Err(MediaError::SameFile { path: shown() });
    }
    if let Some(object) = ObjectTarget::of(path)? {
        return match object.exists() {
            Ok(true) if !rules.overwrite => Err(MediaError::Exists { path: shown() }),
            Ok(_) => Ok(()),
            Err(error) => Err(MediaError::Io { path: shown(), reason: error.to_string() }),
        };
    }
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(MediaError::Io { path: shown(), reason: "is a folder; name a file in it".into() }),
        Ok(found) if found.is_file() && !rules.overwrite => Err(MediaError::Exists { path: shown() }),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            check_folder(path, folder_of(&resolved(path)))
        }
        // No file can have this name: it is too long, or links to itself.
        Err(error) => Err(MediaError::io(path, &error)),
    }
}

/// Checks that a folder exists or could be created; `path` is what error messages name.
///
/// # Errors
/// `Io`.
pub fn check_folder(path: &Path, folder: &Path) -> Result<(), MediaError> {
    if let Some(object) = ObjectTarget::of(path)? {
        // Folders in object storage are parts of names; whether it can be reached is what can be known.
        return object.exists().map(|_| ()).map_err(|error| MediaError::Io { path: path.display().to_string(), reason: error.to_string() });
    }
    // The parent of a bare name is an empty path.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let reason = match folder.ancestors().find_map(|above| fs::metadata(above).ok().map(|found| (above, found))) {
        Some((_, found)) if found.is_dir() => return Ok(()),
        Some((above, _)) => format!("{} is not a folder", above.display()),
        None => format!("the folder {} cannot be used", folder.display()),
    };
    Err(MediaError::Io { path: path.display().to_string(), reason })
}

/// Writes a whole file.
///
/// # Errors
/// As [`OutputFile::create`] and [`OutputFile::complete`].
pub fn write_file(path: &Path, bytes: &[u8], rules: &OutputRules) -> Result<Committed, MediaError> {
    let mut file = OutputFile::create(path, rules)?;
    file.write_all(bytes).map_err(|error| file.error(&error))?;
    file.complete(Ending::Whole)
}

/// Syncs files that already have their final names, and their folders.
///
/// # Errors
/// `Io`, `DiskFull`.
pub fn sync_all<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<(), MediaError> {
    let mut folders: Vec<&Path> = Vec::new();
    for path in files {
        File::open(path).and_then(|file| durable::sync_file(&file)).map_err(|error| MediaError::io(path, &error))?;
        if !folders.contains(&folder_of(path)) {
            folders.push(folder_of(path));
        }
    }
    folders.into_iter().try_for_each(|folder| durable::sync_folder(folder).map_err(|error| MediaError::io(folder, &error)))
}

/// Waits until everything on this folder's file system is on the disk.
///
/// # Errors
/// `Io`, `DiskFull`.
pub fn sync_file_system(folder: &Path) -> Result<(), MediaError> {
    durable::sync_file_system(folder).map_err(|error| MediaError::io(folder, &error))
}

/// Creates a folder and its missing parents; returns the created ones, the outermost first.
///
/// # Errors
/// `Io`.
pub fn make_folder(folder: &Path) -> Result<Vec<PathBuf>, MediaError> {
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && fs::symlink_metadata(above).is_err()).collect();
    let mut made = Vec::new();
    for folder in missing.into_iter().rev() {
        match fs::create_dir(folder) {
            Ok(()) => made.push(folder.to_owned()),
            Err(_) if folder.is_dir() => continue,
            Err(error) => {
                let reason = format!("the folder cannot be made ({})", crate::error::system_words(&error));
                return Err(MediaError::Io { path: folder.display().to_string(), reason });
            }
        }
        durable::sync_folder(folder_of(folder)).map_err(|error| MediaError::io(folder, &error))?;
    }
    Ok(made)
}

/// Where the bytes of an output are before it is complete: its own path, with links resolved, or one in the folder for temporary files.
pub fn staged(path: &Path) -> PathBuf {
    match ObjectTarget::of(path) {
        Ok(Some(object)) => object.staging_path(),
        _ => resolved(path),
    }
}

pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl OutputFile {
    /// Checks that `path` may be written and creates its partial file, and its folder if it is missing. `-` is standard
    /// output.
    ///
    /// # Errors
    /// As [`check`]; `Io` for a folder that cannot be created or is read-only.
    pub fn create(path: &Path, rules: &OutputRules) -> Result<Self, MediaError> {
        let mut output = Self {
            named: path.to_owned(),
            place: path.to_owned(),
            target: Target::Done,
            rules: rules.clone(),
            object: None,
            made: Vec::new(),
            notes: Vec::new(),
            listed: None,
        };
        if is_standard_output(path) {
            output.target = Target::StandardOutput(BufWriter::with_capacity(BUFFER_BYTES, io::stdout()));
            return Ok(output);
        }
        check(path, rules)?;
        output.object = ObjectTarget::of(path)?;
        if output.object.is_none() && fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            output.target = Target::Direct(None);
            return Ok(output);
        }
        output.place = staged(path);
        if output.place.file_name().is_none() {
            return Err(MediaError::Io { path: path.display().to_string(), reason: "is not a file name".into() });
        }
        output.made = make_folder(folder_of(&output.place))?;
        output.notes = leftover::clear(&output.place, rules);
        let partial = names::partial(&output.place);
        let file = File::options().read(true).write(true).create_new(true).open(&partial).map_err(|error| MediaError::io(path, &error))?;
        // Where files cannot be locked, a killed writer's partial file is not recognised; nothing else depends on the lock.
        let _ = file.try_lock();
        output.listed = Some(Listed::new(&partial, path));
        output.target = Target::Partial { path: partial, file: BufWriter::with_capacity(BUFFER_BYTES, file) };
        Ok(output)
    }

    /// The file to write to, for callers that open it themselves.
    pub fn working_path(&self) -> &Path {
        if let Target::Partial { path, .. } = &self.target { path } else { &self.named }
    }

    /// The requested path.
    pub fn path(&self) -> &Path {
        &self.named
    }

    /// Whether bytes can be read back and the file renamed.
    pub fn is_regular(&self) -> bool {
        matches!(self.target, Target::Partial { .. })
    }

    /// Whether another process may be reading along: standard output, a pipe or a device, but not a file behind `>`.
    pub fn has_reader(&self) -> bool {
        match &self.target {
            Target::Partial { .. } | Target::Done => false,
            Target::Direct(_) => true,
            Target::StandardOutput(_) => io::stdout().is_terminal() || fs::metadata("/dev/stdout").is_ok_and(|found| !found.is_file()),
        }
    }

    /// What happened to partial files of killed writers of this name, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Converts a failure to write this file.
    pub fn error(&self, error: &io::Error) -> MediaError {
        MediaError::io(&self.named, error)
    }

    /// Syncs the file and gives it its final name, or a free one if that is taken.
    ///
    /// # Errors
    /// `Io`, `DiskFull`: the usable part is kept under a free name, which the error names.
    pub fn complete(mut self, ending: Ending) -> Result<Committed, MediaError> {
        let (partial, file) = match std::mem::replace(&mut self.target, Target::Done) {
            Target::Partial { path, file } => (path, file),
            Target::Direct(Some(mut file)) => return file.flush().map(|()| self.committed(0)).map_err(|error| self.error(&error)),
            Target::StandardOutput(mut file) => return file.flush().map(|()| self.committed(0)).map_err(|error| self.error(&error)),
            Target::Direct(None) | Target::Done => return Ok(self.committed(0)),
        };
        let sync = |file: BufWriter<File>| {
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            self.keep_owner(&file);
            if !self.rules.syncs_later {
                durable::sync_file(&file)?;
            }
            Ok((file.metadata()?.len(), file))
        };
        match sync(file) {
            Ok((bytes, file)) => {
                self.made.clear();
                let committed = self.rename(&partial, bytes, ending);
                drop(file);
                committed
            }
            Err(error) => Err(self.error(&error).kept_as(self.keep(&partial).as_deref())),
        }
    }

    /// Rewrites the file from its current contents: the new bytes replace the old ones once they are safe on the disk. For a
    /// regular file that was written through its [`OutputFile::working_path`].
    ///
    /// # Errors
    /// The system's, and those of `write`: the file stays unchanged.
    pub fn rewrite(&mut self, write: impl FnOnce(&mut File, &mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
        let Target::Partial { path, file } = &mut self.target else { return Ok(()) };
        file.flush()?;
        let other = names::partial(&self.place);
        let new = File::options().read(true).write(true).create_new(true).open(&other)?;
        let _ = new.try_lock();
        let mut new = BufWriter::with_capacity(BUFFER_BYTES, new);
        let written = write(file.get_mut(), &mut new)
            .and_then(|()| new.flush())
            .and_then(|()| durable::sync_file(new.get_ref()))
            .and_then(|()| durable::rename(&other, path));
        match written {
            Ok(()) => {
                *file = new;
                Ok(())
            }
            Err(error) => {
                // It may be gone already.
                let _ = fs::remove_file(&other);
                Err(error)
            }
        }
    }

    /// Changes what happens to the file if it stays unfinished.
    pub fn set_leftover(&mut self, leftover: Leftover) {
        self.rules.leftover = leftover;
    }

    /// Keeps what was written so far under a free name if it is usable; `None` if it is not.
    pub fn keep_unfinished(mut self) -> Option<PathBuf> {
        let Target::Partial { path, mut file } = std::mem::replace(&mut self.target, Target::Done) else { return None };
        // Flushing buffered data may fail, for example on a full disk.
        let _ = file.flush();
        self.keep(&path)
    }

    fn keep(&mut self, partial: &Path) -> Option<PathBuf> {
        let kept = leftover::keep(partial, &self.place, &self.rules).map(|kept| self.as_named(kept));
        match kept {
            Some(_) => self.made.clear(),
            // It may be gone already.
            None => drop(fs::remove_file(partial)),
        }
        kept
    }

    /// Rewrites a path in the output's folder to use the folder's name as the caller gave it.
    fn as_named(&self, path: PathBuf) -> PathBuf {
        if self.object.is_some() {
            return path;
        }
        let named = path.file_name().map(|name| self.named.with_file_name(name));
        named.filter(|named| resolved(named) == path).unwrap_or(path)
    }

    fn committed(&self, bytes: u64) -> Committed {
        Committed { path: self.named.clone(), bytes, elsewhere: None }
    }

    /// Copies mode and owner of the file to be replaced, as far as permissions allow.
    fn keep_owner(&self, file: &File) {
        let (Ok(older), Ok(own)) = (fs::metadata(&self.place), file.metadata()) else { return };
        if !older.is_file() || !self.rules.overwrite || self.object.is_some() {
            return;
        }
        if (older.uid(), older.gid()) != (own.uid(), own.gid()) && fchown(file, Some(older.uid()), Some(older.gid())).is_err() {
            let _ = fchown(file, None, Some(older.gid()));
        }
        let _ = file.set_permissions(fs::Permissions::from_mode(older.mode() & 0o7777));
    }

    fn upload(&self, object: &ObjectTarget, partial: &Path, bytes: u64, ending: Ending) -> Result<Committed, MediaError> {
        let shown = self.named.display();
        if ending == Ending::Stopped && object.exists().unwrap_or(true) {
            let line = |kept: &Path| format!("stopped: {shown} is not uploaded, and the new data is kept as {}", kept.display());
            return self.to_free_name(partial, bytes, names::UNFINISHED, |kept| Elsewhere::Stopped(line(kept)));
        }
        match object.put(partial, self.rules.overwrite) {
            Ok(()) => {
                // It may be gone already.
                let _ = fs::remove_file(partial);
                Ok(self.committed(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let line = |kept: &Path| {
                    format!("{shown} was created meanwhile and is not replaced; the new file is complete and kept as {}", kept.display())
                };
                self.to_free_name(partial, bytes, names::NOT_UPLOADED, |kept| Elsewhere::Taken(line(kept)))
            }
            Err(error) => {
                let kept = names::rename_to_free(partial, &self.place, names::NOT_UPLOADED, &self.rules.files);
                let kept = kept.unwrap_or_else(|_| partial.to_owned());
                Err(MediaError::Io { path: shown.to_string(), reason: format!("cannot be uploaded: {error}") }.kept_as(Some(&kept)))
            }
        }
    }

    fn rename(&self, partial: &Path, bytes: u64, ending: Ending) -> Result<Committed, MediaError> {
        let Self { named, place, rules, .. } = self;
        if let Some(object) = &self.object {
            return self.upload(object, partial, bytes, ending);
        }
        let is_older = fs::symlink_metadata(place).is_ok();
        let shown = named.display();
        if ending == Ending::Stopped && is_older {
            let line = |kept: &Path| format!("stopped: the existing {shown} is kept, and the new data is kept as {}", kept.display());
            return self.to_free_name(partial, bytes, names::UNFINISHED, |kept| Elsewhere::Stopped(line(kept)));
        }
        let taken =
            |why: String| move |kept: &Path| Elsewhere::Taken(format!("{why}; the new file is complete and kept as {}", kept.display()));
        if rules.files.is_input(place) {
            return self.to_free_name(partial, bytes, "", taken(format!("{shown} is now an input of this run")));
        }
        let renamed = if rules.overwrite { durable::rename(partial, place) } else { durable::rename_new(partial, place) };
        let synced = || if rules.syncs_later { Ok(()) } else { durable::sync_folder(folder_of(place)) };
        match renamed {
            Ok(()) => synced().map(|()| self.committed(bytes)).map_err(|error| self.error(&error)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                self.to_free_name(partial, bytes, "", taken(format!("{shown} was created meanwhile and is not replaced")))
            }
            Err(error) => {
                let why = format!("{shown} cannot be replaced ({})", crate::error::system_words(&error));
                self.to_free_name(partial, bytes, "", taken(why))
            }
        }
    }

    fn to_free_name(&self, partial: &Path, bytes: u64, mark: &str, why: impl FnOnce(&Path) -> Elsewhere) -> Result<Committed, MediaError> {
        match names::rename_to_free(partial, &self.place, mark, &self.rules.files) {
            Ok(path) => {
                let path = self.as_named(path);
                Ok(Committed { elsewhere: Some(why(&path)), path, bytes })
            }
            Err(error) => {
                let reason =
                    format!("{}; the new file is complete and is kept as {}", crate::error::system_words(&error), partial.display());
                Err(MediaError::Io { path: self.named.display().to_string(), reason })
            }
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Partial { file, .. } => file.write(bytes),
            Target::Direct(Some(file)) => file.write(bytes),
            Target::Direct(none) => {
                let file = File::options().write(true).open(&self.named)?;
                none.insert(BufWriter::with_capacity(BUFFER_BYTES, file)).write(bytes)
            }
            Target::StandardOutput(stdout) => stdout.write(bytes),
            Target::Done => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.target {
            Target::Partial { file, .. } | Target::Direct(Some(file)) => file.flush(),
            Target::StandardOutput(stdout) => stdout.flush(),
            Target::Direct(None) | Target::Done => Ok(()),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Target::Partial { path, .. } = std::mem::replace(&mut self.target, Target::Done) {
            // Drop cannot report errors; a file that is already gone is fine.
            let _ = fs::remove_file(path);
        }
        // Remove folders created for this file, if they are empty.
        self.made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

impl From<FileConflict> for MediaError {
    fn from(conflict: FileConflict) -> Self {
        match conflict {
            FileConflict::IsInput(path) => MediaError::SameFile { path },
            FileConflict::IsOutput(path) => MediaError::SameOutput { path },
            other => MediaError::Io { path: String::new(), reason: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests;
