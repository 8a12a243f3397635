//! Runs a pipeline given as text or as a file.

use std::{fmt, path::Path, sync::Arc};

use framerail_pipeline::{Description, Diagnostics, ErrorKind, Plan, RunError, RunOptions, RunOutcome, check};

use crate::{
    frame_input::{FrameInput, GiveFrames},
    registry, registry_for, registry_with_python,
    stages::python::PythonStages,
};

/// Why a pipeline failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Found before the start.
    #[error("{0}")]
    Pipeline(Diagnostics),
    /// The first failure during the run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Same as `Display`: a `main` that returns this error prints it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Error::Pipeline(diagnostics)
    }
}

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Pipeline(diagnostics) => diagnostics.kind(),
            Error::Run(error) => error.kind(),
        }
    }
}

/// Checks a pipeline's text against the built-in stages; opens nothing.
///
/// # Errors
/// All mistakes, with their positions in the text.
pub fn plan(text: &str) -> Result<Plan, Diagnostics> {
    check(&Description::parse(text)?, &registry())
}

/// The same for a text in which `read` names frames of the program, such as `read given:camera ! null`.
///
/// # Errors
/// As [`plan`].
pub fn plan_with_frames<'a>(text: &str, inputs: impl IntoIterator<Item = (&'a str, FrameInput)>) -> Result<Plan, Diagnostics> {
    let frames = inputs.into_iter().map(|(name, input)| (name.to_owned(), Arc::new(input) as Arc<dyn GiveFrames>)).collect();
    let description = Description::parse(text)?;
    let device = description.device.unwrap_or_default();
    check(&description, &registry_with_python(device, PythonStages { frames, ..PythonStages::default() }))
}

/// The same for a TOML file.
///
/// # Errors
/// All mistakes, with line and column; an unreadable file.
pub fn plan_file(path: &Path) -> Result<Plan, Diagnostics> {
    let description = Description::read_file(path)?;
    check(&description, &registry_for(description.device.unwrap_or_default()))
}

/// Runs a pipeline given as text to its end.
///
/// # Errors
/// `Pipeline` for mistakes found before the start, `Run` for the first failure of the run.
pub fn run(text: &str) -> Result<RunOutcome, Error> {
    let mut plan = plan(text)?;
    plan.link()?;
    let outcome = plan.into_graph()?.graph.start(RunOptions::default())?.wait();
    match &outcome.result {
        Ok(()) => Ok(outcome),
        Err(error) => Err(Error::Run(error.clone())),
    }
}
