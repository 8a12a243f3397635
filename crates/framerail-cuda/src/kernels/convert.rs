//! Converts decoded frames to tensors, one launch per batch.

pub use framerail_core::{ChannelMix, ChannelOrder, Conversion, CropWindow, FastYuv, Placement, Sampling, TensorSpec};
use framerail_core::{DType, PixelFamily, TensorLayout, surface::MAX_SIDE};

use super::{ConversionTables, HEADERS, RawImage, RawTables, Runner, bracketed, run_with, slots};
use crate::{CudaError, CudaStream, CudaSurface, DeviceBuffer, KernelSource};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "convert", code: include_str!("convert.cu"), headers: HEADERS };

/// Frames per launch, limited so that the parameters stay below 4096 bytes. As in `convert.cu`.
const MAX_PICTURES: usize = 48;

/// One frame of a batch.
#[derive(Clone, Copy, Debug)]
pub struct ConvertJob<'a> {
    /// The decoded frame.
    pub surface: &'a CudaSurface,
    /// The conversion.
    pub conversion: Conversion,
    /// Its lookup tables, from a [`super::TableCache`].
    pub tables: Option<&'a ConversionTables>,
    /// Buffer for [`TensorSpec::picture_bytes`] bytes of output.
    pub out: &'a DeviceBuffer,
    /// Byte offset in the buffer; a multiple of the element size.
    pub out_offset_bytes: usize,
}

/// One frame of a batch, given by addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawConvertJob {
    /// The decoded frame.
    pub image: RawImage,
    /// The conversion.
    pub conversion: Conversion,
    /// Its lookup tables.
    pub tables: RawTables,
    /// Address of [`TensorSpec::picture_bytes`] bytes; a multiple of the element size.
    pub out: u64,
}

/// Same layout as `Picture` in `convert.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Image {
    component: [u64; 3],
    out: u64,
    /// With a filter: the addresses of its horizontal and vertical tables.
    window: [f32; 4],
    pitch: [u32; 2],
    size: [u16; 2],
    placement: [u16; 4],
    unused: u32,
}

/// Parameters shared by all frames of a launch. Same layout as the head of `ConvertParams` in `convert.cu`.
#[derive(Clone, Copy, PartialEq)]
#[repr(C)]
struct Common {
    mix: [ChannelMix; 3],
    padding: [f32; 3],
    fast: FastYuv,
    out_size: [u32; 2],
    step: [u8; 2],
    components: u8,
    sample_bytes: u8,
    value_shift: u8,
    chroma_shift: [u8; 2],
    sampling: u8,
    use_fast: u8,
    channels: u8,
    blue_first: u8,
    hsv: u8,
    element_type: u8,
    interleaved: u8,
    in_bytes: u8,
    unused: u8,
    tone: u64,
}

/// Same layout as `ConvertParams` in `convert.cu`.
#[derive(Clone, Copy)]
#[repr(C)]
struct Parameters {
    common: Common,
    images: [Image; MAX_PICTURES],
}

const _: () = assert!(size_of::<ChannelMix>() == 24 && size_of::<FastYuv>() == 12);
const _: () = assert!(size_of::<Image>() == 72 && size_of::<Common>() == 128);
const _: () = assert!(size_of::<Parameters>() == 128 + 72 * MAX_PICTURES);

/// Converts a batch of frames, with one kernel launch per 48 frames of the same format and colour.
///
/// Output: one frame of the tensor per job, `[C, H, W]` or `[H, W, C]`, dense, with channels as the conversion defines them. Every
/// element is written. Buffer events order use of surfaces and output on other streams.
///
/// # Errors
/// `BadArgument` for sizes that do not match, `Compile`, `Driver`.
pub fn convert_batch(stream: &CudaStream, tensor: &TensorSpec, jobs: &[ConvertJob<'_>]) -> Result<(), CudaError> {
    let mut raw = Vec::with_capacity(jobs.len());
    for job in jobs {
        let need = tensor.image_bytes();
        if job.out_offset_bytes.checked_add(need).is_none_or(|end| end > job.out.len()) {
            let have = job.out.len();
            return Err(CudaError::argument(format!("a frame of {need} bytes at {} in a buffer of {have}", job.out_offset_bytes)));
        }
        let out = job.out.address() + job.out_offset_bytes as u64;
        let tables = job.tables.map_or_else(RawTables::default, ConversionTables::raw);
        raw.push(RawConvertJob { image: RawImage::of(job.surface), conversion: job.conversion, tables, out });
    }
    let tables = jobs.iter().filter_map(|job| job.tables).map(ConversionTables::buffer);
    let inputs = jobs.iter().map(|job| job.surface.buffer()).chain(tables);
    bracketed(stream, inputs, jobs.iter().map(|job| job.out), || {
        // SAFETY: live buffers, whose sizes come from the surfaces or were checked above, bracketed by their events.
        unsafe { convert_raw(stream, tensor, &raw) }
    })
}

/// [`convert_batch`] for memory outside this crate's buffers, such as a decoder's.
///
/// # Safety
/// Every plane and output is live until the work is done, has the size given by its format, dimensions and pitch or by the tensor, and
/// is ordered with its other uses.
///
/// # Errors
/// `BadArgument` for sizes that do not match, `Compile`, `Driver`.
pub unsafe fn convert_raw(runner: &dyn Runner, tensor: &TensorSpec, jobs: &[RawConvertJob]) -> Result<(), CudaError> {
    check_tensor(tensor)?;
    let mut prepared = Vec::with_capacity(jobs.len());
    for job in jobs {
        prepared.push(Prepared::new(tensor, job)?);
    }
    let alike = |a: &Prepared, b: &Prepared| a.common == b.common && a.kernel == b.kernel;
    for group in prepared.chunk_by(alike) {
        for batch in group.chunks(MAX_PICTURES) {
            let Some(first) = batch.first() else { continue };
            let parameters = Parameters { common: first.common, images: slots(batch.iter().map(|job| job.image)) };
            let (kernel, tile, block) = match first.kernel {
                Kernel::Plain => ("convert_nv12_u8", (512, 16), (32, 8, 1)),
                Kernel::Any => ("convert", (128, 8), (32, 8, 1)),
                Kernel::Filter => ("convert_filtered", (64, 4), (64, 4, 1)),
            };
            let grid = (tensor.width.div_ceil(tile.0), tensor.height.div_ceil(tile.1), batch.len() as u32);
            // SAFETY: guaranteed by the caller; sizes and pitches were checked.
            unsafe { run_with(runner, &SOURCE, kernel, (grid, block), &parameters)? };
        }
    }
    Ok(())
}

/// The kernel that handles a job.
#[derive(Clone, Copy, PartialEq)]
enum Kernel {
    /// NV12 to bytes without scaling.
    Plain,
    Any,
    /// With filter weights.
    Filter,
}

/// Kernel parameters of a job.
struct Prepared {
    common: Common,
    image: Image,
    kernel: Kernel,
}

impl Prepared {
    fn new(tensor: &TensorSpec, job: &RawConvertJob) -> Result<Self, CudaError> {
        job.image.check()?;
        check_conversion(job, tensor)?;
        if !(job.out as usize).is_multiple_of(tensor.dtype.size_bytes()) || job.out == 0 {
            return Err(CudaError::argument("a tensor is not aligned to its elements"));
        }
        let common = Common::new(tensor, job)?;
        let image = Image::new(job)?;
        let kernel = match job.conversion.sampling {
            Sampling::Filter(_) => Kernel::Filter,
            _ if is_plain(tensor, job) => Kernel::Plain,
            _ => Kernel::Any,
        };
        Ok(Self { common, image, kernel })
    }
}

/// Rejects parameters that the kernels cannot handle.
fn check_conversion(job: &RawConvertJob, tensor: &TensorSpec) -> Result<(), CudaError> {
    let RawConvertJob { conversion, image, tables, .. } = job;
    if matches!(conversion.sampling, Sampling::Filter(_)) && (tables.across == 0 || tables.down == 0) {
        return Err(CudaError::argument("a filter without its weights"));
    }
    if tensor.channel_order == ChannelOrder::Rgba {
        return Err(CudaError::argument("tensors with alpha are converted on the CPU only"));
    }
    if tables.tone != 0 && tensor.channel_order == ChannelOrder::Gray {
        return Err(CudaError::argument("grey HDR frames are converted on the CPU only"));
    }
    let Placement { left, top, width, height } = conversion.placement;
    let fits = |first: u32, count: u32, side: u32| count > 0 && first.checked_add(count).is_some_and(|end| end <= side);
    if !fits(left, width, tensor.width) || !fits(top, height, tensor.height) {
        let (across, down) = (tensor.width, tensor.height);
        return Err(CudaError::argument(format!("a frame of {width}x{height} at {left},{top} in a tensor of {across}x{down}")));
    }
    let CropWindow { x, y, width, height } = conversion.window;
    // Distant windows would overflow the kernel's integers.
    let near = |value: f32| value.abs() <= 2e6;
    if ![x, y, width, height].into_iter().all(near) || width <= 0.0 || height <= 0.0 {
        return Err(CudaError::argument(format!("a crop of {width}x{height} at {x},{y}")));
    }
    if conversion.value_shift > 8 {
        return Err(CudaError::argument(format!("samples shifted by {} bits", conversion.value_shift)));
    }
    let is_8bit_yuv = image.format.sample_bytes() == 1 && image.format.family() == PixelFamily::Yuv;
    let in_bytes = conversion.in_bytes || conversion.sampling == Sampling::Bilinear8Bit;
    if conversion.fast.is_some() && !(is_8bit_yuv && in_bytes && tensor.channel_order != ChannelOrder::Gray) {
        return Err(CudaError::argument(format!("FFmpeg's factors are for 8-bit Y'CbCr, not for {}", image.format)));
    }
    Ok(())
}

impl Common {
    fn new(tensor: &TensorSpec, job: &RawConvertJob) -> Result<Self, CudaError> {
        let (conversion, format) = (&job.conversion, job.image.format);
        let layout = job.image.sample_layout();
        let sampling = match conversion.sampling {
            Sampling::Bilinear => 0,
            Sampling::Bilinear8Bit => 1,
            Sampling::Area => 2,
            Sampling::Filter(_) => 3,
        };
        Ok(Self {
            mix: conversion.mixes,
            padding: conversion.padding,
            fast: conversion.fast.unwrap_or_default(),
            out_size: [tensor.width, tensor.height],
            step: layout.step,
            components: format.color_components().len() as u8,
            sample_bytes: layout.sample_bytes,
            value_shift: conversion.value_shift as u8,
            chroma_shift: layout.chroma_shift,
            sampling,
            use_fast: conversion.fast.is_some().into(),
            channels: tensor.channel_order.channels() as u8,
            blue_first: (tensor.channel_order == ChannelOrder::Bgr).into(),
            hsv: (tensor.channel_order == ChannelOrder::Hsv).into(),
            element_type: element_type(tensor.dtype)?,
            interleaved: (tensor.layout == TensorLayout::Thwc).into(),
            in_bytes: conversion.in_bytes.into(),
            unused: 0,
            tone: job.tables.tone,
        })
    }
}

impl Image {
    fn new(job: &RawConvertJob) -> Result<Self, CudaError> {
        let (conversion, image) = (&job.conversion, &job.image);
        let (component, pitch) = image.components()?;
        let CropWindow { x, y, width, height } = conversion.window;
        let halves = |address: u64| [address as u32, (address >> 32) as u32].map(f32::from_bits);
        let window = match (conversion.sampling, halves(job.tables.across), halves(job.tables.down)) {
            (Sampling::Filter(_), [a, b], [c, d]) => [a, b, c, d],
            _ => [x, y, width, height],
        };
        let Placement { left, top, width: columns, height: rows } = conversion.placement;
        Ok(Self {
            component,
            out: job.out,
            window,
            pitch,
            size: [image.width as u16, image.height as u16],
            placement: [left, top, columns, rows].map(|side| side as u16),
            unused: 0,
        })
    }
}

/// Same values as `ElementType` in `common.cuh`.
pub(super) fn element_type(dtype: DType) -> Result<u8, CudaError> {
    match dtype {
        DType::U8 => Ok(0),
        DType::F16 => Ok(1),
        DType::Bf16 => Ok(2),
        DType::F32 => Ok(3),
        DType::U16 => Ok(4),
        other => Err(CudaError::argument(format!("tensors of {other:?} are not supported on GPUs"))),
    }
}

fn check_tensor(tensor: &TensorSpec) -> Result<(), CudaError> {
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&tensor.width) || !sides.contains(&tensor.height) {
        return Err(CudaError::argument(format!(
            "a tensor of {}x{}: width and height must be from 1 to {MAX_SIDE}",
            tensor.width, tensor.height
        )));
    }
    Ok(())
}

/// Whether every pixel keeps its position, and vectors can be loaded and stored.
fn is_plain(tensor: &TensorSpec, job: &RawConvertJob) -> bool {
    let (conversion, image) = (&job.conversion, &job.image);
    let own_size = conversion.window == CropWindow { x: 0.0, y: 0.0, width: image.width as f32, height: image.height as f32 }
        && conversion.placement == Placement { left: 0, top: 0, width: image.width, height: image.height }
        && (tensor.width, tensor.height) == (image.width, image.height);
    let plain_values = conversion.mixes.iter().all(|mix| mix.scale == 1.0 && mix.shift == 0.0);
    let aligned = [job.out, image.planes[0], image.planes[1], image.pitches_bytes[0] as u64, image.pitches_bytes[1] as u64]
        .iter()
        .all(|value| value.is_multiple_of(16));
    own_size
        && plain_values
        && aligned
        && image.width.is_multiple_of(16)
        && image.format == framerail_core::PixelFormat::Nv12
        && tensor.dtype == DType::U8
        && matches!(tensor.channel_order, ChannelOrder::Rgb | ChannelOrder::Bgr)
}
