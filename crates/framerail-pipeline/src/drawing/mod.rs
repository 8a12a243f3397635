//! Draws a pipeline: stages as boxes, edges with their format and, after a run, statistics.

mod dot;
mod layout;
#[cfg(feature = "png")]
mod png;
mod svg;

#[cfg(feature = "png")]
pub use png::{DrawingError, REGULAR_FONT};

use crate::RunStats;

/// A stage in a drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrawnStage {
    /// Its name, unique in the drawing.
    pub name: String,
    /// Lines below the name.
    pub details: Vec<String>,
    /// Whether it limits the run; marked by colour and text.
    pub is_limiting: bool,
}

/// An edge in a drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DrawnEdge {
    /// Name of the producing stage.
    pub from: String,
    /// Name of the consuming stage.
    pub to: String,
    /// The negotiated format as text; empty when unknown.
    pub format: String,
    /// Statistics of the edge, after a run.
    pub traffic: Option<Traffic>,
}

/// Statistics of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Frames per second.
    pub frames_per_sec: f64,
    /// Mean number of frames in the queue, weighted by time.
    pub mean_depth: f64,
    /// Maximum number of frames in the queue.
    pub max_depth: usize,
    /// Capacity of the queue in frames.
    pub capacity: usize,
    /// Frames dropped by a probe or a drop policy.
    pub dropped: u64,
}

impl Traffic {
    /// As text: rate, queue, drops.
    pub(crate) fn lines(&self) -> Vec<String> {
        let queue = format!("queue mean {:.1}, max {} of {}", self.mean_depth, self.max_depth, self.capacity);
        let mut lines = vec![format!("{:.1} frames/s", self.frames_per_sec), queue];
        if self.dropped > 0 {
            lines.push(format!("{} dropped", self.dropped));
        }
        lines
    }
}

/// A drawing of a pipeline, before or after a run: [`GraphDrawing::svg`], [`GraphDrawing::dot`] and, with the feature
/// `png`, `GraphDrawing::png`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphDrawing {
    /// Stages, in pipeline order.
    pub nodes: Vec<DrawnStage>,
    /// Edges between them; edges with unknown stages are omitted.
    pub edges: Vec<DrawnEdge>,
}

impl GraphDrawing {
    /// A drawing of a run, finished or in progress.
    pub fn from_stats(stats: &RunStats) -> Self {
        let per_sec = |count: u64| if stats.wall_secs > 0.0 { count as f64 / stats.wall_secs } else { 0.0 };
        let node = |stage: &crate::stats::StageStats| {
            let workers = if stage.workers > 1 { format!(", {} workers", stage.workers) } else { String::new() };
            let frames = stage.frames_in.max(stage.frames_out);
            let mut details = vec![format!("{frames} frames{workers}")];
            details.push(format!("busy {:.0}%", 100.0 * share(stage.busy_secs, stats.wall_secs, stage.workers)));
            let mut is_limiting = stats.limiting_stage.as_deref() == Some(stage.name.as_str());
            if is_limiting && stats.is_paced() {
                is_limiting = false;
                details.push("sets the pace".to_owned());
            }
            DrawnStage { name: stage.name.clone(), details, is_limiting }
        };
        let edge = |edge: &crate::stats::EdgeStats| DrawnEdge {
            from: edge.from.clone(),
            to: edge.to.clone(),
            format: edge.format.clone(),
            traffic: Some(Traffic {
                frames_per_sec: per_sec(edge.frames),
                mean_depth: edge.mean_depth,
                max_depth: edge.max_depth,
                capacity: edge.capacity,
                dropped: edge.dropped,
            }),
        };
        Self { nodes: stats.stages.iter().map(node).collect(), edges: stats.edges.iter().map(edge).collect() }
    }
}

fn share(secs: f64, wall_secs: f64, workers: usize) -> f64 {
    if wall_secs > 0.0 { secs / wall_secs / workers.max(1) as f64 } else { 0.0 }
}
