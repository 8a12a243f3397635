//! Audio by time, for Python.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use framerail::{
    core::{CancelToken, DType},
    media::{Allowance, AudioBlock, AudioOutput, AudioReader, AudioSeek, InputOptions, MediaError},
};
use parking_lot::Mutex;
use pyo3::{exceptions::PyValueError, prelude::*};
use serde::Deserialize;
use serde_json::json;

use crate::{
    errors,
    fork::OfProcess,
    options::{parse, timeout},
    source::{Raised, Source},
    tensor::{Memory, Tensor},
    waiting::{Turn, without_gil},
};

/// Options of an audio reader, as `framerail/audio.py` sends them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    stream: Option<usize>,
    is_near: bool,
    timeout: Option<f64>,
    format: Option<String>,
    allow: String,
    insecure: bool,
}

/// Start and stop in seconds.
type Span = (f64, f64);

/// An audio reader. Use `framerail.AudioReader`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Audio {
    shared: OfProcess<Arc<Mutex<Option<AudioReader>>>>,
    cancel: CancelToken,
    raised: Raised,
    info: String,
    is_closed: AtomicBool,
}

impl Audio {
    /// Opens the audio of a source with complete input options.
    ///
    /// # Errors
    /// Those of opening, as Python's exceptions.
    pub fn open(py: Python<'_>, mut input: InputOptions, raised: Raised, stream: Option<usize>, is_near: bool) -> PyResult<Self> {
        let cancel = CancelToken::default();
        input.cancel = cancel.clone();
        let seek = if is_near { AudioSeek::Near } else { AudioSeek::Exact };
        let open = move |turn: &Turn| turn.take().then(|| AudioReader::open(&input, stream, seek));
        let reader = match without_gil(py, &cancel, open)? {
            Some(opened) => opened.map_err(|error| exception(py, &error, &raised))?,
            None => return Err(closed()),
        };
        let info = info_json(&reader);
        let shared = OfProcess::new(Arc::new(Mutex::new(Some(reader))));
        Ok(Self { shared, cancel, raised, info, is_closed: AtomicBool::new(false) })
    }
}

#[pymethods]
impl Audio {
    /// Opens a source with options in JSON.
    #[new]
    fn new(py: Python<'_>, source: &Bound<'_, PyAny>, name: &str, options_json: &str) -> PyResult<Self> {
        let source = Source::new(source, name)?;
        let given: Options = parse(options_json)?;
        let mut input = source.input;
        input.format = given.format;
        input.allow = Allowance::of(&given.allow).unwrap_or_default();
        input.insecure = given.insecure;
        input.read_timeout = timeout(given.timeout)?;
        Self::open(py, input, source.raised, given.stream, given.is_near)
    }

    /// Whether this process created it; a forked child has to reopen it.
    fn is_here(&self) -> bool {
        self.shared.is_here()
    }

    /// Properties of the stream, as JSON.
    fn info(&self) -> &str {
        &self.info
    }

    /// Packets and frames that could not be decoded so far.
    fn damaged(&self, py: Python<'_>) -> PyResult<u64> {
        let shared = self.shared.get()?;
        Ok(py.detach(|| shared.lock().as_ref().map_or(0, AudioReader::damaged)))
    }

    /// Samples as channels by samples; the time of the first one, their rate, and the spans filled with silence.
    #[pyo3(signature = (start, stop, sample_rate, channels, pads))]
    fn read(
        &self,
        py: Python<'_>,
        start: Option<f64>,
        stop: Option<f64>,
        sample_rate: Option<u32>,
        channels: Option<u32>,
        pads: bool,
    ) -> PyResult<(Tensor, f64, u32, Vec<Span>)> {
        let shared = Arc::clone(self.shared.get()?);
        let output = AudioOutput { sample_rate, channels, pads };
        let work = move |turn: &Turn| {
            let mut reader = shared.lock();
            match reader.as_mut() {
                Some(reader) if turn.take() => Some(reader.read(start, stop, &output)),
                _ => None,
            }
        };
        let block = match without_gil(py, &self.cancel, work)? {
            Some(Err(MediaError::Cancelled { .. })) if self.is_closed.load(Ordering::SeqCst) => return Err(closed()),
            Some(block) => block.map_err(|error| exception(py, &error, &self.raised))?,
            None => return Err(closed()),
        };
        let AudioBlock { data, channels, samples, sample_rate, start_secs, gaps } = block;
        Ok((Tensor::new(Memory::of_floats(data, &[channels, samples])), start_secs, sample_rate, gaps))
    }

    /// Closes the reader. Returned samples stay valid.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Ok(shared) = self.shared.get() {
            self.is_closed.store(true, Ordering::SeqCst);
            self.cancel.cancel();
            py.detach(|| drop(shared.lock().take()));
        }
        Ok(())
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the audio reader is closed")
}

fn exception(py: Python<'_>, error: &MediaError, raised: &Raised) -> PyErr {
    let exception = errors::media(py, error);
    if let Some(cause) = raised.lock().take() {
        exception.set_cause(py, Some(cause));
    }
    exception
}

fn info_json(reader: &AudioReader) -> String {
    let info = reader.info();
    json!({
        "container": info.container,
        "codec": info.codec,
        "sample_format": info.sample_format,
        "sample_rate": info.sample_rate,
        "num_channels": info.channels,
        "layout": info.layout,
        "stream_index": info.stream_index,
        "start_seconds": info.start_secs,
        "start_seconds_header": info.start_secs_header,
        "duration_seconds_header": info.duration_secs,
        "bit_rate": info.bit_rate,
        "dtype": crate::options::dtype_name(DType::F32),
    })
    .to_string()
}
