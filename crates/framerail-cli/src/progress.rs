//! The progress bar of a run.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use framerail::pipeline::RunStats;
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// Runs shorter than this show no bar.
const QUIET_FOR: Duration = Duration::from_secs(2);

const WITH_TOTAL: &str = "{msg} [{bar:30}] {pos}/{len} frames, {per_sec}, {eta} left";
const WITHOUT_TOTAL: &str = "{msg} {spinner} {pos} frames, {per_sec}, {elapsed}";

/// The bar on the screen, for whoever writes above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Does something with the bar out of the way.
pub fn suspended<T>(write: impl FnOnce() -> T) -> T {
    let bar = SHOWN.lock().ok().and_then(|shown| shown.clone());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Shows how far a run has come, once it takes long enough and when someone watches.
pub struct Progress {
    wanted: bool,
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new(wanted: bool, label: impl Into<String>) -> Self {
        Self { wanted: wanted && terminal::stderr_is_terminal(), label: label.into(), started: Instant::now(), bar: None }
    }

    /// Takes note of how far the run is.
    pub fn update(&mut self, stats: &RunStats) {
        if !self.wanted || self.started.elapsed() < QUIET_FOR {
            return;
        }
        let total = stats.counter("frames_expected");
        let bar = self.bar.get_or_insert_with(|| show(&self.label, total, self.started.elapsed()));
        // A source's count is the one that its total is about; stages behind it may drop frames.
        let read = stats.stages.first().map_or(0, |source| source.frames_out);
        if total > 0 {
            bar.set_length(total.max(read));
        }
        bar.set_position(read);
    }
}

fn show(label: &str, total: u64, elapsed: Duration) -> ProgressBar {
    let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
    let template = if total > 0 { WITH_TOTAL } else { WITHOUT_TOTAL };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    let bar = bar.with_elapsed(elapsed).with_message(label.to_owned());
    if let Ok(mut shown) = SHOWN.lock() {
        *shown = Some(bar.clone());
    }
    bar
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
            if let Ok(mut shown) = SHOWN.lock() {
                *shown = None;
            }
        }
    }
}
