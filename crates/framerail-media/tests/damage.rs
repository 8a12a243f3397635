//! Damaged files: as many frames as FFmpeg returns, every loss counted, and no damage reported for intact files.
//!
//! `FRAMERAIL_DAMAGE_SEEDS` sets the number of seeds for each container and kind of damage.

mod common;
#[path = "damage/cuts.rs"]
mod cuts;

use std::{
    fs,
    io::{Cursor, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    process::Command,
};

use common::{at, ffmpeg, folder, options, read_on};
use framerail_core::{Frame, FramePool, FrameStatus};
use framerail_media::{CustomSource, InputOptions, MediaError, MediaReader};
use framerail_testkit::damage::Kind;

const FRAMES: usize = 30;
const SOURCE: &str = "-f lavfi -i testsrc2=size=128x96:rate=25:duration=1.2";

/// A file name, FFmpeg's arguments for it, and whether its container states the number of frames.
const CLIPS: [(&str, &str, bool); 14] = [
    ("h264.mp4", "-pix_fmt yuv420p -c:v libx264 -g 10 -bf 2 -movflags +faststart", true),
    ("fragments.mp4", "-pix_fmt yuv420p -c:v libx264 -g 10 -movflags frag_keyframe+empty_moov", false),
    ("mjpeg.mov", "-c:v mjpeg -movflags +faststart", true),
    ("h264.mkv", "-pix_fmt yuv420p -c:v libx264 -g 10", true),
    ("vp9.webm", "-pix_fmt yuv420p -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 10", true),
    ("mpeg4.avi", "-pix_fmt yuv420p -c:v mpeg4 -g 10", true),
    ("h264.flv", "-pix_fmt yuv420p -c:v libx264 -g 10", false),
    ("h264.ts", "-pix_fmt yuv420p -c:v libx264 -g 10", false),
    ("mpeg2.mpg", "-pix_fmt yuv420p -c:v mpeg2video -g 10 -bf 2", false),
    ("theora.ogg", "-pix_fmt yuv420p -c:v libtheora", false),
    ("a.gif", "", false),
    ("a.apng", "-f apng", true),
    ("a.y4m", "-pix_fmt yuv420p", false),
    ("ffv1.mkv", "-pix_fmt yuv420p -c:v ffv1 -level 3 -slicecrc 1", true),
];

/// Damage that these decoders and containers cannot detect: samples without checksums, streams without counts.
fn may_go_unseen(name: &str, kind: Kind) -> bool {
    let is_cut_or_gap = matches!(kind, Kind::Half | Kind::ShortGap | Kind::LongGap);
    match name {
        // A broadcast has no end, and zeros between its packets are padding.
        "h264.ts" | "mpeg2.mpg" => true,
        "fragments.mp4" => matches!(kind, Kind::Swapped),
        "h264.flv" => matches!(kind, Kind::Swapped),
        _ => !is_cut_or_gap,
    }
}

fn ffmpeg_frames(path: &Path) -> usize {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "fatal", "-err_detect", "ignore_err", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-vsync", "passthrough", "-f", "framecrc", "-"])
        .output()
        .expect("ffmpeg is installed");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with('#')).count()
}

#[test]
fn loss_without_a_word_is_counted_in_every_container() {
    let seeds: u64 = std::env::var("FRAMERAIL_DAMAGE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1);
    let folder = folder();
    let (mut files, mut fewer, mut unseen, mut wrong_sums, mut refused) = (0, Vec::new(), Vec::new(), Vec::new(), 0);
    let mut false_alarms = Vec::new();
    for (name, arguments, states_count) in CLIPS {
        ffmpeg(folder.path(), &format!("{SOURCE} {arguments} {name}"));
        let intact = fs::read(at(&folder, name)).expect("made");
        let whole = read_on(&mut MediaReader::open(&options(&at(&folder, name)), &FramePool::new(4)).expect("intact"));
        assert_eq!(whole.frames.len(), FRAMES, "{name}");
        assert!(!whole.damage.is_any(), "{name} is intact: {:?}", whole.damage);
        for (kind, seed) in Kind::ALL.into_iter().flat_map(|kind| (0..seeds).map(move |seed| (kind, seed))) {
            let broken = at(&folder, &format!("broken-{name}"));
            fs::write(&broken, kind.applied(&intact, seed)).expect("written");
            let case = format!("{name} {kind:?} {seed}");
            files += 1;
            let mut settings = options(&broken);
            settings.threads = 2;
            let (frames, damage) = match MediaReader::open(&settings, &FramePool::new(4)) {
                Ok(mut reader) => {
                    let contents = read_on(&mut reader);
                    let repaired = contents.frames.iter().filter(|frame| frame.status == FrameStatus::Repaired).count() as u64;
                    let counted = contents.damage.frames_repaired + contents.damage.timestamps_repaired + contents.damage.timestamps_absent;
                    assert!(repaired <= counted, "{case}: {repaired} marked, {:?}", contents.damage);
                    let is_same =
                        |(ours, whole): (&Frame, &Frame)| ours.pts == whole.pts && common::samples(ours) == common::samples(whole);
                    let is_intact = contents.frames.len() == FRAMES && contents.frames.iter().zip(&whole.frames).all(is_same);
                    if is_intact && contents.damage.is_any() {
                        false_alarms.push(format!("{case}: {:?}", contents.damage));
                    }
                    (contents.frames.len(), contents.damage)
                }
                Err(error) => {
                    let is_damage = matches!(error, MediaError::Damaged { .. } | MediaError::NotMedia { .. } | MediaError::NoVideo { .. });
                    assert!(is_damage || matches!(error, MediaError::Ffmpeg { .. } | MediaError::Io { .. }), "{case}: {error}");
                    refused += 1;
                    let theirs = ffmpeg_frames(&broken);
                    if theirs > 0 {
                        fewer.push(format!("{case}: refused ({error}), FFmpeg gives {theirs}"));
                    }
                    continue;
                }
            };
            if frames < FRAMES {
                let theirs = ffmpeg_frames(&broken);
                if frames < theirs {
                    fewer.push(format!("{case}: {frames}, FFmpeg gives {theirs}; {damage:?}"));
                }
                if !damage.is_any() && !may_go_unseen(name, kind) {
                    unseen.push(format!("{case}: {frames} frames"));
                }
            }
            let sum = frames as u64 + damage.frames_lost + damage.frames_dropped;
            if states_count && damage.is_any() && sum != FRAMES as u64 {
                wrong_sums.push(format!("{case}: {frames} frames, {damage:?}"));
            }
        }
    }
    let report = |what: &str, cases: &[String]| format!("{} of {files} {what}:\n{}\n", cases.len(), cases.join("\n"));
    println!("{files} files, {refused} refused");
    let found = [
        ("give fewer frames than FFmpeg", &fewer),
        ("lose frames unseen", &unseen),
        ("do not add up", &wrong_sums),
        ("are called damaged and give every frame", &false_alarms),
    ];
    let failures: Vec<String> = found.iter().filter(|(_, cases)| !cases.is_empty()).map(|(what, cases)| report(what, cases)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_whole_frame_that_a_broadcast_lacks_is_counted() {
    let folder = folder();
    ffmpeg(folder.path(), &format!("{SOURCE} -c:v mpeg2video -g 10 -bf 0 -b:v 1M a.ts"));
    let bytes = fs::read(at(&folder, "a.ts")).expect("made");
    let packets: Vec<&[u8]> = bytes.chunks_exact(188).collect();
    let is_video = |packet: &[u8]| u16::from_be_bytes([packet[1] & 0x1f, packet[2]]) == 256;
    let starts: Vec<usize> = (0..packets.len()).filter(|at| is_video(packets[*at]) && packets[*at][1] & 0x40 != 0).collect();
    assert_eq!(starts.len(), FRAMES);
    // A count of packets that their numbers, modulo 16, do not hide.
    let count = |frame: usize| packets[starts[frame]..starts[frame + 1]].iter().filter(|packet| is_video(packet)).count();
    let missing = (12..19).find(|frame| count(*frame) % 16 != 0).expect("one of them");
    let range = starts[missing]..starts[missing + 1];
    let kept: Vec<&[u8]> = (0..packets.len()).filter(|at| !range.contains(at) || !is_video(packets[*at])).map(|at| packets[at]).collect();
    fs::write(at(&folder, "b.ts"), kept.concat()).expect("written");
    let contents = common::read(&options(&at(&folder, "b.ts")));
    assert_eq!((contents.frames.len(), contents.damage.frames_lost), (FRAMES - 1, 1), "{:?}", contents.damage);
    // Joined recordings break the numbers too, and lack nothing.
    fs::write(at(&folder, "joined.ts"), [&bytes[..], &bytes].concat()).expect("written");
    assert_eq!(common::read(&options(&at(&folder, "joined.ts"))).damage.frames_lost, 0);
}

#[test]
fn frames_that_start_a_little_after_the_audio_are_counted_from_their_own_start() {
    let folder = folder();
    ffmpeg(folder.path(), &format!("{SOURCE} -f lavfi -i sine=duration=1.2 -pix_fmt yuv420p -c:v libx264 -g 10 -c:a aac whole.mkv"));
    ffmpeg(folder.path(), "-itsoffset 0.023 -i whole.mkv -i whole.mkv -map 0:v -map 1:a -c copy later.mkv");
    for name in ["whole.mkv", "later.mkv"] {
        let bytes = fs::read(at(&folder, name)).expect("made");
        fs::write(at(&folder, "half.mkv"), &bytes[..bytes.len() / 2]).expect("written");
        let contents = common::read(&options(&at(&folder, "half.mkv")));
        assert_eq!(contents.frames.len() as u64 + contents.damage.frames_lost, FRAMES as u64, "{name}: {:?}", contents.damage);
    }
}

/// Demuxers that skip damage and log it as a warning, as information, for debugging only, or not at all.
#[test]
fn loss_that_a_demuxer_reports_quietly_is_counted() {
    let folder = folder();
    for (name, arguments) in [
        ("a.nut", "-c:v mpeg4 -g 10"),
        ("b.nut", "-pix_fmt yuv420p -c:v libx264 -g 10"),
        ("a.wmv", "-c:v wmv2 -g 10"),
        ("a.wtv", "-c:v mpeg2video -g 10 -f wtv"),
        ("a.mxf", "-c:v mpeg2video -g 10"),
        ("a.m2ts", "-pix_fmt yuv420p -c:v libx264 -g 10 -f mpegts -mpegts_m2ts_mode 1"),
        ("a.mpg", "-c:v mpeg2video -g 10 -bf 2"),
        ("b.mpg", "-pix_fmt yuv420p -c:v libx264 -g 10 -f mpeg"),
    ] {
        ffmpeg(folder.path(), &format!("{SOURCE} -b:v 1M {arguments} {name}"));
        let intact = fs::read(at(&folder, name)).expect("made");
        assert!(!common::read(&options(&at(&folder, name))).damage.is_any(), "{name} is intact");
        let broken = at(&folder, &format!("broken-{name}"));
        let mut lost = 0;
        for tenth in 3..8 {
            let mut bytes = intact.clone();
            let start = bytes.len() * tenth / 10;
            bytes[start..start + 4_096].fill(0);
            fs::write(&broken, &bytes).expect("written");
            let contents = common::read(&options(&broken));
            let is_whole = contents.frames.len() == FRAMES;
            assert!(is_whole || contents.damage.is_any(), "{name}, {tenth} tenths: {} frames and no word", contents.frames.len());
            // The index of NUT lies behind the frames, and states their time.
            let is_known = name.ends_with(".nut");
            let sum = contents.frames.len() as u64 + contents.damage.frames_lost;
            assert!(!is_known || sum == FRAMES as u64, "{name}, {tenth} tenths: {:?}", contents.damage);
            lost += usize::from(!is_whole);
        }
        assert!(lost > 0, "{name}: some of this damage costs frames");
    }
}

#[test]
fn a_last_frame_that_is_cut_off_is_counted_in_streams_without_a_length() {
    let folder = folder();
    for (name, arguments) in [
        ("a.obu", "-frames:v 5 -s 64x48 -pix_fmt yuv420p -c:v libaom-av1 -usage realtime -cpu-used 8"),
        ("a.dv", "-frames:v 3 -pix_fmt yuv420p -c:v dvvideo -s 720x576"),
        ("a.y4m", "-frames:v 3 -pix_fmt yuv420p"),
        ("a.mjpeg", "-frames:v 3"),
    ] {
        ffmpeg(folder.path(), &format!("{SOURCE} {arguments} {name}"));
        assert!(!common::read(&options(&at(&folder, name))).damage.is_any(), "{name} is intact");
        let bytes = fs::read(at(&folder, name)).expect("made");
        let cut = at(&folder, &format!("cut-{name}"));
        fs::write(&cut, &bytes[..bytes.len() - 60]).expect("written");
        assert!(common::read(&options(&cut)).damage.is_any(), "{name}");
    }
}

/// Positions and lengths of the boxes of this kind in a file.
fn boxes(bytes: &[u8], kind: &[u8; 4]) -> Vec<(usize, usize)> {
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) as usize;
    bytes.windows(4).enumerate().filter(|(at, name)| *at >= 4 && name == kind).map(|(at, _)| (at - 4, number(at - 4))).collect()
}

#[test]
fn a_fragment_that_is_missing_or_broken_is_counted() {
    let folder = folder();
    let arguments =
        "-pix_fmt yuv420p -c:v libx264 -g 5 -keyint_min 5 -sc_threshold 0 -movflags frag_keyframe+empty_moov+default_base_moof a.mp4";
    ffmpeg(folder.path(), &format!("{SOURCE} {arguments}"));
    let intact = fs::read(at(&folder, "a.mp4")).expect("made");
    let (moofs, mdats) = (boxes(&intact, b"moof"), boxes(&intact, b"mdat"));
    assert_eq!((moofs.len(), mdats.len()), (6, 6));
    let read = |bytes: &[u8]| {
        fs::write(at(&folder, "b.mp4"), bytes).expect("written");
        let contents = common::read(&options(&at(&folder, "b.mp4")));
        (contents.frames.len(), contents.damage)
    };
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = intact.clone();
        change(&mut bytes);
        read(&bytes)
    };
    let behind = |number: usize| mdats[number].0 + mdats[number].1;
    let (frames, damage) = changed(&|bytes| drop(bytes.drain(moofs[2].0..behind(2))));
    assert_eq!((frames, damage.frames_lost, damage.container_errors), (25, 5, 1), "{damage:?}");
    let runs = boxes(&intact, b"trun");
    let (frames, damage) = changed(&|bytes| bytes[runs[3].0..runs[3].0 + runs[3].1].fill(0));
    assert!(frames == 25 && damage.frames_lost == 5 && damage.container_errors > 0, "{damage:?}");
    // FFmpeg skips the rest of the file.
    let (frames, damage) = changed(&|bytes| bytes[moofs[4].0..moofs[4].0 + 16].fill(0xff));
    assert!(frames == 20 && damage.frames_lost == 10 && damage.container_errors > 0, "{damage:?}");
    // Nothing after the last fragment shows what was in it.
    let (frames, damage) = changed(&|bytes| bytes[moofs[5].0..moofs[5].0 + 16].fill(0));
    assert!(frames == 25 && damage.ended_early.is_some(), "{damage:?}");
    let (frames, damage) = changed(&|bytes| drop(bytes.drain(moofs[5].0 + 60..moofs[5].0 + 160)));
    assert!(frames == 25 && damage.is_any(), "{damage:?}");
    // A pause, and fragment numbers by the writer's own rules.
    let times = boxes(&intact, b"tfdt");
    let later = |bytes: &mut Vec<u8>| times[3..].iter().for_each(|(at, length)| bytes[at + length - 3] += 4);
    let (frames, damage) = changed(&later);
    assert!(frames == FRAMES && !damage.is_any(), "{damage:?}");
    let numbers = boxes(&intact, b"mfhd");
    let (frames, damage) = changed(&|bytes| numbers.iter().for_each(|(at, _)| bytes[at + 15] *= 7));
    assert!(frames == FRAMES && !damage.is_any(), "{damage:?}");
}

#[test]
fn an_intact_file_with_bytes_behind_its_end_is_not_called_damaged() {
    let folder = folder();
    for (name, arguments, _) in CLIPS {
        ffmpeg(folder.path(), &format!("{SOURCE} {arguments} {name}"));
        let mut bytes = fs::read(at(&folder, name)).expect("made");
        // A recorder's padding, and an unknown tag.
        for tail in [&[0; 1_500][..], &b"TAG of some other program"[..]] {
            bytes.extend_from_slice(tail);
            let padded = at(&folder, &format!("padded-{name}"));
            fs::write(&padded, &bytes).expect("written");
            let contents = common::read(&options(&padded));
            assert_eq!(contents.frames.len(), FRAMES, "{name}");
            let is_unknowable = matches!(name, "h264.flv" | "theora.ogg");
            assert!(is_unknowable || !contents.damage.is_any(), "{name}: {:?}", contents.damage);
        }
    }
}

#[test]
fn intact_files_of_rare_formats_are_not_called_damaged() {
    let folder = folder();
    for (name, arguments) in [
        ("a.h261", "-c:v h261 -s 176x144"),
        ("a.h264", "-pix_fmt yuv420p -c:v libx264 -f h264"),
        ("a.mjpeg", "-c:v mjpeg -f mjpeg"),
        ("a.ivf", "-pix_fmt yuv420p -c:v libvpx -deadline realtime"),
        ("a.wmv", "-c:v wmv2"),
        ("a.3gp", "-c:v mpeg4"),
        ("a.nut", "-c:v mpeg4 -bf 2"),
        ("a.rm", "-c:v rv20"),
        ("a.vob", "-c:v mpeg2video -bf 2 -f vob"),
        ("a.m2ts", "-pix_fmt yuv420p -c:v libx264 -f mpegts -mpegts_m2ts_mode 1"),
        ("a.mxf", "-c:v mpeg2video"),
        ("b.mxf", "-pix_fmt yuv420p -c:v libx264 -g 10 -bf 2"),
        ("opatom.mxf", "-pix_fmt yuv422p -c:v dnxhd -profile:v dnxhr_sq -s 256x128 -f mxf_opatom"),
        ("a.flm", "-c:v rawvideo -pix_fmt rgba -f filmstrip"),
        ("a.gxf", "-pix_fmt yuv420p -c:v mpeg2video -s 720x576"),
        ("a.dv", "-pix_fmt yuv420p -c:v dvvideo -s 720x576"),
        ("a.swf", "-c:v flv"),
        ("a.wtv", "-c:v mpeg2video -f wtv"),
        ("a.ismv", "-pix_fmt yuv420p -c:v libx264 -f ismv"),
        ("a.mpg", "-pix_fmt yuv420p -c:v libx264 -bf 2 -f mpeg"),
        ("a.mpjpeg", "-c:v mjpeg -f mpjpeg"),
        ("a.roq", "-s 256x256 -r 25 -c:v roqvideo"),
    ] {
        ffmpeg(folder.path(), &format!("{SOURCE} {arguments} {name}"));
        let contents = common::read(&options(&at(&folder, name)));
        assert_eq!((contents.frames.len(), contents.damage.is_any()), (FRAMES, false), "{name}: {:?}", contents.damage);
    }
}

#[test]
fn an_incomplete_frame_is_repaired_and_counted() {
    let folder = folder();
    for (name, arguments) in [("a.jpg", "-q:v 2"), ("a.png", ""), ("a.bmp", "")] {
        ffmpeg(folder.path(), &format!("{SOURCE} -frames:v 1 -update 1 {arguments} {name}"));
        let bytes = fs::read(at(&folder, name)).expect("made");
        assert!(!common::read(&options(&at(&folder, name))).damage.is_any(), "{name} is intact");
        let half = at(&folder, &format!("half-{name}"));
        fs::write(&half, &bytes[..bytes.len() / 2]).expect("written");
        if let Ok(mut reader) = MediaReader::open(&options(&half), &FramePool::new(2)) {
            let contents = read_on(&mut reader);
            assert_eq!(contents.damage.frames_repaired, 1, "{name}: {:?}", contents.damage);
            assert_eq!(contents.frames[0].status, FrameStatus::Repaired, "{name}");
        } else {
            assert_ne!(name, "a.jpg", "a JPEG gives what it holds");
        }
    }
}

#[test]
fn an_mp4_with_chapters_is_intact() {
    let folder = folder();
    fs::write(
        at(&folder, "chapters.txt"),
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=500\ntitle=One\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=500\nEND=1200\ntitle=Two\n",
    )
    .expect("written");
    for name in ["chapters.mp4", "chapters.mkv"] {
        ffmpeg(
            folder.path(),
            &format!(
                "{SOURCE} -f lavfi -i sine=duration=1.2 -i chapters.txt -map_chapters 2 -pix_fmt yuv420p -c:v libx264 -c:a aac {name}"
            ),
        );
        let contents = common::read(&options(&at(&folder, name)));
        assert!(!contents.damage.is_any(), "{name}: {:?}", contents.damage);
    }
}

/// Answers requests with the whole file, and closes the connection without having stated a length.
fn serve_without_length(bytes: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").and_then(|()| stream.write_all(&bytes));
        }
    });
    format!("http://{address}/clip")
}

#[test]
fn a_server_that_closes_without_a_length_sends_an_intact_file() {
    let folder = folder();
    for (name, arguments, _) in CLIPS.iter().filter(|(name, ..)| matches!(*name, "h264.mp4" | "h264.mkv" | "h264.ts" | "a.gif")) {
        ffmpeg(folder.path(), &format!("{SOURCE} {arguments} {name}"));
        let url = serve_without_length(fs::read(at(&folder, name)).expect("made"));
        let contents = common::read(&InputOptions::new(url));
        assert_eq!(contents.frames.len(), FRAMES, "{name}");
        assert!(!contents.damage.is_any(), "{name}: {:?}", contents.damage);
    }
}

#[test]
fn an_index_behind_the_frames_of_a_stream_is_named_and_not_called_damage() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=320x240:rate=25:duration=8 -pix_fmt yuv420p -c:v libx264 -b:v 3M back.mp4");
    let bytes = fs::read(at(&folder, "back.mp4")).expect("made");
    let settings = InputOptions::of_custom(CustomSource::stream("back.mp4", Cursor::new(bytes)));
    let error = MediaReader::open(&settings, &FramePool::new(2)).err().expect("refused");
    assert!(matches!(error, MediaError::Unsupported { .. }) && error.to_string().contains("faststart"), "{error}");
}

#[test]
fn streams_joined_in_the_middle_are_intact() {
    let folder = folder();
    ffmpeg(folder.path(), &format!("{SOURCE} -pix_fmt yuv420p -c:v libx264 -g 10 -bf 2 -x264-params open-gop=1 whole.ts"));
    let bytes = fs::read(at(&folder, "whole.ts")).expect("made");
    let cut = at(&folder, "joined.ts");
    let start = bytes.len() / 3 / 188 * 188;
    fs::write(&cut, &bytes[start..]).expect("written");
    let contents = common::read(&options(&cut));
    assert!(contents.frames.len() >= 10, "{}", contents.frames.len());
    assert!(!contents.damage.is_any(), "{:?}", contents.damage);
}

#[test]
fn animations_are_read_whole_whatever_they_are_called() {
    let folder = folder();
    ffmpeg(folder.path(), &format!("{SOURCE} -f apng a.apng"));
    ffmpeg(folder.path(), &format!("{SOURCE} -c:v libwebp_anim -loop 0 a.webp"));
    ffmpeg(folder.path(), &format!("{SOURCE} a.gif"));
    ffmpeg(folder.path(), &format!("{SOURCE} -pix_fmt yuv420p -c:v libx264 a.mp4"));
    for (from, to) in [("a.apng", "b.png"), ("a.webp", "b.webp"), ("a.gif", "b.jpg"), ("a.mp4", "c.jpg"), ("a.webp", "d.png")] {
        fs::copy(at(&folder, from), at(&folder, to)).expect("copied");
        let contents = common::read(&options(&at(&folder, to)));
        assert_eq!(contents.frames.len(), FRAMES, "{from} as {to}");
        assert!(!contents.damage.is_any(), "{to}: {:?}", contents.damage);
        let secs: Vec<f64> = contents.frames.iter().map(|frame| frame.seconds()).collect();
        assert!(secs.iter().enumerate().all(|(n, secs)| (secs - secs_of(n)).abs() < 0.011), "{to}: {secs:?}");
    }
    // A still image is still read as one.
    ffmpeg(folder.path(), &format!("{SOURCE} -frames:v 1 -c:v libwebp still.webp"));
    assert_eq!(common::read(&options(&at(&folder, "still.webp"))).frames.len(), 1);
}

fn secs_of(number: usize) -> f64 {
    number as f64 * 0.04
}

#[test]
fn a_cut_animated_webp_gives_what_it_holds_and_counts_the_rest() {
    let folder = folder();
    ffmpeg(folder.path(), &format!("{SOURCE} -c:v libwebp_anim -loop 0 a.webp"));
    let bytes = fs::read(at(&folder, "a.webp")).expect("made");
    let mut broken = bytes.clone();
    let place = bytes.len() / 2;
    broken[place..place + 2_000].fill(0);
    fs::write(at(&folder, "broken.webp"), broken).expect("written");
    if let Ok(mut reader) = MediaReader::open(&options(&at(&folder, "broken.webp")), &FramePool::new(2)) {
        let contents = read_on(&mut reader);
        assert!(contents.damage.is_any() || contents.frames.len() == FRAMES, "{:?}", contents.damage);
        // Frames whose own headers are missing cannot be counted.
        assert!(contents.frames.len() as u64 + contents.damage.frames_lost >= FRAMES as u64 - 2, "{:?}", contents.damage);
    }
}

#[test]
fn what_is_too_large_is_refused_with_the_limit() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i color=size=320x200:rate=5:duration=0.4 -f apng small.apng");
    let mut settings = options(&at(&folder, "small.apng"));
    settings.image_bytes = 320 * 200 * 6;
    let error = MediaReader::open(&settings, &FramePool::new(2)).err().expect("refused");
    assert!(matches!(error, MediaError::TooLarge { width: 320, height: 200, .. }), "{error}");
    assert!(error.to_string().contains("limit is 1 MB"), "{error}");
    // A valid header with a frame size that FFmpeg does not decode.
    ffmpeg(folder.path(), "-f lavfi -i color=size=64x48 -frames:v 1 -update 1 -pix_fmt rgb24 small.png");
    let mut bytes = fs::read(at(&folder, "small.png")).expect("made");
    bytes[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    fs::write(at(&folder, "large.png"), bytes).expect("written");
    let error = MediaReader::open(&options(&at(&folder, "large.png")), &FramePool::new(2)).err().expect("refused");
    assert!(matches!(error, MediaError::TooLarge { width: 20_000, .. }) && error.to_string().contains("268 million"), "{error}");
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| crc >> 1 ^ (0xedb8_8320 * (crc & 1))))
}

#[test]
fn what_ffmpeg_cannot_open_is_named() {
    let folder = folder();
    let heic = [&b"\0\0\0\x18ftypheic\0\0\0\0mif1heic\0\0\0\x08meta"[..], &[0; 200]].concat();
    fs::write(at(&folder, "photo.heic"), heic).expect("written");
    let error = MediaReader::open(&options(&at(&folder, "photo.heic")), &FramePool::new(2)).err().expect("refused");
    assert!(error.to_string().contains("HEIC"), "{error}");
    fs::write(
        at(&folder, "call.sdp"),
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    )
    .expect("written");
    let error = MediaReader::open(&options(&at(&folder, "call.sdp")), &FramePool::new(2)).err().expect("refused");
    assert!(!error.to_string().contains("damaged"), "{error}");
}

#[test]
fn a_gif_is_read_from_where_nothing_can_be_gone_back_to() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=480x360:rate=10:duration=1 a.gif");
    let bytes = fs::read(at(&folder, "a.gif")).expect("made");
    assert!(bytes.len() > 100_000, "more than FFmpeg keeps: {}", bytes.len());
    let expected = common::read(&options(&at(&folder, "a.gif")));
    for source in
        [InputOptions::of_custom(CustomSource::stream("a.gif", Cursor::new(bytes.clone()))), InputOptions::new(serve_without_length(bytes))]
    {
        let contents = common::read(&source);
        assert!(contents.frames.len() == 10 && !contents.damage.is_any(), "{}: {:?}", source.source, contents.damage);
        assert!(contents.frames.iter().zip(&expected.frames).all(|(one, other)| one.pts == other.pts));
    }
}

#[test]
fn an_image_keeps_its_colour_profile_and_its_exif_data_are_noticed() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc=size=64x48 -frames:v 1 -update 1 -q:v 2 -pix_fmt yuvj420p plain.jpg");
    let plain = fs::read(at(&folder, "plain.jpg")).expect("made");
    let profile = icc_profile();
    let icc = [&b"\xff\xe2\x01\x10ICC_PROFILE\0\x01\x01"[..], &profile].concat();
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    fs::write(at(&folder, "photo.jpg"), [&plain[..2], exif, &icc, &plain[2..]].concat()).expect("written");
    let photo = common::read(&options(&at(&folder, "photo.jpg"))).frames.remove(0);
    let still = photo.still.clone().expect("it carries both");
    assert!(still.has_exif && still.icc_profile.as_ref() == Some(&profile), "{still:?}");
    for name in ["out.png", "out.jpg"] {
        framerail_media::save_image(&photo, &at(&folder, name), 90).expect("saved");
        let written = common::read(&options(&at(&folder, name))).frames.remove(0);
        let still = written.still.clone().expect("it carries the profile");
        assert_eq!((written.width, written.height, still.icc_profile.as_ref(), still.has_exif), (48, 64, Some(&profile), false), "{name}");
    }
    assert_eq!(common::read(&options(&at(&folder, "plain.jpg"))).frames[0].still, None);
}

#[test]
fn the_orientation_of_png_is_applied() {
    let folder = folder();
    fs::write(at(&folder, "turned.png"), turned_png(&folder)).expect("written");
    let reader = MediaReader::open(&options(&at(&folder, "turned.png")), &FramePool::new(2)).expect("readable");
    assert_eq!((reader.info().width, reader.info().height), (48, 64), "what is written is made for the turned image");
    let contents = common::read(&options(&at(&folder, "turned.png")));
    let theirs = common::output("ffmpeg", folder.path(), "-v error -i upright.png -vf transpose=clock -f rawvideo -pix_fmt rgb24 -");
    assert!(common::samples(&contents.frames[0]) == theirs && !contents.damage.is_any(), "{:?}", contents.damage);
}

/// A PNG image with EXIF orientation 6.
fn turned_png(folder: &tempfile::TempDir) -> Vec<u8> {
    ffmpeg(folder.path(), "-f lavfi -i testsrc=size=64x48 -frames:v 1 -update 1 -pix_fmt rgb24 upright.png");
    let upright = fs::read(at(folder, "upright.png")).expect("made");
    let chunk = b"eXIfMM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    [&upright[..33], &length, chunk, &crc32(chunk).to_be_bytes(), &upright[33..]].concat()
}

#[test]
fn images_from_servers_and_memory_carry_what_those_of_files_do() {
    let folder = folder();
    let bytes = turned_png(&folder);
    fs::write(at(&folder, "turned.png"), &bytes).expect("written");
    let expected = common::read(&options(&at(&folder, "turned.png"))).frames.remove(0);
    assert!(expected.still.as_ref().is_some_and(|still| still.has_exif), "{:?}", expected.still);
    let sources = [
        InputOptions::new(serve_without_length(bytes.clone())),
        InputOptions::of_custom(CustomSource::bytes("turned.png", bytes.clone())),
        InputOptions::of_custom(CustomSource::stream("turned.png", Cursor::new(bytes))),
    ];
    for source in sources {
        let contents = common::read(&source);
        let frame = &contents.frames[0];
        assert_eq!((frame.width, frame.height, &frame.still), (48, 64, &expected.still), "{}", source.source);
        assert!(common::samples(frame) == common::samples(&expected) && !contents.damage.is_any(), "{}", source.source);
    }
}

#[test]
fn mirrored_display_matrices_are_applied_as_ffmpeg_does() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=66x38:rate=25:duration=0.2 -pix_fmt yuv420p -c:v libx264 plain.mp4");
    let plain = fs::read(at(&folder, "plain.mp4")).expect("made");
    let (tkhd, _) = boxes(&plain, b"tkhd")[0];
    for (name, a, d) in [("left.mp4", -1i32, 1i32), ("up.mp4", 1, -1), ("turned.mp4", -1, -1)] {
        let mut bytes = plain.clone();
        // The first and the fifth number of the matrix, in 16.16 fixed point.
        [(48, a), (64, d)].iter().for_each(|(at, one)| bytes[tkhd + at..tkhd + at + 4].copy_from_slice(&(one << 16).to_be_bytes()));
        fs::write(at(&folder, name), bytes).expect("written");
        let ours: Vec<u8> = common::read(&options(&at(&folder, name))).frames.iter().flat_map(common::samples).collect();
        let theirs = common::output("ffmpeg", folder.path(), &format!("-v error -i {name} -f rawvideo -"));
        assert!(ours == theirs && !ours.is_empty(), "{name}");
    }
}

/// A colour profile of 256 bytes, valid as far as FFmpeg checks it.
fn icc_profile() -> Vec<u8> {
    let mut profile: Vec<u8> = (0..=255).collect();
    profile[..4].copy_from_slice(&256u32.to_be_bytes());
    profile[16..20].copy_from_slice(b"RGB ");
    profile[36..40].copy_from_slice(b"acsp");
    profile
}

#[test]
fn the_colour_profile_of_avif_is_kept() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc=size=64x48 -frames:v 1 -pix_fmt yuv420p -c:v libaom-av1 -still-picture 1 -cpu-used 8 a.avif",
    );
    let mut bytes = fs::read(at(&folder, "a.avif")).expect("made");
    let plain = common::read(&options(&at(&folder, "a.avif"))).frames.remove(0);
    assert_eq!(plain.still, None);
    let profile = icc_profile();
    let property = [&268u32.to_be_bytes()[..], b"colrprof", &profile].concat();
    let place = |kind: &[u8; 4]| boxes(&bytes, kind)[0];
    let ((meta, _), (iloc, _), (iprp, _), (ipco, ipco_bytes), (ipma, ipma_bytes)) =
        (place(b"meta"), place(b"iloc"), place(b"iprp"), place(b"ipco"), place(b"ipma"));
    let mut add = |at: usize, more: usize| {
        let number = u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes")) + more as u32;
        bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    };
    let more = property.len() + 1;
    // In the box, the image's position precedes its length, at the end.
    [(meta, more), (iloc + 22, more), (iprp, more), (ipco, property.len()), (ipma, 1)].into_iter().for_each(|(at, more)| add(at, more));
    bytes[ipma + 18] += 1;
    bytes.insert(ipma + ipma_bytes, 5);
    bytes.splice(ipco + ipco_bytes..ipco + ipco_bytes, property);
    fs::write(at(&folder, "profile.avif"), &bytes).expect("written");
    for source in [options(&at(&folder, "profile.avif")), InputOptions::of_custom(CustomSource::bytes("profile.avif", bytes))] {
        let frame = common::read(&source).frames.remove(0);
        assert_eq!(frame.still.as_ref().and_then(|still| still.icc_profile.as_ref()), Some(&profile), "{}", source.source);
        assert!(common::samples(&frame) == common::samples(&plain));
    }
}

#[test]
fn all_eight_orientations_are_applied_as_ffmpeg_does() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc=size=64x48 -frames:v 1 -update 1 -q:v 2 -pix_fmt yuvj420p upright.jpg");
    let upright = fs::read(at(&folder, "upright.jpg")).expect("made");
    for orientation in 1..=8u8 {
        // Big-endian TIFF with one entry: tag 0x0112, type SHORT, count 1.
        let mut exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
        exif[29] = orientation;
        let name = format!("o{orientation}.jpg");
        let bytes = [&upright[..2], &exif, &upright[2..]].concat();
        fs::write(at(&folder, &name), bytes).expect("written");
        let ours = common::read(&options(&at(&folder, &name)));
        let frame = &ours.frames[0];
        let theirs = common::output("ffmpeg", folder.path(), &format!("-v error -i {name} -f rawvideo -pix_fmt yuvj420p -"));
        assert_eq!((frame.width, frame.height), if orientation < 5 { (64, 48) } else { (48, 64) }, "orientation {orientation}");
        assert!(common::samples(frame) == theirs, "orientation {orientation}");
        assert!(!ours.damage.is_any(), "orientation {orientation}: {:?}", ours.damage);
    }
}
