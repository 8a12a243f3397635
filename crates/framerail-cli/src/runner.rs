//! One run of a pipeline: linked, watched, stopped on Ctrl-C, written up.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use framerail::pipeline::{
    Description, DeviceChoice, GraphPicture, Plan, PlannedGraph, RunOptions, RunOutcome, RunStats, ServeDescription, check,
};

use crate::{
    exit::{Failure, USAGE},
    interrupt,
    outputs::{self, GraphFormat},
    progress::Progress,
    watch::{Watch, WatchArgs},
};

/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Options of every command that runs a pipeline.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where to decode and run models: auto, cpu, cuda or cuda:N [default: auto, the first card that can, else the CPU]
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    pub device: Option<DeviceChoice>,
    /// Write statistics of every stage and edge as JSON
    #[arg(long, value_name = "FILE.json", help_heading = "Run")]
    pub stats: Option<PathBuf>,
    /// Draw the pipeline with formats and rates on its edges (.svg, .dot, .png)
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub graph: Option<PathBuf>,
    /// Show no progress bar
    #[arg(long, help_heading = "Run")]
    pub no_progress: bool,
    /// Warn when a stage spends longer than this on one item
    #[arg(long, value_name = "SECS", default_value_t = 10.0, value_parser = stall_limit, help_heading = "Run")]
    pub stall_limit: f64,
    /// Exit with 7 when an input was damaged, though it was decoded as far as possible, or something could not be sent
    #[arg(long, help_heading = "Run")]
    pub strict: bool,
    /// Most host memory for frames under way, in MB [default: a quarter of the machine's]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=16_000_000), help_heading = "Run")]
    pub memory: Option<u64>,
    #[command(flatten)]
    pub watch: WatchArgs,
}

fn stall_limit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("takes seconds from 0.01 to 86400".into()),
    }
}

impl RunArgs {
    /// Looks whether what is to be written can be written.
    ///
    /// # Errors
    /// `USAGE` for the name of a picture, `OUTPUT` for a folder that is missing.
    pub fn check(&self) -> Result<(), Failure> {
        if let Some(path) = &self.graph {
            GraphFormat::of(path)?;
        }
        self.stats.iter().chain(&self.graph).try_for_each(|path| outputs::check(path))
    }

    fn options(&self) -> RunOptions {
        let interrupt::Tokens { stop, abort } = interrupt::tokens();
        let memory_bytes = self.memory.map(|megabytes| megabytes * 1_000_000);
        RunOptions { stall_limit: Duration::from_secs_f64(self.stall_limit), memory_bytes, stop, abort }
    }
}

/// Checks a pipeline and lets its stages agree on formats. The device is what the command says, else what the pipeline's
/// file says; stages may say otherwise.
///
/// # Errors
/// Everything that is wrong with it; `INTERRUPTED` when a signal came meanwhile.
pub fn link(description: &Description, args: &RunArgs) -> Result<Plan, Failure> {
    let device = args.device.or(description.device).unwrap_or_default();
    let mut plan = check(description, &framerail::registry_for(device))?.cancelled_by(&interrupt::tokens().stop);
    if plan.stages().is_empty() {
        return Err(Failure::new(USAGE, "the pipeline is empty; give it stages, such as `read in.mp4 ! null`"));
    }
    let linked = plan.link();
    if interrupt::came() {
        return Err(Failure::interrupted("interrupted before the start; nothing was written"));
    }
    linked?;
    Ok(plan)
}

/// Runs a linked pipeline to its end, or until a signal ends it; `serve` is what its file says of watching it. What went wrong
/// stands in the outcome.
///
/// # Errors
/// When it cannot start.
pub fn run(planned: PlannedGraph, args: &RunArgs, serve: Option<&ServeDescription>, progress: Progress) -> Result<RunOutcome, Failure> {
    let (mut planned, mut progress) = (planned, progress);
    let watch = Watch::prepare(&args.watch, serve, &mut planned)?;
    let handle = planned.graph.start(args.options())?;
    let watched = watch.map(|watch| watch.serve(handle.switch())).transpose()?;
    let guard = interrupt::Guard::new(handle.switch());
    while !handle.wait_for(LOOK_EVERY) {
        progress.update(&handle.stats());
    }
    let outcome = handle.wait();
    drop(guard);
    if let Some(watched) = watched {
        watched.close();
    }
    Ok(outcome)
}

/// Writes a run's statistics and picture where they were asked for, also when it failed.
///
/// # Errors
/// `OUTPUT`.
pub fn write_up(args: &RunArgs, stats: &RunStats) -> Result<(), Failure> {
    if let Some(path) = &args.stats {
        outputs::write_json(path, stats)?;
    }
    if let Some(path) = &args.graph {
        outputs::write_graph(path, &GraphPicture::from_stats(stats))?;
    }
    Ok(())
}
