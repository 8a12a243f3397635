//! Pictures as tensors: what a tensor is like, and its making on the host.

mod converter;
mod options;
mod output;
mod rows;
#[cfg(test)]
mod tests;
mod tone;

pub use converter::TensorConverter;
pub use options::{TensorOptions, ToneMap};
