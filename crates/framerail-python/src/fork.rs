//! What must not be touched in a child process that was forked: its threads are gone and its locks may be held for ever.

use std::{mem, process};

use pyo3::{PyResult, Python, exceptions::PyRuntimeError};

/// A value that belongs to the process that made it. Elsewhere it is neither lent nor dropped, but leaked.
pub struct OfProcess<T: Send> {
    process: u32,
    /// Always there until it is dropped.
    value: Option<T>,
    has_threads: bool,
}

impl<T: Send> OfProcess<T> {
    /// Memory.
    pub fn new(value: T) -> Self {
        Self { process: process::id(), value: Some(value), has_threads: false }
    }

    /// What waits for threads of its own when it is dropped. Those may want the GIL, so it is given away meanwhile.
    pub fn with_threads(value: T) -> Self {
        Self { process: process::id(), value: Some(value), has_threads: true }
    }

    /// The value itself; nothing in a forked child.
    pub fn into_inner(mut self) -> Option<T> {
        if self.is_here() { self.value.take() } else { None }
    }

    /// Whether this process made it.
    pub fn is_here(&self) -> bool {
        self.process == process::id()
    }

    /// The value.
    ///
    /// # Errors
    /// `RuntimeError` in a forked child.
    pub fn get(&self) -> PyResult<&T> {
        let here = self.value.as_ref().filter(|_| self.is_here());
        here.ok_or_else(|| PyRuntimeError::new_err("this object was created before a fork; create it again in the child"))
    }
}

impl<T: Send> Drop for OfProcess<T> {
    fn drop(&mut self) {
        let mut value = self.value.take();
        if self.is_here() && self.has_threads {
            Python::try_attach(|py| {
                let value = value.take();
                py.detach(|| drop(value));
            });
        } else if self.is_here() {
            drop(value.take());
        }
        // In a forked child, and when Python is shutting down.
        mem::forget(value);
    }
}
