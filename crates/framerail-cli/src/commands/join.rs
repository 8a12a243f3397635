//! `framerail join`.

use std::path::PathBuf;

use clap::Args;
use framerail::{
    core::RunFiles,
    joining::join_pieces,
    media::{InputOptions, MediaError, WriterOptions},
};

use crate::{
    exit::{CommandResult, Failure, INPUT, OUTPUT, RESOURCE},
    interrupt, terminal,
};

/// Join the pieces of a video that were written separately, without encoding again
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  framerail run 'read in.mp4 end=600 ! infer centerface ! blur ! write p1.mp4 audio=no keep_start=yes'
  framerail run 'read in.mp4 start=600 ! infer centerface ! blur ! write p2.mp4 audio=no keep_start=yes'
  framerail join p1.mp4 p2.mp4 --source in.mp4 -o out.mp4")]
pub struct JoinCommand {
    /// The pieces, in order, written with audio=no keep_start=yes
    #[arg(required = true, value_name = "PIECE")]
    pieces: Vec<PathBuf>,
    /// The file that the pieces were made of: its audio, subtitles, tags and chapters are copied
    #[arg(short, long, value_name = "FILE")]
    source: String,
    /// Output file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Drop audio and subtitles
    #[arg(long)]
    no_audio: bool,
    /// Replace an existing output
    #[arg(long)]
    overwrite: bool,
}

impl JoinCommand {
    /// Writes the joined file and reports its content.
    pub fn execute(&self, quiet: bool) -> CommandResult {
        let files = RunFiles::default();
        for path in self.pieces.iter().map(PathBuf::as_path).chain([self.source.as_ref()]) {
            files.read(path).map_err(|error| Failure::new(INPUT, error))?;
        }
        let cancel = interrupt::tokens().stop;
        let options = WriterOptions { overwrite: self.overwrite, files, ..WriterOptions::default() };
        let source = InputOptions { cancel: cancel.clone(), ..InputOptions::new(self.source.as_str()) };
        let joined = join_pieces(&self.pieces, &source, &self.output, !self.no_audio, &options, &cancel);
        let report = joined.map_err(|error| match error {
            MediaError::Cancelled { .. } => Failure::interrupted("interrupted; no file was written"),
            MediaError::Exhausted { .. } => Failure::new(RESOURCE, error),
            MediaError::Exists { .. } | MediaError::SameFile { .. } | MediaError::Io { .. } | MediaError::DiskFull { .. } => {
                Failure::new(OUTPUT, error)
            }
            error => Failure::new(INPUT, error),
        })?;
        if !quiet {
            report.warnings.iter().for_each(|warning| terminal::line(&format!("{}: {warning}", report.path.display())));
            let (frames, packets) = (report.frames, report.packets_copied + report.packets_encoded);
            let pieces = self.pieces.len();
            let path = report.path.display();
            terminal::line(&format!("{path}: {frames} frames of {pieces} pieces, {packets} packets of audio and subtitles"));
        }
        Ok(())
    }
}
