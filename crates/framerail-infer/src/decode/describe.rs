//! Results for an image as a whole.

use framerail_core::AttributeValue;

use super::{Seen, Tensors};

/// Decodes the result for one image, or one part of a frame, as a whole. Created for one input size.
pub(crate) trait Describe: Send {
    /// The result, with positions in frame pixels; `confidence` is the minimum score.
    ///
    /// # Errors
    /// What is wrong with the outputs' shapes.
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, confidence: f32) -> Result<Described, String>;
}

/// A model's result for an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Described {
    /// The result and its score, 0 to 1.
    Found { value: AttributeValue, score: f32 },
    /// Nothing above the threshold.
    Nothing,
    /// NaN or infinite values.
    NotFinite,
}

impl Described {
    pub(crate) fn found(value: AttributeValue, score: f32) -> Self {
        Described::Found { value, score }
    }
}
