//! Memory of frames, for Python.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use framerail::{
    core::{DType, Device, DeviceSurface, HostSurface, Surface},
    cuda::{CudaError, CudaSurface, DeviceBuffer},
    reader,
};
use pyo3::{
    exceptions::{PyAttributeError, PyBufferError, PyIndexError},
    prelude::*,
    types::{PyDict, PyTuple},
};

use crate::{
    dlpack::{self, Foreign, Request},
    errors,
    fork::OfProcess,
    options::dtype_name,
};

/// The owner of the memory.
enum Owner {
    /// A reader's batch, which returns to its pool.
    Batch(reader::Tensor),
    /// GPU memory.
    Device(DeviceBuffer),
    /// Our own memory.
    Bytes(Vec<u8>),
    /// Audio samples.
    Floats { _kept: Vec<f32> },
    /// A plane of a frame that may have other holders.
    Plane { _kept: HostSurface },
    /// The same on a GPU.
    GpuPlane(Surface),
    /// Other memory, of which this is a part.
    Part(Arc<Memory>),
}

/// Elements in memory that is kept while this value exists.
pub struct Memory {
    owner: OfProcess<Owner>,
    address: usize,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    dtype: DType,
    device: Device,
    is_writable: bool,
    /// A GPU plane that later stages use: whether a consumer may have written to it since [`Memory::end_writes`].
    has_writer: Option<AtomicBool>,
}

fn dense(shape: &[usize]) -> Vec<usize> {
    let mut strides: Vec<usize> = shape.iter().rev().scan(1, |dense, length| Some(std::mem::replace(dense, *dense * length))).collect();
    strides.reverse();
    strides
}

impl Memory {
    /// A batch of a reader.
    pub fn of_batch(mut tensor: reader::Tensor) -> Self {
        let (shape, dtype) = (tensor.shape().to_vec(), tensor.dtype());
        let (address, device) = match &mut tensor {
            reader::Tensor::Host(tensor) => (tensor.as_bytes_mut().as_mut_ptr().expose_provenance(), Device::Cpu),
            reader::Tensor::Cuda(tensor) => (tensor.buffer().address() as usize, tensor.device().id()),
            _ => (0, Device::Cpu),
        };
        let strides = dense(&shape);
        Self { owner: OfProcess::new(Owner::Batch(tensor)), address, shape, strides, dtype, device, is_writable: true, has_writer: None }
    }

    /// Dense elements on the host.
    pub fn of_bytes(mut bytes: Vec<u8>, shape: &[usize], dtype: DType) -> Self {
        let address = bytes.as_mut_ptr().expose_provenance();
        let owner = OfProcess::new(Owner::Bytes(bytes));
        Self {
            owner,
            address,
            shape: shape.to_vec(),
            strides: dense(shape),
            dtype,
            device: Device::Cpu,
            is_writable: true,
            has_writer: None,
        }
    }

    /// Dense floats on the host.
    pub fn of_floats(mut floats: Vec<f32>, shape: &[usize]) -> Self {
        let address = floats.as_mut_ptr().expose_provenance();
        let owner = OfProcess::new(Owner::Floats { _kept: floats });
        Self {
            owner,
            address,
            shape: shape.to_vec(),
            strides: dense(shape),
            dtype: DType::F32,
            device: Device::Cpu,
            is_writable: true,
            has_writer: None,
        }
    }

    /// Dense elements on a GPU.
    pub fn of_device(buffer: DeviceBuffer, shape: [usize; 4], dtype: DType) -> Self {
        let (address, device) = (buffer.address() as usize, buffer.device().id());
        let owner = OfProcess::new(Owner::Device(buffer));
        Self { owner, address, shape: shape.to_vec(), strides: dense(&shape), dtype, device, is_writable: true, has_writer: None }
    }

    /// A plane in its own layout: rows of bytes at a pitch.
    pub fn of_plane(surface: &HostSurface, plane: usize) -> Self {
        Self::of_host_plane(surface, plane, surface.plane(plane).as_ptr().expose_provenance(), false)
    }

    /// All planes, for writing; `None` if the frame has other holders.
    pub fn of_writable_planes(surface: &mut HostSurface) -> Option<Vec<Self>> {
        let count = surface.format().planes();
        let mut planes = surface.planes_mut()?;
        let addresses: Vec<usize> = (0..count).map(|plane| planes.plane(plane).as_mut_ptr().expose_provenance()).collect();
        Some(addresses.into_iter().enumerate().map(|(plane, address)| Self::of_host_plane(surface, plane, address, true)).collect())
    }

    fn of_host_plane(surface: &HostSurface, plane: usize, address: usize, is_writable: bool) -> Self {
        let layout = surface.layout(plane);
        let owner = OfProcess::new(Owner::Plane { _kept: surface.clone() });
        let (shape, strides) = (vec![layout.rows, layout.row_bytes], vec![layout.pitch_bytes, 1]);
        Self { owner, address, shape, strides, dtype: DType::U8, device: Device::Cpu, is_writable, has_writer: None }
    }

    /// A GPU plane in its own layout; `None` for a surface without planes.
    pub fn of_gpu_plane(surface: &Arc<dyn DeviceSurface>, plane: usize, is_writable: bool) -> Option<Self> {
        let kept = Surface::Device(Arc::clone(surface));
        let image = CudaSurface::of(&kept)?;
        let (layout, address, device) = (image.layout(plane), image.plane_address(plane) as usize, image.cuda_device().id());
        let (shape, strides) = (vec![layout.rows, layout.row_bytes], vec![layout.pitch_bytes, 1]);
        let has_writer = is_writable.then(AtomicBool::default);
        Some(Self {
            owner: OfProcess::new(Owner::GpuPlane(kept)),
            address,
            shape,
            strides,
            dtype: DType::U8,
            device,
            is_writable,
            has_writer,
        })
    }

    /// One entry of the first axis, in the same memory; `None` beyond the last and without axes.
    pub fn entry(self: &Arc<Self>, at: usize) -> Option<Self> {
        let (length, stride) = (*self.shape.first()?, *self.strides.first()?);
        (at < length).then(|| Self {
            owner: OfProcess::new(Owner::Part(Arc::clone(self))),
            address: self.address + at * stride * self.dtype.size_bytes(),
            shape: self.shape[1..].to_vec(),
            strides: self.strides[1..].to_vec(),
            dtype: self.dtype,
            device: self.device,
            is_writable: self.is_writable,
            has_writer: None,
        })
    }

    /// The bytes that [`Memory::of_bytes`] was given.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self.owner.into_inner()? {
            Owner::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A copy of the bytes that [`Memory::of_bytes`] was given, if they have other holders.
    pub fn copied_bytes(&self) -> Option<Vec<u8>> {
        match self.owner.get() {
            Ok(Owner::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        }
    }

    /// The same elements in other bytes on the host: as many as [`Memory::span_bytes`].
    pub fn with_bytes(&self, mut bytes: Vec<u8>) -> Self {
        let address = bytes.as_mut_ptr().expose_provenance();
        self.with_owner(Owner::Bytes(bytes), address, Device::Cpu)
    }

    /// The same elements in other GPU memory: as many bytes as [`Memory::span_bytes`].
    pub fn with_buffer(&self, buffer: DeviceBuffer) -> Self {
        let (address, device) = (buffer.address() as usize, buffer.device().id());
        self.with_owner(Owner::Device(buffer), address, device)
    }

    fn with_owner(&self, owner: Owner, address: usize, device: Device) -> Self {
        let (shape, strides) = (self.shape.clone(), self.strides.clone());
        Self { owner: OfProcess::new(owner), address, shape, strides, dtype: self.dtype, device, is_writable: true, has_writer: None }
    }

    /// Bytes from the first element to the end of the last.
    pub fn span_bytes(&self) -> usize {
        if self.shape.contains(&0) {
            return 0;
        }
        let last: usize = self.shape.iter().zip(&self.strides).map(|(length, stride)| (length - 1) * stride).sum();
        (last + 1) * self.dtype.size_bytes()
    }

    /// Records that a consumer takes a writable GPU plane; `false` for other memory.
    pub fn note_writer(&self) -> bool {
        if let Ok(Owner::Part(whole)) = self.owner.get() {
            return whole.note_writer();
        }
        self.has_writer.as_ref().map(|has_writer| has_writer.store(true, Ordering::Release)).is_some()
    }

    /// Marks the end of the writes queued by consumers, so that others can use the plane after it.
    ///
    /// # Errors
    /// `Driver`.
    pub fn end_writes(&self) -> Result<(), CudaError> {
        let was_written = self.has_writer.as_ref().is_some_and(|has_writer| has_writer.swap(false, Ordering::AcqRel));
        match self.device_buffer() {
            Some(buffer) if was_written => buffer.end_foreign_use(true),
            _ => Ok(()),
        }
    }

    /// Whether the elements are contiguous.
    pub fn is_dense(&self) -> bool {
        self.strides == dense(&self.shape)
    }

    pub fn address(&self) -> usize {
        self.address
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// The GPU memory, in the process that created it.
    pub fn device_buffer(&self) -> Option<&DeviceBuffer> {
        match self.owner.get() {
            Ok(Owner::Batch(reader::Tensor::Cuda(tensor))) => Some(tensor.buffer()),
            Ok(Owner::Device(buffer)) => Some(buffer),
            Ok(Owner::GpuPlane(surface)) => CudaSurface::of(surface).map(CudaSurface::buffer),
            Ok(Owner::Part(whole)) => whole.device_buffer(),
            _ => None,
        }
    }

    fn is_here(&self) -> bool {
        self.owner.is_here()
    }
}

/// Elements in framerail's memory, for `numpy.asarray`, `torch.from_dlpack` and every other library that supports DLPack.
///
/// The memory is kept, and not written, as long as this object or an array made from it exists.
#[pyclass(frozen, module = "framerail._framerail")]
pub struct Tensor {
    memory: Arc<Memory>,
}

impl Tensor {
    pub fn new(memory: Memory) -> Self {
        Self::of(Arc::new(memory))
    }

    pub fn of(memory: Arc<Memory>) -> Self {
        Self { memory }
    }
}

#[pymethods]
impl Tensor {
    /// Lengths of the axes.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.memory.shape())
    }

    /// Name of the elements' type.
    #[getter]
    fn dtype(&self) -> &'static str {
        dtype_name(self.memory.dtype())
    }

    /// `cpu` or `cuda:N`.
    #[getter]
    fn device(&self) -> String {
        self.memory.device().to_string()
    }

    /// Address of the first element, on the device.
    #[getter]
    fn address(&self) -> usize {
        self.memory.address()
    }

    /// See the array API standard.
    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<isize>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.memory.device() != Device::Cpu && !self.memory.is_here() {
            return Err(PyBufferError::new_err("GPU memory cannot be used in a forked process; use the start method 'spawn'"));
        }
        dlpack::capsule(py, &self.memory, Request { stream, max_version, device: dl_device, copy })
    }

    /// Copies dense GPU memory to an array of the same shape and type on the same GPU, ordered on the stream on which the array's owner
    /// uses it, numbered as in the array API standard.
    fn copy_to(&self, py: Python<'_>, out: &Bound<'_, PyAny>, stream: isize) -> PyResult<()> {
        let memory = &self.memory;
        let whole = memory.device_buffer();
        let Some(buffer) = whole.filter(|buffer| memory.is_dense() && memory.address() == buffer.address() as usize) else {
            return Err(PyBufferError::new_err("copy_to() is for dense GPU memory, in the process that created it"));
        };
        let target = Foreign::of(out, memory.shape(), memory.dtype(), memory.device(), stream, "out")?;
        target.copy_from(buffer.device(), buffer).map_err(|error| errors::cuda(py, &error))
    }

    /// Kind and number of the device in DLPack's numbering.
    fn __dlpack_device__(&self) -> (i32, i32) {
        dlpack::device_pair(self.memory.device())
    }

    /// For `numpy.asarray`, on the host.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = &self.memory;
        let name = match memory.dtype() {
            _ if memory.device() != Device::Cpu => {
                return Err(PyAttributeError::new_err(format!("the memory is on {}; NumPy can only use host memory", memory.device())));
            }
            DType::Bf16 => return Err(PyAttributeError::new_err("NumPy has no bfloat16; pass it to another library through DLPack")),
            DType::U8 => "|u1",
            DType::U16 => "<u2",
            DType::F16 => "<f2",
            _ => "<f4",
        };
        let size = memory.dtype().size_bytes();
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", name)?;
        interface.set_item("shape", PyTuple::new(py, memory.shape())?)?;
        interface.set_item("strides", PyTuple::new(py, memory.strides().iter().map(|stride| stride * size))?)?;
        interface.set_item("data", (memory.address(), !memory.is_writable()))?;
        Ok(interface)
    }

    /// One entry of the first axis, in the same memory; negative numbers count from the end.
    fn __getitem__(&self, index: isize) -> PyResult<Self> {
        let length = self.memory.shape().first().copied().unwrap_or(0);
        let at = if index < 0 { index.checked_add_unsigned(length) } else { Some(index) };
        let entry = at.and_then(|at| usize::try_from(at).ok()).and_then(|at| self.memory.entry(at));
        entry.map(Self::new).ok_or_else(|| PyIndexError::new_err(format!("entry {index} of {length} does not exist")))
    }

    fn __len__(&self) -> usize {
        self.memory.shape().first().copied().unwrap_or(0)
    }

    fn __repr__(&self) -> String {
        format!("Tensor({:?}, {}, {})", self.memory.shape(), self.dtype(), self.memory.device())
    }
}
