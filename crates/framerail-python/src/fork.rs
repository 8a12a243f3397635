//! Values that a forked child process must not touch: their threads are gone and their locks may be held forever.

use std::{mem, process};

use pyo3::{PyResult, Python, exceptions::PyRuntimeError};

/// A value that belongs to the process that created it. In another process it is neither lent nor dropped, but leaked.
pub struct OfProcess<T: Send> {
    process: u32,
    /// Set until it is dropped.
    value: Option<T>,
    has_threads: bool,
}

impl<T: Send> OfProcess<T> {
    /// Memory.
    pub fn new(value: T) -> Self {
        Self { process: process::id(), value: Some(value), has_threads: false }
    }

    /// Values that wait for threads when they are dropped. Those may need the GIL, so it is released meanwhile.
    pub fn with_threads(value: T) -> Self {
        Self { process: process::id(), value: Some(value), has_threads: true }
    }

    /// The value; `None` in a forked child.
    pub fn into_inner(mut self) -> Option<T> {
        if self.is_here() { self.value.take() } else { None }
    }

    /// Whether this process created it.
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
