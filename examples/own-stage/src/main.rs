//! Runs a pipeline that may use the stage `movement` beside all built-in ones.
//!
//! `cargo run --release -p framerail-motion -- 'read in.mp4 ! movement keep=moving ! write moving.mp4'`

use std::process::ExitCode;

use framerail::{
    Error,
    pipeline::{Description, Diagnostics, RunOptions, check},
};

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>().join(" ")) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(text: &str) -> Result<String, Error> {
    let mut registry = framerail::registry();
    framerail_motion::register(&mut registry).unwrap_or_else(|error| unreachable!("no built-in stage has its name: {error}"));
    let mut plan = check(&Description::parse(text).map_err(Diagnostics::from)?, &registry)?;
    plan.link()?;
    let outcome = plan.into_graph()?.graph.start(RunOptions::default())?.wait();
    outcome.result?;
    Ok(outcome.stats.table())
}
