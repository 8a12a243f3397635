//! Pictures as tensors: what a tensor is like, and its making on the host.

mod converter;
mod filter;
mod options;
mod output;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod tone;

pub use converter::TensorConverter;
pub use options::{Cut, TensorOptions, TensorSize, ToneMap};
