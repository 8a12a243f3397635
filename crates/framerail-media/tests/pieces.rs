//! Decodes one stream in pieces, by one flushed decoder or by several in parallel: the frames are the same.

mod common;

use common::{at, ffmpeg, folder, options, read, samples};
use framerail_core::{Frame, FramePool};
use framerail_media::{DecodeBufferPool, Decoded, Decoder, FactsReader, Input, InputOptions, InputPacket, SideStreams};

fn open(path: &std::path::Path) -> Input {
    Input::open(&InputOptions { side_streams: SideStreams::None, ..options(path) }).expect("a readable source")
}

fn packets(input: &mut Input) -> Vec<InputPacket> {
    std::iter::from_fn(|| input.next_packet().expect("no fatal error")).collect()
}

/// Decodes the frames of a piece; leaves the decoder drained.
fn decode(decoder: &mut Decoder, packets: &[InputPacket]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut take = |decoder: &mut Decoder| {
        while let Decoded::Frame(frame) = decoder.receive().expect("no fatal error") {
            frames.push(frame);
        }
    };
    for packet in packets {
        decoder.send(Some(packet)).expect("no fatal error");
        take(decoder);
    }
    decoder.send(None).expect("no fatal error");
    take(decoder);
    frames
}

fn contents(frames: &[Frame]) -> Vec<(i64, Vec<u8>)> {
    frames.iter().map(|frame| (frame.pts.0, samples(frame))).collect()
}

const ENCODERS: [(&str, &str); 6] = [
    ("h264.mp4", "libx264 -bf 3 -g 10"),
    ("hevc.mp4", "libx265 -x265-params log-level=none:pools=1:open-gop=0:keyint=10"),
    ("vp9.webm", "libvpx-vp9 -cpu-used 8 -deadline realtime -g 10"),
    ("mpeg2.ts", "mpeg2video -bf 2 -g 10 -flags +cgop -sc_threshold 1000000000"),
    ("mpeg4.mp4", "mpeg4 -g 10"),
    ("mjpeg.avi", "mjpeg -q:v 3"),
];

#[test]
fn a_flushed_decoder_starts_anywhere_and_others_beside_it() {
    let folder = folder();
    for (name, encoder) in ENCODERS {
        ffmpeg(
            folder.path(),
            &format!("-f lavfi -i testsrc2=size=160x96:rate=25:duration=1.6 -pix_fmt yuv420p -strict unofficial -c:v {encoder} {name}"),
        );
        let expected = contents(&read(&options(&at(&folder, name))).frames);
        let mut input = open(&at(&folder, name));
        let setup = input.decoder_setup();
        let packets = packets(&mut input);
        let starts: Vec<usize> = (0..packets.len()).filter(|index| packets[*index].is_keyframe()).chain([packets.len()]).collect();
        let pieces: Vec<&[InputPacket]> = starts.windows(2).map(|pair| &packets[pair[0]..pair[1]]).collect();
        assert!(pieces.len() >= 3, "{name}: {} pieces", pieces.len());
        drop(input);

        // In reverse order, so that no state of a piece helps the next one.
        let mut decoder = Decoder::open_with(&setup, &FramePool::new(2)).expect("decodable");
        let mut flushed: Vec<Vec<(i64, Vec<u8>)>> = Vec::new();
        for piece in pieces.iter().rev() {
            let frames = decode(&mut decoder, piece);
            assert_eq!(frames.first().map(|frame| frame.index), Some(0), "{name}");
            flushed.insert(0, contents(&frames));
            decoder.flush();
        }
        assert!(flushed.concat() == expected, "{name}: flushed");
        assert!(!decoder.damage().is_any(), "{name}: {:?}", decoder.damage());

        let beside: Vec<Vec<(i64, Vec<u8>)>> = std::thread::scope(|scope| {
            let decode_piece = |piece: &'_ [InputPacket]| {
                let setup = setup.clone();
                let packets: Vec<InputPacket> = piece.iter().map(|packet| packet.share().expect("memory")).collect();
                scope.spawn(move || {
                    let mut decoder = Decoder::open_with(&setup, &FramePool::new(2)).expect("decodable");
                    contents(&decode(&mut decoder, &packets))
                })
            };
            let workers: Vec<_> = pieces.iter().map(|piece| decode_piece(piece)).collect();
            workers.into_iter().map(|worker| worker.join().expect("no panic")).collect()
        });
        assert!(beside.concat() == expected, "{name}: side by side");
    }
}

#[test]
fn unreferenced_frames_can_be_left_out() {
    let folder = folder();
    for (name, encoder, is_fewer) in [
        ("h264.mp4", "libx264 -bf 3 -g 20", true),
        ("pyramid.mp4", "libx264 -bf 5 -b-pyramid normal -b_strategy 0 -g 20", true),
        ("none.mp4", "libx264 -bf 0 -g 20", false),
        ("mpeg2.ts", "mpeg2video -bf 2 -g 20", true),
        ("mpeg4.mp4", "mpeg4 -bf 2 -g 20", true),
        ("hevc.mp4", "libx265 -x265-params log-level=none:pools=1:bframes=4", true),
        ("vp9.webm", "libvpx-vp9 -cpu-used 8 -deadline realtime", false),
    ] {
        ffmpeg(folder.path(), &format!("-f lavfi -i testsrc2=size=160x96:rate=25:duration=1.6 -pix_fmt yuv420p -c:v {encoder} {name}"));
        let expected = contents(&read(&options(&at(&folder, name))).frames);
        let mut input = open(&at(&folder, name));
        let packets = packets(&mut input);
        let mut decoder = Decoder::open(&input, &FramePool::new(2)).expect("decodable");
        let mut facts = FactsReader::new(input.parameters()).expect("a codec that is parsed");
        let needed = packets.iter().filter(|packet| !facts.read(packet).is_disposable());
        let needed: Vec<_> = needed.map(|packet| packet.share().expect("memory")).collect();
        let fewer = contents(&decode(&mut decoder, &needed));
        assert_eq!(fewer.len() < expected.len(), is_fewer, "{name}: {} of {}", fewer.len(), expected.len());
        assert!(fewer.iter().all(|frame| expected.contains(frame)), "{name}: others differ");
        decoder.flush();
        assert!(contents(&decode(&mut decoder, &packets)) == expected, "{name}: all again");
    }
}

#[test]
fn frames_in_memory_of_a_pool_are_those_of_ffmpegs_own() {
    const MORE: [(&str, &str); 4] = [
        ("h264-10.mkv", "libx264 -pix_fmt yuv422p10 -bf 2 -g 10"),
        ("h264-444.mkv", "libx264 -pix_fmt yuv444p -g 10"),
        ("hevc-10.mkv", "libx265 -pix_fmt yuv420p10 -x265-params log-level=none:pools=1:keyint=10"),
        ("prores.mov", "prores_ks -pix_fmt yuv422p10"),
    ];
    let (folder, pool) = (folder(), DecodeBufferPool::new());
    for (name, encoder) in ENCODERS.iter().chain(&MORE) {
        // Neither side is a multiple of the macroblock size.
        ffmpeg(
            folder.path(),
            &format!("-f lavfi -i testsrc2=size=238x174:rate=25:duration=1 -pix_fmt yuv420p -strict unofficial -c:v {encoder} {name}"),
        );
        let mut input = open(&at(&folder, name));
        let (mut setup, packets) = (input.decoder_setup(), packets(&mut input));
        setup.threads = 1;
        let frames = FramePool::new(2);
        let mut own = Decoder::open_with(&setup, &frames).expect("a decoder");
        setup.images = Some(pool.clone());
        let mut pooled = Decoder::open_with(&setup, &frames).expect("a decoder");
        let expected = contents(&decode(&mut own, &packets));
        for _ in 0..2 {
            let found = decode(&mut pooled, &packets);
            assert!(found.len() == 25 && contents(&found) == expected, "{name}");
            pooled.flush();
        }
        // Frames outlive the decoder and the pool.
        let held = decode(&mut pooled, &packets);
        drop(pooled);
        assert!(contents(&held) == expected, "{name}");
    }
    assert!(pool.bytes() > 0, "it was used");
}
