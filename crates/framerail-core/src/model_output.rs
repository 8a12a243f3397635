//! How to interpret the numbers in a model's output.

use serde::{Deserialize, Serialize};

use crate::BBox;

/// The format of a box's four numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxForm {
    /// Left, top, right, bottom.
    #[default]
    Xyxy,
    /// Top, left, bottom, right.
    Yxyx,
    /// Centre x, centre y, width, height.
    Cxcywh,
    /// Left, top, width, height.
    Xywh,
}

impl BoxForm {
    /// Converts four numbers to a box.
    pub fn bbox(self, [a, b, c, d]: [f32; 4]) -> BBox {
        match self {
            BoxForm::Xyxy => BBox::from_xyxy(a, b, c, d),
            BoxForm::Yxyx => BBox::from_xyxy(b, a, d, c),
            BoxForm::Cxcywh => BBox::from_cxcywh(a, b, c, d),
            BoxForm::Xywh => BBox::from_xyxy(a, b, a + c, b + d),
        }
    }
}

/// The activation function that still has to be applied to a model's scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// None: scores are probabilities.
    #[default]
    None,
    /// Independently per score: `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Over the classes of a box: `exp(x) / Σ exp`.
    Softmax,
}

impl Activation {
    /// Converts the raw scores of one box to probabilities.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            Activation::None => {}
            Activation::Sigmoid => scores.iter_mut().for_each(|score| *score = sigmoid(*score)),
            Activation::Softmax => {
                let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
                let sum: f32 = scores.iter().sum();
                scores.iter_mut().for_each(|score| *score /= sum);
            }
        }
    }
}

/// `1 / (1 + exp(-x))`.
pub fn sigmoid(value: f32) -> f32 {
    1.0 / (1.0 + (-value).exp())
}
