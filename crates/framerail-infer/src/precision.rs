//! The arithmetic of a model.

use std::{fmt, str::FromStr};

use serde::Deserialize;

use crate::InferError;

/// The arithmetic of a model: float32 as the file stands, float16 by conversion on loading, bfloat16 inside the provider's kernels, or
/// 8-bit integers in a model that `framerail quantize` made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The model card's: float32 unless the model is quantised. On CUDA, convolutions and products of float32 models then
    /// use TF32, which rounds their inputs to ten bits of mantissa, unless that is switched off.
    #[default]
    Auto,
    /// Float32.
    Fp32,
    /// Float16: half the memory, and on a GPU at least twice the speed; scores differ in the third digit. On the CPU it is slower, and
    /// useful for comparison only.
    Fp16,
    /// Bfloat16 products with float32 sums, on the CPU: by OpenVINO on x86, by ONNX Runtime on ARM. Faster where the CPU multiplies
    /// bfloat16 in hardware (AMX, or BF16 of ARMv8.6).
    Bf16,
    /// 8-bit integers, on the CPU: the quantised model that lies beside the float32 one.
    Int8,
}

impl Precision {
    const ALL: [(Precision, &str); 5] = [
        (Precision::Auto, "auto"),
        (Precision::Fp32, "fp32"),
        (Precision::Fp16, "fp16"),
        (Precision::Bf16, "bf16"),
        (Precision::Int8, "int8"),
    ];

    /// Whether the model is converted to float16.
    pub fn is_half(self) -> bool {
        self == Precision::Fp16
    }

    /// Whether it runs on the CPU only.
    pub fn is_of_the_cpu(self) -> bool {
        matches!(self, Precision::Bf16 | Precision::Int8)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(precision, _)| precision == self).map_or("auto", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Precision {
    type Err = InferError;

    /// Parses `auto`, `fp32`, `fp16`, `bf16` or `int8`.
    fn from_str(text: &str) -> Result<Self, InferError> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(precision, _)| *precision);
        let reason = || "give auto, fp32, fp16, bf16 or int8".into();
        found.ok_or_else(|| InferError::Option { option: "precision", given: text.to_owned(), reason: reason() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for (precision, name) in Precision::ALL {
            assert_eq!((precision.to_string().as_str(), name.parse::<Precision>().ok()), (name, Some(precision)));
        }
        assert_eq!(
            "int4".parse::<Precision>().err().map(|error| error.to_string()),
            Some("precision=int4: give auto, fp32, fp16, bf16 or int8".into())
        );
    }
}
