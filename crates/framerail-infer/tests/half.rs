//! Models in half precision find what they find in single precision.

mod common;

use common::{Message, carphone, float_tensor, installed, model, options, rgb_frame, value_info};
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
    let prepared = file.prepared(std::slice::from_ref(&shape), &["537", "538"]).expect("sound model");
    let half = to_half(&prepared, file.opset(), HalfEnds { input: Some("input.1"), outputs: true }).expect("plain layers");
    assert!(half.bytes.len() < prepared.len() * 6 / 10, "{} of {}", half.bytes.len(), prepared.len());
    let half = OnnxFile::parse(half.bytes, "half".as_ref()).expect("still a model");
    assert_eq!(half.inputs()[0].to_string(), "'input.1' float16[1,3,64,64]");
    assert_eq!(half.outputs()[0].to_string(), "'537' float16[?,?,?,?]");
}

/// `NodeProto` with its attributes.
fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input)).bytes(2, output).bytes(4, op);
    attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute))
}

/// Parts of SSD-like heads: a convolution, an L2 norm whose squares exceed float16's range, a resize by a scale that float16 rounds, and a
/// row per box.
fn ssd_like() -> Vec<u8> {
    let scales = float_tensor("", &[4], &[1.0, 1.0, 1.706_666_7, 1.706_666_7]);
    let text = |name: &str, value: &str| Message::default().bytes(1, name).bytes(4, value).number(20, 3);
    let integers = |name: &str, values: &[u64]| {
        values.iter().fold(Message::default().bytes(1, name), |ints, value| ints.number(8, *value)).number(20, 7)
    };
    let weights: Vec<f32> = (0..6 * 3).map(|index| (index as f32 * 0.7).sin() * 0.5).collect();
    let shape = Message::default().number(1, 3).number(2, 7).bytes(8, "shape").bytes(9, [1_i64, 625, 6].map(i64::to_le_bytes).concat());
    let nodes = [
        node("Constant", &[], "scales", &[Message::default().bytes(1, "value").bytes(5, scales).number(20, 4)]),
        node("Conv", &["image", "weights"], "features", &[]),
        node("ReduceL2", &["features"], "norm", &[integers("axes", &[1])]),
        node("Div", &["features", "norm"], "unit", &[]),
        node("Resize", &["unit", "", "scales"], "larger", &[text("mode", "linear"), text("coordinate_transformation_mode", "asymmetric")]),
        node("Transpose", &["larger"], "turned", &[integers("perm", &[0, 2, 3, 1])]),
        node("Reshape", &["turned", "shape"], "rows", &[]),
        node("Abs", &["rows"], "out", &[]),
    ];
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.bytes(1, node)).bytes(2, "ssd");
    let graph = graph.bytes(5, float_tensor("weights", &[6, 3, 1, 1], &weights)).bytes(5, shape);
    model(graph.bytes(11, value_info("image", 1, &[1, 3, 15, 15])).bytes(12, value_info("out", 1, &[1, 625, 6])))
}

#[test]
fn what_float16_cannot_hold_is_computed_in_float32() {
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let path = folder.path().join("card.toml");
    let card = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\nclasses = 2\n[input]\nwidth = 15\nheight = 15\n[output.anchor_free]\noutput = \"out\"\norder = \"boxes-first\"\n[thresholds]\nconfidence = 0.3\niou = 1.0\nmax_detections = 1000\n";
    std::fs::write(folder.path().join("m.onnx"), ssd_like()).expect("writable");
    std::fs::write(&path, card).expect("writable");
    let find = |precision| {
        let mut detector = Detector::load(&DetectorOptions { precision, ..options(path.display().to_string()) }).expect("plain layers");
        let pixels: Vec<u8> = (0..15 * 15 * 3_u32).map(|index| (index * 37 % 256) as u8).collect();
        detector.detect(&[&rgb_frame(15, 15, &pixels)]).expect("runs").remove(0)
    };
    let (single, half) = (find(Precision::Fp32), find(Precision::Fp16));
    // 15 times 1.7066667 is 25.6: 25 rows; by float16's 1.707 as well, but at other places.
    assert!(single.len() > 300, "{} boxes", single.len());
    let worst = |pick: fn(&framerail_core::Detection) -> f32| {
        let near = |a: &framerail_core::Detection| half.iter().map(|b| (pick(a) - pick(b)).abs()).fold(f32::INFINITY, f32::min);
        single.iter().map(near).fold(0.0, f32::max)
    };
    assert!((single.len() as f32 - half.len() as f32).abs() <= 6.0, "{} and {} boxes", single.len(), half.len());
    assert!(worst(|found| found.score) < 2e-3 && worst(|found| found.bbox.x2) < 4e-3);
}

#[test]
fn damaged_models_are_refused_and_never_a_panic() {
    let file = OnnxFile::read(&installed("models/centerface.onnx")).expect("installed model");
    let ends = HalfEnds { input: Some("input.1"), outputs: true };
    for part in 1..20 {
        let cut = file.bytes().len() * part / 20;
        assert!(to_half(&file.bytes()[..cut], 9, ends).is_err(), "cut at {cut}");
    }
    // Flipped bytes may or may not leave a valid model.
    let mut bytes = file.bytes().to_vec();
    for place in (0..bytes.len().min(60_000)).step_by(1997) {
        bytes[place] ^= 0x55;
        let _ = to_half(&bytes, 9, ends);
        bytes[place] ^= 0x55;
    }
}
