//! One small clip for every codec, format and special case that framerail supports.

use framerail_core::{ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, Rotation};

use crate::{AudioCodec, Clip, ClipSpec, Codec, Container, SubtitleCodec};

/// Names and descriptions; names are `codec-case`. Nothing is encoded yet.
pub fn corpus() -> Vec<(&'static str, ClipSpec)> {
    let mut clips = codecs();
    clips.extend(pixel_formats());
    clips.extend(colors());
    clips.extend(timing());
    clips.extend(structure());
    clips.extend(side_streams());
    clips
}

/// The corpus, as far as this ffmpeg can encode it.
#[derive(Debug)]
pub struct Corpus {
    /// Names and clips.
    pub made: Vec<(&'static str, Clip)>,
    /// Names, and why they could not be generated.
    pub missing: Vec<(&'static str, String)>,
}

/// Generates the corpus; clips for which this ffmpeg has no encoder are also reported on standard error.
pub fn make_corpus() -> Corpus {
    let mut corpus_made = Corpus { made: Vec::new(), missing: Vec::new() };
    for (name, spec) in corpus() {
        match spec.unavailable() {
            Some(reason) => {
                eprintln!("corpus: {name} left out: {reason}");
                corpus_made.missing.push((name, reason));
            }
            None => corpus_made.made.push((name, spec.make())),
        }
    }
    corpus_made
}

fn h264() -> ClipSpec {
    ClipSpec::new(Codec::H264, Container::Mp4)
}

fn codecs() -> Vec<(&'static str, ClipSpec)> {
    vec![
        ("h264", h264()),
        ("h264-b-frames", h264().frames(32).b_frames(3)),
        ("h264-open-gop", h264().frames(32).b_frames(2).open_gop().gop(8)),
        ("hevc", ClipSpec::new(Codec::Hevc, Container::Mp4)),
        ("hevc-b-frames", ClipSpec::new(Codec::Hevc, Container::Mkv).frames(32).b_frames(3)),
        ("hevc-open-gop", ClipSpec::new(Codec::Hevc, Container::Mp4).frames(32).b_frames(2).open_gop().gop(8)),
        ("vp8", ClipSpec::new(Codec::Vp8, Container::Webm)),
        ("vp9", ClipSpec::new(Codec::Vp9, Container::Webm)),
        ("av1", ClipSpec::new(Codec::Av1, Container::Mkv)),
        ("mpeg2", ClipSpec::new(Codec::Mpeg2, Container::Ts).b_frames(2)),
        ("mpeg4", ClipSpec::new(Codec::Mpeg4, Container::Avi)),
        ("mpeg4-b-frames", ClipSpec::new(Codec::Mpeg4, Container::Mp4).b_frames(2)),
        ("mjpeg", ClipSpec::new(Codec::Mjpeg, Container::Avi)),
        ("prores", ClipSpec::new(Codec::ProRes, Container::Mov)),
        ("ffv1", ClipSpec::new(Codec::Ffv1, Container::Mkv)),
        ("huffyuv", ClipSpec::new(Codec::HuffYuv, Container::Mkv)),
        ("rawvideo", ClipSpec::new(Codec::RawVideo, Container::Avi).frames(4)),
        ("gif", ClipSpec::new(Codec::Gif, Container::Gif)),
        ("png-mov", ClipSpec::new(Codec::Png, Container::Mov)),
        ("png-images", ClipSpec::new(Codec::Png, Container::Images).frames(8)),
        ("jpeg-images", ClipSpec::new(Codec::Mjpeg, Container::Images).frames(8)),
    ]
}

fn pixel_formats() -> Vec<(&'static str, ClipSpec)> {
    let ffv1 = |format: &str| ClipSpec::new(Codec::Ffv1, Container::Mkv).pixel_format(format).frames(4);
    vec![
        ("h264-422", h264().pixel_format("yuv422p")),
        ("h264-444", h264().pixel_format("yuv444p")),
        ("h264-10-bit", h264().pixel_format("yuv420p10le")),
        ("h264-422-10-bit", h264().pixel_format("yuv422p10le")),
        ("h264-gray", h264().pixel_format("gray")),
        ("h264-rgb", h264().pixel_format("rgb24")),
        ("h264-full-range", h264().pixel_format("yuvj420p")),
        ("hevc-10-bit", ClipSpec::new(Codec::Hevc, Container::Mp4).pixel_format("yuv420p10le")),
        ("hevc-gray", ClipSpec::new(Codec::Hevc, Container::Mkv).pixel_format("gray")),
        ("hevc-444-12-bit", ClipSpec::new(Codec::Hevc, Container::Mkv).pixel_format("yuv444p12le")),
        ("hevc-rgb", ClipSpec::new(Codec::Hevc, Container::Mkv).pixel_format("gbrp")),
        ("vp9-444", ClipSpec::new(Codec::Vp9, Container::Webm).pixel_format("yuv444p")),
        ("vp9-10-bit", ClipSpec::new(Codec::Vp9, Container::Webm).pixel_format("yuv420p10le")),
        ("vp9-alpha", ClipSpec::new(Codec::Vp9, Container::Webm).pixel_format("yuva420p")),
        ("av1-10-bit", ClipSpec::new(Codec::Av1, Container::Mp4).pixel_format("yuv420p10le")),
        ("prores-4444-alpha", ClipSpec::new(Codec::ProRes, Container::Mov).pixel_format("yuva444p10le")),
        ("mjpeg-422", ClipSpec::new(Codec::Mjpeg, Container::Avi).pixel_format("yuvj422p")),
        ("ffv1-440", ffv1("yuv440p")),
        ("ffv1-411", ffv1("yuv411p")),
        ("ffv1-410", ffv1("yuv410p")),
        ("ffv1-gray-10-bit", ffv1("gray10le")),
        ("ffv1-gray-16-bit", ffv1("gray16le")),
        ("ffv1-444-10-bit", ffv1("yuv444p10le")),
        ("ffv1-444-16-bit", ffv1("yuv444p16le")),
        ("ffv1-rgb", ffv1("bgr0")),
        ("ffv1-rgb-12-bit", ffv1("gbrp12le")),
        ("ffv1-rgb-alpha", ffv1("bgra")),
        ("ffv1-yuv-alpha", ffv1("yuva444p")),
        ("png-palette", ClipSpec::new(Codec::Png, Container::Images).pixel_format("pal8").frames(4)),
        ("png-gray", ClipSpec::new(Codec::Png, Container::Mov).pixel_format("gray").frames(4)),
        ("png-alpha", ClipSpec::new(Codec::Png, Container::Mov).pixel_format("rgba").frames(4)),
        ("png-16-bit", ClipSpec::new(Codec::Png, Container::Mov).pixel_format("rgb48be").frames(4)),
    ]
}

fn colors() -> Vec<(&'static str, ClipSpec)> {
    let tagged = |matrix, range, primaries, transfer| ColorDescription {
        matrix,
        range,
        primaries: ColorPrimaries(primaries),
        transfer: ColorTransfer(transfer),
        chroma_location: 0,
    };
    let hevc10 = || ClipSpec::new(Codec::Hevc, Container::Mp4).pixel_format("yuv420p10le");
    vec![
        ("h264-bt601", h264().color(tagged(ColorMatrix::Bt601, ColorRange::Limited, 6, 6))),
        ("h264-bt709", h264().color(tagged(ColorMatrix::Bt709, ColorRange::Limited, 1, 1))),
        ("h264-bt709-full", h264().color(tagged(ColorMatrix::Bt709, ColorRange::Full, 1, 1))),
        ("h264-smpte240", h264().color(tagged(ColorMatrix::Smpte240, ColorRange::Limited, 7, 7))),
        ("hevc-bt2020-pq", hevc10().color(tagged(ColorMatrix::Bt2020, ColorRange::Limited, 9, 16))),
        ("hevc-bt2020-hlg", hevc10().color(tagged(ColorMatrix::Bt2020, ColorRange::Limited, 9, 18))),
        ("vp9-bt709", ClipSpec::new(Codec::Vp9, Container::Webm).color(tagged(ColorMatrix::Bt709, ColorRange::Limited, 1, 1))),
    ]
}

fn timing() -> Vec<(&'static str, ClipSpec)> {
    let uneven = [0, 40, 80, 200, 240, 1000, 1033, 1067, 1100, 1500, 1501, 1600];
    vec![
        ("h264-ntsc-rate", h264().frame_rate(30_000, 1001)),
        ("h264-low-rate", h264().frame_rate(1, 2).frames(4)),
        ("h264-high-rate", h264().frame_rate(240, 1)),
        ("h264-variable-rate", h264().pts(1, 1000, &uneven)),
        ("h264-variable-rate-b-frames", h264().pts(1, 90_000, &uneven.map(|tick| tick * 90)).b_frames(2)),
        ("vp9-variable-rate", ClipSpec::new(Codec::Vp9, Container::Webm).pts(1, 1000, &uneven)),
        ("gif-variable-rate", ClipSpec::new(Codec::Gif, Container::Gif).pts(1, 100, &[0, 4, 8, 20, 50, 60])),
        ("h264-start-offset", h264().start_offset_secs(3.5).b_frames(2).audio(AudioCodec::Aac)),
        ("mkv-start-offset", ClipSpec::new(Codec::H264, Container::Mkv).start_offset_secs(12.0)),
        ("ts-start-offset", ClipSpec::new(Codec::H264, Container::Ts).start_offset_secs(5000.0).b_frames(2)),
        ("h264-edit-list", h264().frames(32).gop(16).edit_list_skip(5)),
        ("h264-edit-list-b-frames", h264().frames(32).gop(16).b_frames(2).edit_list_skip(18).audio(AudioCodec::Aac)),
        ("h264-one-frame", h264().frames(1)),
    ]
}

fn structure() -> Vec<(&'static str, ClipSpec)> {
    let elementary = |codec| ClipSpec::new(codec, Container::Elementary).frames(20);
    vec![
        ("h264-rotated-90", h264().rotation(Rotation::Clockwise90)),
        ("h264-rotated-180", h264().rotation(Rotation::Half)),
        ("h264-rotated-270", ClipSpec::new(Codec::H264, Container::Mov).rotation(Rotation::Clockwise270)),
        ("h264-wide-pixels", h264().sample_aspect_ratio(4, 3)),
        ("h264-444-odd-size", h264().size(161, 121).pixel_format("yuv444p")),
        ("vp9-odd-size", ClipSpec::new(Codec::Vp9, Container::Webm).size(131, 99)),
        ("mjpeg-odd-size", ClipSpec::new(Codec::Mjpeg, Container::Avi).size(97, 75)),
        ("ffv1-odd-size", ClipSpec::new(Codec::Ffv1, Container::Mkv).size(65, 49)),
        ("h264-tiny", h264().size(64, 48)),
        ("h264-interlaced", h264().interlaced()),
        ("mpeg2-interlaced", ClipSpec::new(Codec::Mpeg2, Container::Ts).interlaced()),
        ("h264-size-change", ClipSpec::new(Codec::H264, Container::Ts).frames(24).size_change(12, 240, 180)),
        ("h264-annexb-size-change", elementary(Codec::H264).size_change(8, 96, 72)),
        ("h264-annexb", elementary(Codec::H264)),
        ("h264-annexb-b-frames", elementary(Codec::H264).b_frames(2)),
        ("hevc-annexb", elementary(Codec::Hevc).b_frames(2)),
        ("mpeg4-elementary", elementary(Codec::Mpeg4)),
        ("mjpeg-elementary", elementary(Codec::Mjpeg)),
        ("av1-obu", elementary(Codec::Av1)),
        ("vp9-ivf", elementary(Codec::Vp9)),
        ("mkv-unseekable", ClipSpec::new(Codec::H264, Container::Mkv).frames(32).unseekable().audio(AudioCodec::Opus)),
        ("mp4-fragmented", h264().frames(32).unseekable().audio(AudioCodec::Aac)),
        ("h264-ts", ClipSpec::new(Codec::H264, Container::Ts).frames(32).b_frames(2)),
        ("h264-avi", ClipSpec::new(Codec::H264, Container::Avi)),
    ]
}

fn side_streams() -> Vec<(&'static str, ClipSpec)> {
    vec![
        ("h264-aac", h264().audio(AudioCodec::Aac).title("one track")),
        ("h264-two-tracks", h264().audio(AudioCodec::Aac).audio(AudioCodec::Mp3)),
        ("h264-pcm", ClipSpec::new(Codec::H264, Container::Mov).audio(AudioCodec::Pcm)),
        ("vp9-opus", ClipSpec::new(Codec::Vp9, Container::Webm).audio(AudioCodec::Opus)),
        ("h264-mov-text", h264().audio(AudioCodec::Aac).subtitles(SubtitleCodec::MovText)),
        ("h264-srt", ClipSpec::new(Codec::H264, Container::Mkv).audio(AudioCodec::Mp3).subtitles(SubtitleCodec::Srt)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_clips_small() {
        let clips = corpus();
        let names: BTreeSet<_> = clips.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), clips.len());
        for (name, spec) in &clips {
            assert!(spec.frames <= 32 && spec.width <= 320 && spec.height <= 240, "{name} is too large");
        }
    }
}
