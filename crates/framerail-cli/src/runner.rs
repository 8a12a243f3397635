//! Runs a pipeline: links it, serves it, stops it on Ctrl-C, writes its statistics.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use framerail::core::{Device, RunFiles};
use framerail::pipeline::{
    Chain, Description, DeviceChoice, GraphDrawing, Plan, PlannedGraph, Registry, RunOptions, RunOutcome, RunStats, check,
};

use crate::{
    exit::{Failure, USAGE},
    interrupt,
    otlp::{Otlp, OtlpArgs},
    outputs::{self, GraphFormat},
    progress::Progress,
    watch::{Watch, WatchArgs},
};

/// Interval of progress updates.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Options of every command that runs a pipeline.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Where to decode and run models: auto, cpu, cuda, cuda:N, or several GPUs as cuda:0,1 or cuda:all [default: auto: the first usable GPU, else the CPU]
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
    /// Exit with 7 if an input was damaged or something could not be sent
    #[arg(long, help_heading = "Run")]
    pub strict: bool,
    /// Maximum host memory for frames decoded ahead and in flight, in MB [default: a quarter of the machine's]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..=16_000_000), help_heading = "Run")]
    pub memory: Option<u64>,
    #[command(flatten)]
    pub watch: WatchArgs,
    #[command(flatten)]
    pub otlp: OtlpArgs,
}

fn stall_limit(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("takes seconds from 0.01 to 86400".into()),
    }
}

impl RunArgs {
    /// A run of the program itself, on the CPU, of which nothing is written and nothing is watched.
    pub fn internal() -> Self {
        Self {
            device: Some(DeviceChoice::On(Device::Cpu)),
            stats: None,
            graph: None,
            no_progress: false,
            stall_limit: 10.0,
            strict: false,
            memory: None,
            watch: WatchArgs::default(),
            otlp: OtlpArgs::default(),
        }
    }

    /// Checks the extension of the graph's name.
    ///
    /// # Errors
    /// `USAGE`.
    pub fn check(&self) -> Result<(), Failure> {
        self.graph.as_deref().map_or(Ok(()), |path| GraphFormat::of(path).map(|_| ()))
    }

    /// Registers statistics and graph as outputs of the run.
    ///
    /// # Errors
    /// `OUTPUT` when one is read or written by the run, exists and is not to be replaced, or cannot be written.
    pub fn claim(&self, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
        self.stats.iter().chain(&self.graph).try_for_each(|path| outputs::claim(path, overwrite, files))
    }

    fn options(&self) -> RunOptions {
        let interrupt::Tokens { stop, abort } = interrupt::tokens();
        RunOptions { stall_limit: Duration::from_secs_f64(self.stall_limit), memory_bytes: self.memory_bytes(), stop, abort }
    }

    fn memory_bytes(&self) -> Option<u64> {
        self.memory.map(|megabytes| megabytes.saturating_mul(1_000_000))
    }
}

/// Checks and links a pipeline. The device is the command's, else the pipeline file's; stages may override it. `files` are the other
/// files of the run.
///
/// # Errors
/// Everything that is wrong with it; `INTERRUPTED` when a signal came meanwhile.
pub fn link(description: &Description, args: &RunArgs, overwrite: bool, files: RunFiles) -> Result<Plan, Failure> {
    let device = args.device.or(description.device).unwrap_or_default();
    let registry = framerail::registry_for(device);
    let mut description = description.clone();
    if overwrite {
        overwrite_all(&mut description.chain, &registry);
    }
    let mut plan = check(&description, &registry)?.cancelled_by(&interrupt::tokens().stop);
    plan.set_files(files);
    plan.set_memory_bytes(args.memory_bytes());
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

/// Sets `overwrite` for every stage that writes files, unless it sets it itself.
fn overwrite_all(chain: &mut Chain, registry: &Registry) {
    const OPTION: &str = "overwrite";
    for stage in &mut chain.stages {
        let takes = registry.get(&stage.stage.text).is_some_and(|known| known.spec.options.iter().any(|option| option.name == OPTION));
        if takes && !stage.options.iter().any(|given| given.key.text == OPTION) {
            *stage = std::mem::take(stage).option(OPTION, true);
        }
        stage.branches.iter_mut().for_each(|branch| overwrite_all(branch, registry));
    }
}

/// Runs a linked pipeline to its end, or until a signal; `file` holds `[serve]` and `[otlp]`. The outcome contains any failure.
///
/// # Errors
/// When it cannot start.
pub fn run(planned: PlannedGraph, args: &RunArgs, file: Option<&Description>, progress: Progress) -> Result<RunOutcome, Failure> {
    let (mut planned, mut progress) = (planned, progress);
    let watch = Watch::prepare(&args.watch, file.and_then(|file| file.serve.as_ref()), &mut planned)?;
    let otlp = Otlp::prepare(&args.otlp, file.and_then(|file| file.otlp.as_ref()), &mut planned)?;
    let handle = planned.graph.start(args.options())?;
    let exporting = otlp.map(|otlp| otlp.export(handle.switch())).transpose()?;
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
    if let Some(exporting) = exporting {
        exporting.finish();
    }
    Ok(outcome)
}

/// Writes a run's statistics and graph as requested, also after a failure.
///
/// # Errors
/// `OUTPUT`.
pub fn write_up(args: &RunArgs, stats: &RunStats, overwrite: bool, files: &RunFiles) -> Result<(), Failure> {
    let written = args.stats.as_deref().map_or(Ok(()), |path| outputs::write_json(path, stats, overwrite, files));
    if let Some(path) = &args.graph {
        outputs::write_graph(path, &GraphDrawing::from_stats(stats), overwrite, files)?;
    }
    written
}
