//! The GPU's video decoder (NVDEC): takes packets, returns frames in device memory.
//!
//! A [`NvdecSession`] parses one stream and decodes it on one engine. Its decoder object is cached for the next session,
//! because creating one takes longer than decoding several frames.

mod codec;
mod ffi;
mod format;
mod hardware;
mod library;
mod session;
mod shelf;

pub use codec::{Chroma, DecodeCapability, NvdecCodec, capabilities, capability};
pub use format::StreamFormat;
pub use hardware::release_decoders;
pub use session::{CLOCK_HZ, FrameSink, MappedFrame, MappedFrameInfo, NvdecSession};

/// Checks that the decoder's library is available.
///
/// # Errors
/// `NoDecoder`, with the reason.
pub fn check_library() -> Result<(), crate::CudaError> {
    library::library().map(|_| ())
}
