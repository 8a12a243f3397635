//! The `download` stage: copies frames from a GPU to host memory.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use framerail_core::{Device, HostSurface, PixelFormat, Surface};
use framerail_cuda::{
    CudaDevice, CudaError, CudaEvent, CudaStream, CudaSurface, DevicePool, PinnedPool, Traffic,
    kernels::{repacked, repacked_format},
};
use framerail_pipeline::{
    BatchPolicy, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, Item, LinkContext, PlanError, Registry, RegistryError, Stage,
    StageContext, StageError, StagePlan, StageSpec, Work, copies::DOWNLOAD,
};

use super::link::input_of;
use crate::{convert::cuda_error, devices::account};

/// Frames whose copies are queued together.
const FRAMES_TOGETHER: usize = 4;

/// Batches whose copies are in flight while the next one is queued.
const BATCHES_UNDER_WAY: usize = 2;

/// Device memory kept for frames being copied.
const KEPT_SCRATCH_BYTES: usize = 64 << 20;

/// Page-locked buffers kept: allocating one takes longer than many copies.
const KEPT_BUFFERS: usize = 32;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), |_| Ok(Box::new(DownloadPlan)))
}

fn spec() -> StageSpec {
    StageSpec::transform(DOWNLOAD, "copies frames from a GPU to the host")
        .details(
            "Inserted automatically before a stage that runs on the host, and rarely written. Copies are asynchronous, through page-locked \
             memory on a separate CUDA stream; frames on the host pass unchanged. Interleaved chroma, the output of GPU decoders, is \
             separated into planes on the GPU first, so that frames equal those decoded on the CPU.",
        )
        .example("read in.mp4 device=cuda ! download ! write out.mp4", "decoded on a GPU, encoded on the host")
}

struct DownloadPlan;

impl StagePlan for DownloadPlan {
    fn changes_pixels(&self) -> bool {
        false
    }

    fn link(&mut self, input: Option<&EdgeFormat>, _: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        let input = input_of(input)?;
        let pixel_format = if input.device == Device::Cpu { input.pixel_format } else { input.pixel_format.map(planar) };
        Ok(Some(EdgeFormat { device: Device::Cpu, other_devices: Vec::new(), pixel_format, ..input.clone() }))
    }

    fn batch(&self) -> BatchPolicy {
        BatchPolicy { max_frames: FRAMES_TOGETHER, max_wait: Some(Duration::ZERO) }
    }

    fn takes_device_frames(&self) -> bool {
        true
    }

    fn takes_several_devices(&self) -> bool {
        true
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        Ok(Work::Stages(vec![Box::<Download>::default()]))
    }
}

/// The planar format that CPU decoders output.
fn planar(format: PixelFormat) -> PixelFormat {
    match format {
        PixelFormat::Nv12 | PixelFormat::P010 => repacked_format(format).unwrap_or(format),
        format => format,
    }
}

/// The copy path from one GPU.
struct Lane {
    stream: CudaStream,
    /// For frames with separate planes.
    scratch: DevicePool,
    pool: PinnedPool,
    /// Since the last event.
    is_used: bool,
}

impl Lane {
    fn new(device: &Arc<CudaDevice>) -> Result<Self, CudaError> {
        let scratch = DevicePool::new(device, KEPT_SCRATCH_BYTES)?;
        Ok(Self { stream: CudaStream::new(device)?, scratch, pool: PinnedPool::new(device, KEPT_BUFFERS), is_used: false })
    }

    /// Queues the copy of a surface.
    fn queue(&mut self, surface: &CudaSurface) -> Result<HostSurface, CudaError> {
        self.is_used = true;
        if planar(surface.format()) == surface.format() {
            return surface.queue_download(&self.pool, &self.stream);
        }
        repacked(surface, &self.scratch, &self.stream)?.queue_download(&self.pool, &self.stream)
    }
}

/// Items in order, with the copies in flight and an event after the last copy from each GPU.
struct Batch {
    items: Vec<(Item, Option<HostSurface>)>,
    copied: Vec<CudaEvent>,
}

#[derive(Default)]
struct Download {
    /// One per GPU that holds frames.
    lanes: Vec<Lane>,
    under_way: VecDeque<Batch>,
    context: Option<StageContext>,
}

impl Stage for Download {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.context = Some(context.clone());
        Ok(())
    }

    fn frame(&mut self, item: FrameItem, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        self.batch(vec![item.into()], out)
    }

    fn batch(&mut self, items: Vec<Item>, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let mut batch = Batch { items: Vec::with_capacity(items.len()), copied: Vec::new() };
        for item in items {
            let copy = match &item {
                Item::Frame(item) => self.queue(item)?,
                _ => None,
            };
            batch.items.push((item, copy));
        }
        for lane in &mut self.lanes {
            if std::mem::take(&mut lane.is_used) {
                batch.copied.push(lane.stream.record().map_err(cuda_error)?);
            }
        }
        self.under_way.push_back(batch);
        while self.under_way.len() > BATCHES_UNDER_WAY {
            self.idle(out)?;
        }
        Ok(Flow::More)
    }

    fn has_work_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    fn idle(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        let Some(batch) = self.under_way.pop_front() else { return Ok(Flow::More) };
        batch.copied.iter().try_for_each(CudaEvent::synchronize).map_err(cuda_error)?;
        if let Some(context) = &self.context {
            account(context, Traffic::take());
            for lane in &self.lanes {
                context.memory(lane.scratch.device().id(), lane.scratch.stats().high_water_bytes as u64);
            }
        }
        for (mut item, copy) in batch.items {
            if let (Item::Frame(item), Some(host)) = (&mut item, copy) {
                item.frame.surface = Surface::Host(host);
            }
            out.push(item)?;
        }
        Ok(Flow::More)
    }

    fn finish(&mut self, out: &mut dyn Emitter) -> Result<(), StageError> {
        while !self.under_way.is_empty() {
            self.idle(out)?;
        }
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Page-locked buffers return to their pool only after the GPU has written them. An error here was reported before.
        for copied in self.under_way.iter().flat_map(|batch| &batch.copied) {
            let _ = copied.synchronize();
        }
    }
}

impl Download {
    /// Queues the copy of a frame in GPU memory.
    fn queue(&mut self, item: &FrameItem) -> Result<Option<HostSurface>, StageError> {
        let Surface::Device(_) = &item.frame.surface else { return Ok(None) };
        let Some(surface) = CudaSurface::of(&item.frame.surface) else {
            let message = format!("frame {} of stream {} cannot be copied", item.frame.index, item.frame.stream);
            return Err(StageError::new(ErrorKind::Internal, message));
        };
        let lane = self.lane(surface.cuda_device())?;
        lane.queue(surface).map(Some).map_err(cuda_error)
    }

    fn lane(&mut self, device: &Arc<CudaDevice>) -> Result<&mut Lane, StageError> {
        let place = match self.lanes.iter().position(|lane| lane.stream.device().id() == device.id()) {
            Some(place) => place,
            None => {
                self.lanes.push(Lane::new(device).map_err(cuda_error)?);
                self.lanes.len() - 1
            }
        };
        self.lanes.get_mut(place).ok_or_else(|| StageError::new(ErrorKind::Internal, "the copy from the GPU was not set up"))
    }
}
