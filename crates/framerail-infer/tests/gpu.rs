//! Models on a GPU find the same as on the CPU, and only boxes are copied to the host.
//!
//! Without a GPU these tests report so on standard error and pass, unless `FRAMERAIL_REQUIRE_GPU` is set. On a host without FFmpeg they
//! use the frames in `FRAMERAIL_HOME/test/carphone_176x144_yuv420p.raw`, which they write where FFmpeg is installed.
#![cfg(feature = "cuda")]

mod common;

use std::{io::Write, sync::Arc};

use common::{carphone_in, gpu_is_present, home, installed, options, raw_frame};
use framerail_core::{Detection, Device, Frame, PixelAspect, PixelFormat, Surface};
use framerail_cuda::{CudaDevice, CudaStream, CudaSurface, CudaTensor, DevicePool, Traffic};
use framerail_infer::{Detector, DetectorOptions, Precision, SearchPath};
use framerail_vision::Preprocessor;

const FRAMES: usize = 96;
const FRAME_BYTES: usize = 176 * 144 * 3 / 2;

/// Frames of the clip, as decoded; from a file where there is no FFmpeg.
fn frames() -> Vec<Frame> {
    let file = home().join("test/carphone_176x144_yuv420p.raw");
    if !file.is_file() {
        let frames = carphone_in(PixelFormat::Yuv420p, 1, FRAMES);
        let planes = |frame: &Frame| {
            let surface = frame.surface.host().expect("on host");
            let rows = (0..3).flat_map(|plane| (0..surface.layout(plane).rows).map(move |row| (plane, row)));
            rows.flat_map(|(plane, row)| surface.row(plane, row).to_vec()).collect::<Vec<u8>>()
        };
        let bytes: Vec<u8> = frames.iter().flat_map(planes).collect();
        std::fs::create_dir_all(file.parent().expect("a folder")).expect("writable");
        // Tests run in parallel, as threads or processes: each writes the same content.
        let partial = file.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, &file)).expect("writable");
    }
    let bytes = std::fs::read(&file).expect("written before");
    let frames = bytes.chunks_exact(FRAME_BYTES).enumerate().map(|(index, bytes)| {
        let frame = raw_frame(PixelFormat::Yuv420p, 176, 144, bytes);
        Frame { index: index as u64, ..frame }
    });
    let frames: Vec<Frame> = frames.collect();
    assert_eq!(frames.len(), FRAMES, "frames in {}", file.display());
    frames
}

fn load(model: &str, device: Device, change: impl FnOnce(&mut DetectorOptions)) -> Detector {
    let mut options = DetectorOptions { device, search: SearchPath { home: Some(home()), ..SearchPath::from_env() }, ..options(model) };
    change(&mut options);
    Detector::load(&options).expect("installed model and library")
}

fn on_gpu(model: &str, change: impl FnOnce(&mut DetectorOptions)) -> Detector {
    load(model, Device::Cuda(0), |options| {
        options.batch = 8;
        // As exact as the CPU; TF32 is compared separately.
        options.cuda.tf32 = false;
        change(options);
    })
}

/// In batches, with the maximum number in flight, as in a pipeline.
fn detect_all(detector: &mut Detector, frames: &[Frame]) -> Vec<Vec<Detection>> {
    let mut found = Vec::new();
    for batch in frames.chunks(detector.batch()) {
        if detector.would_wait() {
            found.extend(detector.collect().expect("sound model").expect("a batch in flight"));
        }
        detector.submit(&batch.iter().collect::<Vec<_>>()).expect("sound frames");
    }
    while let Some(batch) = detector.collect().expect("sound model") {
        found.extend(batch);
    }
    found
}

/// The share of boxes, of either side, that have a partner of the same class with at least this overlap.
fn matching(found: &[Vec<Detection>], expected: &[Vec<Detection>], iou: f32) -> f64 {
    assert_eq!(found.len(), expected.len());
    let (mut matched, mut all) = (0, 0);
    for (found, expected) in found.iter().zip(expected) {
        let has = |a: &Detection, others: &[Detection]| others.iter().any(|b| a.label.id == b.label.id && a.bbox.iou(&b.bbox) >= iou);
        matched += expected.iter().filter(|a| has(a, found)).count() + found.iter().filter(|a| has(a, expected)).count();
        all += expected.len() + found.len();
    }
    assert!(all > found.len(), "{all} boxes in {} frames say little", found.len());
    matched as f64 / all as f64
}

fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn upload(frames: &[Frame]) -> (Vec<Frame>, DevicePool, CudaStream) {
    let device = CudaDevice::open(0).expect("a card");
    let (pool, stream) = (DevicePool::new(&device, 64 << 20).expect("a pool"), CudaStream::new(&device).expect("a stream"));
    let uploaded = frames.iter().map(|frame| {
        let surface = CudaSurface::upload(frame.surface.host().expect("on host"), &pool, &stream).expect("uploads");
        Frame { surface: Surface::Device(Arc::new(surface)), ..frame.clone() }
    });
    (uploaded.collect(), pool, stream)
}

#[test]
fn faces_on_the_gpu_are_those_on_the_cpu() {
    installed("models/centerface.onnx");
    let frames = frames();
    if !gpu_is_present("faces_on_the_gpu_are_those_on_the_cpu") {
        return;
    }
    let expected = detect_all(&mut load("centerface", Device::Cpu, |_| {}), &frames);
    let mut card = on_gpu("centerface", |_| {});
    let exact = matching(&detect_all(&mut card, &frames), &expected, 0.98);
    let stats = card.stats();
    report(&format!("centerface, float32: {:.2} % of boxes match; {stats:?}", exact * 100.0));
    assert_eq!((stats.frames, stats.uploaded, stats.runs), (FRAMES as u64, FRAMES as u64, FRAMES as u64 / 8));
    assert_eq!((stats.sessions_partly_on_cpu, stats.sessions_decoded_on_host), (0, 0), "all of it runs on the card");
    assert!(exact >= 0.99);
    let tf32 = matching(&detect_all(&mut on_gpu("centerface", |options| options.cuda.tf32 = true), &frames), &expected, 0.98);
    let half = detect_all(&mut on_gpu("centerface", |options| options.precision = Precision::Fp16), &frames);
    let (half, loosely) = (matching(&half, &expected, 0.98), matching(&half, &expected, 0.9));
    report(&format!(
        "centerface, TF32: {:.2} %; float16: {:.2} %, with an overlap of 0.9 {:.2} %",
        tf32 * 100.0,
        half * 100.0,
        loosely * 100.0
    ));
    assert!(tf32 >= 0.97 && loosely >= 0.97);
}

#[test]
fn only_boxes_cross_to_the_host() {
    installed("models/centerface.onnx");
    if !gpu_is_present("only_boxes_cross_to_the_host") {
        return;
    }
    let (frames, _pool, stream) = upload(&frames());
    stream.synchronize().expect("uploaded");
    let mut card = on_gpu("centerface", |options| options.max_detections = Some(20));
    card.warm_up(176, 144).expect("sound model");
    Traffic::take();
    let found = detect_all(&mut card, &frames);
    let moved = Traffic::take();
    report(&format!("{} boxes of {FRAMES} frames: {moved:?}", found.iter().map(Vec::len).sum::<usize>()));
    assert_eq!((moved.uploads, moved.device_copies), (0, 0));
    assert_eq!(moved.downloads, FRAMES as u64 / 8);
    assert!(moved.download_bytes <= (FRAMES * (16 + 20 * 72)) as u64);
    assert!(moved.syncs <= FRAMES as u64 / 8, "one wait for each batch at most");
    assert_eq!(card.stats().uploaded, 0);
}

#[test]
fn inputs_made_by_the_decoder_give_the_same_boxes() {
    installed("models/centerface.onnx");
    let frames = frames();
    if !gpu_is_present("inputs_made_by_the_decoder_give_the_same_boxes") {
        return;
    }
    for precision in [Precision::Fp32, Precision::Fp16] {
        let mut card = on_gpu("centerface", |options| options.precision = precision);
        let (surfaces, pool, stream) = upload(&frames);
        let expected = detect_all(&mut card, &surfaces);
        let tensors: Vec<Frame> = surfaces.iter().map(|frame| prepared(&card, frame, &pool, &stream)).collect();
        let found = detect_all(&mut card, &tensors);
        assert_eq!(found.len(), expected.len());
        assert!(matching(&found, &expected, 0.9999) >= 1.0, "{precision}");
    }
}

/// The frame's model input, as a decoder would make it.
fn prepared(card: &Detector, frame: &Frame, pool: &DevicePool, stream: &CudaStream) -> Frame {
    let spec = card.input_spec(frame.width, frame.height).expect("any size");
    let surface = CudaSurface::of(&frame.surface).expect("on the card");
    let preprocessor = Preprocessor::new(spec.preprocess).expect("own specification").with_sampling(spec.sampling);
    let plan = preprocessor.plan(176, 144, PixelFormat::Yuv420p, &frame.color, PixelAspect::SQUARE, None).expect("whole frame");
    let tensor = spec.preprocess.tensor_spec(spec.dtype);
    surface.buffer().begin_read(stream).expect("ordered");
    let tensor = CudaTensor::convert(&surface.planes(), &tensor, (plan.conversion(), None), pool, stream).expect("converts");
    surface.buffer().end_read(stream).expect("ordered");
    Frame { surface: Surface::Device(Arc::new(tensor)), ..frame.clone() }
}

#[test]
fn incomplete_batches_slots_and_recorded_runs_change_nothing() {
    installed("models/centerface.onnx");
    let frames = frames();
    if !gpu_is_present("incomplete_batches_slots_and_recorded_runs_change_nothing") {
        return;
    }
    let frames = &frames[..21];
    let expected = detect_all(&mut on_gpu("centerface", |_| {}), frames);
    let mut padded = on_gpu("centerface", |options| options.cuda.slots = 3);
    assert!(matching(&detect_all(&mut padded, frames), &expected, 0.999) >= 1.0);
    assert_eq!((padded.stats().runs, padded.stats().padded), (3, 3));
    let one_by_one: Vec<Vec<Detection>> = frames.iter().flat_map(|frame| padded.detect(&[frame]).expect("sound frame")).collect();
    assert!(matching(&one_by_one, &expected, 0.999) >= 1.0);
    // Runs are recorded for this thread only after the first few.
    let mut recorded = on_gpu("centerface", |options| options.cuda.graphs = true);
    recorded.warm_up(176, 144).expect("sound model");
    for _ in 0..3 {
        assert!(matching(&detect_all(&mut recorded, frames), &expected, 0.999) >= 1.0);
    }
}

#[test]
fn ssd300_on_the_gpu_finds_what_it_finds_on_the_cpu() {
    let file = home().join("models/ssd300.onnx");
    if !gpu_is_present("ssd300_on_the_gpu_finds_what_it_finds_on_the_cpu") {
        return;
    }
    if !file.is_file() {
        report(&format!("GPU TESTS DID NOT RUN: ssd300: {} is missing", file.display()));
        return;
    }
    let frames = frames();
    let frames = &frames[..24];
    let low = |options: &mut DetectorOptions| options.confidence_threshold = Some(0.05);
    let expected = detect_all(&mut load("ssd300", Device::Cpu, low), frames);
    let exact = matching(&detect_all(&mut on_gpu("ssd300", low), frames), &expected, 0.98);
    let mut half = on_gpu("ssd300", |options| {
        low(options);
        options.precision = Precision::Fp16;
    });
    let found = detect_all(&mut half, frames);
    let (strictly, loosely) = (matching(&found, &expected, 0.98), matching(&found, &expected, 0.9));
    report(&format!(
        "ssd300, float32: {:.2} %; float16: {:.2} %, with an overlap of 0.9 {:.2} %",
        exact * 100.0,
        strictly * 100.0,
        loosely * 100.0
    ));
    report(&format!("ssd300, float16: {:?}", half.stats()));
    assert_eq!((half.stats().sessions_partly_on_cpu, half.stats().sessions_decoded_on_host), (0, 0));
    assert!(exact >= 0.99 && loosely >= 0.9);
}
