//! Frames from Python instead of a file.

use std::sync::Arc;

use framerail::{
    core::{DType, Device, Rational},
    frame_input::{FrameInput as Input, FrameInputError, FrameInputOptions, GiveFrames, WhenFull},
    pipeline::{ErrorKind, StageError},
    vision::PixelArray,
};
use pyo3::{
    exceptions::{PyKeyboardInterrupt, PyMemoryError, PyRuntimeError, PyValueError},
    prelude::*,
};
use serde::Deserialize;

use crate::{
    background,
    dlpack::Foreign,
    fork::OfProcess,
    frame_writer::{color, pixel_format},
    hosted::attached,
    options::parse,
    source::Raised,
    waiting::{Turn, without_gil},
};

/// Options of an input, as `framerail/frame_input.py` sends them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    fps: Option<(i64, i64)>,
    /// Width and height.
    size: Option<(u32, u32)>,
    pixel_format: Option<String>,
    color: String,
    is_full_range: bool,
    drops: bool,
    buffer: usize,
    frames: Option<u64>,
}

/// An input. Use `framerail.FrameInput`.
#[pyclass(frozen, weakref, module = "framerail._framerail")]
pub struct FrameInput {
    input: OfProcess<Input>,
}

#[pymethods]
impl FrameInput {
    #[new]
    fn new(options_json: &str) -> PyResult<Self> {
        let given: Options = parse(options_json)?;
        let options = FrameInputOptions {
            frame_rate: given.fps.and_then(|(num, den)| Rational::new(num, den)),
            size: given.size,
            pixel_format: given.pixel_format.map(|name| pixel_format(&name)).transpose()?,
            color: color(&given.color, given.is_full_range)?,
            when_full: if given.drops { WhenFull::DropOldest } else { WhenFull::Wait },
            buffer: given.buffer,
            frames: given.frames,
        };
        Ok(Self { input: OfProcess::new(Input::new(options)) })
    }

    /// Adds a frame from a dense array of bytes; returns whether it will be read.
    #[pyo3(signature = (pixels, height, width, channels, sample_bytes, is_planar, seconds))]
    #[expect(clippy::too_many_arguments, reason = "one call a frame, with plain values")]
    fn push(
        &self,
        py: Python<'_>,
        pixels: &Bound<'_, PyAny>,
        height: u32,
        width: u32,
        channels: u32,
        sample_bytes: u32,
        is_planar: bool,
        seconds: Option<f64>,
    ) -> PyResult<bool> {
        let array = PixelArray { width, height, channels, sample_bytes, is_planar };
        let bytes = Foreign::of(pixels, &[array.bytes()], DType::U8, Device::Cpu, 1, "frame")?;
        let input = self.input.get()?.clone();
        let interrupt = input.interrupt().clone();
        let work = move |turn: &Turn| turn.take().then(|| input.push(bytes.host_bytes(), array, seconds));
        match without_gil(py, &interrupt, work)? {
            Some(pushed) => pushed.map_err(exception),
            None => Err(PyRuntimeError::new_err("handing in a frame was given up")),
        }
    }

    fn close(&self) -> PyResult<()> {
        self.input.get().map(Input::close)
    }

    fn fail(&self, why: &str) -> PyResult<()> {
        self.input.get().map(|input| input.fail(why))
    }

    fn abandon(&self) -> PyResult<()> {
        self.input.get().map(Input::abandon)
    }

    fn pushed(&self) -> PyResult<u64> {
        self.input.get().map(Input::pushed)
    }

    fn dropped(&self) -> PyResult<u64> {
        self.input.get().map(Input::dropped)
    }

    fn is_read(&self) -> PyResult<bool> {
        self.input.get().map(Input::is_read)
    }
}

fn exception(error: FrameInputError) -> PyErr {
    let words = error.to_string();
    match error {
        FrameInputError::Interrupted => PyKeyboardInterrupt::new_err(words),
        FrameInputError::Core(_) => PyMemoryError::new_err(words),
        _ => PyValueError::new_err(words),
    }
}

/// Finds the input of a source whenever it is opened: by the method `open` of a `framerail.FrameInput`.
pub struct PythonFrames {
    pub giver: Arc<Py<PyAny>>,
    pub is_live: bool,
    pub raised: Raised,
}

impl GiveFrames for PythonFrames {
    fn is_live(&self) -> bool {
        self.is_live
    }

    fn open(&self) -> Result<Input, StageError> {
        attached(&self.raised, ErrorKind::Internal, |py| {
            let opened = self.giver.bind(py).call_method0("open")?;
            let input = opened.cast::<FrameInput>()?.get().input.get()?.clone();
            Ok(input)
        })
    }

    fn failed(&self) {
        background::call(|py| {
            if let Ok(error) = self.giver.bind(py).getattr("error")
                && !error.is_none()
            {
                self.raised.lock().get_or_insert(PyErr::from_value(error));
            }
        });
    }
}
