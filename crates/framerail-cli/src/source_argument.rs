//! Sources given as arguments.

use std::path::Path;

use clap::builder::{OsStringValueParser, TypedValueParser};
use framerail::core::run_files::file_address;

/// Parses a file name, pattern or URL; a file name that is not UTF-8 becomes a `file://` address.
pub fn source_argument() -> impl TypedValueParser<Value = String> {
    OsStringValueParser::new().map(|name| file_address(Path::new(&name)))
}
