//! Crash-safe Parquet: a row per detection.
//!
//! # Why parts
//! A Parquet file ends with its index, so one whose writer was killed cannot be read at all. Each row group is therefore
//! written to its own file, complete with its index, in the folder `NAME.parts`. At the end the groups are joined into one file byte for
//! byte, and the folder is removed. A killed run leaves a folder of complete files, which readers accept as one data set.

mod columns;
mod join;

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use framerail_core::StreamInfo;
use framerail_media::{Committed, Ending, Leftover, OutputRules, commit};
use framerail_pipeline::{ErrorKind, StageError};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::Compression,
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
};
use serde_json::json;

use self::columns::Columns;
use super::{
    format::{RecordWriter, Written},
    lines::internal,
    record::FrameRecord,
};
use crate::{
    convert::output_error,
    outputs::{OutputFile, make_folder, stem, write_error},
};

/// Limits of a row group.
#[derive(Clone, Copy, Debug)]
pub(super) struct GroupLimits {
    /// Maximum number of rows.
    pub(super) rows: usize,
    /// Maximum time since its first row.
    pub(super) time: Duration,
}

/// An unfinished Parquet file.
pub(super) struct ParquetFile {
    path: PathBuf,
    rules: OutputRules,
    limits: GroupLimits,
    parts: Parts,
    columns: Columns,
    group_began: Option<Instant>,
    /// Description of the streams in the file's metadata.
    streams: Vec<serde_json::Value>,
}

impl ParquetFile {
    /// Starts a file.
    ///
    /// # Errors
    /// `Output`: as for every output; also when an interrupted run has left parts of that name and nothing is to be replaced.
    pub(super) fn create(path: &Path, rules: &OutputRules, limits: GroupLimits) -> Result<Self, StageError> {
        // Finds early what would prevent the joined file.
        commit::check(path, rules).map_err(output_error)?;
        let parts = Parts::create(&commit::staged(path), rules.overwrite)?;
        let (path, columns) = (path.to_owned(), Columns::new());
        Ok(Self { path, rules: rules.clone(), limits, parts, columns, group_began: None, streams: Vec::new() })
    }

    fn end_group(&mut self) -> Result<Written, StageError> {
        self.group_began = None;
        let batch = self.columns.take().map_err(internal)?;
        if batch.num_rows() == 0 {
            return Ok(Written::default());
        }
        let metadata = vec![KeyValue::new("framerail.streams".to_owned(), json!(self.streams).to_string())];
        let properties = properties(Some(metadata), self.limits.rows);
        let write = |file: &mut commit::OutputFile| -> Result<(), ParquetError> {
            let options = ArrowWriterOptions::new().with_properties(properties);
            let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options)?;
            writer.write(&batch)?;
            writer.close().map(|_| ())
        };
        self.parts.add(write)?;
        Ok(Written { row_groups: 1, ..Written::default() })
    }
}

fn properties(metadata: Option<Vec<KeyValue>>, rows: usize) -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(concat!("framerail version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        // Indexes of pages are not carried over when groups are joined.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(rows.max(1)))
        .set_key_value_metadata(metadata)
        .build()
}

impl RecordWriter for ParquetFile {
    fn stream(&mut self, info: &StreamInfo) {
        let base = info.time_base.ratio();
        self.streams.push(json!({
            "stream": info.name, "stream_id": info.id.0, "width": info.width, "height": info.height,
            "time_base": format!("{}/{}", base.num, base.den), "frames_per_second": info.frame_rate.map(|rate| rate.as_f64()),
        }));
    }

    fn frame(&mut self, record: &FrameRecord<'_>) -> Result<Written, StageError> {
        let mut written = Written { detections: record.detections.len() as u64, ..Written::default() };
        for found in &record.detections {
            self.columns.push(record, found)?;
            let began = *self.group_began.get_or_insert_with(Instant::now);
            if self.columns.rows() >= self.limits.rows || began.elapsed() >= self.limits.time {
                written.row_groups += self.end_group()?.row_groups;
            }
        }
        if self.group_began.is_some_and(|began| began.elapsed() >= self.limits.time) {
            written.row_groups += self.end_group()?.row_groups;
        }
        Ok(written)
    }

    fn complete(mut self: Box<Self>, ending: Ending) -> Result<(Committed, Written), StageError> {
        let written = self.end_group()?;
        // Even without rows: a file with the columns only.
        let output = OutputFile::create(&self.path, &self.rules, None).map_err(|error| self.parts.named(error))?;
        let metadata = vec![KeyValue::new("framerail.streams".to_owned(), json!(self.streams).to_string())];
        let properties = properties(Some(metadata), self.limits.rows);
        let committed = join::join(&self.parts.files, output, columns::schema(), properties, &self.path, ending)
            .map_err(|error| self.parts.named(error))?;
        self.parts.remove()?;
        Ok((committed, written))
    }

    fn keep_unfinished(mut self: Box<Self>) -> Option<PathBuf> {
        // A group that does not fit leaves the earlier ones intact.
        let _ = self.end_group();
        (!self.parts.files.is_empty()).then(|| self.parts.folder.clone())
    }
}

/// Row groups on disk, each a complete file.
struct Parts {
    folder: PathBuf,
    files: Vec<PathBuf>,
    is_removed: bool,
}

/// The folder of a file's parts.
pub(super) fn parts_folder(path: &Path) -> PathBuf {
    path.with_file_name(commit::fitting(stem(path), &extension_and(path, ".parts"), None))
}

fn extension_and(path: &Path, more: &str) -> String {
    path.extension().map(|extension| format!(".{}{more}", extension.to_string_lossy())).unwrap_or_else(|| more.to_owned())
}

/// Refuses to start where an interrupted run has left parts.
pub(super) fn check_parts(path: &Path, overwrite: bool) -> Result<(), StageError> {
    let folder = parts_folder(path);
    if overwrite || fs::symlink_metadata(&folder).is_err() { Ok(()) } else { Err(left_over(&folder)) }
}

fn left_over(folder: &Path) -> StageError {
    let folder = folder.display();
    let message = format!("{folder} contains the records of an interrupted run; move it away, or replace it with overwrite=true");
    StageError::new(ErrorKind::Output, message)
}

impl Parts {
    fn create(path: &Path, overwrite: bool) -> Result<Self, StageError> {
        let folder = parts_folder(path);
        if overwrite {
            remove_parts(&folder)?;
        }
        if let Some(above) = folder.parent() {
            make_folder(above)?;
        }
        match fs::create_dir(&folder) {
            Ok(()) => Ok(Self { folder, files: Vec::new(), is_removed: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(left_over(&folder)),
            Err(error) => Err(write_error(&folder, &error)),
        }
    }

    /// Adds a file, which gets its name once it is complete and synced.
    fn add(&mut self, write: impl FnOnce(&mut commit::OutputFile) -> Result<(), ParquetError>) -> Result<(), StageError> {
        let path = self.folder.join(format!("part-{:06}.parquet", self.files.len()));
        let rules = OutputRules { leftover: Leftover::Ignore, ..OutputRules::default() };
        let mut file = commit::OutputFile::create(&path, &rules).map_err(output_error)?;
        write(&mut file).map_err(|error| self.named(parquet_error(&path, error)))?;
        file.complete(Ending::Whole).map_err(|error| self.named(output_error(error)))?;
        self.files.push(path);
        Ok(())
    }

    /// Adds the finished row groups to an error about the file.
    fn named(&self, mut error: StageError) -> StageError {
        if !self.files.is_empty() {
            let (count, folder) = (self.files.len(), self.folder.display());
            error.message = format!("{}; {folder} contains the {count} finished row groups", error.message);
        }
        error
    }

    fn remove(&mut self) -> Result<(), StageError> {
        self.is_removed = true;
        remove_parts(&self.folder)
    }
}

impl Drop for Parts {
    /// After a failed run: finished groups stay, and an empty folder is removed.
    fn drop(&mut self) {
        if self.is_removed {
            return;
        }
        if self.files.is_empty() {
            if let Err(error) = remove_parts(&self.folder) {
                log::warn!("{error}");
            }
        } else {
            log::warn!("{} contains the {} finished row groups", self.folder.display(), self.files.len());
        }
    }
}

/// Removes a folder of parts, but no other files in it.
fn remove_parts(folder: &Path) -> Result<(), StageError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(write_error(folder, &error)),
    };
    for entry in entries {
        let path = entry.map_err(|error| write_error(folder, &error))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_part = |start, end| name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some();
        if is_part("part-", ".parquet") || is_part(".part-", ".parquet") {
            fs::remove_file(&path).map_err(|error| write_error(&path, &error))?;
        }
    }
    fs::remove_dir(folder).map_err(|error| write_error(folder, &error))
}

/// A failure to write, as one line.
fn parquet_error(path: &Path, error: ParquetError) -> StageError {
    match error {
        ParquetError::External(error) => match error.downcast::<io::Error>() {
            Ok(error) => write_error(path, &error),
            Err(error) => internal(error),
        },
        other => StageError::new(ErrorKind::Output, format!("cannot write {}: {other}", path.display())),
    }
}
