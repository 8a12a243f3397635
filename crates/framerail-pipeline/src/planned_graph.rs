//! Turns a linked pipeline into the graph that the engine runs.

use std::{sync::Arc, time::Duration};

use crate::{
    BatchPolicy, EdgeId, Graph, NodeId, NodeOptions, StageError,
    description::Span,
    diagnostic::{Diagnostic, Diagnostics},
    planned::Plan,
};

/// How long a batch of live frames waits to fill, unless the stage sets it: one frame period at 25 frames/s.
const LIVE_BATCH_WAIT: Duration = Duration::from_millis(40);

/// The same for frames of files: they arrive as fast as they are decoded, but a source may stall, or the run may wait for more streams.
const FILE_BATCH_WAIT: Duration = Duration::from_millis(500);

impl Plan {
    /// Builds the graph; links first if necessary.
    ///
    /// # Errors
    /// As [`Plan::link`], and when a stage cannot be created.
    pub fn into_graph(mut self) -> Result<PlannedGraph, Diagnostics> {
        self.link()?;
        let origin = Arc::clone(&self.origin);
        let mut made = PlannedGraph { graph: Graph::new(), nodes: Vec::new(), edges: Vec::new() };
        for stage in self.stages {
            let is_live = stage.input.as_ref().is_some_and(|input| input.is_live);
            let on_error = stage.on_error.unwrap_or_else(|| stage.plan.on_error());
            let options = NodeOptions { queue: stage.queue, batch: with_deadline(stage.plan.batch(), is_live), on_error };
            let failed = |error: StageError| {
                let message = format!("`{}`: {}", stage.stage, error.message);
                Diagnostic::new(&origin, stage.span, message).kind(error.kind)
            };
            let work = stage.plan.into_work().map_err(failed)?;
            let id = made.graph.add(stage.name.clone(), work, options);
            let giver = stage.parent.and_then(|parent| made.nodes.get(parent)).map(|node: &PlannedNode| node.id);
            if let (Some(from), Some(format)) = (giver, stage.input) {
                made.edges.push(PlannedEdge { id: made.graph.connect(from, id, format), from, to: id });
            }
            made.nodes.push(PlannedNode { id, name: stage.name, stage: stage.stage, span: stage.span });
        }
        Ok(made)
    }
}

/// Limits the wait for a full batch: the remaining frames may never come.
fn with_deadline(batch: BatchPolicy, is_live: bool) -> BatchPolicy {
    let wait = if is_live { LIVE_BATCH_WAIT } else { FILE_BATCH_WAIT };
    BatchPolicy { max_wait: batch.max_wait.or((batch.max_frames > 1).then_some(wait)), ..batch }
}

/// A stage of a pipeline with its node in the graph.
#[derive(Clone, Debug)]
pub struct PlannedNode {
    /// Its node in the graph.
    pub id: NodeId,
    /// Its name in this pipeline.
    pub name: String,
    /// Type of the stage, such as `blur`.
    pub stage: String,
    /// Position in the text.
    pub span: Option<Span>,
}

/// An edge of a pipeline with its ID in the graph.
#[derive(Clone, Copy, Debug)]
pub struct PlannedEdge {
    /// Its ID in the graph.
    pub id: EdgeId,
    /// The producing stage.
    pub from: NodeId,
    /// The consuming stage.
    pub to: NodeId,
}

/// A graph, with the mapping to the stages of the pipeline.
pub struct PlannedGraph {
    /// The graph, ready to start.
    pub graph: Graph,
    /// Its stages, in pipeline order.
    pub nodes: Vec<PlannedNode>,
    /// Its edges, in the order of the consuming stages.
    pub edges: Vec<PlannedEdge>,
}

impl PlannedGraph {
    /// The stage with this name, or the first stage of this type: `blur-2`, or `blur`.
    pub fn node(&self, name: &str) -> Option<&PlannedNode> {
        let named = self.nodes.iter().find(|node| node.name == name);
        named.or_else(|| self.nodes.iter().find(|node| node.stage == name))
    }

    /// The outgoing edges of a stage.
    pub fn edges_from(&self, node: NodeId) -> impl Iterator<Item = &PlannedEdge> {
        self.edges.iter().filter(move |edge| edge.from == node)
    }
}
