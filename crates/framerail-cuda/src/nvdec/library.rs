//! `libnvcuvid`, loaded at run time.

use std::{
    ffi::{c_int, c_uint, c_ulonglong},
    sync::OnceLock,
};

use super::ffi;
use crate::CudaError;

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $symbol:literal: fn($($argument:ty),*);)+) => {
        /// The functions used here.
        pub(super) struct Library {
            $($(#[$doc])* pub(super) $name: unsafe extern "C" fn($($argument),*) -> ffi::Code,)+
            _library: libloading::Library,
        }

        impl Library {
            /// # Safety
            /// The library must be `libnvcuvid`.
            unsafe fn new(library: libloading::Library) -> Result<Self, libloading::Error> {
                // SAFETY: guaranteed by the caller; signatures follow the public header, and the library is kept with them.
                unsafe {
                    Ok(Self {
                        $($name: *library.get(concat!($symbol, "\0").as_bytes())?,)+
                        _library: library,
                    })
                }
            }
        }
    };
}

functions! {
    get_caps = "cuvidGetDecoderCaps": fn(*mut ffi::DecodeCaps);
    create_decoder = "cuvidCreateDecoder": fn(*mut ffi::Decoder, *mut ffi::CreateInfo);
    destroy_decoder = "cuvidDestroyDecoder": fn(ffi::Decoder);
    decode_picture = "cuvidDecodePicture": fn(ffi::Decoder, *mut ffi::PictureParameters);
    decode_status = "cuvidGetDecodeStatus": fn(ffi::Decoder, c_int, *mut ffi::DecodeStatus);
    reconfigure = "cuvidReconfigureDecoder": fn(ffi::Decoder, *mut ffi::ReconfigureInfo);
    map = "cuvidMapVideoFrame64": fn(ffi::Decoder, c_int, *mut c_ulonglong, *mut c_uint, *mut ffi::ProcessParameters);
    unmap = "cuvidUnmapVideoFrame64": fn(ffi::Decoder, c_ulonglong);
    create_parser = "cuvidCreateVideoParser": fn(*mut ffi::Parser, *mut ffi::ParserParameters);
    parse = "cuvidParseVideoData": fn(ffi::Parser, *mut ffi::SourcePacket);
    destroy_parser = "cuvidDestroyVideoParser": fn(ffi::Parser);
}

static LOADED: OnceLock<Result<Library, String>> = OnceLock::new();

/// The library.
///
/// # Errors
/// `NoDecoder` when it is not installed.
pub(super) fn library() -> Result<&'static Library, CudaError> {
    let load = || {
        // SAFETY: NVIDIA's driver library has no unsound initialisers.
        let library = unsafe { libloading::Library::new("libnvcuvid.so.1") };
        let library = library
            .map_err(|error| format!("libnvcuvid.so.1 cannot be loaded ({error}); it comes with NVIDIA's driver (package libnvcuvid1)"))?;
        // SAFETY: loaded by that name.
        unsafe { Library::new(library) }.map_err(|error| format!("libnvcuvid.so.1 is too old ({error}); update NVIDIA's driver"))
    };
    LOADED.get_or_init(load).as_ref().map_err(|reason| CudaError::NoDecoder { reason: reason.clone() })
}
