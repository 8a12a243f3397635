//! A frame in a pipeline, for user functions.

use std::sync::Arc;

use framerail::{
    core::{DType, Detection as CoreDetection, Device, Frame, FramePool, FrameStatus, HostSurface, Surface, TensorLayout},
    cuda::{CudaError, CudaStream, CudaSurface},
    devices::host_image,
    parts::FrameAttributes,
    pipeline::{Arrival, Attachments, FrameItem as PipelineItem, FrameLease},
    pixels::{PixelEdits, PixelSpace},
    vision::{ChannelOrder, TensorConverter, TensorOptions},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList},
};

use crate::{
    detection::{Detection, attribute_list, core_attributes, core_list},
    dlpack, errors,
    fork::OfProcess,
    tensor::{Memory, Tensor},
};

/// Python values attached to a frame. Never changed: a stage that adds one attaches another dict.
struct PythonAttachments(Py<PyDict>);

/// The surface, as long as the function has it.
struct Image {
    frame: Frame,
    /// Planes lent for writing, in the order of the format.
    written: Option<Vec<Arc<Memory>>>,
    /// Pixels lent for writing, which replace the frame.
    edited: Option<(PixelSpace, Arc<Memory>)>,
    host_bytes_copied: usize,
}

/// The parts of a frame's item that are not passed to the function.
pub struct Rest {
    analysed: bool,
    arrival: Option<Arrival>,
    lease: Option<Arc<FrameLease>>,
    attachments: Attachments,
}

/// Index, PTS, seconds, stream, width, height; pixel format, device, whether it is a keyframe, intact, analysed.
type Plain = ((u64, i64, f64, u32, u32, u32), (String, String, bool, bool, bool));
/// Detections, attributes, attachments.
type Found = (Py<PyAny>, Py<PyAny>, Py<PyDict>);

/// A frame in a pipeline, with its detections.
///
/// A pickled item has no pixels. Items are equal if everything except pixels and attachments is equal.
///
/// Attributes
/// ----------
/// index : int
///     Number in presentation order within its stream, as decoded.
/// pts : int
///     Presentation time in ticks of the stream.
/// seconds : float
///     The same in seconds.
/// stream : int
///     Number of the stream, from 0, for pipelines with several sources.
/// width, height : int
///     Size in pixels.
/// pixel_format : str
///     FFmpeg's name; empty for a frame that is already a model input.
/// device : str
///     "cpu" or "cuda:N".
/// is_keyframe : bool
///     Whether decoding can start here.
/// status : str
///     "ok" or "repaired".
/// analysed : bool
///     Whether a model has run on this frame.
/// detections : list of Detection
///     May be changed or replaced by a stage function, and by a callback with batch=1; later stages see the change.
/// attributes : list of Attribute
///     Results of models for the whole frame: its class, its embedding. Can be changed like `detections`.
/// attachments : dict
///     Your own values, which stay with the frame for later stage functions. Only later ones see a change.
#[pyclass(module = "framerail")]
pub struct FrameItem {
    image: OfProcess<Mutex<Option<Image>>>,
    #[pyo3(get)]
    index: u64,
    #[pyo3(get)]
    pts: i64,
    #[pyo3(get)]
    seconds: f64,
    #[pyo3(get)]
    stream: u32,
    #[pyo3(get)]
    width: u32,
    #[pyo3(get)]
    height: u32,
    /// FFmpeg's name of the pixel format; empty for a frame without pixels.
    #[pyo3(get)]
    pixel_format: String,
    /// Device of the frame.
    #[pyo3(get)]
    device: String,
    #[pyo3(get)]
    is_keyframe: bool,
    #[pyo3(get)]
    status: &'static str,
    #[pyo3(get)]
    analysed: bool,
    #[pyo3(get, set)]
    detections: Py<PyAny>,
    #[pyo3(get, set)]
    attributes: Py<PyAny>,
    #[pyo3(get, set)]
    attachments: Py<PyDict>,
    /// Converts pixels, in a stage.
    edits: Option<PixelEdits>,
}

impl FrameItem {
    /// For observers: the surface is shared.
    pub fn new(py: Python<'_>, item: &PipelineItem) -> PyResult<Self> {
        Self::made(py, item.frame.clone(), &item.detections, item.analysed, &item.attachments, None)
    }

    /// For a stage: the function owns the surface until [`FrameItem::take_back`]. The item keeps the rest.
    pub fn of_stage(py: Python<'_>, item: PipelineItem, edits: &PixelEdits) -> PyResult<(Self, Rest)> {
        let PipelineItem { frame, detections, analysed, arrival, lease, attachments } = item;
        let seen = Self::made(py, frame, &detections, analysed, &attachments, Some(edits))?;
        Ok((seen, Rest { analysed, arrival, lease, attachments }))
    }

    fn made(
        py: Python<'_>,
        frame: Frame,
        detections: &[CoreDetection],
        analysed: bool,
        attachments: &Attachments,
        edits: Option<&PixelEdits>,
    ) -> PyResult<Self> {
        let detections = detections.iter().map(|found| Detection::from_core(py, found)).collect::<PyResult<Vec<_>>>()?;
        let attributes = attribute_list(py, attachments.get::<FrameAttributes>().map_or(&[], |found| found.0.as_slice()))?;
        let attachments = match attachments.get::<PythonAttachments>() {
            Some(PythonAttachments(attached)) => attached.bind(py).copy()?,
            None => PyDict::new(py),
        };
        Ok(Self {
            index: frame.index,
            pts: frame.pts.0,
            seconds: frame.seconds(),
            stream: frame.stream.0,
            width: frame.width,
            height: frame.height,
            pixel_format: match &frame.surface {
                Surface::Host(surface) => surface.format().to_string(),
                other => CudaSurface::of(other).map(|surface| surface.format().to_string()).unwrap_or_default(),
            },
            device: frame.surface.device().to_string(),
            is_keyframe: frame.is_keyframe,
            status: if frame.status == FrameStatus::Ok { "ok" } else { "repaired" },
            analysed,
            detections: PyList::new(py, detections)?.into_any().unbind(),
            attributes,
            attachments: attachments.unbind(),
            image: OfProcess::new(Mutex::new(Some(Image { frame, written: None, edited: None, host_bytes_copied: 0 }))),
            edits: edits.cloned(),
        })
    }

    /// The current detections.
    pub fn core_detections(&self, py: Python<'_>) -> PyResult<Vec<CoreDetection>> {
        core_list(self.detections.bind(py), "detections")
    }

    /// Attaches Python's values and the frame's attributes.
    ///
    /// # Errors
    /// `TypeError` for attributes of another type.
    pub fn attach_to(&self, py: Python<'_>, item: &mut PipelineItem) -> PyResult<()> {
        let found = core_attributes(self.attributes.bind(py))?;
        if found.is_empty() {
            item.attachments.remove::<FrameAttributes>();
        } else {
            item.attachments.insert(FrameAttributes(found));
        }
        if !self.attachments.bind(py).is_empty() {
            item.attachments.insert(PythonAttachments(self.attachments.clone_ref(py)));
        } else {
            item.attachments.remove::<PythonAttachments>();
        }
        Ok(())
    }

    /// Ends the function's ownership: returns the item that continues, and the number of bytes copied on the host.
    ///
    /// # Errors
    /// For detections of another type, and for failures of the GPU.
    pub fn take_back(&self, py: Python<'_>, rest: Rest) -> PyResult<(PipelineItem, usize)> {
        let gone = || PyRuntimeError::new_err("a bug in framerail: a frame was taken back twice");
        let Image { mut frame, written, edited, mut host_bytes_copied } = self.image.get()?.lock().take().ok_or_else(gone)?;
        if let Some(planes) = written {
            for plane in &planes {
                plane.end_writes().map_err(|error| errors::cuda(py, &error))?;
            }
            // An array that may be written still exists: the frame that continues must not change any more.
            let is_kept = planes.iter().any(|plane| Arc::strong_count(plane) > 1);
            if is_kept && let Surface::Host(surface) = &frame.surface {
                host_bytes_copied += surface.sample_bytes_total();
                let copy = surface.copied(&FramePool::new(0)).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
                frame.surface = Surface::Host(copy);
            }
        }
        if let (Some((space, memory)), Some(edits)) = (edited, &self.edits) {
            let pixels = Arc::try_unwrap(memory).map_or_else(|held| held.copied_bytes(), Memory::into_bytes);
            let pixels = pixels.ok_or_else(|| PyRuntimeError::new_err("a bug in framerail: pixels are gone"))?;
            host_bytes_copied += pixels.len();
            py.detach(|| edits.put_back(&mut frame, space, pixels)).map_err(|error| PyRuntimeError::new_err(error.message))?;
        }
        let Rest { analysed, arrival, lease, attachments } = rest;
        let mut item = PipelineItem { frame, detections: self.core_detections(py)?, analysed, arrival, lease, attachments };
        self.attach_to(py, &mut item)?;
        Ok((item, host_bytes_copied))
    }

    /// The frame, while the function has it.
    pub fn frame(&self) -> PyResult<Frame> {
        self.with(|image| Ok(image.frame.clone()))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Image) -> PyResult<T>) -> PyResult<T> {
        let mut image = self.image.get()?.lock();
        let gone =
            "this frame has been passed on, or was pickled: its pixels are available only while the function runs; copy what you need";
        work(image.as_mut().ok_or_else(|| PyRuntimeError::new_err(gone))?)
    }

    fn host_surface(&self, py: Python<'_>) -> PyResult<HostSurface> {
        let frame = self.frame()?;
        py.detach(|| host_image(&frame)).map_err(|error| errors::cuda(py, &error))
    }
}

#[pymethods]
impl FrameItem {
    /// The planes in memory, without a copy: rows of bytes.
    ///
    /// In a stage function they are where the frame is. A callback gets them on the host, copied from a GPU if necessary.
    ///
    /// Parameters
    /// ----------
    /// writable : bool
    ///     In a stage function: later stages see what is written. A frame that has other holders, such as a decoder's reference frame, is
    /// copied first, and the copy is counted. Write only while the function runs.
    #[pyo3(signature = (*, writable=false))]
    fn planes(&self, py: Python<'_>, writable: bool) -> PyResult<Vec<Tensor>> {
        if writable {
            return self.writable_planes(py);
        }
        if self.edits.is_none() {
            let surface = self.host_surface(py)?;
            return Ok((0..surface.format().planes()).map(|plane| Tensor::new(Memory::of_plane(&surface, plane))).collect());
        }
        self.with(|image| {
            if let Some(planes) = &image.written {
                return Ok(planes.iter().map(|plane| Tensor::of(Arc::clone(plane))).collect());
            }
            match &image.frame.surface {
                Surface::Host(surface) => {
                    Ok((0..surface.format().planes()).map(|plane| Tensor::new(Memory::of_plane(surface, plane))).collect())
                }
                Surface::Device(surface) => {
                    let planes = gpu_surface(&image.frame)?.format().planes();
                    Ok((0..planes).filter_map(|plane| Memory::of_gpu_plane(surface, plane, false)).map(Tensor::new).collect())
                }
                _ => Err(PyRuntimeError::new_err("Python cannot access this frame's memory")),
            }
        })
    }

    /// The frame as RGB, 8 bits, [rows, columns, channels]; a copy on the host.
    ///
    /// Parameters
    /// ----------
    /// writable : bool
    ///     In a stage function: what is written becomes the frame, converted back once when the function returns. For frames on a GPU,
    /// declare the function with `on="cpu"`.
    #[pyo3(signature = (*, writable=false))]
    fn rgb(&self, py: Python<'_>, writable: bool) -> PyResult<Tensor> {
        if writable {
            return self.edited(py, PixelSpace::Rgb);
        }
        let frame = Frame { surface: Surface::Host(self.host_surface(py)?), ..self.frame()? };
        let options = TensorOptions { channel_order: ChannelOrder::Rgb, layout: TensorLayout::Thwc, ..TensorOptions::default() };
        let (width, height) = (frame.width, frame.height);
        let made = py.detach(|| {
            let mut bytes = vec![0; options.image_bytes(width, height)];
            TensorConverter::new(options)?.convert(&frame, &mut bytes)?;
            Ok(bytes)
        });
        let bytes = made.map_err(|error: framerail::vision::VisionError| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Tensor::new(Memory::of_bytes(bytes, &options.image_shape(width, height), DType::U8)))
    }

    /// The frame as hue in half degrees (0 to 179), saturation and value (0 to 255), as OpenCV's `COLOR_RGB2HSV` returns them: 8 bits,
    /// [rows, columns, channels], for changes in a stage function. What is written becomes the frame, as with `rgb`.
    fn hsv(&self, py: Python<'_>) -> PyResult<Tensor> {
        self.edited(py, PixelSpace::Hsv)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = other.py();
        let Ok(other) = other.cast::<FrameItem>() else { return Ok(false) };
        let other = other.try_borrow()?;
        Ok(self.plain() == other.plain()
            && self.detections.bind(py).eq(&other.detections)?
            && self.attributes.bind(py).eq(&other.attributes)?)
    }

    /// For pickle and copies: everything but the pixels.
    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, (Plain, Found))> {
        let py = slf.py();
        let item = slf.try_borrow()?;
        let found = (item.detections.clone_ref(py), item.attributes.clone_ref(py), item.attachments.clone_ref(py));
        Ok((slf.get_type().getattr("_without_pixels")?, (item.plain(), found)))
    }

    /// The state from [`FrameItem::__reduce__`].
    #[staticmethod]
    fn _without_pixels(plain: Plain, found: Found) -> Self {
        let ((index, pts, seconds, stream, width, height), (pixel_format, device, is_keyframe, is_ok, analysed)) = plain;
        let (detections, attributes, attachments) = found;
        Self {
            image: OfProcess::new(Mutex::new(None)),
            status: if is_ok { "ok" } else { "repaired" },
            edits: None,
            index,
            pts,
            seconds,
            stream,
            width,
            height,
            pixel_format,
            device,
            is_keyframe,
            analysed,
            detections,
            attributes,
            attachments,
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let found = self.detections.bind(py).len()?;
        let (index, seconds, width, height) = (self.index, self.seconds, self.width, self.height);
        let (format, device) = (&self.pixel_format, &self.device);
        let stream = if self.stream == 0 { String::new() } else { format!("stream={}, ", self.stream) };
        Ok(format!("FrameItem({stream}index={index}, seconds={seconds:.3}, {width}x{height} {format} on {device}, {found} detections)"))
    }
}

impl FrameItem {
    fn plain(&self) -> Plain {
        (
            (self.index, self.pts, self.seconds, self.stream, self.width, self.height),
            (self.pixel_format.clone(), self.device.clone(), self.is_keyframe, self.status == "ok", self.analysed),
        )
    }

    /// Pixels that replace the frame when the function returns.
    fn edited(&self, py: Python<'_>, space: PixelSpace) -> PyResult<Tensor> {
        let Some(edits) = &self.edits else {
            return Err(PyValueError::new_err("option 'writable': callbacks cannot change pixels; use a stage: insert_after"));
        };
        let known = self.with(|image| match &image.edited {
            Some((known, memory)) if *known == space => Ok(Some(Arc::clone(memory))),
            None if image.written.is_none() => Ok(None),
            _ => Err(PyValueError::new_err("the frame is being changed in another way; use planes(), rgb() or hsv(), not two of them")),
        })?;
        if let Some(memory) = known {
            return Ok(Tensor::of(memory));
        }
        // Not under the lock: another thread may wait for it while it holds the GIL.
        let frame = self.frame()?;
        let device = frame.surface.device();
        if device != Device::Cpu {
            let problem = format!("the frame is on {device}; write on=\"cpu\" in the function's @stage to change it as RGB or HSV");
            return Err(PyValueError::new_err(problem));
        }
        let pixels = py.detach(|| edits.take(&frame, space)).map_err(|error| PyRuntimeError::new_err(error.message))?;
        let memory = Arc::new(Memory::of_bytes(pixels, &[frame.height as usize, frame.width as usize, 3], DType::U8));
        self.with(|image| {
            image.edited = Some((space, Arc::clone(&memory)));
            Ok(Tensor::of(memory))
        })
    }

    fn writable_planes(&self, py: Python<'_>) -> PyResult<Vec<Tensor>> {
        if self.edits.is_none() {
            return Err(PyValueError::new_err("option 'writable': callbacks cannot change pixels; use a stage: insert_after"));
        }
        self.with(|image| {
            if image.edited.is_some() {
                return Err(PyValueError::new_err("option 'writable': the frame is being changed as RGB or HSV; use one of the two"));
            }
            if image.written.is_none() {
                let planes = match image.frame.surface.device() {
                    Device::Cpu => host_planes(image)?,
                    Device::Cuda(_) => gpu_planes(py, image)?,
                };
                image.written = Some(planes.into_iter().map(Arc::new).collect());
            }
            Ok(image.written.iter().flatten().map(|plane| Tensor::of(Arc::clone(plane))).collect())
        })
    }
}

fn host_planes(image: &mut Image) -> PyResult<Vec<Memory>> {
    let failed = |error: framerail::core::CoreError| PyRuntimeError::new_err(error.to_string());
    image.host_bytes_copied += image.frame.make_writable(&FramePool::new(0)).map_err(failed)?;
    let surface = image.frame.surface.host_mut().map_err(failed)?;
    let shared = || PyRuntimeError::new_err("a bug in framerail: a frame that was made writable is not");
    Memory::of_writable_planes(surface).ok_or_else(shared)
}

fn gpu_planes(py: Python<'_>, image: &mut Image) -> PyResult<Vec<Memory>> {
    let is_shared = match &mut image.frame.surface {
        Surface::Device(surface) => Arc::get_mut(surface).is_none(),
        _ => false,
    };
    let format = gpu_surface(&image.frame)?.format();
    if is_shared {
        let copy = copied_on_gpu(&image.frame).map_err(|error| errors::cuda(py, &error))?;
        image.frame.surface = Surface::Device(Arc::new(copy));
    }
    let Surface::Device(surface) = &image.frame.surface else { return Ok(Vec::new()) };
    Ok((0..format.planes()).filter_map(|plane| Memory::of_gpu_plane(surface, plane, true)).collect())
}

fn copied_on_gpu(frame: &Frame) -> Result<CudaSurface, CudaError> {
    let surface = CudaSurface::of(&frame.surface).ok_or_else(|| CudaError::BadArgument { what: "the frame has no pixels".into() })?;
    let device = surface.cuda_device();
    surface.copied(&dlpack::pool(device)?, &CudaStream::new(device)?)
}

fn gpu_surface(frame: &Frame) -> PyResult<&CudaSurface> {
    let what = "this frame has no pixels: the decoder made the model's input directly; set pixels=True in the function's @stage";
    CudaSurface::of(&frame.surface).ok_or_else(|| PyRuntimeError::new_err(what))
}
