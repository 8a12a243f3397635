//! Properties of the linked FFmpeg, for `doctor`.

use std::ptr;

use ffmpeg_the_third::ffi;

use crate::av;

/// FFmpeg's version, such as `5.1.9-0+deb12u1`.
pub fn ffmpeg_version() -> String {
    // SAFETY: a static string.
    unsafe { av::string(ffi::av_version_info()) }
}

/// The licence of the build.
pub fn ffmpeg_license() -> String {
    // SAFETY: a static string.
    unsafe { av::string(ffi::avcodec_license()) }
}

/// Versions of its libraries, such as `("libavcodec", "59.37.100")`.
pub fn library_versions() -> Vec<(&'static str, String)> {
    let text = |version: u32| format!("{}.{}.{}", version >> 16, version >> 8 & 255, version & 255);
    // SAFETY: functions without preconditions.
    unsafe {
        vec![
            ("libavutil", text(ffi::avutil_version())),
            ("libavcodec", text(ffi::avcodec_version())),
            ("libavformat", text(ffi::avformat_version())),
            ("libavfilter", text(ffi::avfilter_version())),
            ("libswscale", text(ffi::swscale_version())),
        ]
    }
}

/// Names of its video decoders, sorted.
pub fn video_decoders() -> Vec<String> {
    // SAFETY: descriptions from FFmpeg's iterator are valid.
    video_codecs(|codec| unsafe { ffi::av_codec_is_decoder(codec) } != 0)
}

/// Names of its video encoders, sorted.
pub fn video_encoders() -> Vec<String> {
    // SAFETY: descriptions from FFmpeg's iterator are valid.
    video_codecs(|codec| unsafe { ffi::av_codec_is_encoder(codec) } != 0)
}

fn video_codecs(keep: impl Fn(*const ffi::AVCodec) -> bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut state = ptr::null_mut();
    // SAFETY: the iterator's own state; descriptions are static.
    while let Some(codec) = unsafe { ffi::av_codec_iterate(&mut state).as_ref() } {
        if codec.type_ == ffi::AVMediaType::VIDEO && keep(codec) {
            // SAFETY: names are static.
            names.push(unsafe { av::string(codec.name) });
        }
    }
    names.sort();
    names
}

/// Names of its demuxers.
pub(crate) fn demuxers() -> Vec<String> {
    let mut names = Vec::new();
    let mut state = ptr::null_mut();
    loop {
        // SAFETY: the iterator's own state; descriptions are static.
        let Some(format) = (unsafe { ffi::av_demuxer_iterate(&mut state).as_ref() }) else { return names };
        // SAFETY: names are static.
        names.extend(unsafe { av::string(format.name) }.split(',').map(str::to_owned));
    }
}

/// Protocols that it writes to, such as `rtmp`.
pub(crate) fn output_protocols() -> Vec<String> {
    let mut names = Vec::new();
    let mut state = ptr::null_mut();
    loop {
        // SAFETY: the iterator's own state; names are static.
        let name = unsafe { av::string(ffi::avio_enum_protocols(&mut state, 1)) };
        if name.is_empty() {
            return names;
        }
        names.push(name);
    }
}

/// Names of its muxers.
pub(crate) fn muxers() -> Vec<String> {
    let mut names = Vec::new();
    let mut state = ptr::null_mut();
    loop {
        // SAFETY: the iterator's own state; descriptions are static.
        let Some(format) = (unsafe { ffi::av_muxer_iterate(&mut state).as_ref() }) else { return names };
        // SAFETY: names are static.
        names.push(unsafe { av::string(format.name) });
    }
}
