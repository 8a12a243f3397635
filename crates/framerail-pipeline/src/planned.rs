//! A checked pipeline: its stages agree on formats, then become a graph.

use std::sync::Arc;

use crate::{
    EdgeFormat, ErrorKind, LinkContext, PlanError, StagePlan,
    description::{Origin, Span},
    diagnostic::{Diagnostic, Diagnostics},
    picture::{GraphPicture, PictureEdge, PictureNode},
    spec::Role,
};

/// A stage of a checked pipeline.
pub struct PlannedStage {
    /// Its name in this pipeline, unlike any other.
    pub name: String,
    /// Which stage it is, such as `blur`.
    pub stage: String,
    /// Where it is written.
    pub span: Option<Span>,
    /// Where it may stand.
    pub role: Role,
    /// Frames that its input queue holds.
    pub queue: usize,
    /// The stage that feeds it, as an index into [`Plan::stages`]; `None` for the source.
    pub parent: Option<usize>,
    /// What it takes, once linked; `None` for the source.
    pub input: Option<EdgeFormat>,
    /// What it gives, once linked; `None` for sinks.
    pub output: Option<EdgeFormat>,
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
        Self { name, stage, span, role, queue, parent, input: None, output: None, plan }
    }
}

/// A checked pipeline: a tree of configured stages, sources first.
pub struct Plan {
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) origin: Arc<Origin>,
    linked: bool,
}

impl Plan {
    pub(crate) fn new(stages: Vec<PlannedStage>, origin: Arc<Origin>) -> Self {
        Self { stages, origin, linked: false }
    }

    /// Its stages; each comes after the one that feeds it.
    pub fn stages(&self) -> &[PlannedStage] {
        &self.stages
    }

    /// Lets the stages agree on formats, from the source to the sinks; inputs and models are opened on the way.
    /// Does nothing the second time.
    ///
    /// # Errors
    /// Every stage that does not fit the one before it or cannot work; what follows such a stage is not looked at.
    pub fn link(&mut self) -> Result<(), Diagnostics> {
        if self.linked {
            return Ok(());
        }
        let wanted = self.packets_wanted();
        let mut problems = Vec::new();
        for (index, packets_wanted) in wanted.into_iter().enumerate() {
            if let Err(problem) = self.link_stage(index, &LinkContext { packets_wanted }) {
                problems.push(problem);
            }
        }
        if problems.is_empty() {
            self.linked = true;
            Ok(())
        } else {
            Err(Diagnostics(problems))
        }
    }

    /// For each stage, whether one downstream uses packets. Children have higher indices than their parents.
    fn packets_wanted(&self) -> Vec<bool> {
        let mut downstream = vec![false; self.stages.len()];
        for (index, stage) in self.stages.iter().enumerate().rev() {
            let wanted = stage.plan.wants_packets() || downstream.get(index).copied().unwrap_or(false);
            if let Some(above) = stage.parent.and_then(|parent| downstream.get_mut(parent)) {
                *above |= wanted;
            }
        }
        downstream
    }

    fn link_stage(&mut self, index: usize, context: &LinkContext) -> Result<(), Diagnostic> {
        let parent = self.stages.get(index).and_then(|stage| stage.parent).and_then(|parent| self.stages.get(parent));
        let (input, giver) = (parent.and_then(|parent| parent.output.clone()), parent.map(|parent| parent.stage.clone()));
        let Some(stage) = self.stages.get_mut(index) else { return Ok(()) };
        if stage.parent.is_some() && input.is_none() {
            // The stage before it failed, and was reported.
            return Ok(());
        }
        match stage.plan.link(input.as_ref(), context) {
            Ok(output) => {
                let missing = output.is_none() && stage.role != Role::Sink;
                (stage.input, stage.output) = (input, output);
                if missing { Err(self.internal(index, "says no format for what it gives")) } else { Ok(()) }
            }
            Err(error) => Err(self.mismatch(index, error, input.zip(giver))),
        }
    }

    fn mismatch(&self, index: usize, error: PlanError, given: Option<(EdgeFormat, String)>) -> Diagnostic {
        let (name, span) = self.stages.get(index).map_or(("", None), |stage| (stage.stage.as_str(), stage.span));
        match (error, given) {
            (PlanError::Link(mismatch), Some((format, giver))) => {
                let message = format!("`{name}` needs {}; `{giver}` gives {format}", mismatch.needs);
                Diagnostic::new(&self.origin, span, message).help(mismatch.mend)
            }
            (PlanError::Link(mismatch), None) => {
                Diagnostic::new(&self.origin, span, format!("`{name}` needs {}", mismatch.needs)).help(mismatch.mend)
            }
            (PlanError::Stage(error), _) => Diagnostic::new(&self.origin, span, format!("`{name}`: {}", error.message)).kind(error.kind),
        }
    }

    fn internal(&self, index: usize, what: &str) -> Diagnostic {
        let (name, span) = self.stages.get(index).map_or(("", None), |stage| (stage.stage.as_str(), stage.span));
        Diagnostic::new(&self.origin, span, format!("`{name}` {what}; this is a bug of that stage")).kind(ErrorKind::Internal)
    }

    /// A picture of the pipeline; with formats on its edges once it is linked.
    pub fn picture(&self) -> GraphPicture {
        let node = |stage: &PlannedStage| PictureNode { name: stage.name.clone(), ..PictureNode::default() };
        let edge = |stage: &PlannedStage| {
            let parent = self.stages.get(stage.parent?)?;
            let format = stage.input.as_ref().map(ToString::to_string).unwrap_or_default();
            Some(PictureEdge { from: parent.name.clone(), to: stage.name.clone(), format, ..PictureEdge::default() })
        };
        GraphPicture { nodes: self.stages.iter().map(node).collect(), edges: self.stages.iter().filter_map(edge).collect() }
    }
}
