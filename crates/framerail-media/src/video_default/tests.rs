//! Default video properties of outputs: format, HDR10, fields, tags.

use std::path::Path;

use framerail_core::{FieldOrder, FramePool, HdrMetadata};

use crate::{
    InputOptions, MediaItem, MediaReader, WriteReport, WriterOptions,
    side_tracks::tests::{ffmpeg, write},
};

fn read(path: &Path) -> (MediaReader, FieldOrder) {
    let mut reader = MediaReader::open(&InputOptions::new(path.to_string_lossy()), &FramePool::new(4)).expect("readable");
    let mut fields = FieldOrder::Progressive;
    while let Some(item) = reader.next().expect("readable") {
        if let MediaItem::Frame(frame) = item {
            fields = frame.field_order;
        }
    }
    (reader, fields)
}

fn quick() -> WriterOptions {
    WriterOptions { preset: Some("ultrafast".into()), threads: 1, ..WriterOptions::default() }
}

fn has(report: &WriteReport, words: &str) -> bool {
    report.warnings.iter().any(|line| line.contains(words))
}

#[test]
fn more_than_8_bits_become_what_plays_everywhere() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for format in ["yuv420p10le", "yuv422p", "yuv444p", "gbrp", "gray"] {
        ffmpeg(folder.path(), &format!("-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.1 -pix_fmt {format} -c:v ffv1 {format}.mkv"));
        let from = folder.path().join(format!("{format}.mkv"));
        let report = write(&from, &folder.path().join(format!("{format}.mp4")), &quick()).expect(format);
        assert_eq!((report.codec.as_str(), report.pixel_format.as_str()), ("libx264", "yuv420p"), "{format}: {:?}", report.warnings);
        assert!(has(&report, "to yuv420p, which plays everywhere"), "{:?}", report.warnings);
        let asked = WriterOptions { codec: Some("libx264".into()), ..quick() };
        let report = write(&from, &folder.path().join(format!("{format}.asked.mp4")), &asked).expect(format);
        assert_eq!(report.pixel_format, if format == "gbrp" { "yuv444p" } else { format }, "{format}");
    }
}

#[test]
fn hdr_stays_hdr() {
    let folder = tempfile::tempdir().expect("temporary folder");
    // HDR10 in the stream alone, as FFmpeg writes it.
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x64:rate=25:duration=0.1 -pix_fmt yuv420p10le -c:v libx265 -preset ultrafast -color_trc smpte2084 \
         -color_primaries bt2020 -colorspace bt2020nc -x265-params \
         log-level=error:hdr10=1:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400 in.mp4",
    );
    let hdr = read(&folder.path().join("in.mp4")).0.info().hdr;
    let light = hdr.content_light.expect("stated");
    assert_eq!((light.max_cll_nits, light.max_fall_nits), (1000, 400));
    assert!(hdr.mastering_display.is_some_and(|display| display.luminance_nits == Some((0.0001, 1000.0))), "{hdr:?}");
    for (name, codec) in [("out.mp4", None), ("out.mkv", None), ("out.ts", None), ("h264.mkv", Some("libx264")), ("vp9.webm", None)] {
        let to = folder.path().join(name);
        let options = WriterOptions { codec: codec.map(str::to_owned), preset: None, ..quick() };
        let report = write(&folder.path().join("in.mp4"), &to, &options).expect(name);
        let expected = if codec.is_none() && name != "vp9.webm" { "libx265" } else { report.codec.as_str() };
        assert_eq!((report.codec.as_str(), report.pixel_format.as_str()), (expected, "yuv420p10le"), "{name}: {:?}", report.warnings);
        assert_eq!(read(&to).0.info().hdr, hdr, "{name}");
    }
    assert_eq!(HdrMetadata::default().or(hdr), hdr);
}

#[test]
fn fields_are_kept_or_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x64:rate=50:duration=0.4 -vf interlace -c:v mpeg2video -flags +ildct+ilme -top 1 -q:v 2 in.ts",
    );
    let from = folder.path().join("in.ts");
    assert_eq!(read(&from).1, FieldOrder::TopFirst);
    for (name, codec) in [("out.mp4", "libx264"), ("out.mpg", "mpeg2video"), ("out.mov", "prores_ks"), ("out.avi", "mpeg4")] {
        let to = folder.path().join(name);
        let report = write(&from, &to, &WriterOptions { codec: Some(codec.into()), threads: 1, ..WriterOptions::default() }).expect(name);
        assert_eq!(read(&to).1, FieldOrder::TopFirst, "{name}");
        assert!(!has(&report, "interlaced"), "{name}: {:?}", report.warnings);
    }
    let report = write(&from, &folder.path().join("out.webm"), &WriterOptions { codec: Some("libvpx".into()), ..WriterOptions::default() });
    let report = report.expect("written");
    assert!(has(&report, "libvpx encodes interlaced frames") && has(&report, "deinterlace=bwdif"), "{:?}", report.warnings);
}

#[test]
fn places_are_left_out_when_asked_for() {
    let folder = tempfile::tempdir().expect("temporary folder");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.1 -c:v mpeg4 -metadata location=+48.8577+002.295/ -metadata title=Walk in.mp4",
    );
    let from = folder.path().join("in.mp4");
    let tags = |name: &str, strip_location| {
        let to = folder.path().join(name);
        let report = write(&from, &to, &WriterOptions { strip_location, ..quick() }).expect(name);
        (read(&to).0.info().metadata.clone(), report)
    };
    let (kept, report) = tags("kept.mp4", false);
    assert!(kept.iter().any(|(_, value)| value.starts_with("+48.8577")) && !has(&report, "location"), "{kept:?}");
    let (stripped, report) = tags("stripped.mp4", true);
    assert!(
        !stripped.iter().any(|(_, value)| value.contains("48.8577")) && stripped.iter().any(|(_, value)| value == "Walk"),
        "{stripped:?}"
    );
    assert!(has(&report, "location tags are dropped: location"), "{:?}", report.warnings);
}

#[test]
fn further_video_tracks_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.1 -f lavfi -i testsrc2=size=32x48:rate=25:duration=0.1 -map 0 -map 1 -c:v mpeg4 in.mkv",
    );
    let source = folder.path().join("in.mkv");
    let first = read(&source).0.info().clone();
    assert_eq!((first.width, first.not_delivered.len()), (64, 1));
    assert!(first.not_delivered[0].contains("2 video tracks: track 0 is read; track=1 reads another"), "{:?}", first.not_delivered);
    let options = InputOptions { video_stream: Some(1), ..InputOptions::new(source.to_string_lossy()) };
    let second = MediaReader::open(&options, &FramePool::new(4)).expect("readable").info().clone();
    assert_eq!(second.width, 32);
    assert!(second.not_delivered[0].contains("track 1 is read; track=0"), "{:?}", second.not_delivered);
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.1 -pix_fmt yuva420p -c:v libvpx-vp9 -metadata:s:v:0 alpha_mode=1 alpha.webm",
    );
    let alpha = read(&folder.path().join("alpha.webm")).0.info().clone();
    assert!(alpha.not_delivered[0].contains("transparency of vp9 is not decoded"), "{:?}", alpha.not_delivered);
}
