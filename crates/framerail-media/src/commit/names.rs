//! Names of partial files and free names, within the length limit of file systems.

use std::{
    ffi::{OsStr, OsString},
    hash::{DefaultHasher, Hash, Hasher},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use framerail_core::RunFiles;

use super::{durable, folder_of};

/// Longest file name in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Bytes of a file's stem kept in the name of its partial file: enough for people to recognise it.
const STEM_BYTES: usize = 40;
/// Longest extension that partial files keep.
const EXTENSION_BYTES: usize = 16;
/// Maximum number of free names to try.
const MAX_TRIES: u32 = 100_000;

/// Suffix of the stem of an incomplete file.
pub(super) const UNFINISHED: &str = ".unfinished";

/// Suffix of the stem of a complete file that object storage did not take.
pub(super) const NOT_UPLOADED: &str = ".not-uploaded";

/// Counter for partial files of this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A name for the partial file of `place`: `.STEM.partial-HASH-PID-N.EXT`, with the hash of the whole name.
pub(super) fn partial(place: &Path) -> PathBuf {
    let mut name = partial_start(place);
    name.push(format!("{}-{}", std::process::id(), NEXT_NUMBER.fetch_add(1, Ordering::Relaxed)));
    if let Some(extension) = place.extension().filter(|extension| extension.len() <= EXTENSION_BYTES) {
        name.push(".");
        name.push(extension);
    }
    place.with_file_name(name)
}

/// Common prefix of the names of all partial files of `place`.
pub(super) fn partial_start(place: &Path) -> OsString {
    let mut name = OsString::from(".");
    name.push(shortened(place.file_stem().unwrap_or_default(), STEM_BYTES));
    name.push(format!(".partial-{:016x}-", hashed(place.file_name().unwrap_or_default())));
    name
}

/// The process ID in a partial file's name.
pub(super) fn process_of(partial: &OsStr, start: &OsStr) -> Option<u32> {
    let rest = std::str::from_utf8(partial.as_bytes().strip_prefix(start.as_bytes())?).ok()?;
    rest.split(['-', '.']).next()?.parse().ok()
}

/// `STEM` + `mark` + `.EXT`, the stem shortened if the name would exceed the length limit.
pub fn fitting(stem: &OsStr, mark: &str, extension: Option<&OsStr>) -> OsString {
    let rest = mark.len() + extension.map_or(0, |extension| extension.len() + 1);
    let mut name = shortened(stem, MAX_NAME_BYTES.saturating_sub(rest).max(1));
    name.push(mark);
    if let Some(extension) = extension {
        name.push(".");
        name.push(extension);
    }
    name
}

/// A stem of at most `bytes` bytes for names derived from a file; shortened stems stay distinct.
pub(crate) fn short_stem(stem: &OsStr, bytes: usize) -> OsString {
    if stem.len() <= bytes {
        return stem.to_owned();
    }
    let mut short = shortened(stem, bytes.saturating_sub(17));
    short.push(format!("-{:016x}", hashed(stem)));
    short
}

fn hashed(name: &OsStr) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// Truncates text to at most `bytes` bytes, at a UTF-8 character boundary if possible.
fn shortened(text: &OsStr, bytes: usize) -> OsString {
    let whole = text.as_bytes();
    if whole.len() <= bytes {
        return text.to_owned();
    }
    let end = (0..=bytes).rev().find(|end| whole.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80)).unwrap_or(bytes);
    OsString::from_vec(whole.get(..end).unwrap_or_default().to_vec())
}

/// Renames to the first free name of `STEM mark`, `STEM mark -2` and so on; without a mark, `STEM-2` and so on.
pub(super) fn rename_to_free(from: &Path, place: &Path, mark: &str, files: &RunFiles) -> io::Result<PathBuf> {
    let stem = place.file_stem().unwrap_or_default();
    let first = if mark.is_empty() { 2 } else { 1 };
    for number in first..MAX_TRIES {
        let mark = if number == 1 { mark.to_owned() } else { format!("{mark}-{number}") };
        let name = place.with_file_name(fitting(stem, &mark, place.extension()));
        if files.is_output(&name) {
            continue;
        }
        match durable::rename_new(from, &name) {
            Ok(()) => return durable::sync_folder(folder_of(&name)).map(|()| name),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_longer_than_file_systems_take() {
        for stem in ["x".repeat(251), "ä".repeat(125), "x".repeat(255)] {
            let place = PathBuf::from(format!("folder/{stem}.mp4"));
            let partial = partial(&place);
            let name = partial.file_name().expect("a name");
            assert!(name.len() <= 120 && name.to_str().is_some(), "{name:?}");
            assert_eq!(process_of(name, &partial_start(&place)), Some(std::process::id()));
            let fitted = fitting(OsStr::new(&stem), ".unfinished-12", Some(OsStr::new("mp4")));
            assert!(fitted.len() <= 255 && fitted.to_str().is_some_and(|name| name.ends_with(".unfinished-12.mp4")), "{fitted:?}");
        }
        let other = partial(Path::new(&format!("folder/{}y.mp4", "x".repeat(250))));
        assert_eq!(process_of(other.file_name().expect("a name"), &partial_start(Path::new("folder/x.mp4"))), None);
    }
}
