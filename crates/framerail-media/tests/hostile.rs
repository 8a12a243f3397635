//! Sources that are damaged, truncated, of another kind, or silent.

mod common;

use std::{fs, time::Duration};

use common::{at, ffmpeg, folder, options, read};
use framerail_core::FramePool;
use framerail_media::{InputOptions, MediaError, MediaReader};

fn refused(options: &InputOptions) -> MediaError {
    MediaReader::open(options, &FramePool::new(2)).err().expect("refused")
}

#[test]
fn what_is_no_video_is_named() {
    let folder = folder();
    fs::write(at(&folder, "text.mp4"), "This is a letter, not a video.\n".repeat(50)).expect("written");
    fs::write(at(&folder, "text.txt"), "This is a letter, not a video.\n".repeat(50)).expect("written");
    fs::write(at(&folder, "empty.mp4"), b"").expect("written");
    ffmpeg(folder.path(), "-f lavfi -i sine=duration=1 -c:a aac sound.m4a");
    assert!(matches!(refused(&options(&at(&folder, "text.mp4"))), MediaError::NotMedia { .. }));
    assert!(matches!(refused(&options(&at(&folder, "text.txt"))), MediaError::NotMedia { .. }));
    let empty = refused(&options(&at(&folder, "empty.mp4")));
    assert!(matches!(empty, MediaError::NotMedia { .. }) && empty.to_string().contains("empty"), "{empty}");
    let sound = refused(&options(&at(&folder, "sound.m4a")));
    assert!(matches!(sound, MediaError::NoVideo { .. }) && sound.to_string().contains("1 audio stream (aac)"), "{sound}");
    let absent = refused(&options(&at(&folder, "absent.mp4")));
    assert!(matches!(absent, MediaError::NotFound { .. }), "{absent}");
    let images = tempfile::tempdir().expect("temporary folder");
    assert!(matches!(refused(&options(images.path())), MediaError::NoVideo { .. }));
    let mut format = options(&at(&folder, "sound.m4a"));
    format.format = Some("matrosca".into());
    assert!(refused(&format).to_string().contains("did you mean 'matroska'"));
    let mut option = options(&at(&folder, "sound.m4a"));
    option.format_options = vec![("no_such_option".into(), "1".into())];
    assert!(refused(&option).to_string().contains("no_such_option"));
}

#[test]
fn cut_files_give_what_they_hold() {
    let folder = folder();
    let clip =
        "-f lavfi -i testsrc2=size=160x120:rate=25:duration=4 -f lavfi -i sine=duration=4 -pix_fmt yuv420p -c:v libx264 -g 25 -c:a aac";
    ffmpeg(folder.path(), &format!("{clip} -movflags +faststart front.mp4"));
    ffmpeg(folder.path(), "-i front.mp4 -c copy back.mp4");
    ffmpeg(folder.path(), "-i front.mp4 -c copy a.mkv");
    ffmpeg(folder.path(), "-i front.mp4 -c copy a.ts");
    ffmpeg(folder.path(), "-i front.mp4 -c copy a.avi");
    let whole: Vec<u8> = fs::read(at(&folder, "front.mp4")).expect("clip");
    for name in ["front.mp4", "back.mp4", "a.mkv", "a.ts", "a.avi"] {
        let bytes = fs::read(at(&folder, name)).expect("clip");
        for percent in [1, 50, 99] {
            let extension = name.split('.').next_back().expect("extension");
            let cut = at(&folder, &format!("cut{percent}.{extension}"));
            fs::write(&cut, &bytes[..bytes.len() * percent / 100]).expect("written");
            match MediaReader::open(&options(&cut), &FramePool::new(4)) {
                Ok(mut reader) => {
                    let contents = common::read_on(&mut reader);
                    let frames = contents.frames.len();
                    assert!(percent != 99 || frames >= 90, "{name} {percent}: {frames}");
                    assert!(percent != 50 || (20..90).contains(&frames), "{name} {percent}: {frames}");
                    // A transport stream states no length, and 1% of an AVI is its index.
                    let is_unseen = name.ends_with(".ts") || (name.ends_with(".avi") && percent == 99);
                    assert!(is_unseen || contents.damage.ended_early.is_some(), "{name} {percent}: {:?}", contents.damage);
                }
                Err(error) => {
                    let is_expected =
                        matches!(error, MediaError::Damaged { .. } | MediaError::NotMedia { .. } | MediaError::NoVideo { .. });
                    assert!(is_expected && (percent == 1 || name == "back.mp4"), "{name} {percent}: {error}");
                }
            }
        }
    }
    assert!(!read(&options(&at(&folder, "front.mp4"))).damage.is_any());
    fs::write(at(&folder, "cut.mp4"), &whole[..whole.len() / 2]).expect("written");
    let bytes = fs::read(at(&folder, "back.mp4")).expect("clip");
    fs::write(at(&folder, "cut.mp4"), &bytes[..bytes.len() / 2]).expect("written");
    let error = refused(&options(&at(&folder, "cut.mp4")));
    assert!(matches!(error, MediaError::Damaged { .. }) && error.to_string().contains("moov"), "{error}");
}

#[test]
fn flipped_bytes_are_survived_and_counted() {
    let folder = folder();
    let clip = "-f lavfi -i testsrc2=size=160x120:rate=25:duration=2 -pix_fmt yuv420p";
    ffmpeg(folder.path(), &format!("{clip} -c:v libx264 -g 25 h264.mp4"));
    ffmpeg(folder.path(), &format!("{clip} -c:v mpeg4 mpeg4.avi"));
    ffmpeg(folder.path(), &format!("{clip} -c:v libvpx-vp9 -cpu-used 8 -deadline realtime vp9.webm"));
    ffmpeg(folder.path(), &format!("{clip} -c:v mpeg2video mpeg2.ts"));
    ffmpeg(folder.path(), &format!("{clip} -c:v mjpeg mjpeg.mkv"));
    let mut state: u64 = 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for name in ["h264.mp4", "mpeg4.avi", "vp9.webm", "mpeg2.ts", "mjpeg.mkv"] {
        let sound = fs::read(at(&folder, name)).expect("clip");
        for round in 0..6 {
            let mut bytes = sound.clone();
            // First in the payload only, then anywhere, including headers.
            let first = if round < 3 { bytes.len() / 3 } else { 0 };
            for _ in 0..20 {
                let place = first + random() % (bytes.len() - first);
                bytes[place] ^= 1 << (random() % 8);
            }
            let broken = at(&folder, &format!("broken.{}", name.split('.').next_back().expect("extension")));
            fs::write(&broken, bytes).expect("written");
            if let Ok(mut reader) = MediaReader::open(&options(&broken), &FramePool::new(4)) {
                let contents = common::read_on(&mut reader);
                assert!(contents.frames.len() <= 60, "{name}: {}", contents.frames.len());
                assert!(contents.frames.windows(2).all(|pair| pair[0].pts < pair[1].pts), "{name}");
                if round < 3 && name == "h264.mp4" {
                    assert!(contents.damage.is_any(), "{name}");
                    assert!(contents.frames.len() >= 40, "{name}: {}", contents.frames.len());
                }
            }
        }
    }
}

#[test]
fn garbage_never_panics() {
    let folder = folder();
    let mut state: u64 = 7;
    for magic in
        [&b"\0\0\0\x18ftypmp42"[..], b"\x1aE\xdf\xa3", b"RIFF\xff\xff\xff\xffAVI LIST", b"\x89PNG\r\n\x1a\n", b"GIF89a\xff\xff\xff\xff"]
    {
        let mut bytes = magic.to_vec();
        for _ in 0..5_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            bytes.push((state >> 56) as u8);
        }
        fs::write(at(&folder, "garbage.mp4"), bytes).expect("written");
        if let Ok(mut reader) = MediaReader::open(&options(&at(&folder, "garbage.mp4")), &FramePool::new(2)) {
            while let Ok(Some(_)) = reader.next() {}
        }
    }
}

fn fifo(folder: &tempfile::TempDir) -> std::path::PathBuf {
    let path = at(folder, "pipe.ts");
    let status = std::process::Command::new("mkfifo").arg(&path).status().expect("coreutils");
    assert!(status.success());
    path
}

#[test]
fn a_blocked_read_ends_on_cancel() {
    let folder = folder();
    let path = fifo(&folder);
    let options = options(&path);
    let cancel = options.cancel.clone();
    let canceller = std::thread::spawn(move || {
        // Opens when the reader has opened its end, and writes nothing.
        let silent = fs::OpenOptions::new().write(true).open(path).expect("a reader");
        cancel.cancel();
        silent
    });
    assert!(matches!(refused(&options), MediaError::Cancelled { .. }));
    canceller.join().expect("no panic");
}

#[test]
fn a_silent_source_times_out() {
    let folder = folder();
    let mut options = options(&fifo(&folder));
    options.read_timeout = Some(Duration::from_millis(150));
    assert!(matches!(refused(&options), MediaError::Timeout { .. }));
}

#[test]
fn a_pipe_is_read_like_a_file() {
    let folder = folder();
    let path = fifo(&folder);
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 a.mkv");
    let bytes = fs::read(at(&folder, "a.mkv")).expect("clip");
    let writer = std::thread::spawn({
        let path = path.clone();
        move || fs::write(path, bytes).expect("read to its end")
    });
    assert_eq!(read(&options(&path)).frames.len(), 25);
    writer.join().expect("no panic");
}
