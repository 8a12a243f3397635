//! Streams whose frames are hard to number: each access mode returns the frames of a decode from the start.

mod reader_support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use framerail_core::{Frame, TensorLayout};
use framerail_reader::{IndexSource, OutputOptions, ReadMode, ReaderOptions, Selection, TensorOptions, VideoReader};
use framerail_vision::TensorConverter;
use reader_support::sequential;

/// All frames of the source differ.
const SOURCE: &str = "testsrc2=size=160x120:rate=25:duration=2";

fn ffmpeg(arguments: &[&str]) {
    let output = Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(arguments).output().expect("ffmpeg is installed");
    assert!(output.status.success(), "ffmpeg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A clip of 50 frames, encoded with these arguments.
fn encode(folder: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = folder.join(name);
    let path_text = path.to_string_lossy().into_owned();
    let arguments: Vec<&str> = ["-f", "lavfi", "-i", SOURCE].iter().chain(arguments).copied().chain([path_text.as_str()]).collect();
    ffmpeg(&arguments);
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

/// Compares every access mode with a decode from the start; returns the source of the index.
fn check(path: &Path) -> IndexSource {
    let name = path.file_name().expect("a name").to_string_lossy();
    let frames = sequential(path);
    let pts: Vec<i64> = frames.iter().map(|frame| frame.pts.0).collect();
    let options = TensorOptions { layout: TensorLayout::Thwc, ..TensorOptions::default() };
    let mut converter = TensorConverter::new(options).expect("valid options");
    let image = |frame: &Frame| {
        let mut out = vec![0; options.image_bytes(frame.width, frame.height)];
        converter.convert(frame, &mut out).expect("convertible");
        out
    };
    let images: Vec<Vec<u8>> = frames.iter().map(image).collect();
    let mut source = IndexSource::Unread;
    for mode in [ReadMode::Auto, ReadMode::Seek, ReadMode::Stream] {
        let output = OutputOptions::Tensor(options);
        let mut reader = VideoReader::open(ReaderOptions { mode, output, threads: 2, ..ReaderOptions::new(text(path)) }).expect("readable");
        let found: Vec<i64> = reader.times().expect("an index").iter().map(|time| time.pts.0).collect();
        assert_eq!(found, pts, "{name}");
        let count = pts.len();
        let orders =
            [(0..count).rev().collect::<Vec<_>>(), (0..count).map(|at| at * 17 % count).collect(), (0..count).step_by(3).collect()];
        for numbers in &orders {
            for chunk in numbers.chunks(4) {
                let batch = reader.read(chunk).unwrap_or_else(|error| panic!("{name}, {mode:?}, {chunk:?}: {error}"));
                let bytes = batch.tensor.host().expect("on the host").as_bytes();
                for ((number, info), found) in chunk.iter().zip(&batch.frames).zip(bytes.chunks_exact(images[0].len())) {
                    assert_eq!(info.pts.0, pts[*number], "{name}");
                    assert!(found == images[*number], "{name}, {mode:?}: frame {number} of {chunk:?} differs");
                }
            }
        }
        for selection in [Selection::All, Selection::Range { start: count / 2, stop: None, step: 7 }] {
            let numbers = reader.select(&selection).expect("a selection");
            let batches = reader.batches(selection, 5, false).expect("batches");
            let made: Vec<_> = batches.map(|batch| batch.unwrap_or_else(|error| panic!("{name}, {mode:?}: {error}"))).collect();
            let bytes = made.iter().flat_map(|batch| batch.tensor.host().expect("on the host").as_bytes().chunks_exact(images[0].len()));
            for (number, found) in numbers.iter().zip(bytes) {
                assert!(found == images[*number], "{name}, {mode:?}: frame {number} of a stream differs");
            }
        }
        source = reader.metadata().index_source;
    }
    source
}

const X264: [&str; 6] = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p"];

fn x264<'a>(more: &[&'a str]) -> Vec<&'a str> {
    X264.iter().chain(more).copied().collect()
}

#[test]
fn streams_without_whole_keyframes() {
    let folder = tempfile::tempdir().expect("a folder");
    let refresh = x264(&["-x264-params", "intra-refresh=1:keyint=10:bframes=0"]);
    check(&encode(folder.path(), "refresh.mp4", &refresh));
    check(&encode(folder.path(), "refresh.mkv", &refresh));
    check(&encode(folder.path(), "refresh.ts", &refresh));
}

#[test]
fn frames_that_are_never_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let hidden = ["-auto-alt-ref", "1", "-lag-in-frames", "16", "-g", "20", "-b:v", "200k", "-deadline", "realtime", "-cpu-used", "5"];
    for codec in ["libvpx", "libvpx-vp9"] {
        let arguments: Vec<&str> = ["-c:v", codec, "-pix_fmt", "yuv420p"].iter().chain(&hidden).copied().collect();
        assert_eq!(check(&encode(folder.path(), &format!("{codec}.webm"), &arguments)), IndexSource::Scan);
    }
}

#[test]
fn packets_without_presentation_times() {
    let folder = tempfile::tempdir().expect("a folder");
    let mpeg4 = encode(folder.path(), "mpeg4.avi", &["-c:v", "mpeg4", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p"]);
    assert_eq!(check(&mpeg4), IndexSource::Decoded);
    check(&encode(folder.path(), "h264.avi", &x264(&["-bf", "2", "-g", "12"])));
    check(&encode(folder.path(), "h264.h264", &x264(&["-bf", "2", "-g", "12"])));
}

#[test]
fn open_groups_of_mpeg2() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["mpeg2.ts", "mpeg2.mkv", "mpeg2.m2v", "mpeg2.mpg"] {
        check(&encode(folder.path(), name, &["-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p"]));
    }
}

#[test]
fn streams_that_begin_in_the_middle() {
    let folder = tempfile::tempdir().expect("a folder");
    let open_gop = x264(&["-x264-params", "keyint=10:min-keyint=10:open-gop=1:bframes=3:scenecut=0"]);
    let hevc = ["-c:v", "libx265", "-preset", "veryfast", "-x265-params", "keyint=10:min-keyint=10:open-gop=1:bframes=3:log-level=none"];
    let mpeg2 = ["-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-pix_fmt", "yuv420p"];
    for (name, arguments) in [("h264", open_gop.as_slice()), ("hevc", &hevc), ("mpeg2", &mpeg2)] {
        let whole = encode(folder.path(), &format!("{name}.ts"), arguments);
        let bytes = std::fs::read(&whole).expect("a clip");
        for share in [5, 3] {
            let start = bytes.len() / 188 / share * 188;
            let cut = folder.path().join(format!("{name}-cut-{share}.ts"));
            // The tables come first, so that the stream can be identified.
            let tables: Vec<u8> = bytes.get(..188 * 3).unwrap_or_default().to_vec();
            std::fs::write(&cut, [&tables, &bytes[start..]].concat()).expect("writable");
            check(&cut);
        }
        let begun = folder.path().join(format!("{name}-begun.mkv"));
        ffmpeg(&["-ss", "0.7", "-i", text(&whole), "-c", "copy", text(&begun)]);
        check(&begun);
    }
}

#[test]
fn clocks_that_are_set_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = encode(folder.path(), "one.ts", &x264(&["-bf", "2", "-g", "10"]));
    let bytes = std::fs::read(&one).expect("a clip");
    let twice = folder.path().join("twice.ts");
    std::fs::write(&twice, [bytes.as_slice(), &bytes].concat()).expect("writable");
    check(&twice);
}

#[test]
fn the_same_time_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let plain = encode(folder.path(), "plain.mkv", &x264(&["-bf", "0", "-g", "10"]));
    let doubled = folder.path().join("doubled.mkv");
    let twice = "setts=pts='if(eq(N,7),PREV_OUTPTS,PTS)':dts='if(eq(N,7),PREV_OUTDTS,DTS)'";
    ffmpeg(&["-i", text(&plain), "-c", "copy", "-bsf:v", twice, text(&doubled)]);
    check(&doubled);
}

#[test]
fn one_of_several_video_streams() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (encode(folder.path(), "first.mp4", &x264(&[])), folder.path().join("second.mp4"));
    ffmpeg(&["-i", text(&first), "-vf", "hflip,scale=96:64", "-c:v", "libx264", "-bf", "2", "-g", "8", text(&second)]);
    let both = folder.path().join("both.mkv");
    ffmpeg(&["-i", text(&first), "-i", text(&second), "-map", "0:v", "-map", "1:v", "-c", "copy", text(&both)]);
    for (stream, alone) in [&first, &second].into_iter().enumerate() {
        let cache = framerail_reader::IndexCache::Folder(folder.path().join("cache"));
        let mut options = ReaderOptions { cache, ..ReaderOptions::new(text(&both)) };
        options.input.video_stream = Some(stream);
        let mut of_both = VideoReader::open(options).expect("readable");
        let mut of_one = VideoReader::open(ReaderOptions::new(text(alone))).expect("readable");
        assert_eq!(of_both.num_frames().expect("an index"), 50);
        let (left, right) = (of_both.read(&[30, 3]).expect("frames"), of_one.read(&[30, 3]).expect("frames"));
        assert_eq!(left.tensor.shape(), right.tensor.shape());
        assert!(left.tensor.host().expect("on the host").as_bytes() == right.tensor.host().expect("on the host").as_bytes());
    }
}

#[test]
fn damage_in_a_broadcast_keeps_the_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = encode(folder.path(), "whole.ts", &x264(&["-bf", "2", "-g", "10", "-b:v", "2M"]));
    let mut bytes = std::fs::read(&whole).expect("a clip");
    for packet in bytes.chunks_exact_mut(188).skip(40).step_by(60) {
        packet[20..160].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(3));
    }
    let damaged = folder.path().join("damaged.ts");
    std::fs::write(&damaged, &bytes).expect("writable");
    let mut reader = VideoReader::open(ReaderOptions::new(text(&damaged))).expect("readable");
    let times: Vec<i64> = reader.times().expect("an index").iter().map(|time| time.pts.0).collect();
    assert!(times.len() > 30 && times.is_sorted(), "{times:?}");
    for mode in [Selection::All, Selection::Range { start: 3, stop: None, step: 4 }] {
        let wanted = reader.select(&mode).expect("a selection").len();
        let frames: usize = reader.batches(mode, 4, false).expect("batches").map(|batch| batch.expect("a batch").frames.len()).sum();
        assert_eq!(frames, wanted);
    }
    let backwards: Vec<usize> = (0..times.len()).rev().collect();
    let batch = reader.read(&backwards).expect("frames");
    assert!(batch.frames.iter().map(|frame| frame.pts.0).eq(times.iter().rev().copied()));
}
