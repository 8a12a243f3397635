//! Batches made ahead, for Python.

use std::sync::Arc;

use framerail::{core::CancelToken, reader};
use parking_lot::Mutex;
use pyo3::{prelude::*, types::PyDict};

use crate::{
    fork::OfProcess,
    reader::{Failed, handed_out},
    source::Raised,
    tensor::Tensor,
    waiting::{Turn, without_gil},
};

/// Batches of a selection, made ahead by a thread. Use `framerail.VideoReader.batches`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Batches {
    /// Closed if empty.
    shared: OfProcess<Arc<Mutex<Option<reader::Batches>>>>,
    cancel: CancelToken,
    raised: Raised,
}

impl Batches {
    pub fn new(batches: reader::Batches, raised: Raised) -> Self {
        let cancel = batches.cancel_token();
        Self { shared: OfProcess::with_threads(Arc::new(Mutex::new(Some(batches)))), cancel, raised }
    }
}

#[pymethods]
impl Batches {
    /// The next batch, as returned by `Reader.read`; `None` after the last one.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<(Tensor, Bound<'py, PyDict>)>> {
        let shared = Arc::clone(self.shared.get()?);
        let work = move |turn: &Turn| -> Result<Option<reader::Batch>, Failed> {
            let mut batches = shared.lock();
            match batches.as_mut() {
                Some(batches) if turn.take() => Ok(batches.next().transpose()?),
                _ => Ok(None),
            }
        };
        let batch = without_gil(py, &self.cancel, work)?.map_err(|failed| failed.into_exception(py, &self.raised))?;
        batch.map(|batch| handed_out(py, batch)).transpose()
    }

    /// Number of remaining batches.
    fn remaining(&self, py: Python<'_>) -> PyResult<usize> {
        let shared = self.shared.get()?;
        Ok(py.detach(|| shared.lock().as_ref().map_or(0, reader::Batches::remaining)))
    }

    /// Stops the thread, even while it waits for its source, and releases the batches made ahead.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Ok(shared) = self.shared.get() {
            self.cancel.cancel();
            py.detach(|| drop(shared.lock().take()));
        }
        Ok(())
    }
}
