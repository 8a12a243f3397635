//! Selects where in a pipeline images are taken.

use std::sync::Arc;

use framerail_pipeline::{NodeId, PlannedEdge, PlannedGraph, Verdict};

use crate::{LiveImages, ServeError};

/// A place between two stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The stage whose frames are shown.
    pub stage: String,
    /// Whether an earlier stage already draws detections into the frames.
    pub is_drawn: bool,
    edge: framerail_pipeline::EdgeId,
}

impl View {
    /// Finds the output of the named stage or, by default, of the last stage before a sink; with several branches, on the
    /// longest one. What `blur` hides is therefore hidden here too.
    ///
    /// # Errors
    /// `View` when the stage does not exist or has no frame output.
    pub fn find(planned: &PlannedGraph, stage: Option<&str>) -> Result<Self, ServeError> {
        let refused = |message: String| Err(ServeError::View { message });
        let edge = match stage {
            // Among equally long branches, take the first: `max_by_key` returns the last maximum.
            None => planned.edges.iter().rev().filter(|edge| is_sink(planned, edge.to)).max_by_key(|edge| depth(planned, edge.from)),
            Some(name) => match planned.node(name) {
                None => {
                    let names: Vec<&str> = planned.nodes.iter().map(|node| node.name.as_str()).collect();
                    return refused(format!("there is no stage `{name}` to show frames of; there are {}", names.join(", ")));
                }
                Some(node) => planned.edges_from(node.id).next(),
            },
        };
        let Some(edge) = edge else {
            return refused(format!("{} has no frames to show", stage.unwrap_or("this pipeline")));
        };
        let from = planned.nodes.iter().find(|node| node.id == edge.from);
        let stage = from.map_or_else(String::new, |node| node.name.clone());
        Ok(Self { stage, is_drawn: is_drawn(planned, edge.from), edge: edge.id })
    }

    /// Offers the frames that pass this place.
    pub fn attach(&self, planned: &mut PlannedGraph, images: &LiveImages) {
        let images = images.clone();
        planned.graph.probe(
            self.edge,
            Arc::new(move |item| {
                images.offer(item);
                Verdict::Keep
            }),
        );
    }
}

fn is_sink(planned: &PlannedGraph, node: NodeId) -> bool {
    planned.edges_from(node).next().is_none()
}

fn edge_into(planned: &PlannedGraph, node: NodeId) -> Option<&PlannedEdge> {
    planned.edges.iter().find(|edge| edge.to == node)
}

/// Number of stages before this one.
fn depth(planned: &PlannedGraph, node: NodeId) -> usize {
    let mut depth = 0;
    let mut node = node;
    while let Some(edge) = edge_into(planned, node).filter(|_| depth < planned.nodes.len()) {
        (node, depth) = (edge.from, depth + 1);
    }
    depth
}

fn is_drawn(planned: &PlannedGraph, node: NodeId) -> bool {
    let mut node = node;
    for _ in 0..planned.nodes.len() {
        if planned.nodes.iter().any(|planned| planned.id == node && planned.stage == "draw") {
            return true;
        }
        match edge_into(planned, node) {
            Some(edge) => node = edge.from,
            None => return false,
        }
    }
    false
}
