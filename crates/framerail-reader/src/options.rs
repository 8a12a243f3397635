//! What can be asked of a [`crate::VideoReader`].

use std::{path::PathBuf, time::Duration};

use framerail_core::SourceUrl;
use framerail_media::{InputOptions, ProbeEffort, SideStreams};

use crate::TensorOptions;

/// Where frames are decoded and handed out.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ReadDevice {
    /// The host.
    #[default]
    Cpu,
    /// A CUDA card. What it cannot decode is decoded on the host and uploaded; `VideoMetadata::fallback` says why.
    #[cfg(feature = "cuda")]
    Cuda(std::sync::Arc<framerail_cuda::CudaDevice>),
}

/// How frames are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadMode {
    /// Whichever decodes fewer pictures.
    #[default]
    Auto,
    /// Each group of pictures that holds a wanted frame is visited once, several side by side.
    Seek,
    /// From the first wanted frame to the last, decoded ahead.
    Stream,
}

/// What is handed out of each frame.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum OutputOptions {
    /// Converted in one pass: cropped, resized, normalised.
    Tensor(TensorOptions),
    /// Converted by libswscale: equals `ffmpeg -pix_fmt rgb24` (bgr24, gray, rgba; with 16 bits rgb48, gray16, rgba64) bit for bit. Own size,
    /// host only.
    Swscale(TensorOptions),
    /// The planes as decoded, one behind the other without padding: `[T, 1, 1, bytes]`; [`crate::HostTensor::planes`] says where each lies. Host only.
    Yuv,
}

impl Default for OutputOptions {
    fn default() -> Self {
        OutputOptions::Tensor(TensorOptions::default())
    }
}

/// How the places of frames are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexPolicy {
    /// From the container where that is exact, else by reading every packet once, else by decoding once.
    #[default]
    Exact,
    /// By the header's constant rate, without a scan: frame n is the one on screen at n / rate. Wrong for variable rates and headers that lie.
    Approximate,
}

/// Where an index is kept for the next time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IndexCache {
    /// Nowhere.
    #[default]
    None,
    /// Beside the file, as `NAME.framerail-index`.
    Sidecar,
    /// In this folder, under a hash of the file's path.
    Folder(PathBuf),
}

/// What to do about damage inside a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Give what the decoder made of it and say so in [`crate::FrameInfo::status`]: as players do.
    #[default]
    Repair,
    /// End with [`crate::ReaderError::Decode`] at the first frame that is not as it was encoded.
    Fail,
}

/// What to read and how.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// The source. Selections in seconds are not taken: see [`Selection`].
    pub input: InputOptions,
    /// Where to decode.
    pub device: ReadDevice,
    /// Cards that decode, with `device` a card: by default that one alone. Frames that another card decoded are copied to `device`.
    #[cfg(feature = "cuda")]
    pub decode_on: Vec<std::sync::Arc<framerail_cuda::CudaDevice>>,
    /// How frames are reached.
    pub mode: ReadMode,
    /// What is handed out.
    pub output: OutputOptions,
    /// How the places of frames are found.
    pub index: IndexPolicy,
    /// Where the index is kept.
    pub cache: IndexCache,
    /// Decoder threads on the host; 0 for as many as there are cores.
    pub threads: usize,
    /// Batches that a stream makes ahead of the caller, from 1.
    pub queue: usize,
    /// Memory for frames decoded ahead of their turn, in bytes; by default a quarter of what is available, 4 GiB at most.
    pub memory_bytes: Option<u64>,
    /// Longest time that a call waits for its frames; no limit when `None`.
    pub timeout: Option<Duration>,
    /// What to do about damage.
    pub on_error: OnError,
}

impl ReaderOptions {
    /// Everything by default: on the host, RGB u8 `TCHW` at the video's own size.
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

/// Which frames a stream of batches gives.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Selection {
    /// Every frame.
    #[default]
    All,
    /// Every `step`-th from `start` to before `stop`; to the end when `stop` is `None`.
    Range {
        /// First frame.
        start: usize,
        /// First frame that is not wanted any more.
        stop: Option<usize>,
        /// Distance, from 1.
        step: usize,
    },
    /// These numbers, in this order, duplicates allowed.
    List(Vec<usize>),
    /// The frames on screen at even times.
    Fps {
        /// Frames per second, above 0.
        fps: f64,
        /// First time; the video's start when `None`.
        start_secs: Option<f64>,
        /// First time that is not wanted any more; the video's end when `None`.
        end_secs: Option<f64>,
    },
}
