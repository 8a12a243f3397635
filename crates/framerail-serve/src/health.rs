//! Whether a run is well.

use framerail_pipeline::{RunSwitch, StreamState};
use serde::Serialize;

/// How a run is doing, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Frames flow, or are waited for.
    Running,
    /// A stage has been at one item for too long.
    Stalled,
    /// It was asked to stop, and finishes what is under way.
    Stopping,
    /// Every stage has ended.
    Ended,
    /// It failed.
    Failed,
}

/// The state of a run, and why it is not well.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    /// In a word.
    pub state: RunState,
    /// What is wrong; nothing while it runs well.
    pub reasons: Vec<String>,
}

impl Health {
    /// Looks at a run.
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

    /// Whether all is as it should be.
    pub fn is_well(&self) -> bool {
        matches!(self.state, RunState::Running | RunState::Stopping)
    }
}

fn stalled(stall: &framerail_pipeline::Stall) -> String {
    let frame = stall.frame.map(|frame| format!(", at frame {frame}")).unwrap_or_default();
    format!("{}: no progress for {:.0} s{frame}", stall.stage, stall.secs)
}

/// Every word that a stream's state can be.
pub(crate) const STREAM_STATES: [StreamState; 7] = [
    StreamState::Waiting,
    StreamState::Opening,
    StreamState::Running,
    StreamState::Retrying,
    StreamState::Ended,
    StreamState::Failed,
    StreamState::Removed,
];
