//! Submitted and collected batches give the results of single frames, in order; missing devices are reported.

mod common;

use common::{carphone, options, rgb_frame};
use framerail_core::Device;
use framerail_infer::{CudaOptions, Detector, DetectorOptions, InferError};

fn detector() -> Detector {
    Detector::load(&DetectorOptions { batch: 2, ..options("centerface") }).expect("installed model")
}

#[test]
fn batches_are_collected_in_the_order_of_their_submission() {
    let faces = carphone(30, 3);
    let flat = rgb_frame(176, 144, &vec![90; 176 * 144 * 3]);
    let mut detector = detector();
    assert!(detector.collect().expect("nothing to do").is_none());
    detector.submit(&[&faces[0], &flat, &faces[1]]).expect("sound frames");
    detector.submit(&[]).expect("no frames are fine");
    detector.submit(&[&flat, &faces[2]]).expect("sound frames");
    assert_eq!(detector.in_flight(), 3);
    // Single frames may be run in between.
    assert_eq!(detector.detect(&[&faces[0]]).expect("sound frame")[0].len(), 1);
    let mut counts = Vec::new();
    while let Some(found) = detector.collect().expect("sound model") {
        counts.push(found.iter().map(Vec::len).collect::<Vec<_>>());
    }
    assert_eq!(counts, [vec![1, 0, 1], vec![], vec![0, 1]]);
    assert_eq!((detector.in_flight(), detector.would_wait()), (0, false));
}

#[test]
fn a_refused_frame_takes_nothing_else_along() {
    let faces = carphone(30, 2);
    let mut detector = detector();
    detector.submit(&[&faces[0]]).expect("sound frame");
    let far = rgb_frame(30_000, 2_000, &vec![0; 30_000 * 2_000 * 3]);
    let error = detector.submit(&[&faces[0], &faces[1], &far]).expect_err("too large an input");
    assert!(matches!(error, InferError::Option { option: "size", .. }), "{error}");
    assert_eq!(detector.in_flight(), 1);
    assert_eq!(detector.collect().expect("sound model").map(|found| found.len()), Some(1));
    assert!(detector.collect().expect("sound model").is_none());
}

#[test]
fn a_missing_gpu_is_a_separate_kind_of_error() {
    let load = |device| Detector::load(&DetectorOptions { device, ..options("centerface") });
    let Err(error) = load(Device::Cuda(99)) else { panic!("nobody has a hundred cards") };
    assert!(error.is_about_device(), "{error}");
    assert!(error.to_string().starts_with("models cannot run on cuda:99: "), "{error}");
}

#[test]
fn slots_are_checked() {
    let mut cuda = CudaOptions::default();
    cuda.slots = 0;
    let error = Detector::load(&DetectorOptions { cuda, ..options("centerface") }).err().expect("refused");
    assert_eq!(error.to_string(), "slots=0: give 1 to 32");
}
