//! A picture of a pipeline: stages as boxes, edges with their format, and after a run where the time went.

mod dot;
mod layout;
#[cfg(feature = "png")]
mod png;
mod svg;

#[cfg(feature = "png")]
pub use png::{PictureError, REGULAR_FONT};

use crate::RunStats;

/// A stage in a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PictureNode {
    /// Its name, unlike any other in the picture.
    pub name: String,
    /// Lines below the name.
    pub details: Vec<String>,
    /// Whether it limits the run; marked by colour and word.
    pub is_limiting: bool,
}

/// An edge in a picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PictureEdge {
    /// Name of the stage that gives.
    pub from: String,
    /// Name of the stage that takes.
    pub to: String,
    /// The negotiated format, in words; empty when unknown.
    pub format: String,
    /// What went through, after a run.
    pub traffic: Option<Traffic>,
}

/// What went through an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Frames per second of the run.
    pub frames_per_sec: f64,
    /// Mean number of frames in the queue, weighted by time.
    pub mean_depth: f64,
    /// Most frames that were in the queue at once.
    pub max_depth: usize,
    /// Frames that the queue holds at most.
    pub capacity: usize,
    /// Frames taken out by a probe or a drop policy.
    pub dropped: u64,
}

impl Traffic {
    /// In words: rate, queue, drops.
    pub(crate) fn lines(&self) -> Vec<String> {
        let queue = format!("queue mean {:.1}, max {} of {}", self.mean_depth, self.max_depth, self.capacity);
        let mut lines = vec![format!("{:.1} frames/s", self.frames_per_sec), queue];
        if self.dropped > 0 {
            lines.push(format!("{} dropped", self.dropped));
        }
        lines
    }
}

/// A picture of a pipeline, before or after a run: [`GraphPicture::svg`], [`GraphPicture::dot`] and, with the feature
/// `png`, `GraphPicture::png`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GraphPicture {
    /// Stages, in the order of the pipeline.
    pub nodes: Vec<PictureNode>,
    /// Edges between them; those that name no stage are left out.
    pub edges: Vec<PictureEdge>,
}

impl GraphPicture {
    /// The picture of a run, or of what ran so far.
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
            PictureNode { name: stage.name.clone(), details, is_limiting }
        };
        let edge = |edge: &crate::stats::EdgeStats| PictureEdge {
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
