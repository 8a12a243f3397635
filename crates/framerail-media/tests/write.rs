//! Written files equal their source: PTS, audio, tags, chapters, rotation; files appear only when complete.

mod common;

use std::fs;

use common::{at, copy, ffmpeg, folder, options, output, probed_pts, pts, read, samples};
use framerail_core::{FramePool, PixelFormat};
use framerail_media::{MediaError, MediaItem, MediaReader, MediaWriter, Quality, WriterOptions};

fn with_codec(codec: &str) -> WriterOptions {
    WriterOptions { codec: Some(codec.into()), ..WriterOptions::default() }
}

fn text(program: &str, folder: &tempfile::TempDir, arguments: &str) -> String {
    String::from_utf8(output(program, folder.path(), arguments)).expect("text")
}

/// Hash of each stream's packets, without timestamps.
fn stream_hash(folder: &tempfile::TempDir, name: &str, stream: &str) -> String {
    text("ffmpeg", folder, &format!("-i {name} -map {stream} -c copy -f streamhash -hash md5 -"))
}

/// 40 frames at uneven times, with audio, chapters, tags and subtitles.
fn variable_rate_clip(folder: &tempfile::TempDir) {
    fs::write(at(folder, "subs.srt"), "1\n00:00:00,100 --> 00:00:00,900\nHello\n").expect("written");
    fs::write(
        at(folder, "chapters.txt"),
        ";FFMETADATA1\ntitle=Two chapters\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=700\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=700\nEND=1500\ntitle=Two\n",
    )
    .expect("written");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=60:duration=2 -f lavfi -i sine=duration=2 -f lavfi -i sine=f=900:duration=2 -i subs.srt -i chapters.txt \
         -map 0 -map 1 -map 2 -map 3 -map_metadata 4 -vf select='eq(mod(n\\,3)\\,0)+eq(mod(n\\,7)\\,0)' -fps_mode vfr -enc_time_base -1 -pix_fmt yuv420p \
         -c:v libx264 -bf 3 -g 12 -c:a aac -c:s mov_text -metadata:s:a:1 language=deu vfr.mp4",
    );
    ffmpeg(folder.path(), "-i vfr.mp4 -i subs.srt -map 0:v -map 0:a -map 1 -c copy -c:s subrip vfr.mkv");
}

#[test]
fn variable_rate_audio_and_chapters_survive() {
    let folder = folder();
    variable_rate_clip(&folder);
    for (from, to) in [("vfr.mp4", "a.mp4"), ("vfr.mp4", "a.mov"), ("vfr.mkv", "a.mkv"), ("vfr.mkv", "b.mp4")] {
        let report = copy(&options(&at(&folder, from)), &at(&folder, to), &WriterOptions::default()).expect("written");
        assert_eq!(report.timestamps_rounded, 0, "{from} to {to}");
        let (ours, theirs) = (read(&options(&at(&folder, to))), read(&options(&at(&folder, from))));
        let seconds = |contents: &common::Contents| contents.frames.iter().map(|frame| frame.seconds()).collect::<Vec<_>>();
        assert_eq!(seconds(&ours), seconds(&theirs), "{from} to {to}");
        for sound in ["0:a:0", "0:a:1"] {
            assert_eq!(stream_hash(&folder, to, sound), stream_hash(&folder, from, sound), "{from} to {to}");
        }
        let chapters = text("ffprobe", &folder, &format!("-v error -show_entries chapter=start_time,end_time -of csv=p=0 {to}"));
        assert_eq!(chapters.lines().count(), 2, "{to}: {chapters}");
        assert_eq!(text("ffprobe", &folder, &format!("-v error -show_entries format_tags=title -of csv=p=0 {to}")).trim(), "Two chapters");
        let language =
            text("ffprobe", &folder, &format!("-v error -select_streams a:1 -show_entries stream_tags=language -of csv=p=0 {to}"));
        // QuickTime has its own language codes, and none for "deu".
        assert!(to == "a.mov" || ["deu", "ger"].contains(&language.trim()), "{to}: {language}");
        assert_eq!(report.warnings.iter().any(|line| line.contains("subrip")), to == "b.mp4", "{:?}", report.warnings);
    }
}

#[test]
fn audio_and_video_keep_their_relation() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=4 -f lavfi -i sine=duration=4 -pix_fmt yuv420p -c:v libx264 -bf 2 -g 30 -c:a aac a.mp4",
    );
    ffmpeg(folder.path(), "-i a.mp4 -c copy a.ts");
    let first = |name: &str, stream: &str| -> f64 {
        let command = format!("-v error -select_streams {stream} -show_entries packet=pts_time -read_intervals %+#40 -of csv=p=0 {name}");
        let times = text("ffprobe", &folder, &command);
        times.lines().filter_map(|line| line.trim_matches(',').parse::<f64>().ok()).fold(f64::MAX, f64::min)
    };
    for (from, to) in [("a.ts", "whole.mp4"), ("a.ts", "whole.mkv"), ("a.mp4", "whole2.mp4"), ("a.mp4", "moved.mkv")] {
        let report = copy(&options(&at(&folder, from)), &at(&folder, to), &WriterOptions::default()).expect("written");
        let (video, sound) = (first(to, "v:0"), first(to, "a:0"));
        let relation = first(from, "v:0") - first(from, "a:0");
        assert!((video - sound - relation).abs() < 2e-3, "{from} to {to}: {video} {sound}");
        // Encoder delay of audio has negative times if the container supports them, as in the source.
        let start = if to == "whole2.mp4" { video } else { sound };
        assert!(start.abs() < 1e-3, "{from} to {to} starts at {start}");
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
    }
    let keep = WriterOptions { keep_start: true, ..WriterOptions::default() };
    copy(&options(&at(&folder, "a.ts")), &at(&folder, "kept.mp4"), &keep).expect("written");
    for stream in ["v:0", "a:0"] {
        assert!((first("kept.mp4", stream) - first("a.ts", stream)).abs() < 1e-3, "{stream}");
    }
    let mut part = options(&at(&folder, "a.mp4"));
    (part.start_secs, part.duration_secs) = (Some(1.0), Some(1.0));
    let report = copy(&part, &at(&folder, "part.mp4"), &WriterOptions::default()).expect("written");
    assert_eq!(report.frames, 25);
    assert!(first("part.mp4", "v:0").abs() < 1e-4);
    assert!((0.0..0.03).contains(&first("part.mp4", "a:0")), "{}", first("part.mp4", "a:0"));
}

#[test]
fn lossless_codecs_give_the_same_samples() {
    let folder = folder();
    for format in ["yuv420p", "yuv422p10le", "yuv444p", "gray", "gbrp", "bgra", "yuva420p", "gray16le", "rgb24"] {
        let from = format!("{format}.mkv");
        let codec = if format == "rgb24" { "png" } else { "ffv1" };
        ffmpeg(folder.path(), &format!("-f lavfi -i testsrc=size=67x45:rate=25:duration=0.2 -pix_fmt {format} -c:v {codec} {from}"));
        let to = at(&folder, &format!("{format}.copy.mkv"));
        let report = copy(&options(&at(&folder, &from)), &to, &with_codec(codec)).expect("written");
        assert_eq!((report.frames, report.frames_converted, report.warnings.len()), (5, 0, 0), "{format} {:?}", report.warnings);
        let (ours, theirs) = (read(&options(&to)), read(&options(&at(&folder, &from))));
        assert_eq!(pts(&ours.frames), pts(&theirs.frames));
        for (a, b) in ours.frames.iter().zip(&theirs.frames) {
            assert!(samples(a) == samples(b), "{format}");
        }
    }
}

#[test]
fn every_usual_codec_writes_every_frame() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=128x96:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 in.mp4");
    for (codec, to) in [
        ("libx264", "out.mp4"),
        ("libx265", "x265.mp4"),
        ("libvpx-vp9", "out.webm"),
        ("libsvtav1", "av1.mkv"),
        ("mpeg4", "out.avi"),
        ("mpeg4", "mpeg4.mp4"),
        ("mjpeg", "mjpeg.mov"),
        ("prores_ks", "prores.mov"),
        ("mpeg2video", "out.ts"),
        ("gif", "out.gif"),
    ] {
        let report = copy(&options(&at(&folder, "in.mp4")), &at(&folder, to), &with_codec(codec)).expect(codec);
        assert_eq!(report.frames, 25, "{codec}");
        let contents = read(&options(&at(&folder, to)));
        assert_eq!(contents.frames.len(), 25, "{codec}");
        let start = contents.frames[0].seconds();
        for (index, frame) in contents.frames.iter().enumerate() {
            assert!((frame.seconds() - start - index as f64 * 0.04).abs() < 1e-3, "{codec} frame {index}: {}", frame.seconds());
        }
    }
}

/// All containers that only count frames, and one with timestamps: a fine time base of the input must not become their frame rate.
#[test]
fn containers_that_count_frames_keep_the_rate() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 -video_track_timescale 12800 cfr.mp4",
    );
    let input = options(&at(&folder, "cfr.mp4"));
    for name in ["a.y4m", "a.ogv", "a.h264", "a.m2v", "a.mxf", "a.avi", "a.swf", "a.rm", "a.nut", "a.mkv"] {
        let report = copy(&input, &at(&folder, name), &WriterOptions::default()).expect(name);
        assert_eq!((report.frames, report.frames_repeated, report.timestamps_rounded), (25, 0, 0), "{name}: {:?}", report.warnings);
        assert!(!report.warnings.iter().any(|warning| warning.contains("rounded")), "{name}: {:?}", report.warnings);
        let shown = text(
            "ffprobe",
            &folder,
            &format!("-v error -count_frames -show_entries stream=r_frame_rate,nb_read_frames -of csv=p=0 {name}"),
        );
        assert_eq!(shown.lines().next().map(|line| line.trim_end_matches(',')), Some("25/1,25"), "{name}");
    }
}

/// FFmpeg measures averages such as 75000/7007, and MPEG-4 stores rates in 16 bits.
#[test]
fn rates_that_a_codec_cannot_store_become_the_nearest() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=30000/1001:duration=1 -vf select=not(mod(n\\,3)) -fps_mode vfr -pix_fmt yuv420p -c:v libx264 odd.mp4",
    );
    let input = options(&at(&folder, "odd.mp4"));
    let rate = framerail_media::Input::open(&input).expect("readable").info().frame_rate.expect("measured");
    assert!(rate.num > 65_535, "{rate:?}");
    for (name, codec) in [("a.avi", "mpeg4"), ("a.mkv", "mpeg4"), ("a.wmv", "wmv2")] {
        let report =
            copy(&input, &at(&folder, name), &WriterOptions { codec: Some(codec.into()), ..WriterOptions::default() }).expect(name);
        assert_eq!(report.frames, 10, "{name}");
    }
}

#[test]
fn a_variable_rate_keeps_its_length_in_containers_that_count_frames() {
    let folder = folder();
    // Frames 0 to 9, 20 to 29 and 35 at 25 frames/s.
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=2 -vf select='lt(n\\,10)+between(n\\,20\\,29)+eq(n\\,35)' -fps_mode vfr \
         -enc_time_base -1 -r 25 -pix_fmt yuv420p -c:v libx264 -bf 2 vfr.mkv",
    );
    for name in ["a.y4m", "a.ogv", "a.h264", "a.m2v"] {
        let report = copy(&options(&at(&folder, "vfr.mkv")), &at(&folder, name), &WriterOptions::default()).expect(name);
        assert_eq!((report.frames, report.frames_repeated), (21, 15), "{name}: {:?}", report.warnings);
        if name == "a.ogv" {
            // Theora stores an identical frame as an empty packet, for which FFmpeg returns no frame.
            assert_eq!(probed_pts(&at(&folder, name)).last(), Some(&35), "{name}");
        } else {
            let shown = text("ffprobe", &folder, &format!("-v error -count_frames -show_entries stream=nb_read_frames -of csv=p=0 {name}"));
            assert_eq!(shown.lines().next().map(|line| line.trim_end_matches(',')), Some("36"), "{name}");
        }
        assert!(report.warnings.iter().any(|warning| warning.contains("frames repeated")), "{name}: {:?}", report.warnings);
    }
}

#[test]
fn rotation_colour_and_shape_are_written() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=0.4 -vf setsar=4/3 -pix_fmt yuv420p -c:v libx264 -color_primaries bt709 -color_trc bt709 \
         -colorspace bt709 -color_range tv tagged.mp4",
    );
    ffmpeg(folder.path(), "-i tagged.mp4 -c copy -metadata:s:v:0 rotate=90 turned.mp4");
    let mut keep = options(&at(&folder, "turned.mp4"));
    keep.rotation = framerail_media::RotationPolicy::Keep;
    copy(&keep, &at(&folder, "out.mp4"), &WriterOptions::default()).expect("written");
    let (ours, theirs) = (read(&keep), {
        let mut keep = options(&at(&folder, "out.mp4"));
        keep.rotation = framerail_media::RotationPolicy::Keep;
        read(&keep)
    });
    let (ours, theirs) = (&ours.frames[0], &theirs.frames[0]);
    assert_eq!((ours.rotation, ours.color, ours.sample_aspect_ratio), (theirs.rotation, theirs.color, theirs.sample_aspect_ratio));
    assert_eq!(ours.rotation.degrees(), 270);
}

#[test]
fn odd_sizes_keep_their_size() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc=size=67x45:rate=25:duration=0.2 -pix_fmt yuv420p -c:v ffv1 in.mkv");
    let report = copy(&options(&at(&folder, "in.mkv")), &at(&folder, "out.mp4"), &WriterOptions::default()).expect("written");
    assert_eq!((report.pixel_format.as_str(), report.frames_converted, report.warnings.len()), ("yuv444p", 5, 1));
    let frame = &read(&options(&at(&folder, "out.mp4"))).frames[0];
    assert_eq!((frame.width, frame.height), (67, 45));
    assert!(matches!(
        copy(&options(&at(&folder, "in.mkv")), &at(&folder, "o.mkv"), &with_codec("libsvtav1")),
        Err(MediaError::Unsupported { .. })
    ));
}

#[test]
fn sizes_that_change_are_scaled_to_the_first() {
    let folder = folder();
    let mut bytes = Vec::new();
    for size in ["64x48", "96x80"] {
        ffmpeg(folder.path(), &format!("-f lavfi -i testsrc2=size={size}:rate=25:duration=0.4 -pix_fmt yuv420p -c:v libx264 {size}.h264"));
        bytes.extend(fs::read(at(&folder, &format!("{size}.h264"))).expect("clip"));
    }
    fs::write(at(&folder, "both.h264"), bytes).expect("written");
    let report = copy(&options(&at(&folder, "both.h264")), &at(&folder, "out.mp4"), &WriterOptions::default()).expect("written");
    assert_eq!((report.frames, report.frames_rescaled), (20, 10));
    assert!(read(&options(&at(&folder, "out.mp4"))).frames.iter().all(|frame| frame.width == 64));
}

#[test]
fn wrong_options_are_named() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2 -pix_fmt yuv420p -c:v libx264 in.mp4");
    let input = options(&at(&folder, "in.mp4"));
    let refuse = |name: &str, options: &WriterOptions| copy(&input, &at(&folder, name), options).expect_err("refused").to_string();
    assert!(refuse("out.mp4", &with_codec("libx246")).contains("did you mean 'libx264'"));
    let tuned = WriterOptions { encoder_options: vec![("tunee".into(), "film".into())], ..WriterOptions::default() };
    assert!(refuse("out.mp4", &tuned).contains("'tunee'"));
    assert!(refuse("out.mp4", &tuned).contains("did you mean 'tune'"));
    let crf = WriterOptions { quality: Quality::Crf(20.0), ..with_codec("mpeg4") };
    assert!(refuse("out.mp4", &crf).contains("'crf'"));
    let muxed = WriterOptions { format_options: vec![("movflag".into(), "x".into())], ..WriterOptions::default() };
    assert!(refuse("out.mp4", &muxed).contains("'movflag'"));
    assert!(refuse("out", &WriterOptions::default()).contains("no extension"));
    assert!(refuse("out.qqq", &WriterOptions::default()).contains(".qqq"));
    assert!(refuse("in.mp4/out.mp4", &WriterOptions::default()).contains("folder"));
    let format = WriterOptions { pixel_format: Some(PixelFormat::Gray12), ..WriterOptions::default() };
    assert!(refuse("out.mp4", &format).contains("it supports yuv420p"));
    let over = WriterOptions { overwrite: true, ..WriterOptions::default() };
    assert!(matches!(copy(&input, &at(&folder, "in.mp4"), &over), Err(MediaError::SameFile { .. })));
    fs::write(at(&folder, "old.mp4"), b"old").expect("written");
    assert!(matches!(copy(&input, &at(&folder, "old.mp4"), &WriterOptions::default()), Err(MediaError::Exists { .. })));
    assert_eq!(fs::read(at(&folder, "old.mp4")).expect("kept"), b"old");
    copy(&input, &at(&folder, "old.mp4"), &over).expect("replaced");
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2, "nothing half-done is left");
}

#[test]
fn a_full_disk_is_one_clear_error() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=2 -pix_fmt yuv420p -c:v libx264 in.mp4");
    std::os::unix::fs::symlink("/dev/full", at(&folder, "full.mkv")).expect("linked");
    let over = WriterOptions { overwrite: true, ..with_codec("ffv1") };
    let error = copy(&options(&at(&folder, "in.mp4")), &at(&folder, "full.mkv"), &over).expect_err("full");
    assert!(matches!(error, MediaError::DiskFull { .. }), "{error}");
    assert!(error.to_string().contains("full.mkv"));
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 in.mp4");
    let mut reader = MediaReader::open(&options(&at(&folder, "in.mp4")), &FramePool::new(4)).expect("readable");
    let mut writer = MediaWriter::create(&at(&folder, "out.mp4"), &WriterOptions::default(), reader.info()).expect("creatable");
    for _ in 0..10 {
        if let Some(MediaItem::Frame(frame)) = reader.next().expect("sound") {
            writer.write_frame(&frame).expect("written");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 2);
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).expect("folder").count(), 1);
}

/// The kinds of a file's top-level boxes.
fn boxes(path: &std::path::Path) -> Vec<String> {
    let bytes = fs::read(path).expect("there");
    let (mut kinds, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some(header) = rest.first_chunk::<8>() {
        let size = u32::from_be_bytes([header[0], header[1], header[2], header[3]]) as usize;
        kinds.push(String::from_utf8_lossy(&header[4..]).into_owned());
        rest = rest.get(size.max(8)..).unwrap_or_default();
    }
    kinds
}

#[test]
fn a_crash_safe_file_becomes_the_ordinary_one() {
    let folder = folder();
    variable_rate_clip(&folder);
    ffmpeg(folder.path(), "-i vfr.mp4 -map 0:v -map 0:a -c:v copy -c:a pcm_s16le -timecode 01:00:00:00 -write_tmcd 1 pcm.mov");
    ffmpeg(folder.path(), "-i vfr.mp4 -map 0:v -map 0:a:0 -c copy -f mpegts annexb.ts");
    // Fragments without text begin with an empty one, which the regular file does not have.
    fs::write(at(&folder, "texts.srt"), "1\n00:00:00,300 --> 00:00:00,900\nHello\n\n2\n00:00:02,500 --> 00:00:02,900\nWorld\n")
        .expect("written");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=96x64:rate=25:duration=4 -f lavfi -i sine=duration=4 -i texts.srt -c:v mpeg4 -c:a aac -c:s srt texts.mkv",
    );
    let pairs =
        [("vfr.mp4", "mp4"), ("vfr.mp4", "mov"), ("pcm.mov", "mov"), ("annexb.ts", "mp4"), ("texts.mkv", "mp4"), ("texts.mkv", "mov")];
    for (from, to) in pairs {
        let (plain, safe) = (format!("plain.{to}"), format!("safe.{to}"));
        for (name, crash_safe) in [(&plain, false), (&safe, true)] {
            // This encoder is deterministic.
            let options_of_writer = WriterOptions { crash_safe, overwrite: true, threads: 1, ..with_codec("mpeg4") };
            let report = copy(&options(&at(&folder, from)), &at(&folder, name), &options_of_writer).expect("written");
            assert!(!report.warnings.iter().any(|line| line.contains("fragments")), "{from}: {:?}", report.warnings);
        }
        assert_eq!(boxes(&at(&folder, &safe)), ["ftyp", "moov", "mdat"], "{from} to {to}");
        // Packets of each stream in file order: fragments hold a second of each stream, one stream after the other.
        let shown = |name: &str| {
            let show = "-show_streams -show_chapters -show_format -show_packets -show_data_hash md5 -of compact";
            let text = text("ffprobe", &folder, &format!("-v error {show} {name}"));
            let own = |field: &&str| !["pos=", "filename=", "size=", "bit_rate="].iter().any(|key| field.starts_with(key));
            let mut lines: Vec<String> = text.lines().map(|line| line.split('|').filter(own).collect::<Vec<_>>().join("|")).collect();
            lines.sort();
            lines
        };
        let (plain, safe) = (shown(&plain), shown(&safe));
        let differ = plain.iter().zip(&safe).find(|(plain, safe)| plain != safe);
        assert!(differ.is_none() && plain.len() == safe.len(), "{from} to {to}: {differ:?}");
    }
}

#[test]
fn what_is_on_the_disk_of_a_crash_safe_file_can_be_played_at_any_moment() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=6 -pix_fmt yuv420p -c:v libx264 in.mp4";
    ffmpeg(folder.path(), source);
    for name in ["out.mp4", "out.mov", "out.mkv", "out.ts"] {
        let mut reader = MediaReader::open(&options(&at(&folder, "in.mp4")), &FramePool::new(4)).expect("readable");
        let safe =
            WriterOptions { crash_safe: true, low_latency: true, gop: Some(50), codec: Some("libx264".into()), ..WriterOptions::default() };
        let mut writer = MediaWriter::create(&at(&folder, name), &safe, reader.info()).expect("creatable");
        let mut written = 0;
        while let Some(item) = reader.next().expect("sound") {
            let MediaItem::Frame(frame) = item else { continue };
            writer.write_frame(&frame).expect("written");
            written += 1;
            if ![60, 101, 149].contains(&written) {
                continue;
            }
            // The file as it would be after `kill -9`.
            let partial = fs::read_dir(folder.path()).expect("folder").map(|entry| entry.expect("there").path());
            let partial =
                partial.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".out.partial")));
            let copied = at(&folder, &format!("killed-{name}"));
            fs::copy(partial.expect("there"), &copied).expect("copied");
            let found = read(&options(&copied)).frames.len();
            // One fragment, and the unwritten part of the next one; a Matroska cluster lasts up to five seconds.
            let lost = if name == "out.mkv" { 130 } else { 30 };
            assert!(found > 0 && found + lost >= written, "{name}: {found} of {written}");
            ffmpeg(folder.path(), &format!("-v error -i killed-{name} -f null -"));
        }
        // A writer that fails keeps the file under a visible name.
        let kept = writer.keep_unfinished().expect("playable");
        assert!(kept.ends_with(name.replace("out.", "out.unfinished.")), "{}", kept.display());
        assert_eq!(read(&options(&kept)).frames.len(), 150, "{name}");
    }
}

#[test]
fn reader_and_writer_may_move_between_threads() {
    fn is_send<T: Send>() {}
    is_send::<MediaReader>();
    is_send::<MediaWriter>();
    is_send::<framerail_media::Converter>();
    is_send::<framerail_media::Deinterlacer>();
}

#[test]
fn probed_pts_of_written_files_agree_with_ffprobe() {
    let folder = folder();
    variable_rate_clip(&folder);
    copy(&options(&at(&folder, "vfr.mp4")), &at(&folder, "out.mp4"), &WriterOptions::default()).expect("written");
    assert_eq!(pts(&read(&options(&at(&folder, "out.mp4"))).frames), probed_pts(&at(&folder, "out.mp4")));
}

/// A stream whose range, matrix or aspect ratio changes keeps its initial one; samples are converted, not passed unchanged.
#[test]
fn changes_of_range_matrix_and_shape_are_converted() {
    let folder = folder();
    // White in limited range (235), then white in full range (255) with another matrix.
    let grey = "-f lavfi -i color=white:size=96x64:rate=25:duration=0.4 -c:v libx264 -g 1 -bf 0 -vf";
    let tags = |range: &str, matrix: &str| format!("-color_range {range} -colorspace {matrix}");
    let limited = format!("{grey} scale=out_range=tv,format=yuv420p {} -f mpegts limited.ts", tags("tv", "bt709"));
    let full = format!("{grey} scale=out_range=pc,format=yuv420p {} -f mpegts full.ts", tags("pc", "smpte170m"));
    ffmpeg(folder.path(), &limited);
    ffmpeg(folder.path(), &full);
    let narrow =
        "-f lavfi -i color=white:size=96x64:rate=25:duration=0.4 -vf setsar=1/2,format=yuv420p -c:v libx264 -g 1 -bf 0 -f mpegts narrow.ts";
    ffmpeg(folder.path(), narrow);
    let join = |names: [&str; 2], to: &str| {
        let bytes: Vec<u8> = names.iter().flat_map(|name| fs::read(at(&folder, name)).expect("made")).collect();
        fs::write(at(&folder, to), bytes).expect("written");
    };
    join(["limited.ts", "full.ts"], "ranges.ts");
    join(["limited.ts", "narrow.ts"], "shapes.ts");
    let lossless = WriterOptions { quality: Quality::Crf(0.0), ..with_codec("libx264") };
    for (from, what, corner) in [("ranges.ts", "matrix or range", 235), ("shapes.ts", "shape", 16)] {
        let report = copy(&options(&at(&folder, from)), &at(&folder, "out.mp4"), &WriterOptions { overwrite: true, ..lossless.clone() })
            .expect("written");
        assert!(report.warnings.iter().any(|warning| warning.contains(what)), "{:?}", report.warnings);
        let luma = output("ffmpeg", folder.path(), "-i out.mp4 -f rawvideo -pix_fmt yuv420p -");
        let frame = 96 * 64 * 3 / 2;
        assert_eq!(luma.len() / frame, 20);
        let (first, last) = (luma[0], &luma[19 * frame..]);
        assert_eq!(first, 235);
        assert!(last[0].abs_diff(corner) <= 1, "{from}: {}", last[0]);
        assert!(last[32 * 96 + 48].abs_diff(235) <= 1, "{from}: {}", last[32 * 96 + 48]);
    }
}
