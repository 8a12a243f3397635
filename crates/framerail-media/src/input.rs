//! Under construction.
use crate::{InputOptions, MediaError};
use framerail_core::StreamInfo;
/// A source of packets.
pub struct Input {
    info: StreamInfo,
}
impl Input {
    /// Opens a source.
    ///
    /// # Errors
    /// Everything that keeps the source from being read.
    pub fn open(_options: &InputOptions) -> Result<Self, MediaError> {
        Err(MediaError::Unsupported { what: "reading".into(), reason: "under construction".into() })
    }
    /// What the container says of the stream.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }
}
