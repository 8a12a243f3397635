//! Every access mode returns the frames of a decode from the start.

mod reader_support;

use std::path::Path;

use framerail_core::{Frame, TensorLayout};
use framerail_reader::{
    Batch, FrameStatus, OutputOptions, ReadMode, ReaderError, ReaderOptions, Selection, TensorOptions, TensorSize, VideoReader,
};
use framerail_testkit::make_corpus;
use framerail_vision::TensorConverter;
use reader_support::sequential;

const MODES: [ReadMode; 3] = [ReadMode::Auto, ReadMode::Seek, ReadMode::Stream];

/// Expected PTS and pixels of each frame.
struct Expected {
    pts: Vec<i64>,
    images: Vec<Vec<u8>>,
    options: TensorOptions,
}

impl Expected {
    fn of(path: &Path) -> Self {
        let frames = sequential(path);
        // Streams whose size changes are returned in the size of their first frame.
        let size = frames.first().map(|frame| (frame.width, frame.height));
        let changes = frames.iter().any(|frame| Some((frame.width, frame.height)) != size);
        let options = TensorOptions { layout: TensorLayout::Thwc, ..TensorOptions::default() };
        let size_of_first = size.map_or(TensorSize::Own, |(width, height)| TensorSize::Exact(width, height));
        let of_changing = TensorOptions { size: size_of_first, ..options };
        let mut plain = TensorConverter::new(options).expect("valid options");
        let mut scaled = TensorConverter::new(of_changing).expect("valid options");
        let image = |frame: &Frame| {
            let is_own = !changes || Some((frame.width, frame.height)) == size;
            let converter = if is_own { &mut plain } else { &mut scaled };
            let (width, height) = size.expect("a frame");
            let mut out = vec![0; options.image_bytes(width, height)];
            converter.convert(frame, &mut out).expect("a convertible frame");
            out
        };
        let pts = frames.iter().map(|frame| frame.pts.0).collect();
        Self { pts, images: frames.iter().map(image).collect(), options }
    }

    fn check(&self, name: &str, what: &str, numbers: &[usize], batch: &Batch) {
        let bytes = batch.tensor.host().expect("on the host").as_bytes();
        let image_bytes = self.images[0].len();
        assert_eq!(bytes.len(), numbers.len() * image_bytes, "{name}, {what}");
        assert_eq!(batch.frames.len(), numbers.len(), "{name}, {what}");
        for (place, (number, info)) in numbers.iter().zip(&batch.frames).enumerate() {
            assert_eq!(info.number, *number, "{name}, {what}");
            assert_eq!(info.pts.0, self.pts[*number], "{name}, {what}, frame {number}");
            assert_ne!(info.status, FrameStatus::Missing, "{name}, {what}, frame {number}");
            let found = &bytes[place * image_bytes..(place + 1) * image_bytes];
            assert!(found == self.images[*number], "{name}, {what}: frame {number} of {numbers:?} differs");
        }
    }
}

fn open(path: &Path, mode: ReadMode, options: TensorOptions) -> VideoReader {
    let output = OutputOptions::Tensor(options);
    VideoReader::open(ReaderOptions { mode, output, threads: 2, ..ReaderOptions::new(path.to_string_lossy()) }).expect("a readable clip")
}

/// Numbers in pseudo-random order, the same each time.
fn shuffled(frames: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..frames).collect();
    let mut state = 0x9e37_79b9_u64;
    for at in (1..frames).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(at, (state >> 33) as usize % (at + 1));
    }
    numbers
}

#[test]
fn every_clip_gives_the_same_frames_in_every_way() {
    every_clip(0);
}

#[test]
fn every_clip_gives_the_same_frames_in_every_way_2() {
    every_clip(1);
}

#[test]
fn every_clip_gives_the_same_frames_in_every_way_3() {
    every_clip(2);
}

#[test]
fn every_clip_gives_the_same_frames_in_every_way_4() {
    every_clip(3);
}

/// Tests a quarter of the clips: the quarters run in parallel.
fn every_clip(quarter: usize) {
    // To debug a single clip.
    let only = std::env::var("FRAMERAIL_TEST_CLIP").ok();
    for (name, clip) in make_corpus().made.iter().skip(quarter).step_by(4) {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        let expected = Expected::of(clip.path());
        let frames = expected.pts.len();
        for mode in MODES {
            let mut reader = open(clip.path(), mode, expected.options);
            assert_eq!(reader.num_frames().expect("an index"), frames, "{name}: frames");
            let times: Vec<i64> = reader.times().expect("an index").iter().map(|time| time.pts.0).collect();
            assert_eq!(times, expected.pts, "{name}: times");
            let mut one = |number: usize, what: &str| {
                let batch = reader.read(&[number]).unwrap_or_else(|error| panic!("{name}, {mode:?}, {what}, frame {number}: {error}"));
                expected.check(name, &format!("{mode:?}, {what}"), &[number], &batch);
            };
            (0..frames).for_each(|number| one(number, "forwards"));
            match mode {
                ReadMode::Auto => shuffled(frames).into_iter().for_each(|number| one(number, "at random")),
                ReadMode::Seek => (0..frames).rev().for_each(|number| one(number, "backwards")),
                ReadMode::Stream => (0..frames).step_by(3).for_each(|number| one(number, "every third")),
            }
            let mut many = |numbers: &[usize], what: &str| {
                let batch = reader.read(numbers).unwrap_or_else(|error| panic!("{name}, {mode:?}, {what}: {error}"));
                expected.check(name, &format!("{mode:?}, {what}"), numbers, &batch);
            };
            many(&(0..frames).collect::<Vec<_>>(), "all");
            many(&shuffled(frames), "all at random");
            many(&(0..frames).step_by(2).collect::<Vec<_>>(), "a slice");
            many(&[0, frames - 1, 0, frames / 2, frames / 2], "doubled");
            let order = shuffled(frames);
            order.chunks(3).for_each(|numbers| many(numbers, "threes at random"));
            let selections = [
                Selection::All,
                Selection::Range { start: frames / 3, stop: None, step: 1 },
                Selection::Range { start: 1, stop: Some(frames), step: 5 },
                Selection::List(order),
                Selection::List((0..frames).flat_map(|number| [number, number]).collect()),
            ];
            for selection in selections {
                let numbers = reader.select(&selection).expect("a selection");
                let batches = reader.batches(selection.clone(), 4, false).expect("batches");
                let mut taken = 0;
                for batch in batches {
                    let batch = batch.unwrap_or_else(|error| panic!("{name}, {mode:?}, {selection:?}: {error}"));
                    let of = &numbers[taken..taken + batch.frames.len()];
                    expected.check(name, &format!("{mode:?}, batches of {selection:?}"), of, &batch);
                    taken += of.len();
                }
                assert_eq!(taken, numbers.len(), "{name}, {mode:?}, {selection:?}");
            }
            let seconds: Vec<f64> = reader.times().expect("an index").iter().map(|time| time.seconds).collect();
            let batch = reader.read_at(&seconds).expect("frames by time");
            expected.check(name, "by time", &(0..frames).collect::<Vec<_>>(), &batch);
            assert!(matches!(reader.read(&[frames]), Err(ReaderError::OutOfRange { .. })), "{name}");
        }
    }
}
