//! Ctrl-C, SIGTERM and SIGHUP: the first signal completes the outputs, the second discards them, even if a stage hangs.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use framerail::{core::CancelToken, media::commit, pipeline::RunSwitch};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
    low_level,
};

use crate::{
    exit::{Failure, INTERNAL, INTERRUPTED},
    terminal,
};

/// Time for stages to end after the second signal, before the process exits.
const PATIENCE: Duration = Duration::from_millis(700);

/// Tokens that signals cancel.
#[derive(Clone, Default)]
pub struct Tokens {
    /// Cancelled by the first signal: inputs are no longer opened or read.
    pub stop: CancelToken,
    /// Cancelled by the second.
    pub abort: CancelToken,
}

#[derive(Default)]
struct State {
    signals: u32,
    /// Set once a command uses it; before that the first signal ends the process.
    tokens: Option<Tokens>,
    run: Option<RunSwitch>,
}

static STATE: Mutex<State> = Mutex::new(State { signals: 0, tokens: None, run: None });

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles signals from now on. Signals that the parent has set to be ignored stay ignored: `nohup`, and SIGINT of background jobs of a
/// script.
///
/// # Errors
/// When the system refuses; a bug.
pub fn listen() -> Result<(), Failure> {
    let refused = |error: std::io::Error| Failure::new(INTERNAL, format_args!("cannot listen for Ctrl-C: {error}"));
    let ignored = ignored_signals();
    let wanted = [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(wanted).map_err(refused)?;
    // Each in a separate thread: what blocks the first must not hold up the second.
    let handle = || {
        if thread::Builder::new().name("signal".into()).spawn(on_signal).is_err() {
            on_signal();
        }
    };
    let listen = move || signals.forever().for_each(|_| handle());
    thread::Builder::new().name("signals".into()).spawn(listen).map(drop).map_err(refused)
}

/// The signals that this process was started to ignore, as bits from 1; none if the system does not report them.
fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bits = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    bits.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0)
}

fn on_signal() {
    let (signals, tokens, run) = {
        let mut state = state();
        state.signals += 1;
        (state.signals, state.tokens.clone(), state.run.clone())
    };
    let Some(tokens) = tokens else { low_level::exit(i32::from(INTERRUPTED)) };
    if signals == 1 {
        let words = if run.is_some() {
            "finishing the output; press Ctrl-C again to discard it"
        } else {
            "stopping; press Ctrl-C again to exit immediately"
        };
        terminal::line(words);
        tokens.stop.cancel();
        return;
    }
    // Even if what follows waits for a lock that a hanging stage holds.
    let end = || {
        thread::sleep(PATIENCE * 3);
        low_level::exit(i32::from(INTERRUPTED));
    };
    let _ = thread::Builder::new().name("end".into()).spawn(end);
    tokens.abort.cancel();
    // Usually the process has ended by then.
    thread::sleep(PATIENCE);
    let stuck = run.map(|run| run.unfinished()).filter(|stuck| !stuck.is_empty());
    let words = stuck.map_or_else(String::new, |stuck| format!(": {} did not end", stuck.join(", ")));
    terminal::line(&format!("aborted{words}; {}", left_behind()));
    low_level::exit(i32::from(INTERRUPTED));
}

/// Unfinished outputs that remain on disk.
fn left_behind() -> String {
    let names = commit::unfinished().into_iter().map(|(partial, named)| format!("{} (of {})", partial.display(), named.display()));
    match names.collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => "unfinished outputs were discarded".to_owned(),
        names => format!("left unfinished: {names}; the next run that writes there keeps what can be played and removes the rest"),
    }
}

/// The tokens that signals cancel, for everything that blocks.
pub fn tokens() -> Tokens {
    state().tokens.get_or_insert_with(Tokens::default).clone()
}

/// Whether a signal was received.
pub fn came() -> bool {
    state().signals > 0
}

/// While it exists, messages on signals name this run.
pub struct Guard(());

impl Guard {
    /// Sets the name of the run.
    pub fn new(run: RunSwitch) -> Self {
        state().run = Some(run);
        Self(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        state().run = None;
    }
}
