//! Finds encoders by the names that users give: those of encoders, such as `libx264`, and those of codecs, such as `h264`.

use std::ptr;

use ffmpeg_the_third::ffi;

use crate::{MediaError, av, error::nearest};

/// Encoders that are chosen for a codec before FFmpeg's first one, the best first.
const PREFERRED: &[&str] =
    &["libx264", "libopenh264", "libx265", "libvpx-vp9", "libvpx", "libsvtav1", "libaom-av1", "libopus", "libvorbis", "libmp3lame"];
/// Encoders for common outputs; an error lists those that are present.
const USUAL_VIDEO: &[&str] = &["libx264", "libopenh264", "libx265", "libsvtav1", "libvpx-vp9", "mpeg4", "prores_ks", "ffv1", "mjpeg"];
const USUAL_AUDIO: &[&str] = &["aac", "libmp3lame", "libopus", "flac", "ac3", "pcm_s16le"];

/// The video encoder with this name, or the usual one of the codec with this name.
///
/// # Errors
/// `BadOption` of `codec`.
pub(crate) fn find_video_encoder(name: &str) -> Result<&'static ffi::AVCodec, MediaError> {
    find(name, ffi::AVMediaType::VIDEO)
}

/// The audio encoder with this name, or the usual one of the codec with this name.
///
/// # Errors
/// `BadOption` of `codec`.
pub(crate) fn find_audio_encoder(name: &str) -> Result<&'static ffi::AVCodec, MediaError> {
    find(name, ffi::AVMediaType::AUDIO)
}

/// FFmpeg's name of an encoder.
pub(crate) fn encoder_name(codec: &ffi::AVCodec) -> String {
    // SAFETY: an encoder's name is static.
    unsafe { av::string(codec.name) }
}

fn find(name: &str, kind: ffi::AVMediaType) -> Result<&'static ffi::AVCodec, MediaError> {
    let video = kind == ffi::AVMediaType::VIDEO;
    let wanted = match name.to_ascii_lowercase().as_str() {
        // Names of the standards that FFmpeg does not know.
        "h265" => "hevc".to_owned(),
        "avc" => "h264".to_owned(),
        other => other.to_owned(),
    };
    // FFmpeg's own experimental encoders of Opus and Vorbis have the codec's name.
    if let Some(codec) = by_name(&wanted).filter(|codec| codec.type_ == kind && !is_experimental(codec)) {
        return Ok(codec);
    }
    let of_kind: Vec<_> = encoders().into_iter().filter(|codec| codec.type_ == kind).collect();
    if let Some(codec) = of_codec(&wanted, &of_kind).or_else(|| by_name(&wanted).filter(|codec| codec.type_ == kind)) {
        return Ok(codec);
    }
    let names: Vec<String> = of_kind.iter().map(|codec| encoder_name(codec)).collect();
    let nearest = nearest(&wanted, names.iter().map(String::as_str));
    let (what, usual) = if video { ("video", USUAL_VIDEO) } else { ("audio", USUAL_AUDIO) };
    let mut reason = format!("'{name}': this FFmpeg has no {what} encoder of this name");
    if nearest.is_none() {
        let present: Vec<&str> = usual.iter().copied().filter(|usual| names.iter().any(|name| name == usual)).collect();
        reason = format!("{reason}; it has {} and others", present.join(", "));
    }
    Err(MediaError::BadOption { name: "codec".into(), reason, nearest })
}

fn by_name(name: &str) -> Option<&'static ffi::AVCodec> {
    let name = av::c_string(name);
    // SAFETY: a zero-terminated name; descriptions are static.
    unsafe { ffi::avcodec_find_encoder_by_name(name.as_ptr()).as_ref() }
}

/// The usual encoder of a codec: a preferred one, else FFmpeg's first that needs no device and is not experimental.
fn of_codec(name: &str, encoders: &[&'static ffi::AVCodec]) -> Option<&'static ffi::AVCodec> {
    let name = av::c_string(name);
    // SAFETY: a zero-terminated name; descriptions are static.
    let id = unsafe { ffi::avcodec_descriptor_get_by_name(name.as_ptr()).as_ref() }?.id;
    let of_codec = || encoders.iter().copied().filter(move |codec| codec.id == id);
    PREFERRED
        .iter()
        .find_map(|preferred| of_codec().find(|codec| encoder_name(codec) == *preferred))
        .or_else(|| of_codec().find(|codec| codec.capabilities as u32 & ffi::AV_CODEC_CAP_HARDWARE == 0 && !is_experimental(codec)))
}

fn is_experimental(codec: &ffi::AVCodec) -> bool {
    codec.capabilities as u32 & ffi::AV_CODEC_CAP_EXPERIMENTAL != 0
}

fn encoders() -> Vec<&'static ffi::AVCodec> {
    let (mut found, mut state) = (Vec::new(), ptr::null_mut());
    // SAFETY: the iterator's own state; descriptions are static.
    while let Some(codec) = unsafe { ffi::av_codec_iterate(&mut state).as_ref() } {
        // SAFETY: a description from FFmpeg's iterator.
        if unsafe { ffi::av_codec_is_encoder(codec) } != 0 {
            found.push(codec);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(name: &str) -> String {
        find_video_encoder(name).map_or_else(|error| error.to_string(), encoder_name)
    }

    fn audio(name: &str) -> String {
        find_audio_encoder(name).map_or_else(|error| error.to_string(), encoder_name)
    }

    #[test]
    fn codecs_and_encoders_are_found_by_name() {
        av::init();
        for (name, encoder) in
            [("mpeg4", "mpeg4"), ("MJPEG", "mjpeg"), ("prores", "prores"), ("ffv1", "ffv1"), ("h264", "libx264"), ("H265", "libx265")]
        {
            assert_eq!(video(name), encoder);
        }
        for (name, encoder) in [("aac", "aac"), ("opus", "libopus"), ("vorbis", "libvorbis"), ("mp3", "libmp3lame"), ("flac", "flac")] {
            assert_eq!(audio(name), encoder);
        }
    }

    #[test]
    fn unknown_encoders_name_the_option_the_value_and_a_way_out() {
        av::init();
        assert_eq!(video("libx26"), "option 'codec': 'libx26': this FFmpeg has no video encoder of this name; did you mean 'libx264'?");
        let reason = video("nonsense");
        assert!(reason.starts_with("option 'codec': 'nonsense': ") && reason.contains("; it has ") && reason.contains("mpeg4"), "{reason}");
        // A video encoder is not an audio encoder, and the reverse.
        let reason = audio("libx264");
        assert!(reason.starts_with("option 'codec': 'libx264': this FFmpeg has no audio encoder") && reason.contains("aac"), "{reason}");
        assert!(video("aac").starts_with("option 'codec': 'aac': this FFmpeg has no video encoder"));
    }
}
