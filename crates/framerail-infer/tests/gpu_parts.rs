//! Parts of frames, models other than detectors, and shared models on a GPU: the same as on the CPU.
//!
//! Without a GPU these tests report so on standard error and pass, unless `FRAMERAIL_REQUIRE_GPU` is set.
#![cfg(feature = "cuda")]

mod common;

use std::sync::Arc;

use common::{gpu_is_present, home, mean_color_card, mean_color_model, options, placed, raw_frame, rgb_scores};
use framerail_core::{BBox, Device, Frame, PixelFormat, Surface};
use framerail_cuda::{CudaDevice, CudaStream, CudaSurface, DevicePool, Traffic};
use framerail_infer::{DetectorOptions, Precision, Prediction, Predictor, SearchPath, SizeRequest, View};

/// A frame with colour gradients in both directions.
fn image(width: u32, height: u32, turn: u32) -> Frame {
    let luma = (0..height).flat_map(|y| (0..width).map(move |x| (40 + (x * 3 + y + turn * 50) % 160) as u8));
    let chroma =
        |step: u32| (0..height / 2).flat_map(move |y| (0..width / 2).map(move |x| (64 + (x * step + y * 2 + turn * 30) % 128) as u8));
    let bytes: Vec<u8> = luma.chain(chroma(3)).chain(chroma(5)).collect();
    raw_frame(PixelFormat::Yuv420p, width, height, &bytes)
}

fn uploaded(frame: &Frame) -> Frame {
    let device = CudaDevice::open(0).expect("a card");
    let (pool, stream) = (DevicePool::new(&device, 64 << 20).expect("a pool"), CudaStream::new(&device).expect("a stream"));
    let surface = CudaSurface::upload(frame.surface.host().expect("on host"), &pool, &stream).expect("uploads");
    Frame { surface: Surface::Device(Arc::new(surface)), ..frame.clone() }
}

fn assert_close(found: &[[f32; 3]], expected: &[[f32; 3]], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() <= tolerance, "{found} for {expected}");
    }
}

/// Finds the library named by the environment: on a GPU host it is not where set-up installs one.
fn here(options: DetectorOptions) -> DetectorOptions {
    DetectorOptions { search: SearchPath { home: Some(home()), ..SearchPath::from_env() }, ..options }
}

fn on_gpu(options: DetectorOptions) -> DetectorOptions {
    let mut options = DetectorOptions { device: Device::Cuda(0), batch: 4, ..here(options) };
    options.cuda.tf32 = false;
    options
}

const AREAS: [[f32; 4]; 5] =
    [[0.0, 0.0, 64.0, 48.0], [3.5, 7.25, 40.0, 30.0], [60.0, 40.0, 90.0, 70.0], [-5.0, -5.0, 20.0, 20.0], [10.0, 0.0, 11.5, 48.0]];

#[test]
fn parts_of_frames_on_the_gpu_are_those_on_the_cpu() {
    if !gpu_is_present("parts_of_frames_on_the_gpu_are_those_on_the_cpu") {
        return;
    }
    let card = mean_color_card(16).replace("output = \"mean\"", "output = \"mean\"\ntop_k = 3") + "[thresholds]\nconfidence = 0.0\n";
    let (_folder, options) = placed(&mean_color_model(16), &card);
    let (on_host, other) = (image(64, 48, 0), image(96, 80, 1));
    let (on_device, other_on_device) = (uploaded(&on_host), uploaded(&other));
    fn views<'a>(a: &'a Frame, b: &'a Frame) -> Vec<View<'a>> {
        let parts = AREAS.iter().flat_map(|[x1, y1, x2, y2]| [a, b].map(|frame| View::part(frame, BBox::from_xyxy(*x1, *y1, *x2, *y2))));
        // The part outside the smaller frame is left out.
        let inside = |view: &View<'_>| view.area().is_some_and(|area| area.area() > 0.0);
        parts.filter(inside).chain([View::whole(a)]).collect()
    }
    let expected = rgb_scores(&Predictor::load(&here(options.clone())).expect("loads").predict(&views(&on_host, &other)).expect("runs"));
    let mut predictor = Predictor::load(&on_gpu(options.clone())).expect("loads on the card");
    let _ = Traffic::take();
    let found = rgb_scores(&predictor.predict(&views(&on_device, &other_on_device)).expect("runs"));
    assert_close(&found, &expected, 2e-3);
    let stats = predictor.stats();
    assert_eq!((stats.frames, stats.descriptions, stats.uploaded), (expected.len() as u64, expected.len() as u64, 0));
    assert_eq!((stats.sessions, stats.sessions_decoded_on_host), (1, 1));
    assert!(Traffic::take().downloads > 0, "outputs cross and are counted");
    // A host frame is uploaded once for neighbouring parts.
    let parts: Vec<View<'_>> =
        AREAS.iter().take(2).map(|[x1, y1, x2, y2]| View::part(&on_host, BBox::from_xyxy(*x1, *y1, *x2, *y2))).collect();
    assert_eq!(predictor.predict(&parts).expect("runs").len(), 2);
    assert_eq!(predictor.stats().uploaded, 1);
    let half = DetectorOptions { precision: Precision::Fp16, ..on_gpu(options) };
    let found = rgb_scores(&Predictor::load(&half).expect("loads").predict(&views(&on_device, &other_on_device)).expect("runs"));
    assert_close(&found, &expected, 1e-2);
}

#[test]
fn places_share_a_model_on_the_gpu() {
    if !gpu_is_present("places_share_a_model_on_the_gpu") {
        return;
    }
    let options = DetectorOptions { size: "96x96".parse::<SizeRequest>().expect("a size"), ..on_gpu(options("centerface")) };
    let frame = uploaded(&image(176, 144, 2));
    let mut first = Predictor::load(&options).expect("loads on the card");
    let mut second = first.share();
    second.set_confidence(0.999).expect("in range");
    first.set_confidence(0.0).expect("in range");
    first.submit(&[View::whole(&frame)]).expect("sound");
    second.submit(&[View::part(&frame, BBox::from_xyxy(10.0, 10.0, 100.0, 100.0))]).expect("sound");
    first.submit(&[View::part(&frame, BBox::from_xyxy(10.0, 10.0, 100.0, 100.0))]).expect("sound");
    let count = |found: Option<Vec<Prediction>>| match found.expect("a batch").remove(0) {
        Prediction::Detections(found) => found.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(count(second.collect().expect("sound")), 0, "each has its own threshold");
    assert!(count(first.collect().expect("sound")) > 0 && count(first.collect().expect("sound")) > 0);
    assert_eq!((first.stats().sessions, second.stats().sessions, second.stats().frames), (1, 0, 1));
}
