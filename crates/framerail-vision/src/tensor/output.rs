//! Where the rows of a tensor are written.

use framerail_core::{DType, TensorLayout};
use half::{bf16, f16};

use super::source::MOST_CHANNELS;
use crate::{VisionError, fixed_kernels::interleave_elements, kernels};

/// A range of rows of one frame's tensor: one slice per channel, or one for all when they are interleaved.
pub(super) struct RowsOut<'a, 'b> {
    pub slices: &'a mut [&'b mut [u8]],
    pub layout: TensorLayout,
    pub dtype: DType,
    pub channels: usize,
    /// Columns of the whole tensor.
    pub width: usize,
}

impl RowsOut<'_, '_> {
    /// The bytes of `columns` pixels from column `left` of the range's row `row`, in one slice.
    pub fn row(&mut self, slice: usize, row: usize, left: usize, columns: usize) -> &mut [u8] {
        let pixel = self.pixel_bytes();
        let start = (row * self.width + left) * pixel;
        let slice = self.slices.get_mut(slice).map(|slice| &mut **slice).unwrap_or_default();
        slice.get_mut(start..start + columns * pixel).unwrap_or_default()
    }

    /// Whole rows of one slice, from row `row` of the range on.
    pub fn rows<const ROWS: usize>(&mut self, slice: usize, row: usize) -> [&mut [u8]; ROWS] {
        let row_bytes = self.width * self.pixel_bytes();
        let slice = self.slices.get_mut(slice).map(|slice| &mut **slice).unwrap_or_default();
        let rows = slice.get_mut(row * row_bytes..(row + ROWS) * row_bytes).unwrap_or_default();
        let mut rows = rows.chunks_exact_mut(row_bytes.max(1));
        std::array::from_fn(|_| rows.next().unwrap_or_default())
    }

    /// Whole rows of the three channels' slices; empty where a slice or row is missing.
    pub fn planes<const ROWS: usize>(&mut self, row: usize) -> [[&mut [u8]; ROWS]; 3] {
        let row_bytes = self.width * self.pixel_bytes();
        let mut slices = self.slices.iter_mut();
        std::array::from_fn(|_| {
            let slice = slices.next().and_then(|slice| slice.get_mut(row * row_bytes..(row + ROWS) * row_bytes)).unwrap_or_default();
            let mut rows = slice.chunks_exact_mut(row_bytes.max(1));
            std::array::from_fn(|_| rows.next().unwrap_or_default())
        })
    }

    /// Bytes per pixel in one slice.
    fn pixel_bytes(&self) -> usize {
        let elements = if self.layout == TensorLayout::Thwc { self.channels } else { 1 };
        elements * self.dtype.size_bytes()
    }

    /// Fills pixels with padding.
    pub fn fill(&mut self, row: usize, left: usize, columns: usize, padding: &[f32; MOST_CHANNELS]) {
        let size = self.dtype.size_bytes();
        let bytes = padding.map(|value| element_bytes(self.dtype, value));
        for slice in 0..self.slices.len() {
            let channels = if self.layout == TensorLayout::Thwc { 0..self.channels } else { slice..slice + 1 };
            let pixel: Vec<u8> = bytes.get(channels).unwrap_or_default().iter().flat_map(|bytes| &bytes[..size]).copied().collect();
            let out = self.row(slice, row, left, columns);
            if let [first, rest @ ..] = &pixel[..]
                && rest.iter().all(|byte| byte == first)
            {
                out.fill(*first);
                continue;
            }
            for out in out.chunks_exact_mut(pixel.len().max(1)) {
                out.copy_from_slice(&pixel);
            }
        }
    }

    /// Stores a row of elements that `make` writes channel by channel.
    pub fn put(
        &mut self,
        row: usize,
        left: usize,
        columns: usize,
        scratch: &mut [Vec<u8>; MOST_CHANNELS],
        make: impl FnOnce(&mut [&mut [u8]]) -> Result<(), VisionError>,
    ) -> Result<(), VisionError> {
        let size = self.dtype.size_bytes();
        if self.layout == TensorLayout::Tchw || self.channels == 1 {
            let start = (row * self.width + left) * size;
            let mut rows: [&mut [u8]; MOST_CHANNELS] = Default::default();
            for (out, slice) in rows.iter_mut().zip(self.slices.iter_mut()) {
                *out = slice.get_mut(start..start + columns * size).unwrap_or_default();
            }
            return make(&mut rows[..self.channels]);
        }
        let scratch = &mut scratch[..self.channels];
        scratch.iter_mut().for_each(|channel| channel.resize(columns * size, 0));
        let mut rows: [&mut [u8]; MOST_CHANNELS] = Default::default();
        rows.iter_mut().zip(scratch.iter_mut()).for_each(|(row, channel)| *row = channel);
        make(&mut rows[..self.channels])?;
        interleave_elements(scratch, size, self.row(0, row, left, columns));
        Ok(())
    }
}

fn element_bytes(dtype: DType, value: f32) -> [u8; 4] {
    let two = |bytes: [u8; 2]| [bytes[0], bytes[1], 0, 0];
    match dtype {
        DType::U8 => [value.clamp(0.0, 255.0).round_ties_even() as u8, 0, 0, 0],
        DType::U16 => two((value.clamp(0.0, 65_535.0).round_ties_even() as u16).to_ne_bytes()),
        DType::F16 => two(f16::from_f32(value).to_ne_bytes()),
        DType::Bf16 => two(bf16::from_f32(value).to_ne_bytes()),
        _ => value.to_ne_bytes(),
    }
}

/// Stores the elements of a row as bytes, native-endian.
///
/// # Errors
/// `OptionOutOfRange` for an unsupported type.
pub(super) fn store(dtype: DType, values: &[f32], out: &mut [u8]) -> Result<(), VisionError> {
    match dtype {
        DType::U8 => kernels::clamp_to_bytes(values, out),
        DType::U16 => kernels::clamp_to_shorts(values, out),
        DType::F16 => {
            for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(values) {
                *out = f16::from_f32(*value).to_ne_bytes();
            }
        }
        DType::Bf16 => kernels::bfloat16_bytes(values, out),
        DType::F32 => {
            for (out, value) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
                *out = value.to_ne_bytes();
            }
        }
        other => return Err(VisionError::option("dtype", format!("{other:?}"), "U8, U16, F16, Bf16 or F32")),
    }
    Ok(())
}
