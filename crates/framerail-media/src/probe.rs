//! What a file says of itself.

use serde::Serialize;

use crate::{InputOptions, MediaError};

/// A container and its streams.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ProbeReport {
    /// The source as given.
    pub source: String,
    /// FFmpeg's container name.
    pub container: String,
    /// Length in seconds.
    pub duration_secs: Option<f64>,
}

/// Reads a source's headers; with `count`, all its packets too.
///
/// # Errors
/// As [`crate::Input::open`], except that a file without video is fine.
pub fn probe(_options: &InputOptions, _count: bool) -> Result<ProbeReport, MediaError> {
    Err(MediaError::Unsupported { what: "probing".into(), reason: "under construction".into() })
}
