//! Line formats: JSON lines, CSV, MOTChallenge.

use std::{fmt::Write, path::PathBuf};

use framerail_media::{Committed, Ending};
use framerail_pipeline::{ErrorKind, StageError};

use super::{
    format::{RecordWriter, Written},
    record::{DetectionRecord, FrameRecord},
};
use crate::outputs::OutputFile;

/// Turns a record into lines.
type Render = fn(&FrameRecord<'_>, &mut String) -> Result<Written, StageError>;

/// A file of lines.
pub(super) struct LineFile {
    file: OutputFile,
    /// Concurrent readers: lines are flushed at once.
    has_reader: bool,
    render: Render,
    text: String,
}

impl LineFile {
    /// A JSON object per frame.
    pub(super) fn json(file: OutputFile) -> Self {
        Self::new(file, json)
    }

    /// A row per detection, after a header row.
    pub(super) fn csv(mut file: OutputFile) -> Result<Self, StageError> {
        file.write(CSV_NAMES.join(",").as_bytes())?;
        file.write(b"\n")?;
        Ok(Self::new(file, csv))
    }

    /// A line per detection with an identity.
    pub(super) fn mot(file: OutputFile) -> Self {
        Self::new(file, mot)
    }

    fn new(file: OutputFile, render: Render) -> Self {
        Self { has_reader: file.has_reader(), file, render, text: String::new() }
    }
}

impl RecordWriter for LineFile {
    fn frame(&mut self, record: &FrameRecord<'_>) -> Result<Written, StageError> {
        self.text.clear();
        let written = (self.render)(record, &mut self.text)?;
        self.file.write(self.text.as_bytes())?;
        if self.has_reader {
            self.file.flush()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.file.flush()
    }

    fn complete(self: Box<Self>, ending: Ending) -> Result<(Committed, Written), StageError> {
        Ok((self.file.complete(ending)?, Written::default()))
    }

    fn keep_unfinished(self: Box<Self>) -> Option<PathBuf> {
        self.file.keep_unfinished()
    }
}

pub(super) fn internal(error: impl std::fmt::Display) -> StageError {
    StageError::new(ErrorKind::Internal, error)
}

fn json(record: &FrameRecord<'_>, text: &mut String) -> Result<Written, StageError> {
    text.push_str(&serde_json::to_string(record).map_err(internal)?);
    text.push('\n');
    Ok(Written { detections: record.detections.len() as u64, ..Written::default() })
}

/// Names of the columns of CSV, in order.
const CSV_NAMES: [&str; 21] = [
    "stream",
    "stream_id",
    "frame",
    "pts",
    "time_base",
    "seconds",
    "wall_time",
    "analysed",
    "label",
    "label_id",
    "score",
    "x1",
    "y1",
    "x2",
    "y2",
    "landmarks",
    "track_id",
    "origin",
    "zones",
    "attributes",
    "oriented",
];

/// Rows as RFC 4180 has them, but for line ends, which are single line feeds. Lists are JSON.
fn csv(record: &FrameRecord<'_>, text: &mut String) -> Result<Written, StageError> {
    let FrameRecord { stream, stream_id, frame, pts, time_base, seconds, analysed, .. } = record;
    let wall_time = record.wall_time.map(|time| time.to_string()).unwrap_or_default();
    for found in &record.detections {
        let DetectionRecord { label_id, score, bbox: [x1, y1, x2, y2], .. } = found;
        let (stream, label) = (quoted(stream), quoted(found.label));
        let landmarks = quoted(&serde_json::to_string(&found.landmarks).map_err(internal)?);
        let track_id = found.track_id.map(|id| id.to_string()).unwrap_or_default();
        let zones = found.zones.as_ref().map(serde_json::to_string).transpose().map_err(internal)?.unwrap_or_default();
        let attributes =
            if found.attributes.is_empty() { String::new() } else { serde_json::to_string(&found.attributes).map_err(internal)? };
        let (origin, zones, attributes) = (found.origin(), quoted(&zones), quoted(&attributes));
        let oriented = found.oriented.as_ref().map(serde_json::to_string).transpose().map_err(internal)?.unwrap_or_default();
        let oriented = quoted(&oriented);
        write!(text, "{stream},{stream_id},{frame},{pts},{time_base},{seconds},{wall_time},{analysed},").map_err(internal)?;
        writeln!(text, "{label},{label_id},{score},{x1},{y1},{x2},{y2},{landmarks},{track_id},{origin},{zones},{attributes},{oriented}")
            .map_err(internal)?;
    }
    Ok(Written { detections: record.detections.len() as u64, ..Written::default() })
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) { format!("\"{}\"", field.replace('"', "\"\"")) } else { field.to_owned() }
}

/// Lines of the MOTChallenge development kit: frames, identities and pixels are numbered from 1.
fn mot(record: &FrameRecord<'_>, text: &mut String) -> Result<Written, StageError> {
    let mut written = Written::default();
    for found in &record.detections {
        let Some(track_id) = found.track_id else {
            written.without_identity += 1;
            continue;
        };
        let ([left, top, width, height], frame, score) = (found.bbox_ltwh(), record.frame.saturating_add(1), found.score);
        let one_based = |value: f64| ((value + 1.0) * 1e4).round() / 1e4;
        writeln!(text, "{frame},{track_id},{},{},{width},{height},{score},-1,-1,-1", one_based(left), one_based(top)).map_err(internal)?;
        written.detections += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_must_be() {
        assert_eq!(quoted("plain words"), "plain words");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"no\""), "\"say \"\"no\"\"\"");
    }
}
