//! Ctrl-C, SIGTERM and SIGHUP: the first finishes what is under way, the second drops it.

use std::{
    process,
    sync::{Mutex, MutexGuard, PoisonError},
};

use framerail::pipeline::RunSwitch;

use crate::{
    exit::{Failure, INTERNAL, INTERRUPTED},
    terminal,
};

#[derive(Default)]
struct State {
    signals: u32,
    run: Option<RunSwitch>,
}

static STATE: Mutex<State> = Mutex::new(State { signals: 0, run: None });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Listens for signals from here on.
///
/// # Errors
/// When the system refuses; a bug.
pub fn listen() -> Result<(), Failure> {
    ctrlc::set_handler(on_signal).map_err(|error| Failure::new(INTERNAL, format_args!("cannot listen for Ctrl-C: {error}")))
}

fn on_signal() {
    let (signals, run) = {
        let mut state = state();
        state.signals += 1;
        (state.signals, state.run.clone())
    };
    match (signals, run) {
        (1, Some(run)) => {
            terminal::line("stopping: the output is finished with what is there; once more drops it");
            run.stop();
        }
        // The run has not begun, and is not going to.
        (1, None) => {}
        (2, Some(run)) => run.abort(),
        _ => process::exit(i32::from(INTERRUPTED)),
    }
}

/// Whether a signal came.
pub fn came() -> bool {
    state().signals > 0
}

/// While it lives, signals end this run.
pub struct Guard(());

impl Guard {
    /// Hands signals to a run; one that came before stops it at once.
    pub fn new(run: RunSwitch) -> Self {
        let mut state = state();
        match state.signals {
            0 => {}
            1 => run.stop(),
            _ => run.abort(),
        }
        state.run = Some(run);
        Self(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        state().run = None;
    }
}
