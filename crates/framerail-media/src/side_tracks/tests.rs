//! Every audio codec into every container: how it is written, whether it plays, and whether it stays in sync with the video.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use framerail_core::{FramePool, MediaKind};

use super::*;
use crate::{Input, InputOptions, MediaItem, MediaReader, MediaWriter, PacketKind, WriteReport};

/// Seconds at which the tone begins in every source.
const ONSET_SECS: f64 = 0.2;
/// Codec names in the table, with FFmpeg's encoders.
const CODECS: &[(&str, &str)] = &[
    ("AAC", "aac"),
    ("MP2", "mp2"),
    ("MP3", "libmp3lame"),
    ("AC-3", "ac3"),
    ("E-AC-3", "eac3"),
    ("DTS", "dca"),
    ("TrueHD", "truehd"),
    ("FLAC", "flac"),
    ("ALAC", "alac"),
    ("Opus", "libopus"),
    ("Vorbis", "libvorbis"),
    ("PCM 16 bit", "pcm_s16le"),
    ("PCM 24 bit, big-endian", "pcm_s24be"),
    ("A-law", "pcm_alaw"),
    ("ADPCM (IMA)", "adpcm_ima_wav"),
    ("ADPCM (Microsoft)", "adpcm_ms"),
    ("WMA 2", "wmav2"),
];
/// Containers of the table, each with a fast video encoder.
const CONTAINERS: &[(&str, &str)] = &[
    (".mp4", "mpeg4"),
    (".mov", "mpeg4"),
    (".mkv", "mpeg4"),
    (".webm", "libvpx"),
    (".ts", "mpeg2video"),
    (".avi", "mpeg4"),
    (".flv", "flv"),
    (".ogv", "libtheora"),
];

pub(crate) fn ffmpeg(folder: &Path, arguments: &str) {
    let mut command = Command::new("ffmpeg");
    let command = command.current_dir(folder).args(["-nostdin", "-v", "error", "-y"]).args(arguments.split_whitespace());
    assert!(command.status().expect("ffmpeg is installed").success(), "ffmpeg {arguments}");
}

/// Copies a clip with all of its side streams.
pub(crate) fn write(from: &Path, to: &Path, options: &WriterOptions) -> Result<WriteReport, MediaError> {
    let mut reader = MediaReader::open(&InputOptions::new(from.to_string_lossy()), &FramePool::new(8))?;
    let mut writer = MediaWriter::create(to, options, reader.info())?;
    while let Some(item) = reader.next()? {
        match item {
            MediaItem::Frame(frame) => writer.write_frame(&frame)?,
            MediaItem::Packet(packet) => writer.write_packet(&packet)?,
        }
    }
    writer.finish()
}

/// Result of decoding an audio stream.
struct Heard {
    codec: String,
    /// Start of the tone, in seconds from the first frame.
    onset_secs: f64,
    samples: usize,
    damaged: u64,
}

/// Decodes the audio streams of a file to 16-bit samples at 48 kHz.
fn listen(path: &Path) -> Vec<Heard> {
    let mut input = Input::open(&InputOptions::new(path.to_string_lossy())).expect("readable");
    let info = input.info().clone();
    let mut first_image = f64::MAX;
    let mut heard = Vec::new();
    for side in info.side_streams.iter().filter(|side| side.kind == MediaKind::Audio) {
        let Some(SideParameters::Stream { parameters, .. }) = side.parameters.downcast_ref::<SideParameters>() else { continue };
        let decoder = AudioTranscoder::open(parameters, side.time_base, &["pcm_s16le".into()], false);
        heard.push((side.codec.clone(), decoder.ok(), Vec::new()));
    }
    while let Some(packet) = input.next_packet().expect("readable") {
        match packet.kind {
            PacketKind::Video => {
                let secs = packet.pts().or(packet.dts()).map_or(0.0, |ticks| info.time_base.seconds(ticks));
                first_image = first_image.min(secs);
            }
            PacketKind::Side(side) => {
                let number = info.side_streams[..side].iter().filter(|side| side.kind == MediaKind::Audio).count();
                if info.side_streams[side].kind == MediaKind::Audio {
                    let (_, decoder, packets) = &mut heard[number];
                    packets.extend(decoder.iter_mut().flat_map(|decoder| decoder.push(&packet.packet).expect("decoded")));
                }
            }
        }
    }
    let result = heard.into_iter().map(|(codec, decoder, mut packets)| {
        let Some(mut decoder) = decoder else { return Heard { codec, onset_secs: f64::MAX, samples: 0, damaged: 1 } };
        packets.extend(decoder.finish().expect("decoded"));
        let channels = decoder.parameters().expect("memory").get().ch_layout.nb_channels as usize;
        let (mut onset, mut samples) = (f64::MAX, 0);
        for packet in &packets {
            let start = decoder.time_base().seconds(packet.pts);
            for (index, sample) in packet.data().chunks_exact(2 * channels).enumerate() {
                let value = i16::from_le_bytes([sample[0], sample[1]]);
                if value.unsigned_abs() > 6000 {
                    onset = onset.min(start + index as f64 * decoder.time_base().seconds(1));
                }
            }
            samples += packet.data().len() / (2 * channels);
        }
        Heard { codec, onset_secs: onset - first_image, samples, damaged: decoder.damaged() }
    });
    result.collect()
}

/// A clip for each codec, in Matroska: a tone that starts late.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut arguments = format!(
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -f lavfi -i \
         aevalsrc=0.5*sin(1760*PI*t)*gte(t\\,{ONSET_SECS})|0.5*sin(1760*PI*t)*gte(t\\,{ONSET_SECS}):s=48000:d=0.4"
    );
    for (_, encoder) in CODECS {
        arguments += &format!(" -map 0 -map 1 -c:v mpeg4 -strict -2 -c:a {encoder} {encoder}.mkv");
    }
    ffmpeg(folder, &arguments);
    CODECS.iter().map(|(_, encoder)| folder.join(format!("{encoder}.mkv"))).collect()
}

/// Problems of an output, and its entry in the table.
fn judge(report: &WriteReport, to: &Path, original: &Heard) -> (Vec<String>, String) {
    let mut problems = Vec::new();
    // AVI stores no times and no count of samples that are not played. FFmpeg reads Theora one frame late, and Ogg has no negative times.
    let tolerance = match to.extension().and_then(|ending| ending.to_str()) {
        Some("avi") => 0.045,
        Some("ogv") => 0.085,
        _ => 0.012,
    };
    let mut check = |is_right: bool, what: String| problems.extend((!is_right).then_some(what));
    let heard = listen(to);
    let [heard] = heard.as_slice() else { return (vec![format!("{} audio streams", heard.len())], "none".into()) };
    check(heard.damaged == 0 && report.packets_damaged == 0, format!("{} packets do not play", heard.damaged));
    let moved = heard.onset_secs - original.onset_secs;
    check(moved.abs() < tolerance, format!("the tone begins {moved:.4} s late"));
    check(heard.samples + 2400 > original.samples, format!("{} of {} samples", heard.samples, original.samples));
    let is_copied = report.packets_copied > 0;
    // MP4 has the same number for both layers.
    check(!is_copied || heard.codec == original.codec || original.codec == "mp2", format!("{} is found", heard.codec));
    check(report.warnings.iter().any(|line| line.contains("is encoded as")) != is_copied, "the notice".into());
    check((report.packets_encoded > 0) != is_copied, "the counts".into());
    (problems, if is_copied { "copied".to_owned() } else { heard.codec.clone() })
}

#[test]
fn every_codec_goes_into_every_container_and_plays() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let names: Vec<String> = CONTAINERS.iter().map(|(name, _)| format!("`{name}`")).collect();
    let mut table = format!("| codec | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(CONTAINERS.len()));
    let mut problems = Vec::new();
    for ((title, encoder), source) in CODECS.iter().zip(sources(folder.path())) {
        let original = &listen(&source)[0];
        assert!((original.onset_secs - ONSET_SECS).abs() < 0.02, "{title}: {}", original.onset_secs);
        table += &format!("| {title} |");
        for (ending, video) in CONTAINERS {
            let to = folder.path().join(format!("{encoder}-out{ending}"));
            let options = WriterOptions { codec: Some((*video).into()), threads: 1, ..WriterOptions::default() };
            let cell = match write(&source, &to, &options) {
                Ok(report) => {
                    let (found, cell) = judge(&report, &to, original);
                    problems.extend(found.into_iter().map(|problem| format!("{title} into {ending}: {problem} {:?}", report.warnings)));
                    cell
                }
                Err(error) => {
                    problems.push(format!("{title} into {ending}: {error}"));
                    "failed".into()
                }
            };
            table += &format!(" {cell} |");
        }
        table += "\n";
    }
    assert!(problems.is_empty(), "{}\n{table}", problems.join("\n"));
    compare_with_docs(&table);
}

/// Compares the table with the one in the documentation. Other FFmpeg releases support more combinations.
fn compare_with_docs(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audio.md");
    let (begin, end) = ("<!-- table: begin -->\n", "<!-- table: end -->");
    let text = fs::read_to_string(&path).expect("docs/audio.md");
    let (before, rest) = text.split_once(begin).expect("a place for the table");
    let (found, after) = rest.split_once(end).expect("an end of the table");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{table}{end}{after}")).expect("written");
        return;
    }
    // SAFETY: no preconditions.
    let major = unsafe { ffmpeg_the_third::ffi::avformat_version() } >> 16;
    assert!(major != 59 || found == table, "docs/audio.md is not current: run this test with UPDATE_DOCS=1\n{table}");
}

/// Codec, channels, tags and disposition of a stream.
type Described = (String, i32, Vec<(String, String)>, i32);

/// The streams of a kind.
fn streams(path: &Path, kind: MediaKind) -> Vec<Described> {
    let input = Input::open(&InputOptions::new(path.to_string_lossy())).expect("readable");
    let of_kind = input.info().side_streams.iter().filter(|side| side.kind == kind);
    let described = of_kind.filter_map(|side| match side.parameters.downcast_ref::<SideParameters>()? {
        SideParameters::Stream { parameters, metadata, disposition } => {
            Some((side.codec.clone(), parameters.get().ch_layout.nb_channels, metadata.clone(), *disposition))
        }
        SideParameters::Chapters(_) => None,
    });
    described.collect()
}

#[test]
fn layouts_languages_and_dispositions_are_kept() {
    let folder = tempfile::tempdir().expect("temporary folder");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -f lavfi -i sine=d=0.4 -map 0 -map 1 -map 1 -map 1 -c:v mpeg4 -strict -2 \
         -c:a:0 dca -ar:a:0 48000 -ac:a:0 6 -c:a:1 pcm_s16le -ac:a:1 1 -ar:a:1 8000 -c:a:2 libopus -metadata:s:a:0 language=eng \
         -metadata:s:a:1 language=deu -metadata:s:a:1 title=Kommentar -disposition:a:0 default -disposition:a:1 comment in.mkv",
    );
    let from = folder.path().join("in.mkv");
    for (to, video, codecs) in [
        ("a.mp4", "mpeg4", ["dts", "aac", "opus"]),
        ("a.webm", "libvpx", ["opus", "opus", "opus"]),
        ("a.ts", "mpeg2video", ["dts", "aac", "opus"]),
        ("a.mkv", "mpeg4", ["dts", "pcm_s16le", "opus"]),
    ] {
        let path = folder.path().join(to);
        let options = WriterOptions { codec: Some(video.into()), ..WriterOptions::default() };
        let report = write(&from, &path, &options).expect(to);
        let found = streams(&path, MediaKind::Audio);
        assert_eq!(found.iter().map(|(codec, ..)| codec.as_str()).collect::<Vec<_>>(), codecs, "{to}: {:?}", report.warnings);
        assert_eq!(found.iter().map(|(_, channels, ..)| *channels).collect::<Vec<_>>(), [6, 1, 1], "{to}");
        assert_eq!(tag(&found[0].2, "language"), Some("eng"), "{to}");
        assert!(["deu", "ger"].contains(&tag(&found[1].2, "language").unwrap_or_default()), "{to}: {:?}", found[1].2);
        if to != "a.ts" {
            let comment = ffmpeg_the_third::ffi::AV_DISPOSITION_COMMENT;
            assert!(to != "a.mkv" || found[1].3 & comment != 0, "{to}");
            assert!(["title", "handler_name"].iter().any(|key| tag(&found[1].2, key) == Some("Kommentar")), "{to}: {:?}", found[1].2);
        }
        let is_named = report.warnings.iter().any(|line| line.contains("audio stream 2 (pcm_s16le, ") && line.contains("is encoded as"));
        assert_eq!(is_named, to != "a.mkv", "{:?}", report.warnings);
    }
}

#[test]
fn what_is_asked_for_is_done_with_audio() {
    let folder = tempfile::tempdir().expect("temporary folder");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -f lavfi -i sine=d=0.4 -map 0 -map 1 -map 1 -c:v mpeg4 -c:a:0 pcm_s16le -c:a:1 aac in.mkv",
    );
    let from = folder.path().join("in.mkv");
    let with = |audio, name: &str| {
        let codec = match name {
            "none.gif" => "gif",
            "one.flv" => "flv",
            _ => "mpeg4",
        };
        let options = WriterOptions { codec: Some(codec.into()), audio, ..WriterOptions::default() };
        let report = write(&from, &folder.path().join(name), &options).expect(name);
        let codecs: Vec<String> = streams(&folder.path().join(name), MediaKind::Audio).into_iter().map(|(codec, ..)| codec).collect();
        (codecs, report)
    };
    let (codecs, report) = with(AudioMode::Copy, "copy.mp4");
    assert_eq!(codecs, ["aac"]);
    assert!(report.warnings.iter().any(|line| line.contains("(pcm_s16le) is dropped: mp4 does not support pcm_s16le")), "{report:?}");
    assert!(report.packets_skipped > 0 && report.packets_copied > 0 && report.packets_encoded == 0);
    let (codecs, report) = with(AudioMode::Encode, "encode.mkv");
    assert_eq!(codecs, ["opus", "opus"]);
    assert_eq!(report.packets_copied, 0);
    let (codecs, report) = with(AudioMode::Auto, "none.gif");
    assert!(codecs.is_empty() && report.warnings.iter().any(|line| line.contains("gif has no audio")), "{report:?}");
    // FLV holds one audio stream.
    let (codecs, report) = with(AudioMode::Auto, "one.flv");
    assert_eq!(codecs, ["pcm_s16le"], "{report:?}");
    assert!(report.warnings.iter().any(|line| line.contains("audio stream 2 (aac) is dropped")), "{report:?}");
}

#[test]
fn aac_that_changes_in_mid_stream_is_encoded_or_dropped_from_there_and_never_noise() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (name, rate) in [("one.ts", 44_100), ("other.ts", 22_050)] {
        let arguments = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -f lavfi -i sine=d=0.4 -c:v mpeg2video -c:a aac";
        ffmpeg(folder.path(), &format!("{arguments} -ar {rate} {name}"));
    }
    let parts = ["one.ts", "other.ts"].map(|name| fs::read(folder.path().join(name)).expect("made"));
    let from = folder.path().join("joined.ts");
    fs::write(&from, parts.concat()).expect("written");
    for (audio, name, is_dropped) in [
        (AudioMode::Auto, "a.mp4", true),
        (AudioMode::Auto, "a.mkv", true),
        (AudioMode::Encode, "encoded.mp4", false),
        (AudioMode::Auto, "a.ts", false),
    ] {
        let codec = if name.ends_with(".ts") { "mpeg2video" } else { "mpeg4" };
        let options = WriterOptions { codec: Some(codec.into()), audio, ..WriterOptions::default() };
        let report = write(&from, &folder.path().join(name), &options).expect(name);
        let changes = report.warnings.iter().any(|line| line.contains("changes from 44100 Hz, 1 channel to 22050 Hz, 1 channel"));
        assert_eq!((changes, report.packets_skipped > 0), (is_dropped, is_dropped), "{name}: {report:?}");
        let played =
            Command::new("ffmpeg").current_dir(folder.path()).args(["-v", "error", "-i", name, "-map", "0:a", "-f", "null", "-"]).output();
        let words = String::from_utf8_lossy(&played.expect("ffmpeg is installed").stderr).into_owned();
        assert_eq!(words, "", "{name} plays");
    }
}

#[test]
fn damaged_audio_is_counted_and_stays_in_its_place() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let arguments = format!(
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -f lavfi -i aevalsrc=0.5*sin(1760*PI*t)*gte(t\\,{ONSET_SECS}):s=48000:d=1 -c:v mpeg4 -c:a flac in.mkv"
    );
    ffmpeg(folder.path(), &arguments);
    let (from, to) = (folder.path().join("in.mkv"), folder.path().join("out.ts"));
    let mut reader = MediaReader::open(&InputOptions::new(from.to_string_lossy()), &FramePool::new(8)).expect("readable");
    let options = WriterOptions { codec: Some("mpeg2video".into()), ..WriterOptions::default() };
    let mut writer = MediaWriter::create(&to, &options, reader.info()).expect("creatable");
    let mut number = 0;
    while let Some(item) = reader.next().expect("readable") {
        match item {
            MediaItem::Frame(frame) => writer.write_frame(&frame).expect("written"),
            MediaItem::Packet(mut packet) => {
                number += 1;
                if number == 2 {
                    let payload = packet.payload.downcast_ref::<crate::SidePayload>().expect("ours").0.share().expect("memory");
                    let mut damaged = AvPacket::of_bytes(&vec![0x5a; payload.data().len()]).expect("memory");
                    (damaged.pts, damaged.dts, damaged.duration) = (payload.pts, payload.dts, payload.duration);
                    packet.payload = std::sync::Arc::new(crate::SidePayload(damaged));
                }
                writer.write_packet(&packet).expect("written");
            }
        }
    }
    let report = writer.finish().expect("written");
    assert!(report.packets_damaged > 0, "{report:?}");
    assert!(report.warnings.iter().any(|line| line == "1 packet of audio or subtitles is damaged"), "{report:?}");
    let heard = &listen(&to)[0];
    assert!((heard.onset_secs - ONSET_SECS).abs() < 0.012 && heard.samples > 46_000, "{} {}", heard.onset_secs, heard.samples);
}

#[test]
fn times_of_audio_are_laid_on_the_count_of_samples() {
    let source = pcm();
    let mut transcoder =
        AudioTranscoder::open(&source, TimeBase::new(1, 1000).expect("valid"), &["aac".into()], true).expect("FFmpeg's own");
    let mut packets = Vec::new();
    // 20 ms each: rounded times, a gap of 0.5 s, an overlap, a jump far ahead.
    for pts in [0, 21, 39, 60, 580, 600, 590, 620, 1_000_000, 1_000_020, 1_000_040] {
        let mut packet = AvPacket::of_bytes(&[0; 960 * 2]).expect("memory");
        (packet.pts, packet.dts, packet.duration) = (pts, pts, 20);
        packets.extend(transcoder.push(&packet).expect("encoded"));
    }
    packets.extend(transcoder.finish().expect("encoded"));
    assert_eq!(transcoder.damaged(), 0);
    let times: Vec<i64> = packets.iter().map(|packet| packet.pts).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{times:?}");
    let before: Vec<i64> = times.iter().copied().filter(|pts| *pts < 48_000_000).collect();
    assert!(before.windows(2).all(|pair| pair[1] - pair[0] == 1024), "no holes: {before:?}");
    let (last, total) = (before.last().expect("some"), 640 * 48);
    assert!((0..1024).contains(&(last + 1024 - total)) || (0..2048).contains(&(last + 2048 - total)), "{last} of {total}");
    assert!(times.iter().any(|pts| (48_000_000 - 1024..=48_000_000).contains(pts)), "{times:?}");
}

/// 16-bit mono at 48 kHz.
fn pcm() -> Parameters {
    let parameters = Parameters::of_codec(ffmpeg_the_third::ffi::AVCodecID::PCM_S16LE, &[]);
    let set = parameters.changed(|copy| {
        copy.codec_type = ffmpeg_the_third::ffi::AVMediaType::AUDIO;
        copy.sample_rate = 48_000;
        // SAFETY: an empty layout is replaced by a native one.
        unsafe { ffmpeg_the_third::ffi::av_channel_layout_default(&mut copy.ch_layout, 1) };
    });
    set.expect("memory")
}

#[test]
fn text_subtitles_are_converted_and_others_are_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let text = "1\n00:00:00,100 --> 00:00:00,300\nFirst <i>line</i>\n\n2\n00:00:00,400 --> 00:00:00,700\nSecond\n\n";
    fs::write(folder.path().join("a.srt"), text).expect("written");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -i a.srt -map 0 -map 1 -map 1 -c:v mpeg4 -c:s:0 subrip -c:s:1 ass -metadata:s:s:1 language=fra in.mkv",
    );
    let from = folder.path().join("in.mkv");
    let shown = |name: &str, number: usize| {
        let arguments = ["-v", "error", "-i", name, "-map", &format!("0:s:{number}"), "-f", "srt", "-"];
        let output = Command::new("ffmpeg").current_dir(folder.path()).args(arguments).output().expect("ffmpeg is installed");
        String::from_utf8(output.stdout).expect("text")
    };
    let mut again = Vec::new();
    for (name, video, codec) in [("a.mp4", "mpeg4", "mov_text"), ("a.mov", "mpeg4", "mov_text"), ("a.webm", "libvpx", "webvtt")] {
        let to = folder.path().join(name);
        let report = write(&from, &to, &WriterOptions { codec: Some(video.into()), ..WriterOptions::default() }).expect(name);
        let found = streams(&to, MediaKind::Subtitle);
        assert_eq!(found.iter().map(|(codec, ..)| codec.as_str()).collect::<Vec<_>>(), [codec; 2], "{name}: {:?}", report.warnings);
        assert!(report.warnings.iter().any(|line| line.contains("subtitle stream 2 (ass, fra) is converted to")), "{:?}", report.warnings);
        for number in 0..2 {
            let shown = shown(name, number);
            let is_whole = ["00:00:00,100 --> 00:00:00,300", "First", "00:00:00,400 --> 00:00:00,700", "Second"];
            assert!(is_whole.iter().all(|part| shown.contains(part)), "{name} {number}: {shown}");
        }
        again.push(to);
    }
    let back = folder.path().join("back.mkv");
    write(&again[0], &back, &WriterOptions { codec: Some("mpeg4".into()), ..WriterOptions::default() }).expect("written");
    assert!(shown("back.mkv", 0).contains("Second"));
    let report = write(&from, &folder.path().join("a.ts"), &WriterOptions { codec: Some("mpeg2video".into()), ..WriterOptions::default() });
    let report = report.expect("written");
    let is_named = |line: &String| line == "subtitle stream 1 (subrip) is dropped: mpegts does not support subrip; .mkv keeps it";
    assert!(report.warnings.iter().any(is_named), "{:?}", report.warnings);
}

#[test]
fn timecode_chapters_and_data_are_kept_or_named() {
    let folder = tempfile::tempdir().expect("temporary folder");
    fs::write(folder.path().join("c.txt"), ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=One\n").expect("written");
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.4 -i c.txt -map 0 -map_metadata 1 -c:v mpeg4 -timecode 01:02:03:04 in.mov",
    );
    let from = folder.path().join("in.mov");
    let written = |name: &str, codec: &str| {
        let to = folder.path().join(name);
        let report = write(&from, &to, &WriterOptions { codec: Some(codec.into()), ..WriterOptions::default() }).expect(name);
        let input = Input::open(&InputOptions::new(to.to_string_lossy())).expect("readable");
        let has_chapters = input.info().side_streams.iter().any(|side| side.codec == "chapters");
        (tag(&input.info().metadata, "timecode").map(str::to_owned), has_chapters, report.warnings)
    };
    for (name, codec) in [("a.mp4", "mpeg4"), ("a.mov", "mpeg4"), ("a.mkv", "mpeg4")] {
        let (timecode, has_chapters, warnings) = written(name, codec);
        assert_eq!((timecode.as_deref(), has_chapters), (Some("01:02:03:04"), true), "{name}: {warnings:?}");
        assert!(!warnings.iter().any(|line| line.contains("is dropped")), "{name}: {warnings:?}");
    }
    let (_, has_chapters, warnings) = written("a.ts", "mpeg2video");
    assert!(!has_chapters);
    assert!(warnings.iter().any(|line| line.contains("timecode track (01:02:03:04) is dropped: mpegts")), "{warnings:?}");
    assert!(warnings.iter().any(|line| line.contains("1 chapter is dropped: mpegts does not support them")), "{warnings:?}");
}
