//! The program `framerail` inside of the package, for `python -m framerail`.

use std::ffi::OsString;

use pyo3::prelude::*;

use crate::logging;

/// Runs the program with these arguments, its name first; the exit code. It takes the process's signals, so it is called once, by a
/// process that does nothing else.
#[pyfunction]
pub fn program(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| framerail_cli::run(arguments, logging::log_by_program))
}
