//! Measures opening a file and reading its first frame.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use framerail_cuda::{CudaDevice, DevicePool};
use framerail_reader::{DeviceClip, DeviceOptions, DeviceReader, FrameSource, TensorFrames, TensorOptions};
use serde_json::json;

/// Options of the `opens` job.
#[derive(clap::Args)]
pub(crate) struct Opens {
    /// Input file.
    clip: PathBuf,
    /// Number of threads that open files concurrently.
    #[arg(long, default_value_t = 1)]
    callers: u64,
    /// Read the first frame sequentially, as a player does, instead of by index.
    #[arg(long)]
    in_sequence: bool,
    /// Total number of opens.
    #[arg(long, default_value_t = 200)]
    count: u64,
}

impl Opens {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let pool = DevicePool::new(device, 1 << 30)?;
        let make = Arc::new(TensorFrames::new(TensorOptions::default(), pool));
        let options = DeviceOptions { decoders: Some(1), make: Some(make), ..DeviceOptions::new(device) };
        let open = || -> anyhow::Result<()> {
            if !self.in_sequence {
                let mut clip = DeviceClip::open(&crate::read::input(&self.clip), &options)?;
                anyhow::ensure!(clip.frames(&[0])?.len() == 1, "no first frame");
                return Ok(());
            }
            let mut reader = DeviceReader::open(&crate::read::input(&self.clip), &options)?;
            anyhow::ensure!(reader.next_item()?.is_some(), "no first frame");
            Ok(())
        };
        let many = |count: u64| {
            let left = AtomicU64::new(count);
            std::thread::scope(|scope| {
                let callers: Vec<_> = (0..self.callers)
                    .map(|_| {
                        scope.spawn(|| -> anyhow::Result<()> {
                            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                                open()?;
                            }
                            Ok(())
                        })
                    })
                    .collect();
                callers.into_iter().try_for_each(|caller| caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?)
            })
        };
        many(self.callers * 2)?;
        let start = Instant::now();
        many(self.count)?;
        device.synchronize()?;
        let seconds = start.elapsed().as_secs_f64();
        let job = if self.callers == 1 { "opens".to_owned() } else { format!("opens-{}", self.callers) };
        crate::report::print(&job, &self.clip, device, self.count, seconds, json!({ "callers": self.callers }))
    }
}
