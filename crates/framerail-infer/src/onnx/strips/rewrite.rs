//! Nodes of strips, written back into the model.

use std::collections::{HashMap, HashSet};

use super::{
    Rows,
    graph::{Graph, Node, is_pads, node_field},
    number,
};
use crate::onnx::wire::{fields, write_bytes, write_number};

/// From this operator set on, `Slice` takes its numbers as inputs.
const SLICE_INPUTS_OPSET: u64 = 10;
/// The axis of rows.
const ROWS_AXIS: i64 = 2;

/// `AttributeProto` and the `AttributeType` of its values.
mod attribute {
    pub(super) const NAME: u32 = 1;
    pub(super) const INT: u32 = 3;
    pub(super) const TYPE: u32 = 20;
    pub(super) const TYPE_INT: u64 = 2;
    pub(super) const TYPE_INTS: u64 = 7;
}

/// `TensorProto`.
mod tensor {
    pub(super) const DIMS: u32 = 1;
    pub(super) const DATA_TYPE: u32 = 2;
    pub(super) const RAW_DATA: u32 = 9;
    pub(super) const TYPE_INT64: u64 = 7;
}

/// Names of the tensors of one strip, and the constants that its slices take.
pub(super) struct StripNames<'a> {
    stretch: usize,
    pub(super) strip: i64,
    slices: usize,
    graph: &'a Graph<'a>,
    made: HashMap<(String, i64), String>,
    constants: Vec<Vec<u8>>,
}

impl<'a> StripNames<'a> {
    pub(super) fn new(stretch: usize, graph: &'a Graph<'a>) -> Self {
        Self { stretch, strip: 0, slices: 0, graph, made: HashMap::new(), constants: Vec::new() }
    }

    pub(super) fn into_constants(self) -> Vec<Vec<u8>> {
        self.constants
    }

    /// The name of this strip of a tensor, now made; `None` when the model has it already.
    pub(super) fn make(&mut self, tensor: &str) -> Option<String> {
        let name = self.unused(format!("{tensor}/strip_{}_{}", self.stretch, self.strip))?;
        self.made.insert((tensor.to_owned(), self.strip), name.clone());
        Some(name)
    }

    /// The name of this strip of a tensor that was made.
    pub(super) fn of(&self, tensor: &str) -> Option<String> {
        self.made.get(&(tensor.to_owned(), self.strip)).cloned()
    }

    /// The same, or the tensor itself where the stretch begins.
    pub(super) fn of_or_whole(&self, tensor: &str) -> String {
        self.of(tensor).unwrap_or_else(|| tensor.to_owned())
    }

    fn unused(&self, name: String) -> Option<String> {
        (!self.graph.names.contains(name.as_str())).then_some(name)
    }

    /// Writes a node that takes rows out of a tensor holding others too, and gives its output's name.
    pub(super) fn slice(&mut self, tensor: &str, held: Rows, wanted: Rows, out: &mut Vec<u8>) -> Option<String> {
        self.slices += 1;
        let name = self.unused(format!("{tensor}/rows_{}_{}", self.stretch, self.slices))?;
        let (start, end) = (wanted.first - held.first, wanted.end - held.first);
        let mut node = Vec::new();
        write_bytes(node_field::INPUT, tensor.as_bytes(), &mut node);
        let numbers = [("starts", start), ("ends", end), ("axes", ROWS_AXIS)];
        if self.graph.opset >= SLICE_INPUTS_OPSET {
            for (key, value) in numbers {
                let constant = self.unused(format!("{name}/{key}"))?;
                write_bytes(node_field::INPUT, constant.as_bytes(), &mut node);
                self.constants.push(constant_tensor(&constant, value));
            }
        } else {
            for (key, value) in numbers {
                write_bytes(node_field::ATTRIBUTE, &ints_attribute(key, &[value as u64]), &mut node);
            }
        }
        finish_node(&name, "Slice", node, out);
        Some(name)
    }
}

fn constant_tensor(name: &str, value: i64) -> Vec<u8> {
    let mut tensor = Vec::new();
    write_number(tensor::DIMS, 1, &mut tensor);
    write_number(tensor::DATA_TYPE, tensor::TYPE_INT64, &mut tensor);
    write_bytes(number::TENSOR_NAME, name.as_bytes(), &mut tensor);
    write_bytes(tensor::RAW_DATA, &value.to_le_bytes(), &mut tensor);
    tensor
}

fn ints_attribute(name: &str, values: &[u64]) -> Vec<u8> {
    let mut out = Vec::new();
    write_bytes(attribute::NAME, name.as_bytes(), &mut out);
    values.iter().for_each(|value| write_number(node_field::ATTRIBUTE_INTS, *value, &mut out));
    write_number(attribute::TYPE, attribute::TYPE_INTS, &mut out);
    out
}

fn finish_node(output: &str, op_type: &str, mut node: Vec<u8>, out: &mut Vec<u8>) {
    write_bytes(node_field::OUTPUT, output.as_bytes(), &mut node);
    write_bytes(node_field::NAME, output.as_bytes(), &mut node);
    write_bytes(node_field::OP_TYPE, op_type.as_bytes(), &mut node);
    write_bytes(number::GRAPH_NODE, &node, out);
}

/// Writes the node that puts strips together.
pub(super) fn concat(strips: &[String], output: &str, out: &mut Vec<u8>) {
    let mut node = Vec::new();
    strips.iter().for_each(|strip| write_bytes(node_field::INPUT, strip.as_bytes(), &mut node));
    let mut axis = Vec::new();
    write_bytes(attribute::NAME, b"axis", &mut axis);
    write_number(attribute::INT, ROWS_AXIS as u64, &mut axis);
    write_number(attribute::TYPE, attribute::TYPE_INT, &mut axis);
    write_bytes(node_field::ATTRIBUTE, &axis, &mut node);
    finish_node(output, "Concat", node, out);
}

/// Writes a node with other tensors and, for a convolution, other padding above and below; the rest is kept.
pub(super) fn node(source: &Node<'_>, inputs: &[String], output: &str, padding: Option<(i64, i64)>, out: &mut Vec<u8>) -> Option<()> {
    let mut node = Vec::with_capacity(source.raw.len() + 64);
    inputs.iter().for_each(|input| write_bytes(node_field::INPUT, input.as_bytes(), &mut node));
    write_bytes(node_field::OUTPUT, output.as_bytes(), &mut node);
    write_bytes(node_field::NAME, output.as_bytes(), &mut node);
    for field in fields(source.raw) {
        let field = field.ok()?;
        match field.number {
            node_field::INPUT | node_field::OUTPUT | node_field::NAME => {}
            node_field::ATTRIBUTE if padding.is_some() && is_pads(field.bytes().ok()?) => {}
            _ => node.extend_from_slice(field.raw),
        }
    }
    if let (Some((above, below)), Some((left, right))) = (padding, source.side_pads()) {
        let pads = [u64::try_from(above).ok()?, left, u64::try_from(below).ok()?, right];
        write_bytes(node_field::ATTRIBUTE, &ints_attribute("pads", &pads), &mut node);
    }
    write_bytes(number::GRAPH_NODE, &node, out);
    Some(())
}

/// The model with nodes replaced: those of `written` stand where their key stood, the others of `replaced` are left out.
pub(super) fn model(model: &[u8], replaced: &HashSet<usize>, written: &HashMap<usize, Vec<u8>>, constants: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(model.len() + 4096);
    for field in fields(model) {
        let field = field.ok()?;
        if field.number == number::MODEL_GRAPH {
            write_bytes(field.number, &graph(field.bytes().ok()?, replaced, written, constants)?, &mut out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Some(out)
}

fn graph(graph: &[u8], replaced: &HashSet<usize>, written: &HashMap<usize, Vec<u8>>, constants: &[Vec<u8>]) -> Option<Vec<u8>> {
    let added: usize = written.values().map(Vec::len).sum();
    let mut out = Vec::with_capacity(graph.len() + added);
    let mut index = 0;
    for field in fields(graph) {
        let field = field.ok()?;
        if field.number != number::GRAPH_NODE {
            out.extend_from_slice(field.raw);
            continue;
        }
        match written.get(&index) {
            Some(nodes) => out.extend_from_slice(nodes),
            None if replaced.contains(&index) => {}
            None => out.extend_from_slice(field.raw),
        }
        index += 1;
    }
    constants.iter().for_each(|constant| write_bytes(number::GRAPH_INITIALIZER, constant, &mut out));
    Some(out)
}
