//! One reader for frames by number, by time, and in sequence.

use crate::{
    Batch, FrameInfo, FrameTime, OutputOptions, ReaderError, ReaderOptions, ReaderStats, Selection, VideoMetadata, batches::Batches,
};

/// Reads frames of one video stream: by number, by time, or in sequence, as dense batches.
///
/// Frame n is the n-th in presentation order as a decode from the start gives it, whichever way it is reached.
pub struct VideoReader {
    options: ReaderOptions,
    metadata: VideoMetadata,
}

impl VideoReader {
    /// Opens a source. Only its header is read; the index is made when it is first needed.
    ///
    /// # Errors
    /// `Media` for what cannot be opened, `BadOption`.
    pub fn open(options: ReaderOptions) -> Result<Self, ReaderError> {
        Err(ReaderError::BadOption { name: "source", reason: format!("{} cannot be read yet", options.input.source) })
    }

    /// The options as given.
    pub fn options(&self) -> &ReaderOptions {
        &self.options
    }

    /// What is known of the video so far: the header's word until the index and the first frame are read.
    pub fn metadata(&self) -> &VideoMetadata {
        &self.metadata
    }

    /// Frames; makes the index when there is none yet.
    ///
    /// # Errors
    /// `Media`, `Timeout`.
    pub fn num_frames(&mut self) -> Result<usize, ReaderError> {
        Ok(self.times()?.len())
    }

    /// The frames' places in time; makes the index when there is none yet.
    ///
    /// # Errors
    /// `Media`, `Timeout`.
    pub fn times(&mut self) -> Result<&[FrameTime], ReaderError> {
        Ok(&[])
    }

    /// Changes what is handed out from now on.
    ///
    /// # Errors
    /// `BadOption`.
    pub fn set_output(&mut self, output: OutputOptions) -> Result<(), ReaderError> {
        self.options.output = output;
        Ok(())
    }

    /// The shape, type and layout of one picture as it is handed out; reads the first frame where the header does not tell.
    ///
    /// # Errors
    /// As [`VideoReader::read`].
    pub fn picture_shape(&mut self) -> Result<crate::PictureShape, ReaderError> {
        Err(ReaderError::Closed)
    }

    /// The number of the frame on screen at a time in seconds on the file's clock. Times before the first frame and from the end of
    /// the last are out of range.
    ///
    /// # Errors
    /// `OutOfRange`, and as [`VideoReader::times`].
    pub fn frame_at(&mut self, _secs: f64) -> Result<usize, ReaderError> {
        Err(ReaderError::Closed)
    }

    /// Frames by their numbers, in the order asked, duplicates allowed.
    ///
    /// # Errors
    /// `OutOfRange` for a number that is not there, `Timeout`, `Media`, `Cuda`; `Decode` for damage where the options ask for it.
    pub fn read(&mut self, _numbers: &[usize]) -> Result<Batch, ReaderError> {
        Err(ReaderError::Closed)
    }

    /// The frames on screen at these times, in the order asked: see [`VideoReader::frame_at`].
    ///
    /// # Errors
    /// As [`VideoReader::read`].
    pub fn read_at(&mut self, seconds: &[f64]) -> Result<Batch, ReaderError> {
        let numbers: Vec<usize> = seconds.iter().map(|secs| self.frame_at(*secs)).collect::<Result<_, _>>()?;
        self.read(&numbers)
    }

    /// The same as [`VideoReader::read`] into the caller's memory: dense, native endian, as long as the pictures need. Host only.
    ///
    /// # Errors
    /// As [`VideoReader::read`]; `BadOption` for a length that does not fit or a reader on a card.
    pub fn read_into(&mut self, _numbers: &[usize], _out: &mut [u8]) -> Result<Vec<FrameInfo>, ReaderError> {
        Err(ReaderError::Closed)
    }

    /// Batches of `batch` frames made ahead by a thread of its own; the last may be smaller, unless `drop_last` leaves it out. The
    /// reader can be used, or dropped, meanwhile.
    ///
    /// # Errors
    /// `OutOfRange`, `BadOption`, and as [`VideoReader::times`].
    pub fn batches(&mut self, _selection: Selection, _batch: usize, _drop_last: bool) -> Result<Batches, ReaderError> {
        Err(ReaderError::Closed)
    }

    /// The numbers of a selection.
    ///
    /// # Errors
    /// `OutOfRange`, `BadOption`, and as [`VideoReader::times`].
    pub fn select(&mut self, _selection: &Selection) -> Result<Vec<usize>, ReaderError> {
        Err(ReaderError::Closed)
    }

    /// What was done so far, by this reader and its batches.
    pub fn stats(&self) -> ReaderStats {
        ReaderStats::default()
    }
}
