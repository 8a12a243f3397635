//! Partial files of writers that fail or are killed.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use framerail_core::FramePool;

use super::{OutputRules, durable, folder_of, names};
use crate::{InputOptions, MediaItem, MediaReader, SideStreams};

/// A file younger than this, of a live process, may not be locked yet.
const YOUNG: Duration = Duration::from_secs(5);

/// What to do with an incomplete file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leftover {
    /// Remove it: a part is of no use.
    #[default]
    Remove,
    /// Keep it if a player could show some of it.
    KeepPlayable,
    /// Keep it unless it is empty: every line is useful.
    KeepLines,
    /// Do not search for it: for outputs of many small files.
    Ignore,
}

/// Handles partial files of killed writers of this name; returns a line for each file that is kept.
pub(super) fn clear(place: &Path, rules: &OutputRules) -> Vec<String> {
    if rules.leftover == Leftover::Ignore {
        return Vec::new();
    }
    let folder = folder_of(place);
    let start = names::partial_start(place);
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let stale = names.filter(|name| name.as_bytes().starts_with(start.as_bytes()));
    stale.filter_map(|name| clear_one(&folder.join(&name), &name, &start, place, rules)).collect()
}

fn clear_one(partial: &Path, name: &OsString, start: &OsStr, place: &Path, rules: &OutputRules) -> Option<String> {
    let file = File::open(partial).ok()?;
    // Skip it if its writer is alive or the lock state is unknown.
    file.try_lock().ok()?;
    let found = file.metadata().ok()?;
    let process = names::process_of(name, start)?;
    let is_young = found.modified().ok().and_then(|time| time.elapsed().ok()).is_none_or(|age| age < YOUNG);
    if is_young && Path::new(&format!("/proc/{process}")).exists() {
        return None;
    }
    // With a second link the writer was killed just after the file had got its final name.
    if found.nlink() == 1
        && let Some(kept) = keep(partial, place, rules)
    {
        return Some(format!("a killed run had not finished {}; its data is kept as {}", place.display(), kept.display()));
    }
    if let Err(error) = fs::remove_file(partial) {
        log::debug!("{}: left by a killed run, not removed: {error}", partial.display());
    }
    None
}

/// Renames a partial file to a visible name if it is usable; returns that name.
pub(super) fn keep(partial: &Path, place: &Path, rules: &OutputRules) -> Option<PathBuf> {
    let is_of_use = match rules.leftover {
        Leftover::Remove | Leftover::Ignore => false,
        Leftover::KeepPlayable => is_playable(partial),
        Leftover::KeepLines => fs::metadata(partial).is_ok_and(|found| found.len() > 0),
    };
    if !is_of_use {
        return None;
    }
    // On a full disk, an unsynced file is better than none.
    let _ = File::open(partial).and_then(|file| durable::sync_file(&file));
    let kept = names::rename_to_free(partial, place, names::UNFINISHED, &rules.files);
    // If renaming fails, the file stays under its partial name, which is returned.
    Some(kept.unwrap_or_else(|_| partial.to_owned()))
}

/// Whether at least one frame can be decoded.
fn is_playable(path: &Path) -> bool {
    let mut options = InputOptions::new(framerail_core::run_files::file_address(path));
    (options.threads, options.side_streams) = (1, SideStreams::None);
    let Ok(mut reader) = MediaReader::open(&options, &FramePool::new(0)) else { return false };
    matches!(reader.next(), Ok(Some(MediaItem::Frame(_))))
}
