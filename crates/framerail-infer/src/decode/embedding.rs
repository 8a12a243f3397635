//! A vector for the whole image, for re-identification.

use framerail_core::AttributeValue;
use serde::Deserialize;

use super::{Describe, Described, Expected, KeyError, Seen, Tensors, ensure};

/// Parameters of an embedding model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingCard {
    /// Output with the vector, with any axes after the batch.
    pub output: String,
    /// Values of the vector; checked against the model when given.
    pub length: Option<usize>,
    /// Whether vectors are normalised to length 1, so that their dot product is the cosine of their angle.
    #[serde(default)]
    pub normalize: bool,
}

impl EmbeddingCard {
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        ensure(self.length.is_none_or(|length| (1..=1_000_000).contains(&length)), "length", "1 to 1000000")
    }

    pub(crate) fn expected(&self) -> Vec<Expected> {
        vec![self.length.map_or_else(|| Expected::anything(&self.output), |length| Expected::elements(&self.output, length))]
    }
}

/// Decodes vectors.
pub(crate) struct Embedding(pub(crate) EmbeddingCard);

impl Describe for Embedding {
    fn describe(&self, tensors: &Tensors<'_>, item: usize, _: &Seen, _: f32) -> Result<Described, String> {
        let mut vector = tensors.flat(&self.0.output, item)?.to_vec();
        if self.0.length.is_some_and(|length| length != vector.len()) || vector.is_empty() {
            return Err(format!("output '{}' has {} values; the card states {:?}", self.0.output, vector.len(), self.0.length));
        }
        if self.0.normalize {
            let norm = vector.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
            // A vector of zeros has no direction.
            vector.iter_mut().for_each(|value| *value = (f64::from(*value) / norm) as f32);
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Ok(Described::NotFinite);
        }
        Ok(Described::found(AttributeValue::Embedding(vector.into()), 1.0))
    }
}
