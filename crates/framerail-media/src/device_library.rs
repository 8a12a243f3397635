//! FFmpeg's library of capture devices (cameras and screens). It depends on dozens of other libraries, so it is loaded only on demand.

use std::sync::OnceLock;

use crate::MediaError;

/// FFmpeg's names of its formats.
const FORMATS: &[&str] = &["v4l2", "video4linux2", "x11grab", "kmsgrab", "fbdev", "decklink", "lavfi"];

/// Whether a format is a device of this machine. FFmpeg's test source, `lavfi`, counts as one.
pub(crate) fn is_device_format(name: &str) -> bool {
    name.split(',').any(|name| FORMATS.contains(&name))
}

/// Registers the formats with FFmpeg.
///
/// # Errors
/// `Unsupported` if the library is missing.
pub(crate) fn load() -> Result<(), MediaError> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(register).clone();
    loaded.map_err(|reason| MediaError::Unsupported { what: "a local camera or screen".into(), reason })
}

#[cfg(feature = "static-ffmpeg")]
fn register() -> Result<(), String> {
    let words = "this program has FFmpeg inside, without libavdevice; build one with the system's FFmpeg, or send the camera through a \
                 pipe: ffmpeg -f v4l2 -i /dev/video0 -f nut -c copy - | framerail run 'read - live=yes ! ...'";
    Err(words.into())
}

#[cfg(not(feature = "static-ffmpeg"))]
fn register() -> Result<(), String> {
    use ffmpeg_the_third::ffi;

    // FFmpeg's libraries of one release share the major version.
    // SAFETY: no preconditions.
    let major = unsafe { ffi::avformat_version() } >> 16;
    let name = format!("libavdevice.so.{major}");
    let file = crate::av::c_string(&name);
    // SAFETY: zero-terminated names. The library is FFmpeg's own and stays loaded; the function takes and returns nothing.
    unsafe {
        let library = libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
        let function = if library.is_null() { std::ptr::null_mut() } else { libc::dlsym(library, c"avdevice_register_all".as_ptr()) };
        if function.is_null() {
            return Err(format!("{name} of FFmpeg is missing; install libavdevice{major}"));
        }
        std::mem::transmute::<*mut libc::c_void, unsafe extern "C" fn()>(function)();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_by_their_formats() {
        assert!(is_device_format("v4l2") && is_device_format("video4linux2,v4l2") && is_device_format("lavfi"));
        assert!(!is_device_format("mp4") && !is_device_format("rtsp"));
    }
}
