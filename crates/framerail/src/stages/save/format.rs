//! The formats of records, and the interface of their writers.

use std::path::{Path, PathBuf};

use framerail_core::StreamInfo;
use framerail_media::{Committed, Ending, Leftover};
use framerail_pipeline::{ConfigError, Options, StageError};

use super::record::FrameRecord;
use crate::outputs::is_standard_output;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordFormat {
    JsonLines,
    Csv,
    Parquet,
    Coco,
    Mot,
}

/// The values of `format=`, with a line of help each.
pub(super) const FORMATS: [(&str, &str); 6] = [
    ("auto", "by the extension: .jsonl or .ndjson, .csv, .parquet, .json for COCO, .txt for MOT; else, and on standard output, JSON lines"),
    ("jsonl", "JSON lines, an object for each frame"),
    ("csv", "comma-separated values, a row for each detection"),
    ("parquet", "Apache Parquet, a row for each detection"),
    ("coco", "COCO annotations: images, categories, annotations in one JSON object"),
    ("mot", "MOTChallenge text, a line for each detection with an identity"),
];

impl RecordFormat {
    /// The format given by the options or by the file's extension.
    pub(super) fn of(options: &Options, file: &Path) -> Result<Self, ConfigError> {
        let word = options.choice("format");
        let ending = file.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match (word, ending.as_deref()) {
            ("jsonl", _) | ("auto", None | Some("jsonl" | "ndjson")) => Ok(Self::JsonLines),
            ("csv", _) | ("auto", Some("csv")) => Ok(Self::Csv),
            ("parquet", _) | ("auto", Some("parquet" | "pq")) => Ok(Self::Parquet),
            ("coco", _) | ("auto", Some("json")) => Ok(Self::Coco),
            ("mot", _) | ("auto", Some("txt")) => Ok(Self::Mot),
            (_, ending) => {
                Err(ConfigError::at("file", format_args!("`.{}` is not the extension of a record format", ending.unwrap_or_default()))
                    .help("use the extension .jsonl, .csv, .parquet, .json (COCO) or .txt (MOT), or set format="))
            }
        }
    }

    /// Its value of `format=`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::JsonLines => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
            Self::Coco => "coco",
            Self::Mot => "mot",
        }
    }

    /// What happens to a file whose writer fails or is killed.
    pub(super) fn leftover(self) -> Leftover {
        match self {
            Self::JsonLines | Self::Csv | Self::Mot => Leftover::KeepLines,
            // Row groups of Parquet are kept separately; half a COCO file is not valid JSON.
            Self::Parquet | Self::Coco => Leftover::Remove,
        }
    }

    /// Whether rows name their stream, so that several streams can share a file.
    pub(super) fn has_streams(self) -> bool {
        matches!(self, Self::JsonLines | Self::Csv | Self::Parquet)
    }

    /// Whether frames without detections are recorded too.
    pub(super) fn has_empty_frames(self) -> bool {
        matches!(self, Self::JsonLines | Self::Coco)
    }

    /// Checks whether the format can be written to a target.
    pub(super) fn check_place(self, file: &Path) -> Result<(), ConfigError> {
        if self != Self::Parquet {
            return Ok(());
        }
        if cfg!(not(feature = "parquet")) {
            return Err(ConfigError::new("this build writes no Parquet").help("build with `--features parquet`, or save as .csv or .jsonl"));
        }
        let is_special = std::fs::metadata(file).is_ok_and(|found| !found.is_file() && !found.is_dir());
        if is_standard_output(file) || is_special {
            return Err(ConfigError::at("file", "Parquet cannot be written to standard output")
                .help("name a file, or use format=jsonl or format=csv"));
        }
        Ok(())
    }
}

/// Counts of a writer beside its records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// Detections in the file.
    pub(super) detections: u64,
    /// Detections left out for lack of an identity.
    pub(super) without_identity: u64,
    /// Row groups synced to disk.
    pub(super) row_groups: u64,
}

/// An unfinished file of records.
pub(super) trait RecordWriter: Send {
    /// Announces a stream.
    fn stream(&mut self, _info: &StreamInfo) {}

    /// Writes a frame.
    fn frame(&mut self, record: &FrameRecord<'_>) -> Result<Written, StageError>;

    /// Flushes buffered data, for concurrent readers.
    fn flush(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// Renames the file to its final name.
    fn complete(self: Box<Self>, ending: Ending) -> Result<(Committed, Written), StageError>;

    /// Ends a writer after its own or the run's error: keeps the usable part and reports its name.
    fn keep_unfinished(self: Box<Self>) -> Option<PathBuf> {
        None
    }
}
