//! A video reader for Python.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use framerail::{
    core::CancelToken,
    media::{ColorNames, InputOptions, MediaError},
    reader::{self, FrameInfo, FrameStatus, IndexSource, ReaderError, VideoReader},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict},
};
use serde_json::json;

use crate::{
    audio::Audio,
    batches::Batches,
    dlpack::Foreign,
    errors,
    fork::OfProcess,
    options,
    source::{Raised, Source},
    tensor::{Memory, Tensor},
    waiting::{Turn, without_gil},
};

/// State shared by calls on several threads. Empty once the reader is closed.
type Shared = Mutex<Option<VideoReader>>;

/// A video reader. Use `framerail.VideoReader`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Reader {
    shared: OfProcess<Arc<Shared>>,
    cancel: CancelToken,
    raised: Raised,
    /// See [`VideoReader::version`].
    version: Arc<AtomicU64>,
    is_closed: AtomicBool,
    /// The options of the source.
    input: InputOptions,
}

/// Result of a call that was made without the GIL.
pub enum Failed {
    Reader(ReaderError),
    Python(PyErr),
    /// The reader was closed, or the caller has gone.
    Closed,
}

impl From<ReaderError> for Failed {
    fn from(error: ReaderError) -> Self {
        Failed::Reader(error)
    }
}

impl From<PyErr> for Failed {
    fn from(error: PyErr) -> Self {
        Failed::Python(error)
    }
}

impl Failed {
    /// The exception; its cause is the exception of a file-like object.
    pub fn into_exception(self, py: Python<'_>, raised: &Raised) -> PyErr {
        match self {
            Failed::Reader(error) => {
                let exception = errors::reader(py, &error);
                if let Some(cause) = raised.lock().take() {
                    exception.set_cause(py, Some(cause));
                }
                exception
            }
            Failed::Python(error) => error,
            Failed::Closed => PyValueError::new_err("the reader is closed"),
        }
    }
}

impl Reader {
    fn with<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut VideoReader) -> Result<T, Failed> + Send + 'static,
    ) -> PyResult<T> {
        let shared = Arc::clone(self.shared.get()?);
        let work = move |turn: &Turn| {
            let mut reader = shared.lock();
            match reader.as_mut() {
                Some(reader) if turn.take() => work(reader),
                _ => Err(Failed::Closed),
            }
        };
        without_gil(py, &self.cancel, work)?.map_err(|failed| self.or_closed(failed).into_exception(py, &self.raised))
    }

    /// A call that another thread ended by closing the reader was not interrupted by the user.
    fn or_closed(&self, failed: Failed) -> Failed {
        match failed {
            Failed::Reader(ReaderError::Media(MediaError::Cancelled { .. })) if self.is_closed.load(Ordering::SeqCst) => Failed::Closed,
            failed => failed,
        }
    }
}

#[pymethods]
impl Reader {
    /// Opens a source with options in JSON.
    #[new]
    fn new(py: Python<'_>, source: &Bound<'_, PyAny>, name: &str, options_json: &str) -> PyResult<Self> {
        let source = Source::new(source, name)?;
        let mut options = options::reader(py, options_json, &source)?;
        let (cancel, raised) = (CancelToken::default(), source.raised);
        options.input.cancel = cancel.clone();
        let input = options.input.clone();
        let open = move |turn: &Turn| if turn.take() { VideoReader::open(options).map_err(Failed::Reader) } else { Err(Failed::Closed) };
        let reader = without_gil(py, &cancel, open)?.map_err(|failed| failed.into_exception(py, &raised))?;
        let version = reader.version();
        let shared = OfProcess::with_threads(Arc::new(Mutex::new(Some(reader))));
        Ok(Self { shared, cancel, raised, version, is_closed: AtomicBool::new(false), input })
    }

    /// Whether this process created it; a forked child has to reopen it.
    fn is_here(&self) -> bool {
        self.shared.is_here()
    }

    /// Closes the reader and releases everything. Returned frames stay valid.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if !self.shared.is_here() {
            return Ok(());
        }
        let shared = self.shared.get()?;
        if let Some(mut reader) = shared.try_lock() {
            let reader = reader.take();
            py.detach(|| drop(reader));
            return Ok(());
        }
        // Another thread is in a call, and may wait for a source without data.
        self.is_closed.store(true, Ordering::SeqCst);
        self.cancel.cancel();
        let shared = Arc::clone(shared);
        without_gil(py, &self.cancel, move |turn| {
            if turn.take() {
                let reader = shared.lock().take();
                drop(reader);
            }
        })
    }

    /// A number that increases when more becomes known about the video.
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Properties of the video, as JSON: exact ones, which builds the index, or the header's.
    fn metadata(&self, py: Python<'_>, is_content: bool) -> PyResult<String> {
        if let Some(reader) = self.shared.get()?.try_lock().as_deref().and_then(Option::as_ref)
            && !is_content
        {
            return Ok(metadata_json(&reader.header(), &reader.header()));
        }
        self.with(py, move |reader| {
            let header = reader.header();
            Ok(if is_content { metadata_json(reader.content()?, &header) } else { metadata_json(&header, &header) })
        })
    }

    /// Number of frames.
    fn num_frames(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |reader| Ok(reader.num_frames()?))
    }

    /// PTS, seconds, durations and keyframe flags of all frames, as columns.
    fn times<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let times = self.with(py, |reader| Ok(reader.times()?.to_vec()))?;
        let columns = PyDict::new(py);
        columns.set_item("pts", column(py, &times, |time| time.pts.0.to_ne_bytes()))?;
        columns.set_item("seconds", column(py, &times, |time| time.seconds.to_ne_bytes()))?;
        columns.set_item("durations", column(py, &times, |time| time.duration_secs.to_ne_bytes()))?;
        columns.set_item("is_keyframe", column(py, &times, |time| [u8::from(time.is_keyframe)]))?;
        Ok(columns)
    }

    /// Numbers of the frames on screen at these times.
    fn frames_at(&self, py: Python<'_>, seconds: Vec<f64>) -> PyResult<Vec<usize>> {
        self.with(py, move |reader| seconds.iter().map(|secs| Ok(reader.frame_at(*secs)?)).collect())
    }

    /// Changes the output format.
    fn set_output(&self, py: Python<'_>, output_json: &str) -> PyResult<()> {
        let output = options::output(output_json)?;
        self.with(py, move |reader| Ok(reader.set_output(output)?))
    }

    /// Frames by number, in the requested order: a tensor, and the properties of each frame as columns.
    fn read<'py>(&self, py: Python<'py>, numbers: Vec<usize>) -> PyResult<(Tensor, Bound<'py, PyDict>)> {
        let batch = self.with(py, move |reader| Ok(reader.read(&numbers)?))?;
        handed_out(py, batch)
    }

    /// The same into the caller's array. `stream` is the stream that uses GPU memory, numbered as in the array API standard.
    fn read_into<'py>(&self, py: Python<'py>, numbers: Vec<usize>, out: &Bound<'py, PyAny>, stream: isize) -> PyResult<Bound<'py, PyDict>> {
        let (picture, device) = self.with(py, |reader| Ok((reader.image_shape()?, reader.metadata().device)))?;
        let [a, b, c] = picture.axes;
        let mut target = Foreign::of(out, &[numbers.len(), a, b, c], picture.dtype, device, stream, "out")?;
        let frames = self.with(py, move |reader| match device {
            framerail::core::Device::Cpu => Ok(reader.read_into(&numbers, target.host_bytes_mut())?),
            framerail::core::Device::Cuda(_) => {
                let batch = reader.read(&numbers)?;
                copy_to(&batch, &target)?;
                Ok(batch.frames)
            }
        })?;
        columns(py, &frames)
    }

    /// Shape, type and planes of one frame, as JSON.
    fn picture(&self, py: Python<'_>) -> PyResult<String> {
        let picture = self.with(py, |reader| Ok(reader.image_shape()?))?;
        let planes = picture.planes.map(|planar| {
            let planes: Vec<_> = planar.planes.iter().map(|plane| json!([plane.offset_bytes, plane.row_bytes, plane.rows])).collect();
            json!({"format": planar.format.to_string(), "width": planar.width, "height": planar.height, "planes": planes})
        });
        Ok(json!({"shape": picture.axes, "dtype": options::dtype_name(picture.dtype), "planes": planes}).to_string())
    }

    /// Batches made ahead.
    fn batches(&self, py: Python<'_>, selection_json: &str, batch: usize, drop_last: bool, output_json: Option<&str>) -> PyResult<Batches> {
        let selection = options::selection(selection_json)?;
        let output = output_json.map(options::output).transpose()?;
        let batches = self.with(py, move |reader| {
            let Some(output) = output else { return Ok(reader.batches(selection, batch, drop_last)?) };
            // For these batches alone.
            let before = reader.options().output.clone();
            reader.set_output(output)?;
            let batches = reader.batches(selection, batch, drop_last);
            reader.set_output(before)?;
            Ok(batches?)
        })?;
        Ok(Batches::new(batches, Arc::clone(&self.raised)))
    }

    /// Opens the audio of the same source: number `stream` among its audio streams.
    #[pyo3(signature = (stream, is_near))]
    fn open_audio(&self, py: Python<'_>, stream: Option<usize>, is_near: bool) -> PyResult<Audio> {
        Audio::open(py, self.input.clone(), Arc::clone(&self.raised), stream, is_near)
    }

    /// Counters so far, as JSON.
    fn stats(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |reader| Ok(stats_value(&reader.stats()).to_string()))
    }
}

fn copy_to(batch: &reader::Batch, target: &Foreign) -> Result<(), Failed> {
    match &batch.tensor {
        reader::Tensor::Cuda(tensor) => target
            .copy_from(tensor.device(), tensor.buffer())
            .map_err(|error| Failed::Python(Python::attach(|py| errors::cuda(py, &error)))),
        _ => Err(Failed::Python(PyValueError::new_err("option 'out': frames are on the host, not on the GPU"))),
    }
}

/// A batch for Python.
pub fn handed_out(py: Python<'_>, batch: reader::Batch) -> PyResult<(Tensor, Bound<'_, PyDict>)> {
    let columns = columns(py, &batch.frames)?;
    Ok((Tensor::new(Memory::of_batch(batch.tensor)), columns))
}

/// Values of one kind, one after the other, for `numpy.frombuffer`.
pub fn column<'py, T, const N: usize>(py: Python<'py>, items: &[T], value: impl Fn(&T) -> [u8; N]) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &items.iter().flat_map(value).collect::<Vec<u8>>())
}

fn columns<'py>(py: Python<'py>, frames: &[FrameInfo]) -> PyResult<Bound<'py, PyDict>> {
    let columns = PyDict::new(py);
    columns.set_item("numbers", column(py, frames, |frame| (frame.number as i64).to_ne_bytes()))?;
    columns.set_item("pts", column(py, frames, |frame| frame.pts.0.to_ne_bytes()))?;
    columns.set_item("seconds", column(py, frames, |frame| frame.seconds.to_ne_bytes()))?;
    columns.set_item("durations", column(py, frames, |frame| frame.duration_secs.to_ne_bytes()))?;
    columns.set_item("is_keyframe", column(py, frames, |frame| [u8::from(frame.is_keyframe)]))?;
    let status = |frame: &FrameInfo| match frame.status {
        FrameStatus::Ok => [0],
        FrameStatus::Repaired => [1],
        FrameStatus::Missing => [2],
    };
    columns.set_item("status", column(py, frames, status))?;
    Ok(columns)
}

fn metadata_json(metadata: &reader::VideoMetadata, header: &reader::VideoMetadata) -> String {
    let index_source = match metadata.index_source {
        IndexSource::Unread => "unread",
        IndexSource::Container => "container",
        IndexSource::Scan => "scan",
        IndexSource::Cache => "cache",
        IndexSource::Decoded => "decoded",
        IndexSource::Approximate => "approximate",
        _ => "unknown",
    };
    let color = ColorNames::of(&metadata.color);
    let fraction = |value: framerail::core::Rational| json!([value.num, value.den]);
    json!({
        "source": metadata.source,
        "container": metadata.container,
        "codec": metadata.codec,
        "width": metadata.width,
        "height": metadata.height,
        "pixel_format": metadata.pixel_format.to_string(),
        "stream_index": metadata.stream_index,
        "bits_per_sample": metadata.pixel_format.bits(),
        "color": {
            "matrix": color.matrix,
            "range": color.range,
            "primaries": color.primaries,
            "transfer": color.transfer,
            "chroma_location": color.chroma_location,
        },
        "frame_rate": metadata.frame_rate.map(fraction),
        "frame_rate_header": header.frame_rate.map(fraction),
        "duration_seconds": metadata.duration_secs,
        "duration_seconds_header": header.duration_secs,
        "start_seconds": metadata.start_secs,
        "start_seconds_header": header.start_secs,
        "end_stream_seconds": metadata.end_secs,
        "num_frames": metadata.num_frames,
        "num_frames_header": header.frames_estimate,
        "bit_rate": metadata.bit_rate,
        "rotation": metadata.rotation.degrees(),
        "mirrored": metadata.rotation.is_mirrored(),
        "sample_aspect_ratio": metadata.sample_aspect_ratio.map(fraction),
        "index_source": index_source,
        "device": metadata.device.to_string(),
        "fallback": metadata.fallback,
        "tags": metadata.tags,
    })
    .to_string()
}

pub fn stats_value(stats: &reader::ReaderStats) -> serde_json::Value {
    json!({
        "pictures_decoded": stats.pictures_decoded,
        "packets_skipped": stats.packets_skipped,
        "pictures_converted": stats.pictures_converted,
        "frames_delivered": stats.frames_delivered,
        "frames_repaired": stats.frames_repaired,
        "frames_missing": stats.frames_missing,
        "frames_rescaled": stats.frames_rescaled,
        "seeks": stats.seeks,
        "decoders_opened": stats.decoders_opened,
        "upload_bytes": stats.upload_bytes,
        "download_bytes": stats.download_bytes,
        "device_copies": stats.device_copies,
    })
}
