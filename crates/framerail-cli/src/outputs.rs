//! Files that a run leaves beside its video: statistics, picture of the graph. Checked before the run, so that an hour's
//! work does not end with a folder that is not there.

use std::{fs, io, path::Path};

use framerail::pipeline::GraphPicture;

use crate::exit::{Failure, INTERNAL, OUTPUT, USAGE};

/// Looks whether a file can be put there. It may exist: statistics and pictures are replaced.
///
/// # Errors
/// `OUTPUT` when its folder is missing or it is a folder itself.
pub fn check(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(Failure::new(
            OUTPUT,
            format_args!("{}: the folder {} does not exist; create it first", path.display(), folder.display()),
        ));
    }
    if path.is_dir() {
        return Err(Failure::new(OUTPUT, format_args!("{}: is a folder; name a file", path.display())));
    }
    Ok(())
}

/// Writes a file, replacing it.
///
/// # Errors
/// `OUTPUT` with the system's words.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|error| Failure::new(OUTPUT, format_args!("{}: {}", path.display(), words(&error))))
}

fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
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
pub fn write_graph(path: &Path, picture: &GraphPicture) -> Result<(), Failure> {
    let bytes = match GraphFormat::of(path)? {
        GraphFormat::Svg => picture.svg().into_bytes(),
        GraphFormat::Dot => picture.dot().into_bytes(),
        GraphFormat::Png => picture.png().map_err(|error| Failure::new(INTERNAL, error))?,
    };
    write(path, &bytes)
}

/// Writes something as JSON for people and programs.
///
/// # Errors
/// `OUTPUT`.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = to_json(value)?;
    text.push('\n');
    write(path, text.as_bytes())
}

/// Something as JSON, on several lines.
///
/// # Errors
/// `INTERNAL` when it cannot be written as JSON.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map_err(|error| Failure::new(INTERNAL, format_args!("cannot write JSON: {error}")))
}
