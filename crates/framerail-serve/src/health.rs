//! Health of a run.

use framerail_pipeline::{RunSwitch, StreamState};
use serde::Serialize;

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Frames are being processed or waited for.
    Running,
    /// A stage has spent too long on one item.
    Stalled,
    /// Stopping: the run finishes items in progress.
    Stopping,
    /// All stages have ended.
    Ended,
    /// The run failed.
    Failed,
}

/// State of a run, and the reasons if it is not healthy.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// State.
    pub state: RunState,
    /// Problems; empty while the run is healthy.
    pub reasons: Vec<String>,
}

impl Health {
    /// Determines the health of a run.
    pub fn of(run: &RunSwitch) -> Self {
        if let Some(error) = run.error() {
            return Self { state: RunState::Failed, reasons: vec![error.to_string()] };
        }
        if run.is_over() {
            return Self { state: RunState::Ended, reasons: vec!["the run has ended".to_owned()] };
        }
        let stalls: Vec<String> = run.stalls().iter().map(stalled).collect();
        if !stalls.is_empty() {
            return Self { state: RunState::Stalled, reasons: stalls };
        }
        let state = if run.is_stopping() { RunState::Stopping } else { RunState::Running };
        Self { state, reasons: Vec::new() }
    }

    /// Whether the run is healthy.
    pub fn is_well(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::Stopping)
    }
}

fn stalled(stall: &framerail_pipeline::Stall) -> String {
    let frame = stall.frame.map(|frame| format!(", at frame {frame}")).unwrap_or_default();
    format!("{}: no progress for {:.0} s{frame}", stall.stage, stall.secs)
}

/// All states of a stream.
pub(crate) const STREAM_STATES: [StreamState; 7] = [
    StreamState::Waiting,
    StreamState::Opening,
    StreamState::Running,
    StreamState::Retrying,
    StreamState::Ended,
    StreamState::Failed,
    StreamState::Removed,
];
