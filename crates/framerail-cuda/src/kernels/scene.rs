//! Brightness histograms of frames on the device, for scene detection without downloading pixels.

use framerail_core::{HISTOGRAM_BINS, Histogram, HistogramPlan};

use super::{HEADERS, RawImage, Runner, bracketed, run_with, slots};
use crate::{CudaError, CudaStream, CudaSurface, DeviceBuffer, DevicePool, KernelSource};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "scene", code: include_str!("scene.cu"), headers: HEADERS };

/// Frames per launch, limited so that the parameters stay below 4096 bytes. As in `scene.cu`.
const MAX_PICTURES: usize = 64;
/// Counted samples per block, horizontal and vertical. As in `scene.cu`.
const TILE: (u32, u32) = (32, 32);
/// Bytes per histogram: 32 bits per bin, little endian.
pub const HISTOGRAM_BYTES: usize = HISTOGRAM_BINS * 4;

/// One frame of a batch.
#[derive(Clone, Copy, Debug)]
pub struct HistogramJob<'a> {
    /// The frame.
    pub surface: &'a CudaSurface,
    /// Which samples are counted: framerail-vision's `histogram_plan`.
    pub plan: HistogramPlan,
}

/// One frame of a batch, given by addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawHistogramJob {
    /// The frame.
    pub image: RawImage,
    /// Which samples are counted.
    pub plan: HistogramPlan,
}

/// Same layout as `Picture` in `scene.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Image {
    first: u64,
    counts: u64,
    row_step: u32,
    column_step: u32,
    columns: u16,
    rows: u16,
    sample_bytes: u8,
    shift: u8,
    unused: [u8; 2],
}

const _: () = assert!(size_of::<Image>() == 32 && HISTOGRAM_BINS == 32);

/// Computes the histograms of a batch. Returns the counts in device memory, [`HISTOGRAM_BYTES`] per frame.
///
/// Download them and pass them to [`read_histograms`]. Buffer events order later changes of the surfaces.
///
/// # Errors
/// `BadArgument` for a plan that does not match the frame, `OutOfMemory`, `Compile`, `Driver`.
pub fn count_histograms(stream: &CudaStream, pool: &DevicePool, jobs: &[HistogramJob<'_>]) -> Result<DeviceBuffer, CudaError> {
    let raw: Vec<RawHistogramJob> = jobs.iter().map(|job| RawHistogramJob { image: RawImage::of(job.surface), plan: job.plan }).collect();
    let counts = pool.buffer(jobs.len().max(1) * HISTOGRAM_BYTES)?;
    counts.fill(0, stream)?;
    bracketed(stream, jobs.iter().map(|job| job.surface.buffer()), [&counts], || {
        // SAFETY: live buffers, whose sizes come from the surfaces and the lines above, bracketed by their events.
        unsafe { count_histograms_raw(stream, &raw, counts.address()) }
    })?;
    Ok(counts)
}

/// [`count_histograms`] for memory outside this crate's buffers; adds to the values at `counts`.
///
/// # Safety
/// Every plane is live until the work is done and has the size given by its format, dimensions and pitch; `counts` has
/// [`HISTOGRAM_BYTES`] per frame and starts at a multiple of 4; all are ordered with their other uses.
///
/// # Errors
/// `BadArgument` for a plan that does not match the frame, `Compile`, `Driver`.
pub unsafe fn count_histograms_raw(runner: &dyn Runner, jobs: &[RawHistogramJob], counts: u64) -> Result<(), CudaError> {
    let addresses = (counts..).step_by(HISTOGRAM_BYTES);
    let images = jobs.iter().zip(addresses).map(|(job, counts)| Image::new(job, counts));
    let images: Vec<Image> = images.collect::<Result<_, _>>()?;
    for batch in images.chunks(MAX_PICTURES) {
        let parameters: [Image; MAX_PICTURES] = slots(batch.iter().copied());
        let (columns, rows) = batch.iter().fold((0, 0), |most, image| (image.columns.max(most.0), image.rows.max(most.1)));
        let grid = (u32::from(columns).div_ceil(TILE.0), u32::from(rows).div_ceil(TILE.1), batch.len() as u32);
        // SAFETY: guaranteed by the caller; sizes and pitches were checked.
        unsafe { run_with(runner, &SOURCE, "count_samples", (grid, (32, 8, 1)), &parameters)? };
    }
    Ok(())
}

impl Image {
    fn new(job: &RawHistogramJob, counts: u64) -> Result<Self, CudaError> {
        let RawHistogramJob { image, plan } = job;
        image.check()?;
        let refused = || CudaError::argument(format!("a histogram of a {} frame cannot be made by {plan:?}", image.format));
        let samples = image.component(plan.component).ok_or_else(refused)?;
        let (width, height) = image.format.component_size(plan.component, image.width, image.height);
        let steps = (samples.pitch_bytes.checked_mul(plan.spacing), u32::from(samples.step_bytes).checked_mul(plan.spacing));
        let ((Some(row_step), Some(column_step)), true) = (steps, plan.spacing > 0 && plan.shift < 16) else { return Err(refused()) };
        Ok(Self {
            first: samples.address,
            counts,
            row_step,
            column_step,
            columns: width.div_ceil(plan.spacing) as u16,
            rows: height.div_ceil(plan.spacing) as u16,
            sample_bytes: image.format.sample_bytes() as u8,
            shift: plan.shift as u8,
            unused: [0; 2],
        })
    }
}

/// Parses the downloaded counts of a batch.
///
/// # Errors
/// `BadArgument` when there are fewer bytes than [`HISTOGRAM_BYTES`] per frame.
pub fn read_histograms(images: usize, bytes: &[u8]) -> Result<Vec<Histogram>, CudaError> {
    let need = images.saturating_mul(HISTOGRAM_BYTES);
    let short = || CudaError::argument(format!("{} bytes of counts, {need} are needed", bytes.len()));
    let (words, _) = bytes.get(..need).ok_or_else(short)?.as_chunks::<4>();
    let (histograms, _) = words.as_chunks::<HISTOGRAM_BINS>();
    Ok(histograms.iter().map(|bins| bins.map(u32::from_le_bytes)).collect())
}
