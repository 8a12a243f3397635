//! Frames as passed to kernels.

use framerail_core::{PixelFormat, surface::MAX_SIDE};

use crate::{CudaError, CudaSurface, DevicePlanes};

/// A frame given by addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawImage {
    /// Sample layout; any [`PixelFormat`]. 16-bit 4:2:0 with interleaved chroma (P010, P016) is `P010`.
    pub format: PixelFormat,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Address of each plane's first row.
    pub planes: [u64; 4],
    /// Pitch in bytes, for each plane.
    pub pitches_bytes: [usize; 4],
}

impl RawImage {
    /// A surface's addresses; bracket their use with the surface's buffer.
    pub fn of(surface: &CudaSurface) -> Self {
        let planes = surface.format().planes();
        let mut image =
            Self { format: surface.format(), width: surface.width(), height: surface.height(), planes: [0; 4], pitches_bytes: [0; 4] };
        for (plane, (address, pitch)) in image.planes.iter_mut().zip(&mut image.pitches_bytes).enumerate().take(planes) {
            (*address, *pitch) = (surface.plane_address(plane), surface.layout(plane).pitch_bytes);
        }
        image
    }

    /// A view's addresses; its owner orders the reads.
    pub(crate) fn of_planes(planes: &DevicePlanes<'_>) -> Self {
        let DevicePlanes { format, width, height, addresses, pitches, .. } = *planes;
        Self { format, width, height, planes: addresses, pitches_bytes: pitches }
    }

    /// Address, pitch and step of a component's samples.
    pub(super) fn component(&self, component: usize) -> Option<Samples> {
        let place = self.format.color_components().get(component)?;
        let (start, pitch) = (self.planes.get(place.plane)?, self.pitches_bytes.get(place.plane)?);
        Some(Samples {
            address: start + place.offset_bytes as u64,
            pitch_bytes: u32::try_from(*pitch).ok()?,
            step_bytes: place.step_bytes as u8,
        })
    }

    /// Addresses of the colour components' first samples, and pitches in bytes: of the first component, of the others.
    pub(super) fn components(&self) -> Result<([u64; 3], [u32; 2]), CudaError> {
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

    /// The sample layout.
    pub(super) fn sample_layout(&self) -> SampleLayout {
        let (components, (across, down)) = (self.format.color_components(), self.format.chroma_shift());
        SampleLayout {
            step: [0, 1].map(|index| components.get(index).map_or(0, |component| component.step_bytes as u8)),
            sample_bytes: self.format.sample_bytes() as u8,
            value_shift: components.first().map_or(0, |component| component.shift) as u8,
            chroma_shift: [across as u8, down as u8],
        }
    }

    /// Rejects sizes and pitches that no kernel can handle.
    pub(super) fn check(&self) -> Result<(), CudaError> {
        let Self { format, width, height, .. } = *self;
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CudaError::argument(format!("a frame of {width}x{height}: width and height must be from 1 to {MAX_SIDE}")));
        }
        for (plane, (address, pitch)) in self.planes.iter().zip(self.pitches_bytes).enumerate().take(format.planes()) {
            let (row_bytes, _) = format.plane_size(plane, width, height);
            let sample = format.sample_bytes();
            if *address == 0 || pitch < row_bytes || pitch > u32::MAX as usize {
                return Err(CudaError::argument(format!("plane {plane} of a {format} frame: rows of {row_bytes} bytes, {pitch} apart")));
            }
            if !(*address as usize).is_multiple_of(sample) || !pitch.is_multiple_of(sample) {
                return Err(CudaError::argument(format!("plane {plane} of a {format} frame is not aligned to its samples")));
            }
        }
        Ok(())
    }
}

/// Where the samples of a component are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Samples {
    pub(super) address: u64,
    pub(super) pitch_bytes: u32,
    pub(super) step_bytes: u8,
}

/// Sample layout of a frame, as embedded in the kernels' parameter structs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct SampleLayout {
    /// Bytes between samples: of the first component, of the others.
    pub(super) step: [u8; 2],
    pub(super) sample_bytes: u8,
    /// Bits by which stored samples are shifted left.
    pub(super) value_shift: u8,
    /// log2 of the chroma subsampling, horizontal and vertical.
    pub(super) chroma_shift: [u8; 2],
}

const _: () = assert!(size_of::<SampleLayout>() == 6 && align_of::<SampleLayout>() == 1);
