//! The card's video decoder: packets in, pictures in device memory out.
//!
//! A [`NvdecSession`] parses one stream and decodes it on one engine. Its decoder object is kept for the next session:
//! making one takes longer than decoding several pictures.

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
pub use session::{CLOCK_HZ, MappedPicture, NvdecSession, PictureInfo, PictureSink};

/// Whether the decoder's library is there.
///
/// # Errors
/// `NoDecoder` with the reason.
pub fn check_library() -> Result<(), crate::CudaError> {
    library::library().map(|_| ())
}
