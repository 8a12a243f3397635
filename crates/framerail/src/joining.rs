//! Joins the pieces of a long file that several runs wrote.

use std::path::{Path, PathBuf};

use framerail_core::CancelToken;
use framerail_media::{InputOptions, MediaError, WriteReport, WriterOptions, join::Join};

use crate::stages::write::{Wanted, keeps};

/// Writes one file from pieces of a source, each written with `audio=no keep_start=yes`. Audio, subtitles, tags and chapters come from
/// the source, as in a single run.
///
/// # Errors
/// `Unsupported` for pieces that do not fit together; those of reading and writing.
pub fn join_pieces(
    pieces: &[PathBuf],
    source: &InputOptions,
    path: &Path,
    with_audio: bool,
    options: &WriterOptions,
    cancel: &CancelToken,
) -> Result<WriteReport, MediaError> {
    let wanted = Wanted { audio: with_audio, subtitles: with_audio, images: false };
    let keeps = |side: &_| keeps(side, wanted);
    Join { pieces, source: source.clone(), keeps: &keeps, cancel: cancel.clone() }.write(path, options)
}
