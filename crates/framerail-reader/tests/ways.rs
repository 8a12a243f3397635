//! Other features of a reader: outputs, cached indexes, damage, limits.

use std::{
    io::{self, Cursor, Read, Seek, SeekFrom},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use framerail_core::{DType, PixelFormat, Rotation, TensorLayout};
use framerail_media::{CustomSource, InputOptions, OpenSource, SourceFactory};
use framerail_reader::{
    ClipEdge, ClipItem, ClipLoader, ClipLoaderOptions, ClipLoaderStats, ClipPlace, ClipPolicy, ClipSampling, ClipSteps, FileStamp,
    FrameStatus, IndexCache, IndexPolicy, IndexSource, IndexedVideo, KnownIndex, LoadedClip, OnError, OutputOptions, ReadMode, ReaderError,
    ReaderOptions, Selection, TensorOptions, TensorSize, VideoReader, reading_report,
};
use framerail_testkit::{Clip, ClipSpec, Codec, Container, real_clip, reference_planes};
use framerail_vision::ChannelOrder;

fn open(path: &Path, change: impl FnOnce(&mut ReaderOptions)) -> VideoReader {
    let mut options = ReaderOptions { threads: 2, ..ReaderOptions::new(path.to_string_lossy()) };
    change(&mut options);
    VideoReader::open(options).expect("a readable clip")
}

fn h264() -> ClipSpec {
    ClipSpec::new(Codec::H264, Container::Mp4).frames(32).b_frames(2).gop(8)
}

fn matroska() -> Clip {
    ClipSpec::new(Codec::H264, Container::Mkv).frames(32).gop(8).make()
}

#[test]
fn swscale_equals_ffmpeg_bit_for_bit() {
    for name in ["carphone_pristine.mp4", "bikes.mp4", "bigbuckbunny.mp4"] {
        let path = real_clip(name);
        for (order, format) in [(ChannelOrder::Rgb, PixelFormat::Rgb24), (ChannelOrder::Bgr, PixelFormat::Bgr24)] {
            let tensor = TensorOptions { channel_order: order, layout: TensorLayout::Thwc, ..TensorOptions::default() };
            let mut reader = open(&path, |options| options.output = OutputOptions::Swscale(tensor));
            let numbers: Vec<usize> = (0..reader.num_frames().expect("an index").min(20)).step_by(3).collect();
            let batch = reader.read(&numbers).expect("frames");
            let bytes = batch.tensor.host().expect("on the host").as_bytes();
            let [_, height, width, channels] = batch.tensor.shape();
            let mut reference = reference_planes(&path, format);
            let mut frame = 0;
            for (place, number) in numbers.iter().enumerate() {
                let mut expected = reference.next().expect("as many frames");
                while frame < *number {
                    expected = reference.next().expect("as many frames");
                    frame += 1;
                }
                frame += 1;
                let image = &bytes[place * width * height * channels..(place + 1) * width * height * channels];
                for (y, row) in image.chunks_exact(width * channels).enumerate() {
                    assert!(row == expected.row(0, y), "{name}, {order:?}: frame {number}, row {y}");
                }
            }
        }
    }
}

#[test]
fn planes_come_as_decoded() {
    let clip = h264().make();
    let mut reader = open(clip.path(), |options| options.output = OutputOptions::Yuv);
    let batch = reader.read(&[5, 20]).expect("frames");
    let tensor = batch.tensor.host().expect("on the host");
    let planar = tensor.planes().expect("planes").clone();
    assert_eq!((planar.format, planar.planes.len()), (PixelFormat::Yuv420p, 3));
    let image = tensor.as_bytes().len() / 2;
    let reference: Vec<_> = reference_planes(clip.path(), PixelFormat::Yuv420p).collect();
    for (place, number) in [5, 20].into_iter().enumerate() {
        for (plane, found) in planar.planes.iter().enumerate() {
            let bytes = &tensor.as_bytes()[place * image + found.offset_bytes..];
            for (row, samples) in bytes.chunks_exact(found.row_bytes).take(found.rows).enumerate() {
                assert!(samples == reference[number].row(plane, row), "frame {number}, plane {plane}, row {row}");
            }
        }
    }
}

#[test]
fn shapes_follow_the_options() {
    let clip = h264().rotation(Rotation::Clockwise90).make();
    let mut reader = open(clip.path(), |_| ());
    let (width, height) = (reader.metadata().width as usize, reader.metadata().height as usize);
    assert!(height > width, "turned upright");
    assert_eq!(reader.read(&[0, 1]).expect("frames").tensor.shape(), [2, 3, height, width]);
    let small =
        TensorOptions { size: TensorSize::Exact(40, 30), dtype: DType::F32, layout: TensorLayout::Thwc, ..TensorOptions::default() };
    reader.set_output(OutputOptions::Tensor(small)).expect("valid");
    let batch = reader.read(&[3]).expect("a frame");
    assert_eq!((batch.tensor.shape(), batch.tensor.dtype(), batch.tensor.bytes()), ([1, 30, 40, 3], DType::F32, 30 * 40 * 3 * 4));
    assert_eq!(reader.read(&[]).expect("no frame").tensor.shape(), [0, 30, 40, 3]);
    let gray = TensorOptions { channel_order: ChannelOrder::Gray, ..TensorOptions::default() };
    reader.set_output(OutputOptions::Tensor(gray)).expect("valid");
    assert_eq!(reader.read(&[3]).expect("a frame").tensor.shape(), [1, 1, height, width]);
    assert!(matches!(reader.set_output(OutputOptions::Swscale(small)), Err(ReaderError::BadOption { name: "exact", .. })));
    let mut out = vec![0; width * height];
    reader.read_into(&[7], &mut out).expect("it fits");
    assert_eq!(out, reader.read(&[7]).expect("a frame").tensor.host().expect("on the host").as_bytes());
    assert!(matches!(reader.read_into(&[7, 8], &mut out), Err(ReaderError::BadOption { name: "out", .. })));
}

#[test]
fn batches_are_the_same_however_much_is_made_ahead() {
    let clip = h264().make();
    let frame_bytes = |reader: &mut VideoReader| reader.image_shape().expect("a shape").bytes() as u64;
    let mut one = open(clip.path(), |options| options.threads = 1);
    let (bytes, frames) = (frame_bytes(&mut one), one.num_frames().expect("an index"));
    let repeated = |times: &dyn Fn(usize) -> usize| Selection::List((0..frames).flat_map(|number| vec![number; times(number)]).collect());
    let selections = [
        Selection::All,
        Selection::Range { start: 3, stop: None, step: 5 },
        // A frame that fills a batch, one that fills several, and one with positions in two.
        repeated(&|number| if number == 7 { 13 } else { 1 + number % 3 }),
        repeated(&|number| if number < 2 { 9 } else { usize::from(number == 20) }),
    ];
    for selection in selections {
        let numbers = one.select(&selection).expect("a selection");
        let expected = one.read(&numbers).expect("frames");
        let expected = expected.tensor.host().expect("on the host").as_bytes();
        for (memory, batch, threads) in [(400, 4, 2), (400, 1, 5), (60, 4, 3), (45, 3, 4), (34, 16, 2), (5, 4, 4), (400, 64, 3)] {
            let what = format!("{selection:?}: memory of {memory} frames, batches of {batch}, {threads} threads");
            let mut reader = open(clip.path(), |options| {
                (options.threads, options.memory_bytes, options.queue) = (threads, Some(memory * bytes), 1);
            });
            let mut found: Vec<u8> = Vec::new();
            let mut infos: Vec<usize> = Vec::new();
            for made in reader.batches(selection.clone(), batch, false).expect("batches") {
                let made = made.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(made.frames.len() == batch || infos.len() + made.frames.len() == numbers.len(), "{what}");
                infos.extend(made.frames.iter().map(|frame| frame.number));
                found.extend_from_slice(made.tensor.host().expect("on the host").as_bytes());
            }
            assert_eq!(infos, numbers, "{what}");
            assert!(found == expected, "{what}: other pictures");
        }
    }
}

#[test]
fn a_batch_that_is_held_stays_as_it_is() {
    let clip = h264().make();
    let mut reader = open(clip.path(), |options| options.queue = 1);
    let held: Vec<_> = reader.batches(Selection::All, 4, false).expect("batches").map(|batch| batch.expect("a batch")).collect();
    let copies: Vec<Vec<u8>> = held.iter().map(|batch| batch.tensor.host().expect("on the host").as_bytes().to_vec()).collect();
    for _ in 0..2 {
        reader.batches(Selection::All, 4, false).expect("batches").for_each(|batch| drop(batch.expect("a batch")));
    }
    for (batch, copy) in held.iter().zip(&copies) {
        assert!(batch.tensor.host().expect("on the host").as_bytes() == copy);
    }
    assert_eq!(reader.batches(Selection::All, 5, true).expect("batches").remaining(), 6, "the last one is not whole");
    assert_eq!(reader.batches(Selection::All, 5, true).expect("batches").count(), 6);
}

#[test]
fn batches_can_be_dropped_at_any_time() {
    let clip = h264().make();
    for mode in [ReadMode::Seek, ReadMode::Stream] {
        for taken in 0..4 {
            let mut reader = open(clip.path(), |options| (options.mode, options.queue) = (mode, 1));
            let mut batches = reader.batches(Selection::All, 2, false).expect("batches");
            drop(reader);
            for _ in 0..taken {
                batches.next().expect("more to come").expect("a batch");
            }
        }
    }
}

#[test]
fn frames_that_nothing_refers_to_are_left_out_and_groups_visited_once() {
    let clip = h264().make();
    let mut reader = open(clip.path(), |options| options.mode = ReadMode::Seek);
    reader.read(&[6, 14, 13, 30, 6]).expect("frames");
    let stats = reader.stats();
    assert!(stats.packets_skipped > 0, "{stats:?}");
    assert!(stats.pictures_decoded <= 3 * 8 && stats.pictures_decoded >= 4, "{stats:?}");
    assert_eq!((stats.pictures_converted, stats.frames_delivered), (4, 5));
    assert!(stats.seeks <= 3, "{stats:?}");
}

#[test]
fn going_forward_decodes_each_frame_once() {
    let clip = h264().make();
    let mut reader = open(clip.path(), |_| ());
    (0..32).for_each(|number| drop(reader.read(&[number]).expect("a frame")));
    let stats = reader.stats();
    assert!(stats.pictures_decoded <= 32 + 4, "{stats:?}");
}

#[test]
fn the_first_frame_needs_no_index() {
    let clip = matroska();
    let mut reader = open(clip.path(), |_| ());
    reader.read(&[0]).expect("a frame");
    assert_eq!(reader.metadata().index_source, IndexSource::Unread);
    assert_eq!(reader.stats().pictures_decoded, 1);
    assert_eq!(reader.num_frames().expect("an index"), 32);
    assert_eq!((reader.metadata().index_source, reader.metadata().num_frames), (IndexSource::Scan, Some(32)));
}

#[test]
fn a_kept_index_is_taken_while_the_file_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("clip.mkv");
    std::fs::copy(matroska().path(), &path).expect("a copy");
    let sidecar = |options: &mut ReaderOptions| options.cache = IndexCache::Sidecar;
    for expected in [IndexSource::Scan, IndexSource::Cache] {
        let mut reader = open(&path, sidecar);
        assert_eq!(reader.num_frames().expect("an index"), 32);
        assert_eq!(reader.metadata().index_source, expected);
        reader.read(&[31, 2]).expect("frames");
    }
    let other = ClipSpec::new(Codec::H264, Container::Mkv).frames(20).gop(8).make();
    std::fs::copy(other.path(), &path).expect("a copy");
    let mut reader = open(&path, sidecar);
    assert_eq!((reader.num_frames().expect("an index"), reader.metadata().index_source), (20, IndexSource::Scan));
}

#[test]
fn an_approximate_index_reads_nothing_ahead() {
    for container in [Container::Mkv, Container::Mp4, Container::Ts] {
        let clip = ClipSpec::new(Codec::H264, container).frames(32).b_frames(2).gop(8).make();
        let mut exact = open(clip.path(), |_| ());
        let mut reader = open(clip.path(), |options| options.index = IndexPolicy::Approximate);
        for number in [17, 3, 4, 30, 9] {
            let (found, right) = (reader.read(&[number]).expect("a frame"), exact.read(&[number]).expect("a frame"));
            let bytes = |batch: &framerail_reader::Batch| batch.tensor.host().expect("on the host").as_bytes().to_vec();
            assert!(bytes(&found) == bytes(&right), "{container:?}, frame {number}: constant rates are found");
        }
        assert_eq!(reader.metadata().index_source, IndexSource::Approximate);
    }
}

#[test]
fn no_call_waits_longer_than_its_limit() {
    let clip = h264().make();
    let options = |timeout| ReaderOptions { timeout: Some(timeout), ..ReaderOptions::new(clip.path().to_string_lossy()) };
    let read = |mut reader: VideoReader| reader.read(&[31]).map(drop);
    let error = VideoReader::open(options(Duration::ZERO)).and_then(read).expect_err("no time at all");
    assert!(error.to_string().contains(" 0 s"), "{error}");
    VideoReader::open(options(Duration::from_secs(60))).and_then(read).expect("time enough");
}

#[test]
fn damage_is_reported_and_does_not_move_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged.mp4");
    let clip = h264().make();
    let mut bytes = std::fs::read(clip.path()).expect("a clip");
    let mut whole = open(clip.path(), |_| ());
    let times = whole.times().expect("an index").to_vec();
    // Somewhere inside of the second and third GOP, in their payload.
    let length = bytes.len();
    for byte in &mut bytes[length * 2 / 5..length / 2] {
        *byte ^= 0xff;
    }
    std::fs::write(&path, &bytes).expect("writable");
    let mut seek = open(&path, |options| options.mode = ReadMode::Seek);
    let frames = seek.num_frames().expect("an index");
    let numbers: Vec<usize> = (0..frames).collect();
    let batch = seek.read(&numbers).expect("what is there");
    let statuses: Vec<FrameStatus> = batch.frames.iter().map(|frame| frame.status).collect();
    assert!(statuses.iter().any(|status| *status != FrameStatus::Ok), "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == FrameStatus::Missing).count() as u64, seek.stats().frames_missing);
    let found: Vec<i64> = batch.frames.iter().map(|frame| frame.pts.0).collect();
    if frames == times.len() {
        assert_eq!(found, times.iter().map(|time| time.pts.0).collect::<Vec<_>>());
    }
    let mut strict = open(&path, |options| options.on_error = OnError::Fail);
    assert!(matches!(strict.read(&numbers), Err(ReaderError::Decode { .. })));
}

#[test]
fn a_file_that_was_cut_off_gives_what_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    for container in [Container::Mp4, Container::Mkv, Container::Ts] {
        let clip = ClipSpec::new(Codec::H264, container).frames(32).gop(8).make();
        let bytes = std::fs::read(clip.path()).expect("a clip");
        let path = folder.path().join("cut");
        std::fs::write(&path, &bytes[..bytes.len() * 2 / 3]).expect("writable");
        let Ok(mut reader) = VideoReader::open(ReaderOptions::new(path.to_string_lossy())) else { continue };
        let frames = reader.num_frames().expect("an index");
        assert!((8..32).contains(&frames), "{container:?}: {frames}");
        assert_eq!(reader.read(&(0..frames).collect::<Vec<_>>()).expect("frames").frames.len(), frames);
    }
}

#[test]
fn readers_work_on_other_threads() {
    let clip = Arc::new(h264().make());
    let read = |start: usize| {
        let clip = Arc::clone(&clip);
        std::thread::spawn(move || {
            let mut reader = open(clip.path(), |_| ());
            (start..32).step_by(4).map(|number| reader.read(&[number]).expect("a frame").frames[0].number).sum::<usize>()
        })
    };
    let sums: Vec<usize> = (0..4).map(read).collect::<Vec<_>>().into_iter().map(|thread| thread.join().expect("no panic")).collect();
    assert_eq!(sums.iter().sum::<usize>(), (0..32).sum::<usize>());
}

/// Clips whose header does not state the pixel format.
fn ten_bit_clips() -> impl Iterator<Item = Clip> {
    let spec = |codec, container| ClipSpec::new(codec, container).pixel_format("yuv420p10le").frames(12).gop(4);
    let specs = [spec(Codec::Av1, Container::Mkv), spec(Codec::Vp9, Container::Webm), spec(Codec::Av1, Container::Mp4)];
    specs.into_iter().filter(|spec| spec.unavailable().is_none()).map(|spec| spec.make())
}

#[test]
fn batches_come_first_where_the_header_does_not_tell_the_format() {
    for clip in ten_bit_clips() {
        for mode in [ReadMode::Seek, ReadMode::Stream, ReadMode::Auto] {
            for output in [OutputOptions::Tensor(TensorOptions::default()), OutputOptions::Yuv] {
                let mut reader = open(clip.path(), |options| (options.mode, options.output) = (mode, output.clone()));
                let batches = reader.batches(Selection::Range { start: 5, stop: None, step: 2 }, 3, false).expect("batches");
                let frames: usize =
                    batches.map(|batch| batch.unwrap_or_else(|error| panic!("{mode:?}, {output:?}: {error}")).frames.len()).sum();
                assert_eq!(frames, 4, "{mode:?}");
            }
        }
    }
}

#[test]
fn a_frame_of_10_bits_that_is_sought_first_equals_that_of_sequential_decoding() {
    for clip in ten_bit_clips() {
        for dtype in [DType::U8, DType::U16] {
            let reader = |mode| {
                let tensor = TensorOptions { dtype, ..TensorOptions::default() };
                open(clip.path(), |options| (options.mode, options.output) = (mode, OutputOptions::Tensor(tensor)))
            };
            let read = |reader: &mut VideoReader, numbers: &[usize]| {
                let batch = reader.read(numbers).expect("frames");
                assert!(batch.frames.iter().map(|frame| frame.number).eq(numbers.iter().copied()));
                batch.tensor.host().expect("on the host").as_bytes().to_vec()
            };
            let sequence = read(&mut reader(ReadMode::Stream), &(0..12).collect::<Vec<_>>());
            let bytes = sequence.len() / 12;
            for mode in [ReadMode::Seek, ReadMode::Stream, ReadMode::Auto] {
                for first in [&[7][..], &[11, 2], &[6, 5, 6]] {
                    let mut reader = reader(mode);
                    for numbers in [first, &[3], &[8, 9]] {
                        let expected: Vec<u8> = numbers.iter().flat_map(|&number| &sequence[number * bytes..][..bytes]).copied().collect();
                        assert!(read(&mut reader, numbers) == expected, "{}, {dtype:?}, {mode:?}: {numbers:?}", clip.path().display());
                    }
                }
            }
        }
    }
}

/// An in-memory file whose reads stall on demand, until its reader is dropped.
struct Stalling {
    bytes: Arc<Vec<u8>>,
    is_stalled: Arc<AtomicBool>,
}

impl SourceFactory for Stalling {
    fn name(&self) -> &str {
        "stalling.mp4"
    }

    fn open(&self) -> io::Result<OpenSource> {
        let inner = Cursor::new(self.bytes.to_vec());
        Ok(OpenSource::Seekable(Box::new(Stalled { inner, is_stalled: Arc::clone(&self.is_stalled) })))
    }

    fn size_bytes(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
}

struct Stalled {
    inner: Cursor<Vec<u8>>,
    is_stalled: Arc<AtomicBool>,
}

impl Read for Stalled {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.is_stalled.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
        self.inner.read(buffer)
    }
}

impl Seek for Stalled {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.inner.seek(target)
    }
}

#[test]
fn dropping_batches_of_a_stalled_source_returns() {
    let bytes = Arc::new(std::fs::read(h264().fast_start().make().path()).expect("a clip"));
    for mode in [ReadMode::Seek, ReadMode::Stream] {
        let is_stalled = Arc::new(AtomicBool::new(false));
        let source = CustomSource::new(Stalling { bytes: Arc::clone(&bytes), is_stalled: Arc::clone(&is_stalled) });
        let mut input = ReaderOptions::new("stalling.mp4").input;
        input.custom = Some(source);
        let options = ReaderOptions { input, mode, threads: 2, ..ReaderOptions::new("stalling.mp4") };
        let mut reader = VideoReader::open(options).expect("readable");
        reader.num_frames().expect("an index");
        is_stalled.store(true, Ordering::SeqCst);
        let batches = reader.batches(Selection::All, 4, false).expect("batches");
        // Joins the thread that waits for bytes that never arrive.
        drop(batches);
        is_stalled.store(false, Ordering::SeqCst);
        assert_eq!(reader.read(&[3]).expect("the reader itself is not cancelled").frames.len(), 1);
    }
}

#[test]
fn a_report_tells_how_a_file_is_read_and_what_would_help() {
    let report = |clip: &Clip, threads| {
        let input = InputOptions { threads, ..ReaderOptions::new(clip.path().to_string_lossy()).input };
        reading_report(&input).expect("readable")
    };
    let closed = report(&ClipSpec::new(Codec::H264, Container::Mp4).frames(160).gop(40).make(), 2);
    assert_eq!((closed.packets, closed.starts, closed.longest, closed.pieces), (160, 4, 40, 4));
    assert_eq!((closed.decoders, closed.threads, closed.reason, closed.advice), (2, 1, None, vec![]));
    let short = report(&h264().make(), 4);
    assert!(short.reason.is_some_and(|reason| reason.contains("single piece")) && short.decoders == 1);
    let untimed = report(&ClipSpec::new(Codec::Mpeg4, Container::Avi).frames(80).gop(20).b_frames(2).make(), 2);
    assert!(untimed.reason.is_some());
    let open = report(&ClipSpec::new(Codec::Hevc, Container::Mkv).frames(120).gop(30).b_frames(2).open_gop().make(), 2);
    assert!(open.advice.iter().any(|advice| advice.contains("open GOPs")), "{open:?}");
}

fn clip_options(frames_per_clip: usize) -> ClipLoaderOptions {
    let mut reader = ReaderOptions::new("");
    reader.output = OutputOptions::Tensor(TensorOptions { size: TensorSize::Exact(32, 24), ..TensorOptions::default() });
    let steps = ClipSteps::Frames { stride: 2, start: 0, end: None };
    let policy = ClipPolicy::Random { num_clips: 1, seed: 0 };
    ClipLoaderOptions::new(reader, ClipSampling { policy, frames_per_clip, steps, edge: ClipEdge::RepeatLast })
}

/// Frame numbers and bytes of a clip, or an error message.
type MadeClip = Result<(Vec<usize>, Vec<u8>), String>;

/// Loads batches of clips; each clip is given by source key, path and seed.
fn loaded(options: ClipLoaderOptions, batches: &[Vec<(u64, &Path, u64)>]) -> (Vec<Vec<MadeClip>>, ClipLoaderStats) {
    let loader = ClipLoader::new(options).expect("threads");
    let bytes = loader.shape().expect("a size is given").bytes();
    for (id, batch) in batches.iter().enumerate() {
        let item = |(key, path, seed): &(u64, &Path, u64)| {
            let item = ClipItem { key: *key, input: InputOptions::new(path.to_string_lossy()), index: None, clip: 0, seed: *seed };
            (item, ClipPlace::Host(Box::new(vec![0_u8; bytes])))
        };
        loader.submit(id as u64, batch.iter().map(item).collect());
    }
    let mut made = Vec::new();
    // Batches may be waited for in any order.
    for id in (0..batches.len()).rev() {
        let batch = loader.wait(id as u64).expect("it was submitted");
        let clips = batch.clips.into_iter().zip(batch.places);
        let clip = |(clip, place): (Result<LoadedClip, ReaderError>, ClipPlace)| {
            let clip = clip.map_err(|error| error.to_string())?;
            let ClipPlace::Host(mut memory) = place else { panic!("on the host") };
            Ok((clip.numbers, memory.bytes_mut().to_vec()))
        };
        made.insert(0, clips.map(clip).collect());
    }
    assert!(loader.wait(0).is_err(), "it was taken");
    (made, loader.stats())
}

#[test]
fn clips_are_the_same_whichever_thread_makes_them_and_whatever_is_open() {
    let clips: Vec<Clip> = (0..3).map(|number| h264().frames(24 + number).make()).collect();
    let item = |source: usize, seed: u64| (source as u64, clips[source].path(), seed);
    let batches: Vec<Vec<_>> =
        (0..3_u64).map(|batch| (0..4_u64).map(|place| item((batch + place) as usize % 3, 10 * batch + place)).collect()).collect();
    let with = |threads, max_open| loaded(ClipLoaderOptions { threads, max_open, ..clip_options(4) }, &batches);
    let ((first, one), (second, _), (third, none)) = (with(1, 8), with(4, 8), with(2, 0));
    assert!(first.iter().flatten().all(Result::is_ok));
    assert!(first == second && first == third);
    assert_eq!((one.clips, one.clips_failed, one.files_opened), (12, 0, 3));
    assert_eq!(none.files_reused, 0);
    assert!(one.clips_shared > 0, "with one thread, clips of one file wait together: {one:?}");
    // The reader returns the same frames.
    for ((_, path, _), made) in batches.iter().flatten().zip(first.iter().flatten()) {
        let (numbers, bytes) = made.as_ref().expect("made");
        let mut reader = open(path, |options| options.output = clip_options(4).reader.output);
        let batch = reader.read(numbers).expect("frames");
        assert!(batch.tensor.host().expect("on the host").as_bytes() == bytes);
    }
}

#[test]
fn an_error_is_its_clips_alone_and_what_is_given_up_ends() {
    let (clip, folder) = (h264().make(), tempfile::tempdir().expect("a folder"));
    let broken = folder.path().join("broken.mp4");
    std::fs::write(&broken, b"no video").expect("written");
    let missing = folder.path().join("missing.mp4");
    let batch = vec![(0, clip.path(), 1), (1, broken.as_path(), 1), (2, missing.as_path(), 1), (0, clip.path(), 2)];
    let (made, stats) = loaded(ClipLoaderOptions { threads: 2, ..clip_options(2) }, &[batch]);
    let kinds: Vec<bool> = made[0].iter().map(Result::is_ok).collect();
    assert_eq!((kinds.as_slice(), stats.clips, stats.clips_failed), (&[true, false, false, true][..], 2, 2));
    assert!(made[0][1].as_ref().expect_err("broken").contains("broken.mp4"));
    // A clip that is too long for an edge that is not filled, and a destination of the wrong size.
    let mut strict = clip_options(99);
    strict.sampling.edge = ClipEdge::Error;
    let (made, _) = loaded(strict, &[vec![(0, clip.path(), 1)]]);
    assert!(made[0][0].as_ref().expect_err("too short").contains("use fewer frames"));
    let loader = ClipLoader::new(clip_options(2)).expect("threads");
    let item = || ClipItem { key: 0, input: InputOptions::new(clip.path().to_string_lossy()), index: None, clip: 0, seed: 1 };
    loader.submit(7, vec![(item(), ClipPlace::Host(Box::new(vec![0_u8; 5])))]);
    let words = loader.wait(7).expect("submitted").clips.remove(0).expect_err("it does not fit").to_string();
    assert!(words.contains("give a size that all clips get"), "{words}");
    loader.submit(8, (0..50).map(|_| (item(), ClipPlace::Host(Box::new(vec![0_u8; 5])))).collect());
    loader.forget();
    assert!(loader.wait(8).is_err(), "given up");
    loader.submit(9, (0..50).map(|_| (item(), ClipPlace::Host(Box::new(vec![0_u8; 5])))).collect());
    drop(loader);
}

#[test]
fn a_kept_index_is_taken_while_its_file_is_the_same() {
    let clip = matroska();
    let known = IndexedVideo::of(ReaderOptions::new(clip.path().to_string_lossy())).expect("an index");
    assert_eq!((known.frames, known.keyframes.as_slice(), known.codec.as_str()), (32, &[0, 8, 16, 24][..], "h264"));
    assert!(known.duration_secs.is_some_and(|secs| secs > 1.0) && known.hash.len() == 64);
    let with = |index: Option<KnownIndex>| {
        let loader = ClipLoader::new(ClipLoaderOptions { threads: 1, ..clip_options(4) }).expect("threads");
        let bytes = loader.shape().expect("a size is given").bytes();
        let item = ClipItem { key: 0, input: InputOptions::new(clip.path().to_string_lossy()), index, clip: 0, seed: 5 };
        loader.submit(0, vec![(item, ClipPlace::Host(Box::new(vec![0_u8; bytes])))]);
        let mut batch = loader.wait(0).expect("submitted");
        let ClipPlace::Host(mut memory) = batch.places.remove(0) else { panic!("on the host") };
        (batch.clips.remove(0).expect("made"), memory.bytes_mut().to_vec(), loader.stats().indexes_stale)
    };
    let kept = KnownIndex { stamp: known.stamp, packets: known.packets.clone().into() };
    let other = KnownIndex { stamp: FileStamp { size_bytes: 1, ..known.stamp }, ..kept.clone() };
    let damaged = KnownIndex { packets: known.packets[..known.packets.len() / 2].into(), ..kept.clone() };
    let plain = with(None);
    assert!(with(Some(kept)) == plain);
    for index in [other, damaged] {
        let (made, bytes, stale) = with(Some(index));
        assert!(made == plain.0 && bytes == plain.1 && stale == 1);
    }
}
