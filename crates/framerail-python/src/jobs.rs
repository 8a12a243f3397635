//! Functions for cluster workers: models that stay loaded, and joining the pieces of a file.

use std::path::PathBuf;

use framerail::{
    core::CancelToken,
    joining,
    media::{Input, InputOptions, WriterOptions},
};
use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{errors, source::Source, waiting};

/// Whether models stay loaded between the pipelines of this process.
#[pyfunction]
pub fn keep_models(is_wanted: bool) {
    framerail::keep_models(is_wanted);
}

/// Joins the pieces of a video; returns a report as JSON.
#[pyfunction]
#[pyo3(signature = (pieces, source, name, out, with_audio, overwrite))]
pub fn join_pieces(
    py: Python<'_>,
    pieces: Vec<PathBuf>,
    source: &Bound<'_, PyAny>,
    name: &str,
    out: PathBuf,
    with_audio: bool,
    overwrite: bool,
) -> PyResult<String> {
    let Source { input, raised } = Source::new(source, name)?;
    let options = WriterOptions { overwrite, ..WriterOptions::default() };
    let cancel = CancelToken::default();
    let token = cancel.clone();
    let joined = waiting::without_gil(py, &cancel, move |_| {
        let input: InputOptions = input;
        joining::join_pieces(&pieces, &input, &out, with_audio, &options, &token)
    })?;
    let report = joined.map_err(|error| raised.lock().take().unwrap_or_else(|| errors::media(py, &error)))?;
    serde_json::to_string(&report).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Start of a container's clock in seconds: `start=` of `read` counts from it.
#[pyfunction]
pub fn container_start(py: Python<'_>, source: &Bound<'_, PyAny>, name: &str) -> PyResult<f64> {
    let Source { input, raised } = Source::new(source, name)?;
    let cancel = CancelToken::default();
    let input = InputOptions { cancel: cancel.clone(), ..input };
    let opened = waiting::without_gil(py, &cancel, move |_| Input::open(&input).map(|input| input.info().start_offset_micros))?;
    let offset = opened.map_err(|error| raised.lock().take().unwrap_or_else(|| errors::media(py, &error)))?;
    Ok(-(offset as f64) / 1e6)
}
