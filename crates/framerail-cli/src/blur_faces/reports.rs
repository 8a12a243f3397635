//! The index of a folder of reports.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use framerail::core::{RunFiles, markup_escaped, printable};

use crate::{exit::CommandResult, outputs};

/// The file's name in the folder.
pub const INDEX: &str = "index.html";

/// The start of an index written earlier: only such a file is replaced without --overwrite.
const HEAD: &str = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"generator\" content=\"framerail reports\">\n\
    <title>Reports</title>\n<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1a1a1a;\
    background:#fff}table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #ddd}\
    @media(prefers-color-scheme:dark){body{background:#181818;color:#e6e6e6}a{color:#8ab4f8}td,th{border-color:#444}}</style>\n</head>\n\
    <body>\n<h1>Reports</h1>\n<table>\n<tr><th>report</th><th>input</th><th>frames</th><th>found</th></tr>\n";

/// The start of a row, up to the report's name.
const ROW: &str = "<tr data-report=\"";

/// Rows of an index, one per report.
#[derive(Default)]
pub struct Index {
    /// Folder, name and row of each page.
    rows: Vec<(PathBuf, String, String)>,
}

impl Index {
    /// Adds the report of an input.
    pub fn add(&mut self, report: &Path, input: &str, frames: u64, found: &str) {
        let name = escaped(&report.file_name().unwrap_or_default().to_string_lossy());
        let link = percent_encoded(report.file_name().unwrap_or_default().as_encoded_bytes());
        let row = format!(
            "{ROW}{name}\"><td><a href=\"{link}\">{name}</a></td><td>{}</td><td>{frames}</td><td>{}</td></tr>\n",
            escaped(input),
            escaped(found)
        );
        self.rows.push((report.parent().unwrap_or(Path::new("")).to_owned(), name, row));
    }

    /// Writes the index; earlier rows stay if their reports still exist.
    ///
    /// # Errors
    /// `OUTPUT`.
    pub fn write(&self, folder: &Path, overwrite: bool, files: &RunFiles) -> CommandResult {
        let is_here = |(of, ..): &&(PathBuf, String, String)| folder.components().eq(of.components());
        let mut rows: Vec<(String, String)> = self.rows.iter().filter(is_here).map(|(_, name, row)| (name.clone(), row.clone())).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let path = folder.join(INDEX);
        let earlier = fs::read_to_string(&path).ok().filter(|text| text.starts_with(HEAD));
        let is_own = earlier.is_some();
        for line in earlier.unwrap_or_default().lines().filter(|line| line.starts_with(ROW)) {
            let name = line.get(ROW.len()..).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            let is_there = PathBuf::from(folder).join(unescaped(name)).is_file();
            if is_there && !rows.iter().any(|(known, _)| known == name) {
                rows.push((name.to_owned(), format!("{line}\n")));
            }
        }
        rows.sort();
        let rows: String = rows.into_iter().map(|(_, row)| row).collect();
        let html = format!("{HEAD}{rows}</table>\n</body>\n</html>\n");
        outputs::write(&path, html.as_bytes(), overwrite || is_own, files)
    }
}

/// Each row is one line.
fn escaped(text: &str) -> String {
    markup_escaped(&printable(text))
}

fn unescaped(text: &str) -> String {
    text.replace("&#39;", "'").replace("&quot;", "\"").replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&")
}

fn percent_encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
