//! Encodes frames and writes them, with the packets beside them, into a file that appears only when complete.

use std::path::Path;

use framerail_core::{Frame, Packet, StreamInfo};
use serde::Serialize;

use crate::{MediaError, WriterOptions};

/// What a writer did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WriteReport {
    /// Encoder, such as `libx264`.
    pub codec: String,
    /// Pixel format in the file.
    pub pixel_format: String,
    /// Frames encoded.
    pub frames: u64,
    /// Side packets copied.
    pub packets_copied: u64,
    /// Side packets left out because the container does not take their stream; see `warnings`.
    pub packets_skipped: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Frames whose pixel format was converted.
    pub frames_converted: u64,
    /// Frames that were scaled because their size differed from the first.
    pub frames_rescaled: u64,
    /// Frames whose PTS the container or encoder could not hold exactly.
    pub timestamps_rounded: u64,
    /// What differs from the input and why, one line each.
    pub warnings: Vec<String>,
}

/// Writes one video stream and its side streams.
pub struct MediaWriter {
    _private: (),
}

impl MediaWriter {
    /// Opens encoder and file. `info` says what frames to expect; its side streams are added where the container takes them.
    ///
    /// # Errors
    /// `Exists`, `SameFile`, `BadOption`, `Unsupported`, `Io`, `DiskFull`.
    pub fn create(_path: &Path, _options: &WriterOptions, _info: &StreamInfo) -> Result<Self, MediaError> {
        Err(MediaError::Unsupported { what: "writing".into(), reason: "under construction".into() })
    }

    /// Encodes a frame. The surface must be on the host; it is not copied when the encoder takes its format.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `Ffmpeg`.
    pub fn write_frame(&mut self, _frame: &Frame) -> Result<(), MediaError> {
        Ok(())
    }

    /// Copies a side packet.
    ///
    /// # Errors
    /// `DiskFull`, `Io`.
    pub fn write_packet(&mut self, _packet: &Packet) -> Result<(), MediaError> {
        Ok(())
    }

    /// What will be different from the input, known before the first frame.
    pub fn warnings(&self) -> &[String] {
        &[]
    }

    /// Pixel format that is encoded.
    pub fn pixel_format(&self) -> &str {
        ""
    }

    /// Drains the encoder, completes the file and gives it its final name. Dropping a writer without this removes the file.
    ///
    /// # Errors
    /// `DiskFull`, `Io`: nothing is left behind.
    pub fn finish(self) -> Result<WriteReport, MediaError> {
        Ok(WriteReport::default())
    }
}
