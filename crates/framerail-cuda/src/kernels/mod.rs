//! Kernels and their launchers: conversion to tensors, augmentation, hiding and drawing on surfaces, brightness in bins, boxes
//! out of model outputs, plane copies, turns.
//!
//! Each launcher checks sizes and formats, orders its work by the marks of the buffers that it touches, and queues it on a
//! stream; the host never waits. Beneath each is a function that takes addresses and any [`Runner`]: for memory that is not in
//! this crate's buffers, and for tests without a card, which run the same sources on the host.

pub mod augment;
pub mod boxes;
pub mod convert;
pub mod copy;
pub mod draw;
pub mod obscure;
pub mod scene;
pub mod turn;

use std::ffi::c_void;

use framerail_core::{PixelFormat, surface::MAX_SIDE};

pub use augment::{AugmentJob, RawAugmentJob, augment_batch, augment_foreign, augment_raw, augment_scratch_bytes};
pub use boxes::{
    Activation, BoxDecoder, BoxFamily, BoxForm, DeviceTensor, FoundBox, PictureBoxes, RawOutputs, RawScratch, decode_boxes,
    decode_boxes_raw, read_boxes,
};
pub use convert::{
    ChannelMix, ChannelOrder, Conversion, ConvertJob, CropWindow, FastYuv, Placement, RawConvertJob, Sampling, TensorSpec, convert_batch,
    convert_raw,
};
pub use copy::{repack_raw, repacked, repacked_format};
pub use draw::{DrawJob, RawDrawJob, draw_batch, draw_commands, draw_raw};
pub use obscure::{ObscureJob, RawObscureJob, obscure_batch, obscure_rasters, obscure_raw, obscure_scratch_bytes};
pub use scene::{HISTOGRAM_BYTES, HistogramJob, RawHistogramJob, count_histograms, count_histograms_raw, read_histograms};
pub use turn::{turn_raw, turned};

use crate::{CudaError, CudaStream, CudaSurface, DevicePlanes, KernelSource, Launch};

/// What every kernel source includes.
const HEADERS: &[(&str, &str)] = &[("common.cuh", include_str!("common.cuh")), ("samples.cuh", include_str!("samples.cuh"))];

/// The sources of all kernels, for compiling them ahead of time.
pub const SOURCES: &[&KernelSource] =
    &[&augment::SOURCE, &boxes::SOURCE, &convert::SOURCE, &copy::SOURCE, &draw::SOURCE, &obscure::SOURCE, &scene::SOURCE, &turn::SOURCE];

/// Where kernels run: a stream, or an imitation of a card.
pub trait Runner {
    /// Runs a kernel whose only parameter is a structure.
    ///
    /// # Safety
    /// `parameters` points to a value of the kernel's type; the memory that it names is live until the kernel has run, large
    /// enough for it, and ordered with its other uses.
    ///
    /// # Errors
    /// `Compile`, `Driver`.
    unsafe fn run(
        &self,
        source: &'static KernelSource,
        kernel: &'static str,
        launch: Launch,
        parameters: *const c_void,
    ) -> Result<(), CudaError>;
}

impl Runner for CudaStream {
    unsafe fn run(
        &self,
        source: &'static KernelSource,
        kernel: &'static str,
        launch: Launch,
        parameters: *const c_void,
    ) -> Result<(), CudaError> {
        let kernel = self.device().kernel(source, kernel)?;
        // SAFETY: the caller's word; the driver only reads the parameter.
        unsafe { kernel.launch(self, launch, &mut [parameters.cast_mut()]) }
    }
}

/// Runs a kernel with a structure of its type.
///
/// # Safety
/// As for [`Runner::run`].
unsafe fn run_with<P: Copy>(
    runner: &dyn Runner,
    source: &'static KernelSource,
    kernel: &'static str,
    (grid, block): ((u32, u32, u32), (u32, u32, u32)),
    parameters: &P,
) -> Result<(), CudaError> {
    let launch = Launch { grid, block, shared_bytes: 0 };
    // SAFETY: the caller's word.
    unsafe { runner.run(source, kernel, launch, std::ptr::from_ref(parameters).cast()) }
}

/// A picture by its addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawPicture {
    /// How samples lie; any format of [`PixelFormat`]. 16-bit 4:2:0 with interleaved chroma (P010, P016) is `P010`.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Address of each plane's first row.
    pub planes: [u64; 4],
    /// Bytes from one row to the next, for each plane.
    pub pitches_bytes: [usize; 4],
}

impl RawPicture {
    /// A surface's addresses; using them needs the brackets of its buffer.
    pub fn of(surface: &CudaSurface) -> Self {
        let planes = surface.format().planes();
        let mut picture =
            Self { format: surface.format(), width: surface.width(), height: surface.height(), planes: [0; 4], pitches_bytes: [0; 4] };
        for (plane, (address, pitch)) in picture.planes.iter_mut().zip(&mut picture.pitches_bytes).enumerate().take(planes) {
            (*address, *pitch) = (surface.plane_address(plane), surface.layout(plane).pitch_bytes);
        }
        picture
    }

    /// A picture's addresses; reads of it are its owner's to order.
    pub(crate) fn of_planes(planes: &DevicePlanes<'_>) -> Self {
        let DevicePlanes { format, width, height, addresses, pitches, .. } = *planes;
        Self { format, width, height, planes: addresses, pitches_bytes: pitches }
    }

    /// Address, pitch and step of a colour component's samples.
    fn component(&self, component: usize) -> Option<Samples> {
        let place = self.format.color_components().get(component)?;
        let (start, pitch) = (self.planes.get(place.plane)?, self.pitches_bytes.get(place.plane)?);
        Some(Samples {
            address: start + place.offset_bytes as u64,
            pitch_bytes: u32::try_from(*pitch).ok()?,
            step_bytes: place.step_bytes as u8,
        })
    }

    /// Addresses of the colour components' first samples, and bytes from row to row: of the first component, of the others.
    fn components(&self) -> Result<([u64; 3], [u32; 2]), CudaError> {
        let (mut addresses, mut pitches) = ([0; 3], [0; 2]);
        for (index, address) in addresses.iter_mut().enumerate().take(self.format.color_components().len()) {
            let samples = self.component(index).ok_or_else(|| CudaError::argument("a component without a plane"))?;
            let row = &mut pitches[usize::from(index > 0)];
            if *row != 0 && *row != samples.pitch_bytes {
                return Err(CudaError::argument(format!("chroma planes with rows {row} and {} bytes apart", samples.pitch_bytes)));
            }
            (*address, *row) = (samples.address, samples.pitch_bytes);
        }
        Ok((addresses, pitches))
    }

    /// Refuses sizes and pitches that no kernel can work with.
    fn check(&self) -> Result<(), CudaError> {
        let Self { format, width, height, .. } = *self;
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CudaError::argument(format!("a picture of {width}x{height}: sides go from 1 to {MAX_SIDE}")));
        }
        for (plane, (address, pitch)) in self.planes.iter().zip(self.pitches_bytes).enumerate().take(format.planes()) {
            let (row_bytes, _) = format.plane_size(plane, width, height);
            let sample = format.sample_bytes();
            if *address == 0 || pitch < row_bytes || pitch > u32::MAX as usize {
                return Err(CudaError::argument(format!("plane {plane} of a {format} picture: rows of {row_bytes} bytes, {pitch} apart")));
            }
            if !(*address as usize).is_multiple_of(sample) || !pitch.is_multiple_of(sample) {
                return Err(CudaError::argument(format!("plane {plane} of a {format} picture does not start at a whole sample")));
            }
        }
        Ok(())
    }
}

/// Where the samples of a component lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Samples {
    address: u64,
    pitch_bytes: u32,
    step_bytes: u8,
}
