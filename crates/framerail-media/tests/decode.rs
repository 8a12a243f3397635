//! Decoded frames equal FFmpeg's: count, PTS, samples, rotation, selection.

mod common;

use common::{at, ffmpeg, folder, options, output, probed_pts, pts, read, samples};
use framerail_core::{ColorMatrix, ColorRange, FrameStatus, PixelFormat, Rational, Rotation};
use framerail_media::{MediaReader, RotationPolicy};

/// Reads a clip and compares it with FFmpeg's raw video in the delivered format.
fn assert_equals_ffmpeg(folder: &tempfile::TempDir, name: &str, format: PixelFormat) {
    let contents = read(&options(&at(folder, name)));
    assert_eq!(contents.frames[0].surface.host().expect("host").format(), format, "{name}");
    assert_eq!(pts(&contents.frames), probed_pts(&at(folder, name)), "{name}");
    assert!(!contents.damage.is_any(), "{name}: {:?}", contents.damage);
    let raw = output("ffmpeg", folder.path(), &format!("-i {name} -map 0:v:0 -fps_mode passthrough -f rawvideo -"));
    let ours: Vec<u8> = contents.frames.iter().flat_map(samples).collect();
    assert_eq!(ours.len(), raw.len(), "{name}");
    assert!(ours == raw, "{name}: samples differ");
    for (index, frame) in contents.frames.iter().enumerate() {
        assert_eq!(frame.index, index as u64);
        assert_eq!(frame.status, FrameStatus::Ok);
    }
}

#[test]
fn codecs_equal_ffmpeg() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=162x98:rate=25:duration=1";
    for (name, encoder, format) in [
        ("h264.mp4", "libx264 -bf 3 -g 10", PixelFormat::Yuv420p),
        ("hevc.mp4", "libx265 -x265-params log-level=none:pools=1 -g 10", PixelFormat::Yuv420p),
        ("vp9.webm", "libvpx-vp9 -cpu-used 8 -deadline realtime", PixelFormat::Yuv420p),
        ("av1.mkv", "libaom-av1 -cpu-used 8 -usage realtime", PixelFormat::Yuv420p),
        ("mpeg4.avi", "mpeg4", PixelFormat::Yuv420p),
        ("mjpeg.avi", "mjpeg -q:v 3", PixelFormat::Yuv420p),
        ("mpeg2.ts", "mpeg2video -bf 2", PixelFormat::Yuv420p),
        ("prores.mov", "prores_ks", PixelFormat::Yuv422p10),
        ("prores4444.mov", "prores_ks -pix_fmt yuva444p10le", PixelFormat::Yuva444p10),
        ("ffv1.mkv", "ffv1", PixelFormat::Yuv420p),
    ] {
        let pixel_format = if encoder.contains("pix_fmt") || name.starts_with("prores") { "" } else { "-pix_fmt yuv420p" };
        ffmpeg(folder.path(), &format!("{source} {pixel_format} -c:v {encoder} {name}"));
        assert_equals_ffmpeg_but_range(&folder, name, format);
    }
}

fn assert_equals_ffmpeg_but_range(folder: &tempfile::TempDir, name: &str, format: PixelFormat) {
    // FFmpeg decodes ProRes 4444 to 12 bits only on request; MJPEG's full-range format has the same samples.
    if name == "prores4444.mov" {
        let contents = read(&options(&at(folder, name)));
        assert_eq!(contents.frames.len(), 25);
        assert!(contents.frames[0].surface.host().expect("host").format().has_alpha());
        return;
    }
    assert_equals_ffmpeg(folder, name, format);
}

#[test]
fn pixel_formats_equal_ffmpeg() {
    let folder = folder();
    let source = "-f lavfi -i testsrc=size=67x45:rate=25:duration=0.2";
    for (format, expected) in [
        ("yuv420p", PixelFormat::Yuv420p),
        ("yuv422p", PixelFormat::Yuv422p),
        ("yuv444p", PixelFormat::Yuv444p),
        ("yuv411p", PixelFormat::Yuv411p),
        ("yuv420p10le", PixelFormat::Yuv420p10),
        ("yuv422p10le", PixelFormat::Yuv422p10),
        ("yuv444p12le", PixelFormat::Yuv444p12),
        ("gray", PixelFormat::Gray8),
        ("gray10le", PixelFormat::Gray10),
        ("gray16le", PixelFormat::Gray16),
        ("yuva420p", PixelFormat::Yuva420p),
        ("yuva444p", PixelFormat::Yuva444p),
        ("bgr0", PixelFormat::Bgr0),
        ("bgra", PixelFormat::Bgra),
        ("gbrp10le", PixelFormat::Gbrp10),
        ("gbrp12le", PixelFormat::Gbrp12),
    ] {
        let name = format!("{format}.mkv");
        ffmpeg(folder.path(), &format!("{source} -pix_fmt {format} -c:v ffv1 {name}"));
        assert_equals_ffmpeg(&folder, &name, expected);
    }
    ffmpeg(folder.path(), &format!("{source} -pix_fmt rgb24 -c:v png rgb24.mkv"));
    assert_equals_ffmpeg(&folder, "rgb24.mkv", PixelFormat::Rgb24);
}

#[test]
fn unlisted_formats_are_converted_and_counted() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2";
    for (format, expected) in [("yuv410p", PixelFormat::Yuv420p), ("yuv420p9le", PixelFormat::Yuv420p10), ("gbrp16le", PixelFormat::Rgb48)]
    {
        let name = format!("{format}.mkv");
        ffmpeg(folder.path(), &format!("{source} -pix_fmt {format} -c:v ffv1 {name}"));
        let mut reader = MediaReader::open(&options(&at(&folder, &name)), &framerail_core::FramePool::new(4)).expect("readable");
        assert_eq!(reader.info().pixel_format, expected);
        let contents = common::read_on(&mut reader);
        let conversions = reader.conversions();
        assert_eq!(conversions.len(), 1);
        assert_eq!((conversions[0].from.as_str(), conversions[0].frames), (format, contents.frames.len() as u64));
    }
}

#[test]
fn rotation_equals_ffmpegs() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=66x38:rate=25:duration=0.4 -pix_fmt yuv420p -c:v libx264 plain.mp4");
    for degrees in [90, 180, 270] {
        let name = format!("turned{degrees}.mp4");
        ffmpeg(folder.path(), &format!("-i plain.mp4 -c copy -metadata:s:v:0 rotate={degrees} {name}"));
        let contents = read(&options(&at(&folder, &name)));
        let raw = output("ffmpeg", folder.path(), &format!("-i {name} -f rawvideo -"));
        let ours: Vec<u8> = contents.frames.iter().flat_map(samples).collect();
        assert!(ours == raw, "{degrees}");
        assert_eq!(contents.frames[0].rotation, Rotation::None);
        let mut keep = options(&at(&folder, &name));
        keep.rotation = RotationPolicy::Keep;
        let kept = read(&keep);
        assert_eq!((kept.frames[0].width, kept.frames[0].rotation.degrees()), (66, 360 - degrees));
    }
}

#[test]
fn colour_tags_and_shape_arrive() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2 -vf setsar=4/3 -pix_fmt yuv420p -c:v libx264 \
         -color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc -color_range pc tagged.mp4",
    );
    let contents = read(&options(&at(&folder, "tagged.mp4")));
    let frame = &contents.frames[0];
    assert_eq!((frame.color.matrix, frame.color.range), (ColorMatrix::Bt2020, ColorRange::Full));
    assert_eq!((frame.color.primaries.0, frame.color.transfer.0), (9, 16));
    assert_eq!(frame.sample_aspect_ratio, Rational::new(4, 3));
}

#[test]
fn selections_are_exact() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=4 -f lavfi -i sine=duration=4 -pix_fmt yuv420p -c:v libx264 -bf 3 -g 30 -c:a aac a.mp4",
    );
    ffmpeg(folder.path(), "-i a.mp4 -c copy a.mkv");
    ffmpeg(folder.path(), "-i a.mp4 -c copy a.ts");
    for name in ["a.mp4", "a.mkv", "a.ts"] {
        let all = read(&options(&at(&folder, name)));
        let origin =
            String::from_utf8(output("ffprobe", folder.path(), &format!("-v error -show_entries format=start_time -of csv=p=0 {name}")));
        let origin: f64 = origin.expect("text").trim().parse().expect("seconds");
        for (start, end) in [(0.0, 1.0), (1.0, 2.0), (1.96, 2.04), (3.9, 9.0), (0.52, 0.56)] {
            let mut part = options(&at(&folder, name));
            part.start_secs = Some(start);
            part.end_secs = Some(end);
            let part = read(&part);
            let base = all.frames[0].time_base;
            let inside = |pts: i64| {
                let secs = base.seconds(pts) - origin;
                secs >= start - 1e-3 && secs < end - 1e-3
            };
            let expected: Vec<_> = all.frames.iter().filter(|frame| inside(frame.pts.0)).collect();
            assert_eq!(pts(&part.frames), expected.iter().map(|frame| frame.pts.0).collect::<Vec<_>>(), "{name} {start}..{end}");
            for (ours, theirs) in part.frames.iter().zip(expected) {
                assert!(samples(ours) == samples(theirs), "{name} {start}..{end}: samples");
            }
            assert_eq!(part.frames[0].index, 0);
            assert!(!part.packets.is_empty() || end - start < 0.05, "{name} {start}..{end}: sound");
        }
    }
}

#[test]
fn sizes_may_change_in_mid_stream() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -pix_fmt yuv420p -c:v libx264 one.h264");
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=96x80:rate=25:duration=0.4 -pix_fmt yuv420p -c:v libx264 two.h264");
    let mut bytes = std::fs::read(at(&folder, "one.h264")).expect("clip");
    bytes.extend(std::fs::read(at(&folder, "two.h264")).expect("clip"));
    std::fs::write(at(&folder, "both.h264"), bytes).expect("written");
    let contents = read(&options(&at(&folder, "both.h264")));
    let sizes: Vec<_> = contents.frames.iter().map(|frame| (frame.width, frame.height)).collect();
    assert_eq!(sizes.len(), 20);
    assert_eq!((sizes[0], sizes[9], sizes[10], sizes[19]), ((64, 48), (64, 48), (96, 80), (96, 80)));
    assert!(contents.frames.windows(2).all(|pair| pair[0].pts < pair[1].pts));
    assert_eq!(contents.damage.timestamps_absent, 20, "a raw stream has no timestamps");
}

#[test]
fn images_make_a_video() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2 img%03d.png");
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=32x32:rate=25:duration=0.04 -frames:v 1 -update 1 img006.jpg");
    std::fs::write(at(&folder, "img007.png"), b"not an image").expect("written");
    let pattern = read(&options(&at(&folder, "img%03d.png")));
    assert_eq!(pattern.frames.len(), 5);
    assert_eq!(pts(&pattern.frames), [0, 1, 2, 3, 4]);
    assert_eq!(pattern.frames[0].surface.host().expect("host").format(), PixelFormat::Rgb24);
    assert_eq!((pattern.damage.packets_dropped, pattern.damage.images_missing), (1, 1));
    let mixed = read(&options(folder.path()));
    assert_eq!(mixed.frames.len(), 6);
    assert_eq!((mixed.frames[5].width, mixed.frames[5].pts.0), (32, 5));
    let single = read(&options(&at(&folder, "img002.png")));
    assert_eq!(single.frames.len(), 1);
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=10:duration=1 anim.gif");
    assert_eq!(read(&options(&at(&folder, "anim.gif"))).frames.len(), 10);
}

#[test]
fn video_streams_are_chosen_by_number() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2 -f lavfi -i testsrc2=size=32x32:rate=25:duration=0.4 \
         -map 0 -map 1 -pix_fmt yuv420p -c:v libx264 two.mkv",
    );
    let mut second = options(&at(&folder, "two.mkv"));
    second.video_stream = Some(1);
    let contents = read(&second);
    assert_eq!((contents.frames.len(), contents.frames[0].width), (10, 32));
    second.video_stream = Some(2);
    assert!(framerail_media::Input::open(&second).is_err_and(|error| error.is_usage()));
}
