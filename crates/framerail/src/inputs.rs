//! Resolves the arguments of `read` to sources: files, folders, globs, image sequences, URLs, standard input.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use framerail_core::{
    SourceUrl,
    run_files::{file_address, local_path},
};
use framerail_media::{
    IMAGE_ENDINGS, MediaError,
    object::{self, ObjectAddress},
};
use framerail_pipeline::{ErrorKind, StageError};

/// File extensions that count as video in a folder.
const VIDEO_ENDINGS: &[&str] = &[
    "3gp", "asf", "avi", "dv", "f4v", "flv", "gif", "h264", "h265", "hevc", "ivf", "m2ts", "m2v", "m4v", "mjpeg", "mkv", "mov", "mp4",
    "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogv", "ts", "vob", "webm", "wmv", "y4m",
];

/// A source and the short name of its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceName {
    /// Path, URL, pattern or `-`, as passed to FFmpeg.
    pub source: SourceUrl,
    /// The file's stem, with a number appended if two sources share it.
    pub name: String,
}

/// All sources of the arguments, in order; folders and globs in natural order of their file names.
///
/// # Errors
/// `Input` for what is missing, and for a folder or glob without video.
pub fn expand_sources(arguments: &[&str]) -> Result<Vec<SourceName>, StageError> {
    let mut sources = Vec::new();
    for argument in arguments {
        sources.extend(expand(argument)?.into_iter().map(SourceUrl::from));
    }
    let mut taken = BTreeMap::new();
    Ok(sources.into_iter().map(|source| SourceName { name: unique(&mut taken, stem(&source)), source }).collect())
}

/// Whether a path has the extension of an image.
pub fn is_image(path: &Path) -> bool {
    has_ending(path, IMAGE_ENDINGS)
}

fn expand(argument: &str) -> Result<Vec<String>, StageError> {
    let path = Path::new(argument);
    if SourceUrl::new(argument).is_object() {
        return expand_objects(argument);
    }
    if argument == "-" || argument.contains("://") || path.is_file() {
        return Ok(vec![argument.to_owned()]);
    }
    if path.is_dir() {
        return expand_folder(argument, path);
    }
    if argument.contains(['*', '?', '[']) {
        return expand_glob(argument);
    }
    // Patterns such as img%04d.png, and special files; a missing one is reported when it is opened.
    Ok(vec![argument.to_owned()])
}

/// The objects of an address that ends in `/`, or that is a pattern and not the name of an object.
fn expand_objects(argument: &str) -> Result<Vec<String>, StageError> {
    let failed = |error: &dyn std::fmt::Display| StageError::new(ErrorKind::Input, error);
    let address = ObjectAddress::parse(argument).map_err(|error| failed(&format_args!("{}: {error}", SourceUrl::new(argument))))?;
    let key = address.key();
    let is_folder = key.is_empty() || key.ends_with('/');
    let fixed = key.find(['*', '?', '[']).map(|place| key.get(..place).unwrap_or_default());
    let Some(fixed) = fixed.filter(|_| !is_folder) else {
        if !is_folder {
            return Ok(vec![argument.to_owned()]);
        }
        let found = object::list(&address, false).map_err(|error| failed(&error))?;
        let videos: Vec<PathBuf> = found.into_iter().map(PathBuf::from).filter(|path| has_ending(path, VIDEO_ENDINGS)).collect();
        if videos.is_empty() {
            return Err(failed(&format_args!("{argument}: the folder contains no video; subfolders are not searched, name them")));
        }
        return Ok(in_natural_order(videos));
    };
    if object::is_object(&address).map_err(|error| failed(&error))? {
        return Ok(vec![argument.to_owned()]);
    }
    let pattern =
        glob::Pattern::new(key).map_err(|error| StageError::new(ErrorKind::Usage, format!("{argument}: not a pattern: {error}")))?;
    let folder = fixed.rsplit_once('/').map_or("", |(folder, _)| folder);
    let is_deep = key.get(folder.len()..).is_some_and(|rest| rest.trim_start_matches('/').contains('/'));
    let found = object::list(&address.with_key(folder), is_deep).map_err(|error| failed(&error))?;
    let rules = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let start = address.with_key("").to_string().len();
    let matching: Vec<PathBuf> = found
        .into_iter()
        .filter(|found| found.get(start..).is_some_and(|key| pattern.matches_with(key, rules)))
        .map(PathBuf::from)
        .collect();
    if matching.is_empty() {
        return Err(failed(&format_args!("{argument}: no object matches; check the folder and the pattern")));
    }
    Ok(in_natural_order(matching))
}

fn expand_folder(argument: &str, folder: &Path) -> Result<Vec<String>, StageError> {
    let entries = std::fs::read_dir(folder).map_err(|error| match MediaError::of_exhausted(folder, &error) {
        Some(exhausted) => StageError::new(ErrorKind::Resource, exhausted),
        None => StageError::new(ErrorKind::Input, format!("{argument}: {error}")),
    })?;
    let files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file()).collect();
    let videos: Vec<PathBuf> = files.iter().filter(|path| has_ending(path, VIDEO_ENDINGS)).cloned().collect();
    if !videos.is_empty() {
        return Ok(in_natural_order(videos));
    }
    if files.iter().any(|path| is_image(path)) {
        return Ok(vec![argument.to_owned()]);
    }
    let message = format!("{argument}: the folder contains no video or image; subfolders are not searched, name them");
    Err(StageError::new(ErrorKind::Input, message))
}

fn expand_glob(pattern: &str) -> Result<Vec<String>, StageError> {
    let files = matching(pattern)?;
    if files.is_empty() {
        return Err(StageError::new(ErrorKind::Input, format!("{pattern}: no file matches; check the folder and the pattern")));
    }
    // Images of one pattern are the frames of one stream.
    if files.iter().all(|path| is_image(path)) {
        return Ok(vec![pattern.to_owned()]);
    }
    Ok(in_natural_order(files))
}

/// The files that match a pattern with `*`, `?` or `[`.
///
/// # Errors
/// `Usage` for what is not a pattern.
pub fn matching(pattern: &str) -> Result<Vec<PathBuf>, StageError> {
    let matches = glob::glob(pattern).map_err(|error| StageError::new(ErrorKind::Usage, format!("{pattern}: not a pattern: {error}")))?;
    Ok(matches.filter_map(Result::ok).filter(|path| path.is_file()).collect())
}

fn in_natural_order(mut files: Vec<PathBuf>) -> Vec<String> {
    files.sort_by_key(|path| natural_key(&path.to_string_lossy()));
    files.iter().map(|path| file_address(path)).collect()
}

/// Splits digits from the rest, so that `clip10` comes after `clip9`.
fn natural_key(text: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits_at = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (words, numbered) = rest.split_at(digits_at);
        let digits_end = numbered.find(|c: char| !c.is_ascii_digit()).unwrap_or(numbered.len());
        let (digits, after) = numbered.split_at(digits_end);
        key.push((words.to_lowercase(), digits.parse().unwrap_or(u64::MAX)));
        rest = after;
    }
    key
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// A stream's name from its source.
fn stem(source: &SourceUrl) -> String {
    match local_path(source.reveal()).filter(|_| source.reveal().starts_with("file:")) {
        Some(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        None => source.stem(),
    }
}

fn unique(taken: &mut BTreeMap<String, u32>, stem: String) -> String {
    let mut name = stem.clone();
    while taken.contains_key(&name) {
        let number = taken.entry(stem.clone()).and_modify(|number| *number += 1).or_insert(2);
        name = format!("{stem}-{number}");
    }
    taken.insert(name.clone(), 1);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sources: &[SourceName]) -> Vec<&str> {
        sources.iter().map(|source| source.name.as_str()).collect()
    }

    #[test]
    fn names_are_unique() {
        let sources =
            expand_sources(&["a/clip.mp4", "b/clip.mp4", "c/clip.mov", "-", "http://host/live.m3u8?x=1"]).expect("nothing to look up");
        assert_eq!(names(&sources), ["clip", "clip-2", "clip-3", "stdin", "live"]);
    }

    #[test]
    fn a_folder_gives_its_videos_in_natural_order() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["clip10.mp4", "clip9.MP4", "notes.txt", "cover.png"] {
            std::fs::write(folder.path().join(name), "").expect("temporary file");
        }
        let sources = expand_sources(&[&folder.path().to_string_lossy()]).expect("two videos");
        assert_eq!(names(&sources), ["clip9", "clip10"]);
        let pattern = folder.path().join("clip*");
        assert_eq!(expand_sources(&[&pattern.to_string_lossy()]).expect("two videos").len(), 2);
    }

    #[test]
    fn a_folder_or_pattern_without_video_is_an_error() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().to_string_lossy().into_owned();
        assert!(expand_sources(&[&path]).expect_err("empty").message.contains("no video"));
        assert!(expand_sources(&[&format!("{path}/*.mp4")]).expect_err("empty").message.contains("no file matches"));
        for name in ["a.png", "a.ppm", "a.EXR"] {
            // The same extensions count as images in a folder, in a pattern and in a sequence.
            let file = folder.path().join(name);
            std::fs::write(&file, "").expect("temporary file");
            assert_eq!(expand_sources(&[&path]).expect("an image sequence").len(), 1, "{name}");
            std::fs::write(file.with_file_name(format!("b{name}")), "").expect("temporary file");
            assert_eq!(expand_sources(&[&format!("{path}/*{}", name.trim_start_matches('a'))]).expect("one sequence").len(), 1, "{name}");
            std::fs::read_dir(&path).expect("there").for_each(|entry| std::fs::remove_file(entry.expect("there").path()).expect("removed"));
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_does_not_hide_the_others() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in [b"cl\xffip.mp4".as_slice(), b"other.mp4"] {
            std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), "").expect("temporary file");
        }
        let sources = expand_sources(&[&folder.path().to_string_lossy()]).expect("two videos");
        assert_eq!(names(&sources), ["cl\u{fffd}ip", "other"]);
        assert!(sources.iter().all(|source| local_path(source.source.reveal()).is_some_and(|path| path.is_file())), "{sources:?}");
    }
}
