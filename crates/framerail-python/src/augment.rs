//! Augmentation for Python: drawn from a seed, applied on the device of the frames.

use std::{num::NonZero, thread};

use framerail::{
    core::{AugmentParams, AugmentSpec, BatchSpec, DType, Device, TensorLayout},
    reader::ClipAugment,
    vision::{
        VisionError,
        augment::{Augment as Description, AugmentScope, Augmenter, ColorJitter, RandomBlur, RandomCrop, RandomErase},
    },
};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde::Deserialize;

use crate::{
    dlpack::{self, Foreign},
    errors,
    options::{dtype, parse},
    tensor::{Memory, Tensor},
};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Crop {
    Whole,
    /// Rows and columns.
    Window((u32, u32)),
    Resized {
        area: [f64; 2],
        aspect_ratio: [f64; 2],
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jitter {
    probability: f64,
    brightness: Option<[f64; 2]>,
    contrast: Option<[f64; 2]>,
    saturation: Option<[f64; 2]>,
    hue: Option<[f64; 2]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Blur {
    probability: f64,
    /// Rows and columns.
    kernel: (u32, u32),
    sigma: [f64; 2],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erase {
    probability: f64,
    area: [f64; 2],
    aspect_ratio: [f64; 2],
    fill: [f32; 3],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Given {
    crop: Crop,
    /// Rows and columns.
    size: Option<(u32, u32)>,
    antialias: bool,
    flip_horizontal: f64,
    flip_vertical: f64,
    color_jitter: Option<Jitter>,
    grayscale: f64,
    blur: Option<Blur>,
    erase: Option<Erase>,
    per_frame: bool,
    layout: TensorLayout,
    dtype: String,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

fn refused(error: VisionError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Augmentation of batches. Use `framerail.Augment`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Augment {
    description: Description,
    layout: TensorLayout,
    dtype: DType,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
}

/// A batch as described by Python.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    layout: TensorLayout,
    dtype: String,
    /// Rows and columns.
    size: (u32, u32),
    count: usize,
    /// `cpu` or `cuda:N`.
    device: String,
    frames_per_clip: usize,
    seed: u64,
    first_clip: u64,
    /// 0 = one per core.
    threads: usize,
}

#[pymethods]
impl Augment {
    /// Checks a description in JSON.
    #[new]
    fn new(json: &str) -> PyResult<Self> {
        let given: Given = parse(json)?;
        let crop = match given.crop {
            Crop::Whole => RandomCrop::Whole,
            Crop::Window((height, width)) => RandomCrop::Window { width, height },
            Crop::Resized { area, aspect_ratio } => RandomCrop::Resized { area, aspect_ratio },
        };
        let jitter = |Jitter { probability, brightness, contrast, saturation, hue }| ColorJitter {
            probability,
            brightness,
            contrast,
            saturation,
            hue,
        };
        let description = Description {
            crop,
            size: given.size.map(|(height, width)| (width, height)),
            antialias: given.antialias,
            flip_horizontal: given.flip_horizontal,
            flip_vertical: given.flip_vertical,
            color_jitter: given.color_jitter.map(jitter),
            grayscale: given.grayscale,
            blur: given.blur.map(|Blur { probability, kernel: (rows, columns), sigma }| RandomBlur {
                probability,
                kernel: (columns, rows),
                sigma,
            }),
            erase: given.erase.map(|Erase { probability, area, aspect_ratio, fill }| RandomErase { probability, area, aspect_ratio, fill }),
            scope: if given.per_frame { AugmentScope::Frame } else { AugmentScope::Clip },
        };
        description.check().map_err(refused)?;
        let dtype = dtype(&given.dtype)?;
        Ok(Self { description, layout: given.layout, dtype, scale: given.scale, mean: given.mean, std: given.std })
    }

    /// Augments a dense batch of frames; `stream` is the stream that uses GPU memory, numbered as in the array API standard.
    fn apply(&self, py: Python<'_>, pictures: &Bound<'_, PyAny>, batch_json: &str, stream: isize) -> PyResult<Tensor> {
        let batch: Batch = parse(batch_json)?;
        let device: Device =
            batch.device.parse().map_err(|_| PyValueError::new_err(format!("images on {} cannot be augmented", batch.device)))?;
        let (height, width) = batch.size;
        let (out_width, out_height) = self.description.output_size(width, height).map_err(refused)?;
        let input = BatchSpec { width, height, layout: batch.layout, dtype: dtype(&batch.dtype)? };
        let output = BatchSpec { width: out_width, height: out_height, layout: self.layout, dtype: self.dtype };
        let spec = AugmentSpec { input, output, scale: self.scale, mean: self.mean, std: self.std };
        let pictures = Foreign::of(pictures, &shape(batch.count, &input), input.dtype, device, stream, "pictures")?;
        let params = self.draw(&batch, width, height).map_err(refused)?;
        let shape = shape(batch.count, &output);
        if device != Device::Cpu {
            let buffer = py.detach(|| dlpack::augment(&spec, &params, &pictures)).map_err(|error| errors::cuda(py, &error))?;
            return Ok(Tensor::new(Memory::of_device(buffer, shape, self.dtype)));
        }
        let augmented = py.detach(|| -> Result<Vec<u8>, VisionError> {
            let mut out = vec![0; output.image_bytes() * batch.count];
            on_host(&spec, &params, pictures.host_bytes(), &mut out, batch.threads)?;
            Ok(out)
        });
        Ok(Tensor::new(Memory::of_bytes(augmented.map_err(refused)?, &shape, self.dtype)))
    }
}

impl Augment {
    /// The same for clips of a loader.
    pub fn of_clips(&self) -> ClipAugment {
        ClipAugment {
            description: self.description.clone(),
            layout: self.layout,
            dtype: self.dtype,
            scale: self.scale,
            mean: self.mean,
            std: self.std,
        }
    }

    fn draw(&self, batch: &Batch, width: u32, height: u32) -> Result<Vec<AugmentParams>, VisionError> {
        let frames = batch.frames_per_clip.max(1);
        let mut params = Vec::with_capacity(batch.count);
        for (clip, first) in (0..batch.count).step_by(frames).enumerate() {
            let count = frames.min(batch.count - first);
            params.extend(self.description.draw(batch.seed, batch.first_clip + clip as u64, count, width, height)?);
        }
        Ok(params)
    }
}

fn shape(count: usize, batch: &BatchSpec) -> [usize; 4] {
    let (width, height) = (batch.width as usize, batch.height as usize);
    match batch.layout {
        TensorLayout::Tchw => [count, 3, height, width],
        TensorLayout::Thwc => [count, height, width, 3],
    }
}

/// Each thread processes a part of the batch.
fn on_host(spec: &AugmentSpec, params: &[AugmentParams], input: &[u8], output: &mut [u8], threads: usize) -> Result<(), VisionError> {
    let cores = if threads == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { threads };
    let part = params.len().div_ceil(cores.max(1)).max(1);
    let parts = params
        .chunks(part)
        .zip(input.chunks((part * spec.input.image_bytes()).max(1)))
        .zip(output.chunks_mut((part * spec.output.image_bytes()).max(1)));
    let apply = |((params, input), output): ((&[AugmentParams], &[u8]), &mut [u8])| Augmenter::new(*spec)?.apply(params, input, output);
    if part >= params.len() {
        return parts.into_iter().try_for_each(apply);
    }
    thread::scope(|scope| {
        let workers: Vec<_> = parts.map(|part| scope.spawn(move || apply(part))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
