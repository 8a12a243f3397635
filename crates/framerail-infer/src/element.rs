//! Element types of model inputs and outputs.

use framerail_core::DType;
use half::f16;
use ort::{
    session::SessionInputValue,
    value::{PrimitiveTensorElementType, TensorElementType, TensorRef},
};

/// A type of elements that inputs and outputs of models have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F16,
    U8,
    Bool,
    I32,
    I64,
}

impl Element {
    /// From ONNX Runtime's type; `None` for types that are neither fed nor bound.
    pub(crate) fn of(element: TensorElementType) -> Option<Self> {
        match element {
            TensorElementType::Float32 => Some(Element::F32),
            TensorElementType::Float16 => Some(Element::F16),
            TensorElementType::Uint8 => Some(Element::U8),
            TensorElementType::Bool => Some(Element::Bool),
            TensorElementType::Int32 => Some(Element::I32),
            TensorElementType::Int64 => Some(Element::I64),
            _ => None,
        }
    }

    /// By the number of `TensorProto.DataType`.
    pub(crate) fn of_declared(elem_type: u64) -> Option<Self> {
        match elem_type {
            1 => Some(Element::F32),
            2 => Some(Element::U8),
            6 => Some(Element::I32),
            7 => Some(Element::I64),
            9 => Some(Element::Bool),
            10 => Some(Element::F16),
            _ => None,
        }
    }

    /// As an image type; `None` for types without image inputs.
    pub(crate) fn image_dtype(self) -> Option<DType> {
        match self {
            Element::F32 => Some(DType::F32),
            Element::F16 => Some(DType::F16),
            Element::U8 => Some(DType::U8),
            Element::Bool | Element::I32 | Element::I64 => None,
        }
    }

    /// Size of an element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Element::U8 | Element::Bool => 1,
            Element::F16 => 2,
            Element::F32 | Element::I32 => 4,
            Element::I64 => 8,
        }
    }
}

/// Elements in host memory.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Elements {
    F32(Vec<f32>),
    F16(Vec<f16>),
    U8(Vec<u8>),
    Bool(Vec<bool>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// The nearest value of 0 to 255, ties to even, as GPU kernels round; 0 for NaN.
fn byte(value: f32) -> u8 {
    value.round_ties_even().clamp(0.0, 255.0) as u8
}

impl Elements {
    /// This many zeros.
    pub(crate) fn zeros(element: Element, count: usize) -> Self {
        match element {
            Element::F32 => Elements::F32(vec![0.0; count]),
            Element::F16 => Elements::F16(vec![f16::ZERO; count]),
            Element::U8 => Elements::U8(vec![0; count]),
            Element::Bool => Elements::Bool(vec![false; count]),
            Element::I32 => Elements::I32(vec![0; count]),
            Element::I64 => Elements::I64(vec![0; count]),
        }
    }

    pub(crate) fn element(&self) -> Element {
        match self {
            Elements::F32(_) => Element::F32,
            Elements::F16(_) => Element::F16,
            Elements::U8(_) => Element::U8,
            Elements::Bool(_) => Element::Bool,
            Elements::I32(_) => Element::I32,
            Elements::I64(_) => Element::I64,
        }
    }

    #[cfg(feature = "cuda")]
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Elements::F32(elements) => size_of_val(elements.as_slice()),
            Elements::F16(elements) => size_of_val(elements.as_slice()),
            Elements::U8(elements) => size_of_val(elements.as_slice()),
            Elements::Bool(elements) => size_of_val(elements.as_slice()),
            Elements::I32(elements) => size_of_val(elements.as_slice()),
            Elements::I64(elements) => size_of_val(elements.as_slice()),
        }
    }

    /// Writes numbers from element `start` on: rounded and clipped for integers; for `Bool`, whether they are not 0.
    pub(crate) fn write(&mut self, start: usize, values: &[f32]) {
        fn put<T>(elements: &mut [T], start: usize, values: &[f32], element: impl Fn(f32) -> T) {
            let places = elements.iter_mut().skip(start);
            places.zip(values).for_each(|(place, value)| *place = element(*value));
        }
        match self {
            Elements::F32(elements) => put(elements, start, values, |value| value),
            Elements::F16(elements) => put(elements, start, values, f16::from_f32),
            Elements::U8(elements) => put(elements, start, values, byte),
            Elements::Bool(elements) => put(elements, start, values, |value| value != 0.0),
            // `as` saturates.
            Elements::I32(elements) => put(elements, start, values, |value| value.round_ties_even() as i32),
            Elements::I64(elements) => put(elements, start, values, |value| value.round_ties_even() as i64),
        }
    }

    /// The first elements, as many as `dims` need, as an input of a run.
    pub(crate) fn input(&self, dims: &[i64]) -> ort::Result<SessionInputValue<'_>> {
        fn view<'a, T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
            elements: &'a [T],
            dims: &[i64],
        ) -> ort::Result<SessionInputValue<'a>> {
            let count = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?));
            let elements = count.and_then(|count| elements.get(..count));
            let elements = elements.ok_or_else(|| ort::Error::new(format!("an input of {dims:?} is larger than its buffer")))?;
            Ok(TensorRef::from_array_view((dims.to_vec(), elements))?.into())
        }
        match self {
            Elements::F32(elements) => view(elements, dims),
            Elements::F16(elements) => view(elements, dims),
            Elements::U8(elements) => view(elements, dims),
            Elements::Bool(elements) => view(elements, dims),
            Elements::I32(elements) => view(elements, dims),
            Elements::I64(elements) => view(elements, dims),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_the_nearest_elements() {
        let values = [-3.0, 0.5, 1.5, 127.4, 254.6, 300.0, f32::NAN];
        let of = |element| {
            let mut elements = Elements::zeros(element, 8);
            elements.write(1, &values);
            elements
        };
        assert_eq!(of(Element::U8), Elements::U8(vec![0, 0, 0, 2, 127, 255, 255, 0]));
        assert_eq!(of(Element::I32), Elements::I32(vec![0, -3, 0, 2, 127, 255, 300, 0]));
        assert_eq!(of(Element::Bool), Elements::Bool(vec![false, true, true, true, true, true, true, true]));
        let Elements::F16(halves) = of(Element::F16) else { unreachable!("float16 was asked for") };
        assert_eq!(halves[4].to_f32(), 127.375);
        let mut longer = Elements::zeros(Element::I64, 2);
        longer.write(1, &values);
        assert_eq!(longer, Elements::I64(vec![0, -3]), "what does not fit is left out");
    }
}
