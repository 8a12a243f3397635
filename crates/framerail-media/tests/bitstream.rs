//! Packets for parsers of elementary streams equal FFmpeg's own elementary streams.

mod common;

use common::{at, ffmpeg, folder, options, output};
use framerail_media::{BitstreamFilter, Input, InputOptions, InputPacket, PacketKind, SideStreams, bitstream_filter::parser_headers};

fn open(path: &std::path::Path) -> Input {
    Input::open(&InputOptions { side_streams: SideStreams::None, ..options(path) }).expect("a readable source")
}

fn packets(input: &mut Input) -> Vec<InputPacket> {
    let mut packets = Vec::new();
    while let Some(packet) = input.next_packet().expect("no fatal error") {
        assert_eq!(packet.kind, PacketKind::Video);
        packets.push(packet);
    }
    packets
}

#[test]
fn length_prefixes_become_start_codes_as_ffmpeg_does_it() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=2 -pix_fmt yuv420p -g 12";
    ffmpeg(folder.path(), &format!("{source} -c:v libx264 -bf 3 h264.mp4"));
    ffmpeg(folder.path(), "-i h264.mp4 -c copy h264.mkv");
    ffmpeg(folder.path(), &format!("{source} -c:v libx265 -x265-params log-level=none:pools=1 -tag:v hvc1 hevc.mp4"));
    for (name, format) in [("h264.mp4", "h264"), ("h264.mkv", "h264"), ("hevc.mp4", "hevc")] {
        let mut input = open(&at(&folder, name));
        let mut filter = BitstreamFilter::for_parser(input.parameters()).expect("sound headers").expect("needs one");
        assert!(filter.headers().starts_with(&[0, 0, 0, 1]), "{name}");
        assert_eq!(parser_headers(input.parameters()).expect("sound headers"), filter.headers(), "{name}");
        let mut bytes = Vec::new();
        for packet in packets(&mut input) {
            let before = packet.share().expect("memory");
            let after = filter.filter(packet).expect("memory");
            assert_eq!(after.len(), 1, "{name}");
            let facts = |packet: &InputPacket| (packet.pts(), packet.dts(), packet.duration(), packet.position(), packet.is_keyframe());
            assert_eq!(facts(&after[0]), facts(&before), "{name}");
            bytes.extend_from_slice(after[0].data());
        }
        assert!(!filter.damage().is_any(), "{name}");
        let expected = output("ffmpeg", folder.path(), &format!("-v error -i {name} -c copy -f {format} -"));
        assert!(bytes == expected, "{name}: {} bytes, FFmpeg has {}", bytes.len(), expected.len());
    }
}

#[test]
fn a_reset_filter_gives_the_headers_again() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2 -pix_fmt yuv420p -c:v libx264 a.mp4");
    let mut input = open(&at(&folder, "a.mp4"));
    let mut filter = BitstreamFilter::for_parser(input.parameters()).expect("sound headers").expect("needs one");
    let first = packets(&mut input).swap_remove(0);
    let once = filter.filter(first.share().expect("memory")).expect("memory");
    filter.reset();
    let again = filter.filter(first).expect("memory");
    assert_eq!(once[0].data(), again[0].data());
}

#[test]
fn streams_that_are_fit_have_no_filter() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=0.2 -pix_fmt yuv420p";
    for (name, encoder) in [
        ("h264.ts", "libx264"),
        ("h264.h264", "libx264"),
        ("vp8.webm", "libvpx"),
        ("vp9.webm", "libvpx-vp9 -cpu-used 8 -deadline realtime"),
        ("mpeg2.ts", "mpeg2video"),
        ("mjpeg.avi", "mjpeg"),
    ] {
        ffmpeg(folder.path(), &format!("{source} -c:v {encoder} {name}"));
        let input = open(&at(&folder, name));
        assert!(BitstreamFilter::for_parser(input.parameters()).expect("sound headers").is_none(), "{name}");
        assert_eq!(parser_headers(input.parameters()).expect("sound headers"), input.parameters().extradata(), "{name}");
    }
    ffmpeg(folder.path(), &format!("{source} -c:v libaom-av1 -cpu-used 8 -usage realtime av1.mp4"));
    let headers = parser_headers(open(&at(&folder, "av1.mp4")).parameters()).expect("sound headers");
    // A sequence header OBU with a size field.
    assert_eq!(headers.first(), Some(&0x0a));
}

#[test]
fn mpeg4_passes_unless_two_frames_share_a_packet() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -pix_fmt yuv420p";
    ffmpeg(folder.path(), &format!("{source} -c:v mpeg4 -bf 2 a.avi"));
    let mut input = open(&at(&folder, "a.avi"));
    let mut filter = BitstreamFilter::for_parser(input.parameters()).expect("sound headers").expect("always looks");
    for packet in packets(&mut input) {
        let before = packet.share().expect("memory");
        let after = filter.filter(packet).expect("memory");
        assert_eq!(after.iter().map(InputPacket::data).collect::<Vec<_>>(), [before.data()]);
    }
}
