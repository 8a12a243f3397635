//! Indexes of data sets, for Python.

use std::path::PathBuf;

use framerail::{
    core::CancelToken,
    media::MediaError,
    reader::{IndexedVideo, ReaderOptions},
    table::{Values, read_table, write_table},
};
use pyo3::{
    exceptions::PyValueError,
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};

use crate::{
    errors,
    waiting::{Turn, without_gil},
};

/// Properties of a video for an index, by column.
///
/// # Errors
/// Those of opening it and building its index.
#[pyfunction]
pub fn index_video<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyDict>> {
    let (cancel, mut options) = (CancelToken::default(), ReaderOptions::new(path));
    options.threads = 1;
    options.input.cancel = cancel.clone();
    let work = move |_: &Turn| IndexedVideo::of(options);
    let found = without_gil(py, &cancel, work)?.map_err(|error| errors::reader(py, &error))?;
    let row = PyDict::new(py);
    row.set_item("size_bytes", found.stamp.size_bytes)?;
    row.set_item("modified_nanos", found.stamp.modified_nanos)?;
    row.set_item("hash", found.hash)?;
    row.set_item("container", found.container)?;
    row.set_item("codec", found.codec)?;
    row.set_item("width", found.width)?;
    row.set_item("height", found.height)?;
    row.set_item("pixel_format", found.pixel_format)?;
    row.set_item("frame_rate", found.frame_rate)?;
    row.set_item("duration_seconds", found.duration_secs)?;
    row.set_item("frames", found.frames)?;
    row.set_item("keyframes", found.keyframes)?;
    row.set_item("packets", PyBytes::new(py, &found.packets))?;
    Ok(row)
}

/// Writes a table: columns of a name, a kind ("text", "whole", "real", "flags", "lists" or "bytes") and values.
///
/// # Errors
/// `ValueError` for values of another kind, `OSError`.
#[pyfunction]
pub fn write_index(py: Python<'_>, path: PathBuf, columns: Vec<(String, String, Bound<'_, PyAny>)>) -> PyResult<()> {
    let column = |(name, kind, values): (String, String, Bound<'_, PyAny>)| -> PyResult<(String, Values)> {
        let values = match kind.as_str() {
            "text" => Values::Text(values.extract()?),
            "whole" => Values::Whole(values.extract()?),
            "real" => Values::Real(values.extract()?),
            "flags" => Values::Flags(values.extract()?),
            "lists" => Values::Lists(values.extract()?),
            "bytes" => Values::Bytes(values.extract()?),
            other => return Err(PyValueError::new_err(format!("column {name}: no kind {other}"))),
        };
        Ok((name, values))
    };
    let columns = columns.into_iter().map(column).collect::<PyResult<Vec<_>>>()?;
    py.detach(|| write_table(&path, &columns)).map_err(|error: MediaError| errors::media(py, &error))
}

/// Reads a table: a list of values for each column.
///
/// # Errors
/// `OSError`, `framerail.DecodeError`.
#[pyfunction]
pub fn read_index<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyDict>> {
    let columns = py.detach(|| read_table(&path)).map_err(|error| errors::media(py, &error))?;
    let table = PyDict::new(py);
    for (name, values) in columns {
        let values = match values {
            Values::Text(values) => PyList::new(py, values)?,
            Values::Whole(values) => PyList::new(py, values)?,
            Values::Real(values) => PyList::new(py, values)?,
            Values::Flags(values) => PyList::new(py, values)?,
            Values::Lists(values) => PyList::new(py, values)?,
            Values::Bytes(values) => PyList::new(py, values.into_iter().map(|bytes| bytes.map(|bytes| PyBytes::new(py, &bytes))))?,
        };
        table.set_item(name, values)?;
    }
    Ok(table)
}
