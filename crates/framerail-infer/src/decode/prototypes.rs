//! Masks of boxes as sums of prototypes.
//!
//! Source: Bolya et al., "YOLACT: Real-time Instance Segmentation" (2019), section 3: a mask is `sigmoid(Σ coefficient · prototype)`,
//! cut off at its box. YOLOv5-seg and YOLOv8-seg export coefficients behind the scores of each box, and the prototypes.

use framerail_core::{BBox, InstanceMask};
use serde::Deserialize;

use super::{Expected, KeyError, Seen, ensure, seen::coverage, sigmoid, tensors::ItemTensor};
use crate::size::InputSize;

/// The prototypes of a model: `masks = { prototypes = "output1" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrototypesCard {
    /// Output `[batch, coefficients, rows, columns]`, whose cells cover the model's input evenly.
    pub prototypes: String,
    /// Coefficients of each box, at the end of its values; as many as there are prototypes.
    #[serde(default = "yolo_coefficients")]
    pub coefficients: usize,
}

fn yolo_coefficients() -> usize {
    32
}

impl PrototypesCard {
    pub(crate) fn check(&self) -> Result<(), KeyError> {
        ensure((1..=1024).contains(&self.coefficients), "coefficients", "1 to 1024")
    }

    pub(crate) fn expected(&self) -> Expected {
        Expected::new(&self.prototypes, &[&[None, Some(self.coefficients), None, None]])
    }
}

/// The mask of a box in model pixels; `None` if it is empty. NaN counts as outside.
pub(super) fn prototype_mask(
    prototypes: &ItemTensor<'_>,
    coefficients: &[f32],
    bbox: &BBox,
    input: InputSize,
    seen: &Seen,
) -> Result<Option<InstanceMask>, String> {
    let [count, rows, columns] = prototypes.dims[..] else { return Err("prototypes come as [coefficients, rows, columns]".into()) };
    if count != coefficients.len() {
        return Err(format!("there are {count} prototypes for {} coefficients", coefficients.len()));
    }
    let Some(cells) = seen.cells((columns, rows), input, Some(bbox)) else { return Ok(None) };
    let ((left, right), (top, bottom)) = (cells.columns, cells.rows);
    let mut sums = vec![0.0_f32; (right - left) * (bottom - top)];
    // Prototype by prototype, for sequential memory access.
    for (coefficient, plane) in coefficients.iter().zip(prototypes.data.chunks_exact((rows * columns).max(1))) {
        let shown = plane.chunks_exact(columns.max(1)).skip(top).filter_map(|row| row.get(left..right));
        for (sums, values) in sums.chunks_exact_mut(right - left).zip(shown) {
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += coefficient * value);
        }
    }
    let covered = sums.into_iter().map(|sum| coverage(sigmoid(sum), 0.5)).collect();
    seen.mask(cells, (columns, rows), input, covered).map(Some)
}
