//! Link-time errors and checks shared by stages.

use std::path::Path;

use framerail_core::{Device, RunFiles, SourceUrl};
use framerail_media::source_files;
use framerail_pipeline::{DetectionFormat, EdgeFormat, LinkMismatch, PlanError, StageError};

use crate::convert::output_error;

/// Registers files that a stage reads, so that no output replaces them.
///
/// # Errors
/// `Output` when one of them is an output of the run.
pub(super) fn note_reads<'a>(files: &RunFiles, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), StageError> {
    paths.into_iter().try_for_each(|path| files.read(path).map_err(|error| output_error(error.into())))
}

/// The same for the files of a source.
///
/// # Errors
/// As [`note_reads`].
pub(super) fn note_source(files: &RunFiles, source: &SourceUrl) -> Result<(), StageError> {
    note_reads(files, source_files(source.reveal()).iter().map(|path| path.as_path()))
}

/// The input of a stage that is not a source. The engine always links such a stage with an input.
pub(super) fn input_of(input: Option<&EdgeFormat>) -> Result<&EdgeFormat, PlanError> {
    input.ok_or_else(|| PlanError::Link(LinkMismatch { needs: "frames".into(), hint: "put `read FILE` before it".into() }))
}

/// Frames in host memory; the planner inserts copies for others.
pub(super) fn host_frames(input: Option<&EdgeFormat>) -> Result<&EdgeFormat, PlanError> {
    let input = input_of(input)?;
    if input.device == Device::Cpu { Ok(input) } else { Err(PlanError::NeedsDevice(Device::Cpu)) }
}

/// Whether a model has results for the frames: for objects in them, or for each frame as a whole.
pub(super) fn models_of(input: &EdgeFormat) -> Result<Option<&DetectionFormat>, PlanError> {
    if input.frame_models.is_empty() { detections_of(input).map(Some) } else { Ok(input.detections.as_ref()) }
}

/// The detections of the input.
pub(super) fn detections_of(input: &EdgeFormat) -> Result<&DetectionFormat, PlanError> {
    input.detections.as_ref().ok_or_else(|| {
        PlanError::Link(LinkMismatch {
            needs: "frames with detections".into(),
            hint: "put `infer MODEL` before it, such as `infer centerface`".into(),
        })
    })
}
