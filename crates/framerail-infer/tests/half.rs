//! Models in half precision find what they find in single precision.

mod common;

use common::{carphone, installed, options};
use framerail_infer::{
    Detector, DetectorOptions, Precision,
    onnx::{HalfEnds, InputShape, OnnxFile, to_half},
};

#[test]
fn faces_in_half_precision_are_the_same_faces() {
    let load = |precision| Detector::load(&DetectorOptions { precision, ..options("centerface") }).expect("installed model");
    let (mut single, mut half) = (load(Precision::Auto), load(Precision::Fp16));
    for frame in carphone(20, 5) {
        let expected = single.detect(&[&frame]).expect("sound frame").remove(0);
        let found = half.detect(&[&frame]).expect("sound frame").remove(0);
        assert_eq!(found.len(), expected.len());
        assert!(!expected.is_empty());
        for (a, b) in found.iter().zip(&expected) {
            assert!(a.bbox.iou(&b.bbox) > 0.98, "{a:?} and {b:?}");
            assert!((a.score - b.score).abs() < 0.01, "{a:?} and {b:?}");
        }
    }
    assert_eq!((half.stats().weights_clamped, single.stats().weights_raised), (0, 0));
}

#[test]
fn a_converted_model_is_half_as_large_and_declares_what_it_takes() {
    let file = OnnxFile::read(&installed("models/centerface.onnx")).expect("installed model");
    let shape = InputShape { name: "input.1".into(), dims: vec![Some(1), Some(3), Some(64), Some(64)] };
    let prepared = file.prepared(&shape, &["537", "538"]).expect("sound model");
    let half = to_half(&prepared, file.opset(), HalfEnds { inputs: true, outputs: true }).expect("plain layers");
    assert!(half.bytes.len() < prepared.len() * 6 / 10, "{} of {}", half.bytes.len(), prepared.len());
    let half = OnnxFile::parse(half.bytes, "half".as_ref()).expect("still a model");
    assert_eq!(half.inputs()[0].to_string(), "'input.1' float16[1,3,64,64]");
    assert_eq!(half.outputs()[0].to_string(), "'537' float16[?,?,?,?]");
}
