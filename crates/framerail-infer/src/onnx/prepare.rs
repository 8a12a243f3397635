//! Edits that prepare a model for one input size.

use std::collections::HashSet;

use super::{
    number, text,
    wire::{Field, WireError, fields, write_bytes, write_number},
};

/// The requested shape of an input: axes in the model's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Name of the input.
    pub name: String,
    /// Its axes; `None` leaves one open for each run.
    pub dims: Vec<Option<u64>>,
}

/// The changes to a model.
pub(super) struct Edit<'a> {
    pub(super) drop_initializer_inputs: bool,
    /// Outputs to keep; all when `None`.
    pub(super) outputs: Option<&'a [&'a str]>,
    pub(super) initializers: &'a HashSet<String>,
    /// Of inputs that are given in each run.
    pub(super) shapes: &'a [InputShape],
}

impl Edit<'_> {
    pub(super) fn model(&self, bytes: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(bytes.len() + 256);
        for field in fields(bytes) {
            let field = field?;
            if field.number == number::MODEL_GRAPH {
                write_bytes(number::MODEL_GRAPH, &self.graph(field.bytes()?)?, &mut out);
            } else {
                out.extend_from_slice(field.raw);
            }
        }
        Ok(out)
    }

    fn graph(&self, graph: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(graph.len() + 256);
        for field in fields(graph) {
            let field = field?;
            match field.number {
                number::GRAPH_INPUT => self.input(&field, &mut out)?,
                // A value that is passed in each run is not a constant.
                number::GRAPH_INITIALIZER if self.shape_of(&tensor_name(&field)?).is_some() => {}
                number::GRAPH_OUTPUT => {
                    let name = name_of(&field)?;
                    if self.outputs.is_none_or(|keep| keep.contains(&name.as_str())) {
                        write_bytes(field.number, &with_open_shape(field.bytes()?)?, &mut out);
                    }
                }
                // Intermediate shapes were inferred for the declared size; the runtime infers them again.
                number::GRAPH_VALUE_INFO => write_bytes(field.number, &without_shape(field.bytes()?)?, &mut out),
                _ => out.extend_from_slice(field.raw),
            }
        }
        Ok(out)
    }

    fn shape_of(&self, name: &str) -> Option<&InputShape> {
        self.shapes.iter().find(|shape| shape.name == name)
    }

    fn input(&self, field: &Field<'_>, out: &mut Vec<u8>) -> Result<(), WireError> {
        let name = name_of(field)?;
        if let Some(shape) = self.shape_of(&name) {
            let shape = encode_shape(&shape.dims);
            write_bytes(field.number, &map_shape(field.bytes()?, |_| Ok(Some(shape.clone())))?, out);
        } else if !(self.drop_initializer_inputs && self.initializers.contains(&name)) {
            out.extend_from_slice(field.raw);
        }
        Ok(())
    }
}

fn tensor_name(tensor: &Field<'_>) -> Result<String, WireError> {
    let mut name = String::new();
    for field in fields(tensor.bytes()?) {
        let field = field?;
        if field.number == number::TENSOR_NAME {
            name = text(field.bytes()?);
        }
    }
    Ok(name)
}

pub(super) fn name_of(value_info: &Field<'_>) -> Result<String, WireError> {
    let mut name = String::new();
    for field in fields(value_info.bytes()?) {
        let field = field?;
        if field.number == number::VALUE_NAME {
            name = text(field.bytes()?);
        }
    }
    Ok(name)
}

/// The same value with as many axes, each of open size.
fn with_open_shape(value_info: &[u8]) -> Result<Vec<u8>, WireError> {
    map_shape(value_info, |shape| {
        let mut open = Vec::new();
        for dim in fields(shape) {
            if dim?.number == number::SHAPE_DIM {
                write_bytes(number::SHAPE_DIM, &[], &mut open);
            }
        }
        Ok(Some(open))
    })
}

/// The same value with its element type only.
fn without_shape(value_info: &[u8]) -> Result<Vec<u8>, WireError> {
    map_shape(value_info, |_| Ok(None))
}

/// Rewrites the shape in `ValueInfoProto.type.tensor_type`, or leaves it out; the rest is kept.
/// A tensor that declares no shape is given what `change` makes of an empty one.
fn map_shape(value_info: &[u8], change: impl Fn(&[u8]) -> Result<Option<Vec<u8>>, WireError>) -> Result<Vec<u8>, WireError> {
    map_field(value_info, number::VALUE_TYPE, |type_proto| {
        map_field(type_proto, number::TYPE_TENSOR, |tensor| {
            let (mut out, mut shape) = (Vec::with_capacity(tensor.len()), None);
            for field in fields(tensor) {
                let field = field?;
                match field.number {
                    number::TENSOR_TYPE_SHAPE => shape = Some(field.bytes()?),
                    _ => out.extend_from_slice(field.raw),
                }
            }
            if let Some(changed) = change(shape.unwrap_or_default())? {
                // An open shape of no axes would mean a scalar: say nothing instead.
                if shape.is_some() || !changed.is_empty() {
                    write_bytes(number::TENSOR_TYPE_SHAPE, &changed, &mut out);
                }
            }
            Ok(out)
        })
    })
}

/// Rewrites one message field and keeps the others.
fn map_field(message: &[u8], number: u32, change: impl Fn(&[u8]) -> Result<Vec<u8>, WireError>) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(message.len());
    for field in fields(message) {
        let field = field?;
        if field.number == number {
            write_bytes(number, &change(field.bytes()?)?, &mut out);
        } else {
            out.extend_from_slice(field.raw);
        }
    }
    Ok(out)
}

fn encode_shape(dims: &[Option<u64>]) -> Vec<u8> {
    let mut shape = Vec::new();
    for dim in dims {
        let mut encoded = Vec::new();
        if let Some(size) = dim {
            write_number(number::DIM_VALUE, *size, &mut encoded);
        }
        write_bytes(number::SHAPE_DIM, &encoded, &mut shape);
    }
    shape
}
