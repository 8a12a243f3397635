//! Draws boxes, labels and landmarks on surfaces in place.

use framerail_core::{Region, Stroke, StrokeShape};

use super::{HEADERS, RawImage, Runner, SampleLayout, bracketed, run_with, slots};
use crate::{CudaError, CudaStream, CudaSurface, DevicePool, KernelSource};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "draw", code: include_str!("draw.cu"), headers: HEADERS };

/// Frames per launch, limited so that the parameters stay below 4096 bytes. As in `draw.cu`.
const MAX_PICTURES: usize = 64;

/// Width and height, in chroma samples, of the area that a block draws. As in `draw.cu`.
const TILE: (u32, u32) = (32, 8);

/// The strokes of one surface; no other job of the batch may draw on it.
#[derive(Clone, Copy, Debug)]
pub struct DrawJob<'a> {
    /// The surface, changed in place: other references see the change.
    pub surface: &'a CudaSurface,
    /// Strokes in drawing order.
    pub strokes: &'a [Stroke],
}

/// The strokes of one frame, given by addresses.
#[derive(Clone, Copy, Debug)]
pub struct RawDrawJob<'a> {
    /// The frame.
    pub image: RawImage,
    /// Strokes in drawing order.
    pub strokes: &'a [Stroke],
}

/// Same layout as `Picture` in `draw.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Image {
    component: [u64; 3],
    pitch: [u32; 2],
    size: [u16; 2],
    first_stroke: u32,
    strokes: u32,
    unused: u32,
}

/// Parameters shared by all frames of a launch. Same layout as the head of `DrawParams` in `draw.cu`.
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
struct Common {
    strokes: u64,
    glyphs: u64,
    layout: SampleLayout,
    components: u8,
    unused: u8,
    max_value: f32,
    padding: u32,
}

/// Same layout as `DrawParams` in `draw.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Parameters {
    common: Common,
    images: [Image; MAX_PICTURES],
}

/// Bytes of a stroke in device memory. As in `draw.cu`.
const STROKE_BYTES: usize = 56;

const _: () = assert!(size_of::<Image>() == 48 && size_of::<Common>() == 32 && size_of::<Parameters>() <= 4096);

/// Draws strokes on surfaces, in place and in order. Results match framerail-vision's canvas within 1 code value.
///
/// Uploads the strokes to memory from `pool`: 56 bytes per stroke, 8 per character, and 1 per raster pixel.
///
/// # Errors
/// `BadArgument` for strokes outside their frame, `OutOfMemory`, `Compile`, `Driver`.
pub fn draw_batch(stream: &CudaStream, pool: &DevicePool, jobs: &[DrawJob<'_>]) -> Result<(), CudaError> {
    let raw: Vec<_> = jobs.iter().map(|job| RawDrawJob { image: RawImage::of(job.surface), strokes: job.strokes }).collect();
    let commands = draw_commands(&raw)?;
    if commands.is_empty() {
        return Ok(());
    }
    let buffer = pool.buffer(commands.len())?;
    buffer.upload(0, &commands, stream)?;
    bracketed(stream, [&buffer], jobs.iter().map(|job| job.surface.buffer()), || {
        // SAFETY: live surfaces of known size, and commands of the same jobs, bracketed by their events.
        unsafe { draw_raw(stream, &raw, buffer.address()) }
    })
}

fn misfit(stroke: &Stroke, image: &RawImage) -> CudaError {
    let what = if let StrokeShape::Raster(coverage) = &stroke.shape {
        format!("a raster of {} bytes over {:?}", coverage.len(), stroke.region)
    } else {
        format!("{stroke:?}")
    };
    CudaError::argument(format!("{what} does not fit a {} frame of {}x{}", image.format, image.width, image.height))
}

/// Encodes these jobs for [`draw_raw`] to read from device memory: all strokes, then all characters and rasters.
///
/// # Errors
/// `BadArgument` for strokes outside their frame.
pub fn draw_commands(jobs: &[RawDrawJob<'_>]) -> Result<Vec<u8>, CudaError> {
    let (mut commands, mut letters) = (Vec::new(), Vec::<[u8; 8]>::new());
    for job in jobs {
        for stroke in job.strokes {
            let encoded = encode(stroke, &job.image, &mut letters).ok_or_else(|| misfit(stroke, &job.image))?;
            commands.extend_from_slice(&encoded);
        }
    }
    commands.extend(letters.into_iter().flatten());
    Ok(commands)
}

/// Encodes a stroke for the kernel; `None` if it does not fit.
fn encode(stroke: &Stroke, image: &RawImage, letters: &mut Vec<[u8; 8]>) -> Option<[u8; STROKE_BYTES]> {
    let Region { x, y, width, height } = stroke.region;
    if !stroke.region.fits(image.width, image.height) {
        return None;
    }
    let [c0, c1, c2] = stroke.codes;
    let (mut shape, mut opacity, mut line, mut text) = (0, 0, [0.0_f32; 5], [0_u32; 5]);
    match &stroke.shape {
        StrokeShape::Flat(coverage) => opacity = *coverage,
        StrokeShape::Line { from, to, width } => (shape, line) = (1, [from.x, from.y, to.x, to.y, *width]),
        StrokeShape::Text { x: left, y: top, scale, glyphs } => {
            let near = |first: i64, edge: u32| first <= i64::from(edge) && first > -(1 << 30);
            if *scale == 0 || !near(*left, x) || !near(*top, y) {
                return None;
            }
            let (first, count) = (u32::try_from(letters.len()).ok()?, u32::try_from(glyphs.len()).ok()?);
            first.checked_add(count)?;
            (shape, text) = (2, [*left as i32 as u32, *top as i32 as u32, *scale, first, count]);
            letters.extend_from_slice(glyphs);
        }
        StrokeShape::Raster(coverage) => {
            if coverage.len() != stroke.region.pixels() {
                return None;
            }
            (shape, text) = (3, [0, 0, 0, u32::try_from(letters.len()).ok()?, 0]);
            let (eights, rest) = coverage.as_chunks::<8>();
            let mut last = [0; 8];
            last.iter_mut().zip(rest).for_each(|(slot, byte)| *slot = *byte);
            letters.extend_from_slice(eights);
            letters.extend((!rest.is_empty()).then_some(last));
        }
    }
    let places = [x as u16, y as u16, width as u16, height as u16, c0, c1, c2].map(u16::to_le_bytes);
    let numbers = line.map(f32::to_bits).into_iter().chain(text).map(u32::to_le_bytes);
    let bytes = places.into_iter().flatten().chain([shape, opacity]).chain(numbers.flatten());
    let mut encoded = [0; STROKE_BYTES];
    encoded.iter_mut().zip(bytes).for_each(|(slot, byte)| *slot = byte);
    Some(encoded)
}

/// [`draw_batch`] for memory outside this crate's buffers.
///
/// # Safety
/// Every plane is live until the work is done, has the size given by its format, dimensions and pitch, and is ordered with its other
/// uses. The same holds for `commands`, a multiple of 8, with the bytes that [`draw_commands`] returned for the same jobs.
///
/// # Errors
/// `BadArgument` for invalid frames, `Compile`, `Driver`.
pub unsafe fn draw_raw(runner: &dyn Runner, jobs: &[RawDrawJob<'_>], commands: u64) -> Result<(), CudaError> {
    let total: usize = jobs.iter().map(|job| job.strokes.len()).sum();
    let letters = commands + (total * STROKE_BYTES) as u64;
    let (mut prepared, mut first) = (Vec::with_capacity(jobs.len()), 0);
    for job in jobs {
        job.image.check()?;
        let image = Image::new(&job.image, first, job.strokes.len())?;
        if prepared.iter().any(|(_, other): &(Common, Image)| other.component == image.component) {
            return Err(CudaError::argument("two drawing jobs use the same frame"));
        }
        first += job.strokes.len();
        prepared.push((Common::new(&job.image, commands, letters), image));
    }
    prepared.retain(|(_, image)| image.strokes > 0);
    for group in prepared.chunk_by(|a, b| a.0 == b.0) {
        for batch in group.chunks(MAX_PICTURES) {
            let Some((common, _)) = batch.first() else { continue };
            let parameters = Parameters { common: *common, images: slots(batch.iter().map(|(_, image)| *image)) };
            let tiles = |axis: usize, samples: u32| {
                let side = batch.iter().map(|(_, image)| u32::from(image.size[axis])).max().unwrap_or(0);
                side.div_ceil(samples << common.layout.chroma_shift[axis])
            };
            let grid = (tiles(0, TILE.0), tiles(1, TILE.1), batch.len() as u32);
            // SAFETY: guaranteed by the caller; strokes lie within their frames.
            unsafe { run_with(runner, &SOURCE, "draw", (grid, (TILE.0, TILE.1, 1)), &parameters)? };
        }
    }
    Ok(())
}

impl Common {
    fn new(image: &RawImage, strokes: u64, glyphs: u64) -> Self {
        Self {
            strokes,
            glyphs,
            layout: image.sample_layout(),
            components: image.format.color_components().len() as u8,
            unused: 0,
            max_value: image.format.max_value() as f32,
            padding: 0,
        }
    }
}

impl Image {
    fn new(image: &RawImage, first: usize, strokes: usize) -> Result<Self, CudaError> {
        let (component, pitch) = image.components()?;
        let number = |count: usize| u32::try_from(count).map_err(|_| CudaError::argument("more strokes than can be counted"));
        let size = [image.width as u16, image.height as u16];
        Ok(Self { component, pitch, size, first_stroke: number(first)?, strokes: number(strokes)?, unused: 0 })
    }
}
