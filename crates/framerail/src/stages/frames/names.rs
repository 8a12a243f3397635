//! What the files of `frames` are called.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use framerail_core::StreamInfo;
use framerail_pipeline::{ConfigError, ErrorKind, StageError};

use crate::outputs::{check_output, has_index_placeholder, indexed_path, write_error};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    Png,
    Jpeg,
    Npy,
}

impl FileFormat {
    fn of(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "png" => Some(FileFormat::Png),
            "jpg" | "jpeg" => Some(FileFormat::Jpeg),
            "npy" => Some(FileFormat::Npy),
            _ => None,
        }
    }

    fn ending(self) -> &'static str {
        match self {
            FileFormat::Png => "png",
            FileFormat::Jpeg => "jpg",
            FileFormat::Npy => "npy",
        }
    }
}

/// A template for the files' names, and their format.
#[derive(Clone, Debug)]
pub(super) struct FrameNames {
    template: PathBuf,
    format: FileFormat,
    /// Whether the template names every file, rather than a folder.
    is_pattern: bool,
}

impl FrameNames {
    /// Names from what the user wrote: a folder, a pattern, or one file for a `count` of 1.
    pub(super) fn new(target: &Path, format: Option<&str>, count: Option<u64>) -> Result<Self, ConfigError> {
        let wanted = format.and_then(FileFormat::of);
        let ending = target.extension().and_then(|ending| ending.to_str()).and_then(FileFormat::of);
        let is_pattern = has_index_placeholder(target) || (ending.is_some() && !target.is_dir());
        if !is_pattern {
            let format = wanted.unwrap_or(FileFormat::Png);
            let template = target.join(format!("{{name}}-{{index:06}}.{}", format.ending()));
            return Ok(Self { template, format, is_pattern });
        }
        if !has_index_placeholder(target) && count != Some(1) {
            let stem = target.file_stem().unwrap_or_default().to_string_lossy();
            let ending = target.extension().unwrap_or_default().to_string_lossy();
            let help = format!("number the files, as in {stem}-{{index:06}}.{ending}, or take one frame with count=1");
            return Err(ConfigError::at("target", format_args!("every frame would be written to {}", target.display())).help(help));
        }
        let format = match (wanted, ending) {
            (Some(wanted), Some(ending)) if wanted != ending => {
                let message = format!("format={} does not go with the name {}", wanted.ending(), target.display());
                return Err(ConfigError::at("format", message).help("leave out one of the two"));
            }
            (Some(wanted), _) => wanted,
            (None, Some(ending)) => ending,
            (None, None) => {
                let message = format!("the name {} does not tell the format", target.display());
                return Err(ConfigError::at("target", message).help("end it with .png, .jpg or .npy, or give format="));
            }
        };
        Ok(Self { template: target.to_owned(), format, is_pattern })
    }

    pub(super) fn template(&self) -> &Path {
        &self.template
    }

    pub(super) fn format(&self) -> FileFormat {
        self.format
    }

    /// The file of a frame.
    pub(super) fn path(&self, info: &StreamInfo, index: u64) -> PathBuf {
        indexed_path(&self.template, info, index)
    }

    /// Looks for what would stop files from being written, as far as it can be known before the first stream.
    pub(super) fn check(&self, overwrite: bool) -> Result<(), StageError> {
        if self.is_pattern {
            // The name of one file for one frame is known; of many, the folder is.
            return check_output(&self.template, overwrite || has_index_placeholder(&self.template));
        }
        match self.template.parent() {
            Some(folder) if folder.exists() && !folder.is_dir() => {
                let message = format!("{} is a file; name a folder, or a pattern with {{index}}", folder.display());
                Err(StageError::new(ErrorKind::Output, message))
            }
            Some(folder) if !folder.is_dir() && !folder.to_string_lossy().contains('{') => check_output(folder, false),
            _ => Ok(()),
        }
    }

    /// Makes the folder of a stream's files when only its last part is missing: the folder that the user named, or one that
    /// a placeholder names.
    pub(super) fn create_folder(&self, info: &StreamInfo) -> Result<(), StageError> {
        let may_create = !self.is_pattern || self.template.parent().is_some_and(|folder| folder.to_string_lossy().contains('{'));
        let path = self.path(info, 0);
        match path.parent() {
            Some(folder) if may_create && !folder.as_os_str().is_empty() => create_last(folder),
            _ => Ok(()),
        }
    }
}

fn create_last(folder: &Path) -> Result<(), StageError> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = folder.parent().unwrap_or(Path::new(".")).display();
            let message = format!("cannot create {}: the folder {above} does not exist; create it first", folder.display());
            Err(StageError::new(ErrorKind::Output, message))
        }
        Err(error) => Err(write_error(folder, &error)),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(target: &str, format: Option<&str>, count: Option<u64>) -> Result<(String, FileFormat), String> {
        FrameNames::new(Path::new(target), format, count)
            .map(|names| (names.template.display().to_string(), names.format))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn targets_are_folders_patterns_or_one_file() {
        assert_eq!(names("out", None, None), Ok(("out/{name}-{index:06}.png".into(), FileFormat::Png)));
        assert_eq!(names("out", Some("npy"), Some(3)), Ok(("out/{name}-{index:06}.npy".into(), FileFormat::Npy)));
        assert_eq!(names("a/{index}.JPEG", None, None), Ok(("a/{index}.JPEG".into(), FileFormat::Jpeg)));
        assert_eq!(names("a/{index}", Some("jpg"), None), Ok(("a/{index}".into(), FileFormat::Jpeg)));
        assert_eq!(names("one.png", None, Some(1)), Ok(("one.png".into(), FileFormat::Png)));
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(names("one.png", None, None).expect_err("many").contains("every frame would be written to one.png"));
        assert!(names("{index}.png", Some("npy"), None).expect_err("both").contains("does not go with"));
        assert!(names("{index}.tif", None, None).expect_err("unknown").contains("does not tell the format"));
    }
}
