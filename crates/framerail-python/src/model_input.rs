//! Converts frames to the input tensor of a Python model, on their device.

use std::sync::Arc;

use framerail::{
    core::{BBox, Device, Frame, PixelFormat},
    cuda::{
        CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool,
        kernels::{ConvertJob, TableCache, convert_batch},
    },
    vision::{ModelMapping, TensorConverter, TensorOptions, VisionError},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};

use crate::{
    errors,
    frame_item::FrameItem,
    options,
    tensor::{Memory, Tensor},
};

/// Host tensors kept for later batches: those in flight, and one being made.
const KEPT: usize = 4;

/// Device memory kept for later batches.
const KEPT_BYTES: usize = 256 << 20;

/// Why frames cannot become a tensor.
#[derive(Debug)]
pub enum InputError {
    Vision(VisionError),
    Cuda(CudaError),
    /// Frames that do not match, or have no pixels.
    Frames(String),
}

impl From<VisionError> for InputError {
    fn from(error: VisionError) -> Self {
        Self::Vision(error)
    }
}

impl From<CudaError> for InputError {
    fn from(error: CudaError) -> Self {
        Self::Cuda(error)
    }
}

impl std::fmt::Display for InputError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Vision(error) => error.fmt(f),
            Self::Cuda(error) => error.fmt(f),
            Self::Frames(what) => f.write_str(what),
        }
    }
}

/// A GPU's stream and memory.
struct Gpu {
    stream: CudaStream,
    pool: DevicePool,
    tables: TableCache,
}

/// A frame, or a part of it in its pixels.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub frame: &'a Frame,
    pub area: Option<BBox>,
}

impl View<'_> {
    /// A part replaces the requested crop.
    fn options(&self, asked: &TensorOptions) -> TensorOptions {
        TensorOptions { crop: self.area.or(asked.crop), ..*asked }
    }
}

/// One converted batch.
pub struct ModelBatch {
    /// `[N, C, H, W]` or `[N, H, W, C]`.
    pub memory: Arc<Memory>,
    /// From each frame's pixels to the model's.
    pub mappings: Vec<ModelMapping>,
}

/// Converts frames to tensors; keeps tables and memory between batches.
pub struct ModelInput {
    options: TensorOptions,
    converter: TensorConverter,
    gpu: Option<Gpu>,
    /// Host tensors that were lent; one without other holders is reused.
    shelf: Vec<Arc<Memory>>,
}

impl ModelInput {
    pub fn new(options: TensorOptions) -> Result<Self, VisionError> {
        Ok(Self { options, converter: TensorConverter::new(options)?, gpu: None, shelf: Vec::new() })
    }

    /// Device and size of a converted view: views with equal ones form a batch.
    pub fn form(&self, view: View<'_>) -> (Device, [usize; 3]) {
        let frame = view.frame;
        (frame.surface.device(), view.options(&self.options).image_shape(frame.width, frame.height))
    }

    /// Converts matching views to one tensor. On a GPU the work is queued; events of the memory order its readers.
    ///
    /// # Errors
    /// `Frames` for frames that differ in form or have no pixels, `Vision`, `Cuda`.
    pub fn convert(&mut self, views: &[View<'_>]) -> Result<ModelBatch, InputError> {
        let first = views.first().ok_or_else(|| InputError::Frames("there are no frames to make a tensor from".into()))?;
        let (device, image) = self.form(*first);
        if let Some(other) = views.iter().find(|view| self.form(**view) != (device, image)) {
            let (first, other) = (first.frame, other.frame);
            let what = format!(
                "frames {} and {} differ in size or device; set a size, so that they fit into one tensor",
                first.index, other.index
            );
            return Err(InputError::Frames(what));
        }
        let mappings = views.iter().map(|view| self.mapping(*view)).collect::<Result<_, _>>()?;
        let [a, b, c] = image;
        let shape = [views.len(), a, b, c];
        let memory = match device {
            Device::Cpu => self.on_host(views, shape)?,
            Device::Cuda(_) => self.on_gpu(views, shape)?,
        };
        Ok(ModelBatch { memory, mappings })
    }

    fn on_host(&mut self, views: &[View<'_>], shape: [usize; 4]) -> Result<Arc<Memory>, InputError> {
        let dtype = self.options.dtype;
        let image_bytes = shape.iter().skip(1).product::<usize>() * dtype.size_bytes();
        let mut bytes = self.host_bytes(image_bytes * views.len());
        for (view, out) in views.iter().zip(bytes.chunks_exact_mut(image_bytes.max(1))) {
            match view.area {
                // The tables of a part are used once.
                Some(_) => TensorConverter::new(view.options(&self.options))?.convert(view.frame, out)?,
                None => self.converter.convert(view.frame, out)?,
            }
        }
        let memory = Arc::new(Memory::of_bytes(bytes, &shape, dtype));
        if self.shelf.len() >= KEPT {
            self.shelf.remove(0);
        }
        self.shelf.push(Arc::clone(&memory));
        Ok(memory)
    }

    /// Memory of an unused tensor, or new memory.
    fn host_bytes(&mut self, len: usize) -> Vec<u8> {
        while let Some(free) = self.shelf.iter().position(|memory| Arc::strong_count(memory) == 1) {
            let bytes = Arc::into_inner(self.shelf.remove(free)).and_then(Memory::into_bytes).unwrap_or_default();
            if bytes.len() == len {
                return bytes;
            }
        }
        vec![0; len]
    }

    fn on_gpu(&mut self, views: &[View<'_>], shape: [usize; 4]) -> Result<Arc<Memory>, InputError> {
        let surfaces = views.iter().map(|view| surface_of(view.frame)).collect::<Result<Vec<_>, _>>()?;
        let (Some(first), Some(view)) = (surfaces.first(), views.first()) else {
            return Err(InputError::Frames("there are no frames".into()));
        };
        let spec = view.options(&self.options).tensor_spec(view.frame.width, view.frame.height);
        let gpu = Gpu::of(&mut self.gpu, first.cuda_device())?;
        let out = gpu.pool.buffer(spec.image_bytes() * views.len())?;
        let mut conversions = Vec::with_capacity(views.len());
        for (view, surface) in views.iter().zip(&surfaces) {
            let (options, color, size) = (view.options(&self.options), &view.frame.color, (surface.width(), surface.height()));
            let plan = options.plan(size.0, size.1, surface.format(), color, view.frame.pixel_aspect())?;
            let (conversion, tone) = (plan.conversion(), options.tone_curves(color));
            let tables = gpu.tables.tables(&conversion, size, tone.as_ref(), &gpu.pool, &gpu.stream)?;
            conversions.push((conversion, tables));
        }
        let jobs = surfaces.iter().zip(&conversions).enumerate().map(|(place, (surface, (conversion, tables)))| ConvertJob {
            surface,
            conversion: *conversion,
            tables: tables.as_deref(),
            out: &out,
            out_offset_bytes: place * spec.image_bytes(),
        });
        let jobs: Vec<ConvertJob<'_>> = jobs.collect();
        convert_batch(&gpu.stream, &spec, &jobs)?;
        drop(jobs);
        Ok(Arc::new(Memory::of_device(out, shape, self.options.dtype)))
    }

    fn mapping(&self, view: View<'_>) -> Result<ModelMapping, VisionError> {
        let frame = view.frame;
        // The mapping depends on geometry only, so any format will do.
        let plan = view.options(&self.options).plan(frame.width, frame.height, PixelFormat::Rgb24, &frame.color, frame.pixel_aspect());
        Ok(plan?.mapping)
    }

    /// Peak device memory, and the device; `None` on the host.
    pub fn device_bytes(&self) -> Option<(Device, u64)> {
        self.gpu.as_ref().map(|gpu| (gpu.pool.device().id(), gpu.pool.stats().high_water_bytes as u64))
    }
}

impl Gpu {
    /// Kept from batch to batch, and recreated when the GPU changes.
    fn of<'a>(kept: &'a mut Option<Gpu>, device: &Arc<CudaDevice>) -> Result<&'a Gpu, CudaError> {
        let gpu = match kept.take() {
            Some(gpu) if gpu.pool.device().id() == device.id() => gpu,
            _ => Gpu { stream: CudaStream::new(device)?, pool: DevicePool::new(device, KEPT_BYTES)?, tables: TableCache::default() },
        };
        Ok(kept.insert(gpu))
    }
}

fn surface_of(frame: &Frame) -> Result<&CudaSurface, InputError> {
    CudaSurface::of(&frame.surface).ok_or_else(|| InputError::Frames(format!("frame {} has no pixels any more", frame.index)))
}

/// Converts frames to tensors in a stage function. Use `batch.tensor`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct FrameConverter {
    input: Mutex<ModelInput>,
}

#[pymethods]
impl FrameConverter {
    /// Checks the options of the conversion, in JSON.
    #[new]
    fn new(output_json: &str) -> PyResult<Self> {
        let input = ModelInput::new(options::tensor(output_json)?).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { input: Mutex::new(input) })
    }

    /// One tensor of frames of one size on one device, and the mapping of each: scale and offset, horizontal and vertical.
    fn convert(&self, py: Python<'_>, frames: Vec<PyRef<'_, FrameItem>>) -> PyResult<(Tensor, Vec<Mapping>)> {
        let frames = frames.iter().map(|frame| frame.frame()).collect::<PyResult<Vec<_>>>()?;
        let made = py.detach(|| {
            let views: Vec<View<'_>> = frames.iter().map(|frame| View { frame, area: None }).collect();
            self.input.lock().convert(&views)
        });
        let batch = made.map_err(|error| match error {
            InputError::Cuda(error) => errors::cuda(py, &error),
            InputError::Frames(what) => PyValueError::new_err(what),
            InputError::Vision(error) => PyRuntimeError::new_err(error.to_string()),
        })?;
        Ok((Tensor::of(batch.memory), batch.mappings.iter().map(mapping).collect()))
    }
}

/// Scale and offset, horizontal and vertical: `model = frame * scale + offset`.
pub type Mapping = (f32, f32, f32, f32);

pub fn mapping(mapping: &ModelMapping) -> Mapping {
    (mapping.scale_x, mapping.scale_y, mapping.offset_x, mapping.offset_y)
}
