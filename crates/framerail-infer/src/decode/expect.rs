//! Expected outputs of a decoder, checked against the model's declarations.

use crate::{
    onnx::{Declared, Dim},
    outputs::is_read,
};

/// An output that a decoder reads.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) name: String,
    pub(crate) form: Form,
}

/// The expected form of an output.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    /// One of these shapes, with `None` for axes of any size.
    Shapes(Vec<Vec<Option<usize>>>),
    /// This many elements after the batch axis, in any shape.
    Elements(usize),
    /// Unknown.
    Anything,
}

impl Expected {
    pub(crate) fn new(name: &str, shapes: &[&[Option<usize>]]) -> Self {
        Self { name: name.to_owned(), form: Form::Shapes(shapes.iter().map(|shape| shape.to_vec()).collect()) }
    }

    pub(crate) fn elements(name: &str, count: usize) -> Self {
        Self { name: name.to_owned(), form: Form::Elements(count) }
    }

    pub(crate) fn anything(name: &str) -> Self {
        Self { name: name.to_owned(), form: Form::Anything }
    }

    /// Checks that the model has this output in a matching shape; otherwise returns the problem.
    pub(crate) fn check(&self, outputs: &[Declared]) -> Result<(), String> {
        let Some(output) = outputs.iter().find(|output| output.name == self.name) else {
            let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
            return Err(format!("output '{}' is not in the model; it has: {}", self.name, names.join(", ")));
        };
        if !is_read(output.elem_type) {
            return Err(format!("output {output} has an unsupported element type; export it as float32, or as int64 for class numbers"));
        }
        // An output without a declared shape is checked when it arrives.
        let Some(dims) = &output.dims else { return Ok(()) };
        match &self.form {
            Form::Shapes(shapes) if !shapes.iter().any(|shape| fits(shape, dims)) => {
                let shapes: Vec<String> = shapes.iter().map(|shape| describe(shape)).collect();
                Err(format!("output {output} should be {}", shapes.join(" or ")))
            }
            Form::Elements(count) if !holds(dims, *count) => Err(format!("output {output} should have {count} values per image")),
            _ => Ok(()),
        }
    }
}

fn fits(shape: &[Option<usize>], dims: &[Dim]) -> bool {
    shape.len() == dims.len()
        && shape.iter().zip(dims).all(|(expected, dim)| match (expected, dim) {
            (Some(size), Dim::Fixed(declared)) => *declared == *size as i64,
            _ => true,
        })
}

/// Whether the axes may have this many elements, with or without a batch axis.
fn holds(dims: &[Dim], count: usize) -> bool {
    let sizes: Vec<Option<usize>> =
        dims.iter().map(|dim| if let Dim::Fixed(size) = dim { usize::try_from(*size).ok() } else { None }).collect();
    let product = |sizes: &[Option<usize>]| sizes.iter().try_fold(1_usize, |product, size| product.checked_mul((*size)?));
    let matches = |sizes: &[Option<usize>]| sizes.contains(&None) || product(sizes) == Some(count);
    matches(&sizes) || sizes.split_first().is_some_and(|(_, rest)| matches(rest))
}

fn describe(shape: &[Option<usize>]) -> String {
    let axes: Vec<String> = shape.iter().map(|axis| axis.map_or("?".to_owned(), |size| size.to_string())).collect();
    format!("[{}]", axes.join(","))
}
