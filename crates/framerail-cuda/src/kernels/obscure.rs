//! Hides faces on surfaces in place: blur, mosaic and solid colour under soft masks.

use framerail_core::{AxisBlur, BlurPlan, FillPlan, HidePlan, MaskCover, MaskPlan, MosaicPlan, Outline, PixelFormat, Region};

use super::{HEADERS, RawImage, Runner, SampleLayout, bracketed, run_with, slots};
use crate::{CudaError, CudaStream, CudaSurface, DeviceBuffer, DevicePool, KernelSource, Uploads};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "obscure", code: include_str!("obscure.cu"), headers: HEADERS };

/// Regions per launch, limited so that the parameters stay below 4096 bytes. As in `obscure.cu`.
const MAX_REGIONS: usize = 15;

/// Threads per block. As in `obscure.cu`.
const THREADS: u32 = 1024;

/// The regions to hide on one surface.
#[derive(Clone, Copy, Debug)]
pub struct ObscureJob<'a> {
    /// The surface, changed in place: other references see the change.
    pub surface: &'a CudaSurface,
    /// The regions, hidden one after another.
    pub regions: &'a [HidePlan],
}

/// The regions to hide on one frame, given by addresses.
#[derive(Clone, Copy, Debug)]
pub struct RawObscureJob<'a> {
    /// The frame.
    pub image: RawImage,
    /// The regions, hidden one after another.
    pub regions: &'a [HidePlan],
}

/// Same layout as `AxisBlur` in `obscure.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct DeviceAxis {
    step: u32,
    widths: [u32; 3],
}

/// Same layout as `ComponentFill` in `obscure.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct DeviceFill {
    patch: [u16; 4],
    across: DeviceAxis,
    down: DeviceAxis,
}

/// Same layout as `Region` in `obscure.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct DeviceRegion {
    component: [u64; 3],
    scratch: [u64; 3],
    coverage: u64,
    center: [f64; 2],
    half: [f64; 2],
    turn: [f64; 2],
    feather: f64,
    reached: [f64; 2],
    inside: [f64; 2],
    pitch: [u32; 2],
    region: [u16; 4],
    code: [f32; 3],
    origin: [i32; 2],
    cell: u32,
    fill: [DeviceFill; 2],
}

/// Parameters shared by all regions of a launch. Same layout as the head of `ObscureParams` in `obscure.cu`.
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
struct Common {
    layout: SampleLayout,
    shape: u8,
    kind: u8,
    max_value: f32,
    unused: u32,
}

/// Same layout as `ObscureParams` in `obscure.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Parameters {
    common: Common,
    regions: [DeviceRegion; MAX_REGIONS],
}

const _: () = assert!(size_of::<DeviceRegion>() == 264 && size_of::<Common>() == 16);
const _: () = assert!(size_of::<Parameters>() <= 4096);

/// Hides regions of surfaces, in place. Regions of one surface that touch each other are hidden one after another.
///
/// Results match framerail-vision's within 1 code value of the format. `pool` provides scratch memory, and memory for mask
/// rasters: one byte per pixel of their regions.
///
/// # Errors
/// `BadArgument` for regions outside their frame, `OutOfMemory`, `Compile`, `Driver`.
pub fn obscure_batch(stream: &CudaStream, pool: &DevicePool, uploads: &mut Uploads, jobs: &[ObscureJob<'_>]) -> Result<(), CudaError> {
    let raw: Vec<_> = jobs.iter().map(|job| RawObscureJob { image: RawImage::of(job.surface), regions: job.regions }).collect();
    let (scratch, rasters) = (pool.buffer(obscure_scratch_bytes(&raw)?.max(1))?, obscure_rasters(&raw));
    let masks = if rasters.is_empty() { None } else { Some(pool.buffer(rasters.len())?) };
    if let Some(masks) = &masks {
        uploads.queue(&rasters, masks, 0, stream)?;
    }
    let mask_address = masks.as_ref().map_or(0, DeviceBuffer::address);
    let written = jobs.iter().map(|job| job.surface.buffer()).chain([&scratch]);
    bracketed(stream, &masks, written, || {
        // SAFETY: live surfaces of known size, the rasters of the same jobs, and scratch memory of the required size, bracketed
        // by their events.
        unsafe { obscure_raw(stream, &raw, scratch.address(), mask_address) }
    })
}

/// Bytes of scratch memory that [`obscure_raw`] needs for these jobs.
///
/// # Errors
/// `BadArgument` for regions outside their frame.
pub fn obscure_scratch_bytes(jobs: &[RawObscureJob<'_>]) -> Result<usize, CudaError> {
    Ok(prepare(jobs, 0, 0)?.1 as usize)
}

/// The mask rasters of these jobs, one after another, for [`obscure_raw`] to read from device memory.
pub fn obscure_rasters(jobs: &[RawObscureJob<'_>]) -> Vec<u8> {
    jobs.iter().flat_map(|job| job.regions).filter_map(|region| raster_of(&region.mask)).flatten().copied().collect()
}

fn raster_of(mask: &MaskPlan) -> Option<&[u8]> {
    if let MaskCover::Raster(coverage) = &mask.cover { Some(coverage) } else { None }
}

/// [`obscure_batch`] for memory outside this crate's buffers.
///
/// # Safety
/// Every plane is live until the work is done, has the size given by its format, dimensions and pitch, and is ordered with its other
/// uses. The same holds for `scratch`, a multiple of 16 with [`obscure_scratch_bytes`] bytes, and for `masks`, which holds the bytes that
/// [`obscure_rasters`] returned for the same jobs.
///
/// # Errors
/// `BadArgument` for regions outside their frame, `Compile`, `Driver`.
pub unsafe fn obscure_raw(runner: &dyn Runner, jobs: &[RawObscureJob<'_>], scratch: u64, masks: u64) -> Result<(), CudaError> {
    let (mut prepared, _) = prepare(jobs, scratch, masks)?;
    // Regions of the same turn do not touch each other, so regions of one shape share launches.
    prepared.sort_by_key(|region| (region.turn, region.common.shape));
    let alike = |a: &Prepared, b: &Prepared| a.turn == b.turn && a.common == b.common && a.components == b.components;
    for group in prepared.chunk_by(alike) {
        for batch in group.chunks(MAX_REGIONS) {
            let Some(first) = batch.first() else { continue };
            let parameters = Parameters { common: first.common, regions: slots(batch.iter().map(|prepared| prepared.region)) };
            let grid = (first.components, batch.len() as u32, 1);
            // SAFETY: guaranteed by the caller; sizes were checked.
            unsafe { run_with(runner, &SOURCE, "obscure", (grid, (THREADS, 1, 1)), &parameters)? };
        }
    }
    Ok(())
}

/// Kernel parameters of a region.
struct Prepared {
    common: Common,
    region: DeviceRegion,
    components: u32,
    /// Number of earlier launches that this one depends on.
    turn: usize,
    /// Pixels that it reads and writes.
    reads: Region,
    writes: Region,
}

/// Prepares all regions. Also returns the end of the scratch memory that starts at `scratch`.
fn prepare(jobs: &[RawObscureJob<'_>], scratch: u64, mut masks: u64) -> Result<(Vec<Prepared>, u64), CudaError> {
    let (mut prepared, mut end) = (Vec::<Prepared>::new(), scratch);
    for job in jobs {
        job.image.check()?;
        for region in job.regions {
            let mut next = Prepared::new(&job.image, region, &mut end)?;
            if let Some(coverage) = raster_of(&region.mask) {
                next.region.coverage = masks;
                masks += coverage.len() as u64;
            }
            let same_image = |other: &&Prepared| other.region.component == next.region.component;
            let meets = |other: &&Prepared| other.reads.meets(&next.writes) || other.writes.meets(&next.reads);
            let meeting = prepared.iter().filter(same_image).filter(meets);
            next.turn = meeting.map(|other| other.turn + 1).max().unwrap_or(0);
            prepared.push(next);
        }
    }
    Ok((prepared, end))
}

fn misfit(what: &str, HidePlan { mask, fills }: &HidePlan, image: &RawImage) -> CudaError {
    let RawImage { format, width, height, .. } = image;
    // Leaves out the mask's cover, which may be a large raster.
    CudaError::argument(format!("{what} of {fills:?} at {:?} does not fit a {format} frame of {width}x{height}", mask.region))
}

impl Prepared {
    fn new(image: &RawImage, hide: &HidePlan, end: &mut u64) -> Result<Self, CudaError> {
        let (format, mask) = (image.format, &hide.mask);
        let components = format.color_components().len();
        if !mask.region.fits(image.width, image.height) || hide.fills.len() != components {
            return Err(misfit("the region", hide, image));
        }
        if raster_of(mask).is_some_and(|coverage| coverage.len() != mask.region.pixels()) {
            return Err(misfit("the raster", hide, image));
        }
        let common = Common::new(image, hide)?;
        let mut region = DeviceRegion::default();
        region.place(mask);
        (region.component, region.pitch) = image.components()?;
        let (mut reads, mut writes) = (mask.region, mask.region);
        for (component, fill) in hide.fills.iter().enumerate() {
            let shift = shift_of(format, component);
            let own = mask.region.subsampled(shift);
            if kind_of(fill) != common.kind {
                return Err(misfit("a fill", hide, image));
            }
            let source = fill.source().unwrap_or(own);
            let (columns, rows) = format.component_size(component, image.width, image.height);
            if !source.fits(columns, rows) || !source.holds(&own) {
                return Err(misfit("what is read", hide, image));
            }
            (reads, writes) = (reads.joined(&source.upsampled(shift)), writes.joined(&own.upsampled(shift)));
            region.scratch[component] = *end;
            *end += region.fill_component(component, fill, shift).ok_or_else(|| misfit("a fill", hide, image))?.next_multiple_of(16);
        }
        Ok(Self { common, region, components: components as u32, turn: 0, reads, writes })
    }
}

fn shift_of(format: PixelFormat, component: usize) -> (u32, u32) {
    if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) }
}

fn shape_of(cover: &MaskCover) -> u8 {
    match cover {
        MaskCover::Outline { outline: Outline::Rectangle { .. }, .. } => 0,
        MaskCover::Outline { outline: Outline::Ellipse { .. }, .. } => 1,
        MaskCover::Raster(_) => 2,
    }
}

fn kind_of(fill: &FillPlan) -> u8 {
    match fill {
        FillPlan::Solid(_) => 0,
        FillPlan::Blur(_) => 1,
        FillPlan::Mosaic(_) => 2,
    }
}

impl Common {
    fn new(image: &RawImage, hide: &HidePlan) -> Result<Self, CudaError> {
        Ok(Self {
            layout: image.sample_layout(),
            shape: shape_of(&hide.mask.cover),
            kind: kind_of(hide.fills.first().ok_or_else(|| misfit("nothing", hide, image))?),
            max_value: image.format.max_value() as f32,
            unused: 0,
        })
    }
}

impl DeviceRegion {
    fn place(&mut self, mask: &MaskPlan) {
        let Region { x, y, width, height } = mask.region;
        self.region = [x, y, width, height].map(|side| side as u16);
        let MaskCover::Outline { center, outline, feather } = &mask.cover else { return };
        self.center = (*center).into();
        (self.half, self.turn) = match *outline {
            Outline::Rectangle { half_width, half_height } => ([half_width, half_height], [1.0, 0.0]),
            Outline::Ellipse { across, along, cos, sin } => ([across, along], [cos, sin]),
        };
        self.feather = *feather;
        [self.reached, self.inside] = outline.inverse_squares(*feather).map(<[f64; 2]>::from);
    }

    /// Sets a component's fill and returns the scratch memory it needs in bytes; `None` for invalid parameters.
    fn fill_component(&mut self, component: usize, fill: &FillPlan, (shift_x, shift_y): (u32, u32)) -> Option<u64> {
        let slot = self.fill.get_mut(usize::from(component > 0))?;
        let corners = |r: &Region| [r.x, r.y, r.width, r.height].map(|side| side as u16);
        match fill {
            FillPlan::Solid(code) => {
                *self.code.get_mut(component)? = f32::from(*code);
                Some(0)
            }
            FillPlan::Blur(BlurPlan { patch, across, down }) => {
                let makes_sense = |axis: &AxisBlur| axis.step > 0 && axis.widths.iter().all(|width| width % 2 == 1 && *width < 1 << 20);
                if !makes_sense(across) || !makes_sense(down) {
                    return None;
                }
                let axis = |axis: &AxisBlur| DeviceAxis { step: axis.step, widths: axis.widths };
                *slot = DeviceFill { patch: corners(patch), across: axis(across), down: axis(down) };
                Some(8 * u64::from(patch.width.div_ceil(across.step)) * u64::from(patch.height.div_ceil(down.step)))
            }
            FillPlan::Mosaic(MosaicPlan { source, origin_x, origin_y, cell }) => {
                if *cell == 0 || *cell > 1 << 20 || origin_x.abs() > 1_000_000 || origin_y.abs() > 1_000_000 {
                    return None;
                }
                slot.patch = corners(source);
                (self.origin, self.cell) = ([*origin_x, *origin_y], *cell);
                let cells = |count: u32, shift: u32| u64::from((count << shift) / cell) + 2;
                Some(16 * cells(source.width, shift_x) * cells(source.height, shift_y))
            }
        }
    }
}
