//! Models in strips answer as they do whole; what is not understood stays whole.

mod common;

use common::{Message, carphone, float_tensor, installed, options, search, value_info};
use framerail_core::Detection;
use framerail_infer::{
    Detector, InputSize, ModelCard, Runtime, SizeRequest,
    onnx::{InputShape, OnnxFile, Strips},
    session::{ModelSession, SessionOptions},
};
use std::path::Path;

const CENTERFACE_OUTPUTS: [&str; 4] = ["537", "538", "539", "540"];

fn shape(name: &str, channels: u64, height: u64, width: u64) -> InputShape {
    InputShape { name: name.into(), dims: [1, channels, height, width].map(Some).to_vec() }
}

fn outputs(bytes: &[u8], shape: &InputShape, fill: impl Fn(&mut [f32])) -> Vec<(String, Vec<f32>)> {
    let runtime = Runtime::load(None, &search()).expect("installed library");
    let mut session = ModelSession::new(runtime, bytes, "test", shape.clone(), 1, &SessionOptions::default()).expect("loads");
    session.write_input(0, &fill);
    session
        .run(1, |tensors| Ok(tensors.iter().map(|tensor| (tensor.name.to_owned(), tensor.floats().expect("floats").to_vec())).collect()))
        .expect("runs")
}

fn assert_same_outputs(file: &OnnxFile, shape: &InputShape, names: &[&str], counts: &[u32], fill: impl Fn(&mut [f32])) {
    let whole = outputs(&file.prepared(std::slice::from_ref(shape), names).expect("sound model"), shape, &fill);
    assert_eq!(whole.len(), names.len());
    for count in counts {
        let bytes = file
            .prepared_in_strips(std::slice::from_ref(shape), names, Strips::Count(*count))
            .expect("sound model")
            .expect("cut into strips");
        for ((name, values), (other_name, others)) in whole.iter().zip(outputs(&bytes, shape, &fill)) {
            assert_eq!((name, values.len()), (&other_name, others.len()));
            let worst = values.iter().zip(&others).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{count} strips: output {name} differs by {worst}");
            assert!(values.iter().any(|value| *value != values[0]), "output {name} says something");
        }
    }
}

#[test]
fn centerface_answers_the_same_in_any_number_of_strips() {
    let file = OnnxFile::read(&installed("models/centerface.onnx")).expect("installed model");
    let frame = carphone(1, 1).remove(0);
    let surface = frame.surface.host().expect("on host");
    for (width, height) in [(192, 160), (224, 288)] {
        let fill = |input: &mut [f32]| {
            for (index, element) in input.iter_mut().enumerate() {
                let (channel, row, column) = (index / (height * width), index / width % height, index % width);
                *element = f32::from(surface.row(0, row.min(143))[column.min(175) * 3 + channel]);
            }
        };
        let shape = shape(&file.inputs()[0].name, 3, height as u64, width as u64);
        assert_same_outputs(&file, &shape, &CENTERFACE_OUTPUTS, &[2, 3, 7, 64], fill);
    }
}

#[test]
fn strips_come_by_themselves_only_where_feature_maps_are_large() {
    let file = OnnxFile::read(&installed("models/centerface.onnx")).expect("installed model");
    let cut = |shape: InputShape, strips| {
        file.prepared_in_strips(std::slice::from_ref(&shape), &CENTERFACE_OUTPUTS, strips).expect("sound model").is_some()
    };
    assert!(cut(shape("input.1", 3, 736, 1280), Strips::Auto));
    assert!(!cut(shape("input.1", 3, 384, 640), Strips::Auto));
    assert!(!cut(shape("input.1", 3, 736, 1280), Strips::Off));
    assert!(!cut(shape("another", 3, 736, 1280), Strips::Auto));
    assert!(!cut(shape("input.1", 4, 736, 1280), Strips::Auto), "weights are for three channels");
    assert!(!cut(InputShape { name: "input.1".into(), dims: vec![None, Some(3), Some(736), Some(1280)] }, Strips::Auto));
    assert!(!cut(shape("input.1", 3, u64::MAX, 1280), Strips::Auto));
}

fn assert_overlap(left: &Detection, right: &Detection) {
    let (a, b) = (left.bbox, right.bbox);
    let common = (a.x2.min(b.x2) - a.x1.max(b.x1)) * (a.y2.min(b.y2) - a.y1.max(b.y1));
    let area = |bbox: framerail_core::BBox| (bbox.x2 - bbox.x1) * (bbox.y2 - bbox.y1);
    assert!(common / (area(a) + area(b) - common) > 0.999, "{left:?} and {right:?}");
}

#[test]
fn a_real_clip_has_the_same_faces_in_strips() {
    let text = include_str!("../../../models/centerface.toml");
    let folder = tempfile::tempdir().expect("temporary folder");
    let mut detectors = ["\"off\"", "5"].map(|strips| {
        let path = folder.path().join(format!("{}.toml", strips.trim_matches('"')));
        std::fs::write(&path, text.replace("strips = \"auto\"", &format!("strips = {strips}"))).expect("writable");
        let mut options = options(path.display().to_string());
        options.size = SizeRequest::Exact(InputSize { width: 704, height: 608 });
        Detector::load(&options).expect("installed model")
    });
    assert_eq!(detectors.each_ref().map(|detector| detector.card().input.strips), [Strips::Off, Strips::Count(5)]);
    for frame in carphone(40, 2) {
        let [whole, in_strips] = detectors.each_mut().map(|detector| detector.detect(&[&frame]).expect("sound frame").remove(0));
        assert!(!whole.is_empty());
        assert_eq!(whole.len(), in_strips.len());
        whole.iter().zip(&in_strips).for_each(|(a, b)| assert_overlap(a, b));
    }
}

#[test]
fn cards_take_auto_off_or_a_number() {
    let text = include_str!("../../../models/centerface.toml");
    let parse = |strips: &str| ModelCard::parse(&text.replace("strips = \"auto\"", strips), Path::new("c.toml"));
    for (strips, expected) in
        [("", Strips::Auto), ("strips = \"auto\"", Strips::Auto), ("strips = \"off\"", Strips::Off), ("strips = 64", Strips::Count(64))]
    {
        assert_eq!(parse(strips).expect("sound card").input.strips, expected);
    }
    for wrong in ["strips = 1", "strips = 65", "strips = -3", "strips = \"some\"", "strips = true"] {
        let message = parse(wrong).expect_err("out of range").to_string();
        assert!(message.contains("key 'strips'") && message.contains("a number from 2 to 64"), "{message}");
    }
}

/// What a small model of the test is made of.
struct Layers {
    opset: u64,
    nodes: Vec<Message>,
    outputs: Vec<&'static str>,
}

fn node(op_type: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input)).bytes(2, output).bytes(4, op_type);
    attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute))
}

fn ints(name: &str, values: &[u64]) -> Message {
    values.iter().fold(Message::default().bytes(1, name), |attribute, value| attribute.number(8, *value)).number(20, 7)
}

impl Layers {
    /// Dilation, batch norm, limits, a sum of two branches, a stride and uneven padding, on 2 channels.
    fn sound(opset: u64) -> Self {
        let float = |name: &str, value: f32| {
            let mut attribute = Message::default().bytes(1, name);
            attribute.0.push(2 << 3 | 5);
            attribute.0.extend(value.to_le_bytes());
            attribute.number(20, 1)
        };
        let clip = match opset {
            11.. => node("Clip", &["normal", "low", "high"], "limited", &[]),
            _ => node("Clip", &["normal"], "limited", &[float("min", -2.0), float("max", 3.0)]),
        };
        let nodes = vec![
            node("Conv", &["image", "wide", "bias"], "wide_map", &[ints("pads", &[2, 1, 1, 1]), ints("dilations", &[2, 1])]),
            node("BatchNormalization", &["wide_map", "bias", "bias", "bias", "spread"], "normal", &[]),
            clip,
            node("Conv", &["limited", "same"], "branch", &[ints("pads", &[1, 1, 1, 1]), ints("kernel_shape", &[3, 3])]),
            node("LeakyRelu", &["branch"], "leaky", &[]),
            node("Add", &["limited", "leaky"], "sum", &[]),
            node("Conv", &["sum", "narrow"], "small", &[ints("pads", &[1, 1, 0, 0]), ints("strides", &[2, 2])]),
            node("Sigmoid", &["small"], "result", &[]),
        ];
        Self { opset, nodes, outputs: vec!["result"] }
    }

    fn file(&self) -> OnnxFile {
        let mut graph = self.nodes.iter().fold(Message::default(), |graph, node| graph.bytes(1, node)).bytes(2, "layers");
        let weights = |count: usize| (0..count).map(|index| (index * 31 % 17) as f32 / 17.0 - 0.45).collect::<Vec<_>>();
        let tensors: [(&str, &[i64], Vec<f32>); 7] = [
            ("wide", &[8, 2, 3, 3], weights(144)),
            ("bias", &[8], weights(8)),
            ("spread", &[8], vec![0.5; 8]),
            ("same", &[8, 8, 3, 3], weights(576)),
            ("narrow", &[3, 8, 3, 3], weights(216)),
            ("low", &[], vec![-2.0]),
            ("high", &[], vec![3.0]),
        ];
        for (name, dims, data) in &tensors {
            graph = graph.bytes(5, float_tensor(name, dims, data));
        }
        graph = graph.bytes(11, value_info("image", 1, &[1, 2, 37, 23]));
        for output in &self.outputs {
            graph = graph.bytes(12, value_info(output, 1, &[-1, -1, -1, -1]));
        }
        let model = Message::default().number(1, 4).bytes(7, graph).bytes(8, Message::default().number(2, self.opset));
        OnnxFile::parse(model.0, "layers.onnx".as_ref()).expect("sound model")
    }

    fn in_strips(&self) -> Option<Vec<u8>> {
        self.file().prepared_in_strips(&[shape("image", 2, 37, 23)], &self.outputs, Strips::Count(3)).expect("sound model")
    }
}

#[test]
fn layers_of_old_and_new_operator_sets_answer_the_same_at_odd_heights() {
    for opset in [9, 10, 13, 17] {
        let fill = |input: &mut [f32]| input.iter_mut().enumerate().for_each(|(index, value)| *value = (index * 7919 % 256) as f32 / 64.0);
        assert_same_outputs(&Layers::sound(opset).file(), &shape("image", 2, 37, 23), &["result"], &[2, 3, 5, 64], fill);
    }
}

type Change = fn(&mut Layers);

#[test]
fn what_is_not_understood_stays_whole() {
    assert!(Layers::sound(13).in_strips().is_some());
    let changed = |change: Change| {
        let mut layers = Layers::sound(13);
        change(&mut layers);
        layers.in_strips()
    };
    let cases: [(&str, Change); 9] = [
        ("an unknown operator", |layers| layers.nodes[4] = node("Softplus", &["branch"], "leaky", &[])),
        ("an unknown domain", |layers| layers.nodes[4] = node("LeakyRelu", &["branch"], "leaky", &[]).bytes(7, "mine")),
        ("a tensor used outside", |layers| layers.outputs.push("sum")),
        ("automatic padding", |layers| {
            let same = Message::default().bytes(1, "auto_pad").bytes(4, "SAME_UPPER").number(20, 3);
            layers.nodes[0] = node("Conv", &["image", "wide"], "wide_map", &[same]);
        }),
        ("padding beyond the kernel", |layers| {
            layers.nodes[0] = node("Conv", &["image", "wide"], "wide_map", &[ints("pads", &[u64::MAX, 1, 1, 1])]);
        }),
        ("a stride of nothing", |layers| layers.nodes[0] = node("Conv", &["image", "wide"], "wide_map", &[ints("strides", &[0, 1])])),
        ("a nested graph", |layers| {
            let body = Message::default().bytes(1, "body").bytes(6, Message::default()).number(20, 5);
            layers.nodes.push(node("If", &["high"], "other", &[body]));
        }),
        ("a tensor made twice", |layers| layers.nodes.push(node("Relu", &["small"], "result", &[]))),
        ("a tensor that nobody uses", |layers| layers.nodes.insert(1, node("Relu", &["wide_map"], "unused", &[]))),
    ];
    for (what, change) in cases {
        assert_eq!(changed(change), None, "{what}");
    }
}

#[test]
fn flipped_bytes_never_panic() {
    let model = Layers::sound(13).file().bytes().to_vec();
    let image = shape("image", 2, 37, 23);
    for at in 0..model.len() {
        for flip in [0x01, 0x10, 0x80, 0xff] {
            let mut bytes = model.clone();
            bytes[at] ^= flip;
            if let Ok(file) = OnnxFile::parse(bytes, "flipped.onnx".as_ref()) {
                let _ = file.prepared_in_strips(std::slice::from_ref(&image), &["result"], Strips::Count(4));
            }
        }
    }
}
