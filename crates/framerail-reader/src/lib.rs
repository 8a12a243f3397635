//! Video read as frames, by as many decoders as one file can keep busy.
//!
//! A file is cut into pieces that decode alone ([`PieceCutter`]), the pieces are decoded side by side
//! ([`ParallelDecoder`]), and their pictures come out in order: bit for bit those of a decode from the start. The decoder
//! behind is FFmpeg's on the host ([`CpuPieces`]) or a CUDA card's (`DeviceReader`).
#![forbid(unsafe_code)]

mod cpu;
#[cfg(feature = "cuda")]
mod device;
#[cfg(feature = "cuda")]
mod device_clip;
#[cfg(feature = "cuda")]
mod device_pieces;
pub mod error;
mod packets;
mod parallel;
mod piece;
#[cfg(feature = "cuda")]
mod tensors;
mod window;

pub use cpu::CpuPieces;
#[cfg(feature = "cuda")]
pub use device::{DeviceOptions, DeviceReader, DeviceReaderStats};
#[cfg(feature = "cuda")]
pub use device_clip::{ClipFrame, DeviceClip};
#[cfg(feature = "cuda")]
pub use device_pieces::{CopySurfaces, MakeSurface};
pub use error::ReaderError;
pub use packets::{PacketReader, StreamPacket, VideoPacket};
pub use parallel::{MakeDecoder, ParallelDecoder, PieceDecoder, PieceOutput, Tagged};
pub use piece::{Piece, PieceCutter, PiecePacket};
#[cfg(feature = "cuda")]
pub use tensors::{TensorOptions, TensorPictures};
