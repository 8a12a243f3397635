//! Python code in pipelines: models and functions by name, and the stages that call them.

use std::{collections::BTreeMap, sync::Arc};

use framerail::{
    core::Device,
    frame_input::GiveFrames,
    media::CustomSource,
    pipeline::{DeviceChoice, ErrorKind, LinkMismatch, PlanError, Registry, StageError, StagePlan},
    registry_with_python,
    sources::FindSource,
    stages::python::PythonStages,
};
use parking_lot::Mutex;
use pyo3::prelude::*;

use crate::{
    background,
    frame_input::PythonFrames,
    function_stage::FunctionPlan,
    model_stage::ModelPlan,
    source::{PythonSource, Raised},
};

/// Functions and models by their names.
type ByName = BTreeMap<String, Arc<Py<PyAny>>>;

/// The input of a source: a `framerail.FrameInput`.
#[derive(Clone)]
struct GivenFrames {
    giver: Arc<Py<PyAny>>,
    is_live: bool,
}

/// The models, functions and sources of a pipeline.
#[derive(Default)]
pub struct Hosted {
    models: Mutex<ByName>,
    functions: Mutex<ByName>,
    /// Sources by their addresses in the pipeline.
    sources: Mutex<BTreeMap<String, CustomSource>>,
    /// Sources whose frames the program provides.
    frames: Mutex<BTreeMap<String, GivenFrames>>,
    /// Finds the opener of any other address: a function that returns a function, or `None`.
    find_source: Mutex<Option<Arc<Py<PyAny>>>>,
}

impl Hosted {
    pub fn set_model(&self, name: &str, model: Py<PyAny>) {
        self.models.lock().insert(name.to_owned(), Arc::new(model));
    }

    pub fn set_function(&self, name: &str, function: Py<PyAny>) {
        self.functions.lock().insert(name.to_owned(), Arc::new(function));
    }

    pub fn set_source(&self, address: &str, source: CustomSource) {
        self.sources.lock().insert(address.to_owned(), source);
    }

    pub fn set_frames(&self, address: &str, giver: Py<PyAny>, is_live: bool) {
        self.frames.lock().insert(address.to_owned(), GivenFrames { giver: Arc::new(giver), is_live });
    }

    pub fn set_find_source(&self, find: Py<PyAny>) {
        *self.find_source.lock() = Some(Arc::new(find));
    }

    /// How sources are opened; `None` if Python opens none.
    fn find_source(&self) -> Option<FindSource> {
        let (given, find) = (self.sources.lock().clone(), self.find_source.lock().clone());
        if given.is_empty() && find.is_none() {
            return None;
        }
        Some(Arc::new(move |address: &str| {
            given.get(address).cloned().or_else(|| {
                let find = find.as_ref().filter(|_| address.contains("://"))?;
                let found = background::call(|py| find.call1(py, (address,)).ok().filter(|open| !open.is_none(py)))??;
                Some(CustomSource::new(PythonSource { name: address.to_owned(), open: Arc::new(found) }))
            })
        }))
    }

    pub fn has_function(&self, name: &str) -> bool {
        self.functions.lock().contains_key(name)
    }

    /// All stages, including Python's. Exceptions of user code are kept in `raised`.
    pub fn registry(&self, device: DeviceChoice, raised: &Raised) -> Registry {
        let (models, functions) = (self.models.lock().clone(), self.functions.lock().clone());
        let (of_models, of_functions) = (Arc::clone(raised), Arc::clone(raised));
        let torch = move |options: &framerail::pipeline::Options| {
            let plan = ModelPlan::new(options, device, &models, &of_models)?;
            Ok(Box::new(plan) as Box<dyn StagePlan>)
        };
        let python = move |options: &framerail::pipeline::Options| {
            let plan = FunctionPlan::new(options, &functions, &of_functions)?;
            Ok(Box::new(plan) as Box<dyn StagePlan>)
        };
        let given = self.frames.lock().clone().into_iter();
        let frames = given.map(|(address, GivenFrames { giver, is_live })| {
            let frames = PythonFrames { giver, is_live, raised: Arc::clone(raised) };
            (address, Arc::new(frames) as Arc<dyn GiveFrames>)
        });
        let stages = PythonStages {
            torch: Some(Arc::new(torch)),
            python: Some(Arc::new(python)),
            sources: self.find_source(),
            frames: frames.collect(),
        };
        registry_with_python(device, stages)
    }
}

/// Runs Python code. An exception is kept, to be raised from the run with its traceback.
///
/// # Errors
/// In one line, what was raised.
pub fn attached<T>(raised: &Raised, kind: ErrorKind, work: impl FnOnce(Python<'_>) -> PyResult<T>) -> Result<T, StageError> {
    let done = background::call(|py| {
        work(py).map_err(|error| {
            let line = error.to_string();
            raised.lock().get_or_insert(error);
            StageError::new(kind, line)
        })
    });
    done.unwrap_or_else(|| Err(StageError::new(ErrorKind::Cancelled, "Python has shut down")))
}

/// The error for a name without model or function.
pub fn nothing_given(what: &str, name: &str, call: &str) -> PlanError {
    PlanError::Stage(StageError::new(ErrorKind::Usage, format!("no {what} named {name:?} was set; call `{call}` first")))
}

/// The error for a stage without input, which the engine never links.
pub fn no_frames() -> PlanError {
    PlanError::Link(LinkMismatch { needs: "frames".into(), hint: "put `read FILE` before it".into() })
}

/// Checks that frames are on the required device.
///
/// # Errors
/// `NeedsDevice`.
pub fn at(device: Device, wanted: Device) -> Result<(), PlanError> {
    if device == wanted { Ok(()) } else { Err(PlanError::NeedsDevice(wanted)) }
}
