//! Frames as tensors: the description of a tensor, and the conversion on the host.

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
