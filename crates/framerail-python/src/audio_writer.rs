//! Audio files written from arrays, for Python.

use std::{path::PathBuf, sync::Arc};

use framerail::{
    core::{CancelToken, DType, Device},
    media::{AudioWriter, AudioWriterOptions, MediaError},
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
    waiting::{Turn, without_gil},
};

/// Options of a writer, as `framerail/audio_writer.py` sends them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    path: PathBuf,
    sample_rate: u32,
    channels: u32,
    format: Option<String>,
    codec: Option<String>,
    bit_rate: Option<u64>,
    file_rate: Option<u32>,
    file_channels: Option<u32>,
    overwrite: bool,
}

/// A writer of audio. Use `framerail.AudioWriter`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct AudioFile {
    shared: OfProcess<Arc<Mutex<Option<AudioWriter>>>>,
    channels: usize,
    /// Samples per second of the file.
    #[pyo3(get)]
    rate: u32,
}

impl AudioFile {
    /// Calls the writer; a failure closes it.
    fn with<T: Send + 'static>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Option<AudioWriter>) -> Result<T, MediaError> + Send + 'static,
    ) -> PyResult<T> {
        let shared = Arc::clone(self.shared.get()?);
        let work = move |turn: &Turn| {
            let mut writer = shared.lock();
            (writer.is_some() && turn.take()).then(|| work(&mut writer))
        };
        match without_gil(py, &CancelToken::default(), work)? {
            Some(done) => done.map_err(|error| errors::media(py, &error)),
            None => Err(PyValueError::new_err("the writer is closed")),
        }
    }
}

#[pymethods]
impl AudioFile {
    /// Opens encoder and file.
    #[new]
    fn new(py: Python<'_>, options_json: &str) -> PyResult<Self> {
        let given: Options = parse(options_json)?;
        let channels = given.channels as usize;
        let options = AudioWriterOptions {
            format: given.format,
            codec: given.codec,
            bit_rate: given.bit_rate,
            sample_rate: given.file_rate,
            channels: given.file_channels,
            overwrite: given.overwrite,
            ..AudioWriterOptions::default()
        };
        let open = move |turn: &Turn| turn.take().then(|| AudioWriter::create(&given.path, given.sample_rate, given.channels, &options));
        match without_gil(py, &CancelToken::default(), open)? {
            Some(Ok(writer)) => {
                let rate = writer.sample_rate();
                Ok(Self { shared: OfProcess::new(Arc::new(Mutex::new(Some(writer)))), channels, rate })
            }
            Some(Err(error)) => Err(errors::media(py, &error)),
            None => Err(PyRuntimeError::new_err("opening was cancelled")),
        }
    }

    /// Writes samples: bytes of 32-bit floats, channel by channel.
    fn write(&self, py: Python<'_>, samples: &Bound<'_, PyAny>, bytes: usize) -> PyResult<()> {
        if bytes == 0 {
            return Ok(());
        }
        let samples = Foreign::of(samples, &[bytes], DType::U8, Device::Cpu, 1, "samples")?;
        let channels = self.channels;
        self.with(py, move |writer| {
            let floats = samples.host_bytes().as_chunks::<4>().0;
            let each = (floats.len() / channels).max(1);
            let channels: Vec<Vec<f32>> = floats
                .chunks(each)
                .take(channels)
                .map(|channel| channel.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
                .collect();
            writer.as_mut().map_or(Ok(()), |writer| writer.write(&channels))
        })
    }

    /// Completes the file; returns a report as JSON.
    fn finish(&self, py: Python<'_>) -> PyResult<String> {
        let report = self.with(py, |writer| writer.take().map(AudioWriter::finish).transpose())?.unwrap_or_default();
        Ok(json!({
            "path": report.path,
            "codec": report.codec,
            "sample_rate": report.sample_rate,
            "num_channels": report.channels,
            "samples": report.samples,
            "bytes": report.bytes,
            "warnings": report.warnings,
        })
        .to_string())
    }

    /// Ends without completing the file; returns the name of the file that keeps the playable part.
    fn abandon(&self, py: Python<'_>) -> PyResult<Option<PathBuf>> {
        self.with(py, |writer| Ok(writer.take().and_then(AudioWriter::keep_unfinished)))
    }
}
