//! Outputs of commands other than video: standard output, statistics and the drawn graph. Files are checked before the run, so that a
//! long run does not end with a file that cannot be written.

use std::{
    io::{self, Write},
    path::Path,
};

use framerail::{
    core::{RunFiles, printable_lines},
    media::{MediaError, OutputRules, commit},
    pipeline::GraphDrawing,
};

use crate::exit::{CommandResult, Failure, INTERNAL, OUTPUT, USAGE};

fn rules(overwrite: bool, files: &RunFiles) -> OutputRules {
    OutputRules { overwrite, files: files.clone(), ..OutputRules::default() }
}

fn failure(error: MediaError) -> Failure {
    Failure::new(OUTPUT, error)
}

/// Checks that a file can be written.
///
/// # Errors
/// `OUTPUT` when the run reads it, it exists and is not to be replaced, or cannot be written.
pub fn check(path: &Path, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    commit::check(path, &rules(overwrite, files)).map_err(failure)
}

/// Checks that a file can be written, and registers it as an output of the run.
///
/// # Errors
/// `OUTPUT` when the run reads it or writes it elsewhere, it exists and is not to be replaced, or cannot be written.
pub fn claim(path: &Path, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    check(path, overwrite, files)?;
    files.write(path).map_err(|error| failure(error.into()))
}

/// Writes a registered file; reports if it had to use another name.
///
/// # Errors
/// `OUTPUT`: nothing half-written is left.
pub fn write(path: &Path, bytes: &[u8], overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    let written = commit::write_file(path, bytes, &rules(overwrite, files)).map_err(failure)?;
    match written.elsewhere {
        Some(elsewhere) => Err(Failure::new(OUTPUT, elsewhere.notice())),
        None => Ok(()),
    }
}

/// A format for drawn graphs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphFormat {
    /// Scalable, for browsers and documents.
    Svg,
    /// Text for Graphviz.
    Dot,
    /// Pixels.
    Png,
}

impl GraphFormat {
    /// The format of a file name's extension.
    ///
    /// # Errors
    /// `USAGE` for another extension.
    pub fn of(path: &Path) -> Result<Self, Failure> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Self::Svg),
            Some("dot" | "gv") => Ok(Self::Dot),
            Some("png") => Ok(Self::Png),
            _ => Err(Failure::new(USAGE, format_args!("--graph {}: name a file that ends in .svg, .dot or .png", path.display()))),
        }
    }
}

/// Draws a graph in the format of the file name.
///
/// # Errors
/// `OUTPUT`, and `USAGE` for another extension.
pub fn write_graph(path: &Path, drawing: &GraphDrawing, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    let bytes = match GraphFormat::of(path)? {
        GraphFormat::Svg => drawing.svg().into_bytes(),
        GraphFormat::Dot => drawing.dot().into_bytes(),
        GraphFormat::Png => drawing.png().map_err(|error| Failure::new(INTERNAL, error))?,
    };
    write(path, &bytes, overwrite, files)
}

/// Writes a value as JSON.
///
/// # Errors
/// `OUTPUT`.
pub fn write_json(path: &Path, value: &impl serde::Serialize, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    let mut text = to_json(value)?;
    text.push('\n');
    write(path, text.as_bytes(), overwrite, files)
}

/// A value as indented JSON.
///
/// # Errors
/// `INTERNAL` when it cannot be written as JSON.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(INTERNAL, format_args!("cannot write JSON: {error}")))
}

/// Writes a command's result to standard output, with control characters escaped. A reader that stops early (`| head`) is not an error.
pub fn print(text: &str) -> CommandResult {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(printable_lines(text).as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(not_printed(&error)),
        _ => Ok(()),
    }
}

/// The failure of a command whose result cannot be written to standard output.
pub fn not_printed(error: &io::Error) -> Failure {
    Failure::new(OUTPUT, format_args!("cannot write to standard output: {error}"))
}
