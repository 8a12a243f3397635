//! Memory of frames as Python sees it.

use std::sync::Arc;

use framerail::{
    core::{DType, Device, DeviceSurface, HostSurface, Surface},
    cuda::{CudaError, CudaStream, CudaSurface, DeviceBuffer},
    reader,
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyAttributeError, PyBufferError},
    prelude::*,
    types::{PyDict, PyTuple},
};

use crate::{
    dlpack::{self, Request},
    fork::OfProcess,
    options::dtype_name,
};

/// What keeps the memory.
enum Owner {
    /// A reader's batch: goes back to its pool.
    Batch(reader::Tensor),
    /// Memory of a card.
    Device(DeviceBuffer),
    /// Memory of our own.
    Bytes(Vec<u8>),
    /// A plane of a picture that others may hold too.
    Plane { _kept: HostSurface },
    /// The same on a card.
    CardPlane(Surface),
}

/// Elements in memory that is kept until nobody holds this.
pub struct Memory {
    owner: OfProcess<Owner>,
    address: usize,
    shape: Vec<usize>,
    /// In elements.
    strides: Vec<usize>,
    dtype: DType,
    device: Device,
    is_writable: bool,
    /// Streams on which consumers write to a plane of a card, until [`Memory::end_writes`]. `None` where they only read.
    written_on: Option<Mutex<Vec<CudaStream>>>,
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
        Self { owner: OfProcess::new(Owner::Batch(tensor)), address, shape, strides, dtype, device, is_writable: true, written_on: None }
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
            written_on: None,
        }
    }

    /// Dense elements on a card.
    pub fn of_device(buffer: DeviceBuffer, shape: [usize; 4], dtype: DType) -> Self {
        let (address, device) = (buffer.address() as usize, buffer.device().id());
        let owner = OfProcess::new(Owner::Device(buffer));
        Self { owner, address, shape: shape.to_vec(), strides: dense(&shape), dtype, device, is_writable: true, written_on: None }
    }

    /// A plane as it lies: rows of bytes, with the pitch between them.
    pub fn of_plane(surface: &HostSurface, plane: usize) -> Self {
        Self::of_host_plane(surface, plane, surface.plane(plane).as_ptr().expose_provenance(), false)
    }

    /// All planes, to be written; `None` when others hold the picture too.
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
        Self { owner, address, shape, strides, dtype: DType::U8, device: Device::Cpu, is_writable, written_on: None }
    }

    /// A plane on a card as it lies; `None` for what is no picture.
    pub fn of_card_plane(surface: &Arc<dyn DeviceSurface>, plane: usize, is_writable: bool) -> Option<Self> {
        let kept = Surface::Device(Arc::clone(surface));
        let picture = CudaSurface::of(&kept)?;
        let (layout, address, device) = (picture.layout(plane), picture.plane_address(plane) as usize, picture.cuda_device().id());
        let (shape, strides) = (vec![layout.rows, layout.row_bytes], vec![layout.pitch_bytes, 1]);
        let written_on = is_writable.then(Mutex::default);
        Some(Self {
            owner: OfProcess::new(Owner::CardPlane(kept)),
            address,
            shape,
            strides,
            dtype: DType::U8,
            device,
            is_writable,
            written_on,
        })
    }

    /// The bytes that [`Memory::of_bytes`] was given.
    pub fn into_bytes(self) -> Option<Vec<u8>> {
        match self.owner.into_inner()? {
            Owner::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Where consumers write: their streams are noted here.
    pub fn written_on(&self) -> Option<&Mutex<Vec<CudaStream>>> {
        self.written_on.as_ref()
    }

    /// Marks the end of what consumers have queued that writes, so that others may use the plane behind it.
    ///
    /// # Errors
    /// `Driver`.
    pub fn end_writes(&self) -> Result<(), CudaError> {
        let Some(streams) = &self.written_on else { return Ok(()) };
        let mut streams = std::mem::take(&mut *streams.lock());
        let (Some(last), Some(buffer)) = (streams.pop(), self.device_buffer()) else { return Ok(()) };
        for other in &streams {
            last.wait(&other.record()?)?;
        }
        buffer.end_write(&last)
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

    /// The memory of a card, in the process that made it.
    pub fn device_buffer(&self) -> Option<&DeviceBuffer> {
        match self.owner.get() {
            Ok(Owner::Batch(reader::Tensor::Cuda(tensor))) => Some(tensor.buffer()),
            Ok(Owner::Device(buffer)) => Some(buffer),
            Ok(Owner::CardPlane(surface)) => CudaSurface::of(surface).map(CudaSurface::buffer),
            _ => None,
        }
    }

    fn is_here(&self) -> bool {
        self.owner.is_here()
    }
}

/// Elements in memory of framerail, for `numpy.asarray`, `torch.from_dlpack` and every other library that speaks DLPack.
///
/// The memory is kept as long as this object or an array made of it is held, and not written meanwhile.
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
        if dl_device.is_some_and(|wanted| wanted != dlpack::device_pair(self.memory.device())) {
            return Err(PyBufferError::new_err(format!("the memory lies on {}, copy it with your library", self.memory.device())));
        }
        if copy == Some(true) {
            return Err(PyBufferError::new_err("memory is handed over as it is; copy it with your library"));
        }
        if self.memory.device() != Device::Cpu && !self.memory.is_here() {
            return Err(PyBufferError::new_err(
                "memory of a card cannot be used in a process that was forked; use the start method 'spawn'",
            ));
        }
        let is_versioned = max_version.is_some_and(|(major, _)| major >= 1);
        dlpack::capsule(py, &self.memory, Request { stream, is_versioned })
    }

    /// Kind and number of the device, as DLPack counts them.
    fn __dlpack_device__(&self) -> (i32, i32) {
        dlpack::device_pair(self.memory.device())
    }

    /// For `numpy.asarray`, on the host.
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let memory = &self.memory;
        let name = match memory.dtype() {
            _ if memory.device() != Device::Cpu => {
                return Err(PyAttributeError::new_err(format!("the memory lies on {}; NumPy reads the host's only", memory.device())));
            }
            DType::Bf16 => return Err(PyAttributeError::new_err("NumPy has no bfloat16; take it with another library by DLPack")),
            DType::U8 => "|u1",
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

    fn __len__(&self) -> usize {
        self.memory.shape().first().copied().unwrap_or(0)
    }

    fn __repr__(&self) -> String {
        format!("Tensor({:?}, {}, {})", self.memory.shape(), self.dtype(), self.memory.device())
    }
}
