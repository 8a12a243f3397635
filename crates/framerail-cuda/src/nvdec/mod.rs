//! The card's video decoder.

mod codec;
mod ffi;
mod library;

pub use codec::{Chroma, DecodeCapability, NvdecCodec, capabilities, capability};

/// Whether the decoder's library is there.
///
/// # Errors
/// `NoDecoder` with the reason.
pub fn check_library() -> Result<(), crate::CudaError> {
    library::library().map(|_| ())
}
