//! Augmentation of a batch in host memory.

use framerail_core::{AugmentParams, AugmentSpec, DType};
use half::{bf16, f16};

use super::{
    blur::Blurrer,
    color::{Planes, adjust, take_out_color},
    resample::Resampler,
};
use crate::VisionError;

/// Applies drawn parameters to batches of one kind. Keeps its buffers between frames.
///
/// Runs on the calling thread. To use several threads, make one augmenter per thread and give each a part of the batch.
#[derive(Debug)]
pub struct Augmenter {
    spec: AugmentSpec,
    resampler: Resampler,
    blurrer: Blurrer,
    planes: Vec<f32>,
}

impl Augmenter {
    /// Creates an augmenter for batches described by `spec`.
    ///
    /// # Errors
    /// `Augmentation` for invalid sizes, element types or numbers.
    pub fn new(spec: AugmentSpec) -> Result<Self, VisionError> {
        match spec.fault() {
            Some(fault) => Err(VisionError::Augmentation(fault)),
            None => Ok(Self { spec, resampler: Resampler::default(), blurrer: Blurrer::default(), planes: Vec::new() }),
        }
    }

    /// The description of the batches.
    pub fn spec(&self) -> &AugmentSpec {
        &self.spec
    }

    /// Augments a batch: frame `i` of `input` is augmented by `params[i]` and written to frame `i` of `output`. Elements are
    /// native-endian and need no alignment.
    ///
    /// # Errors
    /// `Augmentation` for parameters that do not fit the frames, and when a batch does not hold exactly one frame per entry of
    /// `params`. Nothing is written in these cases.
    pub fn apply(&mut self, params: &[AugmentParams], input: &[u8], output: &mut [u8]) -> Result<(), VisionError> {
        let (from, to) = (self.spec.input.image_bytes(), self.spec.output.image_bytes());
        for (name, have, image) in [("input", input.len(), from), ("output", output.len(), to)] {
            if Some(have) != image.checked_mul(params.len()) {
                let images = params.len();
                return Err(VisionError::Augmentation(format!("the {name} holds {have} bytes; {images} images need {image} each")));
            }
        }
        if let Some((index, misfit)) = params.iter().enumerate().find_map(|(index, params)| Some((index, self.spec.misfit(params)?))) {
            return Err(VisionError::Augmentation(format!("image {index}: {misfit}")));
        }
        for ((params, from), to) in params.iter().zip(input.chunks_exact(from)).zip(output.chunks_exact_mut(to)) {
            self.apply_one(params, from, to);
        }
        Ok(())
    }

    fn apply_one(&mut self, params: &AugmentParams, input: &[u8], output: &mut [u8]) {
        let (batch, width) = (self.spec.output, self.spec.output.width as usize);
        self.planes.resize(batch.pixels() * 3, 0.0);
        self.resampler.run(&self.spec.input, input, params, (batch.width, batch.height), &mut self.planes);
        let (red, rest) = self.planes.split_at_mut(batch.pixels());
        let (green, blue) = rest.split_at_mut(batch.pixels());
        let mut planes: Planes<'_> = [red, green, blue];
        for step in params.color {
            adjust(step, &mut planes);
        }
        if params.grayscale {
            take_out_color(&mut planes);
        }
        if let Some(blur) = &params.blur {
            planes.iter_mut().for_each(|plane| self.blurrer.run(blur, plane, width));
        }
        let (step, channel_step) = batch.steps();
        let element = batch.dtype.size_bytes();
        for (channel, (plane, (gain, shift))) in planes.into_iter().zip(self.spec.normalisation()).enumerate() {
            plane.iter_mut().for_each(|value| *value = *value * gain + shift);
            if let Some(erase) = &params.erase {
                let rows = plane.chunks_exact_mut(width).skip(erase.region.y as usize).take(erase.region.height as usize);
                let columns = erase.region.x as usize..(erase.region.x + erase.region.width) as usize;
                rows.for_each(|row| row[columns.clone()].fill(erase.fill[channel]));
            }
            store(plane, batch.dtype, step, &mut output[channel * channel_step * element..]);
        }
    }
}

/// Writes the elements of a plane `step` apart.
fn store(plane: &[f32], dtype: DType, step: usize, out: &mut [u8]) {
    match dtype {
        DType::U8 => store_as(plane, step, out, |value| [value.clamp(0.0, 255.0).round_ties_even() as u8]),
        DType::F16 => store_as(plane, step, out, |value| f16::from_f32(value).to_ne_bytes()),
        DType::Bf16 => store_as(plane, step, out, |value| bf16::from_f32(value).to_ne_bytes()),
        _ => store_as(plane, step, out, f32::to_ne_bytes),
    }
}

fn store_as<const BYTES: usize>(plane: &[f32], step: usize, out: &mut [u8], bytes_of: impl Fn(f32) -> [u8; BYTES]) {
    for (value, out) in plane.iter().zip(out.as_chunks_mut::<BYTES>().0.iter_mut().step_by(step)) {
        *out = bytes_of(*value);
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{BatchSpec, Erasure, Region, TensorLayout};

    use super::*;

    fn spec(out: TensorLayout, dtype: DType) -> AugmentSpec {
        let batch = |layout, dtype| BatchSpec { width: 6, height: 4, layout, dtype };
        AugmentSpec { input: batch(TensorLayout::Thwc, DType::U8), output: batch(out, dtype), scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
    }

    fn image() -> Vec<u8> {
        (0..144).map(|index| (index * 37 % 256) as u8).collect()
    }

    #[test]
    fn frames_that_nothing_is_done_to_stay_as_they_are() {
        let mut augmenter = Augmenter::new(spec(TensorLayout::Thwc, DType::U8)).expect("valid");
        let mut out = vec![0; 144];
        augmenter.apply(&[AugmentParams::whole(6, 4); 2], &image(), &mut out).expect("fitting");
        assert_eq!(out, image());
    }

    #[test]
    fn layouts_and_types_hold_the_same_values() {
        let mut params = AugmentParams::whole(6, 4);
        params.flip_horizontal = true;
        params.erase = Some(Erasure { region: Region { x: 1, y: 2, width: 3, height: 1 }, fill: [0.5, 300.0, -2.0] });
        let run = |layout, dtype: DType| {
            let mut out = vec![0; 72 * dtype.size_bytes()];
            Augmenter::new(spec(layout, dtype)).expect("valid").apply(&[params], &image()[..72], &mut out).expect("fitting");
            out
        };
        let floats = |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect() };
        let planar = floats(&run(TensorLayout::Tchw, DType::F32));
        let interleaved = floats(&run(TensorLayout::Thwc, DType::F32));
        assert_eq!([planar[13], planar[24 + 13], planar[48 + 13]], [0.5, 300.0, -2.0]);
        for (index, value) in planar.iter().enumerate() {
            assert_eq!(*value, interleaved[index % 24 * 3 + index / 24]);
        }
        let bytes = run(TensorLayout::Tchw, DType::U8);
        assert_eq!([bytes[13], bytes[24 + 13], bytes[48 + 13]], [0, 255, 0]);
        let halves = run(TensorLayout::Tchw, DType::F16);
        for ((value, byte), half) in planar.iter().zip(&bytes).zip(halves.as_chunks::<2>().0) {
            assert_eq!(*byte, value.clamp(0.0, 255.0).round_ties_even() as u8);
            assert_eq!(f16::from_ne_bytes(*half), f16::from_f32(*value));
        }
    }

    #[test]
    fn batches_that_do_not_fit_are_refused() {
        let mut augmenter = Augmenter::new(spec(TensorLayout::Tchw, DType::U8)).expect("valid");
        let refusal = |augmenter: &mut Augmenter, params: &[AugmentParams], have: usize, room: usize| {
            augmenter.apply(params, &vec![0; have], &mut vec![0; room]).expect_err("does not fit").to_string()
        };
        let whole = AugmentParams::whole(6, 4);
        let words = refusal(&mut augmenter, &[whole; 2], 143, 144);
        assert_eq!(words, "augmentation: the input holds 143 bytes; 2 images need 72 each");
        assert!(refusal(&mut augmenter, &[whole; 2], 144, 72).contains("the output holds 72 bytes"));
        let wide = AugmentParams::whole(7, 4);
        assert!(refusal(&mut augmenter, &[whole, wide], 144, 144).starts_with("augmentation: image 1: "));
        assert!(Augmenter::new(AugmentSpec { std: [0.0; 3], ..spec(TensorLayout::Tchw, DType::U8) }).is_err());
    }
}
