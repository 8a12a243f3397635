//! A run's outputs on the host, in the types that decoders read.

use half::f16;
use ort::{
    session::SessionOutputs,
    value::{DynValue, TensorElementType},
};

use crate::{
    decode::{Tensor, TensorData, Tensors},
    error::one_line,
};

/// Outputs of a run. Other float precisions and small integers are converted, the rest is borrowed.
pub(crate) struct HostOutputs<'a>(Vec<HostOutput<'a>>);

struct HostOutput<'a> {
    name: &'a str,
    dims: Vec<usize>,
    data: Data<'a>,
    /// Size of the output in bytes as returned by the model.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only downloads are counted"))]
    bytes: usize,
}

enum Data<'a> {
    Borrowed(TensorData<'a>),
    Floats(Vec<f32>),
    Integers(Vec<i32>),
}

/// Whether outputs of this `TensorProto.DataType` are supported; an undeclared one is checked when it arrives.
pub(crate) fn is_read(elem_type: u64) -> bool {
    // float32, uint8, int8, int32, int64, bool, float16, float64
    matches!(elem_type, 0..=3 | 6 | 7 | 9..=11)
}

impl<'a> HostOutputs<'a> {
    /// All outputs, or the problem with one.
    pub(crate) fn new(outputs: &'a SessionOutputs<'_>) -> Result<Self, String> {
        let mut found = Vec::with_capacity(outputs.len());
        for name in outputs.keys() {
            let Some(value) = outputs.get(name) else { continue };
            found.push(HostOutput::new(name, value).map_err(|error| format!("output '{name}': {error}"))?);
        }
        Ok(Self(found))
    }

    /// Bytes of all outputs.
    #[cfg(feature = "cuda")]
    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(|output| output.bytes).sum()
    }

    /// As decoders take them.
    pub(crate) fn tensors(&self) -> Tensors<'_> {
        Tensors::new(self.0.iter().map(HostOutput::tensor).collect())
    }
}

impl<'a> HostOutput<'a> {
    fn new(name: &'a str, value: &'a DynValue) -> Result<Self, String> {
        use TensorElementType as Type;
        match value.dtype().tensor_type() {
            Some(Type::Float32) => Self::of(name, value, |data| Data::Borrowed(TensorData::F32(data))),
            Some(Type::Int64) => Self::of(name, value, |data| Data::Borrowed(TensorData::I64(data))),
            Some(Type::Int32) => Self::of(name, value, |data| Data::Borrowed(TensorData::I32(data))),
            Some(Type::Float16) => Self::of(name, value, |data: &[f16]| Data::Floats(data.iter().map(|value| value.to_f32()).collect())),
            Some(Type::Float64) => Self::of(name, value, |data: &[f64]| Data::Floats(data.iter().map(|value| *value as f32).collect())),
            Some(Type::Uint8) => Self::of(name, value, |data: &[u8]| Data::Integers(data.iter().map(|value| i32::from(*value)).collect())),
            Some(Type::Int8) => Self::of(name, value, |data: &[i8]| Data::Integers(data.iter().map(|value| i32::from(*value)).collect())),
            Some(Type::Bool) => Self::of(name, value, |data: &[bool]| Data::Integers(data.iter().map(|value| i32::from(*value)).collect())),
            Some(other) => Err(format!("elements of type {other:?} are not supported; export the model with float32 outputs")),
            None => Err("is not a tensor".into()),
        }
    }

    fn of<T: ort::value::PrimitiveTensorElementType + 'a>(
        name: &'a str,
        value: &'a DynValue,
        data: impl FnOnce(&'a [T]) -> Data<'a>,
    ) -> Result<Self, String> {
        let (shape, elements) = value.try_extract_tensor::<T>().map_err(|error| one_line(&error))?;
        let dims = shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
        Ok(Self { name, dims, bytes: size_of_val(elements), data: data(elements) })
    }

    fn tensor(&self) -> Tensor<'_> {
        let data = match &self.data {
            Data::Borrowed(data) => *data,
            Data::Floats(floats) => TensorData::F32(floats),
            Data::Integers(integers) => TensorData::I32(integers),
        };
        Tensor { name: self.name, dims: self.dims.clone(), data }
    }
}
