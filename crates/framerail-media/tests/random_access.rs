//! Seeking to any packet works, and the container's own index equals a scan.

mod common;

use common::{at, ffmpeg, folder, options};
use framerail_media::{Input, InputOptions, KeyframeIndex, MediaError, PacketKind, ProbeEffort, SideStreams};
use framerail_testkit::{ClipSpec, Codec, Container, corpus};

fn alone(path: &std::path::Path) -> InputOptions {
    InputOptions { side_streams: SideStreams::None, ..options(path) }
}

/// Payloads of the remaining video packets.
fn rest(input: &mut Input, most: usize) -> Vec<(Option<i64>, Vec<u8>)> {
    let mut packets = Vec::new();
    while packets.len() < most
        && let Some(packet) = input.next_packet().expect("no fatal error")
    {
        if packet.kind == PacketKind::Video {
            packets.push((packet.pts(), packet.data().to_vec()));
        }
    }
    packets
}

/// Seeks to keyframes back and forth; returns the number of packets passed on the way.
fn check(name: &str, options: &InputOptions) -> u64 {
    let mut input = Input::open(options).expect("readable");
    let whole = rest(&mut input, usize::MAX);
    let mut input = Input::open(options).expect("readable");
    let index = KeyframeIndex::read(&mut input).expect("readable");
    assert_eq!(index.packets.len(), whole.len(), "{name}");
    let damage = input.damage().clone();
    let mut places: Vec<usize> = index.keyframes().collect();
    places.extend(index.keyframes().collect::<Vec<_>>().into_iter().rev());
    let mut passed = 0;
    for place in places {
        passed += input.seek_packet(&index, place).unwrap_or_else(|error| panic!("{name} {place}: {error}"));
        assert_eq!(*input.damage(), damage, "{name}");
        let expected = &whole[place..whole.len().min(place + 3)];
        let found = rest(&mut input, 3);
        assert!(
            found == expected,
            "{name}: from packet {place} on others come: {:?}",
            found.iter().map(|(pts, _)| *pts).collect::<Vec<_>>()
        );
    }
    passed
}

#[test]
fn every_keyframe_of_the_corpus_is_found() {
    for (name, spec) in corpus() {
        if spec.unavailable().is_none() {
            let clip = spec.make();
            let passed = check(name, &options(clip.path()));
            // Elementary streams have neither timestamps nor an index: they are read from the start.
            assert!(passed == 0 || name.contains("annexb"), "{name}: {passed} packets passed");
            let header = InputOptions { probe: ProbeEffort::Header, ..alone(clip.path()) };
            assert_eq!(check(name, &header) == 0, passed == 0, "{name}");
        }
    }
}

#[test]
fn long_files_are_sought_without_reading_them() {
    for container in [Container::Mp4, Container::Mkv, Container::Ts, Container::Avi] {
        let clip = ClipSpec::new(Codec::H264, container).frames(48).gop(12).repeats(10).make();
        let passed = check(&format!("{container:?}"), &alone(clip.path()));
        assert_eq!(passed, 0, "{container:?}");
    }
}

#[test]
fn clocks_set_again_keep_their_repaired_times() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=3 -pix_fmt yuv420p -c:v libx264 -bf 2 -g 10 one.ts");
    let one = std::fs::read(at(&folder, "one.ts")).expect("clip");
    std::fs::write(at(&folder, "two.ts"), [one.clone(), one].concat()).expect("written");
    let mut input = Input::open(&alone(&at(&folder, "two.ts"))).expect("readable");
    let index = KeyframeIndex::read(&mut input).expect("readable");
    assert!(index.packets.iter().any(|packet| packet.clock_shift != 0));
    check("two.ts", &alone(&at(&folder, "two.ts")));
}

#[test]
fn the_containers_index_equals_a_scan() {
    let mut exact = 0;
    for (name, spec) in corpus() {
        if spec.unavailable().is_some() {
            continue;
        }
        let clip = spec.make();
        let mut input = Input::open(&alone(clip.path())).expect("readable");
        let Some(index) = input.container_index().expect("readable") else { continue };
        exact += 1;
        let scanned = KeyframeIndex::scan(&alone(clip.path())).expect("readable");
        assert_eq!(index.packets, scanned.packets, "{name}");
        assert_eq!(rest(&mut input, usize::MAX).len(), scanned.packets.len(), "{name}: nothing was lost by looking");
        input.seek_packet(&index, 0).expect("seekable");
        assert_eq!(rest(&mut input, usize::MAX).len(), scanned.packets.len(), "{name}");
    }
    assert!(exact >= 20, "{exact}");
}

#[test]
fn what_cannot_be_sought_says_so() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 -g 5 a.mkv");
    ffmpeg(folder.path(), "-f lavfi -i testsrc=size=64x48:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 -g 5 b.mkv");
    let index = KeyframeIndex::scan(&alone(&at(&folder, "a.mkv"))).expect("readable");
    let mut other = Input::open(&alone(&at(&folder, "b.mkv"))).expect("readable");
    assert!(matches!(other.seek_packet(&index, 20), Err(MediaError::Damaged { .. })));
    assert!(matches!(other.seek_packet(&index, 1_000), Err(MediaError::BadOption { .. })));
}
