//! A frame on its way through a pipeline, as a callback sees it.

use framerail::{
    core::{DType, Frame, FrameStatus, HostSurface, Surface, TensorLayout},
    devices::host_picture,
    pipeline::FrameItem as PipelineItem,
    vision::{ChannelOrder, TensorConverter, TensorOptions},
};
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{
    detection::Detection,
    errors,
    fork::OfProcess,
    tensor::{Memory, Tensor},
};

/// A frame in a pipeline, with what was found in it.
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
///     FFmpeg's name; empty on a card.
/// device : str
///     "cpu" or "cuda:N".
/// is_keyframe : bool
///     Whether decoding can start here.
/// status : str
///     "ok" or "repaired".
/// analysed : bool
///     Whether a model has looked at this frame.
/// detections : list of Detection
///     May be changed or replaced by a callback with batch=1: what it holds afterwards travels on.
#[pyclass(module = "framerail")]
pub struct FrameItem {
    frame: OfProcess<Frame>,
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
    #[pyo3(get)]
    is_keyframe: bool,
    #[pyo3(get)]
    status: &'static str,
    #[pyo3(get)]
    analysed: bool,
    #[pyo3(get, set)]
    detections: Py<PyAny>,
}

impl FrameItem {
    pub fn new(py: Python<'_>, item: &PipelineItem) -> PyResult<Self> {
        let frame = &item.frame;
        let detections: Vec<Detection> = item.detections.iter().map(Detection::from).collect();
        Ok(Self {
            index: frame.index,
            pts: frame.pts.0,
            seconds: frame.seconds(),
            stream: frame.stream.0,
            width: frame.width,
            height: frame.height,
            is_keyframe: frame.is_keyframe,
            status: if frame.status == FrameStatus::Ok { "ok" } else { "repaired" },
            analysed: item.analysed,
            detections: detections.into_pyobject(py)?.unbind(),
            frame: OfProcess::new(frame.clone()),
        })
    }

    /// The detections as they are now.
    pub fn core_detections(&self, py: Python<'_>) -> PyResult<Vec<framerail::core::Detection>> {
        let detections: Vec<Detection> = self.detections.extract(py)?;
        detections.iter().map(Detection::to_core).collect()
    }

    fn surface(&self, py: Python<'_>) -> PyResult<HostSurface> {
        let frame = self.frame.get()?.clone();
        py.detach(|| host_picture(&frame)).map_err(|error| errors::cuda(py, &error))
    }
}

#[pymethods]
impl FrameItem {
    /// FFmpeg's name of the pixel format; empty on a card.
    #[getter]
    fn pixel_format(&self) -> PyResult<String> {
        let Surface::Host(surface) = &self.frame.get()?.surface else { return Ok(String::new()) };
        Ok(surface.format().to_string())
    }

    /// Where the picture lies.
    #[getter]
    fn device(&self) -> PyResult<String> {
        Ok(self.frame.get()?.surface.device().to_string())
    }

    /// The planes as they lie in memory, read-only and without a copy: rows of bytes. A frame on a card is copied from there.
    fn planes(&self, py: Python<'_>) -> PyResult<Vec<Tensor>> {
        let surface = self.surface(py)?;
        Ok((0..surface.format().planes()).map(|plane| Tensor::new(Memory::of_plane(&surface, plane))).collect())
    }

    /// The picture as RGB, 8 bits, rows by columns by channels; a copy.
    fn rgb(&self, py: Python<'_>) -> PyResult<Tensor> {
        let frame = Frame { surface: Surface::Host(self.surface(py)?), ..self.frame.get()?.clone() };
        let options = TensorOptions { channel_order: ChannelOrder::Rgb, layout: TensorLayout::Thwc, ..TensorOptions::default() };
        let (width, height) = (frame.width, frame.height);
        let made = py.detach(|| {
            let mut bytes = vec![0; options.picture_bytes(width, height)];
            TensorConverter::new(options)?.convert(&frame, &mut bytes)?;
            Ok(bytes)
        });
        let bytes = made.map_err(|error: framerail::vision::VisionError| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Tensor::new(Memory::of_bytes(bytes, &options.picture_shape(width, height), DType::U8)))
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let found = self.detections.bind(py).len()?;
        let (index, seconds, width, height) = (self.index, self.seconds, self.width, self.height);
        Ok(format!("FrameItem(index={index}, seconds={seconds:.3}, {width}x{height}, {found} detections)"))
    }
}
