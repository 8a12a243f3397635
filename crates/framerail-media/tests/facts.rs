//! Facts read from packets are correct: checked by decoding with and without the packets.

mod common;

use std::collections::BTreeMap;

use common::{at, ffmpeg, folder, options, samples};
use framerail_core::{Frame, FramePool};
use framerail_media::{
    Decoded, Decoder, DecoderSetup, FactsReader, Input, InputOptions, InputPacket, Leading, PacketFacts, RandomAccess, SideStreams,
};
use framerail_testkit::corpus;

/// A stream's packets with their facts.
struct Stream {
    setup: DecoderSetup,
    packets: Vec<InputPacket>,
    facts: Vec<PacketFacts>,
}

fn stream(path: &std::path::Path) -> Option<Stream> {
    let mut input = Input::open(&InputOptions { side_streams: SideStreams::None, ..options(path) }).expect("a readable source");
    let mut reader = FactsReader::new(input.parameters())?;
    let mut packets = Vec::new();
    while let Some(packet) = input.next_packet().expect("no fatal error") {
        packets.push(packet);
    }
    let facts = packets.iter().map(|packet| reader.read(packet)).collect();
    Some(Stream { setup: input.decoder_setup(), packets, facts })
}

/// Samples by PTS.
fn decode<'a>(setup: &DecoderSetup, packets: impl Iterator<Item = &'a InputPacket>) -> BTreeMap<i64, Vec<u8>> {
    let mut decoder = Decoder::open_with(setup, &FramePool::new(2)).expect("decodable");
    let mut frames = BTreeMap::new();
    let mut take = |decoder: &mut Decoder| {
        while let Decoded::Frame(frame) = decoder.receive().expect("no fatal error") {
            let frame: Frame = frame;
            frames.insert(frame.pts.0, samples(&frame));
        }
    };
    for packet in packets {
        decoder.send(Some(packet)).expect("no fatal error");
        take(&mut decoder);
    }
    decoder.send(None).expect("no fatal error");
    take(&mut decoder);
    frames
}

/// Decodes without the disposable packets, and from every exact random access point on. Returns the number of disposable packets
/// and the kinds of random access after the first packet.
fn check(name: &str, stream: &Stream) -> (usize, Vec<RandomAccess>) {
    let Stream { setup, packets, facts } = stream;
    let whole = decode(setup, packets.iter());
    let needed = || packets.iter().zip(facts).filter(|(_, facts)| !facts.is_disposable()).map(|(packet, _)| packet);
    let disposable = packets.len() - needed().count();
    let fewer = decode(setup, needed());
    assert!(fewer.len() + disposable >= whole.len(), "{name}: {} of {} without {disposable}", fewer.len(), whole.len());
    assert!(fewer.iter().all(|(pts, bytes)| whole.get(pts) == Some(bytes)), "{name}: frames differ without disposable packets");

    let mut found = Vec::new();
    for (place, (packet, facts)) in packets.iter().zip(facts).enumerate().skip(1) {
        found.push(facts.random_access);
        let Some(start) = packet.pts().filter(|_| facts.random_access.is_exact()) else { continue };
        let later = decode(setup, packets.iter().skip(place));
        let first = if facts.random_access == RandomAccess::Clean { i64::MIN } else { start };
        let from_start: BTreeMap<i64, Vec<u8>> =
            whole.iter().filter(|(pts, _)| **pts >= start).map(|(pts, bytes)| (*pts, bytes.clone())).collect();
        let exact: BTreeMap<i64, Vec<u8>> = later.into_iter().filter(|(pts, _)| *pts >= first).collect();
        let lost: Vec<i64> = from_start.iter().filter(|(pts, bytes)| exact.get(pts) != Some(bytes)).map(|(pts, _)| *pts).collect();
        let state = |pts: &i64| if exact.contains_key(pts) { "differs" } else { "missing" };
        let lost: Vec<_> = lost.iter().map(|pts| (*pts, state(pts))).collect();
        assert!(lost.is_empty(), "{name}: from packet {place} (PTS {start}) on, of {:?}: {lost:?}", from_start.keys());
        assert!(exact.iter().all(|(pts, bytes)| whole.get(pts) == Some(bytes)), "{name}: from packet {place} on there are others");
    }
    found.retain(|access| *access != RandomAccess::None);
    (disposable, found)
}

#[test]
fn facts_hold_for_gop_structures_of_every_kind() {
    let folder = folder();
    let source = "-f lavfi -i testsrc2=size=160x96:rate=25:duration=2 -pix_fmt yuv420p";
    let x265 = "libx265 -preset fast -x265-params log-level=none:pools=1:scenecut=0";
    for (name, encoder, disposable, access) in [
        ("closed.mp4", "libx264 -bf 3 -g 12", 10, RandomAccess::Clean),
        ("ipp.mp4", "libx264 -bf 0 -g 12", 0, RandomAccess::Clean),
        ("open.mp4", "libx264 -bf 3 -b_strategy 0 -g 12 -x264-params open-gop=1:scenecut=0", 20, RandomAccess::OpenGop),
        (
            "pyramid.mkv",
            "libx264 -bf 7 -b_strategy 0 -b-pyramid normal -refs 4 -g 16 -x264-params open-gop=1:scenecut=0",
            20,
            RandomAccess::OpenGop,
        ),
        ("pyramid.ts", "libx264 -bf 7 -b_strategy 0 -b-pyramid normal -refs 4 -g 16 -sc_threshold 0", 20, RandomAccess::Clean),
        ("field.mp4", "libx264 -flags +ildct+ilme -bf 2 -g 12 -x264-params open-gop=1:scenecut=0", 10, RandomAccess::OpenGop),
        ("slices.mp4", "libx264 -bf 2 -g 12 -slices 4", 10, RandomAccess::Clean),
        ("hevc.mp4", &format!("{x265}:open-gop=0:keyint=12:min-keyint=12:bframes=4"), 10, RandomAccess::Clean),
        ("hevc-open.mp4", &format!("{x265}:open-gop=1:keyint=12:min-keyint=12:bframes=4:b-adapt=0"), 10, RandomAccess::OpenGop),
        ("hevc-open.ts", &format!("{x265}:open-gop=1:keyint=12:min-keyint=12:bframes=4:b-adapt=0"), 10, RandomAccess::OpenGop),
        ("hevc-radl.mkv", &format!("{x265}:open-gop=0:radl=2:keyint=12:min-keyint=12:bframes=3:b-adapt=0"), 10, RandomAccess::Clean),
        (
            "hevc-layers.mp4",
            &format!("{x265}:temporal-layers=1:open-gop=0:keyint=12:min-keyint=12:bframes=4:b-adapt=0"),
            1,
            RandomAccess::Clean,
        ),
        ("mpeg1.mpg", "mpeg1video -bf 2 -g 12", 20, RandomAccess::OpenGop),
        ("mpeg2.ts", "mpeg2video -bf 2 -g 12", 20, RandomAccess::OpenGop),
        ("mpeg2-closed.mkv", "mpeg2video -bf 2 -g 12 -flags +cgop -sc_threshold 1000000000", 20, RandomAccess::Clean),
        ("mpeg4.mp4", "mpeg4 -bf 2 -g 12", 20, RandomAccess::OpenGop),
        ("mpeg4.avi", "mpeg4 -bf 0 -g 12", 0, RandomAccess::OpenGop),
        ("vp8.webm", "libvpx -g 12 -auto-alt-ref 1 -lag-in-frames 10 -b:v 200k", 0, RandomAccess::Clean),
        ("vp9.webm", "libvpx-vp9 -cpu-used 8 -g 12 -lag-in-frames 10", 0, RandomAccess::Clean),
        ("av1.mkv", "libaom-av1 -cpu-used 8 -usage realtime -g 12", 0, RandomAccess::Clean),
        ("mjpeg.avi", "mjpeg -q:v 3 -strict unofficial", 50, RandomAccess::Clean),
    ] {
        ffmpeg(folder.path(), &format!("{source} -c:v {encoder} {name}"));
        let stream = stream(&at(&folder, name)).expect("a codec that is understood");
        assert_ne!(stream.facts.first().map(|facts| facts.random_access), Some(RandomAccess::None), "{name}");
        let (found_disposable, found) = check(name, &stream);
        let is_enough = if disposable == 0 { found_disposable == 0 } else { found_disposable >= disposable };
        assert!(is_enough, "{name}: {found_disposable} of {} packets are disposable", stream.packets.len());
        assert!(found.contains(&access), "{name}: {found:?}");
    }
}

#[test]
fn leading_pictures_of_hevc_are_those_presented_before_their_keyframe() {
    let folder = folder();
    let x265 = "libx265 -x265-params log-level=none:pools=1:scenecut=0:open-gop=1:keyint=12:min-keyint=12:bframes=4:b-adapt=0";
    ffmpeg(folder.path(), &format!("-f lavfi -i testsrc2=size=160x96:rate=25:duration=2 -pix_fmt yuv420p -c:v {x265} a.mp4"));
    let stream = stream(&at(&folder, "a.mp4")).expect("understood");
    let (mut start, mut leading) = (i64::MIN, 0);
    for (packet, facts) in stream.packets.iter().zip(&stream.facts) {
        let pts = packet.pts().expect("stated");
        if facts.random_access != RandomAccess::None {
            start = pts;
        }
        assert_eq!(facts.leading != Leading::No, pts < start);
        leading += u64::from(facts.leading == Leading::NeedsEarlier);
    }
    assert!(leading > 0);
}

#[test]
fn intra_refresh_is_no_exact_start() {
    let folder = folder();
    ffmpeg(
        folder.path(),
        "-f lavfi -i testsrc2=size=160x96:rate=25:duration=2 -pix_fmt yuv420p -c:v libx264 -g 12 -bf 0 -x264-params intra-refresh=1 a.mp4",
    );
    let stream = stream(&at(&folder, "a.mp4")).expect("understood");
    let later: Vec<RandomAccess> =
        stream.facts.iter().skip(1).map(|facts| facts.random_access).filter(|access| *access != RandomAccess::None).collect();
    assert!(!later.is_empty());
    assert!(later.iter().all(|access| matches!(access, RandomAccess::Gradual { pictures: 1.. })), "{later:?}");
}

#[test]
fn facts_hold_for_the_corpus() {
    for (name, spec) in corpus() {
        // With size changes in mid-stream, a decoder returns frames in order, but their PTS alone do not sort them.
        if spec.unavailable().is_some() || name.contains("images") {
            continue;
        }
        if let Some(stream) = stream(spec.make().path()).filter(|stream| stream.packets.iter().all(|packet| packet.pts().is_some())) {
            check(name, &stream);
        }
    }
}
