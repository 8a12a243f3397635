//! Options of [`crate::VideoReader`].

use std::{path::PathBuf, time::Duration};

use framerail_core::SourceUrl;
use framerail_media::{InputOptions, ProbeEffort, SideStreams};

use crate::TensorOptions;

/// Where frames are decoded and returned.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ReadDevice {
    /// The host.
    #[default]
    Cpu,
    /// A CUDA GPU. Streams that it cannot decode are decoded on the host and uploaded; `VideoMetadata::fallback` has the reason.
    #[cfg(feature = "cuda")]
    Cuda(std::sync::Arc<framerail_cuda::CudaDevice>),
}

/// How frames are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Whichever mode decodes fewer frames.
    #[default]
    Auto,
    /// Visits each GOP that contains a wanted frame once, several in parallel.
    Seek,
    /// Decodes from the first wanted frame to the last, ahead of the caller.
    Stream,
}

/// Output format of frames.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OutputOptions {
    /// Converted in one pass: cropped, resized, normalised.
    Tensor(TensorOptions),
    /// Converted by libswscale, bit-identical to `ffmpeg -pix_fmt rgb24` (or bgr24, gray, rgba; with 16 bits rgb48, gray16, rgba64).
    /// Original size, host only.
    Swscale(TensorOptions),
    /// The decoded planes without padding: `[T, 1, 1, bytes]`; [`crate::HostTensor::planes`] returns their positions. Host only.
    Yuv,
}

impl Default for OutputOptions {
    fn default() -> Self {
        OutputOptions::Tensor(TensorOptions::default())
    }
}

/// How the frame index is built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexPolicy {
    /// From the container if that is exact, otherwise by reading every packet once, otherwise by decoding once.
    #[default]
    Exact,
    /// From the header's frame rate, without a scan: frame n is the one on screen at n / rate.
    /// Wrong for variable frame rates and incorrect headers.
    Approximate,
}

/// Where frame indexes are cached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexCache {
    /// Nowhere.
    #[default]
    None,
    /// Next to the file, as `NAME.framerail-index`.
    Sidecar,
    /// In this folder, under a hash of the file's path.
    Folder(PathBuf),
}

/// How to handle damage inside a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Return the decoder's output and mark it in [`crate::FrameInfo::status`], as media players do.
    #[default]
    Repair,
    /// Fail with [`crate::ReaderError::Decode`] at the first frame that was not decoded as encoded.
    Fail,
}

/// Options of a reader.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// The source. Selections in seconds are rejected; use [`Selection`].
    pub input: InputOptions,
    /// Where to decode.
    pub device: ReadDevice,
    /// GPUs that decode, if `device` is a GPU; default: only that one. Frames decoded by another GPU are copied to `device`.
    #[cfg(feature = "cuda")]
    pub decode_on: Vec<std::sync::Arc<framerail_cuda::CudaDevice>>,
    /// How frames are reached.
    pub mode: ReadMode,
    /// Output format of frames.
    pub output: OutputOptions,
    /// How the frame index is built.
    pub index: IndexPolicy,
    /// Where the frame index is cached.
    pub cache: IndexCache,
    /// Decoder threads on the host; 0 = one per CPU core.
    pub threads: usize,
    /// Number of batches that a stream makes ahead of the caller, from 1.
    pub queue: usize,
    /// Memory for frames decoded ahead of their turn, in bytes; default: a quarter of the available memory, at most 4 GiB.
    pub memory_bytes: Option<u64>,
    /// Maximum time that a call waits for its frames; `None` = no limit.
    pub timeout: Option<Duration>,
    /// How to handle damage.
    pub on_error: OnError,
}

impl ReaderOptions {
    /// All options at their defaults: on the host, RGB u8 `TCHW` at the original size.
    pub fn new(source: impl Into<SourceUrl>) -> Self {
        let input = InputOptions { side_streams: SideStreams::None, probe: ProbeEffort::Header, ..InputOptions::new(source) };
        Self {
            input,
            device: ReadDevice::default(),
            #[cfg(feature = "cuda")]
            decode_on: Vec::new(),
            mode: ReadMode::default(),
            output: OutputOptions::default(),
            index: IndexPolicy::default(),
            cache: IndexCache::default(),
            threads: 0,
            queue: 2,
            memory_bytes: None,
            timeout: None,
            on_error: OnError::default(),
        }
    }
}

/// Frames to return in a stream of batches.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Selection {
    /// Every frame.
    #[default]
    All,
    /// Every `step`-th frame from `start` to before `stop`; to the end when `stop` is `None`.
    Range {
        /// First frame.
        start: usize,
        /// End of the range, exclusive.
        stop: Option<usize>,
        /// Distance, from 1.
        step: usize,
    },
    /// These frame numbers, in this order; duplicates are allowed.
    List(Vec<usize>),
    /// The frames on screen at regular times.
    Fps {
        /// Frames per second, above 0.
        fps: f64,
        /// First time in seconds; `None` = start of the video.
        start_secs: Option<f64>,
        /// End time in seconds, exclusive; `None` = end of the video.
        end_secs: Option<f64>,
    },
}
