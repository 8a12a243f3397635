//! Measures framerail on a CUDA card and checks it against the host. Each job prints one line of JSON as `bench/gpu/peers.py`
//! does, so that `bench/gpu/run_all.py` can run them in turn.
#![forbid(unsafe_code)]

mod check;
mod opens;
mod random;
mod read;
mod report;
mod soak;
mod steps;
mod streams;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Measures framerail on a CUDA card and checks it against the host.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// Number of the card.
    #[arg(long, global = true, default_value_t = 0)]
    card: u32,
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Reads a file from start to end: every frame as planar RGB of 8 bits in device memory.
    Read(read::Read),
    /// Opens a file and reads ten frames from anywhere in it, for each list of picks.
    Random(random::Random),
    /// Opens a file and reads its first frame, again and again.
    Opens(opens::Opens),
    /// Times the steps of opening a file and reading its first frame.
    Steps(steps::Steps),
    /// Opens, reads and closes files for a long time, and prints memory and handles.
    Soak(soak::Soak),
    /// Reads many streams at their own speed through one detector, and counts what is late.
    Streams(streams::Streams),
    /// Compares what the card decodes with what FFmpeg decodes on the host.
    Check(check::Check),
    /// Lists what the card decodes.
    Card {
        /// Ignored; for a like command line.
        #[arg(hide = true)]
        _clip: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let device = framerail_cuda::CudaDevice::open(arguments.card)?;
    match arguments.job {
        Job::Read(job) => job.run(&device),
        Job::Random(job) => job.run(&device),
        Job::Opens(job) => job.run(&device),
        Job::Steps(job) => job.run(&device),
        Job::Soak(job) => job.run(&device),
        Job::Streams(job) => job.run(&device),
        Job::Check(job) => job.run(&device),
        Job::Card { .. } => {
            println!("{:?}", device.info());
            for capability in framerail_cuda::nvdec::capabilities(&device)? {
                println!("{}", serde_json::to_string(&capability)?);
            }
            Ok(())
        }
    }
}
