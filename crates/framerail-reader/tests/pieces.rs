//! A file decoded in pieces side by side gives exactly the frames of a decode from the start.

mod reader_support;

use std::{path::Path, sync::Arc};

use framerail_core::{Frame, FramePool};
use framerail_media::{Input, InputOptions, RotationPolicy, SideStreams};
use framerail_reader::{CpuPieces, MakeDecoder, PacketReader, ParallelDecoder, Piece, PieceCutter, StreamPacket};
use framerail_testkit::make_corpus;

fn options(path: &Path) -> InputOptions {
    InputOptions {
        side_streams: SideStreams::None,
        rotation: RotationPolicy::Keep,
        threads: 1,
        ..InputOptions::new(path.to_string_lossy())
    }
}

/// Frames from the start; `None` where timestamps had to be worked out: a host's pieces tell pictures apart by them.
fn sequential(path: &Path) -> Option<Vec<Frame>> {
    let (frames, damage) = reader_support::frames_and_damage(&options(path));
    (damage.timestamps_repaired == 0).then_some(frames)
}

fn pieces(input: Input, min_packets: usize) -> Vec<Piece> {
    let (mut packets, mut cutter, mut pieces) = (PacketReader::new(input), PieceCutter::new(min_packets), Vec::new());
    while let Some(packet) = packets.next_packet().expect("no fatal error") {
        if let StreamPacket::Video(packet) = packet {
            pieces.extend(cutter.push(packet).expect("memory"));
        }
    }
    pieces.extend(cutter.finish());
    pieces
}

/// PTS and samples.
type Contents = Vec<(i64, Vec<u8>)>;

fn contents<'a>(frames: impl Iterator<Item = &'a Frame>) -> Contents {
    let samples = |frame: &Frame| {
        let surface = frame.surface.host().expect("on the host");
        let planes = 0..surface.format().planes();
        planes.flat_map(|plane| (0..surface.layout(plane).rows).flat_map(move |row| surface.row(plane, row).to_vec())).collect()
    };
    frames.map(|frame| (frame.pts.0, samples(frame))).collect()
}

fn side_by_side(path: &Path, min_packets: usize, workers: usize, window: usize) -> (usize, Contents) {
    let input = Input::open(&options(path)).expect("a readable clip");
    let setup = input.decoder_setup();
    let make: MakeDecoder<CpuPieces> = Arc::new(move || CpuPieces::new(&setup, &FramePool::new(2)));
    let mut decoder = ParallelDecoder::new(workers, window, make);
    let pieces = pieces(input, min_packets);
    let count = pieces.len();
    pieces.into_iter().for_each(|piece| decoder.submit(piece));
    let mut frames = Vec::new();
    while let Some(tagged) = decoder.next_picture().expect("no fatal error") {
        frames.push(tagged.picture);
    }
    assert!(decoder.most_waiting() <= window, "{} frames waited", decoder.most_waiting());
    (count, contents(frames.iter()))
}

#[test]
fn every_clip_is_the_same_in_pieces() {
    let mut in_pieces = 0;
    for (name, clip) in &make_corpus().made {
        let Some(frames) = sequential(clip.path()) else { continue };
        let expected = contents(frames.iter());
        let (count, found) = side_by_side(clip.path(), 1, 3, 6);
        let times = |contents: &Contents| contents.iter().map(|(pts, _)| *pts).collect::<Vec<_>>();
        assert_eq!(times(&found), times(&expected), "{name}, {count} pieces");
        assert!(found == expected, "{name}, {count} pieces: samples differ");
        in_pieces += usize::from(count > 1);
    }
    assert!(in_pieces > 10, "only {in_pieces} clips fell into pieces");
}
