//! The program `framerail`.
#![forbid(unsafe_code)]

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    ExitCode::from(framerail_cli::run(env::args_os(), framerail_cli::log_to_stderr))
}
