//! What a model says of a picture as a whole.

use framerail_core::AttributeValue;

use super::{Seen, Tensors};

/// Reads what a model says of one picture, or of one part of a frame, as a whole. Made for one input size.
pub(crate) trait Describe: Send {
    /// What is said, with places in frame pixels; `confidence` is the least score of what counts.
    ///
    /// # Errors
    /// What is wrong with the outputs' shapes.
    fn describe(&self, tensors: &Tensors<'_>, item: usize, seen: &Seen, confidence: f32) -> Result<Described, String>;
}

/// A model's word on a picture.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Described {
    /// What it says, and how sure it is, 0 to 1.
    Found { value: AttributeValue, score: f32 },
    /// Nothing that is sure enough.
    Nothing,
    /// Numbers that are none.
    NotFinite,
}

impl Described {
    pub(crate) fn found(value: AttributeValue, score: f32) -> Self {
        Described::Found { value, score }
    }
}
