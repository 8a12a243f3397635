//! A model's outputs as slices with shapes.

use std::borrow::Cow;

/// The elements of an output, borrowed from the runtime.
#[derive(Clone, Copy, Debug)]
pub enum TensorData<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// 64-bit integers.
    I64(&'a [i64]),
    /// 32-bit integers.
    I32(&'a [i32]),
}

/// One output: its axes and elements, last axis fastest.
#[derive(Clone, Debug)]
pub struct Tensor<'a> {
    /// Name of the output.
    pub name: &'a str,
    /// Sizes of the axes; their product is the number of elements.
    pub dims: Vec<usize>,
    /// The elements.
    pub data: TensorData<'a>,
}

impl<'a> Tensor<'a> {
    /// The elements, when they are floats.
    pub fn floats(&self) -> Option<&'a [f32]> {
        match self.data {
            TensorData::F32(data) => Some(data),
            _ => None,
        }
    }
}

/// All outputs of one run.
#[derive(Clone, Debug, Default)]
pub struct Tensors<'a> {
    tensors: Vec<Tensor<'a>>,
}

/// The floats of one item of a batch, with the axes after the batch's.
#[derive(Clone, Debug)]
pub(crate) struct ItemTensor<'a> {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: &'a [f32],
}

impl<'a> Tensors<'a> {
    /// Outputs by name.
    pub fn new(tensors: Vec<Tensor<'a>>) -> Self {
        Self { tensors }
    }

    /// The outputs, in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = &Tensor<'a>> {
        self.tensors.iter()
    }

    fn named(&self, name: &str) -> Result<&Tensor<'a>, String> {
        self.tensors.iter().find(|tensor| tensor.name == name).ok_or_else(|| format!("output '{name}' is missing"))
    }

    /// The floats of batch item `item`, which has `rank` axes beside the batch's. The batch axis may be missing for the first item.
    pub(crate) fn item(&self, name: &str, item: usize, rank: usize) -> Result<ItemTensor<'a>, String> {
        let tensor = self.named(name)?;
        let TensorData::F32(data) = tensor.data else { return Err(format!("output '{name}' holds integers, floats were expected")) };
        let (dims, range) = item_range(tensor, item, rank)?;
        let data = data.get(range).ok_or_else(|| format!("output '{name}' is shorter than its shape"))?;
        Ok(ItemTensor { dims, data })
    }

    /// Number of axes of an output, the batch's among them.
    pub(crate) fn rank(&self, name: &str) -> Result<usize, String> {
        self.named(name).map(|tensor| tensor.dims.len())
    }

    /// The axes of batch item `item` beside the batch's, whatever the elements.
    pub(crate) fn dims(&self, name: &str, item: usize, rank: usize) -> Result<Vec<usize>, String> {
        item_range(self.named(name)?, item, rank).map(|(dims, _)| dims)
    }

    /// All floats of batch item `item`, whatever their axes; an output with one axis holds the first item's.
    pub(crate) fn flat(&self, name: &str, item: usize) -> Result<&'a [f32], String> {
        let rank = self.rank(name)?;
        self.item(name, item, if rank > 1 { rank - 1 } else { rank }).map(|item| item.data)
    }

    /// The same as integers: class numbers and counts, which models return as integers or floats.
    pub(crate) fn integers(&self, name: &str, item: usize, rank: usize) -> Result<Cow<'a, [i64]>, String> {
        let tensor = self.named(name)?;
        let (_, range) = item_range(tensor, item, rank)?;
        let short = || format!("output '{name}' is shorter than its shape");
        match tensor.data {
            TensorData::I64(data) => data.get(range).map(Cow::Borrowed).ok_or_else(short),
            TensorData::I32(data) => Ok(data.get(range).ok_or_else(short)?.iter().map(|value| i64::from(*value)).collect()),
            // `as` saturates, and gives 0 for NaN.
            TensorData::F32(data) => Ok(data.get(range).ok_or_else(short)?.iter().map(|value| *value as i64).collect()),
        }
    }
}

/// The axes after the batch's, and the elements that belong to one item.
fn item_range(tensor: &Tensor<'_>, item: usize, rank: usize) -> Result<(Vec<usize>, std::ops::Range<usize>), String> {
    let name = tensor.name;
    let wrong = || format!("output '{name}' has shape {:?}; expected {rank} axes after the batch, and item {item}", tensor.dims);
    let dims: Vec<usize> = match tensor.dims.len() {
        axes if axes == rank + 1 && tensor.dims.first().is_some_and(|batch| item < *batch) => tensor.dims.iter().skip(1).copied().collect(),
        axes if axes == rank && item == 0 => tensor.dims.clone(),
        _ => return Err(wrong()),
    };
    let length = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim)).ok_or_else(wrong)?;
    let start = length.checked_mul(item).ok_or_else(wrong)?;
    let end = start.checked_add(length).ok_or_else(wrong)?;
    Ok((dims, start..end))
}
