//! Small ONNX models with simple arithmetic results, and their model cards, for tests and examples.
//!
//! Written field by field as protocol buffers; the schema is `onnx.proto3` of the ONNX project.

mod dense;

use std::{
    fs,
    path::{Path, PathBuf},
};

pub use dense::{brightness_depth, lucas_kanade_flow};

/// A model and its model card.
#[derive(Clone, Debug)]
pub struct SampleModel {
    /// Name of the model and of its files.
    pub name: &'static str,
    /// The ONNX file.
    pub onnx: Vec<u8>,
    /// The model card.
    pub card: String,
}

impl SampleModel {
    /// Writes both files into a folder and returns the path of the model card.
    pub fn save_in(&self, folder: &Path) -> PathBuf {
        let card = folder.join(format!("{}.toml", self.name));
        fs::write(folder.join(format!("{}.onnx", self.name)), &self.onnx).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        fs::write(&card, &self.card).unwrap_or_else(|error| panic!("{}: {error}", card.display()));
        card
    }
}

fn head(name: &str, summary: &str, rest: &str) -> String {
    format!(
        "# Made by framerail's tests: no weights, its outputs are computed from the image.\nname = \"{name}\"\n\
         file = \"{name}.onnx\"\nsummary = \"{summary}\"\nlicence = \"MIT OR Apache-2.0\"\n{rest}"
    )
}

const BYTES_TO_ONE: &str = "scale = 0.00392156862745098\n";

/// Classifies an image by its strongest average colour; scores are the means of red, green and blue, 0 to 1.
pub fn colour_classifier() -> SampleModel {
    let rest = format!(
        "labels = [\"red\", \"green\", \"blue\"]\n\n[input]\nwidth = 32\nheight = 32\nsampling = \"area\"\n{BYTES_TO_ONE}\n\
         [output.classes]\noutput = \"mean\"\n"
    );
    let card = head("colour", "which of red, green and blue is strongest", &rest);
    SampleModel { name: "colour", onnx: mean_model(3), card }
}

/// Returns the mean of red, green and blue as a unit vector.
pub fn colour_embedding() -> SampleModel {
    let rest = format!(
        "\n[input]\nwidth = 32\nheight = 32\nsampling = \"area\"\n{BYTES_TO_ONE}\n[output.embedding]\noutput = \"mean\"\nnormalize = true\n"
    );
    SampleModel { name: "likeness", onnx: mean_model(3), card: head("likeness", "the mean colour as a vector", &rest) }
}

/// Detects bright squares: each 4x4 cell with a high mean luma is the centre of an 8x8 box. Accepts inputs of any size.
pub fn spot_detector() -> SampleModel {
    let rest = format!(
        "labels = [\"spot\"]\n\n[input]\nmultiple_of = 4\nchannel_order = \"gray\"\n{BYTES_TO_ONE}\n\
         [output.heatmap]\nheatmap = \"heat\"\nsize = \"size\"\nstride = 4.0\ncell_origin = 0.5\n\n[thresholds]\nconfidence = 0.6\niou = 0.1\n"
    );
    let pooled = pool_node("heat");
    let doubled = Field::new().bytes(1, "heat").bytes(1, "heat").bytes(2, "both").bytes(4, "Concat").bytes(5, integer_attribute("axis", 1));
    let scaled = Field::new().bytes(1, "both").bytes(1, "ones").bytes(2, "ratio").bytes(4, "Div");
    let size = Field::new().bytes(1, "ratio").bytes(1, "two").bytes(2, "size").bytes(4, "Mul");
    // Makes sizes independent of the score: both / both is 1, except for black cells, whose score is 0.
    let same = Field::new().bytes(1, "both").bytes(1, "tiny").bytes(2, "ones").bytes(4, "Max");
    let graph = [pooled, doubled, same, scaled, size].into_iter().fold(Field::new(), |graph, node| graph.bytes(1, node));
    let graph = graph
        .bytes(2, "spots")
        .bytes(5, scalar("two", 2.0))
        .bytes(5, scalar("tiny", 1e-6))
        .bytes(11, value_info("image", &[-1, 1, -1, -1]))
        .bytes(12, value_info("heat", &[-1, 1, -1, -1]))
        .bytes(12, value_info("size", &[-1, 2, -1, -1]));
    SampleModel { name: "spots", onnx: model(graph), card: head("spots", "bright squares", &rest) }
}

/// Segments bright areas, in 4x4 cells of a 32x32 input.
pub fn bright_segmentation() -> SampleModel {
    let rest = format!(
        "labels = [\"bright\"]\n\n[input]\nwidth = 32\nheight = 32\nchannel_order = \"gray\"\n{BYTES_TO_ONE}\n\
         [output.segmentation]\noutput = \"heat\"\n"
    );
    let graph = Field::new()
        .bytes(1, pool_node("heat"))
        .bytes(2, "bright")
        .bytes(11, value_info("image", &[-1, 1, 32, 32]))
        .bytes(12, value_info("heat", &[-1, 1, 8, 8]));
    SampleModel { name: "bright", onnx: model(graph), card: head("bright", "a mask of what is bright", &rest) }
}

/// Two landmarks, always at one and three quarters of the width; they are present if the image is bright on average.
pub fn eye_landmarks() -> SampleModel {
    let rest = format!(
        "labels = [\"face\"]\nlandmarks = [\"left_eye\", \"right_eye\"]\n\n[input]\nwidth = 32\nheight = 32\nchannel_order = \"gray\"\n\
         {BYTES_TO_ONE}\n[output.landmarks]\noutput = \"points\"\nnormalized = true\npresence = \"mean\"\n"
    );
    // 0 * mean + point yields one row per image of the batch.
    let zero = Field::new().bytes(1, "mean").bytes(1, "nothing").bytes(2, "zero").bytes(4, "Mul");
    let points = Field::new().bytes(1, "zero").bytes(1, "places").bytes(2, "points").bytes(4, "Add");
    let graph = Field::new()
        .bytes(1, mean_node())
        .bytes(1, zero)
        .bytes(1, points)
        .bytes(2, "eyes")
        .bytes(5, scalar("nothing", 0.0))
        .bytes(5, tensor("places", &[1, 1, 1, 4], &[0.25, 0.5, 0.75, 0.5]))
        .bytes(11, value_info("image", &[-1, 1, 32, 32]))
        .bytes(12, value_info("mean", &[-1, 1, 1, 1]))
        .bytes(12, value_info("points", &[-1, 1, 1, 4]));
    SampleModel { name: "eyes", onnx: model(graph), card: head("eyes", "two points of a bright face", &rest) }
}

fn mean_model(channels: i64) -> Vec<u8> {
    let graph = Field::new()
        .bytes(1, mean_node())
        .bytes(2, "mean")
        .bytes(11, value_info("image", &[-1, channels, 32, 32]))
        .bytes(12, value_info("mean", &[-1, channels, 1, 1]));
    model(graph)
}

fn mean_node() -> Field {
    Field::new().bytes(1, "image").bytes(2, "mean").bytes(4, "GlobalAveragePool")
}

/// Mean of each 4x4 cell.
fn pool_node(output: &str) -> Field {
    let (kernel, steps) = (integers_attribute("kernel_shape", &[4, 4]), integers_attribute("strides", &[4, 4]));
    Field::new().bytes(1, "image").bytes(2, output).bytes(4, "AveragePool").bytes(5, kernel).bytes(5, steps)
}

/// A protocol buffer message, built field by field.
#[derive(Clone, Default)]
struct Field(Vec<u8>);

impl Field {
    fn new() -> Self {
        Self::default()
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn bytes(mut self, field: u64, bytes: impl AsRef<[u8]>) -> Self {
        self.varint(field << 3 | 2);
        self.varint(bytes.as_ref().len() as u64);
        self.0.extend_from_slice(bytes.as_ref());
        self
    }
}

impl AsRef<[u8]> for Field {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// `AttributeProto` with an integer.
fn integer_attribute(name: &str, value: u64) -> Field {
    Field::new().bytes(1, name).number(3, value).number(20, 2)
}

/// `AttributeProto` with integers.
fn integers_attribute(name: &str, values: &[u64]) -> Field {
    values.iter().fold(Field::new().bytes(1, name), |field, value| field.number(8, *value)).number(20, 7)
}

/// `ValueInfoProto` of floats; negative dimensions are dynamic.
fn value_info(name: &str, dims: &[i64]) -> Field {
    let dim = |dim: &i64| if *dim < 0 { Field::new() } else { Field::new().number(1, *dim as u64) };
    let shape = dims.iter().fold(Field::new(), |shape, size| shape.bytes(1, dim(size)));
    let tensor = Field::new().number(1, 1).bytes(2, shape);
    Field::new().bytes(1, name).bytes(2, Field::new().bytes(1, tensor))
}

/// `TensorProto` of floats.
fn tensor(name: &str, dims: &[u64], values: &[f32]) -> Field {
    let field = dims.iter().fold(Field::new(), |field, dim| field.number(1, *dim)).number(2, 1).bytes(8, name);
    field.bytes(9, values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
}

fn scalar(name: &str, value: f32) -> Field {
    tensor(name, &[1], &[value])
}

/// `ModelProto` around a graph: IR 8, opset 13.
fn model(graph: Field) -> Vec<u8> {
    Field::new().number(1, 8).bytes(7, graph).bytes(8, Field::new().number(2, 13)).0
}
