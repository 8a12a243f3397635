//! Measures reading a whole file.

use std::{path::PathBuf, sync::Arc, time::Instant};

use framerail_cuda::{CudaDevice, DevicePool};
use framerail_media::{InputOptions, MediaItem, SideStreams};
use framerail_reader::{DeviceOptions, DeviceReader, FrameSource, TensorFrames, TensorOptions};
use serde_json::json;

/// Bytes of tensor memory kept for reuse.
const KEEP_BYTES: usize = 8 << 30;

/// Options of the `read` job.
#[derive(clap::Args)]
pub(crate) struct Read {
    /// Input file.
    clip: PathBuf,
    /// Number of parallel decoders; default: automatic.
    #[arg(long)]
    decoders: Option<usize>,
    /// Megabytes for frames decoded ahead; default: automatic.
    #[arg(long)]
    ahead: Option<u64>,
    /// Deliver NV12 surfaces instead of planar RGB.
    #[arg(long)]
    surfaces: bool,
    /// Number of passes; if there are several, the first one is a warm-up. The fastest is reported, as for the peers.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Number of files read concurrently, each by a separate reader.
    #[arg(long, default_value_t = 1)]
    side_by_side: usize,
}

/// Input options for one clip.
pub(crate) fn input(clip: &std::path::Path) -> InputOptions {
    InputOptions { side_streams: SideStreams::None, ..InputOptions::new(clip.to_string_lossy()) }
}

impl Read {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let pool = DevicePool::new(device, KEEP_BYTES)?;
        let mut best: Option<(u64, f64, serde_json::Value)> = None;
        for round in 0..self.repeat.max(1) {
            let start = Instant::now();
            let (frames, stats) = std::thread::scope(|scope| {
                let readers: Vec<_> = (0..self.side_by_side).map(|_| scope.spawn(|| self.whole(device, &pool))).collect();
                let mut frames = 0;
                let mut stats = serde_json::Value::Null;
                for reader in readers {
                    let (count, found) = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
                    frames += count;
                    stats = found;
                }
                anyhow::Ok((frames, stats))
            })?;
            device.synchronize()?;
            let seconds = start.elapsed().as_secs_f64();
            let is_warm = round > 0 || self.repeat == 1;
            if is_warm && best.as_ref().is_none_or(|(_, fastest, _)| seconds < *fastest) {
                best = Some((frames, seconds, stats));
            }
        }
        let Some((frames, seconds, stats)) = best else { anyhow::bail!("nothing was read") };
        let more = json!({ "stats": stats, "pool_mb": pool.stats().high_water_bytes >> 20, "readers": self.side_by_side });
        crate::report::print(if self.surfaces { "surfaces" } else { "sequential" }, &self.clip, device, frames, seconds, more)
    }

    fn whole(&self, device: &Arc<CudaDevice>, pool: &DevicePool) -> anyhow::Result<(u64, serde_json::Value)> {
        let mut options = DeviceOptions::new(device);
        options.decoders = self.decoders;
        options.ahead_bytes = self.ahead.map(|megabytes| megabytes << 20);
        if !self.surfaces {
            options.make = Some(Arc::new(TensorFrames::new(TensorOptions::default(), pool.clone())));
        }
        let mut reader = DeviceReader::open(&input(&self.clip), &options)?;
        let mut frames = 0;
        while let Some(item) = reader.next_item()? {
            frames += u64::from(matches!(item, MediaItem::Frame(_)));
        }
        let stats = reader.stats();
        Ok((
            frames,
            json!({
                "decoders": stats.decoders,
                "pieces": stats.pieces,
                "decoded": stats.pictures_decoded,
                "most_waiting": stats.most_waiting,
                "syncs": stats.traffic.syncs,
                "upload_bytes": stats.traffic.upload_bytes,
                "download_bytes": stats.traffic.download_bytes,
            }),
        ))
    }
}
