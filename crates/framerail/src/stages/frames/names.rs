//! File names of `frames`.

use std::path::{Path, PathBuf};

use framerail_core::StreamInfo;
use framerail_media::OutputRules;
use framerail_pipeline::{ConfigError, ErrorKind, StageError};

use crate::outputs::{has_index_placeholder, indexed_path, link_output};

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

/// A template for file names, and their format.
#[derive(Clone, Debug)]
pub(super) struct FrameNames {
    template: PathBuf,
    format: FileFormat,
}

impl FrameNames {
    /// Names from the target: a folder, a pattern, or one file with `count` 1.
    pub(super) fn new(target: &Path, format: Option<&str>, count: Option<u64>) -> Result<Self, ConfigError> {
        let wanted = format.and_then(FileFormat::of);
        let ending = target.extension().and_then(|ending| ending.to_str()).and_then(FileFormat::of);
        let is_pattern = has_index_placeholder(target) || (ending.is_some() && !target.is_dir());
        if !is_pattern {
            let format = wanted.unwrap_or(FileFormat::Png);
            let template = target.join(format!("{{name}}-{{index:06}}.{}", format.ending()));
            return Ok(Self { template, format });
        }
        if !has_index_placeholder(target) && count != Some(1) {
            let stem = target.file_stem().unwrap_or_default().to_string_lossy();
            let ending = target.extension().unwrap_or_default().to_string_lossy();
            let help = format!("number the files, as in {stem}-{{index:06}}.{ending}, or take one frame with count=1");
            return Err(ConfigError::at("target", format_args!("every frame would be written to {}", target.display())).help(help));
        }
        let format = match (wanted, ending) {
            (Some(wanted), Some(ending)) if wanted != ending => {
                let message = format!("format={} does not match the name {}", wanted.ending(), target.display());
                return Err(ConfigError::at("format", message).help("leave out one of the two"));
            }
            (Some(wanted), _) => wanted,
            (None, Some(ending)) => ending,
            (None, None) => {
                let message = format!("the name {} has no known extension", target.display());
                return Err(ConfigError::at("target", message).help("end it with .png, .jpg or .npy, or give format="));
            }
        };
        Ok(Self { template: target.to_owned(), format })
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

    /// Checks what could prevent files from being written, as far as it is known before the first stream.
    pub(super) fn link(&self, rules: &OutputRules) -> Result<(), StageError> {
        match self.template.parent() {
            Some(folder) if folder.exists() && !folder.is_dir() => {
                let message = format!("{} is a file; name a folder, or a pattern with {{index}}", folder.display());
                Err(StageError::new(ErrorKind::Output, message))
            }
            _ => link_output(&self.template, rules),
        }
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
        assert!(names("{index}.png", Some("npy"), None).expect_err("both").contains("does not match"));
        assert!(names("{index}.tif", None, None).expect_err("unknown").contains("has no known extension"));
    }
}
