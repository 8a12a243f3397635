//! The stage `python`: runs a user function on a separate thread.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use framerail::{
    core::Device,
    cuda::Traffic,
    devices::account,
    pipeline::{
        BatchPolicy, ConfigError, CopyKind, Counter, DetectionFormat, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem as PipelineItem,
        Item, LinkContext, Options, PlanError, Stage, StageContext, StageError, StagePlan, Work,
    },
    pixels::PixelEdits,
};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyList};

use crate::{
    frame_item::{FrameItem, Rest},
    hosted::{at, attached, no_frames, nothing_given},
    source::Raised,
};

/// A function with its `@stage` options.
pub struct FunctionPlan {
    name: String,
    function: Option<Arc<Py<PyAny>>>,
    raised: Raised,
    batch: BatchPolicy,
    is_on_host: bool,
    reads_pixels: bool,
}

impl FunctionPlan {
    /// Looks up the function; a missing one is reported while linking.
    pub fn new(options: &Options, functions: &BTreeMap<String, Arc<Py<PyAny>>>, raised: &Raised) -> Result<Self, ConfigError> {
        let name = options.text("function").to_owned();
        let function = functions.get(&name).cloned();
        let raised = Arc::clone(raised);
        let mut plan = Self { name, function, raised, batch: BatchPolicy::default(), is_on_host: false, reads_pixels: true };
        if let Some(function) = plan.function.clone() {
            attached(&plan.raised, ErrorKind::Usage, |py| {
                let function = function.bind(py);
                let max_wait: Option<f64> = function.getattr("max_wait")?.extract()?;
                let max_wait = max_wait.map(Duration::try_from_secs_f64).transpose();
                plan.batch = BatchPolicy {
                    max_frames: function.getattr("batch")?.extract()?,
                    max_wait: max_wait.map_err(|error| PyValueError::new_err(format!("option 'max_wait': {error}")))?,
                };
                plan.is_on_host = function.getattr("on")?.extract::<String>()? == "cpu";
                plan.reads_pixels = function.getattr("pixels")?.extract()?;
                Ok(())
            })?;
        }
        Ok(plan)
    }
}

impl StagePlan for FunctionPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input.ok_or_else(no_frames)?;
        if self.function.is_none() {
            return Err(nothing_given("function", &self.name, &format!("pipeline.function({:?}, function)", self.name)));
        }
        if self.is_on_host && self.reads_pixels {
            at(input.device, Device::Cpu)?;
        }
        // The function may attach its own detections, whose classes are unknown.
        let own = || DetectionFormat { model: self.name.clone(), ..DetectionFormat::default() };
        Ok(Some(EdgeFormat { detections: Some(input.detections.clone().unwrap_or_else(own)), ..input.clone() }))
    }

    fn batch(&self) -> BatchPolicy {
        self.batch
    }

    fn reads_pixels(&self) -> bool {
        self.reads_pixels
    }

    fn takes_device_frames(&self) -> bool {
        !self.is_on_host
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let missing = || StageError::new(ErrorKind::Internal, "the function is not there; link first");
        let stage = FunctionStage {
            function: self.function.ok_or_else(missing)?,
            raised: self.raised,
            edits: PixelEdits::default(),
            counters: None,
        };
        Ok(Work::Stages(vec![Box::new(stage)]))
    }
}

struct Counters {
    context: StageContext,
    dropped: Counter,
}

struct FunctionStage {
    function: Arc<Py<PyAny>>,
    raised: Raised,
    edits: PixelEdits,
    counters: Option<Counters>,
}

impl FunctionStage {
    fn call(&self, method: &str) -> Result<(), StageError> {
        attached(&self.raised, ErrorKind::Internal, |py| self.function.bind(py).call_method0(method).map(drop))
    }

    /// Calls the function with the frames of the items.
    fn pass(&self, py: Python<'_>, items: Vec<Item>) -> PyResult<Passed> {
        let (mut slots, mut seen) = (Vec::with_capacity(items.len()), Vec::new());
        for item in items {
            slots.push(match item {
                Item::Frame(item) => {
                    let (frame, rest) = FrameItem::of_stage(py, *item, &self.edits)?;
                    seen.push(Py::new(py, frame)?);
                    Slot::Frame(rest)
                }
                other => Slot::Other(other),
            });
        }
        let verdicts = if seen.is_empty() { None } else { self.verdicts(py, &seen)? };
        let mut verdicts = verdicts.unwrap_or_default().into_iter();
        let mut seen = seen.into_iter();
        let mut passed = Passed::default();
        for slot in slots {
            let rest = match slot {
                Slot::Other(item) => {
                    passed.items.push(item);
                    continue;
                }
                Slot::Frame(rest) => rest,
            };
            let Some(frame) = seen.next() else { break };
            let (item, copied) = frame.try_borrow(py)?.take_back(py, rest)?;
            if copied > 0 {
                passed.copied.push(copied);
            }
            if verdicts.next().unwrap_or(true) { passed.items.push(item.into()) } else { passed.dropped += 1 }
        }
        Ok(passed)
    }

    /// Which frames continue; all by default. `framerail.stages` has checked the return value.
    fn verdicts(&self, py: Python<'_>, frames: &[Py<FrameItem>]) -> PyResult<Option<Vec<bool>>> {
        self.function.bind(py).call_method1("call", (PyList::new(py, frames)?,))?.extract()
    }
}

/// Stands in for an item while the function has its frame.
enum Slot {
    Frame(Rest),
    Other(Item),
}

#[derive(Default)]
struct Passed {
    items: Vec<Item>,
    dropped: u64,
    /// Bytes of each copy on the host.
    copied: Vec<usize>,
}

impl Stage for FunctionStage {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.counters = Some(Counters { context: context.clone(), dropped: context.counter("frames_dropped") });
        self.call("start")
    }

    fn frame(&mut self, item: PipelineItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let passed = attached(&self.raised, ErrorKind::Internal, |py| self.pass(py, items))?;
        if let Some(counters) = &self.counters {
            counters.dropped.add(passed.dropped);
            passed.copied.iter().for_each(|bytes| counters.context.count_copy(CopyKind::Host, *bytes));
            account(&counters.context, Traffic::take());
        }
        passed.items.into_iter().try_for_each(|item| out.push(item))?;
        Ok(Flow::More)
    }

    fn finish(&mut self, _: &mut dyn Emitter) -> Result<(), StageError> {
        self.call("finish")
    }
}
