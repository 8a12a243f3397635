//! Reads video frames by number, by time or in sequence, on the host or on a CUDA GPU.
//!
//! [`VideoReader`] is the entry point for programs: it returns dense batches of frames, exact regardless of the access pattern. Internally,
//! a file is cut into pieces that decode independently ([`PieceCutter`]), the pieces are decoded in parallel ([`ParallelDecoder`]), and
//! their frames come out in order, bit-identical to a decode from the start. Frames are decoded by FFmpeg on the host ([`CpuPieces`]) or
//! by a CUDA GPU (`DeviceReader`, `DeviceClip`).
#![forbid(unsafe_code)]
// Pieces, cursors and clip requests are shared; some parts are unused in builds without GPU support.
#![cfg_attr(not(feature = "cuda"), allow(dead_code, unused_imports))]

mod assembly;
mod batch;
mod batches;
mod clip_loader;
mod clips;
mod counters;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda_batch;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod device_clip;
#[cfg(feature = "cuda")]
mod device_engine;
#[cfg(feature = "cuda")]
mod device_packets;
#[cfg(feature = "cuda")]
mod device_pieces;
pub mod error;
pub mod fallback;
mod frame_index;
mod frame_source;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "cuda")]
mod gpu_slots;
mod host;
mod host_cursor;
mod host_engine;
mod host_frames;
mod host_memory;
mod index_cache;
mod metadata;
mod options;
mod pace;
mod packets;
mod parallel;
mod piece;
mod piece_frames;
mod piece_source;
mod piece_stream;
mod plan;
mod prefetched;
mod reading_report;
mod selection;
mod streaming;
#[cfg(feature = "cuda")]
mod tensors;
mod threads;
mod video;
mod video_index;
mod video_reader;
mod window;

pub use batch::{Batch, DenseTensor, FrameInfo, FrameStatus, HostTensor, ImageShape, PlanarFrame, PlanePlace, Tensor};
pub use batches::Batches;
#[cfg(feature = "cuda")]
pub use clip_loader::GpuPlace;
pub use clip_loader::{
    ClipAugment, ClipItem, ClipLoader, ClipLoaderOptions, ClipLoaderStats, ClipMemory, ClipPlace, ClipShape, LoadedBatch, LoadedClip,
};
pub use clips::{Clip, ClipEdge, ClipError, ClipPolicy, ClipSampling, ClipSteps, ClipVideo, sample_clips};
pub use cpu::{CpuPieces, PieceCounts};
#[cfg(feature = "cuda")]
pub use cuda_batch::CudaBatch;
#[cfg(feature = "cuda")]
pub use device::{DecodingCard, DeviceOptions, DeviceReader};
#[cfg(feature = "cuda")]
pub use device_clip::{ClipFrame, DeviceClip};
#[cfg(feature = "cuda")]
pub use device_pieces::{CopySurfaces, MakeSurface};
pub use error::ReaderError;
pub use frame_source::{FrameSource, Reading, SourceStats};
pub use framerail_vision::{TensorOptions, TensorSize};
pub use host::{HostOptions, HostReader};
pub use metadata::{FrameTime, IndexSource, ReaderStats, VideoMetadata};
pub use options::{IndexCache, IndexPolicy, OnError, OutputOptions, ReadDevice, ReadMode, ReaderOptions, Selection};
pub use packets::{PacketReader, StreamPacket, VideoPacket};
pub use parallel::{Ahead, MakeDecoder, NextDecoded, ParallelDecoder, PieceDecoder, PieceEnd, PieceOutput, Tagged};
pub use piece::{Piece, PieceCutter, PiecePacket};
pub use plan::{PiecePlan, default_memory_bytes, frame_bytes};
pub use prefetched::{Prefetched, Prefetching};
pub use reading_report::{ReadingReport, reading_report};
#[cfg(feature = "cuda")]
pub use tensors::TensorFrames;
pub use threads::default_threads;
pub use video_index::{FileStamp, IndexedVideo, KnownIndex};
pub use video_reader::VideoReader;
