//! Cut detection for frames on a GPU: brightness is counted there, and the counts are copied to the host.

use std::sync::Arc;

use framerail_core::{Device, Histogram};
use framerail_cuda::{
    CudaDevice, CudaError, CudaStream, CudaSurface, DevicePool, Download, PinnedPool,
    kernels::{HISTOGRAM_BYTES, HistogramJob, count_histograms, read_histograms},
};
use framerail_pipeline::{Item, Setting, SettingSpec, StageContext};
use framerail_vision::histogram_plan;

/// Device memory kept for counts in flight.
const KEPT_BYTES: usize = 1 << 20;

/// Page-locked buffers kept for counts.
const KEPT_BUFFERS: usize = 8;

/// The threshold of a cut, which can be changed during the run.
pub(in crate::stages) fn cut_setting(context: &StageContext, cut: f64) -> Setting {
    context.setting(SettingSpec::new("cut", 0.0..=1.0).help("change of the frame that counts as a cut; 1 = never"), cut)
}

/// The counting resources of one GPU.
struct Lane {
    stream: CudaStream,
    pool: DevicePool,
    pinned: PinnedPool,
}

impl Lane {
    fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let pool = DevicePool::new(device, KEPT_BYTES)?;
        Ok(Self { stream: CudaStream::new(device)?, pool, pinned: PinnedPool::new(device, KEPT_BUFFERS) })
    }
}

/// Counts of frames on one GPU, in flight to the host.
pub(in crate::stages) struct CountsUnderWay {
    /// Indices of the frames among the items of their call.
    places: Vec<usize>,
    counts: Download,
}

impl CountsUnderWay {
    /// Waits, and returns the indices with their counts.
    pub(in crate::stages) fn wait(self) -> Result<impl Iterator<Item = (usize, Histogram)>, CudaError> {
        let counts = read_histograms(self.places.len(), self.counts.wait()?.bytes())?;
        Ok(self.places.into_iter().zip(counts))
    }
}

/// Counts the brightness of frames on GPUs.
#[derive(Default)]
pub(in crate::stages) struct GpuHistograms {
    lane: Option<Lane>,
}

impl GpuHistograms {
    /// Queues counting for the frames with pixels on a GPU.
    pub(in crate::stages) fn queue(&mut self, items: &[Item]) -> Result<Vec<CountsUnderWay>, CudaError> {
        let mut images: Vec<(usize, &CudaSurface)> = Vec::new();
        for (place, item) in items.iter().enumerate() {
            if let Item::Frame(item) = item
                && let Some(surface) = CudaSurface::of(&item.frame.surface)
            {
                images.push((place, surface));
            }
        }
        let same_gpu = |a: &(usize, &CudaSurface), b: &(usize, &CudaSurface)| a.1.cuda_device().id() == b.1.cuda_device().id();
        images.chunk_by(same_gpu).map(|images| self.queue_on_gpu(images)).collect()
    }

    fn queue_on_gpu(&mut self, images: &[(usize, &CudaSurface)]) -> Result<CountsUnderWay, CudaError> {
        let jobs: Vec<HistogramJob<'_>> =
            images.iter().map(|(_, surface)| HistogramJob { surface, plan: histogram_plan(surface.format()) }).collect();
        let Some(job) = jobs.first() else { return Err(CudaError::BadArgument { what: "no pictures to count".into() }) };
        let lane = self.lane(job.surface.cuda_device())?;
        let counts = count_histograms(&lane.stream, &lane.pool, &jobs)?;
        let counts = Download::queue(&counts, 0, jobs.len() * HISTOGRAM_BYTES, &lane.pinned, &lane.stream)?;
        Ok(CountsUnderWay { places: images.iter().map(|(place, _)| *place).collect(), counts })
    }

    fn lane(&mut self, device: &Arc<CudaDevice>) -> Result<&Lane, CudaError> {
        let lane = match self.lane.take() {
            Some(lane) if lane.stream.device().id() == device.id() => lane,
            _ => Lane::new(device)?,
        };
        Ok(self.lane.insert(lane))
    }

    /// The peak device memory, by GPU.
    pub(in crate::stages) fn memory(&self) -> Option<(Device, u64)> {
        self.lane.as_ref().map(|lane| (lane.pool.device().id(), lane.pool.stats().high_water_bytes as u64))
    }
}
