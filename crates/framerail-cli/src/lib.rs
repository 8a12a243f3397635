//! The `framerail` command: parses arguments, runs pipelines, reports results. A library, so that the Python package can include it.
#![forbid(unsafe_code)]

mod blur_faces;
mod commands;
#[cfg(test)]
mod documented;
mod exit;
mod interrupt;
mod logging;
mod otlp;
mod outputs;
mod progress;
mod runner;
mod source_argument;
mod summary;
mod terminal;
mod watch;

use std::{ffi::OsString, io, sync::OnceLock};

use clap::{ArgAction, Args, Parser, Subcommand};

pub use crate::logging::log_to_stderr;

use crate::exit::CommandResult;

const EXAMPLES: &str = "\
Examples:
  framerail blur-faces in.mp4 -o out.mp4
  framerail run 'read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4'
  framerail run pipeline.toml --stats stats.json --graph graph.svg
  framerail inspect blur
  framerail probe in.mp4
  framerail doctor
";

/// Video pipelines for deep learning: read, detect, track, blur, draw and write, all stages in parallel
#[derive(Parser, Debug)]
#[command(name = "framerail", version = version(), after_help = EXAMPLES, after_long_help = long_help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonArgs,
}

/// Options of every command.
#[derive(Args, Clone, Copy, Debug)]
struct CommonArgs {
    /// Log more: -v for progress, -vv and -vvv for details
    #[arg(short, long, action = ArgAction::Count, global = true, help_heading = "Messages")]
    verbose: u8,
    /// Report errors only
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Messages")]
    quiet: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(Box<commands::run::RunCommand>),
    #[command(visible_alias = "blur")]
    BlurFaces(Box<blur_faces::BlurFacesCommand>),
    Inspect(commands::inspect::InspectCommand),
    Probe(commands::probe::ProbeCommand),
    Join(commands::join::JoinCommand),
    Card(Box<commands::card::CardCommand>),
    Quantize(Box<commands::quantize::QuantizeCommand>),
    Doctor(commands::doctor::DoctorCommand),
    Completions(commands::completions::CompletionsCommand),
    Man(commands::completions::ManCommand),
}

/// The versions of the program and of its FFmpeg.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| format!("{} (FFmpeg {})", env!("CARGO_PKG_VERSION"), framerail::media::version::ffmpeg_version()))
}

fn long_help() -> String {
    format!("{EXAMPLES}\n{}", exit::help())
}

/// Runs the command with these arguments, starting with the program's name; returns its exit code.
///
/// It handles SIGINT, SIGTERM and SIGHUP of the process, and exits if a stage still hangs after a second signal.
/// `log` installs the logger of the process, and is given the most detailed level that it logs.
pub fn run(arguments: impl IntoIterator<Item = OsString>, log: impl FnOnce(Box<dyn log::Log>, log::LevelFilter)) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            return match error.print() {
                // Help and versions go to standard output. A reader that stops early is not an error.
                Err(failed) if !error.use_stderr() && failed.kind() != io::ErrorKind::BrokenPipe => outputs::not_printed(&failed).report(),
                _ => u8::try_from(error.exit_code()).unwrap_or(exit::USAGE),
            };
        }
    };
    logging::start(cli.common.quiet, cli.common.verbose, log);
    match interrupt::listen().and_then(|()| execute(cli)) {
        Ok(()) => exit::DONE,
        Err(failure) => failure.report(),
    }
}

fn execute(cli: Cli) -> CommandResult {
    let messages = Messages { quiet: cli.common.quiet, verbose: cli.common.verbose > 0 };
    match cli.command {
        Command::Run(command) => command.execute(messages),
        Command::BlurFaces(command) => command.execute(messages),
        Command::Inspect(command) => command.execute(),
        Command::Probe(command) => command.execute(),
        Command::Join(command) => command.execute(messages.quiet),
        Command::Card(command) => command.execute(messages),
        Command::Quantize(command) => command.execute(messages),
        Command::Doctor(command) => command.execute(),
        Command::Completions(command) => command.execute(),
        Command::Man(command) => command.execute(),
    }
}

/// Verbosity of the summary.
#[derive(Clone, Copy, Debug)]
struct Messages {
    /// Errors only.
    quiet: bool,
    /// Tables instead of single lines.
    verbose: bool,
}
