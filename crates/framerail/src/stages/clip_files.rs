//! Numbered files of stages that cut streams into clips: names, completion, counters.

use std::path::{Path, PathBuf};

use framerail_core::StreamInfo;
use framerail_media::{Ending, MediaWriter, OutputRules, WriteReport, WriterOptions};
use framerail_pipeline::{Counter, EdgeFormat, LinkContext, StageContext, StageError};

use crate::{
    convert::output_error,
    outputs::{self, Misplaced, OneStreamGuard},
};

struct Counters {
    context: StageContext,
    clips: Counter,
    bytes: Counter,
}

/// The files of one stage.
pub(super) struct ClipFiles {
    template: PathBuf,
    rules: OutputRules,
    is_live: bool,
    misplaced: Misplaced,
    counters: Option<Counters>,
}

impl ClipFiles {
    /// Files named by a template with a place for their number.
    pub(super) fn new(template: PathBuf, rules: OutputRules) -> Self {
        Self { template, rules, is_live: false, misplaced: Misplaced::default(), counters: None }
    }

    /// Checks the names and the writer before the run.
    ///
    /// # Errors
    /// `Output` for names that cannot be written, `Usage` for several streams under one name and for invalid options.
    pub(super) fn link(&mut self, input: &EdgeFormat, context: &LinkContext, writer: &mut WriterOptions) -> Result<(), StageError> {
        OneStreamGuard::check_count(&self.template, input.streams)?;
        self.is_live = input.is_live;
        self.rules.files = context.files.clone();
        writer.files = context.files.clone();
        outputs::link_output(&self.template, &self.rules)?;
        MediaWriter::check(&self.template, writer).map_err(output_error)
    }

    pub(super) fn start(&mut self, context: &StageContext) {
        let (clips, bytes) = (context.counter("clips_written"), context.counter("bytes_written"));
        self.counters = Some(Counters { context: context.clone(), clips, bytes });
    }

    pub(super) fn template(&self) -> &Path {
        &self.template
    }

    pub(super) fn context(&self) -> Option<&StageContext> {
        self.counters.as_ref().map(|counters| &counters.context)
    }

    /// Reports a notice about a file or a stream.
    pub(super) fn notice(&self, message: impl std::fmt::Display) {
        if let Some(context) = self.context() {
            context.notice(message);
        }
    }

    /// The path of a stream's clip, noted as an output of the run.
    ///
    /// # Errors
    /// `Output` when it is an input or another output of the run.
    pub(super) fn claim(&self, info: &StreamInfo, number: u64) -> Result<PathBuf, StageError> {
        let path = outputs::indexed_path(&self.template, info, number);
        self.rules.files.write(&path).map_err(|error| output_error(error.into()))?;
        Ok(path)
    }

    /// Completes the clips that are open when their stream ends.
    pub(super) fn ending(&self, info: &StreamInfo) -> Ending {
        outputs::ending(self.context(), outputs::ends_by_stop(self.is_live, info))
    }

    /// Counts a complete clip; reports its location if it did not get its name.
    pub(super) fn completed(&mut self, path: &Path, report: &WriteReport) {
        let Self { misplaced, counters, .. } = self;
        misplaced.note(path, &report.path, report.elsewhere.as_ref(), counters.as_ref().map(|counters| &counters.context));
        if let Some(counters) = counters {
            counters.clips.add(1);
            counters.bytes.add(report.bytes);
        }
    }

    /// Reports the part that was kept of an incomplete clip.
    pub(super) fn unfinished(&self, path: &Path, kept: Option<PathBuf>) {
        outputs::note_unfinished(path, kept, self.context());
    }

    /// An error if clips did not get their names.
    ///
    /// # Errors
    /// `Output`.
    pub(super) fn end(&self) -> Result<(), StageError> {
        self.misplaced.end()
    }
}
