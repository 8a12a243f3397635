//! Measures opening a file and reading ten random frames.

use std::{collections::HashSet, path::PathBuf, sync::Arc, time::Instant};

use framerail_cuda::{CudaDevice, DevicePool};
use framerail_reader::{DeviceClip, DeviceOptions, TensorFrames, TensorOptions};
use serde_json::json;

/// Options of the `random` job.
#[derive(clap::Args)]
pub(crate) struct Random {
    /// Input file.
    clip: PathBuf,
    /// File with the picks: one list of frame indices per line, as printed by `peers.py --picks`.
    #[arg(long)]
    picks: PathBuf,
    /// Keep the clip open between requests.
    #[arg(long)]
    kept: bool,
    /// Number of parallel decoders; default: automatic.
    #[arg(long)]
    decoders: Option<usize>,
    /// Passes over all lists; the fastest is reported.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
}

impl Random {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let picks: Vec<Vec<usize>> = std::fs::read_to_string(&self.picks)?
            .lines()
            .map(|line| line.split_whitespace().map(str::parse).collect())
            .collect::<Result<_, _>>()?;
        let pool = DevicePool::new(device, 1 << 30)?;
        let options = DeviceOptions {
            make: Some(Arc::new(TensorFrames::new(TensorOptions::default(), pool))),
            decoders: self.decoders,
            ..DeviceOptions::new(device)
        };
        let input = crate::read::input(&self.clip);
        let (mut fastest, mut count) = (f64::INFINITY, 0);
        for _ in 0..self.repeat.max(1) + 1 {
            let start = Instant::now();
            let mut clip = DeviceClip::open(&input, &options)?;
            count = 0;
            for numbers in &picks {
                if !self.kept {
                    clip = DeviceClip::open(&input, &options)?;
                }
                let frames = clip.frames(numbers)?;
                let distinct: HashSet<i64> = frames.iter().map(|frame| frame.pts.0).collect();
                anyhow::ensure!(distinct.len() == numbers.len(), "{} of {} frames came", distinct.len(), numbers.len());
                count += frames.len() as u64;
            }
            device.synchronize()?;
            fastest = fastest.min(start.elapsed().as_secs_f64());
        }
        let job = if self.kept { "random-kept" } else { "random" };
        crate::report::print(job, &self.clip, device, count, fastest, json!({ "lists": picks.len() }))
    }
}
