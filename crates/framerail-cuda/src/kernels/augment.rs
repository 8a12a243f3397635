//! Augments batches in device memory.
//!
//! One launch per 40 images; one more if contrast changes (to average grey), two more if images are blurred.

use std::ops::Range;

use framerail_core::{AugmentParams, AugmentSpec, ColorStep, TensorLayout};

use super::{HEADERS, Runner, bracketed, convert::element_type, run_with, slots};
use crate::{CudaError, CudaStream, DeviceBuffer, DevicePool, KernelSource};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "augment", code: include_str!("augment.cu"), headers: HEADERS };

/// Images per launch, limited so that the parameters stay below 4096 bytes. As in `augment.cu`.
const MAX_PICTURES: usize = 40;
/// Width and height of the pixels that a block processes. As in `augment.cu`.
const TILE: u32 = 32;
/// Scratch memory for blur planes in bytes, unless one image needs more.
const PLANES_BYTES: usize = 256 << 20;

/// A batch in buffers of this crate.
#[derive(Clone, Copy, Debug)]
pub struct AugmentJob<'a> {
    /// Augmentation of each image.
    pub params: &'a [AugmentParams],
    /// Buffer with the input images.
    pub input: &'a DeviceBuffer,
    /// Byte offset of the first image; a multiple of the element size.
    pub input_offset_bytes: usize,
    /// Buffer for the output images.
    pub output: &'a DeviceBuffer,
    /// Byte offset of the first image; a multiple of the element size.
    pub output_offset_bytes: usize,
}

/// A batch given by addresses.
#[derive(Clone, Copy, Debug)]
pub struct RawAugmentJob<'a> {
    /// Augmentation of each image.
    pub params: &'a [AugmentParams],
    /// Address of the input images; a multiple of the element size.
    pub input: u64,
    /// Address of the output images; a multiple of the element size.
    pub output: u64,
    /// Address of [`augment_scratch_bytes`] bytes of scratch memory; a multiple of 16.
    pub scratch: u64,
}

/// Same layout as `Picture` in `augment.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Image {
    input: u64,
    output: u64,
    planes: u64,
    sums: u64,
    crop: [u16; 4],
    erase: [u16; 4],
    fill: [f32; 3],
    amount: [f32; 4],
    step: [u8; 4],
    antialias: u8,
    flip_x: u8,
    flip_y: u8,
    grayscale: u8,
    kernel: [u16; 2],
    sigma: [f32; 2],
}

/// Same layout as `AugmentParams` in `augment.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Parameters {
    in_size: [u32; 2],
    out_size: [u32; 2],
    gain: [f32; 3],
    shift: [f32; 3],
    tiles: u32,
    in_type: u8,
    in_interleaved: u8,
    out_type: u8,
    out_interleaved: u8,
    images: [Image; MAX_PICTURES],
}

const _: () = assert!(size_of::<Image>() == 96 && size_of::<Parameters>() == 48 + 96 * MAX_PICTURES);

/// Augments a batch: applies `params[i]` to image `i` of the input, as framerail-vision's `Augmenter` does.
///
/// Queued on the stream; the buffers' events order their use on other streams. The two batches must not overlap.
///
/// # Errors
/// `BadArgument` for mismatched batches and invalid parameters, `OutOfMemory`, `Compile`, `Driver`.
pub fn augment_batch(stream: &CudaStream, pool: &DevicePool, spec: &AugmentSpec, job: &AugmentJob<'_>) -> Result<(), CudaError> {
    let address = |buffer: &DeviceBuffer, offset: usize, image_bytes: usize| {
        let end = image_bytes.checked_mul(job.params.len()).and_then(|bytes| bytes.checked_add(offset));
        match end {
            Some(end) if end <= buffer.len() => Ok(buffer.address() + offset as u64),
            _ => {
                let (images, have) = (job.params.len(), buffer.len());
                Err(CudaError::argument(format!("{images} images of {image_bytes} bytes at {offset} in a buffer of {have}")))
            }
        }
    };
    let input = address(job.input, job.input_offset_bytes, spec.input.image_bytes())?;
    let output = address(job.output, job.output_offset_bytes, spec.output.image_bytes())?;
    bracketed(stream, [job.input], [job.output], || {
        // SAFETY: live buffers of checked size, bracketed by their events.
        unsafe { augment_foreign(stream, pool, spec, job.params, input, output) }
    })
}

/// [`augment_batch`] for memory of other libraries, given by the addresses of the first images.
///
/// # Safety
/// Both batches are live until the work is done, hold an image for each of `params`, and are ordered with their other uses.
///
/// # Errors
/// `BadArgument` for mismatched batches and invalid parameters, `OutOfMemory`, `Compile`, `Driver`.
pub unsafe fn augment_foreign(
    stream: &CudaStream,
    pool: &DevicePool,
    spec: &AugmentSpec,
    params: &[AugmentParams],
    input: u64,
    output: u64,
) -> Result<(), CudaError> {
    let buffer = pool.buffer(augment_scratch_bytes(spec, params))?;
    bracketed(stream, [], [&buffer], || {
        // SAFETY: guaranteed by the caller; scratch memory has the required size and is bracketed by its events.
        unsafe { augment_raw(stream, spec, &RawAugmentJob { params, input, output, scratch: buffer.address() }) }
    })
}

/// Bytes of scratch memory that [`augment_raw`] needs for these parameters.
pub fn augment_scratch_bytes(spec: &AugmentSpec, params: &[AugmentParams]) -> usize {
    Scratch::new(spec, params).bytes()
}

/// [`augment_batch`] on any runner.
///
/// # Safety
/// Input, output and scratch are live until the work is done, of the sizes given by the batches and [`augment_scratch_bytes`], and
/// ordered with their other uses.
///
/// # Errors
/// `BadArgument` for mismatched batches and invalid parameters, `Compile`, `Driver`.
pub unsafe fn augment_raw(runner: &dyn Runner, spec: &AugmentSpec, job: &RawAugmentJob<'_>) -> Result<(), CudaError> {
    check(spec, job)?;
    let scratch = Scratch::new(spec, job.params);
    let common = common(spec, scratch.tiles.0 * scratch.tiles.1)?;
    let addresses = |start: u64, bytes: usize| (start..).step_by(bytes);
    let images = job
        .params
        .iter()
        .zip(addresses(job.input, spec.input.image_bytes()))
        .zip(addresses(job.output, spec.output.image_bytes()))
        .enumerate()
        .map(|(index, ((params, input), output))| Image {
            input,
            output,
            sums: if params.contrast_step().is_some() { scratch.sums(job.scratch, index) } else { 0 },
            planes: if params.blur.is_some() { scratch.planes(job.scratch, index) } else { 0 },
            ..Image::new(params)
        });
    let images: Vec<Image> = images.collect();
    for group in images.chunks(scratch.images) {
        let run = |kernel: &'static str, channels: u32, takes: fn(&Image) -> bool| {
            let taken: Vec<Image> = group.iter().copied().filter(takes).collect();
            if taken.is_empty() {
                return Ok(());
            }
            let grid = (scratch.tiles.0, scratch.tiles.1, taken.len() as u32 * channels);
            let parameters = Parameters { images: slots(taken), ..common };
            // SAFETY: guaranteed by the caller; sizes and parameters were checked.
            unsafe { run_with(runner, &SOURCE, kernel, (grid, (TILE, 8, 1)), &parameters) }
        };
        run("sum_grey", 1, |image| image.sums != 0)?;
        run("augment_pixels", 1, |_| true)?;
        run("blur_across", 3, |image| image.planes != 0)?;
        run("blur_down", 3, |image| image.planes != 0)?;
    }
    Ok(())
}

fn check(spec: &AugmentSpec, job: &RawAugmentJob<'_>) -> Result<(), CudaError> {
    if let Some(fault) = spec.fault() {
        return Err(CudaError::argument(fault));
    }
    if let Some((index, misfit)) = job.params.iter().enumerate().find_map(|(index, params)| Some((index, spec.misfit(params)?))) {
        return Err(CudaError::argument(format!("image {index}: {misfit}")));
    }
    let starts = |address: u64, bytes: usize| address != 0 && address.is_multiple_of(bytes as u64);
    let is_aligned = starts(job.input, spec.input.dtype.size_bytes()) && starts(job.output, spec.output.dtype.size_bytes());
    if !is_aligned || !starts(job.scratch, 16) {
        return Err(CudaError::argument("a batch to augment is not aligned to its elements"));
    }
    let range = |start: u64, image_bytes: usize| {
        let end = (image_bytes as u64).checked_mul(job.params.len() as u64).and_then(|bytes| start.checked_add(bytes));
        end.map(|end| start..end).ok_or_else(|| CudaError::argument(format!("{} images to augment", job.params.len())))
    };
    let overlap = |a: &Range<u64>, b: &Range<u64>| a.start < b.end && b.start < a.end;
    if overlap(&range(job.input, spec.input.image_bytes())?, &range(job.output, spec.output.image_bytes())?) {
        return Err(CudaError::argument("the output batch overlaps the input batch; use separate memory"));
    }
    Ok(())
}

/// Division of the scratch memory: grey sums of each image of a group, then the planes of each. Groups run one after another on one
/// stream, so all use the same memory.
struct Scratch {
    tiles: (u32, u32),
    /// Images per group.
    images: usize,
    sums_bytes: usize,
    planes_bytes: usize,
}

impl Scratch {
    fn new(spec: &AugmentSpec, params: &[AugmentParams]) -> Self {
        let tiles = (spec.output.width.div_ceil(TILE), spec.output.height.div_ceil(TILE));
        let has_contrast = params.iter().any(|params| params.contrast_step().is_some());
        let has_blur = params.iter().any(|params| params.blur.is_some());
        let sums_bytes = if has_contrast { (tiles.0 as usize * tiles.1 as usize * size_of::<f64>()).next_multiple_of(16) } else { 0 };
        let planes_bytes = if has_blur { (spec.output.pixels() * 6 * size_of::<f32>()).next_multiple_of(16) } else { 0 };
        let images = PLANES_BYTES.checked_div(planes_bytes).unwrap_or(MAX_PICTURES).clamp(1, MAX_PICTURES);
        Self { tiles, images: images.min(params.len().max(1)), sums_bytes, planes_bytes }
    }

    fn bytes(&self) -> usize {
        self.images * (self.sums_bytes + self.planes_bytes)
    }

    fn sums(&self, start: u64, index: usize) -> u64 {
        start + (index % self.images * self.sums_bytes) as u64
    }

    fn planes(&self, start: u64, index: usize) -> u64 {
        start + (self.images * self.sums_bytes + index % self.images * self.planes_bytes) as u64
    }
}

fn common(spec: &AugmentSpec, tiles: u32) -> Result<Parameters, CudaError> {
    let (input, output) = (spec.input, spec.output);
    let normalisation = spec.normalisation();
    Ok(Parameters {
        in_size: [input.width, input.height],
        out_size: [output.width, output.height],
        gain: normalisation.map(|(gain, _)| gain),
        shift: normalisation.map(|(_, shift)| shift),
        tiles,
        in_type: element_type(input.dtype)?,
        in_interleaved: (input.layout == TensorLayout::Thwc).into(),
        out_type: element_type(output.dtype)?,
        out_interleaved: (output.layout == TensorLayout::Thwc).into(),
        images: [Image::default(); MAX_PICTURES],
    })
}

impl Image {
    /// The parameters without addresses. Sides were checked to fit 16 bits.
    fn new(params: &AugmentParams) -> Self {
        let sides = |region: framerail_core::Region| [region.x, region.y, region.width, region.height].map(|side| side as u16);
        let step = |step: ColorStep| match step {
            ColorStep::None => (0, 0.0),
            ColorStep::Brightness(amount) => (1, amount),
            ColorStep::Contrast(amount) => (2, amount),
            ColorStep::Saturation(amount) => (3, amount),
            ColorStep::Hue(amount) => (4, amount),
        };
        let steps = params.color.map(step);
        Self {
            crop: sides(params.crop),
            erase: params.erase.map_or([0; 4], |erase| sides(erase.region)),
            fill: params.erase.map_or([0.0; 3], |erase| erase.fill),
            amount: steps.map(|(_, amount)| amount),
            step: steps.map(|(kind, _)| kind),
            antialias: params.antialias.into(),
            flip_x: params.flip_horizontal.into(),
            flip_y: params.flip_vertical.into(),
            grayscale: params.grayscale.into(),
            kernel: params.blur.map_or([0; 2], |blur| blur.kernel.map(|side| side as u16)),
            sigma: params.blur.map_or([0.0; 2], |blur| blur.sigma),
            ..Self::default()
        }
    }
}
