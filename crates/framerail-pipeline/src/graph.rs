//! A graph of stages connected by edges, run by the engine.

use std::sync::Arc;

use crate::{
    BatchPolicy, EdgeFormat, ErrorKind, FrameItem, OnSinkError, RunError, StageError, Work,
    engine::{self, RunHandle, RunOptions},
};

/// Index of a stage in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) usize);

/// Index of an edge in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeId(pub(crate) usize);

/// A probe's decision about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Pass it on.
    Keep,
    /// Drop it; counted as dropped on this edge.
    Drop,
}

/// A callback on an edge. It receives each frame with its detections without a copy, on the producing stage's thread, and may
/// change the detections or drop the frame. Slow probes slow down that stage.
pub type Probe = Arc<dyn Fn(&mut FrameItem) -> Verdict + Send + Sync>;

/// Options of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeOptions {
    /// Capacity of its input queue in frames; at least 1. A full batch always fits.
    pub queue: usize,
    /// Frames per call.
    pub batch: BatchPolicy,
    /// What happens when it fails, if it is an end of the pipeline.
    pub on_error: OnSinkError,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self { queue: 4, batch: BatchPolicy::default(), on_error: OnSinkError::default() }
    }
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) work: Work,
    pub(crate) options: NodeOptions,
}

pub(crate) struct Edge {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) format: EdgeFormat,
    pub(crate) probes: Vec<Probe>,
}

/// Stages and the edges between them. A node with several outgoing edges pushes every item to each of them; a node with several
/// incoming edges processes items as they arrive.
#[derive(Default)]
pub struct Graph {
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a stage with a name for errors and statistics.
    pub fn add(&mut self, name: impl Into<String>, work: Work, options: NodeOptions) -> NodeId {
        self.nodes.push(Node { name: name.into(), work, options });
        NodeId(self.nodes.len() - 1)
    }

    /// Connects the output of `from` to the input of `to`.
    pub fn connect(&mut self, from: NodeId, to: NodeId, format: EdgeFormat) -> EdgeId {
        self.edges.push(Edge { from, to, format, probes: Vec::new() });
        EdgeId(self.edges.len() - 1)
    }

    /// Adds a callback to an edge.
    pub fn probe(&mut self, edge: EdgeId, probe: Probe) {
        if let Some(edge) = self.edges.get_mut(edge.0) {
            edge.probes.push(probe);
        }
    }

    /// The stages with this name.
    pub fn nodes_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = NodeId> + 'a {
        self.nodes.iter().enumerate().filter(move |(_, node)| node.name == name).map(|(index, _)| NodeId(index))
    }

    /// The outgoing edges of a stage.
    pub fn edges_from(&self, node: NodeId) -> impl Iterator<Item = EdgeId> + '_ {
        self.edges.iter().enumerate().filter(move |(_, edge)| edge.from == node).map(|(index, _)| EdgeId(index))
    }

    /// Starts every stage on its own threads.
    ///
    /// # Errors
    /// `Internal` when the graph is invalid: a cycle, a source with an input, a stage without one, or a node without workers;
    /// `Resource` when threads cannot be started.
    pub fn start(self, options: RunOptions) -> Result<RunHandle, RunError> {
        self.validate()?;
        engine::start(self, options)
    }

    fn validate(&self) -> Result<(), RunError> {
        let broken =
            |stage: &str, message: String| RunError { stage: stage.to_owned(), error: StageError::new(ErrorKind::Internal, message) };
        for edge in &self.edges {
            if edge.from.0 >= self.nodes.len() || edge.to.0 >= self.nodes.len() {
                return Err(broken("graph", "an edge leads to a stage of another graph".to_owned()));
            }
        }
        for (index, node) in self.nodes.iter().enumerate() {
            let inputs = self.edges.iter().filter(|edge| edge.to.0 == index).count();
            match &node.work {
                Work::Source(_) | Work::Streams(_) if inputs > 0 => return Err(broken(&node.name, "a source takes no input".to_owned())),
                Work::Stages(stages) if stages.is_empty() => return Err(broken(&node.name, "has no worker".to_owned())),
                Work::Stages(_) if inputs == 0 => return Err(broken(&node.name, "has no input".to_owned())),
                _ => {}
            }
        }
        if self.has_cycle() { Err(broken("graph", "the stages form a cycle".to_owned())) } else { Ok(()) }
    }

    fn has_cycle(&self) -> bool {
        let mut inputs: Vec<usize> = vec![0; self.nodes.len()];
        for edge in &self.edges {
            inputs[edge.to.0] += 1;
        }
        let mut free: Vec<usize> = (0..self.nodes.len()).filter(|node| inputs[*node] == 0).collect();
        let mut sorted = 0;
        while let Some(node) = free.pop() {
            sorted += 1;
            for edge in self.edges.iter().filter(|edge| edge.from.0 == node) {
                inputs[edge.to.0] -= 1;
                if inputs[edge.to.0] == 0 {
                    free.push(edge.to.0);
                }
            }
        }
        sorted < self.nodes.len()
    }
}
