//! Measures reading on the host: frames per second in sequence, resized, at random, and in slices; and opening many files.
//!
//! `cargo run --release -p framerail-reader --example read_speed -- CLIP [case ...] [--threads=N] [--repeat=N] [--short=FILE]`

use std::time::Instant;

use framerail_core::{FramePool, TensorLayout};
use framerail_media::{InputOptions, MediaItem, MediaReader, SideStreams};
use framerail_reader::{OutputOptions, ReadMode, ReaderError, ReaderOptions, Selection, TensorOptions, TensorSize, VideoReader};

/// Frames per batch.
const BATCH: usize = 16;
/// Number of frames from which random ones are picked, and frames per pick.
const PICKED_FROM: usize = 900;
const PICKS: usize = 10;
/// Number of times that a short file is opened.
const OPENS: usize = 1000;

struct Arguments {
    clip: String,
    short: Option<String>,
    cases: Vec<String>,
    threads: usize,
    repeat: usize,
    queue: usize,
}

fn arguments() -> Arguments {
    let mut arguments = Arguments { clip: String::new(), short: None, cases: Vec::new(), threads: 0, repeat: 3, queue: 2 };
    for argument in std::env::args().skip(1) {
        match argument.split_once('=') {
            Some(("--threads", value)) => arguments.threads = value.parse().unwrap_or(0),
            Some(("--repeat", value)) => arguments.repeat = value.parse().unwrap_or(3),
            Some(("--queue", value)) => arguments.queue = value.parse().unwrap_or(2),
            Some(("--short", value)) => arguments.short = Some(value.to_owned()),
            _ if arguments.clip.is_empty() => arguments.clip = argument,
            _ => arguments.cases.push(argument),
        }
    }
    arguments
}

fn options(arguments: &Arguments, layout: TensorLayout, size: Option<(u32, u32)>, mode: ReadMode) -> ReaderOptions {
    let size = size.map_or(TensorSize::Own, |(width, height)| TensorSize::Exact(width, height));
    let output = OutputOptions::Tensor(TensorOptions { layout, size, ..TensorOptions::default() });
    let (threads, queue) = (arguments.threads, arguments.queue);
    ReaderOptions { output, mode, threads, queue, ..ReaderOptions::new(arguments.clip.clone()) }
}

fn sequence(options: ReaderOptions, selection: Selection) -> Result<usize, ReaderError> {
    let mut frames = 0;
    for batch in VideoReader::open(options)?.batches(selection, BATCH, false)? {
        frames += batch?.frames.len();
    }
    Ok(frames)
}

/// Rising frame numbers from a generator that is deterministic on all platforms.
fn picks() -> Vec<Vec<usize>> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % PICKED_FROM
    };
    (0..5)
        .map(|_| {
            let mut numbers: Vec<usize> = (0..PICKS).map(|_| next()).collect();
            numbers.sort_unstable();
            numbers
        })
        .collect()
}

fn decode_only(arguments: &Arguments) -> Result<usize, ReaderError> {
    let input = InputOptions { side_streams: SideStreams::None, threads: arguments.threads, ..InputOptions::new(arguments.clip.clone()) };
    let mut reader = MediaReader::open(&input, &FramePool::new(2))?;
    let mut frames = 0;
    while let Some(item) = reader.next()? {
        frames += usize::from(matches!(item, MediaItem::Frame(_)));
    }
    Ok(frames)
}

fn run(case: &str, arguments: &Arguments) -> Result<usize, ReaderError> {
    let (tchw, thwc) = (TensorLayout::Tchw, TensorLayout::Thwc);
    let (seek, stream) = (ReadMode::Seek, ReadMode::Stream);
    let slice = Selection::Range { start: 10, stop: Some(200), step: 20 };
    match case {
        "decode" => decode_only(arguments),
        "sequence-tchw" => sequence(options(arguments, tchw, None, stream), Selection::All),
        "sequence-thwc" => sequence(options(arguments, thwc, None, stream), Selection::All),
        "sequence-seek" => sequence(options(arguments, tchw, None, seek), Selection::All),
        "resized" => sequence(options(arguments, thwc, Some((640, 360)), stream), Selection::All),
        "slice-seek" => sequence(options(arguments, tchw, None, seek), slice),
        "slice-stream" => sequence(options(arguments, tchw, None, stream), slice),
        "random" => {
            let mut frames = 0;
            for numbers in picks() {
                frames += VideoReader::open(options(arguments, tchw, None, ReadMode::Auto))?.read(&numbers)?.frames.len();
            }
            Ok(frames)
        }
        "one-by-one" => {
            let mut reader = VideoReader::open(options(arguments, tchw, None, ReadMode::Auto))?;
            (0..200).try_fold(0, |frames, number| Ok(frames + reader.read(&[number])?.frames.len()))
        }
        "opens" => {
            let short = arguments.short.clone().unwrap_or_else(|| arguments.clip.clone());
            (0..OPENS).try_fold(0, |frames, _| {
                let options = ReaderOptions { threads: arguments.threads, ..ReaderOptions::new(short.clone()) };
                Ok(frames + VideoReader::open(options)?.read(&[0])?.frames.len())
            })
        }
        other => Err(ReaderError::BadOption { name: "case", reason: format!("{other} is none") }),
    }
}

fn main() {
    let arguments = arguments();
    let all =
        ["decode", "sequence-tchw", "sequence-thwc", "sequence-seek", "resized", "slice-seek", "slice-stream", "random", "one-by-one"];
    let cases = if arguments.cases.is_empty() { all.map(str::to_owned).to_vec() } else { arguments.cases.clone() };
    for case in cases {
        let mut rates = Vec::new();
        for _ in 0..arguments.repeat.max(1) {
            let start = Instant::now();
            match run(&case, &arguments) {
                Ok(frames) => rates.push(frames as f64 / start.elapsed().as_secs_f64()),
                Err(error) => {
                    eprintln!("{case}: {error}");
                    break;
                }
            }
        }
        rates.sort_by(f64::total_cmp);
        let (median, best) = (rates.get(rates.len() / 2).copied().unwrap_or(0.0), rates.last().copied().unwrap_or(0.0));
        println!("{case:16} {median:9.1} frames/s  (best {best:.1})");
    }
}
