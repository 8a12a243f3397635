//! Pipelines for Python: checked, run, observed by callbacks, stopped.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use framerail::{
    core::CancelToken,
    cuda::KeptContext,
    otlp::{Exporting, Otlp},
    pipeline::{
        Chain, Description, DeviceChoice, Diagnostics, FrameItem as PipelineItem, Plan, PlannedGraph, Probe, Role, RunOptions, RunSwitch,
        StageDescription, StageError, StageList, Verdict, check,
    },
};
use framerail_serve::{Watch, Watched};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyRuntimeError, PyValueError},
    prelude::*,
    types::PyList,
};

use crate::{
    background, errors,
    frame_item::FrameItem,
    hosted::Hosted,
    source::{Raised, Source},
    waiting,
    watching::{MonitoringArguments, OtlpArguments, WatchArguments},
};

/// Time for stages to end after a second Ctrl-C, before they are left behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// A user function that gets the output of a stage.
struct Callback {
    function: Py<PyAny>,
    stage: String,
    batch: usize,
}

/// State shared by callbacks and the waiting thread while a pipeline runs.
#[derive(Default)]
struct Run {
    switch: Mutex<Option<RunSwitch>>,
    /// Address of its monitoring server.
    address: Mutex<Option<SocketAddr>>,
    /// Exception of the first failing callback, model or stage function.
    raised: Raised,
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
    description: Mutex<Description>,
    device: DeviceChoice,
    /// Models and functions of the stages.
    hosted: Hosted,
    /// Of the current run.
    run: Mutex<Option<Arc<Run>>>,
}

#[pymethods]
impl Pipeline {
    /// Checks a text, or a TOML file; opens nothing.
    #[new]
    #[pyo3(signature = (text, is_file, device))]
    fn new(py: Python<'_>, text: &str, is_file: bool, device: Option<&str>) -> PyResult<Self> {
        let read = || -> Result<Description, Diagnostics> {
            if is_file { Description::read_file(Path::new(text)) } else { Ok(Description::parse(text)?) }
        };
        let description = read().map_err(|error| errors::diagnostics(py, &error))?;
        let given = device.map(|name| name.parse().map_err(|error| PyValueError::new_err(format!("option 'device': {error}"))));
        let device = given.transpose()?.or(description.device).unwrap_or_default();
        let pipeline = Self { description: Mutex::new(description), device, hosted: Hosted::default(), run: Mutex::default() };
        pipeline.plan(py, &Raised::default())?;
        Ok(pipeline)
    }

    /// The pipeline as text.
    #[getter]
    fn text(&self) -> String {
        self.description.lock().to_string()
    }

    /// The stages' names, in order.
    #[getter]
    fn stages(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        Ok(self.plan(py, &Raised::default())?.stages().iter().map(|stage| stage.name.clone()).collect())
    }

    /// Finds a stage: by its name, its kind, or its model or function.
    fn resolve(&self, py: Python<'_>, stage: &str) -> PyResult<String> {
        let plan = self.plan(py, &Raised::default())?;
        let place = self.place(&plan, stage)?;
        Ok(plan.stages().get(place).map(|stage| stage.name.clone()).unwrap_or_default())
    }

    /// The models or functions of the stages of a kind.
    fn named_by(&self, kind: &str) -> Vec<String> {
        let description = self.description.lock();
        let mut written = Vec::new();
        flatten(&description.chain, &mut written);
        let of_kind = written.iter().filter(|stage| stage.stage.text == kind);
        of_kind.flat_map(|stage| stage.arguments.iter().map(|name| name.text.clone())).collect()
    }

    /// Sets the model of `torch` stages of this name.
    fn set_model(&self, name: &str, model: Py<PyAny>) {
        self.hosted.set_model(name, model);
    }

    /// Sets the function of `python` stages of this name.
    fn set_function(&self, name: &str, function: Py<PyAny>) {
        self.hosted.set_function(name, function);
    }

    /// Sets the source for this address: bytes, or an object with read and seek.
    fn set_source(&self, address: &str, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let source = Source::new(object, address)?;
        let custom = source.input.custom.ok_or_else(|| PyValueError::new_err("a source is bytes, or an object with read() and seek()"))?;
        self.hosted.set_source(address, custom);
        Ok(())
    }

    /// Sets the `framerail.FrameInput` of this address.
    fn set_frames(&self, address: &str, giver: Py<PyAny>, is_live: bool) {
        self.hosted.set_frames(address, giver, is_live);
    }

    /// Sets a function that returns the opener of an address, or None to leave it to FFmpeg.
    fn set_find_source(&self, find: Py<PyAny>) {
        self.hosted.set_find_source(find);
    }

    /// Inserts a stage that calls a function beside another; returns its name.
    fn insert(&self, py: Python<'_>, stage: &str, is_after: bool, name: &str, function: Py<PyAny>) -> PyResult<String> {
        let plan = self.plan(py, &Raised::default())?;
        let place = self.place(&plan, stage)?;
        let refused = match plan.stages().get(place).map(|stage| stage.role) {
            Some(Role::Source) if !is_after => Some("makes the frames; use insert_after"),
            Some(Role::Sink) if is_after => Some("gives no frames; use insert_before"),
            _ => None,
        };
        if let Some(refused) = refused {
            return Err(PyValueError::new_err(format!("option 'stage': {stage:?} {refused}")));
        }
        let is_taken = |name: &str| self.hosted.has_function(name) || plan.stages().iter().any(|stage| stage.name == name);
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let name = std::iter::once(name.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default();
        self.hosted.set_function(&name, function);
        let mut added = Some(StageDescription::new("python").argument(name.as_str()).option("name", &name));
        insert_beside(&mut self.description.lock().chain, &mut { place }, is_after, &mut added);
        Ok(name)
    }

    /// Opens inputs and models; returns the edges: from, to, format.
    fn edges(&self, py: Python<'_>) -> PyResult<Vec<(String, String, String)>> {
        let raised = Raised::default();
        let plan = self.plan(py, &raised)?;
        let linked = self.linked(py, plan)?;
        let plan = linked.map_err(|error| raised.lock().take().unwrap_or_else(|| errors::diagnostics(py, &error)))?;
        Ok(plan.drawing().edges.into_iter().map(|edge| (edge.from, edge.to, edge.format)).collect())
    }

    /// Runs to the end; returns the statistics as JSON. `callbacks` are tuples of stage, function and batch, `limits` the seconds after
    /// which a stage is reported as stalled and the maximum bytes of frames in flight.
    fn run(
        &self,
        py: Python<'_>,
        callbacks: Vec<(String, Py<PyAny>, usize)>,
        progress: Option<Py<PyAny>>,
        limits: (f64, Option<u64>),
        monitoring: MonitoringArguments,
    ) -> PyResult<String> {
        let run = Arc::new(Run::default());
        {
            let mut current = self.run.lock();
            if current.is_some() {
                return Err(PyRuntimeError::new_err("this pipeline is already running; create another one"));
            }
            *current = Some(Arc::clone(&run));
        }
        let result = self.run_as(py, &run, callbacks, progress, limits, monitoring);
        *self.run.lock() = None;
        result
    }

    /// Address of the current run's monitoring server, as `address:port`.
    #[getter]
    fn serve_address(&self) -> Option<String> {
        let run = self.run.lock().clone()?;
        let address = *run.address.lock();
        address.map(|address| address.to_string())
    }

    /// Replaces the model of a stage of the current run; waits until it is loaded.
    fn replace_model(&self, py: Python<'_>, stage: &str, model: &str) -> PyResult<()> {
        self.change(py, |switch| switch.replace_model(stage, model))
    }

    /// Changes a setting of a stage of the current run.
    fn set(&self, py: Python<'_>, stage: &str, name: &str, value: f64) -> PyResult<()> {
        self.change(py, |switch| switch.set_setting(stage, name, value))
    }

    /// Stops the current run and completes its files; from any thread, or a callback.
    fn stop(&self) {
        let run = self.run.lock().clone();
        if let Some(run) = run {
            run.is_stop_wanted.store(true, Ordering::Relaxed);
            run.end(RunSwitch::stop);
        }
    }
}

impl Pipeline {
    /// Changes the current run, without the GIL.
    fn change(&self, py: Python<'_>, change: impl Fn(&RunSwitch) -> Result<(), StageError> + Sync) -> PyResult<()> {
        let switch = self.run.lock().clone().and_then(|run| run.switch.lock().clone());
        let switch = switch.ok_or_else(|| PyRuntimeError::new_err("the pipeline is not running"))?;
        py.detach(|| change(&switch)).map_err(|error| errors::stage(py, &error))
    }

    /// The index of a stage.
    fn place(&self, plan: &Plan, wanted: &str) -> PyResult<usize> {
        let (stages, description) = (plan.stages(), self.description.lock());
        let mut written = Vec::new();
        flatten(&description.chain, &mut written);
        let runs = |stage: &&StageDescription| {
            matches!(stage.stage.text.as_str(), "torch" | "python" | "infer") && stage.arguments.iter().any(|name| name.text == wanted)
        };
        let named = stages.iter().position(|stage| stage.name == wanted);
        let of_kind = || stages.iter().position(|stage| stage.stage == wanted);
        named.or_else(of_kind).or_else(|| written.iter().position(runs)).ok_or_else(|| {
            let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
            PyValueError::new_err(format!("option 'stage': '{wanted}'; use one of {}", names.join(", ")))
        })
    }

    fn plan(&self, py: Python<'_>, raised: &Raised) -> PyResult<Plan> {
        let description = self.description.lock().clone();
        let plan = check(&description, &self.hosted.registry(self.device, raised)).map_err(|error| errors::diagnostics(py, &error))?;
        if plan.stages().is_empty() {
            return Err(PyValueError::new_err("the pipeline is empty; give it stages, such as `read in.mp4 ! null`"));
        }
        Ok(plan)
    }

    /// Opens inputs and models without the GIL; Ctrl-C cancels that.
    fn linked(&self, py: Python<'_>, plan: Plan) -> PyResult<Result<Plan, Diagnostics>> {
        let cancel = CancelToken::default();
        let mut plan = plan.cancelled_by(&cancel);
        waiting::without_gil(py, &cancel, move |turn| {
            // ONNX Runtime does not restore its device on the thread that opens models.
            let _kept = KeptContext::note();
            // The plan is not shared.
            let _ = turn.take();
            plan.link().map(|()| plan)
        })
    }

    /// Binds the address, after all callbacks were attached: they may change the images.
    fn prepare_watch(&self, py: Python<'_>, watch: WatchArguments, planned: &mut PlannedGraph) -> PyResult<Option<Watch>> {
        let Some(options) = watch.into_options() else { return Ok(None) };
        let file = self.description.lock().serve.clone();
        let watch = Watch::prepare(options, file.as_ref(), planned).map_err(|error| errors::serve(py, &error))?;
        if let Some(watch) = &watch {
            log::info!("monitoring page: http://{}/", watch.address());
        }
        Ok(watch)
    }

    /// Sets up the export to OpenTelemetry, if any.
    fn prepare_otlp(&self, py: Python<'_>, otlp: OtlpArguments, planned: &mut PlannedGraph) -> PyResult<Option<Otlp>> {
        let options = otlp.into_options(self.description.lock().otlp.as_ref())?;
        let prepared = options.map(|options| Otlp::prepare(&options, planned)).transpose();
        prepared.map_err(|error| errors::stage(py, &error))
    }

    fn run_as(
        &self,
        py: Python<'_>,
        run: &Arc<Run>,
        callbacks: Vec<(String, Py<PyAny>, usize)>,
        progress: Option<Py<PyAny>>,
        (stall_limit, memory_bytes): (f64, Option<u64>),
        (watch, otlp): MonitoringArguments,
    ) -> PyResult<String> {
        // As in `edges`.
        let kept = KeptContext::note();
        let mut plan = self.plan(py, &run.raised)?;
        plan.set_memory_bytes(memory_bytes);
        let made = self.linked(py, plan)?.and_then(Plan::into_graph);
        let mut planned = made.map_err(|error| run.raised.lock().take().unwrap_or_else(|| errors::diagnostics(py, &error)))?;
        let rest = install(&mut planned, callbacks, run)?;
        let limit =
            Duration::try_from_secs_f64(stall_limit).map_err(|error| PyValueError::new_err(format!("option 'stall_limit': {error}")))?;
        let watch = self.prepare_watch(py, watch, &mut planned)?;
        let otlp = self.prepare_otlp(py, otlp, &mut planned)?;
        *run.address.lock() = watch.as_ref().map(Watch::address);
        let options = RunOptions { stall_limit: limit, memory_bytes, ..RunOptions::default() };
        let handle = planned.graph.start(options).map_err(|error| errors::run(py, &error))?;
        drop(kept);
        *run.switch.lock() = Some(handle.switch());
        let watched = watch.map(|watch| watch.serve(handle.switch())).transpose();
        let exporting = otlp.map(|otlp| otlp.export(handle.switch())).transpose();
        if run.has_failed() || watched.is_err() || exporting.is_err() {
            handle.abort();
        } else if run.is_stop_wanted.load(Ordering::Relaxed) {
            handle.stop();
        }
        let mut signal = None;
        let aborted: Mutex<Option<Instant>> = Mutex::new(None);
        let on_signal = |raised: PyErr| {
            if signal.is_none() {
                handle.stop()
            } else {
                aborted.lock().get_or_insert_with(Instant::now);
                handle.abort()
            }
            signal.get_or_insert(raised);
        };
        let each = |py: Python<'_>| match &progress {
            Some(progress) => progress.call1(py, (stats_json(&handle.stats())?,)).map(drop),
            None => Ok(()),
        };
        let is_given_up = || aborted.lock().is_some_and(|since| since.elapsed() > PATIENCE);
        let shown = waiting::until(py, |look| handle.wait_for(look) || is_given_up(), on_signal, each);
        if shown.is_err() {
            handle.abort();
        }
        // Clients are notified of the end of the run without the GIL: callbacks may still need it.
        let (outcome, watched, dropped) = py.detach(|| {
            let _kept = KeptContext::note();
            let outcome = if is_given_up() { handle.abandon(Duration::ZERO) } else { handle.wait() };
            let dropped = exporting.map(|exporting| exporting.map_or(0, Exporting::finish));
            (outcome, watched.map(|watched| watched.map(Watched::close)), dropped)
        });
        let flushed = if outcome.result.is_ok() { rest.into_iter().try_for_each(|batcher| batcher.flush(py)) } else { Ok(()) };
        let raised = run.raised.lock().take();
        if let Some(raised) = signal.or(raised) {
            return Err(raised);
        }
        watched.map_err(|error| errors::serve(py, &error))?;
        let dropped = dropped.map_err(|error| errors::stage(py, &error))?;
        if dropped > 0 {
            log::warn!("otlp: {dropped} traces and sets of metrics were dropped, because the collector was away or slow");
        }
        shown?;
        outcome.result.map_err(|error| errors::run(py, &error))?;
        flushed?;
        stats_json(&outcome.stats)
    }
}

/// The stages of a chain in planning order: each before its branches.
fn flatten<'a>(chain: &'a Chain, stages: &mut Vec<&'a StageDescription>) {
    for stage in &chain.stages {
        stages.push(stage);
        stage.branches.iter().for_each(|branch| flatten(branch, stages));
    }
}

/// Inserts a stage beside the one at an index of that order.
fn insert_beside(chain: &mut Chain, place: &mut usize, is_after: bool, added: &mut Option<StageDescription>) {
    for index in 0..chain.stages.len() {
        if *place == 0 {
            if let Some(stage) = added.take() {
                chain.stages.insert(index + usize::from(is_after), stage);
            }
            return;
        }
        *place -= 1;
        for branch in chain.stages.get_mut(index).into_iter().flat_map(|stage| &mut stage.branches) {
            insert_beside(branch, place, is_after, added);
            if added.is_none() {
                return;
            }
        }
    }
}

fn stats_json(stats: &framerail::pipeline::RunStats) -> PyResult<String> {
    serde_json::to_string(stats).map_err(|error| PyRuntimeError::new_err(error.to_string()))
}

/// Attaches callbacks to edges: the output of the stage; for a stage without output, its input.
fn install(planned: &mut PlannedGraph, callbacks: Vec<(String, Py<PyAny>, usize)>, run: &Arc<Run>) -> PyResult<Vec<Arc<Batcher>>> {
    let mut batchers = Vec::new();
    for (stage, function, batch) in callbacks {
        let Some(node) = planned.node(&stage) else {
            let names: Vec<&str> = planned.nodes.iter().map(|node| node.name.as_str()).collect();
            return Err(PyValueError::new_err(format!("option 'stage': there is no {stage:?}; this pipeline has {}", names.join(", "))));
        };
        let id = node.id;
        // A stage with several output edges sends every frame to each: one of them is enough.
        let given = planned.edges_from(id).next();
        let Some(edge) = given.or_else(|| planned.edges.iter().find(|edge| edge.to == id)).map(|edge| edge.id) else { continue };
        let callback = Callback { function, stage, batch };
        let batcher = Arc::new(Batcher { callback, run: Arc::clone(run), held: Mutex::default() });
        planned.graph.probe(edge, batcher.probe());
        batchers.push(batcher);
    }
    Ok(batchers)
}

/// Collects frames for a callback and calls it.
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
            match background::call(|py| batcher.see(py, item)) {
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
        let seen = seen.borrow(py);
        item.detections = seen.core_detections(py)?;
        seen.attach_to(py, item)?;
        Ok(verdict)
    }

    /// Calls the function; `False` drops the frame.
    fn call(&self, py: Python<'_>, items: &[Py<FrameItem>]) -> PyResult<Verdict> {
        let answer = self.callback.function.call1(py, (PyList::new(py, items)?,))?;
        if answer.is_none(py) {
            return Ok(Verdict::Keep);
        }
        match answer.extract::<bool>(py) {
            Ok(true) => Ok(Verdict::Keep),
            Ok(false) if self.callback.batch == 1 => Ok(Verdict::Drop),
            _ => Err(PyValueError::new_err(format!(
                "the callback on {:?} returned {}; return None to keep the frame, or False with batch=1 to drop it",
                self.callback.stage,
                answer.bind(py).repr()?
            ))),
        }
    }

    /// The remaining frames at the end.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let rest = std::mem::take(&mut *self.held.lock());
        if rest.is_empty() { Ok(()) } else { self.call(py, &rest).map(drop) }
    }
}

/// Descriptions of all stages, as JSON.
pub fn stage_list() -> PyResult<String> {
    StageList::new(&framerail::registry()).json().map_err(|error| PyRuntimeError::new_err(error.to_string()))
}
