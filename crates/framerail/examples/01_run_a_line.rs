//! Runs a pipeline given as text, and prints where the time went.
//!
//! `cargo run --release -p framerail --example 01_run_a_line -- 'read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4'`

use std::process::ExitCode;

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>().join(" ")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the pipeline; gives the number of frames that reached its end.
pub fn run(text: &str) -> Result<u64, framerail::Error> {
    let outcome = framerail::run(text)?;
    print!("{}", outcome.stats.table());
    for stage in &outcome.stats.stages {
        for (name, count) in stage.counters.iter().filter(|(_, count)| **count > 0) {
            println!("{}: {name} {count}", stage.name);
        }
    }
    Ok(outcome.stats.frames_done())
}
