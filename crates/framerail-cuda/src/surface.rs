//! Frames in device memory, and their transfer to and from the host.

use std::{any::Any, marker::PhantomData, sync::Arc};

use cudarc::driver::sys;
use framerail_core::{Device, DeviceSurface, HostSurface, PixelFormat, PlaneLayout, surface::MAX_SIDE};

use crate::{CudaDevice, CudaStream, DeviceBuffer, DevicePool, PinnedPool, Traffic, error::CudaError, pinned};

/// Row alignment in bytes, so that kernels load whole vectors.
const PITCH_BYTES: usize = 256;

/// Device addresses and layout of a frame's planes, without ownership; the input and output of kernels.
///
/// Only surfaces and the decoder create one, so its addresses are valid for `'a`. Its owner orders the work queued
/// on it: a surface through its buffer's events, the decoder by waiting before it takes the frame back.
#[derive(Clone, Copy, Debug)]
pub struct DevicePlanes<'a> {
    pub(crate) format: PixelFormat,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Device address of each plane's first row.
    pub(crate) addresses: [u64; 4],
    pub(crate) pitches: [usize; 4],
    pub(crate) owner: PhantomData<&'a ()>,
}

impl DevicePlanes<'_> {
    /// Pixel format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Device address of a plane's first row, and its pitch in bytes; panics for index 4 and above.
    pub fn plane(&self, plane: usize) -> (u64, usize) {
        (self.addresses[plane], self.pitches[plane])
    }
}

/// Device planes with their layout, in one buffer.
#[derive(Debug)]
pub struct CudaSurface {
    format: PixelFormat,
    width: u32,
    height: u32,
    planes: [(usize, PlaneLayout); 4],
    buffer: DeviceBuffer,
}

impl CudaSurface {
    /// Allocates a surface from a pool; its contents are undefined (left from the last use).
    ///
    /// # Errors
    /// `BadArgument` for a side of 0 or above 32768, `OutOfMemory`, `Driver`.
    pub fn new(pool: &DevicePool, format: PixelFormat, width: u32, height: u32) -> Result<Self, CudaError> {
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CudaError::argument(format!("a surface of {width}x{height}: width and height must be from 1 to {MAX_SIDE}")));
        }
        let mut planes = [(0, PlaneLayout { pitch_bytes: 0, row_bytes: 0, rows: 0 }); 4];
        let mut bytes = 0;
        for (plane, (start, layout)) in planes.iter_mut().enumerate().take(format.planes()) {
            let (row_bytes, rows) = format.plane_size(plane, width, height);
            *layout = PlaneLayout { pitch_bytes: row_bytes.next_multiple_of(PITCH_BYTES), row_bytes, rows };
            *start = bytes;
            bytes += layout.pitch_bytes * rows;
        }
        Ok(Self { format, width, height, planes, buffer: pool.buffer(bytes)? })
    }

    /// Pixel format.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Row layout of a plane; panics for index 4 and above.
    pub fn layout(&self, plane: usize) -> PlaneLayout {
        self.planes[plane].1
    }

    /// Bytes of all planes' samples, without row padding.
    pub(crate) fn image_bytes(&self) -> usize {
        self.planes.iter().map(|(_, layout)| layout.row_bytes * layout.rows).sum()
    }

    /// Device address of a plane's first row; panics for index 4 and above. Bracket work on it with the buffer's `begin_` and `end_`.
    pub fn plane_address(&self, plane: usize) -> u64 {
        self.buffer.address() + self.planes[plane].0 as u64
    }

    /// Addresses and layout of all planes.
    pub fn planes(&self) -> DevicePlanes<'_> {
        DevicePlanes {
            format: self.format,
            width: self.width,
            height: self.height,
            addresses: [0, 1, 2, 3].map(|plane| self.plane_address(plane)),
            pitches: self.planes.map(|(_, layout)| layout.pitch_bytes),
            owner: PhantomData,
        }
    }

    /// Queues a copy of planes of the same format and size into this surface. Brackets the write; the caller brackets reads of the source.
    ///
    /// # Errors
    /// `BadArgument` when format or size differ, `Driver`.
    pub fn copy_from(&self, source: &DevicePlanes<'_>, stream: &CudaStream) -> Result<(), CudaError> {
        if (source.format, source.width, source.height) != (self.format, self.width, self.height) {
            return Err(CudaError::argument("a copy between surfaces of different format or size"));
        }
        self.buffer.begin_write(stream)?;
        for plane in 0..self.format.planes() {
            // SAFETY: planes of the same size, which the view guarantees to be live.
            unsafe { self.copy_plane_from(plane, source.addresses[plane], source.pitches[plane], stream)? };
        }
        self.buffer.end_write(stream)
    }

    /// The memory, with the events that order its uses.
    pub fn buffer(&self) -> &DeviceBuffer {
        &self.buffer
    }

    /// The device.
    pub fn cuda_device(&self) -> &Arc<CudaDevice> {
        self.buffer.device()
    }

    /// Queues a copy of one plane from a device address to this surface.
    ///
    /// # Safety
    /// `from` holds `rows` rows of `row_bytes` bytes, `pitch` apart, until the stream has read them.
    pub(crate) unsafe fn copy_plane_from(&self, plane: usize, from: u64, pitch: usize, stream: &CudaStream) -> Result<(), CudaError> {
        let layout = self.layout(plane);
        let copy = Copy2d {
            from: Place::Device(from, pitch),
            to: Place::Device(self.plane_address(plane), layout.pitch_bytes),
            row_bytes: layout.row_bytes,
            rows: layout.rows,
        };
        Traffic::count_device_copy(layout.row_bytes * layout.rows);
        // SAFETY: guaranteed by the caller; the target plane is ours.
        unsafe { copy.queue(stream) }
    }

    /// Copies the surface to memory from the pool, possibly on another device, queued on a stream of the pool's device.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub fn copied(&self, pool: &DevicePool, stream: &CudaStream) -> Result<CudaSurface, CudaError> {
        let copy = CudaSurface::new(pool, self.format, self.width, self.height)?;
        if self.cuda_device().id() != pool.device().id() {
            copy.buffer.copy_from(0, &self.buffer, 0, self.buffer.len(), stream)?;
            return Ok(copy);
        }
        self.buffer.begin_read(stream)?;
        copy.copy_from(&self.planes(), stream)?;
        self.buffer.end_read(stream)?;
        Ok(copy)
    }

    /// Queues a copy to a host surface in page-locked memory; readable after the stream has been synchronised.
    ///
    /// # Errors
    /// `Driver`.
    pub fn queue_download(&self, pool: &PinnedPool, stream: &CudaStream) -> Result<HostSurface, CudaError> {
        let mut host = pool.surface(self.format, self.width, self.height)?;
        self.buffer.begin_read(stream)?;
        let mut queued = Ok(());
        if let Some(mut planes) = host.planes_mut() {
            for plane in 0..self.format.planes() {
                let (layout, target) = (self.layout(plane), planes.layout(plane));
                let copy = Copy2d {
                    from: Place::Device(self.plane_address(plane), layout.pitch_bytes),
                    to: Place::Host(planes.plane(plane).as_mut_ptr(), target.pitch_bytes),
                    row_bytes: layout.row_bytes,
                    rows: layout.rows,
                };
                Traffic::count_download(layout.row_bytes * layout.rows);
                // SAFETY: planes of the same size; the copy is registered with the memory below, even if a later plane fails.
                queued = queued.and_then(|()| unsafe { copy.queue(stream) });
            }
        }
        pinned::in_use_on(&host, stream);
        queued?;
        self.buffer.end_read(stream)?;
        Ok(host)
    }

    /// Copies the surface to host memory and waits.
    ///
    /// # Errors
    /// `Driver`.
    pub fn download(&self, pool: &PinnedPool, stream: &CudaStream) -> Result<HostSurface, CudaError> {
        let host = self.queue_download(pool, stream)?;
        stream.synchronize()?;
        Ok(host)
    }

    /// Copies a host surface, queued on the stream. Page-locked memory of a [`PinnedPool`] is kept until it was read; other memory is
    /// read before this returns.
    ///
    /// # Errors
    /// `OutOfMemory`, `Driver`.
    pub fn upload(host: &HostSurface, pool: &DevicePool, stream: &CudaStream) -> Result<CudaSurface, CudaError> {
        let surface = CudaSurface::new(pool, host.format(), host.width(), host.height())?;
        surface.buffer.begin_write(stream)?;
        let mut queued = Ok(());
        for plane in 0..host.format().planes() {
            let (source, layout) = (host.layout(plane), surface.layout(plane));
            let copy = Copy2d {
                from: Place::Host(host.plane(plane).as_ptr().cast_mut(), source.pitch_bytes),
                to: Place::Device(surface.plane_address(plane), layout.pitch_bytes),
                row_bytes: layout.row_bytes,
                rows: layout.rows,
            };
            Traffic::count_upload(layout.row_bytes * layout.rows);
            // SAFETY: planes of the same size; the host memory is only read.
            queued = queued.and_then(|()| unsafe { copy.queue(stream) });
        }
        pinned::in_use_on(host, stream);
        surface.buffer.end_write(stream)?;
        queued?;
        Ok(surface)
    }

    /// Downcasts a core surface, if it is of this type.
    pub fn of(surface: &framerail_core::Surface) -> Option<&CudaSurface> {
        match surface {
            framerail_core::Surface::Device(surface) => surface.as_any().downcast_ref(),
            _ => None,
        }
    }
}

impl DeviceSurface for CudaSurface {
    fn device(&self) -> Device {
        self.cuda_device().id()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

enum Place {
    Device(u64, usize),
    Host(*mut u8, usize),
}

struct Copy2d {
    from: Place,
    to: Place,
    row_bytes: usize,
    rows: usize,
}

impl Copy2d {
    /// # Safety
    /// Both places hold the rows and stay valid until the stream has used them.
    unsafe fn queue(&self, stream: &CudaStream) -> Result<(), CudaError> {
        let entered = stream.device().enter()?;
        let mut copy = sys::CUDA_MEMCPY2D {
            srcXInBytes: 0,
            srcY: 0,
            srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            srcHost: std::ptr::null(),
            srcDevice: 0,
            srcArray: std::ptr::null_mut(),
            srcPitch: 0,
            dstXInBytes: 0,
            dstY: 0,
            dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
            dstHost: std::ptr::null_mut(),
            dstDevice: 0,
            dstArray: std::ptr::null_mut(),
            dstPitch: 0,
            WidthInBytes: self.row_bytes,
            Height: self.rows,
        };
        match self.from {
            Place::Device(address, pitch) => (copy.srcDevice, copy.srcPitch) = (address, pitch),
            Place::Host(start, pitch) => {
                copy.srcMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
                (copy.srcHost, copy.srcPitch) = (start.cast_const().cast(), pitch);
            }
        }
        match self.to {
            Place::Device(address, pitch) => (copy.dstDevice, copy.dstPitch) = (address, pitch),
            Place::Host(start, pitch) => {
                copy.dstMemoryType = sys::CUmemorytype::CU_MEMORYTYPE_HOST;
                (copy.dstHost, copy.dstPitch) = (start.cast(), pitch);
            }
        }
        // SAFETY: guaranteed by the caller.
        entered.check(unsafe { sys::cuMemcpy2DAsync_v2(&copy, stream.handle()) }, "copying a frame")
    }
}
