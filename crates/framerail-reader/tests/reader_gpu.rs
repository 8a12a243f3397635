//! A reader on a GPU returns the same frames as one on the host.
//!
//! Without a GPU these tests report so on standard error and pass, unless `FRAMERAIL_REQUIRE_GPU` is set.
#![cfg(feature = "cuda")]

mod reader_support;

use std::{path::Path, sync::Arc};

use framerail_core::{DType, TensorLayout};
use framerail_cuda::CudaStream;
use framerail_reader::{
    Batch, FrameStatus, OutputOptions, ReadDevice, ReadMode, ReaderError, ReaderOptions, Selection, Tensor, TensorOptions, TensorSize,
    VideoReader,
};
use framerail_testkit::make_corpus;
use reader_support::gpu;

/// Codecs that NVDEC and FFmpeg decode bit-identically; others differ slightly.
const EXACT: [&str; 5] = ["h264", "hevc", "vp8", "vp9", "av1"];

fn open(path: &Path, device: ReadDevice, mode: ReadMode, options: TensorOptions) -> VideoReader {
    let output = OutputOptions::Tensor(options);
    VideoReader::open(ReaderOptions { device, mode, output, ..ReaderOptions::new(path.to_string_lossy()) }).expect("a readable clip")
}

fn bytes(batch: &Batch) -> Vec<u8> {
    match &batch.tensor {
        Tensor::Host(tensor) => tensor.as_bytes().to_vec(),
        Tensor::Cuda(tensor) => {
            let mut bytes = vec![0; batch.tensor.bytes()];
            let stream = CudaStream::new(tensor.device()).expect("a stream");
            tensor.buffer().download(0, &mut bytes, &stream).expect("downloaded");
            bytes
        }
        _ => unreachable!("no other memory"),
    }
}

/// Difference of each pair of frames of two batches: maximum and mean.
fn apart(left: &Batch, right: &Batch) -> Vec<(u8, f64)> {
    assert_eq!(left.tensor.shape(), right.tensor.shape());
    let (left_bytes, right_bytes) = (bytes(left), bytes(right));
    let frame_bytes = (left_bytes.len() / left.frames.len().max(1)).max(1);
    let of_frame = |(left, right): (&[u8], &[u8])| {
        let apart = || left.iter().zip(right).map(|(left, right)| left.abs_diff(*right));
        (apart().max().unwrap_or(0), apart().map(f64::from).sum::<f64>() / frame_bytes as f64)
    };
    left_bytes.chunks(frame_bytes).zip(right_bytes.chunks(frame_bytes)).map(of_frame).collect()
}

#[test]
fn every_clip_gives_the_frames_of_the_host() {
    let Some(device) = gpu("every_clip_gives_the_frames_of_the_host") else { return };
    let options = TensorOptions { layout: TensorLayout::Thwc, ..TensorOptions::default() };
    for (name, clip) in &make_corpus().made {
        for mode in [ReadMode::Seek, ReadMode::Stream, ReadMode::Auto] {
            let mut host = open(clip.path(), ReadDevice::Cpu, mode, options);
            let mut reader = open(clip.path(), ReadDevice::Cuda(Arc::clone(&device)), mode, options);
            let frames = host.num_frames().expect("an index");
            assert_eq!(reader.num_frames().expect("an index"), frames, "{name}");
            let is_exact = EXACT.contains(&host.metadata().codec.as_str());
            // Inverse transforms of older standards may differ, and prediction accumulates the error; the bars of another frame differ by 200.
            let (most, mean) = if is_exact || reader.metadata().fallback.is_some() { (2, 0.5) } else { (40, 1.0) };
            let is_within = |apart: &[(u8, f64)]| apart.iter().all(|(at_most, in_mean)| *at_most <= most && *in_mean <= mean);
            let mut compare = |numbers: &[usize]| {
                let (on_gpu, on_host) = (reader.read(numbers), host.read(numbers));
                let (on_gpu, on_host) = (on_gpu.unwrap_or_else(|error| panic!("{name}: {error}")), on_host.expect("frames"));
                assert!(matches!(on_gpu.tensor, Tensor::Cuda(_)), "{name}: on the GPU, wherever it was decoded");
                let pts = |batch: &Batch| batch.frames.iter().map(|frame| frame.pts.0).collect::<Vec<_>>();
                assert_eq!(pts(&on_gpu), pts(&on_host), "{name}");
                assert!(on_gpu.frames.iter().all(|frame| frame.status != FrameStatus::Missing), "{name}: {:?}", on_gpu.frames);
                let apart = apart(&on_gpu, &on_host);
                assert!(is_within(&apart), "{name}, {mode:?}, {numbers:?}: {apart:?} apart");
            };
            compare(&(0..frames).collect::<Vec<_>>());
            compare(&[frames - 1, 0, frames / 2, 0]);
            compare(&(0..frames).rev().step_by(3).collect::<Vec<_>>());
            for selection in [Selection::All, Selection::Range { start: 1, stop: None, step: 3 }, Selection::List(vec![0, 0, frames - 1])] {
                let on_gpu = reader.batches(selection.clone(), 4, false).expect("batches");
                let on_host = host.batches(selection.clone(), 4, false).expect("batches");
                assert_eq!(on_gpu.remaining(), on_host.remaining(), "{name}");
                for (on_gpu, on_host) in on_gpu.zip(on_host) {
                    let on_gpu = on_gpu.unwrap_or_else(|error| panic!("{name}, {mode:?}, {selection:?}: {error}"));
                    let apart = apart(&on_gpu, &on_host.expect("a batch"));
                    assert!(is_within(&apart), "{name}, {mode:?}, {selection:?}: {apart:?} apart");
                }
            }
            let (fallback, stats) = (reader.metadata().fallback.clone(), reader.stats());
            assert_eq!(fallback.is_some(), stats.upload_bytes > 0, "{name}: {fallback:?}, {stats:?}");
        }
    }
}

#[test]
fn types_and_sizes_are_those_of_the_options() {
    let Some(device) = gpu("types_and_sizes_are_those_of_the_options") else { return };
    let clip = framerail_testkit::ClipSpec::new(framerail_testkit::Codec::H264, framerail_testkit::Container::Mp4).make();
    for dtype in [DType::U8, DType::F16, DType::Bf16, DType::F32] {
        let options = TensorOptions { size: TensorSize::Exact(40, 30), dtype, ..TensorOptions::default() };
        let mut reader = open(clip.path(), ReadDevice::Cuda(Arc::clone(&device)), ReadMode::Auto, options);
        let batch = reader.read(&[1, 2]).expect("frames");
        assert_eq!((batch.tensor.shape(), batch.tensor.dtype()), ([2, 3, 30, 40], dtype));
        assert_eq!(batch.tensor.bytes(), 2 * 3 * 30 * 40 * dtype.size_bytes());
    }
}

#[test]
fn what_a_gpu_does_not_do_is_an_error_that_names_the_option() {
    let Some(device) = gpu("what_a_card_does_not_do_is_an_error_that_names_the_option") else { return };
    let clip = framerail_testkit::ClipSpec::new(framerail_testkit::Codec::H264, framerail_testkit::Container::Mp4).make();
    let options = |output| ReaderOptions {
        device: ReadDevice::Cuda(Arc::clone(&device)),
        output,
        ..ReaderOptions::new(clip.path().to_string_lossy())
    };
    let error = VideoReader::open(options(OutputOptions::Yuv)).map(drop).expect_err("host only");
    assert!(matches!(error, ReaderError::BadOption { name: "output", .. }), "{error}");
    let error = VideoReader::open(options(OutputOptions::Swscale(TensorOptions::default()))).map(drop).expect_err("host only");
    assert!(matches!(error, ReaderError::BadOption { name: "exact", .. }), "{error}");
}
