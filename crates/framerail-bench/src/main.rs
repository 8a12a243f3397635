//! Benchmarks framerail on a CUDA GPU and checks its output against the CPU. Each job prints one line of JSON, like `bench/gpu/peers.py`,
//! so that `bench/gpu/run_all.py` can run both.
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

/// Benchmarks framerail on a CUDA GPU and checks its output against the CPU.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    /// GPU ordinal.
    #[arg(long, global = true, default_value_t = 0)]
    gpu: u32,
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Reads a whole file: every frame as planar 8-bit RGB in device memory.
    Read(read::Read),
    /// Opens a file and reads ten random frames, for each list of picks.
    Random(random::Random),
    /// Opens a file and reads its first frame, repeatedly.
    Opens(opens::Opens),
    /// Times the steps of opening a file and reading its first frame.
    Steps(steps::Steps),
    /// Opens, reads and closes files for a long time, and prints memory use and open handles.
    Soak(soak::Soak),
    /// Reads many streams in real time through one detector, and counts late results.
    Streams(streams::Streams),
    /// Compares frames decoded on the GPU with frames decoded by FFmpeg on the CPU.
    Check(check::Check),
    /// Lists what the GPU decodes.
    Gpu {
        /// Ignored; keeps the command line uniform.
        #[arg(hide = true)]
        _clip: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let device = framerail_cuda::CudaDevice::open(arguments.gpu)?;
    match arguments.job {
        Job::Read(job) => job.run(&device),
        Job::Random(job) => job.run(&device),
        Job::Opens(job) => job.run(&device),
        Job::Steps(job) => job.run(&device),
        Job::Soak(job) => job.run(&device),
        Job::Streams(job) => job.run(&device),
        Job::Check(job) => job.run(&device),
        Job::Gpu { .. } => {
            println!("{:?}", device.info());
            for capability in framerail_cuda::nvdec::capabilities(&device)? {
                println!("{}", serde_json::to_string(&capability)?);
            }
            Ok(())
        }
    }
}
