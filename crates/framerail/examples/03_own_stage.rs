//! A stage of your own: `brightness above=A below=B` keeps the frames whose mean brightness lies between the two.
//!
//! `cargo run --release -p framerail --example 03_own_stage -- 'read in.mp4 ! brightness below=40 ! write dark.mp4'`

use std::process::ExitCode;

use framerail::{
    Error,
    core::{HostSurface, PixelFamily, PixelFormat},
    pipeline::{
        ConfigError, Counter, Description, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, LinkContext, LinkMismatch, OptionSpec, Options,
        PlanError, RunOptions, Stage, StageContext, StageError, StagePlan, StageSpec, Work, check,
    },
};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>().join(" ")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a pipeline that may use the stage; gives the number of frames that reached its end.
pub fn run(text: &str) -> Result<u64, Error> {
    let mut registry = framerail::registry();
    let registered =
        registry.register_with(spec(), |options| BrightnessPlan::new(options).map(|plan| Box::new(plan) as Box<dyn StagePlan>));
    registered.unwrap_or_else(|error| unreachable!("the specification is a constant: {error}"));

    let mut plan = check(&Description::parse(text).map_err(framerail::pipeline::Diagnostics::from)?, &registry)?;
    plan.link()?;
    let outcome = plan.into_graph()?.graph.start(RunOptions::default())?.wait();
    outcome.result?;
    print!("{}", outcome.stats.table());
    println!("{} frames too dark or too bright", outcome.stats.counter("frames_skipped"));
    Ok(outcome.stats.frames_done())
}

/// What the stage says of itself: what `inspect` shows, and what options are checked against.
fn spec() -> StageSpec {
    StageSpec::transform("brightness", "keeps frames by their mean brightness")
        .details("Brightness is the mean of the luma samples as stored, 0 to 255. Frames left out are counted as frames_skipped.")
        .option(OptionSpec::float("above", 0.0..=255.0).default(0).help("least brightness"))
        .option(OptionSpec::float("below", 0.0..=255.0).default(255).help("greatest brightness"))
        // It keeps nothing between frames, so several threads may share the work.
        .workers(1)
        .example("read in.mp4 ! brightness above=20 ! write out.mp4", "leave black frames out")
}

/// The configured stage before the run.
struct BrightnessPlan {
    above: f64,
    below: f64,
    workers: usize,
}

impl BrightnessPlan {
    fn new(options: &Options) -> Result<Self, ConfigError> {
        let (above, below) = (options.float("above"), options.float("below"));
        if above > below {
            return Err(ConfigError::at("above", "no frame is above this and below the other").help("exchange the two"));
        }
        Ok(Self { above, below, workers: options.workers() })
    }
}

impl StagePlan for BrightnessPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let needs = || PlanError::Link(LinkMismatch { needs: "8-bit frames with luma on cpu".into(), mend: "leave it out".into() });
        let input = input.ok_or_else(needs)?;
        // The format may be unknown before the first frame, with several streams.
        if input.pixel_format.is_some_and(|format| !has_luma(format)) {
            return Err(needs());
        }
        Ok(Some(input.clone()))
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        let stage = |_| Box::new(Brightness { above: self.above, below: self.below, skipped: None }) as Box<dyn Stage>;
        Ok(Work::Stages((0..self.workers).map(stage).collect()))
    }
}

/// The stage at work, one value for each worker.
struct Brightness {
    above: f64,
    below: f64,
    skipped: Option<Counter>,
}

impl Stage for Brightness {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.skipped = Some(context.counter("frames_skipped"));
        Ok(())
    }

    // Starts and ends of streams and packets of sound pass by themselves: that is the default of `control`.
    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let surface = item.frame.surface.host().map_err(|error| StageError::new(ErrorKind::Internal, error))?;
        if !has_luma(surface.format()) {
            let message = format!("frame {} is {}; brightness takes 8-bit frames with luma", item.frame.index, surface.format());
            return Err(StageError::new(ErrorKind::Input, message));
        }
        if (self.above..=self.below).contains(&mean_luma(surface)) {
            out.push(item.into())?;
        } else if let Some(skipped) = &self.skipped {
            skipped.add(1);
        }
        Ok(Flow::More)
    }
}

/// Whether the first plane holds 8-bit luma and nothing else.
fn has_luma(format: PixelFormat) -> bool {
    format.bits() == 8 && matches!(format.family(), PixelFamily::Gray | PixelFamily::Yuv)
}

fn mean_luma(surface: &HostSurface) -> f64 {
    let rows = surface.height() as usize;
    let sum: u64 = (0..rows).map(|row| surface.row(0, row).iter().map(|sample| u64::from(*sample)).sum::<u64>()).sum();
    sum as f64 / (f64::from(surface.width()) * f64::from(surface.height()))
}
