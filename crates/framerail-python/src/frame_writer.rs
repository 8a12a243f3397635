//! Video written from arrays, for Python.

use std::{path::PathBuf, sync::Arc, time::Duration};

use framerail::{
    core::{CancelToken, ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, DType, Device, PixelFormat, Rational},
    frame_writer::{FrameWriter, FrameWriterError, FrameWriterOptions, WriterAudio},
    media::{Quality, WriterOptions},
    vision::{PixelArray, VisionError},
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
};
use serde::Deserialize;
use serde_json::json;

use crate::{
    dlpack::Foreign,
    errors,
    fork::OfProcess,
    options::parse,
    source::{Raised, Source},
    waiting::{Turn, without_gil},
};

/// Options of a writer, as `framerail/writer.py` sends them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    path: PathBuf,
    fps: (i64, i64),
    format: Option<String>,
    codec: Option<String>,
    crf: Option<f64>,
    bit_rate: Option<u64>,
    preset: Option<String>,
    pixel_format: Option<String>,
    gop: Option<u32>,
    threads: usize,
    color: String,
    is_exact: bool,
    is_full_range: bool,
    sample_rate: Option<u32>,
    audio_channels: u32,
    is_pcm: bool,
    codec_options: Vec<(String, String)>,
    format_options: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    overwrite: bool,
}

/// A writer. Use `framerail.VideoWriter`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Writer {
    shared: OfProcess<Arc<Mutex<Option<FrameWriter>>>>,
    cancel: CancelToken,
    raised: Raised,
}

impl Writer {
    fn with<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut FrameWriter) -> Result<T, FrameWriterError> + Send + 'static,
    ) -> PyResult<T> {
        let shared = Arc::clone(self.shared.get()?);
        let work = move |turn: &Turn| {
            let mut writer = shared.lock();
            match writer.as_mut() {
                Some(writer) if turn.take() => Some(work(writer)),
                _ => None,
            }
        };
        match without_gil(py, &self.cancel, work)? {
            Some(done) => done.map_err(|error| exception(py, &error, &self.raised)),
            None => Err(PyValueError::new_err("the writer is closed")),
        }
    }
}

#[pymethods]
impl Writer {
    /// Checks everything possible before the first frame. `track` is a source of audio to copy, and its name.
    #[new]
    #[pyo3(signature = (options_json, track))]
    fn new(py: Python<'_>, options_json: &str, track: Option<(Bound<'_, PyAny>, String)>) -> PyResult<Self> {
        let given: Options = parse(options_json)?;
        let (cancel, mut raised) = (CancelToken::default(), Raised::default());
        let writer = WriterOptions {
            format: given.format,
            codec: given.codec,
            quality: match (given.crf, given.bit_rate) {
                (Some(crf), _) => Quality::Crf(crf),
                (None, Some(rate)) => Quality::BitRate(rate),
                (None, None) => Quality::EncoderDefault,
            },
            preset: given.preset,
            gop: given.gop,
            threads: given.threads,
            pixel_format: given.pixel_format.map(|name| pixel_format(&name)).transpose()?,
            encoder_options: given.codec_options,
            format_options: given.format_options,
            metadata: given.tags,
            overwrite: given.overwrite,
            ..WriterOptions::default()
        };
        let audio = match (track, given.sample_rate) {
            (Some((object, name)), _) => {
                let source = Source::new(&object, &name)?;
                let mut input = source.input;
                raised = source.raised;
                input.cancel = cancel.clone();
                input.read_timeout = Some(Duration::from_secs(60));
                if let Ok(path) = object.extract::<PathBuf>() {
                    // Nothing is written yet, so there is no conflict.
                    let _ = writer.files.read(&path);
                }
                WriterAudio::Track(Box::new(input))
            }
            (None, Some(rate)) => WriterAudio::Samples { rate, channels: given.audio_channels, is_pcm: given.is_pcm },
            (None, None) => WriterAudio::None,
        };
        let (num, den) = given.fps;
        let frame_rate = Rational::new(num, den).filter(|rate| rate.is_positive());
        let frame_rate = frame_rate.ok_or_else(|| PyValueError::new_err("option 'fps': must be above 0"))?;
        let color = color(&given.color, given.is_full_range)?;
        let options = FrameWriterOptions { path: given.path, writer, frame_rate, color, is_exact: given.is_exact, audio };
        let open = move |turn: &Turn| turn.take().then(|| FrameWriter::new(options));
        match without_gil(py, &cancel, open)? {
            Some(Ok(writer)) => Ok(Self { shared: OfProcess::with_threads(Arc::new(Mutex::new(Some(writer)))), cancel, raised }),
            Some(Err(error)) => Err(exception(py, &error, &raised)),
            None => Err(PyRuntimeError::new_err("opening was cancelled")),
        }
    }

    /// Writes `count` consecutive frames of bytes in a dense array.
    #[pyo3(signature = (images, count, height, width, channels, sample_bytes, is_planar, times))]
    #[expect(clippy::too_many_arguments, reason = "one call a batch, with plain values")]
    fn write(
        &self,
        py: Python<'_>,
        images: &Bound<'_, PyAny>,
        count: usize,
        height: u32,
        width: u32,
        channels: u32,
        sample_bytes: u32,
        is_planar: bool,
        times: Option<Vec<f64>>,
    ) -> PyResult<()> {
        let array = PixelArray { width, height, channels, sample_bytes, is_planar };
        let bytes = Foreign::of(images, &[count * array.bytes()], DType::U8, Device::Cpu, 1, "frames")?;
        self.with(py, move |writer| writer.write(bytes.host_bytes(), array, times.as_deref()))
    }

    /// Writes samples: bytes of 32-bit floats, channel by channel.
    fn write_audio(&self, py: Python<'_>, samples: &Bound<'_, PyAny>, bytes: usize) -> PyResult<()> {
        if bytes == 0 {
            return Ok(());
        }
        let samples = Foreign::of(samples, &[bytes], DType::U8, Device::Cpu, 1, "samples")?;
        self.with(py, move |writer| writer.write_audio(samples.host_bytes()))
    }

    /// Completes the file; returns a report as JSON.
    fn finish(&self, py: Python<'_>) -> PyResult<String> {
        let report = self.with(py, FrameWriter::finish);
        self.drop_writer(py);
        let report = report?;
        Ok(json!({
            "path": report.path,
            "codec": report.codec,
            "pixel_format": report.pixel_format,
            "frames": report.frames,
            "bytes": report.bytes,
            "timestamps_rounded": report.timestamps_rounded,
            "warnings": report.warnings.into_iter().chain(report.elsewhere.map(|elsewhere| elsewhere.notice().to_owned())).collect::<Vec<_>>(),
        })
        .to_string())
    }

    /// Ends without completing the file; returns the name of the file that keeps the playable part.
    fn abandon(&self, py: Python<'_>) -> PyResult<Option<PathBuf>> {
        let kept = self.with(py, FrameWriter::abandon);
        self.drop_writer(py);
        kept
    }

    /// Whether this process created it.
    fn is_here(&self) -> bool {
        self.shared.is_here()
    }
}

impl Writer {
    fn drop_writer(&self, py: Python<'_>) {
        if let Ok(shared) = self.shared.get() {
            py.detach(|| drop(shared.lock().take()));
        }
    }
}

pub fn pixel_format(name: &str) -> PyResult<PixelFormat> {
    name.parse().map_err(|()| PyValueError::new_err(format!("option 'pixel_format': {name:?}; use a name of FFmpeg's such as 'yuv420p'")))
}

/// Matrix, primaries and transfer by one name; `none` leaves the file untagged and uses BT.601's matrix.
pub fn color(name: &str, is_full_range: bool) -> PyResult<ColorDescription> {
    let (matrix, primaries, transfer) = match name {
        "bt709" => (ColorMatrix::Bt709, 1, 1),
        "bt601" => (ColorMatrix::Bt601, 6, 6),
        "bt2020" => (ColorMatrix::Bt2020, 9, 14),
        "none" => (ColorMatrix::Unspecified, 2, 2),
        other => return Err(PyValueError::new_err(format!("option 'color': {other:?}; use 'bt709', 'bt601', 'bt2020' or 'none'"))),
    };
    let range = match (name, is_full_range) {
        (_, true) => ColorRange::Full,
        ("none", false) => ColorRange::Unspecified,
        _ => ColorRange::Limited,
    };
    Ok(ColorDescription {
        matrix,
        range,
        primaries: ColorPrimaries(primaries),
        transfer: ColorTransfer(transfer),
        ..ColorDescription::default()
    })
}

fn exception(py: Python<'_>, error: &FrameWriterError, raised: &Raised) -> PyErr {
    let exception = match error {
        FrameWriterError::Media(error) => errors::media(py, error),
        FrameWriterError::Usage(words) => PyValueError::new_err(words.clone()),
        FrameWriterError::Vision(error @ VisionError::OptionOutOfRange { .. }) => PyValueError::new_err(error.to_string()),
        other => PyRuntimeError::new_err(other.to_string()),
    };
    if let Some(cause) = raised.lock().take() {
        exception.set_cause(py, Some(cause));
    }
    exception
}
