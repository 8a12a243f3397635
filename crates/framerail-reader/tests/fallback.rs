//! If a decoder rejects a stream midway, the host decodes the rest: each frame comes once and equals that of a full decode.

use std::{collections::VecDeque, ops::Range, path::Path, sync::Arc};

use framerail_core::{Frame, FramePool, PixelFormat};
use framerail_media::{Decoded, Decoder, Input, InputOptions, InputPacket, MediaItem, MediaReader, SideStreams};
use framerail_reader::{
    Ahead, CpuPieces, MakeDecoder, NextDecoded, PacketReader, ParallelDecoder, Piece, PieceCutter, PieceDecoder, PieceEnd, PieceOutput,
    ReaderError, StreamPacket, Tagged,
    fallback::{FallbackPackets, FallbackPieces, GpuOrHost, HostFallback, PacketDecoder},
};
use framerail_testkit::{Clip, ClipSpec, Codec, Container};

/// What the simulated GPU rejects.
#[derive(Clone)]
enum Refuses {
    /// Every format other than 8-bit 4:2:0.
    OtherFormats,
    /// Frames with these PTS.
    Times(Range<i64>),
}

impl Refuses {
    fn takes(&self, frame: &Frame) -> bool {
        match self {
            Refuses::OtherFormats => frame.surface.host().is_ok_and(|surface| surface.format() == PixelFormat::Yuv420p),
            Refuses::Times(times) => !times.contains(&frame.pts.0),
        }
    }
}

fn refusal() -> ReaderError {
    ReaderError::NotOnDevice { source_name: "clip".into(), reason: "it has no engine for that".into() }
}

/// Simulated GPU decoder of pieces.
struct GpuPieces {
    inner: CpuPieces,
    refuses: Refuses,
}

struct Picky<'a> {
    output: &'a mut dyn PieceOutput<Frame>,
    refuses: Refuses,
    has_refused: bool,
}

impl PieceOutput<Frame> for Picky<'_> {
    fn reserve(&mut self) -> Result<(), ReaderError> {
        Ok(())
    }

    fn check(&mut self) -> Result<(), ReaderError> {
        if self.has_refused { Err(refusal()) } else { Ok(()) }
    }

    fn push(&mut self, image: Tagged<Frame>) {
        self.has_refused |= !self.refuses.takes(&image.image);
        if !self.has_refused && self.output.reserve().is_ok() {
            self.output.push(image);
        }
    }
}

impl PieceDecoder for GpuPieces {
    type Decoded = Frame;

    fn decode(&mut self, piece: &Piece, output: &mut dyn PieceOutput<Frame>) -> Result<PieceEnd, ReaderError> {
        let mut picky = Picky { output, refuses: self.refuses.clone(), has_refused: false };
        let outcome = self.inner.decode(piece, &mut picky);
        // A place may be reserved for a frame that then cannot be decoded.
        if picky.has_refused { picky.output.reserve().and(Err(refusal())) } else { outcome }
    }
}

/// Simulated GPU decoder of packets, which delays frames and loses them when it rejects the stream.
struct GpuPackets {
    inner: Decoder,
    refuses: Refuses,
    holds: usize,
    held: VecDeque<Frame>,
    ready: Vec<Frame>,
}

impl PacketDecoder for GpuPackets {
    type Decoded = Frame;

    fn send(&mut self, packet: Option<InputPacket>) -> Result<(), ReaderError> {
        self.inner.send(packet.as_ref())?;
        while let Decoded::Frame(frame) = self.inner.receive()? {
            if !self.refuses.takes(&frame) {
                return Err(refusal());
            }
            self.held.push_back(frame);
        }
        let keep = if packet.is_some() { self.holds } else { 0 };
        self.ready.extend(self.held.drain(..self.held.len().saturating_sub(keep)));
        Ok(())
    }

    fn take(&mut self) -> Vec<(Option<i64>, Frame)> {
        std::mem::take(&mut self.ready).into_iter().map(|frame| (Some(frame.pts.0), frame)).collect()
    }
}

fn options(path: &Path) -> InputOptions {
    InputOptions { side_streams: SideStreams::None, threads: 1, ..InputOptions::new(path.to_string_lossy()) }
}

/// PTS, format and samples.
type Contents = Vec<(i64, PixelFormat, Vec<u8>)>;

fn contents<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Contents {
    let samples = |frame: &Frame| {
        let surface = frame.surface.host().expect("on the host");
        let planes = 0..surface.format().planes();
        let rows = planes.flat_map(|plane| (0..surface.layout(plane).rows).flat_map(move |row| surface.row(plane, row).to_vec()));
        (frame.pts.0, surface.format(), rows.collect())
    };
    frames.into_iter().map(samples).collect()
}

fn sequential(clip: &Clip) -> Contents {
    let mut reader = MediaReader::open(&options(clip.path()), &FramePool::new(2)).expect("a readable clip");
    let mut frames = Vec::new();
    while let Some(item) = reader.next().expect("no fatal error") {
        if let MediaItem::Frame(frame) = item {
            frames.push(frame);
        }
    }
    contents(&frames)
}

/// Frames of both decoders, in order, and the number decoded by the host.
fn sorted_out(out: Vec<GpuOrHost<Frame>>) -> (Contents, usize) {
    let on_host = out.iter().filter(|one| matches!(one, GpuOrHost::Host(_))).count();
    let frames: Vec<Frame> = out
        .into_iter()
        .map(|one| match one {
            GpuOrHost::Gpu(frame) => frame,
            GpuOrHost::Host(host) => {
                assert!(host.is_timed, "the clip states its times");
                host.frame
            }
        })
        .collect();
    (contents(&frames), on_host)
}

fn in_pieces(clip: &Clip, refuses: &Refuses, min_packets: usize) -> Result<(Contents, usize, HostFallback), ReaderError> {
    let input = Input::open(&options(clip.path())).expect("a readable clip");
    let (setup, fallback) = (input.decoder_setup(), HostFallback::new(&input.decoder_setup()));
    let (refuses, of_workers) = (refuses.clone(), fallback.clone());
    let make: MakeDecoder<FallbackPieces<GpuPieces>> = Arc::new(move || {
        let inner = CpuPieces::new(&setup, &FramePool::new(2))?;
        Ok(FallbackPieces::new(GpuPieces { inner, refuses: refuses.clone() }, &of_workers))
    });
    let mut decoder = ParallelDecoder::new(Ahead { workers: 3, frames: 6, adapts: false }, make);
    let (mut packets, mut cutter) = (PacketReader::new(input), PieceCutter::new(min_packets));
    while let Some(packet) = packets.next_packet()? {
        if let StreamPacket::Video(packet) = packet {
            cutter.push(packet)?.into_iter().for_each(|piece| decoder.submit(piece));
        }
    }
    cutter.finish().into_iter().for_each(|piece| decoder.submit(piece));
    let mut out = Vec::new();
    while let NextDecoded::Decoded(tagged) = decoder.next_decoded()? {
        out.push(tagged.image);
    }
    assert!(decoder.most_waiting() <= 6, "{} frames waited", decoder.most_waiting());
    let (contents, on_host) = sorted_out(out);
    Ok((contents, on_host, fallback))
}

fn packet_by_packet(clip: &Clip, refuses: &Refuses, holds: usize) -> Result<(Contents, usize, HostFallback), ReaderError> {
    let input = Input::open(&options(clip.path())).expect("a readable clip");
    let fallback = HostFallback::new(&input.decoder_setup());
    let inner = Decoder::open(&input, &FramePool::new(2)).expect("a decoder");
    let gpu = GpuPackets { inner, refuses: refuses.clone(), holds, held: VecDeque::new(), ready: Vec::new() };
    let (mut decoder, mut packets, mut out) = (FallbackPackets::new(gpu, &fallback), PacketReader::new(input), Vec::new());
    while let Some(packet) = packets.next_packet()? {
        if let StreamPacket::Video(packet) = packet {
            out.extend(decoder.send(packet)?);
        }
    }
    out.extend(decoder.end()?);
    let (contents, on_host) = sorted_out(out);
    Ok((contents, on_host, fallback))
}

fn times(contents: &Contents) -> Vec<i64> {
    contents.iter().map(|(pts, ..)| *pts).collect()
}

fn changing(to: &str, gop: u32) -> Clip {
    ClipSpec::new(Codec::H264, Container::Ts).frames(120).gop(gop).b_frames(2).start_offset_secs(1.0).pixel_format_change(70, to).make()
}

#[test]
fn frames_behind_a_change_are_decoded_on_the_host() {
    for (to, gop) in [("yuv422p", 12), ("yuv420p10le", 30), ("yuv444p", 250)] {
        let clip = changing(to, gop);
        let expected = sequential(&clip);
        assert_eq!(expected.len(), 120, "{to}");
        for min_packets in [1, 16, 50, 1000] {
            let (found, on_host, fallback) = in_pieces(&clip, &Refuses::OtherFormats, min_packets).expect("handed over");
            assert_eq!(times(&found), times(&expected), "{to}, pieces of {min_packets}");
            assert!(found == expected, "{to}, pieces of {min_packets}: samples differ");
            assert_eq!(on_host, 50, "{to}, pieces of {min_packets}: what the GPU gave is not taken twice");
            assert!(fallback.reason().is_some_and(|reason| reason.contains("no engine")));
            assert!(!fallback.damage().is_any(), "{:?}", fallback.damage());
        }
        for holds in [0, 3, 20] {
            let (found, on_host, fallback) = packet_by_packet(&clip, &Refuses::OtherFormats, holds).expect("handed over");
            assert_eq!(times(&found), times(&expected), "{to}, {holds} held back");
            assert!(found == expected, "{to}, {holds} held back: samples differ");
            assert!((50..=58 + holds).contains(&on_host), "{to}, {holds} held back: {on_host}");
            assert!(fallback.reason().is_some());
        }
    }
}

#[test]
fn a_stream_that_turns_back_goes_back_in_pieces() {
    let clip = ClipSpec::new(Codec::H264, Container::Ts).frames(120).gop(12).b_frames(2).make();
    let expected = sequential(&clip);
    let refuses = Refuses::Times(expected[40].0..expected[60].0);
    let (found, on_host, _) = in_pieces(&clip, &refuses, 1).expect("handed over");
    assert!(found == expected, "{:?}", times(&found));
    assert!((20..=36).contains(&on_host), "the pieces of it alone: {on_host}");
    // When decoded as one, the rest stays on the host.
    let (found, on_host, _) = packet_by_packet(&clip, &refuses, 2).expect("handed over");
    assert!(found == expected, "{:?}", times(&found));
    assert!((80..=90).contains(&on_host), "{on_host}");
}

#[test]
fn a_stream_that_is_refused_from_its_start_is_the_callers_affair() {
    let clip = ClipSpec::new(Codec::H264, Container::Ts).frames(40).gop(12).pixel_format("yuv422p").make();
    for refused in [in_pieces(&clip, &Refuses::OtherFormats, 1), packet_by_packet(&clip, &Refuses::OtherFormats, 0)] {
        let error = refused.map(|(frames, ..)| frames.len()).expect_err("nothing was given");
        assert!(matches!(error, ReaderError::NotOnDevice { .. }), "{error}");
    }
}

#[test]
fn a_stream_that_cannot_be_followed_is_an_error() {
    // More than two minutes without a keyframe: the packets since the last one are no longer kept.
    let clip = ClipSpec::new(Codec::H264, Container::Ts).size(64, 48).frames(4300).gop(10_000).make();
    let last = sequential(&clip).last().expect("frames").0;
    let error = packet_by_packet(&clip, &Refuses::Times(last..i64::MAX), 0).map(|(frames, ..)| frames.len()).expect_err("too far back");
    assert!(matches!(error, ReaderError::NotOnDevice { .. }), "{error}");
}
