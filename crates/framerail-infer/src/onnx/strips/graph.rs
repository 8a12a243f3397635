//! What strips need to know of a graph: nodes that work row by row, and the shapes in between.

use std::collections::{HashMap, HashSet};

use super::{Rows, number};
use crate::onnx::wire::{Value, fields};

/// Nodes longer than this are not plain layers, and would be copied for each strip.
const MAX_NODE_BYTES: usize = 4096;
/// Bound on a side, stride or padding: beyond it products could overflow.
const MAX_SIDE: u64 = 1 << 20;
/// Older operator sets broadcast and normalise in other ways.
const MIN_OPSET: u64 = 7;

mod field {
    pub(super) const MODEL_FUNCTIONS: u32 = 25;
    pub(super) const GRAPH_SPARSE_INITIALIZER: u32 = 15;
    pub(super) const TENSOR_DIMS: u32 = 1;
    pub(super) const ATTRIBUTE_NAME: u32 = 1;
    pub(super) const ATTRIBUTE_INT: u32 = 3;
    pub(super) const ATTRIBUTE_STRING: u32 = 4;
    pub(super) const ATTRIBUTE_GRAPH: u32 = 6;
    pub(super) const ATTRIBUTE_GRAPHS: u32 = 11;
}

/// Field numbers of `NodeProto`, and of the list of integers in `AttributeProto`.
pub(super) mod node_field {
    pub(crate) const INPUT: u32 = 1;
    pub(crate) const OUTPUT: u32 = 2;
    pub(crate) const NAME: u32 = 3;
    pub(crate) const OP_TYPE: u32 = 4;
    pub(crate) const ATTRIBUTE: u32 = 5;
    pub(crate) const DOMAIN: u32 = 7;
    pub(crate) const ATTRIBUTE_INTS: u32 = 8;
}

/// Batch, channels, rows and columns of a float tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) batch: u64,
    pub(super) channels: u64,
    pub(super) rows: u64,
    pub(super) columns: u64,
}

impl Shape {
    pub(super) fn of_input(dims: &[Option<u64>]) -> Option<Self> {
        let [Some(batch), Some(channels), Some(rows), Some(columns)] = *dims else { return None };
        Self { batch, channels, rows, columns }.checked()
    }

    fn checked(self) -> Option<Self> {
        let sides = [self.batch, self.channels, self.rows, self.columns];
        (sides.iter().all(|side| (1..=MAX_SIDE).contains(side)) && self.bytes().is_some()).then_some(self)
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        self.batch.checked_mul(self.channels)?.checked_mul(self.rows)?.checked_mul(self.columns)?.checked_mul(4)
    }
}

/// Along rows, what a convolution does.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowWindow {
    /// Rows that one output row is made of, gaps of a dilation included.
    span: i64,
    stride: i64,
    above: i64,
    below: i64,
}

/// What a node does along rows.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// A convolution.
    Conv(Conv),
    /// Each element from the elements at the same place; the other inputs are constants without rows.
    Elementwise,
    /// The same of two tensors.
    Pairwise,
    /// Anything else.
    Other,
}

#[derive(Clone, Debug)]
pub(super) struct Conv {
    group: u64,
    kernel: Option<[u64; 2]>,
    strides: [u64; 2],
    dilations: [u64; 2],
    /// Above, left, below, right.
    pads: [u64; 4],
}

/// Rows of an input for rows of the output, and the padding that remains.
pub(super) struct Need {
    pub(super) rows: Rows,
    pub(super) above: i64,
    pub(super) below: i64,
}

pub(super) struct Node<'a> {
    pub(super) raw: &'a [u8],
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    pub(super) kind: Kind,
    /// Along rows, for a convolution whose weights are known.
    window: Option<RowWindow>,
}

pub(super) struct Graph<'a> {
    pub(super) nodes: Vec<Node<'a>>,
    /// How often each tensor is used: by nodes, and once more as an output of the model.
    pub(super) uses: HashMap<&'a str, usize>,
    /// Dimensions of the initialisers.
    initializers: HashMap<&'a str, Vec<u64>>,
    pub(super) names: HashSet<&'a str>,
    pub(super) opset: u64,
}

impl<'a> Graph<'a> {
    /// `None` for what a sound model of plain layers does not hold: nested graphs, functions, a tensor made twice.
    pub(super) fn read(model: &'a [u8], opset: u64) -> Option<Self> {
        if opset < MIN_OPSET {
            return None;
        }
        let mut graph = None;
        for field in fields(model) {
            let field = field.ok()?;
            match field.number {
                number::MODEL_GRAPH => graph = Some(field.bytes().ok()?),
                field::MODEL_FUNCTIONS => return None,
                _ => {}
            }
        }
        let mut found = Self { nodes: Vec::new(), uses: HashMap::new(), initializers: HashMap::new(), names: HashSet::new(), opset };
        for field in fields(graph?) {
            let field = field.ok()?;
            match field.number {
                number::GRAPH_NODE => found.nodes.push(Node::read(field.bytes().ok()?)?),
                number::GRAPH_INITIALIZER => found.read_initializer(field.bytes().ok()?)?,
                number::GRAPH_INPUT => drop(found.names.insert(string_in(field.bytes().ok()?, number::VALUE_NAME)?)),
                number::GRAPH_OUTPUT => *found.uses.entry(string_in(field.bytes().ok()?, number::VALUE_NAME)?).or_default() += 1,
                field::GRAPH_SPARSE_INITIALIZER => return None,
                _ => {}
            }
        }
        found.read_names()?;
        let Self { nodes, initializers, .. } = &mut found;
        for node in nodes {
            node.window = node.find_window(initializers);
        }
        Some(found)
    }

    fn read_initializer(&mut self, tensor: &'a [u8]) -> Option<()> {
        let mut dims = Vec::new();
        for field in fields(tensor) {
            let field = field.ok()?;
            if field.number == field::TENSOR_DIMS {
                read_numbers(field.value, &mut dims)?;
            }
        }
        let name = string_in(tensor, number::TENSOR_NAME)?;
        self.initializers.insert(name, dims).is_none().then_some(())
    }

    fn read_names(&mut self) -> Option<()> {
        self.names.extend(self.initializers.keys());
        for node in &self.nodes {
            for input in node.inputs.iter().filter(|name| !name.is_empty()) {
                *self.uses.entry(input).or_default() += 1;
            }
            for output in node.outputs.iter().filter(|name| !name.is_empty()) {
                if !self.names.insert(output) {
                    return None;
                }
            }
        }
        Some(())
    }

    fn is_constant(&self, name: &str) -> bool {
        name.is_empty() || self.initializers.contains_key(name)
    }
}

impl<'a> Node<'a> {
    fn read(raw: &'a [u8]) -> Option<Self> {
        let (mut inputs, mut outputs, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        let (mut op_type, mut is_default_domain) = ("", true);
        for field in fields(raw) {
            let field = field.ok()?;
            match field.number {
                node_field::INPUT => inputs.push(utf8(field.bytes().ok()?)?),
                node_field::OUTPUT => outputs.push(utf8(field.bytes().ok()?)?),
                node_field::OP_TYPE => op_type = utf8(field.bytes().ok()?)?,
                node_field::ATTRIBUTE => attributes.push(field.bytes().ok()?),
                node_field::DOMAIN => is_default_domain = matches!(field.bytes().ok()?, b"" | b"ai.onnx"),
                _ => {}
            }
        }
        // A nested graph may use any tensor without saying so in the node's inputs.
        if !attributes.iter().all(|attribute| is_plain(attribute)) {
            return None;
        }
        let usable = is_default_domain && raw.len() <= MAX_NODE_BYTES && outputs.len() == 1;
        let kind = if usable { Kind::of(op_type, &attributes, inputs.len()) } else { Kind::Other };
        Some(Self { raw, inputs, outputs, kind, window: None })
    }

    /// The output and its shape, when the node works row by row on tensors of known shape and on constants.
    pub(super) fn output_in_strips(&self, known: &HashMap<&'a str, Shape>, graph: &Graph<'a>) -> Option<(&'a str, Shape)> {
        let first = *known.get(self.inputs.first()?)?;
        let output = *self.outputs.first().filter(|name| !name.is_empty())?;
        let rest = self.inputs.get(1..)?;
        let constants_without_rows = || rest.iter().all(|name| graph.is_constant(name) && !known.contains_key(name));
        let shape = match &self.kind {
            Kind::Conv(conv) if constants_without_rows() => conv.output(&first, self.window?, graph.initializers.get(rest.first()?)?)?,
            Kind::Elementwise if constants_without_rows() => first,
            Kind::Pairwise if rest.iter().all(|name| known.get(name) == Some(&first)) => first,
            _ => return None,
        };
        Some((output, shape))
    }

    /// The rows of an input that rows of the output are made of; `None` when they would be padding only.
    pub(super) fn input_rows(&self, rows: Rows, input: &Shape) -> Option<Need> {
        let Some(window) = self.window else { return Some(Need { rows, above: 0, below: 0 }) };
        let height = input.rows as i64;
        let first = rows.first * window.stride - window.above;
        let end = (rows.end - 1) * window.stride - window.above + window.span;
        let need = Rows { first: first.max(0), end: end.min(height) };
        (need.first < need.end).then_some(Need { rows: need, above: (-first).max(0), below: (end - height).max(0) })
    }

    fn find_window(&self, initializers: &HashMap<&str, Vec<u64>>) -> Option<RowWindow> {
        let Kind::Conv(conv) = &self.kind else { return None };
        let [_, _, rows, columns] = *initializers.get(self.inputs.get(1)?)?.as_slice() else { return None };
        if conv.kernel.is_some_and(|kernel| kernel != [rows, columns]) {
            return None;
        }
        let [above, _, below, _] = conv.pads;
        let span = span(rows, conv.dilations[0])?;
        (above < span && below < span).then_some(RowWindow {
            span: span as i64,
            stride: conv.strides[0] as i64,
            above: above as i64,
            below: below as i64,
        })
    }
}

impl Kind {
    fn of(op_type: &str, attributes: &[&[u8]], inputs: usize) -> Self {
        match op_type {
            "Conv" if matches!(inputs, 2 | 3) => Conv::read(attributes).map_or(Kind::Other, Kind::Conv),
            "BatchNormalization" if inputs == 5 && is_inference(attributes) => Kind::Elementwise,
            "Relu" | "Sigmoid" | "LeakyRelu" | "HardSigmoid" | "HardSwish" | "Elu" | "Tanh" if inputs == 1 => Kind::Elementwise,
            "Clip" if (1..=3).contains(&inputs) => Kind::Elementwise,
            "Add" | "Mul" if inputs == 2 => Kind::Pairwise,
            _ => Kind::Other,
        }
    }
}

/// Statistics as given, one for each channel.
fn is_inference(attributes: &[&[u8]]) -> bool {
    attributes.iter().all(|attribute| match string_in(attribute, field::ATTRIBUTE_NAME) {
        Some("training_mode") => int_in(attribute) == Some(0),
        Some("spatial") => int_in(attribute) == Some(1),
        Some("epsilon" | "momentum") => true,
        _ => false,
    })
}

impl Conv {
    fn read(attributes: &[&[u8]]) -> Option<Self> {
        let mut conv = Conv { group: 1, kernel: None, strides: [1; 2], dilations: [1; 2], pads: [0; 4] };
        for attribute in attributes {
            match string_in(attribute, field::ATTRIBUTE_NAME)? {
                "group" => conv.group = int_in(attribute)?,
                "kernel_shape" => conv.kernel = Some(ints_in(attribute)?),
                "strides" => conv.strides = ints_in(attribute)?,
                "dilations" => conv.dilations = ints_in(attribute)?,
                "pads" => conv.pads = ints_in(attribute)?,
                "auto_pad" if string_in(attribute, field::ATTRIBUTE_STRING)? == "NOTSET" => {}
                _ => return None,
            }
        }
        let in_range = |side: &u64| (1..=MAX_SIDE).contains(side);
        let good = in_range(&conv.group) && conv.strides.iter().all(in_range) && conv.pads.iter().all(|pad| *pad <= MAX_SIDE);
        good.then_some(conv)
    }

    fn output(&self, input: &Shape, window: RowWindow, weights: &[u64]) -> Option<Shape> {
        let [channels, group_channels, _, kernel_columns] = *weights else { return None };
        if group_channels.checked_mul(self.group)? != input.channels || !channels.is_multiple_of(self.group) {
            return None;
        }
        let [_, left, _, right] = self.pads;
        let padded_rows = input.rows + window.above as u64 + window.below as u64;
        let rows = padded_rows.checked_sub(window.span as u64)? / self.strides[0] + 1;
        let columns = (input.columns + left + right).checked_sub(span(kernel_columns, self.dilations[1])?)? / self.strides[1] + 1;
        Shape { batch: input.batch, channels, rows, columns }.checked()
    }
}

/// Elements from the first to the last that a kernel touches.
fn span(kernel: u64, dilation: u64) -> Option<u64> {
    let in_range = |side: u64| (1..=MAX_SIDE).contains(&side);
    (in_range(kernel) && in_range(dilation)).then(|| (kernel - 1) * dilation + 1).filter(|span| in_range(*span))
}

fn utf8(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The last string of this number in a message; empty when there is none.
fn string_in(message: &[u8], number: u32) -> Option<&str> {
    let mut found = "";
    for field in fields(message) {
        let field = field.ok()?;
        if field.number == number {
            found = utf8(field.bytes().ok()?)?;
        }
    }
    Some(found)
}

fn is_plain(attribute: &[u8]) -> bool {
    fields(attribute).all(|field| field.is_ok_and(|field| !matches!(field.number, field::ATTRIBUTE_GRAPH | field::ATTRIBUTE_GRAPHS)))
}

fn int_in(attribute: &[u8]) -> Option<u64> {
    let mut found = 0;
    for field in fields(attribute) {
        let field = field.ok()?;
        if field.number == field::ATTRIBUTE_INT {
            found = field.varint().ok()?;
        }
    }
    Some(found)
}

fn ints_in<const N: usize>(attribute: &[u8]) -> Option<[u64; N]> {
    let mut found = Vec::new();
    for field in fields(attribute) {
        let field = field.ok()?;
        if field.number == node_field::ATTRIBUTE_INTS {
            read_numbers(field.value, &mut found)?;
        }
    }
    found.try_into().ok()
}

/// A repeated number stands alone or packed with others.
fn read_numbers(value: Value<'_>, numbers: &mut Vec<u64>) -> Option<()> {
    match value {
        Value::Varint(number) => numbers.push(number),
        Value::Bytes(mut packed) => {
            while !packed.is_empty() {
                let (number, rest) = crate::onnx::wire::read_varint(packed).ok()?;
                numbers.push(number);
                packed = rest;
            }
        }
        Value::Fixed(_) => return None,
    }
    (numbers.len() <= 16).then_some(())
}

/// Whether an attribute is the convolution's padding.
pub(super) fn is_pads(attribute: &[u8]) -> bool {
    string_in(attribute, field::ATTRIBUTE_NAME) == Some("pads")
}

impl Node<'_> {
    /// The padding left and right of a convolution.
    pub(super) fn side_pads(&self) -> Option<(u64, u64)> {
        match &self.kind {
            Kind::Conv(conv) => Some((conv.pads[1], conv.pads[3])),
            _ => None,
        }
    }
}
