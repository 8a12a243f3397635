//! The program `framerail` inside the package, for `python -m framerail`.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::logging;

/// Runs the program with these arguments, its name first; returns the exit code. It handles the process's signals, so call it once, in a
/// process that does nothing else.
#[pyfunction]
pub fn program(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| framerail_cli::run(arguments, logging::log_by_program))
}
