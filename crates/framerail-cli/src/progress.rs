//! The progress bar of a run.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use framerail::{core::SourceUrl, pipeline::RunStats};
use indicatif::{ProgressBar, ProgressStyle};

use crate::terminal;

/// Runs shorter than this show no bar.
const QUIET_FOR: Duration = Duration::from_secs(2);

/// Maximum length of the name before a bar.
const LABEL_LETTERS: usize = 32;

const WITH_TOTAL: &str = "{prefix} [{bar:30}] {pos}/{len} frames, {msg}";
const WITHOUT_TOTAL: &str = "{prefix} {spinner} {pos} frames, {msg}";

/// The visible bar, for output above it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Runs a function without the bar on screen.
pub fn suspended<T>(write: impl FnOnce() -> T) -> T {
    let bar = SHOWN.lock().ok().and_then(|shown| shown.clone());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Shows the progress of a run, once it takes long enough and standard error is a terminal.
pub struct Progress {
    wanted: bool,
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Hidden at first. The last part of a path names the run.
    pub fn new(wanted: bool, label: &str) -> Self {
        let label = SourceUrl::new(label).to_string();
        let name = label.rsplit('/').find(|part| !part.is_empty()).unwrap_or(&label);
        let label = name.chars().take(LABEL_LETTERS).collect();
        Self { wanted: wanted && terminal::stderr_is_terminal(), label, started: Instant::now(), bar: None }
    }

    /// Updates the progress.
    pub fn update(&mut self, stats: &RunStats) {
        if !self.wanted || self.started.elapsed() < QUIET_FOR {
            return;
        }
        let (total, done) = (stats.counter("frames_expected"), frames_done(stats));
        let bar = self.bar.get_or_insert_with(|| show(&self.label, total));
        if total > 0 {
            bar.set_length(total.max(done));
        }
        bar.set_message(speed(done, total, stats.wall_secs));
        bar.set_position(done);
        bar.tick();
    }
}

/// Frames of the source that are finished. After a `sample` the sinks get fewer: there, frames read count.
fn frames_done(stats: &RunStats) -> u64 {
    if stats.stages.iter().any(|stage| stage.name.starts_with("sample")) {
        return stats.stages.first().map_or(0, |source| source.frames_out);
    }
    stats.frames_done()
}

/// `14.6 frames/s, 1:05 left`.
fn speed(done: u64, total: u64, wall_secs: f64) -> String {
    if done == 0 || wall_secs <= 0.0 {
        return "starting".into();
    }
    let rate = done as f64 / wall_secs;
    if total <= done {
        return format!("{rate:.1} frames/s");
    }
    let left = ((total - done) as f64 / rate).ceil() as u64;
    let (hours, minutes, seconds) = (left / 3600, left / 60 % 60, left % 60);
    let left = if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") };
    format!("{rate:.1} frames/s, {left} left")
}

fn show(label: &str, total: u64) -> ProgressBar {
    let bar = if total > 0 { ProgressBar::new(total) } else { ProgressBar::new_spinner() };
    let template = if total > 0 { WITH_TOTAL } else { WITHOUT_TOTAL };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_prefix(label.to_owned());
    if let Ok(mut shown) = SHOWN.lock() {
        *shown = Some(bar.clone());
    }
    bar
}

fn clear(bar: ProgressBar) {
    bar.finish_and_clear();
    if let Ok(mut shown) = SHOWN.lock() {
        *shown = None;
    }
}

/// A bar for steps that are not frames of a run.
pub struct Steps(Option<ProgressBar>);

impl Steps {
    /// `total` of 0 is unknown.
    pub fn new(wanted: bool, label: &str, total: usize) -> Self {
        let bar = (wanted && terminal::stderr_is_terminal()).then(|| show(label, total as u64));
        Self(bar)
    }

    /// One more is done.
    pub fn step(&mut self) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(clear);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.take().into_iter().for_each(clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_formatted_as_text() {
        assert_eq!(speed(0, 100, 3.0), "starting");
        assert_eq!(speed(50, 0, 4.0), "12.5 frames/s");
        assert_eq!(speed(50, 100, 4.0), "12.5 frames/s, 0:04 left");
        assert_eq!(speed(1, 7200, 1.0), "1.0 frames/s, 1:59:59 left");
    }
}
