//! What a decoder expects of a model's outputs, checked against what the model declares.

use crate::onnx::{Declared, Dim};

/// An output that a decoder reads: the shapes that it may have, with `None` for axes of any size.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) shapes: Vec<Vec<Option<usize>>>,
}

impl Expected {
    pub(crate) fn new(name: &str, shapes: &[&[Option<usize>]]) -> Self {
        Self { name: name.to_owned(), shapes: shapes.iter().map(|shape| shape.to_vec()).collect() }
    }

    /// Whether the model has this output in a fitting shape; else what is wrong.
    pub(crate) fn check(&self, outputs: &[Declared]) -> Result<(), String> {
        let Some(output) = outputs.iter().find(|output| output.name == self.name) else {
            let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(format!("output '{}' is not in the model; it has: {}", self.name, names.join(", ")));
        };
        // An output without a declared shape is looked at when it comes.
        let Some(dims) = &output.dims else { return Ok(()) };
        if self.shapes.iter().any(|shape| fits(shape, dims)) {
            return Ok(());
        }
        let shapes: Vec<String> = self.shapes.iter().map(|shape| describe(shape)).collect();
        Err(format!("output {output} should be {}", shapes.join(" or ")))
    }
}

fn fits(shape: &[Option<usize>], dims: &[Dim]) -> bool {
    shape.len() == dims.len()
        && shape.iter().zip(dims).all(|(expected, dim)| match (expected, dim) {
            (Some(size), Dim::Fixed(declared)) => *declared == *size as i64,
            _ => true,
        })
}

fn describe(shape: &[Option<usize>]) -> String {
    let axes: Vec<String> = shape.iter().map(|axis| axis.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", axes.join(","))
}
