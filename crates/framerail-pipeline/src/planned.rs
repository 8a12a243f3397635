//! A checked pipeline: its stages negotiate formats, then it becomes a graph.

use std::{collections::VecDeque, sync::Arc};

use framerail_core::{CancelToken, Device, RunFiles};

use crate::{
    EdgeFormat, ErrorKind, LinkContext, LinkMismatch, OnSinkError, PlanError, StagePlan, TensorRequest,
    copies::{self, CopyStages},
    description::{Origin, Span},
    diagnostic::{Diagnostic, Diagnostics},
    drawing::{DrawnEdge, DrawnStage, GraphDrawing},
    engine::memory::default_frame_memory_bytes,
    spec::Role,
};

/// A stage of a checked pipeline.
pub struct PlannedStage {
    /// Its unique name in this pipeline.
    pub name: String,
    /// Type of the stage, such as `blur`.
    pub stage: String,
    /// Position in the text.
    pub span: Option<Span>,
    /// Its role.
    pub role: Role,
    /// Capacity of its input queue in frames.
    pub queue: usize,
    /// What to do when it fails, from its options; `None` = the stage's default.
    pub on_error: Option<OnSinkError>,
    /// The stage that feeds it, as an index into [`Plan::stages`]; `None` for the source.
    pub parent: Option<usize>,
    /// Its input format, once linked; `None` for the source.
    pub input: Option<EdgeFormat>,
    /// Its output format, once linked; `None` for sinks.
    pub output: Option<EdgeFormat>,
    /// Whether the planner inserted it to copy frames between devices.
    pub is_inserted: bool,
    pub(crate) plan: Box<dyn StagePlan>,
}

impl PlannedStage {
    pub(crate) fn new(
        name: String,
        (stage, span): (String, Option<Span>),
        role: Role,
        plan: Box<dyn StagePlan>,
        queue: usize,
        parent: Option<usize>,
    ) -> Self {
        Self { name, stage, span, role, queue, on_error: None, parent, input: None, output: None, is_inserted: false, plan }
    }

    /// How it will work, once linked, if the stage reports it.
    pub fn note(&self) -> Option<String> {
        self.plan.note()
    }
}

/// A checked pipeline: a tree of configured stages, sources first.
pub struct Plan {
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) origin: Arc<Origin>,
    copies: CopyStages,
    cancel: CancelToken,
    files: RunFiles,
    memory_bytes: Option<u64>,
    linked: bool,
}

impl Plan {
    pub(crate) fn new(stages: Vec<PlannedStage>, origin: Arc<Origin>, copies: CopyStages) -> Self {
        Self { stages, origin, copies, cancel: CancelToken::default(), files: RunFiles::default(), memory_bytes: None, linked: false }
    }

    /// Its stages; each comes after its parent.
    pub fn stages(&self) -> &[PlannedStage] {
        &self.stages
    }

    /// Cancelling this token aborts opening inputs, for instance from a signal handler.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: &CancelToken) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// The files that the run reads and writes, as recorded by its stages; complete after [`Plan::link`].
    pub fn files(&self) -> &RunFiles {
        &self.files
    }

    /// Sets a list of files that the stages share with others. Call before [`Plan::link`].
    pub fn set_files(&mut self, files: RunFiles) {
        self.files = files;
    }

    /// Limits the host memory of frames, as in [`crate::RunOptions::memory_bytes`], for stages that take it into account. Call before
    /// [`Plan::link`].
    pub fn set_memory_bytes(&mut self, bytes: Option<u64>) {
        self.memory_bytes = bytes;
    }

    /// Negotiates formats from the source to the sinks; inputs and models are opened on the way. Repeated calls do nothing.
    ///
    /// # Errors
    /// All stages that do not accept their input or cannot work; stages downstream of these are not checked.
    pub fn link(&mut self) -> Result<(), Diagnostics> {
        if self.linked {
            return Ok(());
        }
        self.stages.iter_mut().for_each(|stage| stage.plan.prepare());
        let mut contexts: VecDeque<LinkContext> = self.contexts().into();
        let mut problems = Vec::new();
        let mut index = 0;
        while let Some(context) = contexts.pop_front() {
            let before = self.stages.len();
            if let Err(problem) = self.link_stage(index, &context) {
                problems.push(problem);
            }
            // Inserted copies are placed before the stage.
            index += 1 + self.stages.len() - before;
        }
        if problems.is_empty() {
            self.linked = true;
            Ok(())
        } else {
            Err(Diagnostics(problems))
        }
    }

    /// For each stage, the requests of the stages downstream. Children have higher indices than their parents.
    fn contexts(&self) -> Vec<LinkContext> {
        let mut downstream = vec![Downstream::default(); self.stages.len()];
        for (index, stage) in self.stages.iter().enumerate().rev() {
            let below = downstream.get(index).cloned().unwrap_or_default().above(stage.plan.as_ref());
            if let Some(parent) = stage.parent.and_then(|parent| downstream.get_mut(parent)) {
                parent.join(below);
            }
        }
        let memory_bytes = self.memory_bytes.unwrap_or_else(default_frame_memory_bytes);
        let context = |downstream: Downstream| LinkContext {
            packets_wanted: downstream.packets,
            video_packets_wanted: downstream.video_packets,
            streams_in_step: downstream.in_step,
            pixels_wanted: downstream.readers > 0,
            tensor_wanted: downstream.tensor,
            cancel: self.cancel.clone(),
            files: self.files.clone(),
            memory_bytes,
        };
        downstream.into_iter().map(context).collect()
    }

    fn link_stage(&mut self, index: usize, context: &LinkContext) -> Result<(), Diagnostic> {
        let mut index = index;
        // Frames need two copies from one GPU to another.
        for _ in 0..3 {
            match self.try_link(index, context)? {
                None => return Ok(()),
                Some(device) => index = self.insert_copy(index, device, context)?,
            }
        }
        Err(self.internal(index, "keeps asking for frames on another device"))
    }

    /// Links a stage; returns the device on which it needs its input, if that is another one.
    fn try_link(&mut self, index: usize, context: &LinkContext) -> Result<Option<Device>, Diagnostic> {
        let parent = self.stages.get(index).and_then(|stage| stage.parent).and_then(|parent| self.stages.get(parent));
        let (input, giver) = (parent.and_then(|parent| parent.output.clone()), parent.map(|parent| parent.stage.clone()));
        let Some(stage) = self.stages.get_mut(index) else { return Ok(None) };
        if stage.parent.is_some() && input.is_none() {
            // The previous stage failed and was reported.
            return Ok(None);
        }
        let parts = input.as_ref().and_then(|input| input.parts.as_ref());
        if let Some(parts) = parts.filter(|_| !stage.plan.takes_parts() && !stage.is_inserted) {
            let (needs, giver) = ("whole frames".into(), giver.clone().unwrap_or_default());
            let hint = format!("put `infer MODEL` directly after `{giver}`, to run on the {parts}");
            return Err(self.mismatch(index, PlanError::Link(LinkMismatch { needs, hint }), input.zip(Some(giver))));
        }
        let is_on_device = input.as_ref().is_some_and(|input| input.device != Device::Cpu);
        let reads_pixels = stage.plan.reads_pixels();
        let several = input.as_ref().filter(|input| !input.other_devices.is_empty());
        let linked = if is_on_device && reads_pixels && !stage.plan.takes_device_frames() {
            Err(PlanError::NeedsDevice(Device::Cpu))
        } else if let Some(input) = several.filter(|_| reads_pixels && !stage.plan.takes_several_devices()) {
            Err(PlanError::NeedsDevice(input.device))
        } else {
            stage.plan.link(input.as_ref(), context)
        };
        match linked {
            Ok(mut output) => {
                if let (Some(input), Some(output)) = (&input, &mut output) {
                    output.is_changed = input.is_changed || (stage.plan.changes_pixels() && !stage.is_inserted);
                }
                let missing = output.is_none() && stage.role != Role::Sink;
                (stage.input, stage.output) = (input, output);
                if missing { Err(self.internal(index, "declares no output format")) } else { Ok(None) }
            }
            Err(PlanError::NeedsDevice(device)) if input.as_ref().is_some_and(|input| !input.is_all_on(device)) => Ok(Some(device)),
            Err(error) => Err(self.mismatch(index, error, input.zip(giver))),
        }
    }

    /// Inserts a copy between a stage and its parent, or reuses the copy of a sibling. Returns the new index of the stage.
    fn insert_copy(&mut self, index: usize, device: Device, context: &LinkContext) -> Result<usize, Diagnostic> {
        let Some(parent) = self.stages.get(index).and_then(|stage| stage.parent) else { return Ok(index) };
        let Some(given) = self.stages.get(parent).and_then(|parent| parent.output.clone()) else { return Ok(index) };
        let is_shared = |stage: &PlannedStage| {
            stage.is_inserted && stage.parent == Some(parent) && stage.output.as_ref().is_some_and(|output| output.is_all_on(device))
        };
        if let Some(sibling) = self.stages.iter().take(index).position(is_shared) {
            self.lead(index, sibling);
            return Ok(index);
        }
        let refused = || self.mismatch(index, PlanError::NeedsDevice(device), Some((given.clone(), self.stage_of(parent))));
        let (stage, options) = self.copies.step(device).ok_or_else(refused)?;
        let plan = stage.configure(&options).map_err(|_| refused())?;
        let (name, span) = (stage.spec.name.clone(), self.stages.get(index).and_then(|stage| stage.span));
        let queue = copies::queue_of(&stage.spec, &options);
        let mut copy = PlannedStage::new(self.free_name(&name), (name, span), Role::Transform, plan, queue, Some(parent));
        copy.is_inserted = true;
        for later in self.stages.iter_mut().skip(index) {
            later.parent = later.parent.map(|parent| if parent >= index { parent + 1 } else { parent });
        }
        self.stages.insert(index, copy);
        self.lead(index + 1, index);
        match self.try_link(index, context)? {
            None => Ok(index + 1),
            Some(_) => Err(self.internal(index, "asks for another copy")),
        }
    }

    fn lead(&mut self, index: usize, parent: usize) {
        if let Some(stage) = self.stages.get_mut(index) {
            stage.parent = Some(parent);
        }
    }

    fn stage_of(&self, index: usize) -> String {
        self.stages.get(index).map(|stage| stage.stage.clone()).unwrap_or_default()
    }

    /// A name that no other stage has.
    fn free_name(&self, base: &str) -> String {
        let is_taken = |name: &str| self.stages.iter().any(|stage| stage.name == name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        std::iter::once(base.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default()
    }

    fn mismatch(&self, index: usize, error: PlanError, given: Option<(EdgeFormat, String)>) -> Diagnostic {
        let (name, span) = self.stages.get(index).map_or(("", None), |stage| (stage.stage.as_str(), stage.span));
        match (error, given) {
            (PlanError::Link(mismatch), Some((format, giver))) => {
                let message = format!("`{name}` needs {}; `{giver}` gives {format}", mismatch.needs);
                Diagnostic::new(&self.origin, span, message).help(mismatch.hint)
            }
            (PlanError::Link(mismatch), None) => {
                Diagnostic::new(&self.origin, span, format!("`{name}` needs {}", mismatch.needs)).help(mismatch.hint)
            }
            (PlanError::NeedsDevice(device), given) => {
                let given = given.map(|(format, giver)| format!("; `{giver}` gives {format}")).unwrap_or_default();
                let message = format!("`{name}` needs frames on {device}{given}");
                Diagnostic::new(&self.origin, span, message).help(copies::hint(device))
            }
            (PlanError::Stage(error), _) => Diagnostic::new(&self.origin, span, format!("`{name}`: {}", error.message)).kind(error.kind),
        }
    }

    fn internal(&self, index: usize, what: &str) -> Diagnostic {
        let (name, span) = self.stages.get(index).map_or(("", None), |stage| (stage.stage.as_str(), stage.span));
        Diagnostic::new(&self.origin, span, format!("`{name}` {what}; this is a bug of that stage")).kind(ErrorKind::Internal)
    }

    /// A drawing of the pipeline; its edges show formats once it is linked.
    pub fn drawing(&self) -> GraphDrawing {
        let node = |stage: &PlannedStage| DrawnStage { name: stage.name.clone(), ..DrawnStage::default() };
        let edge = |stage: &PlannedStage| {
            let parent = self.stages.get(stage.parent?)?;
            let format = stage.input.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(DrawnEdge { from: parent.name.clone(), to: stage.name.clone(), format, ..DrawnEdge::default() })
        };
        GraphDrawing { nodes: self.stages.iter().map(node).collect(), edges: self.stages.iter().filter_map(edge).collect() }
    }
}

/// Requests of the stages downstream of a stage.
#[derive(Clone, Default)]
struct Downstream {
    packets: bool,
    video_packets: bool,
    in_step: bool,
    /// Number of stages that read pixels; only 0, 1 and more are distinguished.
    readers: usize,
    /// Input format wanted by the only such stage; `None` when there are several.
    tensor: Option<TensorRequest>,
}

impl Downstream {
    /// Adds the requests of one more stage upstream.
    fn above(mut self, plan: &dyn StagePlan) -> Self {
        let reads = plan.reads_pixels();
        let tensor = if reads { plan.wants_tensor() } else { None };
        self.join(Self {
            packets: plan.wants_packets(),
            video_packets: plan.wants_video_packets(),
            in_step: plan.wants_streams_in_step(),
            readers: usize::from(reads),
            tensor,
        });
        self
    }

    fn join(&mut self, other: Self) {
        self.packets |= other.packets;
        self.video_packets |= other.video_packets;
        self.in_step |= other.in_step;
        self.readers = (self.readers + other.readers).min(2);
        self.tensor = self.tensor.take().or(other.tensor).filter(|_| self.readers == 1);
    }
}
