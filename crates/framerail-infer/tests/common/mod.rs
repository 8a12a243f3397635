//! Shared by the tests: the installed model, frames of a real clip, generated ONNX files.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use framerail_core::{AttributeValue, Frame, FramePool, PixelFormat};
use framerail_infer::{DetectorOptions, Prediction, SearchPath};

/// The folder that `make setup` fills.
pub fn home() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.framerail");
    std::env::var_os("FRAMERAIL_HOME").map_or(project, PathBuf::from)
}

/// A file that `make setup` installs.
pub fn installed(file: &str) -> PathBuf {
    let path = home().join(file);
    assert!(path.is_file(), "{} is missing: run `make setup` first", path.display());
    path
}

/// The search path of the installed files, without the tester's environment except for the library that it names: a GPU host has no other.
pub fn search() -> SearchPath {
    installed("models/centerface.onnx");
    let runtime_library = SearchPath::from_env().runtime_library;
    SearchPath { home: Some(home()), working_directory: std::env::temp_dir(), runtime_library, ..SearchPath::default() }
}

/// Options for a model or card, searched among the installed files only.
pub fn options(model: impl Into<String>) -> DetectorOptions {
    DetectorOptions { search: search(), ..DetectorOptions::new(model) }
}

/// A packed RGB frame from its bytes.
pub fn rgb_frame(width: u32, height: u32, rgb: &[u8]) -> Frame {
    raw_frame(PixelFormat::Rgb24, width, height, rgb)
}

/// The scores of red, green and blue by a model like [`mean_color_model`], for each view.
pub fn rgb_scores(stated: &[Prediction]) -> Vec<[f32; 3]> {
    let of = |prediction: &Prediction| match prediction {
        Prediction::Description(Some(stated)) => match &stated.value {
            AttributeValue::Classes(classes) => {
                let mut scores = [0.0; 3];
                classes.iter().for_each(|class| scores[class.label.id as usize] = class.score);
                scores
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    stated.iter().map(of).collect()
}

/// A frame from its planes' bytes, one after the other.
pub fn raw_frame(format: PixelFormat, width: u32, height: u32, mut bytes: &[u8]) -> Frame {
    let mut surface = FramePool::new(1).surface(format, width, height).expect("size in range");
    let mut planes = surface.planes_mut().expect("fresh surface");
    for plane in 0..format.planes() {
        let layout = planes.layout(plane);
        for y in 0..layout.rows {
            let (row, rest) = bytes.split_at(layout.row_bytes);
            planes.row(plane, y).copy_from_slice(row);
            bytes = rest;
        }
    }
    assert!(bytes.is_empty(), "{} bytes left over", bytes.len());
    Frame::of(surface)
}

/// Whether there is a GPU; prints a warning if not.
#[cfg(feature = "cuda")]
pub fn gpu_is_present(test: &str) -> bool {
    let reason = match framerail_cuda::device_count() {
        Ok(count) if count > 0 => return true,
        Ok(_) => "no GPU".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("GPU TESTS DID NOT RUN: {test}: {reason}\n"));
    assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, and there is no GPU");
    false
}

/// Every `step`th frame of the carphone clip, 176x144, as FFmpeg's own program decodes it and converts it to RGB.
pub fn carphone(step: usize, count: usize) -> Vec<Frame> {
    carphone_in(PixelFormat::Rgb24, step, count)
}

/// The same in another pixel format; `Yuv420p` is the clip's own.
pub fn carphone_in(format: PixelFormat, step: usize, count: usize) -> Vec<Frame> {
    let clip = installed("clips/carphone_pristine.mp4");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&clip)
        .args(["-vf", &format!("select=not(mod(n\\,{step}))"), "-vsync", "0", "-frames:v", &count.to_string()])
        .args(["-f", "rawvideo", "-pix_fmt", format.name(), "-"])
        .output()
        .expect("the ffmpeg program: run `make setup` first");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let frame_bytes = output.stdout.len() / count;
    let frames: Vec<Frame> = output.stdout.chunks_exact(frame_bytes).map(|bytes| raw_frame(format, 176, 144, bytes)).collect();
    assert_eq!(frames.len(), count, "frames of the clip");
    frames
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A protocol-buffer message written field by field.
#[derive(Clone, Default)]
pub struct Message(pub Vec<u8>);

impl Message {
    pub fn number(mut self, field: u64, value: u64) -> Self {
        varint(field << 3, &mut self.0);
        varint(value, &mut self.0);
        self
    }

    pub fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        varint(field << 3 | 2, &mut self.0);
        varint(bytes.as_ref().len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// `ValueInfoProto` of a tensor; negative dimensions are left open.
pub fn value_info(name: &str, elem_type: u64, dims: &[i64]) -> Message {
    let mut shape = Message::default();
    for dim in dims {
        shape = shape.bytes(1, if *dim < 0 { Message::default() } else { Message::default().number(1, *dim as u64) });
    }
    let tensor = Message::default().number(1, elem_type).bytes(2, shape);
    Message::default().bytes(1, name).bytes(2, Message::default().bytes(1, tensor))
}

/// `TensorProto` of floats.
pub fn float_tensor(name: &str, dims: &[i64], data: &[f32]) -> Message {
    let mut tensor = Message::default();
    for dim in dims {
        tensor = tensor.number(1, *dim as u64);
    }
    let raw: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor.number(2, 1).bytes(8, name).bytes(9, raw)
}

/// `TensorProto` of a list of integers.
pub fn integer_tensor(name: &str, values: &[i64]) -> Message {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Message::default().number(1, values.len() as u64).number(2, 7).bytes(8, name).bytes(9, raw)
}

/// A model that ignores its image and always returns the same floats: a name, a shape and elements for each output.
pub fn constant_model(input_dims: &[i64], outputs: &[(&str, &[i64], &[f32])]) -> Vec<u8> {
    let mut graph = Message::default();
    for (name, _, _) in outputs {
        let node = Message::default().bytes(1, format!("{name}_value")).bytes(2, name).bytes(4, "Identity");
        graph = graph.bytes(1, node);
    }
    graph = graph.bytes(2, "constant");
    for (name, dims, data) in outputs {
        graph = graph.bytes(5, float_tensor(&format!("{name}_value"), dims, data));
    }
    graph = graph.bytes(11, value_info("image", 1, input_dims));
    for (name, dims, data) in outputs {
        // As old exporters do: the initialiser is listed as an input too.
        assert_eq!(data.len() as i64, dims.iter().product::<i64>());
        graph = graph.bytes(11, value_info(&format!("{name}_value"), 1, dims));
    }
    for (name, dims, _) in outputs {
        graph = graph.bytes(12, value_info(name, 1, dims));
    }
    model(graph)
}

/// `TensorProto.DataType`s.
pub const FLOAT: u64 = 1;
pub const UINT8: u64 = 2;
pub const INT8: u64 = 3;
pub const INT32: u64 = 6;
pub const INT64: u64 = 7;
pub const FLOAT16: u64 = 10;

/// `NodeProto` with its attributes.
pub fn node(op: &str, inputs: &[&str], output: &str, attributes: &[Message]) -> Message {
    let node = inputs.iter().fold(Message::default(), |node, input| node.bytes(1, input)).bytes(2, output).bytes(4, op);
    attributes.iter().fold(node, |node, attribute| node.bytes(5, attribute))
}

/// `AttributeProto` of a list of integers.
pub fn ints(name: &str, values: &[u64]) -> Message {
    values.iter().fold(Message::default().bytes(1, name), |attribute, value| attribute.number(8, *value)).number(20, 7)
}

/// A node that changes the type of elements.
pub fn cast(input: &str, output: &str, to: u64) -> Message {
    node("Cast", &[input], output, &[Message::default().bytes(1, "to").number(3, to).number(20, 2)])
}

/// [`constant_model`] with an element type for each output and for the image.
pub fn typed_model(input: (u64, &[i64]), outputs: &[(&str, u64, &[i64], &[f32])]) -> Vec<u8> {
    let graph = outputs
        .iter()
        .fold(Message::default(), |graph, (name, elem_type, ..)| graph.bytes(1, cast(&format!("{name}_value"), name, *elem_type)));
    let graph = outputs
        .iter()
        .fold(graph.bytes(2, "typed"), |graph, (name, _, dims, data)| graph.bytes(5, float_tensor(&format!("{name}_value"), dims, data)));
    let graph = graph.bytes(11, value_info("image", input.0, input.1));
    model(outputs.iter().fold(graph, |graph, (name, elem_type, dims, _)| graph.bytes(12, value_info(name, *elem_type, dims))))
}

/// The mean of each channel of a uint8 image with channels last, `[batch, 3]`, from 0 to 1, as in TensorFlow exports.
pub fn byte_model(side: i64) -> Vec<u8> {
    let graph = Message::default()
        .bytes(1, cast("image", "floats", FLOAT))
        .bytes(
            1,
            node(
                "ReduceMean",
                &["floats"],
                "bytes",
                &[ints("axes", &[1, 2]), Message::default().bytes(1, "keepdims").number(3, 0).number(20, 2)],
            ),
        )
        .bytes(1, node("Div", &["bytes", "white"], "mean", &[]))
        .bytes(2, "bytes")
        .bytes(5, float_tensor("white", &[], &[255.0]))
        .bytes(11, value_info("image", UINT8, &[-1, side, side, 3]))
        .bytes(12, value_info("mean", FLOAT, &[-1, 3]));
    model(graph)
}

pub fn byte_card(side: u32) -> String {
    mean_color_card(side).replace("scale = 0.00392156862745098\n", "layout = \"THWC\"\n")
}

/// As [`mean_color_model`], in float16 throughout, as exporters write half-precision models.
pub fn half_model(side: i64) -> Vec<u8> {
    let graph = Message::default()
        .bytes(1, node("GlobalAveragePool", &["image"], "mean", &[]))
        .bytes(2, "half")
        .bytes(11, value_info("image", FLOAT16, &[-1, 3, side, side]))
        .bytes(12, value_info("mean", FLOAT16, &[-1, 3, 1, 1]));
    model(graph)
}

/// An `AttributeProto` of one integer.
pub fn int(name: &str, value: u64) -> Message {
    Message::default().bytes(1, name).number(3, value).number(20, 2)
}

/// A graph with weights, inputs and outputs; the batch axis is open.
pub fn graph(nodes: &[Message], weights: &[Message], inputs: &[Message], outputs: &[Message]) -> Vec<u8> {
    let graph = nodes.iter().fold(Message::default(), |graph, node| graph.bytes(1, node)).bytes(2, "more");
    let graph = weights.iter().fold(graph, |graph, weight| graph.bytes(5, weight));
    let graph = inputs.iter().fold(graph, |graph, input| graph.bytes(11, input));
    model(outputs.iter().fold(graph, |graph, output| graph.bytes(12, output)))
}

/// Zeros for each image of the batch, `[batch, 1, 1]`: added to constant outputs, they give these a batch axis.
fn zeros() -> [Message; 2] {
    // The maximum instead of the mean: the sum of a large image exceeds float16.
    let most = node("ReduceMax", &["images"], "most", &[ints("axes", &[1, 2, 3]), int("keepdims", 0)]);
    [most, node("Sub", &["most", "most"], "none", &[])]
}

/// YOLOv8's signature in float16 throughout: three boxes of two classes in every 64x64 image, of which two overlap.
pub fn half_yolo() -> Vec<u8> {
    let columns = [[32.0, 32.0, 16.0, 8.0, 0.875, 0.125], [33.0, 32.0, 16.0, 8.0, 0.75, 0.125], [32.0, 32.0, 16.0, 8.0, 0.125, 0.625]];
    let data: Vec<f32> = (0..6).flat_map(|value| columns.iter().map(move |column: &[f32; 6]| column[value])).collect();
    let [most, none] = zeros();
    let nodes = [
        most,
        none,
        node("Unsqueeze", &["none", "axes"], "none3", &[]),
        cast("raw", "raw16", FLOAT16),
        node("Add", &["raw16", "none3"], "output0", &[]),
    ];
    let weights = [integer_tensor("axes", &[1, 2]), float_tensor("raw", &[1, 6, 3], &data)];
    graph(&nodes, &weights, &[value_info("images", FLOAT16, &[-1, 3, 64, 64])], &[value_info("output0", FLOAT16, &[-1, 6, 3])])
}

/// The card of [`half_yolo`].
pub const HALF_YOLO_CARD: &str = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\nlabels = [\"cat\", \"dog\"]\n[input]\nwidth = 64\n\
    height = 64\nfit = \"letterbox\"\nscale = 0.00392156862745098\n[output.anchor_free]\noutput = \"output0\"\norder = \"values-first\"\n\
    [thresholds]\nconfidence = 0.5\niou = 0.5\n";

/// RT-DETR's signature: `images` and `orig_target_sizes` in, `labels`, `boxes` and `scores` out. It returns the same relative boxes for
/// every image, in pixels of the given size.
pub fn rtdetr(batch: i64) -> Vec<u8> {
    let [most, none] = zeros();
    let nodes = [
        most,
        none,
        node("Unsqueeze", &["none", "axes"], "none3", &[]),
        node("Unsqueeze", &["none", "last"], "none2", &[]),
        cast("orig_target_sizes", "sizes", FLOAT),
        node("Concat", &["sizes", "sizes"], "corners", &[int("axis", 1)]),
        node("Unsqueeze", &["corners", "last"], "corners3", &[]),
        node("Add", &["unit", "none3"], "units", &[]),
        node("Mul", &["units", "corners3"], "boxes", &[]),
        node("Add", &["likely", "none2"], "scores", &[]),
        node("Add", &["numbers", "none2"], "classes", &[]),
        cast("classes", "labels", INT64),
    ];
    let weights = [
        integer_tensor("axes", &[1, 2]),
        integer_tensor("last", &[1]),
        float_tensor("unit", &[1, 2, 4], &[0.25, 0.5, 0.5, 0.75, 0.0, 0.0, 0.1, 0.1]),
        float_tensor("likely", &[1, 2], &[0.9, 0.8]),
        float_tensor("numbers", &[1, 2], &[1.0, 0.0]),
    ];
    let inputs = [value_info("images", FLOAT, &[batch, 3, 640, 640]), value_info("orig_target_sizes", INT64, &[batch, 2])];
    let outputs =
        [value_info("labels", INT64, &[batch, 2]), value_info("boxes", FLOAT, &[batch, 2, 4]), value_info("scores", FLOAT, &[batch, 2])];
    graph(&nodes, &weights, &inputs, &outputs)
}

/// `models/rtdetr.toml`, compiled in for tests that run on another machine.
pub const RTDETR_CARD: &str = include_str!("../../../../models/rtdetr.toml");
/// The other example cards, one per family.
pub const FAMILY_CARDS: [(&str, &str); 5] = [
    ("scrfd", include_str!("../../../../models/scrfd.toml")),
    ("yunet", include_str!("../../../../models/yunet.toml")),
    ("retinanet", include_str!("../../../../models/retinanet.toml")),
    ("fcos", include_str!("../../../../models/fcos.toml")),
    ("plates", include_str!("../../../../models/plates.toml")),
];
/// `models/detr.toml`.
pub const DETR_CARD: &str = include_str!("../../../../models/detr.toml");

/// The text of a card in `models/`, for the test's file; its `labels` are replaced.
pub fn card_of(text: &str, labels: &str) -> String {
    let file = text.lines().find(|line| line.starts_with("file = ")).expect("names a file").to_owned();
    let start = text.find("labels = [").map(|start| (start, text[start..].find(']').expect("a list") + start + 1));
    let text = match start {
        Some((start, end)) => text.replace(&text[start..end], labels),
        None => text.to_owned(),
    };
    text.replace(&file, "file = \"m.onnx\"")
}

/// `ModelProto` around a graph.
pub fn model(graph: Message) -> Vec<u8> {
    Message::default().number(1, 8).bytes(7, graph).bytes(8, Message::default().number(2, 13)).0
}

/// A model that returns the mean of each channel of its image, `[batch, 3, 1, 1]`: a colour classifier.
pub fn mean_color_model(side: i64) -> Vec<u8> {
    let node = Message::default().bytes(1, "image").bytes(2, "mean").bytes(4, "GlobalAveragePool");
    let graph = Message::default()
        .bytes(1, node)
        .bytes(2, "mean color")
        .bytes(11, value_info("image", 1, &[-1, 3, side, side]))
        .bytes(12, value_info("mean", 1, &[-1, 3, 1, 1]));
    model(graph)
}

/// The card of [`mean_color_model`]: scores from 0 to 1.
pub fn mean_color_card(side: u32) -> String {
    format!(
        "name = \"colour\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\nlabels = [\"red\", \"green\", \"blue\"]\n[input]\nwidth = {side}\n\
         height = {side}\nscale = 0.00392156862745098\n[output.classes]\noutput = \"mean\"\n"
    )
}

/// A model and its card in a new folder; the options name the card.
pub fn placed(model: &[u8], card: &str) -> (tempfile::TempDir, DetectorOptions) {
    let folder = tempfile::TempDir::new().expect("temporary folder");
    let path = folder.path().join("card.toml");
    std::fs::write(folder.path().join("m.onnx"), model).expect("writable");
    std::fs::write(&path, card).expect("writable");
    let options = options(path.display().to_string());
    (folder, options)
}
