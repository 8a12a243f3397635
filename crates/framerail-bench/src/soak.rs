//! Opens, reads and closes files for a long time: memory and handles must not grow, and errors must be survived.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use framerail_cuda::{CudaDevice, DevicePool};
use framerail_media::MediaItem;
use framerail_reader::{DeviceClip, DeviceOptions, DeviceReader, FrameSource, ReaderError, TensorFrames, TensorOptions, TensorSize};
use serde_json::json;

/// Options of the `soak` job.
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// Input files, intact and damaged ones.
    clips: Vec<PathBuf>,
    /// Duration in minutes.
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Seconds between reports.
    #[arg(long, default_value_t = 60)]
    every: u64,
}

#[derive(Default)]
struct Counts {
    opened: u64,
    frames: u64,
    refused: u64,
    /// Opened, but with an error because the file is damaged.
    broken_off: u64,
    out_of_memory: u64,
}

impl Counts {
    /// Expects an error from a damaged file; GPU errors end the test.
    fn damaged(&mut self, error: ReaderError) -> Result<(), ReaderError> {
        match error {
            ReaderError::Cuda { .. } | ReaderError::Closed => Err(error),
            _ => {
                self.broken_off += 1;
                Ok(())
            }
        }
    }
}

impl Soak {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut counts, mut reported) = (Counts::default(), Instant::now());
        let mut figures: Vec<[u64; 3]> = Vec::new();
        let mut round = 0_usize;
        while start.elapsed() < Duration::from_secs_f64(self.minutes * 60.0) {
            let Some(clip) = self.clips.get(round % self.clips.len().max(1)) else { anyhow::bail!("name some clips") };
            self.visit(device, clip, round, &mut counts)?;
            round += 1;
            if reported.elapsed() >= Duration::from_secs(self.every) {
                reported = Instant::now();
                figures.push(measure(device)?);
                let [host, on_device, handles] = figures.last().copied().unwrap_or_default();
                println!(
                    "{}",
                    json!({ "minute": start.elapsed().as_secs() / 60, "host_kb": host, "device_mb": on_device, "handles": handles,
                        "opened": counts.opened, "frames": counts.frames, "refused": counts.refused, "broken_off": counts.broken_off, "out_of_memory": counts.out_of_memory })
                );
            }
        }
        Ok(())
    }

    fn visit(&self, device: &Arc<CudaDevice>, clip: &Path, round: usize, counts: &mut Counts) -> anyhow::Result<()> {
        let input = crate::read::input(clip);
        let mut options = DeviceOptions::new(device);
        options.decoders = [None, Some(1), Some(3)][round % 3];
        if round.is_multiple_of(2) {
            let pool = DevicePool::new(device, 64 << 20)?;
            options.make =
                Some(Arc::new(TensorFrames::new(TensorOptions { size: TensorSize::Exact(224, 224), ..TensorOptions::default() }, pool)));
        }
        if round.is_multiple_of(17) {
            // More than the GPU has: this must return an error, and the next request must work.
            let far_too_much = DevicePool::new(device, 0)?.buffer(1 << 42);
            anyhow::ensure!(far_too_much.is_err(), "4 TiB were allocated");
            counts.out_of_memory += 1;
        }
        if round.is_multiple_of(5) {
            match DeviceClip::open(&input, &options) {
                Ok(mut clip) => {
                    let last = clip.len().saturating_sub(1);
                    counts.opened += 1;
                    match clip.frames(&[last, 0, last / 2]) {
                        Ok(frames) => counts.frames += frames.len() as u64,
                        Err(error) => counts.damaged(error)?,
                    }
                }
                Err(_) => counts.refused += 1,
            }
            return Ok(());
        }
        match DeviceReader::open(&input, &options) {
            Ok(mut reader) => {
                counts.opened += 1;
                // Stop some files halfway.
                let most = if round % 4 == 1 { 7 } else { u64::MAX };
                let mut frames = 0;
                while frames < most {
                    match reader.next_item() {
                        Ok(Some(item)) => frames += u64::from(matches!(item, MediaItem::Frame(_))),
                        Ok(None) => break,
                        Err(error) => {
                            counts.damaged(error)?;
                            break;
                        }
                    }
                }
                counts.frames += frames;
            }
            Err(_) => counts.refused += 1,
        }
        Ok(())
    }
}

/// Resident host memory in kB, device memory in MB, open handles.
fn measure(device: &Arc<CudaDevice>) -> anyhow::Result<[u64; 3]> {
    let (free, total) = device.memory()?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
    Ok([resident.unwrap_or(0), (total - free) >> 20, std::fs::read_dir("/proc/self/fd")?.count() as u64])
}
