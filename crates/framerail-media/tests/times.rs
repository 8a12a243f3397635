//! Times of read and written files: files start at zero and last as long as their content, whatever the source's clock did.
//! Checked with ffprobe.

mod common;

use std::{fs, path::Path};

use common::{at, copy, ffmpeg, folder, options, output, read};
use framerail_media::{Quality, WriterOptions};
use tempfile::TempDir;

/// The packets of one kind in a file according to ffprobe, in seconds.
#[derive(Debug, Default)]
struct Stream {
    /// PTS in ascending order.
    pts: Vec<f64>,
    /// End of the last packet.
    end: f64,
}

impl Stream {
    fn first(&self) -> f64 {
        self.pts.first().copied().unwrap_or(f64::NAN)
    }

    /// Times relative to the first.
    fn relative(&self) -> Vec<f64> {
        self.pts.iter().map(|pts| pts - self.first()).collect()
    }

    fn longest_gap(&self) -> f64 {
        self.pts.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
    }
}

#[derive(Debug)]
struct Probed {
    start: f64,
    duration: f64,
    video: Stream,
    audio: Stream,
}

fn probed(path: &Path) -> Probed {
    let entries = "packet=codec_type,pts_time,duration_time:format=start_time,duration";
    let text = output("ffprobe", Path::new("."), &format!("-v error -show_entries {entries} -of csv {}", path.display()));
    let text = String::from_utf8(text).expect("text");
    let (mut start, mut duration, mut video, mut audio) = (f64::NAN, f64::NAN, Stream::default(), Stream::default());
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok());
        match (fields[0], fields.get(1).copied().unwrap_or_default()) {
            ("format", _) => (start, duration) = (number(1).unwrap_or(f64::NAN), number(2).unwrap_or(f64::NAN)),
            ("packet", kind @ ("video" | "audio")) => {
                let stream = if kind == "video" { &mut video } else { &mut audio };
                let pts = number(2).expect("timed");
                stream.pts.push(pts);
                stream.end = stream.end.max(pts + number(3).unwrap_or(0.0));
            }
            _ => {}
        }
    }
    video.pts.sort_by(f64::total_cmp);
    audio.pts.sort_by(f64::total_cmp);
    Probed { start, duration, video, audio }
}

fn fast() -> WriterOptions {
    WriterOptions { preset: Some("ultrafast".into()), quality: Quality::Crf(40.0), ..WriterOptions::default() }
}

const SOURCE: &str = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -f lavfi -i sine=duration=1";
const CODECS: &str = "-pix_fmt yuv420p -c:v libx264 -preset ultrafast -bf 2 -g 25 -c:a aac -shortest";

fn source(folder: &TempDir) {
    ffmpeg(folder.path(), &format!("{SOURCE} {CODECS} a.mp4"));
}

fn join(folder: &TempDir, parts: &[&str], to: &str) {
    let bytes: Vec<u8> = parts.iter().flat_map(|part| fs::read(at(folder, part)).expect("made")).collect();
    fs::write(at(folder, to), bytes).expect("written");
}

/// Clips with unusual times, made from `a.mp4`.
fn odd_clips(folder: &TempDir) -> Vec<&'static str> {
    source(folder);
    let make = |arguments: &str| ffmpeg(folder.path(), arguments);
    make("-i a.mp4 -c copy -output_ts_offset 1000 late.ts");
    make("-i a.mp4 -c copy -output_ts_offset 95442 wraps.ts");
    make("-i a.mp4 -itsoffset 0.4 -i a.mp4 -map 0:v -map 1:a -c copy audio_later.mp4");
    make("-itsoffset 0.4 -i a.mp4 -i a.mp4 -map 0:v -map 1:a -c copy audio_first.mkv");
    make(&format!(
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -f lavfi -i sine=duration=1 {} tail.mkv",
        &CODECS.replace("-shortest", "")
    ));
    make("-ss 0.3 -i a.mp4 -c copy edit_list.mp4");
    make("-i a.mp4 -c copy -output_ts_offset -0.3 -avoid_negative_ts disabled negative.mov");
    make(&format!("{SOURCE} -vf select='eq(mod(n\\,3)\\,0)+eq(mod(n\\,7)\\,0)' -fps_mode vfr -enc_time_base -1 {CODECS} variable.mp4"));
    vec!["a.mp4", "late.ts", "wraps.ts", "audio_later.mp4", "audio_first.mkv", "tail.mkv", "edit_list.mp4", "negative.mov", "variable.mp4"]
}

/// Checks that the output has the source's frames and audio at the same distances, starts at zero and ends where they end.
fn check(folder: &TempDir, from: &str, containers: &[&str]) {
    let theirs = probed(&at(folder, from));
    let decoded = read(&options(&at(folder, from)));
    let frames: Vec<f64> = decoded.frames.iter().map(|frame| frame.seconds()).collect();
    containers.iter().for_each(|container| check_written(folder, from, container, &theirs, &frames));
}

fn check_written(folder: &TempDir, from: &str, container: &str, theirs: &Probed, frames: &[f64]) {
    let to = at(folder, &format!("{from}.{container}"));
    let report = copy(&options(&at(folder, from)), &to, &fast()).unwrap_or_else(|error| panic!("{from} to {container}: {error}"));
    let ours = probed(&to);
    let what = format!("{from} to {container}: {theirs:?} {ours:?}");
    assert_eq!(report.timestamps_repaired, 0, "{what}");
    let close = |a: &[f64], b: &[f64], within: f64| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < within);
    let since_first: Vec<f64> = frames.iter().map(|secs| secs - frames[0]).collect();
    assert!(close(&ours.video.relative(), &since_first, 2e-3), "{what}");
    assert!(close(&ours.audio.relative(), &theirs.audio.relative(), 2e-3), "{what}");
    let relation = ours.video.first() - ours.audio.first() - (frames[0] - theirs.audio.first());
    assert!(relation.abs() < 2e-3, "audio is off by {relation}: {what}");
    // DTS start two frames before PTS; AAC audio starts a frame before its first audible sample.
    assert!((-0.001..0.085).contains(&ours.start), "{what}");
    let end = |probed: &Probed, first: f64| probed.video.end.max(probed.audio.end) - first;
    // Matroska's blocks do not state their duration, but the file does.
    let our_end = if container == "mkv" { ours.duration - ours.video.first() } else { end(&ours, ours.video.first()) };
    let length = our_end - end(theirs, frames[0]);
    assert!(length.abs() < 0.045, "longer by {length}: {what}");
}

#[test]
fn odd_clocks_of_sources_are_written_right() {
    let folder = folder();
    std::thread::scope(|scope| {
        for (number, from) in odd_clips(&folder).into_iter().enumerate() {
            let mut containers = vec!["mp4", ["mkv", "ts", "flv", "mov"][number % 4]];
            containers.extend([("late.ts", "mkv"), ("a.mp4", "flv")].iter().filter(|(name, _)| *name == from).map(|(_, more)| *more));
            let folder = &folder;
            scope.spawn(move || check(folder, from, &containers));
        }
    });
}

#[test]
fn selections_start_at_zero() {
    let folder = folder();
    source(&folder);
    ffmpeg(folder.path(), "-i a.mp4 -c copy -output_ts_offset 1000 late.ts");
    for (from, start, end, frames) in [("a.mp4", 0.41, 0.8, 9), ("late.ts", 0.2, 0.6, 10), ("a.mp4", 0.0, 0.2, 5)] {
        for container in ["mp4", "mkv", "ts"] {
            let mut part = options(&at(&folder, from));
            (part.start_secs, part.end_secs) = (Some(start), Some(end));
            let to = at(&folder, &format!("{from}.{start}.{container}"));
            copy(&part, &to, &fast()).expect("written");
            let probed = probed(&to);
            assert!((frames..frames + 2).contains(&probed.video.pts.len()), "{from} {container}: {probed:?}");
            assert!((-0.001..0.085).contains(&probed.start), "{from} {container}: {probed:?}");
            assert!(probed.video.end.max(probed.audio.end) < 0.55, "{from} {container}: {probed:?}");
        }
    }
}

#[test]
fn joined_recordings_are_one() {
    let folder = folder();
    source(&folder);
    ffmpeg(folder.path(), "-i a.mp4 -c copy one.ts");
    ffmpeg(folder.path(), "-i a.mp4 -c copy -output_ts_offset 1000 late.ts");
    ffmpeg(folder.path(), "-i a.mp4 -c copy one.mkv");
    join(&folder, &["one.ts", "one.ts", "one.ts"], "back.ts");
    join(&folder, &["one.ts", "late.ts"], "ahead.ts");
    join(&folder, &["late.ts", "one.ts"], "far_back.ts");
    for (name, parts) in [("back.ts", 3), ("ahead.ts", 2), ("far_back.ts", 2)] {
        let single = probed(&at(&folder, "one.ts"));
        for container in ["mp4", "mkv"] {
            let to = at(&folder, &format!("{name}.{container}"));
            let report = copy(&options(&at(&folder, name)), &to, &fast()).expect("written");
            let joined = probed(&to);
            let what = format!("{name} to {container}: {joined:?}");
            assert_eq!((joined.video.pts.len(), joined.audio.pts.len()), (25 * parts, single.audio.pts.len() * parts), "{what}");
            assert_eq!(report.timestamps_repaired, 0, "the reader has joined them: {what}");
            assert!(joined.video.longest_gap() < 0.12 && joined.audio.longest_gap() < 0.12, "{what}");
            // In each part, the distance of frames and audio is that of the first part.
            let relations: Vec<f64> =
                (0..parts).map(|part| joined.video.pts[part * 25] - joined.audio.pts[part * single.audio.pts.len()]).collect();
            assert!(relations.iter().all(|relation| (relation - relations[0]).abs() < 2e-3), "{relations:?} {what}");
        }
        let damage = read(&options(&at(&folder, name))).damage;
        assert_eq!((damage.timestamps_repaired, damage.frames_lost), (parts as u64 - 1, 0), "{name}: each step is counted once");
    }
}

/// Position and time of each tag of a stream (8 audio, 9 video) in an FLV file.
fn flv_tags(bytes: &[u8], kind: u8) -> Vec<(usize, u32)> {
    let (mut tags, mut place) = (Vec::new(), 13);
    while let Some(header) = bytes.get(place..place + 11) {
        let size = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let time = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        if header[0] == kind {
            tags.push((place, time));
        }
        place += 11 + size + 4;
    }
    tags
}

fn set_flv_time(bytes: &mut [u8], place: usize, time: u32) {
    let [high, rest @ ..] = time.to_be_bytes();
    bytes[place + 4..place + 7].copy_from_slice(&rest);
    bytes[place + 7] = high;
}

#[test]
fn one_damaged_timestamp_moves_one_packet() {
    let folder = folder();
    source(&folder);
    ffmpeg(folder.path(), "-i a.mp4 -c copy a.flv");
    let intact = fs::read(at(&folder, "a.flv")).expect("made");
    let times = |name: &str| {
        let contents = read(&options(&at(&folder, name)));
        let frames: Vec<f64> = contents.frames.iter().map(|frame| frame.seconds()).collect();
        let packets = contents.packets.iter();
        let audio: Vec<f64> = packets.map(|packet| packet.pts.expect("timed").seconds(packet.time_base)).collect();
        (frames, audio, contents.damage.timestamps_repaired)
    };
    let (frames, audio, _) = times("a.flv");
    let close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 0.042);
    for kind in [8, 9] {
        let tags = flv_tags(&intact, kind);
        for number in [10, 14, 20] {
            for change in
                [|time: u32| time ^ 0x4000_0000, |time| time ^ 0x0001_0000, |time| time ^ 0x0400, |time: u32| time.saturating_sub(300)]
            {
                let (place, time) = tags[number];
                let mut bytes = intact.clone();
                set_flv_time(&mut bytes, place, change(time));
                fs::write(at(&folder, "damaged.flv"), bytes).expect("written");
                let (ours, sound, repaired) = times("damaged.flv");
                let what = format!("tag {number} of {kind} at {}", change(time));
                assert!(close(&ours, &frames), "{what}: {ours:?}");
                assert!(close(&sound, &audio), "{what}: {sound:?}");
                assert_eq!(repaired, 1, "{what}");
            }
        }
    }
    // A clock that is set back permanently for all streams.
    let mut bytes = intact.clone();
    for (place, time) in flv_tags(&intact, 8).into_iter().chain(flv_tags(&intact, 9)).filter(|(_, time)| *time >= 500) {
        set_flv_time(&mut bytes, place, time - 300);
    }
    fs::write(at(&folder, "back.flv"), bytes).expect("written");
    let (ours, sound, repaired) = times("back.flv");
    assert_eq!((ours.len(), sound.len(), repaired), (frames.len(), audio.len(), 1));
    let behind = |times: &[f64], before: &[f64]| times[times.len() - 1] - before[before.len() - 1];
    let (moved, sound_moved) = (behind(&ours, &frames), behind(&sound, &audio));
    assert!((moved - sound_moved).abs() < 2e-3 && moved.abs() < 0.13, "both go on from there: {moved} {sound_moved}");
}

#[test]
fn the_last_frame_is_shown_as_long_as_it_was() {
    let folder = folder();
    let delays = |name: &str| {
        let text = output("ffprobe", folder.path(), &format!("-v error -show_entries packet=duration_time -of csv=p=0 {name}"));
        let text = String::from_utf8(text).expect("text");
        text.split_whitespace()
            .map(|secs| (secs.trim_matches(',').parse::<f64>().expect("seconds") * 100.0).round() as u32)
            .collect::<Vec<_>>()
    };
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=10:duration=0.5 -final_delay 50 a.gif");
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=10:duration=0.5 -f apng -final_delay 1/2 a.apng");
    for (from, to) in [("a.gif", "b.gif"), ("a.apng", "b.apng"), ("a.gif", "c.apng")] {
        copy(&options(&at(&folder, from)), &at(&folder, to), &WriterOptions::default()).expect("written");
        assert_eq!(delays(to), [10, 10, 10, 10, 50], "{from} to {to}");
    }
    for to in ["c.mp4", "c.mkv", "c.mov"] {
        copy(&options(&at(&folder, "a.gif")), &at(&folder, to), &fast()).expect("written");
        let text = output("ffprobe", folder.path(), &format!("-v error -show_entries format=duration -of csv=p=0 {to}"));
        let secs: f64 = String::from_utf8(text).expect("text").trim().parse().expect("seconds");
        assert!((secs - 0.9).abs() < 2e-3, "{to} lasts {secs} s");
    }
}

/// AVI stores no audio timestamps: gaps are filled with silence, also where FFmpeg starts with the first packet.
/// FFmpeg's MXF of H.264 does not state in which order frames are shown: its demuxer gives decoding times as presentation times.
#[test]
fn frames_of_mxf_without_a_presentation_order_have_their_places() {
    let folder = folder();
    let input = "-f lavfi -i testsrc2=size=128x96:rate=25:duration=1.2 -f lavfi -i sine=duration=1.2:sample_rate=48000 -pix_fmt yuv420p";
    for codec in ["libx264 -bf 2", "libx264 -bf 3 -x264-params b-pyramid=none", "libx264 -bf 0", "mpeg2video -bf 2"] {
        ffmpeg(folder.path(), &format!("{input} -c:v {codec} -g 10 -c:a pcm_s16le a.mxf"));
        let contents = read(&options(&at(&folder, "a.mxf")));
        assert!(!contents.damage.is_any(), "{codec}: {:?}", contents.damage);
        let secs: Vec<f64> = contents.frames.iter().map(|frame| frame.seconds()).collect();
        assert!(secs.len() == 30 && secs.iter().zip(0..).all(|(secs, n)| (secs - f64::from(n) * 0.04).abs() < 1e-6), "{codec}: {secs:?}");
    }
}

#[test]
fn audio_that_begins_late_stays_late_in_avi() {
    let folder = folder();
    let codecs = ["aac", "libmp3lame", "mp2", "ac3", "pcm_s16le", "pcm_u8", "pcm_alaw", "pcm_mulaw", "adpcm_ms", "adpcm_ima_wav"];
    for codec in codecs {
        let source = "-f lavfi -i testsrc2=size=96x64:rate=25:duration=1 -itsoffset 0.48 -f lavfi -i sine=f=1000:r=48000:duration=0.5";
        ffmpeg(folder.path(), &format!("{source} -af volume=5 -c:v mpeg4 -c:a {codec} late.mkv"));
        let settings = WriterOptions { overwrite: true, ..WriterOptions::default() };
        let report = copy(&options(&at(&folder, "late.mkv")), &at(&folder, "late.avi"), &settings).expect("written");
        assert!(report.packets_copied > 0 && report.warnings.iter().any(|line| line.contains("silence")), "{codec}: {report:?}");
        let samples = output("ffmpeg", folder.path(), "-v error -i late.avi -map 0:a -f s16le -ac 1 -ar 48000 -");
        let is_loud = |sample: &[u8]| i16::from_le_bytes([sample[0], sample[1]]).unsigned_abs() > 2_000;
        let first = samples.chunks_exact(2).position(is_loud).expect("a sound");
        let secs = first as f64 / 48_000.0;
        assert!((secs - 0.48).abs() < 0.03, "{codec}: heard at {secs} s");
    }
}
