//! Default encoder and pixel format of the output: what plays everywhere.

use std::sync::atomic::{AtomicBool, Ordering};

use framerail_core::{ColorTransfer, PixelFormat, StreamInfo};

use crate::{
    MediaError, WriterOptions,
    encoder_name::{encoder_name, find_video_encoder},
    output_format::OutputFormat,
    version,
};

/// Encoders of 8-bit 4:2:0 that devices decode; few devices decode the other formats that they produce.
const PLAIN_ENCODERS: &[&str] = &["libx264", "libopenh264", "mpeg4"];
/// Containers in which players expect HEVC.
const HEVC_CONTAINERS: &[&str] = &["mp4", "mov", "matroska", "ipod", "f4v", "mpegts"];

/// Code points of PQ and HLG.
const HDR_TRANSFERS: [ColorTransfer; 2] = [ColorTransfer(16), ColorTransfer(18)];

/// The chosen encoder and format.
pub(crate) struct VideoDefault {
    pub(crate) codec: String,
    /// The requested format, or 8-bit 4:2:0; `None` leaves it to the encoder.
    pub(crate) pixel_format: Option<PixelFormat>,
    /// The difference from the input.
    pub(crate) warning: Option<String>,
}

impl VideoDefault {
    /// Chooses the requested encoder, else 8-bit 4:2:0 H.264 if the container's default encoder is of that family, or 10-bit HEVC for
    /// HDR, which does not fit into 8 bits.
    ///
    /// # Errors
    /// `Unsupported` for a container without video.
    pub(crate) fn choose(format: OutputFormat, options: &WriterOptions, info: &StreamInfo) -> Result<Self, MediaError> {
        let asked = |codec: &String| Self { codec: codec.clone(), pixel_format: options.pixel_format, warning: None };
        if let Some(codec) = &options.codec {
            return Ok(asked(&encoder_name(find_video_encoder(codec)?)));
        }
        let codec = format.default_encoder()?;
        let asked = |codec: &String| Self { warning: without_x264(codec, format), ..asked(codec) };
        let is_plain = is_plain(info.pixel_format) || !PLAIN_ENCODERS.contains(&codec.as_str());
        // 4:2:0 does not support odd sizes.
        if is_plain || options.pixel_format.is_some() || !(info.width.is_multiple_of(2) && info.height.is_multiple_of(2)) {
            return Ok(asked(&codec));
        }
        let is_hdr = HDR_TRANSFERS.contains(&info.color.transfer);
        let has_x265 = || version::video_encoders().iter().any(|name| name == "libx265");
        if is_hdr && HEVC_CONTAINERS.contains(&format.name().as_str()) && has_x265() {
            let warning = Some("HDR is encoded as HEVC with 10 bits, as players expect; codec= selects another codec".to_owned());
            return Ok(Self { codec: "libx265".into(), pixel_format: Some(PixelFormat::Yuv420p10), warning });
        }
        let from = info.pixel_format;
        let warning = format!("converted from {from} to yuv420p, which plays everywhere; pixel_format={from} or codec= keeps more");
        Ok(Self { codec, pixel_format: Some(PixelFormat::Yuv420p), warning: Some(warning) })
    }

    /// Describes the HDR10 metadata that is lost if neither the container nor the encoder stores it.
    pub(crate) fn lost_hdr(format: OutputFormat, codec: &str, info: &StreamInfo) -> Option<String> {
        let is_written = codec == "libx265" || matches!(format.name().as_str(), "mp4" | "matroska" | "webm");
        let is_lost = !info.hdr.is_empty() && !is_written;
        is_lost.then(|| format!("mastering display and content light level are dropped: {} and {codec} do not support them", format.name()))
    }
}

/// What another encoder than x264 means, once for the process.
fn without_x264(codec: &str, format: OutputFormat) -> Option<String> {
    static IS_REPORTED: AtomicBool = AtomicBool::new(false);
    let words = match codec {
        "libopenh264" => "this FFmpeg has no x264: OpenH264 encodes H.264, in larger files; codec= selects another encoder",
        "mpeg4" if format.is_mov() => "this FFmpeg has no encoder of H.264: MPEG-4 Part 2 is written; codec= selects another encoder",
        _ => return None,
    };
    (!IS_REPORTED.swap(true, Ordering::Relaxed)).then(|| words.to_owned())
}

/// Whether devices decode H.264 of this format.
fn is_plain(format: PixelFormat) -> bool {
    matches!(format, PixelFormat::Yuv420p | PixelFormat::Nv12)
}

#[cfg(test)]
mod tests;
