//! Pipelines for Python: checked, run, watched by callbacks, stopped.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use framerail::{
    pipeline::{
        Description, DeviceChoice, Diagnostics, FrameItem as PipelineItem, Plan, PlannedGraph, Probe, RunOptions, RunSwitch, StageList,
        Verdict, check,
    },
    registry_for,
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::PyList,
};

use crate::{errors, frame_item::FrameItem, waiting};

/// A function of the user's on what a stage gives.
struct Callback {
    function: Py<PyAny>,
    stage: String,
    batch: usize,
}

/// What callbacks and the waiting thread share while a pipeline runs.
#[derive(Default)]
struct Run {
    switch: Mutex<Option<RunSwitch>>,
    /// What the first failing callback raised.
    raised: Mutex<Option<PyErr>>,
    is_stop_wanted: AtomicBool,
}

impl Run {
    fn fail(&self, error: PyErr) {
        self.raised.lock().get_or_insert(error);
        self.end(RunSwitch::abort);
    }

    fn end(&self, how: impl FnOnce(&RunSwitch)) {
        // Cloned, so that the lock is not held meanwhile.
        let switch = self.switch.lock().clone();
        if let Some(switch) = switch {
            how(&switch);
        }
    }

    fn has_failed(&self) -> bool {
        self.raised.lock().is_some()
    }
}

/// A pipeline. Use `framerail.Pipeline`.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Pipeline {
    description: Description,
    device: DeviceChoice,
    /// Of the run that is under way.
    run: Mutex<Option<Arc<Run>>>,
}

#[pymethods]
impl Pipeline {
    /// Checks a text, or a TOML file; nothing is opened.
    #[new]
    #[pyo3(signature = (text, is_file, device))]
    fn new(py: Python<'_>, text: &str, is_file: bool, device: Option<&str>) -> PyResult<Self> {
        let read = || -> Result<Description, Diagnostics> {
            if is_file { Description::read_file(Path::new(text)) } else { Ok(Description::parse(text)?) }
        };
        let description = read().map_err(|error| errors::diagnostics(py, &error))?;
        let given = device.map(|name| name.parse().map_err(|error| PyValueError::new_err(format!("option 'device': {error}"))));
        let device = given.transpose()?.or(description.device).unwrap_or_default();
        let pipeline = Self { description, device, run: Mutex::default() };
        pipeline.plan(py)?;
        Ok(pipeline)
    }

    /// The pipeline as text.
    #[getter]
    fn text(&self) -> String {
        self.description.to_string()
    }

    /// The stages' names, in order.
    #[getter]
    fn stages(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.plan(py)?.stages().iter().map(|stage| stage.name.clone()).collect())
    }

    /// Opens inputs and models; gives what flows on each edge: from, to, format.
    fn edges(&self, py: Python<'_>) -> PyResult<Vec<(String, String, String)>> {
        let mut plan = self.plan(py)?;
        let linked = py.detach(|| plan.link().map(|()| plan));
        let plan = linked.map_err(|error| errors::diagnostics(py, &error))?;
        Ok(plan.picture().edges.into_iter().map(|edge| (edge.from, edge.to, edge.format)).collect())
    }

    /// Runs to the end; gives the statistics as JSON. `callbacks` are tuples of stage, function and batch.
    fn run(
        &self,
        py: Python<'_>,
        callbacks: Vec<(String, Py<PyAny>, usize)>,
        progress: Option<Py<PyAny>>,
        stall_limit: f64,
    ) -> PyResult<String> {
        let run = Arc::new(Run::default());
        {
            let mut current = self.run.lock();
            if current.is_some() {
                return Err(PyRuntimeError::new_err("this pipeline is running already; make another one"));
            }
            *current = Some(Arc::clone(&run));
        }
        let result = self.run_as(py, &run, callbacks, progress, stall_limit);
        *self.run.lock() = None;
        result
    }

    /// Asks the run under way to end and to complete its files; from any thread, or a callback.
    fn stop(&self) {
        let run = self.run.lock().clone();
        if let Some(run) = run {
            run.is_stop_wanted.store(true, Ordering::Relaxed);
            run.end(RunSwitch::stop);
        }
    }
}

impl Pipeline {
    fn plan(&self, py: Python<'_>) -> PyResult<Plan> {
        let plan = check(&self.description, &registry_for(self.device)).map_err(|error| errors::diagnostics(py, &error))?;
        if plan.stages().is_empty() {
            return Err(PyValueError::new_err("the pipeline is empty; give it stages, such as `read in.mp4 ! null`"));
        }
        Ok(plan)
    }

    fn run_as(
        &self,
        py: Python<'_>,
        run: &Arc<Run>,
        callbacks: Vec<(String, Py<PyAny>, usize)>,
        progress: Option<Py<PyAny>>,
        stall_limit: f64,
    ) -> PyResult<String> {
        let plan = self.plan(py)?;
        let mut planned = py.detach(|| plan.into_graph()).map_err(|error| errors::diagnostics(py, &error))?;
        let rest = install(&mut planned, callbacks, run)?;
        let limit =
            Duration::try_from_secs_f64(stall_limit).map_err(|error| PyValueError::new_err(format!("option 'stall_limit': {error}")))?;
        let handle = planned.graph.start(RunOptions { stall_limit: limit }).map_err(|error| errors::run(py, &error))?;
        *run.switch.lock() = Some(handle.switch());
        if run.has_failed() {
            handle.abort();
        } else if run.is_stop_wanted.load(Ordering::Relaxed) {
            handle.stop();
        }
        let mut signal = None;
        let on_signal = |raised: PyErr| {
            if signal.is_none() {
                handle.stop()
            } else {
                handle.abort()
            }
            signal.get_or_insert(raised);
        };
        let each = |py: Python<'_>| match &progress {
            Some(progress) => progress.call1(py, (stats_json(&handle.stats())?,)).map(drop),
            None => Ok(()),
        };
        let shown = waiting::until(py, |look| handle.wait_for(look), on_signal, each);
        if shown.is_err() {
            handle.abort();
        }
        let outcome = py.detach(|| handle.wait());
        let flushed = if outcome.result.is_ok() { rest.into_iter().try_for_each(|batcher| batcher.flush(py)) } else { Ok(()) };
        let raised = run.raised.lock().take();
        if let Some(raised) = signal.or(raised) {
            return Err(raised);
        }
        shown?;
        outcome.result.map_err(|error| errors::run(py, &error))?;
        flushed?;
        stats_json(&outcome.stats)
    }
}

fn stats_json(stats: &framerail::pipeline::RunStats) -> PyResult<String> {
    serde_json::to_string(stats).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Puts callbacks on edges: what the stage gives; for a stage that gives nothing, what it takes.
fn install(planned: &mut PlannedGraph, callbacks: Vec<(String, Py<PyAny>, usize)>, run: &Arc<Run>) -> PyResult<Vec<Arc<Batcher>>> {
    let mut batchers = Vec::new();
    for (stage, function, batch) in callbacks {
        let Some(node) = planned.node(&stage) else {
            let names: Vec<&str> = planned.nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(PyValueError::new_err(format!("option 'stage': there is no {stage:?}; this pipeline has {}", names.join(", "))));
        };
        let id = node.id;
        // A stage with several edges out gives every frame to each: one of them is enough.
        let given = planned.edges_from(id).next();
        let Some(edge) = given.or_else(|| planned.edges.iter().find(|edge| edge.to == id)).map(|edge| edge.id) else { continue };
        let callback = Callback { function, stage, batch };
        let batcher = Arc::new(Batcher { callback, run: Arc::clone(run), held: Mutex::default() });
        planned.graph.probe(edge, batcher.probe());
        batchers.push(batcher);
    }
    Ok(batchers)
}

/// Gathers frames for a callback and calls it.
struct Batcher {
    callback: Callback,
    run: Arc<Run>,
    held: Mutex<Vec<Py<FrameItem>>>,
}

impl Batcher {
    fn probe(self: &Arc<Self>) -> Probe {
        let batcher = Arc::clone(self);
        Arc::new(move |item: &mut PipelineItem| {
            if batcher.run.has_failed() {
                return Verdict::Keep;
            }
            match Python::try_attach(|py| batcher.see(py, item)) {
                Some(Ok(verdict)) => verdict,
                Some(Err(error)) => {
                    batcher.run.fail(error);
                    Verdict::Keep
                }
                None => Verdict::Keep,
            }
        })
    }

    fn see(&self, py: Python<'_>, item: &mut PipelineItem) -> PyResult<Verdict> {
        let seen = Py::new(py, FrameItem::new(py, item)?)?;
        if self.callback.batch > 1 {
            let full = {
                let mut held = self.held.lock();
                held.push(seen);
                if held.len() >= self.callback.batch { Some(std::mem::take(&mut *held)) } else { None }
            };
            if let Some(full) = full {
                self.call(py, &full)?;
            }
            return Ok(Verdict::Keep);
        }
        let verdict = self.call(py, std::slice::from_ref(&seen))?;
        item.detections = seen.borrow(py).core_detections(py)?;
        Ok(verdict)
    }

    /// Calls the function; `False` takes the frame out.
    fn call(&self, py: Python<'_>, items: &[Py<FrameItem>]) -> PyResult<Verdict> {
        let answer = self.callback.function.call1(py, (PyList::new(py, items)?,))?;
        if answer.is_none(py) {
            return Ok(Verdict::Keep);
        }
        match answer.extract::<bool>(py) {
            Ok(true) => Ok(Verdict::Keep),
            Ok(false) if self.callback.batch == 1 => Ok(Verdict::Drop),
            _ => Err(PyValueError::new_err(format!(
                "the callback on {:?} gave {}; give None to keep the frame, or False with batch=1 to take it out",
                self.callback.stage,
                answer.bind(py).repr()?
            ))),
        }
    }

    /// What is left at the end.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let rest = std::mem::take(&mut *self.held.lock());
        if rest.is_empty() { Ok(()) } else { self.call(py, &rest).map(drop) }
    }
}

/// The stages that pipelines are made of, as JSON.
pub fn stage_list() -> PyResult<String> {
    StageList::new(&framerail::registry()).json().map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
