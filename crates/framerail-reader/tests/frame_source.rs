//! The contract of every [`FrameSource`], on the host and on a GPU.
//!
//! Without a GPU, its tests report so on standard error and pass, unless `FRAMERAIL_REQUIRE_GPU` is set.

mod reader_support;

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
};

use framerail_core::{Frame, FramePool, FrameStatus};
use framerail_media::{Damage, InputOptions, MediaItem, SideStreams};
use framerail_reader::{FrameSource, HostOptions, HostReader, Reading};
use framerail_testkit::{AudioCodec, ClipSpec, Codec, Container, Corpus, damage, make_corpus};

fn options(path: &Path) -> InputOptions {
    InputOptions { side_streams: SideStreams::None, threads: 3, ..InputOptions::new(path.to_string_lossy()) }
}

/// A host reader that cuts pieces wherever possible.
fn in_pieces(options: &InputOptions) -> Box<dyn FrameSource> {
    let host = HostOptions { piece_packets: 1, ..HostOptions::new(&FramePool::new(2)) };
    Box::new(HostReader::open(options, &host).expect("a readable clip"))
}

/// PTS, status and hashed samples of a host frame.
type Content = (i64, FrameStatus, u64);

fn content(frame: &Frame) -> Content {
    let mut hasher = DefaultHasher::new();
    let surface = frame.surface.host().expect("on the host");
    for plane in 0..surface.format().planes() {
        (0..surface.layout(plane).rows).for_each(|row| surface.row(plane, row).hash(&mut hasher));
    }
    (frame.pts.0, frame.status, hasher.finish())
}

fn contents(reader: &mut dyn FrameSource) -> Vec<Content> {
    let mut found = Vec::new();
    while let Some(item) = reader.next_item().expect("no fatal error") {
        if let MediaItem::Frame(frame) = item {
            assert_eq!(frame.index, found.len() as u64, "frames are numbered from 0");
            found.push(content(&frame));
        }
    }
    assert!(reader.next_item().expect("no fatal error").is_none(), "the end stays the end");
    found
}

/// Frames of a decode from the start.
fn expected(options: &InputOptions) -> (Vec<Content>, Damage) {
    let (frames, damage) = reader_support::frames_and_damage(options);
    (frames.iter().map(content).collect(), damage)
}

/// Compares with a decode from the start; returns the number of pieces, and whether everything was decoded in pieces.
fn check(name: &str, options: &InputOptions) -> (u64, bool) {
    let (frames, damage) = expected(options);
    let mut reader = in_pieces(options);
    let found = contents(reader.as_mut());
    check_times(name, &found, &frames);
    assert!(found == frames, "{name}: samples differ, {:?}", reader.reading());
    assert_eq!(reader.damage(), damage, "{name}: {:?}", reader.reading());
    (reader.stats().pieces, matches!(reader.reading(), Reading::Pieces(_)))
}

fn check_times(name: &str, found: &[Content], expected: &[Content]) {
    let times = |contents: &[Content]| contents.iter().map(|content| content.0).collect::<Vec<_>>();
    assert_eq!(times(found), times(expected), "{name}");
}

#[test]
fn every_clip_is_that_of_a_decode_from_the_start() {
    let Corpus { made, .. } = make_corpus();
    let mut in_pieces = Vec::new();
    for (name, clip) in &made {
        let (pieces, is_whole) = check(name, &options(clip.path()));
        if pieces > 1 && is_whole {
            in_pieces.push(*name);
        }
    }
    assert!(in_pieces.len() > 20, "only these came in pieces: {in_pieces:?}");
    for name in ["h264-open-gop", "hevc-open-gop", "mpeg2"] {
        let has_it = made.iter().any(|(made, _)| *made == name);
        assert!(!has_it || in_pieces.contains(&name), "{name} is intact and came by one decoder");
    }
}

fn three_groups(codec: Codec, container: Container) -> ClipSpec {
    ClipSpec::new(codec, container).frames(48).gop(12)
}

#[test]
fn selections_begin_and_end_where_they_are_asked_to() {
    let clip = three_groups(Codec::H264, Container::Mp4).b_frames(2).open_gop().make();
    for (start, end) in [(Some(0.3), None), (Some(0.5), Some(1.1)), (None, Some(0.9)), (Some(1.3), Some(1.4))] {
        let options = InputOptions { start_secs: start, end_secs: end, ..options(clip.path()) };
        check(&format!("{start:?} to {end:?}"), &options);
    }
    let beyond = InputOptions { start_secs: Some(1000.0), ..options(clip.path()) };
    let error = HostReader::open(&beyond, &HostOptions::new(&FramePool::new(2))).map(drop).expect_err("nothing there");
    assert!(error.to_string().contains("within the selection"), "{error}");
}

#[test]
fn damage_loses_no_more_than_a_decode_from_the_start() {
    let clips = [
        three_groups(Codec::H264, Container::Mp4).b_frames(2).open_gop().make(),
        three_groups(Codec::Hevc, Container::Mkv).make(),
        three_groups(Codec::H264, Container::Ts).make(),
        three_groups(Codec::Mpeg4, Container::Mp4).make(),
    ];
    let mut damaged = 0;
    for clip in &clips {
        let wrecked: [&[usize]; 4] = [&[12], &[13, 25], &[24, 36], &[5, 6, 7, 8, 30]];
        let copies: Vec<PathBuf> = wrecked.iter().map(|numbers| damage::wreck_packets(clip.path(), numbers)).collect();
        let flipped = (0..4).map(|seed| damage::flip_bytes(clip.path(), seed, 6));
        for path in copies.into_iter().chain(flipped).chain([damage::cut(clip.path(), 0.7)]) {
            if framerail_media::Input::open(&options(&path)).is_err() {
                continue;
            }
            // The pixels that FFmpeg's threads output for damage vary between runs; the set of frames does not.
            let (frames, _) = expected(&options(&path));
            let mut reader = in_pieces(&options(&path));
            let found = contents(reader.as_mut());
            check_times(&path.to_string_lossy(), &found, &frames);
            let is_reported = reader.damage().is_any();
            assert!(!is_reported || matches!(reader.reading(), Reading::Sequential(_)) || reader.damage().decode_errors == 0);
            damaged += usize::from(is_reported);
        }
    }
    assert!(damaged > 10, "{damaged}");
}

#[test]
fn audio_stays_with_its_frames() {
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).frames(100).gop(10).audio(AudioCodec::Aac).make();
    let options = InputOptions { side_streams: SideStreams::AudioAndSubtitles, ..options(clip.path()) };
    let packets_of = |reader: &mut dyn FrameSource| {
        let (mut packets, mut reached, mut ahead) = (Vec::new(), 0.0_f64, 0.0_f64);
        while let Some(item) = reader.next_item().expect("no fatal error") {
            match item {
                MediaItem::Frame(frame) => reached = frame.seconds(),
                MediaItem::Packet(packet) => {
                    let secs = packet.pts.map_or(0.0, |pts| packet.time_base.seconds(pts.0));
                    ahead = ahead.max(secs - reached);
                    packets.push((packet.side_stream, packet.pts, packet.size_bytes));
                }
            }
        }
        (packets, ahead)
    };
    let mut one = HostReader::open(&options, &HostOptions { in_pieces: false, ..HostOptions::new(&FramePool::new(2)) }).expect("readable");
    let mut several = in_pieces(&options);
    let ((expected, _), (found, ahead)) = (packets_of(&mut one), packets_of(several.as_mut()));
    assert!(several.stats().pieces > 5 && !found.is_empty());
    assert_eq!(found, expected);
    assert!(ahead <= 1.0, "audio ran {ahead} s ahead of its frames");
}

#[test]
fn waiting_frames_keep_to_the_memory_and_dropping_ends_all_threads() {
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).frames(200).gop(10).size(320, 240).make();
    let frame_bytes = 320 * 240 * 3 / 2;
    for (memory, taken) in [(45, 200), (45, 9), (80, 30), (1000, 90)] {
        let host = HostOptions { piece_packets: 1, memory_bytes: Some(memory * frame_bytes), ..HostOptions::new(&FramePool::new(2)) };
        let mut reader = HostReader::open(&options(clip.path()), &host).expect("readable");
        let held: Vec<_> = (0..taken).map_while(|_| reader.next_item().expect("no fatal error")).collect();
        assert_eq!(held.len(), taken);
        let stats = reader.stats();
        assert!(matches!(reader.reading(), Reading::Pieces(_)) && stats.decoders > 1, "{:?}", reader.reading());
        assert!(stats.most_waiting as u64 <= memory, "{stats:?}");
        // Joins its threads, whatever they are doing.
        drop(reader);
        assert_eq!(content_of(held), taken, "frames outlive their reader");
    }
    let none = HostOptions { memory_bytes: Some(3 * frame_bytes), piece_packets: 1, ..HostOptions::new(&FramePool::new(2)) };
    let reader = HostReader::open(&options(clip.path()), &none).expect("readable");
    assert!(matches!(reader.reading(), Reading::Sequential(_)), "no memory for a second piece");
}

fn content_of(items: Vec<MediaItem>) -> usize {
    items.iter().filter(|item| matches!(item, MediaItem::Frame(frame) if content(frame).0 >= 0)).count()
}

#[cfg(feature = "cuda")]
mod gpu {
    use framerail_reader::{DeviceOptions, DeviceReader, ReaderError};

    use super::{reader_support::gpu, *};

    fn times(reader: &mut dyn FrameSource) -> Vec<i64> {
        let mut found = Vec::new();
        while let Some(item) = reader.next_item().expect("no fatal error") {
            if let MediaItem::Frame(frame) = item {
                assert_eq!(frame.index, found.len() as u64, "frames are numbered from 0");
                found.push(frame.pts.0);
            }
        }
        found
    }

    #[test]
    fn a_gpu_gives_the_frames_of_the_host() {
        let Some(device) = gpu("a_card_gives_the_frames_of_the_host") else { return };
        for (name, clip) in &make_corpus().made {
            for decoders in [1, 3] {
                let device = DeviceOptions { decoders: Some(decoders), ..DeviceOptions::new(&device) };
                let mut on_gpu = match DeviceReader::open(&options(clip.path()), &device) {
                    Ok(reader) => reader,
                    Err(ReaderError::NotOnDevice { .. }) => continue,
                    Err(error) => panic!("{name}: {error}"),
                };
                let mut on_host = in_pieces(&options(clip.path()));
                let info = |reader: &dyn FrameSource| (reader.info().width, reader.info().height, reader.info().rotation);
                assert_eq!(info(&on_gpu), info(on_host.as_ref()), "{name}");
                assert_eq!(times(&mut on_gpu), times(on_host.as_mut()), "{name}, {decoders} decoders");
            }
        }
    }
}
