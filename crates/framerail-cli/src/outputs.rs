//! Files that a run leaves beside its video: statistics, picture of the graph. Checked before the run, so that an hour's
//! work does not end with a file that cannot be written.

use std::path::Path;

use framerail::{
    core::RunFiles,
    media::{MediaError, OutputRules, commit},
    pipeline::GraphPicture,
};

use crate::exit::{Failure, INTERNAL, OUTPUT, USAGE};

fn rules(overwrite: bool, files: &RunFiles) -> OutputRules {
    OutputRules { overwrite, files: files.clone(), ..OutputRules::default() }
}

fn failure(error: MediaError) -> Failure {
    Failure::new(OUTPUT, error)
}

/// Looks whether a file can be put there.
///
/// # Errors
/// `OUTPUT` when the run reads it, it exists and is not to be replaced, or cannot be written.
pub fn check(path: &Path, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    commit::check(path, &rules(overwrite, files)).map_err(failure)
}

/// Looks whether a file can be put there, and notes it as an output of the run.
///
/// # Errors
/// `OUTPUT` when the run reads it or writes it elsewhere, it exists and is not to be replaced, or cannot be written.
pub fn claim(path: &Path, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    check(path, overwrite, files)?;
    files.write(path).map_err(|error| failure(error.into()))
}

/// Writes a file that was claimed; says so when it had to get another name.
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

/// A picture format of graphs.
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
    /// The format that a file name's extension says.
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

/// Writes a picture of a graph in the format that the file's name says.
///
/// # Errors
/// `OUTPUT`, and `USAGE` for another extension.
pub fn write_graph(path: &Path, picture: &GraphPicture, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    let bytes = match GraphFormat::of(path)? {
        GraphFormat::Svg => picture.svg().into_bytes(),
        GraphFormat::Dot => picture.dot().into_bytes(),
        GraphFormat::Png => picture.png().map_err(|error| Failure::new(INTERNAL, error))?,
    };
    write(path, &bytes, overwrite, files)
}

/// Writes something as JSON for people and programs.
///
/// # Errors
/// `OUTPUT`.
pub fn write_json(path: &Path, value: &impl serde::Serialize, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    let mut text = to_json(value)?;
    text.push('\n');
    write(path, text.as_bytes(), overwrite, files)
}

/// Something as JSON, on several lines.
///
/// # Errors
/// `INTERNAL` when it cannot be written as JSON.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(INTERNAL, format_args!("cannot write JSON: {error}")))
}
