//! Sources from Python: a path or address, bytes, or a file-like object.

use std::{
    io::{self, Read, Seek, SeekFrom},
    sync::Arc,
};

use framerail::media::{CustomSource, InputOptions, OpenSource, SourceFactory};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyFileNotFoundError, PyPermissionError, PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyMemoryView, PyString},
};

use crate::background;

/// The last exception of a file-like object, set as the cause of the resulting error.
pub type Raised = Arc<Mutex<Option<PyErr>>>;

/// A source of media.
pub struct Source {
    pub input: InputOptions,
    pub raised: Raised,
}

impl Source {
    /// Of a `str`, of `bytes` (copied once), or of an object with `read` and `seek`.
    ///
    /// # Errors
    /// `TypeError` for anything else.
    pub fn new(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let raised = Raised::default();
        let input = if let Ok(path) = object.extract::<String>() {
            InputOptions::new(path)
        } else if let Ok(bytes) = object.cast::<PyBytes>() {
            InputOptions::of_custom(CustomSource::bytes(name, bytes.as_bytes().to_vec()))
        } else if object.hasattr("read")? && object.hasattr("seek")? {
            let file = FileLike { object: object.clone().unbind(), raised: Arc::clone(&raised) };
            InputOptions::of_custom(CustomSource::seekable(name, file))
        } else {
            return Err(PyTypeError::new_err("a source is a path, a URL, bytes, or an object with read() and seek()"));
        };
        Ok(Self { input, raised })
    }
}

/// A source that Python opens as often as needed, by a function without arguments that returns a file.
pub struct PythonSource {
    pub name: String,
    pub open: Arc<Py<PyAny>>,
}

impl SourceFactory for PythonSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<OpenSource> {
        let opened = background::call(|py| {
            let object = self.open.call0(py).map_err(|error| io_error(py, &error))?;
            Ok(OpenSource::Seekable(Box::new(FileLike { object, raised: Raised::default() })))
        });
        opened.unwrap_or_else(|| Err(io::Error::other("Python is shutting down")))
    }
}

/// The exception of opening a source, in one line.
fn io_error(py: Python<'_>, error: &PyErr) -> io::Error {
    let kind = if error.is_instance_of::<PyFileNotFoundError>(py) {
        io::ErrorKind::NotFound
    } else if error.is_instance_of::<PyPermissionError>(py) {
        io::ErrorKind::PermissionDenied
    } else {
        io::ErrorKind::Other
    };
    io::Error::new(kind, error.value(py).to_string())
}

/// A Python object with `read` and `seek`. Callers must not hold the GIL: reads happen on the reader's threads.
struct FileLike {
    object: Py<PyAny>,
    raised: Raised,
}

impl FileLike {
    fn call<T>(&self, work: impl for<'py> FnOnce(&Bound<'py, PyAny>) -> PyResult<T>) -> io::Result<T> {
        let done = background::call(|py| work(self.object.bind(py)).map_err(|error| self.note(py, error)));
        done.unwrap_or_else(|| Err(io::Error::other("Python is shutting down")))
    }

    fn note(&self, py: Python<'_>, error: PyErr) -> io::Error {
        let words = format!("{}: {}", error.get_type(py).name().map_or_else(|_| "error".into(), |name| name.to_string()), error.value(py));
        *self.raised.lock() = Some(error);
        io::Error::other(words)
    }
}

/// The result of `read()` as bytes; copied from other buffers, such as a `bytearray`.
fn as_bytes<'py>(read: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    if let Ok(bytes) = read.cast::<PyBytes>() {
        return Ok(bytes.clone());
    }
    let refused = || {
        let hint = if read.is_instance_of::<PyString>() { "; open the file with mode 'rb'" } else { "" };
        let name = read.get_type().name().map_or_else(|_| "another type".into(), |name| name.to_string());
        PyTypeError::new_err(format!("read() must return bytes, not {name}{hint}"))
    };
    let view = PyMemoryView::from(read).map_err(|_| refused())?;
    Ok(view.call_method0("tobytes")?.cast_into()?)
}

impl Read for FileLike {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.call(|object| {
            let read = as_bytes(&object.call_method1("read", (buffer.len(),))?)?;
            let (bytes, size) = (read.as_bytes(), buffer.len());
            let to = buffer.get_mut(..bytes.len()).ok_or_else(|| {
                PyValueError::new_err(format!("read({size}) returned {} bytes; return as many as are asked for at most", bytes.len()))
            })?;
            to.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }
}

impl Seek for FileLike {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let (offset, whence) = match target {
            SeekFrom::Start(offset) => (i128::from(offset), 0),
            SeekFrom::Current(offset) => (i128::from(offset), 1),
            SeekFrom::End(offset) => (i128::from(offset), 2),
        };
        self.call(|object| match object.call_method1("seek", (offset as i64, whence))?.extract() {
            Ok(position) => Ok(position),
            // Some objects return nothing.
            Err(_) => object.call_method0("tell")?.extract(),
        })
    }
}
