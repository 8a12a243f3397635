//! The steps that make a file durable, in one place so that tests can check their order.

use std::{
    fs::{self, File},
    io,
    os::fd::AsRawFd,
    path::Path,
};

/// Waits until a file's data is on the disk.
pub(super) fn sync_file(file: &File) -> io::Result<()> {
    trace("sync file");
    unless_unsupported(file.sync_all())
}

/// Waits until a folder's entries are on the disk.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    trace("sync folder");
    unless_unsupported(File::open(folder)?.sync_all())
}

/// Renames a file, replacing an existing one.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    trace("rename");
    fs::rename(from, to)
}

/// Renames a file, never replacing another one where the file system can guarantee that.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    trace("rename");
    // Creating a hard link fails if the name is taken, whereas a rename would replace the file.
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // No hard links here (FAT, some network drives).
        Err(_) if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from, to),
    }
}

/// Waits until everything on a folder's file system is on the disk.
pub(super) fn sync_file_system(folder: &Path) -> io::Result<()> {
    let folder = File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
    // SAFETY: an open descriptor.
    match unsafe { libc::syncfs(folder.as_raw_fd()) } {
        0 => Ok(()),
        _ => unless_unsupported(Err(io::Error::last_os_error())),
    }
}

/// Ignores errors of file systems that cannot sync, mainly folders.
fn unless_unsupported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::ENOSYS)) => Ok(()),
        result => result,
    }
}

#[cfg(not(test))]
fn trace(_: &'static str) {}

#[cfg(test)]
fn trace(step: &'static str) {
    STEPS.with_borrow_mut(|steps| steps.push(step));
}

#[cfg(test)]
thread_local! {
    /// Steps of this thread.
    pub(super) static STEPS: std::cell::RefCell<Vec<&'static str>> = const { std::cell::RefCell::new(Vec::new()) };
}
