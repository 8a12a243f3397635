//! The arithmetic of a model.

use std::{fmt, str::FromStr};

use crate::InferError;

/// Float32 as in the model, or float16 by conversion on loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Float32: the model's own precision. On CUDA, convolutions and products use TF32 by default, which rounds their inputs to ten
    /// mantissa bits.
    #[default]
    Auto,
    /// Float32.
    Fp32,
    /// Float16: half the memory, and on a GPU at least twice the speed; scores differ in the third digit. On the CPU it is slower, and
    /// useful for comparison only.
    Fp16,
}

impl Precision {
    /// Whether the model is converted to float16.
    pub fn is_half(self) -> bool {
        self == Precision::Fp16
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::Fp32 => "fp32",
            Precision::Fp16 => "fp16",
        })
    }
}

impl FromStr for Precision {
    type Err = InferError;

    /// Parses `auto`, `fp32` or `fp16`.
    fn from_str(text: &str) -> Result<Self, InferError> {
        match text {
            "auto" => Ok(Precision::Auto),
            "fp32" => Ok(Precision::Fp32),
            "fp16" => Ok(Precision::Fp16),
            _ => Err(InferError::Option { option: "precision", given: text.to_owned(), reason: "give auto, fp32 or fp16".into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for precision in [Precision::Auto, Precision::Fp32, Precision::Fp16] {
            assert_eq!(precision.to_string().parse::<Precision>().ok(), Some(precision));
        }
        assert_eq!(
            "int8".parse::<Precision>().err().map(|error| error.to_string()),
            Some("precision=int8: give auto, fp32 or fp16".into())
        );
    }
}
