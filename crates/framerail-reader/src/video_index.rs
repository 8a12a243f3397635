//! Entries of a data set index: properties of each video, so that it need not be scanned again.

use std::{
    fs,
    io::{Read, Seek, SeekFrom},
    path::Path,
    time::UNIX_EPOCH,
};

use sha2::{Digest, Sha256};

use crate::{
    IndexSource, ReaderError, ReaderOptions, VideoReader,
    frame_index::FrameIndex,
    index_cache::{from_bytes, to_bytes},
};

/// Number of bytes at the start and end of the file that go into its hash.
const HASHED_BYTES: u64 = 64 * 1024;

/// Size and modification time of a file, to detect changes cheaply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// Size in bytes.
    pub size_bytes: u64,
    /// Modification time in nanoseconds since 1970.
    pub modified_nanos: i64,
}

impl FileStamp {
    /// The stamp of the current file; `None` if it is not a regular file.
    pub fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified = found.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self { size_bytes: found.len(), modified_nanos: i64::try_from(modified.as_nanos()).ok()? })
    }
}

/// A stored frame index, and the file it belongs to.
#[derive(Clone, Debug)]
pub struct KnownIndex {
    /// Stamp of the file when it was indexed.
    pub stamp: FileStamp,
    /// As [`IndexedVideo::packets`].
    pub packets: std::sync::Arc<[u8]>,
}

impl KnownIndex {
    /// The index, if the file has not changed.
    pub(crate) fn of_file(&self, path: &Path) -> Option<FrameIndex> {
        if FileStamp::of(path)? != self.stamp {
            return None;
        }
        from_bytes(&self.packets)
    }
}

/// Stored properties of a video.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct IndexedVideo {
    /// Stamp of the file.
    pub stamp: FileStamp,
    /// SHA-256 over the file's size and its first and last 64 KiB, in hexadecimal.
    pub hash: String,
    /// FFmpeg's name for the container.
    pub container: String,
    /// FFmpeg's name for the codec.
    pub codec: String,
    /// Width in pixels, after rotation.
    pub width: u32,
    /// Height in pixels, after rotation.
    pub height: u32,
    /// FFmpeg's name for the pixel format.
    pub pixel_format: String,
    /// Frames per second according to the header.
    pub frame_rate: Option<f64>,
    /// Duration from the first frame to the end of the last, in seconds.
    pub duration_secs: Option<f64>,
    /// Number of frames.
    pub frames: usize,
    /// Numbers of the frames at which decoding can start.
    pub keyframes: Vec<usize>,
    /// The frame index, for [`KnownIndex`].
    pub packets: Vec<u8>,
}

impl IndexedVideo {
    /// Indexes a file.
    ///
    /// # Errors
    /// As [`VideoReader::open`] and [`VideoReader::times`]; `Failed` for sources that are not files.
    pub fn of(options: ReaderOptions) -> Result<Self, ReaderError> {
        let source = options.input.source.reveal().to_owned();
        let path = Path::new(source.strip_prefix("file:").unwrap_or(&source)).to_owned();
        let failed = |reason: &str| ReaderError::Failed { reason: format!("{}: {reason}", path.display()) };
        let mut reader = VideoReader::open(options)?;
        let stamp = FileStamp::of(&path).ok_or_else(|| failed("is not a file; an index is of files"))?;
        let hash = hash(&path, stamp.size_bytes).map_err(|error| failed(&error.to_string()))?;
        let index = reader.frame_index()?;
        let metadata = reader.metadata();
        let keyframes = index.frames.iter().enumerate().filter(|(_, frame)| frame.is_keyframe).map(|(number, _)| number).collect();
        Ok(Self {
            stamp,
            hash,
            container: metadata.container.clone(),
            codec: metadata.codec.clone(),
            width: metadata.width,
            height: metadata.height,
            pixel_format: metadata.pixel_format.to_string(),
            frame_rate: metadata.frame_rate.map(|rate| rate.as_f64()),
            duration_secs: metadata.duration_secs,
            frames: index.len(),
            keyframes,
            packets: if index.source == IndexSource::Approximate { Vec::new() } else { to_bytes(&index) },
        })
    }
}

fn hash(path: &Path, size: u64) -> std::io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    for start in [0, size.saturating_sub(HASHED_BYTES)] {
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        (&mut file).take(HASHED_BYTES).read_to_end(&mut bytes)?;
        hash.update(&bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
