//! The arithmetic that a model runs in.

use std::{fmt, str::FromStr};

use crate::InferError;

/// Float32 as the model stands, or float16 by conversion on loading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// Float32: what the model was made for. On CUDA, convolutions and products then use TF32, which rounds their inputs to ten
    /// bits of mantissa, unless that is switched off.
    #[default]
    Auto,
    /// Float32.
    Fp32,
    /// Float16: half the memory, and on a card twice the speed and more; scores differ in the third digit. On the CPU it is slower,
    /// and good for comparing only.
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

    /// Reads `auto`, `fp32` or `fp16`.
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
