//! Files that end inside a unit: a packet of the video or of another stream, or its header.

use std::{fs, io::Cursor, path::Path};

use framerail_core::FramePool;
use framerail_media::{CustomSource, InputOptions, MediaReader, SideStreams};
use framerail_testkit::{ffprobe_packets, probe::ProbedPacket};

use crate::common::{at, ffmpeg, folder, options, read_on};

const SOURCES: &str = "-f lavfi -i testsrc2=size=128x96:rate=25:duration=1.2 -f lavfi -i sine=duration=1.2";
const H264: &str = "-pix_fmt yuv420p -c:v libx264 -g 10 -c:a aac";
const THEORA: &str = "-pix_fmt yuv420p -c:v libtheora -c:a libvorbis";

/// A file name, FFmpeg's arguments, and whether it can be read from a pipe.
const CLIPS: [(&str, &str, bool); 19] = [
    ("a.mkv", H264, true),
    ("a.webm", "-pix_fmt yuv420p -c:v libvpx -deadline realtime -cpu-used 8 -c:a libopus", true),
    ("a.flv", H264, true),
    ("a.ts", H264, true),
    ("a.m2ts", "-pix_fmt yuv420p -c:v libx264 -g 10 -c:a aac -f mpegts -mpegts_m2ts_mode 1", true),
    ("a.mpg", "-c:v mpeg2video -g 10 -c:a mp2", true),
    ("mpeg1.mpg", "-c:v mpeg1video -g 10 -c:a mp2 -f mpeg", true),
    ("a.ogv", THEORA, true),
    ("a.avi", "-c:v mpeg4 -g 10 -c:a pcm_s16le", true),
    ("open.avi", "-c:v mpeg4 -g 10 -c:a libmp3lame", true),
    ("a.nut", "-c:v mpeg4 -g 10 -c:a mp2", false),
    ("a.wmv", "-c:v wmv2 -g 10 -c:a wmav2", true),
    ("a.mxf", "-c:v mpeg2video -g 10 -c:a pcm_s16le -ar 48000", true),
    ("a.gxf", "-s 720x576 -c:v mpeg2video -c:a pcm_s16le -ar 48000 -ac 1", true),
    ("a.dv", "-t 0.4 -s 720x576 -pix_fmt yuv420p -c:v dvvideo -c:a pcm_s16le -ar 48000 -ac 2", true),
    ("a.swf", "-c:v flv1 -c:a libmp3lame -ar 44100", true),
    ("a.amv", "-s 160x120 -ac 1 -ar 22050 -r 25 -block_size 882 -strict -1", false),
    ("a.apng", "-an -f apng", true),
    ("a.y4m", "-an -pix_fmt yuv420p", true),
];

/// Ways to read: with only the video, with every stream, and from a source that cannot seek.
fn ways(path: &Path, is_stream: bool) -> Vec<(&'static str, InputOptions)> {
    let only_video = InputOptions { side_streams: SideStreams::None, ..options(path) };
    let bytes = Cursor::new(fs::read(path).expect("made"));
    let stream = InputOptions { side_streams: SideStreams::None, ..InputOptions::of_custom(CustomSource::stream("stream", bytes)) };
    let ways = [("video", only_video), ("all", options(path)), ("stream", stream)];
    ways.into_iter().filter(|(way, _)| is_stream || *way != "stream").collect()
}

/// Positions inside a packet behind the middle of the file: in its header and in its middle.
fn places(packets: &[ProbedPacket], size: u64) -> Vec<u64> {
    let found = packets.iter().find_map(|packet| Some((packet.position.filter(|at| *at > size / 2)?, packet.size_bytes)));
    found.map_or_else(Vec::new, |(at, length)| vec![at + 3, at + length / 2])
}

#[test]
fn a_cut_inside_a_unit_is_counted_whichever_streams_are_read() {
    let folder = folder();
    let mut unseen = Vec::new();
    for (name, arguments, is_stream) in CLIPS {
        let whole = at(&folder, name);
        ffmpeg(folder.path(), &format!("{SOURCES} {arguments} {name}"));
        if name == "open.avi" {
            // As a recorder leaves it that was not stopped properly.
            let mut bytes = fs::read(&whole).expect("made");
            bytes[4..8].fill(0);
            fs::write(&whole, bytes).expect("written");
        }
        let bytes = fs::read(&whole).expect("made");
        let mut frames = 0;
        for (way, settings) in ways(&whole, is_stream) {
            let contents = read_on(&mut MediaReader::open(&settings, &FramePool::new(4)).expect("intact"));
            frames = contents.frames.len();
            let damage = contents.damage;
            let is_any = damage.ended_early.is_some() || damage.container_errors + damage.packets_corrupt + damage.frames_lost > 0;
            assert!(!is_any, "{name} by {way} is intact: {damage:?}");
        }
        let size = bytes.len() as u64;
        for cut in ["v:0", "a:0"].into_iter().flat_map(|stream| places(&ffprobe_packets(&whole, stream), size)) {
            let path = at(&folder, &format!("cut-{name}"));
            fs::write(&path, &bytes[..cut as usize]).expect("written");
            for (way, settings) in ways(&path, is_stream) {
                let contents = read_on(&mut MediaReader::open(&settings, &FramePool::new(4)).expect("a readable beginning"));
                let damage = contents.damage;
                let is_seen = damage.ended_early.is_some() || damage.container_errors + damage.packets_corrupt + damage.frames_lost > 0;
                if !is_seen && contents.frames.len() < frames {
                    unseen.push(format!("{name} cut at {cut} of {size}, {way}: {} of {frames} frames", contents.frames.len()));
                }
            }
        }
    }
    assert!(unseen.is_empty(), "{} cuts are not counted:\n{}", unseen.len(), unseen.join("\n"));
}
