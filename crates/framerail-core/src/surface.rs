//! Frame memory: planes on the host or on a device.

use std::{any::Any, fmt, sync::Arc};

use crate::{CoreError, Device, FramePool, PixelFormat, Region};

/// Maximum frame side; a larger size in a header is an attack or an error.
pub const MAX_SIDE: u32 = 32_768;

/// Planes in host memory, owned by their allocator: a decoder or a pool.
///
/// # For implementors
/// Slices cover whole planes, pitch times rows (the last row may be shorter), and stay the same for the lifetime of the value.
pub trait HostMemory: Send + Sync {
    /// The bytes of a plane; empty if the plane does not exist.
    fn plane(&self, plane: usize) -> &[u8];

    /// The bytes for writing; `None` if this memory is read elsewhere too, such as a decoder's reference frame.
    fn plane_mut(&mut self, plane: usize) -> Option<&mut [u8]>;

    /// Whether [`HostMemory::plane_mut`] returns planes.
    fn is_writable(&self) -> bool;

    /// The concrete type, for a crate that can use its memory without a copy.
    fn as_any(&self) -> &dyn Any;
}

/// A surface in device memory. Only the crate of that device knows the concrete type.
pub trait DeviceSurface: Send + Sync + fmt::Debug {
    /// The device that holds it.
    fn device(&self) -> Device;

    /// The concrete type, for the device's crate.
    fn as_any(&self) -> &dyn Any;
}

/// Row layout of one plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneLayout {
    /// Bytes from one row to the next.
    pub pitch_bytes: usize,
    /// Bytes of a row that hold samples.
    pub row_bytes: usize,
    /// Rows.
    pub rows: usize,
}

impl PlaneLayout {
    /// Minimum size of the plane in bytes.
    pub fn min_bytes(&self) -> usize {
        if self.rows == 0 { 0 } else { self.pitch_bytes * (self.rows - 1) + self.row_bytes }
    }
}

/// Planes in host memory with their layout. Cloning shares the memory.
#[derive(Clone)]
pub struct HostSurface {
    format: PixelFormat,
    width: u32,
    height: u32,
    layout: [PlaneLayout; 4],
    memory: Arc<dyn HostMemory>,
}

impl HostSurface {
    /// Creates a surface over existing memory.
    ///
    /// # Errors
    /// `SizeOutOfRange` for a side of 0 or above [`MAX_SIDE`]; `PlaneTooShort` when a plane is shorter than its pitch and rows require.
    pub fn new(
        format: PixelFormat,
        width: u32,
        height: u32,
        pitches_bytes: &[usize],
        memory: Arc<dyn HostMemory>,
    ) -> Result<Self, CoreError> {
        if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
            return Err(CoreError::SizeOutOfRange { width, height });
        }
        let mut layout = [PlaneLayout { pitch_bytes: 0, row_bytes: 0, rows: 0 }; 4];
        for (plane, layout) in layout.iter_mut().enumerate().take(format.planes()) {
            let (row_bytes, rows) = format.plane_size(plane, width, height);
            let pitch_bytes = pitches_bytes.get(plane).copied().unwrap_or(0);
            *layout = PlaneLayout { pitch_bytes, row_bytes, rows };
            let (have, need) = (memory.plane(plane).len(), layout.min_bytes());
            if have < need || pitch_bytes < row_bytes {
                return Err(CoreError::PlaneTooShort { plane, format, have, need: need.max(row_bytes * rows) });
            }
        }
        Ok(Self { format, width, height, layout, memory })
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
        self.layout[plane]
    }

    /// The memory, for a crate that knows its concrete type.
    pub fn memory(&self) -> &Arc<dyn HostMemory> {
        &self.memory
    }

    /// All bytes of a plane; rows are `pitch_bytes` apart.
    pub fn plane(&self, plane: usize) -> &[u8] {
        self.memory.plane(plane)
    }

    /// The samples of one row of a plane, without padding.
    pub fn row(&self, plane: usize, row: usize) -> &[u8] {
        let layout = self.layout[plane];
        let start = row * layout.pitch_bytes;
        &self.plane(plane)[start..start + layout.row_bytes]
    }

    /// Planes for writing, if the memory is not shared and not read elsewhere.
    pub fn planes_mut(&mut self) -> Option<PlanesMut<'_>> {
        let memory = Arc::get_mut(&mut self.memory)?;
        memory.is_writable().then_some(PlanesMut { layout: &self.layout, memory })
    }

    /// Bytes of all planes, without padding.
    pub fn sample_bytes_total(&self) -> usize {
        self.layout.iter().map(|layout| layout.row_bytes * layout.rows).sum()
    }

    /// A view of a part of the surface that shares its memory; neither is writable while both exist. The part must start on whole chroma
    /// samples ([`PixelFormat::chroma_shift`]).
    ///
    /// # Errors
    /// `SizeOutOfRange` for a part that is empty, exceeds the surface or starts between chroma samples.
    pub fn window(&self, part: Region) -> Result<HostSurface, CoreError> {
        let (shift_x, shift_y) = self.format.chroma_shift();
        let is_aligned = part.x.is_multiple_of(1 << shift_x) && part.y.is_multiple_of(1 << shift_y);
        if !is_aligned || !part.fits(self.width, self.height) {
            return Err(CoreError::SizeOutOfRange { width: part.width, height: part.height });
        }
        let mut starts = [0; 4];
        for (plane, start) in starts.iter_mut().enumerate().take(self.format.planes()) {
            // Rows and bytes above and to the left of the part.
            let (left_bytes, rows) = self.format.plane_size(plane, part.x.max(1), part.y.max(1));
            let (left_bytes, rows) = (if part.x == 0 { 0 } else { left_bytes }, if part.y == 0 { 0 } else { rows });
            *start = rows * self.layout[plane].pitch_bytes + left_bytes;
        }
        let pitches = self.layout.map(|layout| layout.pitch_bytes);
        let memory = Arc::new(WindowMemory { whole: Arc::clone(&self.memory), starts });
        HostSurface::new(self.format, part.width, part.height, &pitches, memory)
    }

    /// Copies the surface to writable memory from the pool.
    pub fn copied(&self, pool: &FramePool) -> Result<HostSurface, CoreError> {
        let mut copy = pool.surface(self.format, self.width, self.height)?;
        if let Some(mut planes) = copy.planes_mut() {
            for plane in 0..self.format.planes() {
                for row in 0..self.layout[plane].rows {
                    planes.row(plane, row).copy_from_slice(self.row(plane, row));
                }
            }
        }
        Ok(copy)
    }
}

/// Planes that start at an offset into another surface's planes.
struct WindowMemory {
    whole: Arc<dyn HostMemory>,
    starts: [usize; 4],
}

impl HostMemory for WindowMemory {
    fn plane(&self, plane: usize) -> &[u8] {
        let start = self.starts.get(plane).copied().unwrap_or(0);
        self.whole.plane(plane).get(start..).unwrap_or_default()
    }

    fn plane_mut(&mut self, plane: usize) -> Option<&mut [u8]> {
        let start = self.starts.get(plane).copied().unwrap_or(0);
        Arc::get_mut(&mut self.whole)?.plane_mut(plane)?.get_mut(start..)
    }

    fn is_writable(&self) -> bool {
        Arc::strong_count(&self.whole) == 1 && self.whole.is_writable()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for HostSurface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostSurface({} {}x{})", self.format, self.width, self.height)
    }
}

/// Write access to a surface's planes.
pub struct PlanesMut<'a> {
    layout: &'a [PlaneLayout; 4],
    memory: &'a mut dyn HostMemory,
}

impl PlanesMut<'_> {
    /// All bytes of a plane; rows are `pitch_bytes` apart.
    pub fn plane(&mut self, plane: usize) -> &mut [u8] {
        self.memory.plane_mut(plane).unwrap_or_default()
    }

    /// The samples of one row of a plane, without padding.
    pub fn row(&mut self, plane: usize, row: usize) -> &mut [u8] {
        let layout = self.layout[plane];
        let start = row * layout.pitch_bytes;
        &mut self.plane(plane)[start..start + layout.row_bytes]
    }

    /// Row layout of a plane; panics for index 4 and above.
    pub fn layout(&self, plane: usize) -> PlaneLayout {
        self.layout[plane]
    }
}

/// Frame memory on the host or a device. Cloning shares it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Surface {
    /// Host planes.
    Host(HostSurface),
    /// Device planes, with the event after which they can be read.
    Device(Arc<dyn DeviceSurface>),
}

impl Surface {
    /// The device that holds it.
    pub fn device(&self) -> Device {
        match self {
            Surface::Host(_) => Device::Cpu,
            Surface::Device(surface) => surface.device(),
        }
    }

    /// The host planes.
    ///
    /// # Errors
    /// `NotOnHost` for a device surface: download it first.
    pub fn host(&self) -> Result<&HostSurface, CoreError> {
        match self {
            Surface::Host(surface) => Ok(surface),
            Surface::Device(_) => Err(CoreError::NotOnHost),
        }
    }

    /// The host planes, for writing or replacing.
    ///
    /// # Errors
    /// `NotOnHost` for a device surface.
    pub fn host_mut(&mut self) -> Result<&mut HostSurface, CoreError> {
        match self {
            Surface::Host(surface) => Ok(surface),
            Surface::Device(_) => Err(CoreError::NotOnHost),
        }
    }
}
