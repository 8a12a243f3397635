//! The graph as the conversion to half precision sees it, and its pieces written again.

use std::{borrow::Cow, collections::HashSet, fmt};

use super::{
    super::{
        ELEM_FLOAT, number,
        wire::{Field, Value, WireError, fields, write_bytes, write_number},
    },
    name,
    operators::{Gives, gives},
    tensor,
};

mod field {
    pub(super) const MODEL_FUNCTIONS: u32 = 25;
    pub(super) const GRAPH_SPARSE_INITIALIZER: u32 = 15;
    pub(super) const NODE_INPUT: u32 = 1;
    pub(super) const NODE_OUTPUT: u32 = 2;
    pub(super) const NODE_OP_TYPE: u32 = 4;
    pub(super) const NODE_ATTRIBUTE: u32 = 5;
    pub(super) const NODE_DOMAIN: u32 = 7;
    pub(super) const ATTRIBUTE_NAME: u32 = 1;
    pub(super) const ATTRIBUTE_FLOAT: u32 = 2;
    pub(super) const ATTRIBUTE_INT: u32 = 3;
    pub(super) const ATTRIBUTE_TENSOR: u32 = 5;
    pub(super) const ATTRIBUTE_GRAPH: u32 = 6;
    pub(super) const ATTRIBUTE_FLOATS: u32 = 7;
    pub(super) const ATTRIBUTE_GRAPHS: u32 = 11;
    pub(super) const ATTRIBUTE_TYPE: u32 = 20;
}

/// Bound on nodes, far beyond any model.
const MAX_NODES: usize = 200_000;

/// Why a model is not converted.
#[derive(Debug)]
pub(super) enum Problem {
    Damaged(String),
    NotKnown(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Damaged(what) => write!(f, "the model file is damaged: {what}"),
            Problem::NotKnown(what) => write!(f, "the conversion to float16 does not know {what}"),
        }
    }
}

impl From<WireError> for Problem {
    fn from(_: WireError) -> Self {
        Problem::Damaged("a part of it cannot be read".into())
    }
}

pub(super) struct Node<'a> {
    bytes: &'a [u8],
    pub(super) op: &'a str,
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    /// The float32 tensor that a `Constant` holds; it becomes a weight.
    pub(super) constant: Option<Cow<'a, [u8]>>,
    /// The element type that an attribute gives the output.
    attribute_type: u64,
}

pub(super) struct Graph<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) nodes: Vec<Node<'a>>,
    /// Initialisers by name, in the file's order.
    pub(super) weights: Vec<(&'a str, Cow<'a, [u8]>)>,
    /// Those that are float32 tensors.
    pub(super) inputs: Vec<&'a str>,
    pub(super) outputs: Vec<&'a str>,
    names: HashSet<&'a str>,
}

impl<'a> Graph<'a> {
    pub(super) fn read(model: &'a [u8]) -> Result<Self, Problem> {
        let mut bytes: &[u8] = &[];
        for field in fields(model) {
            let field = field?;
            match field.number {
                number::MODEL_GRAPH => bytes = field.bytes()?,
                field::MODEL_FUNCTIONS => return Err(Problem::NotKnown("functions inside a model".into())),
                _ => {}
            }
        }
        let (nodes, weights, names) = (Vec::new(), Vec::new(), HashSet::new());
        let mut graph = Self { bytes, nodes, weights, inputs: Vec::new(), outputs: Vec::new(), names };
        for field in fields(bytes) {
            graph.read_field(&field?)?;
        }
        for node in &graph.nodes {
            graph.names.extend(node.inputs.iter().chain(&node.outputs));
        }
        let weights: HashSet<&str> = graph.weights.iter().map(|(name, _)| *name).collect();
        graph.inputs.retain(|input| !weights.contains(input));
        Ok(graph)
    }

    fn read_field(&mut self, field: &Field<'a>) -> Result<(), Problem> {
        match field.number {
            number::GRAPH_NODE if self.nodes.len() >= MAX_NODES => Err(Problem::NotKnown(format!("more than {MAX_NODES} nodes"))),
            number::GRAPH_NODE => {
                self.nodes.push(Node::read(field.bytes()?)?);
                Ok(())
            }
            number::GRAPH_INITIALIZER => {
                let tensor = field.bytes()?;
                self.weights.push((named(tensor, number::TENSOR_NAME)?, tensor.into()));
                Ok(())
            }
            number::GRAPH_INPUT => {
                let (input, elem_type) = (named(field.bytes()?, number::VALUE_NAME)?, value_elem_type(field.bytes()?)?);
                if elem_type == ELEM_FLOAT {
                    self.inputs.push(input);
                }
                Ok(())
            }
            number::GRAPH_OUTPUT => {
                self.outputs.push(named(field.bytes()?, number::VALUE_NAME)?);
                Ok(())
            }
            field::GRAPH_SPARSE_INITIALIZER => Err(Problem::NotKnown("sparse weights".into())),
            _ => Ok(()),
        }
    }

    /// The values that are float32 in the model as it stands.
    pub(super) fn float_values(&self) -> Result<HashSet<&'a str>, String> {
        let mut floats: HashSet<&str> = self.inputs.iter().copied().collect();
        for (name, tensor) in &self.weights {
            if tensor::elem_type(tensor).map_err(|error| Problem::from(error).to_string())? == ELEM_FLOAT {
                floats.insert(name);
            }
        }
        for node in &self.nodes {
            let gives = gives(node.op).ok_or_else(|| Problem::NotKnown(format!("the operator '{}'", node.op)).to_string())?;
            let is_float = |slot: usize| node.inputs.get(slot).is_some_and(|input| floats.contains(input));
            let (is_float, outputs) = match gives {
                Gives::NoFloats => (false, 0),
                Gives::Like(slot) => (is_float(slot), node.outputs.len()),
                Gives::FirstLike(slot) => (is_float(slot), 1),
                Gives::Attribute => (node.constant.is_some() || node.attribute_type == ELEM_FLOAT, 1),
            };
            if is_float {
                floats.extend(node.outputs.iter().take(outputs).filter(|output| !output.is_empty()));
            }
        }
        Ok(floats)
    }

    /// A name for another form of a value.
    pub(super) fn unused_name(&self, value: &str, form: &str) -> String {
        let mut name = format!("{value}/{form}");
        while self.names.contains(name.as_str()) {
            name.push('_');
        }
        name
    }
}

impl<'a> Node<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        let mut node = Self { bytes, op: "", inputs: Vec::new(), outputs: Vec::new(), constant: None, attribute_type: 0 };
        let mut attributes = Vec::new();
        for field in fields(bytes) {
            let field = field?;
            match field.number {
                field::NODE_INPUT => node.inputs.push(name(field.bytes()?)?),
                field::NODE_OUTPUT => node.outputs.push(name(field.bytes()?)?),
                field::NODE_OP_TYPE => node.op = name(field.bytes()?)?,
                field::NODE_ATTRIBUTE => attributes.push(field.bytes()?),
                field::NODE_DOMAIN if !matches!(field.bytes()?, b"" | b"ai.onnx") => {
                    return Err(Problem::NotKnown(format!("operators of '{}'", name(field.bytes()?)?)));
                }
                _ => {}
            }
        }
        // Only once the operator is known can its attributes be read.
        attributes.into_iter().try_for_each(|attribute| node.read_attribute(attribute))?;
        if node.op == "ConstantOfShape" && node.attribute_type == 0 {
            node.attribute_type = ELEM_FLOAT;
        }
        Ok(node)
    }

    fn read_attribute(&mut self, attribute: &'a [u8]) -> Result<(), Problem> {
        let attribute_name = named(attribute, field::ATTRIBUTE_NAME)?;
        let mut floats = Vec::new();
        for field in fields(attribute) {
            let field = field?;
            match (field.number, field.value) {
                (field::ATTRIBUTE_GRAPH | field::ATTRIBUTE_GRAPHS, _) => {
                    return Err(Problem::NotKnown(format!("'{}', which contains a nested graph", self.op)));
                }
                (field::ATTRIBUTE_INT, Value::Varint(to)) if self.op == "Cast" && attribute_name == "to" => self.attribute_type = to,
                (field::ATTRIBUTE_TENSOR, Value::Bytes(tensor)) if attribute_name == "value" => {
                    self.attribute_type = tensor::elem_type(tensor)?;
                    if self.op == "Constant" && self.attribute_type == ELEM_FLOAT {
                        self.constant = Some(tensor.into());
                    }
                }
                (field::ATTRIBUTE_FLOAT | field::ATTRIBUTE_FLOATS, Value::Fixed(bytes) | Value::Bytes(bytes)) => {
                    floats.extend_from_slice(bytes);
                }
                _ => {}
            }
        }
        if self.op == "Constant" && matches!(attribute_name, "value_float" | "value_floats") {
            self.constant = Some(tensor::of_floats(&floats, attribute_name == "value_floats").into());
        }
        Ok(())
    }
}

/// The text of one field of a message; empty when it is missing.
fn named(message: &[u8], number: u32) -> Result<&str, Problem> {
    let mut found = "";
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            found = name(field.bytes()?)?;
        }
    }
    Ok(found)
}

fn value_elem_type(value_info: &[u8]) -> Result<u64, WireError> {
    let mut elem_type = 0;
    for_nested(value_info, &[number::VALUE_TYPE, number::TYPE_TENSOR, number::TENSOR_TYPE_ELEM], &mut |field| {
        elem_type = field.varint()?;
        Ok(())
    })?;
    Ok(elem_type)
}

/// Visits the fields at the end of a path of field numbers.
fn for_nested(message: &[u8], path: &[u32], visit: &mut dyn FnMut(&Field<'_>) -> Result<(), WireError>) -> Result<(), WireError> {
    let Some((first, rest)) = path.split_first() else { return Ok(()) };
    for field in fields(message) {
        let field = field?;
        match (field.number == *first, rest) {
            (true, []) => visit(&field)?,
            (true, rest) => for_nested(field.bytes()?, rest, visit)?,
            _ => {}
        }
    }
    Ok(())
}

/// A declared input or output with float16 elements, when it has float32 ones.
pub(super) fn with_half_elements(value_info: &[u8]) -> Result<Vec<u8>, WireError> {
    rewrite(value_info, &[number::VALUE_TYPE, number::TYPE_TENSOR, number::TENSOR_TYPE_ELEM])
}

fn rewrite(message: &[u8], path: &[u32]) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message) {
        let field = field?;
        match path {
            [only] if field.number == *only && field.varint()? == ELEM_FLOAT => write_number(*only, tensor::ELEM_HALF, &mut out),
            [first, rest @ ..] if !rest.is_empty() && field.number == *first => {
                write_bytes(*first, &rewrite(field.bytes()?, rest)?, &mut out);
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    Ok(out)
}

/// A node with other inputs and outputs; a `Cast` to float32 becomes one to float16 when `is_half`.
pub(super) fn write_node(
    node: &Node<'_>,
    inputs: &[String],
    outputs: &[String],
    is_half: bool,
    out: &mut Vec<u8>,
) -> Result<(), WireError> {
    let mut written = Vec::with_capacity(node.bytes.len() + 64);
    inputs.iter().for_each(|input| write_bytes(field::NODE_INPUT, input.as_bytes(), &mut written));
    outputs.iter().for_each(|output| write_bytes(field::NODE_OUTPUT, output.as_bytes(), &mut written));
    let turns = is_half && node.op == "Cast" && node.attribute_type == ELEM_FLOAT;
    for field in fields(node.bytes) {
        let field = field?;
        match field.number {
            field::NODE_INPUT | field::NODE_OUTPUT => {}
            field::NODE_ATTRIBUTE if turns => {
                write_bytes(field::NODE_ATTRIBUTE, &rewrite(field.bytes()?, &[field::ATTRIBUTE_INT])?, &mut written)
            }
            _ => written.extend_from_slice(field.raw),
        }
    }
    write_bytes(number::GRAPH_NODE, &written, out);
    Ok(())
}

/// A `Cast` between the two forms of a value.
pub(super) fn write_cast(float32: &str, float16: &str, to_float32: bool, out: &mut Vec<u8>) {
    /// `AttributeProto.AttributeType.INT`.
    const TYPE_INT: u64 = 2;
    let (from, to, elem_type) = if to_float32 { (float16, float32, ELEM_FLOAT) } else { (float32, float16, tensor::ELEM_HALF) };
    let mut attribute = Vec::new();
    write_bytes(field::ATTRIBUTE_NAME, b"to", &mut attribute);
    write_number(field::ATTRIBUTE_INT, elem_type, &mut attribute);
    write_number(field::ATTRIBUTE_TYPE, TYPE_INT, &mut attribute);
    let mut node = Vec::new();
    write_bytes(field::NODE_INPUT, from.as_bytes(), &mut node);
    write_bytes(field::NODE_OUTPUT, to.as_bytes(), &mut node);
    write_bytes(field::NODE_OP_TYPE, b"Cast", &mut node);
    write_bytes(field::NODE_ATTRIBUTE, &attribute, &mut node);
    write_bytes(number::GRAPH_NODE, &node, out);
}
