//! Memory exchanged with other libraries without a copy: the DLPack protocol, and addresses for NumPy.
//!
//! The only file of this crate with `unsafe`. Source: DLPack 1.1 (`dlpack.h`), and the Python array API standard, "data
//! interchange mechanisms".
#![expect(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, c_void},
    ptr, slice,
    sync::Arc,
};

use framerail::{
    core::{AugmentParams, AugmentSpec, DType, Device},
    cuda::{CudaDevice, CudaError, CudaStream, DeviceBuffer, DevicePool, kernels::augment_foreign},
    reader::ClipMemory,
};
use parking_lot::Mutex;
use pyo3::{
    exceptions::{PyBufferError, PyValueError},
    ffi,
    prelude::*,
    types::PyDict,
};

use crate::{background, errors, tensor::Memory};

const CPU: i32 = 1;
const CUDA: i32 = 2;
const CUDA_HOST: i32 = 3;

const INT: u8 = 0;
const UINT: u8 = 1;
const FLOAT: u8 = 2;
const BFLOAT: u8 = 4;

const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;
/// The version of the structures below. A consumer may ignore what it does not know, such as a later minor version.
const VERSION: (u32, u32) = (1, 1);

/// Device memory kept for results between calls.
const KEPT_BYTES: usize = 256 << 20;

const LEGACY: &CStr = c"dltensor";
const VERSIONED: &CStr = c"dltensor_versioned";
const USED: &CStr = c"used_dltensor";

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DlDevice {
    kind: i32,
    ordinal: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DlType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device: DlDevice,
    axes: i32,
    dtype: DlType,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

#[repr(C)]
struct Managed {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
}

#[repr(C)]
struct ManagedVersioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut ManagedVersioned)>,
    flags: u64,
    tensor: DlTensor,
}

/// A consumer's reference.
struct Holder {
    shape: Vec<i64>,
    strides: Vec<i64>,
    memory: Arc<Memory>,
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The memory must not be written again before the work that the consumer has queued on any stream: those that it named may be
        // gone.
        if let Some(buffer) = self.memory.device_buffer()
            && let Err(error) = buffer.end_foreign_use(false)
        {
            log::debug!("a tensor's last use on the GPU could not be recorded: {error}");
        }
    }
}

impl Holder {
    /// The description of a tensor, valid as long as this value does not move.
    fn tensor(&mut self) -> DlTensor {
        let device = match self.memory.device() {
            Device::Cpu => DlDevice { kind: CPU, ordinal: 0 },
            Device::Cuda(ordinal) => DlDevice { kind: CUDA, ordinal: ordinal as i32 },
        };
        DlTensor {
            data: ptr::with_exposed_provenance_mut(self.memory.address()),
            device,
            axes: self.shape.len() as i32,
            dtype: dl_type(self.memory.dtype()),
            shape: self.shape.as_mut_ptr(),
            strides: self.strides.as_mut_ptr(),
            byte_offset: 0,
        }
    }
}

fn dl_type(dtype: DType) -> DlType {
    let code = match dtype {
        DType::U8 | DType::U16 => UINT,
        DType::Bf16 => BFLOAT,
        _ => FLOAT,
    };
    DlType { code, bits: 8 * dtype.size_bytes() as u8, lanes: 1 }
}

/// The pair that `__dlpack_device__` returns.
pub fn device_pair(device: Device) -> (i32, i32) {
    match device {
        Device::Cpu => (CPU, 0),
        Device::Cuda(ordinal) => (CUDA, ordinal as i32),
    }
}

/// A consumer's request to `__dlpack__`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// Stream number as in the array API standard; `None` is the legacy default stream, -1 asks for no ordering.
    pub stream: Option<isize>,
    /// The latest version of DLPack that the consumer supports; `None` before version 1.
    pub max_version: Option<(u32, u32)>,
    /// Kind and number of the requested device.
    pub device: Option<(i32, i32)>,
    /// Whether it must, or must not, be a copy.
    pub copy: Option<bool>,
}

/// A capsule over memory, which it keeps alive, or over a copy if that was requested or is needed.
///
/// # Errors
/// `BufferError` where the consumer cannot be given it, `framerail.CudaError`.
pub fn capsule<'py>(py: Python<'py>, memory: &Arc<Memory>, request: Request) -> PyResult<Bound<'py, PyAny>> {
    let is_versioned = request.max_version.is_some_and(|(major, _)| major >= VERSION.0);
    let here = device_pair(memory.device());
    let to_host = match request.device {
        Some(wanted) if wanted != here && wanted.0 != CPU => {
            return Err(PyBufferError::new_err(format!("the memory is on {}; copy it with your library", memory.device())));
        }
        Some(wanted) => wanted != here && here.0 != CPU,
        None => false,
    };
    // Consumers that do not get or keep the read-only flag receive a copy, so that their writes are not visible to others.
    let is_flag_lost = !memory.is_writable() && (!is_versioned || is_called_by_torch(py));
    let needs_copy = to_host || is_flag_lost;
    if needs_copy && request.copy == Some(false) {
        let reason = if to_host { "is on another device" } else { "is read-only, which this consumer does not support" };
        return Err(PyBufferError::new_err(format!("the memory {reason}, so it has to be copied; allow copies")));
    }
    if needs_copy || request.copy == Some(true) {
        let copy = py.detach(|| copied(memory, to_host)).map_err(|error| errors::cuda(py, &error))?;
        return capsule_of(py, &Arc::new(copy), request.stream, is_versioned, IS_COPIED);
    }
    capsule_of(py, memory, request.stream, is_versioned, if memory.is_writable() { 0 } else { READ_ONLY })
}

/// Whether the calling Python function is PyTorch's: it supports DLPack 1 and drops the read-only flag, because it has no read-only
/// tensors.
fn is_called_by_torch(py: Python<'_>) -> bool {
    let name = || -> PyResult<String> {
        let frame = py.import("sys")?.call_method1("_getframe", (0,))?;
        frame.getattr("f_globals")?.get_item("__name__")?.extract()
    };
    name().is_ok_and(|name| name == "torch" || name.starts_with("torch."))
}

/// The same elements with the same strides in other memory, on the same device or on the host.
fn copied(memory: &Memory, to_host: bool) -> Result<Memory, CudaError> {
    let Some(buffer) = memory.device_buffer() else {
        // SAFETY: the elements lie within memory that is kept, and is initialised from the first to the last of them, padding included.
        let bytes = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance::<u8>(memory.address()), memory.span_bytes()) };
        return Ok(memory.with_bytes(bytes.to_vec()));
    };
    let (stream, offset) = (CudaStream::new(buffer.device())?, memory.address() - buffer.address() as usize);
    if to_host {
        let mut bytes = vec![0; memory.span_bytes()];
        buffer.download(offset, &mut bytes, &stream)?;
        return Ok(memory.with_bytes(bytes));
    }
    let copy = pool(buffer.device())?.buffer(memory.span_bytes())?;
    copy.copy_from(0, buffer, offset, memory.span_bytes(), &stream)?;
    Ok(memory.with_buffer(copy))
}

fn capsule_of<'py>(
    py: Python<'py>,
    memory: &Arc<Memory>,
    stream: Option<isize>,
    is_versioned: bool,
    flags: u64,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(buffer) = memory.device_buffer() {
        begin_use(buffer, memory, stream).map_err(|error| errors::cuda(py, &error))?;
    }
    let shape = memory.shape().iter().map(|length| *length as i64).collect();
    let strides = memory.strides().iter().map(|stride| *stride as i64).collect();
    let mut holder = Box::new(Holder { shape, strides, memory: Arc::clone(memory) });
    let tensor = holder.tensor();
    let context = Box::into_raw(holder).cast();
    let capsule = if is_versioned {
        let managed = ManagedVersioned { major: VERSION.0, minor: VERSION.1, context, deleter: Some(delete_versioned), flags, tensor };
        let managed = Box::into_raw(Box::new(managed));
        // SAFETY: a live pointer, a static name, and a destructor for what stays unused.
        unsafe { ffi::PyCapsule_New(managed.cast(), VERSIONED.as_ptr(), Some(drop_unused)) }
    } else {
        let managed = Box::into_raw(Box::new(Managed { tensor, context, deleter: Some(delete) }));
        // SAFETY: as above.
        unsafe { ffi::PyCapsule_New(managed.cast(), LEGACY.as_ptr(), Some(drop_unused)) }
    };
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// Makes the consumer's stream wait for work queued on the buffer: for its last write, or, if it may be written, for all work.
fn begin_use(buffer: &DeviceBuffer, memory: &Memory, stream: Option<isize>) -> Result<(), CudaError> {
    let may_write = memory.note_writer();
    if stream == Some(-1) {
        return Ok(());
    }
    let handle = stream.and_then(|handle| usize::try_from(handle).ok()).unwrap_or(1).max(1);
    // SAFETY: by the protocol a stream of this device's primary context, which exists while its owner makes this call.
    let consumer = unsafe { CudaStream::foreign(buffer.device(), handle) };
    if may_write { buffer.begin_write(&consumer) } else { buffer.begin_read(&consumer) }.map(drop)
}

unsafe extern "C" fn delete(managed: *mut Managed) {
    // SAFETY: made by `capsule` as two boxes; consumers call this once.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.context.cast::<Holder>()));
    }
}

unsafe extern "C" fn delete_versioned(managed: *mut ManagedVersioned) {
    // SAFETY: as in `delete`.
    unsafe {
        let managed = Box::from_raw(managed);
        drop(Box::from_raw(managed.context.cast::<Holder>()));
    }
}

/// Destroys a capsule whose tensor was not consumed: a consumer renames the capsule.
unsafe extern "C" fn drop_unused(capsule: *mut ffi::PyObject) {
    // SAFETY: Python passes the live capsule with the GIL held; a pointer is taken only under the name it was made with.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, LEGACY.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, LEGACY.as_ptr()).cast());
        } else if ffi::PyCapsule_IsValid(capsule, VERSIONED.as_ptr()) == 1 {
            delete_versioned(ffi::PyCapsule_GetPointer(capsule, VERSIONED.as_ptr()).cast());
        }
    }
}

/// Dense memory of another library: the target of `out=`, or frames to process.
pub struct Foreign {
    managed: *mut Managed,
    bytes: usize,
    device: DlDevice,
    /// Stream of the library that owns GPU memory, for our copy.
    stream: isize,
}

// SAFETY: the pointer is owned, and its deleter may be called from any thread by the protocol.
unsafe impl Send for Foreign {}
// SAFETY: shared use only reads the description and the elements.
unsafe impl Sync for Foreign {}

impl Foreign {
    /// Takes an array of exactly this shape and type.
    ///
    /// # Errors
    /// `ValueError` for anything else: shape, type, strides, device, read-only memory.
    pub fn of(object: &Bound<'_, PyAny>, shape: &[usize], dtype: DType, device: Device, stream: isize, option: &str) -> PyResult<Self> {
        let py = object.py();
        let bad = |what: &str| PyValueError::new_err(format!("option '{option}': {what}"));
        let options = PyDict::new(py);
        if device != Device::Cpu {
            // PyTorch's own stream needs no ordering with itself; if it is passed, PyTorch checks the current device's streams.
            let is_torch = object.get_type().module().is_ok_and(|module| module.to_string().starts_with("torch"));
            options.set_item("stream", if is_torch { -1 } else { stream })?;
        }
        let given = object
            .call_method("__dlpack__", (), Some(&options))
            .map_err(|error| bad(&format!("needs a writable array or tensor that supports DLPack ({})", error.value(py))))?;
        // SAFETY: retrieved under the name of an unused capsule; the name is changed at once, so that we own the tensor.
        let managed: *mut Managed = unsafe {
            if ffi::PyCapsule_IsValid(given.as_ptr(), LEGACY.as_ptr()) != 1 {
                return Err(bad("did not return a DLPack tensor"));
            }
            let managed = ffi::PyCapsule_GetPointer(given.as_ptr(), LEGACY.as_ptr()).cast();
            if ffi::PyCapsule_SetName(given.as_ptr(), USED.as_ptr()) != 0 {
                return Err(PyErr::fetch(py));
            }
            managed
        };
        // SAFETY: a live tensor by the protocol.
        let tensor = unsafe { &(*managed).tensor };
        let bytes = shape.iter().product::<usize>() * dtype.size_bytes();
        // From here on, dropping releases it.
        let target = Self { managed, bytes, device: tensor.device, stream };
        // SAFETY: as above; shape and strides have that many entries.
        unsafe { check(tensor, shape, dtype, device) }.map_err(|what| bad(&what))?;
        Ok(target)
    }

    fn address(&self) -> usize {
        // SAFETY: a live tensor until we are dropped.
        let tensor = unsafe { &(*self.managed).tensor };
        tensor.data.expose_provenance() + tensor.byte_offset as usize
    }

    /// Address and length of host memory; `None` for GPU memory.
    fn host(&self) -> Option<(*mut u8, usize)> {
        let address: *mut u8 = ptr::with_exposed_provenance_mut(self.address());
        let is_host = matches!(self.device.kind, CPU | CUDA_HOST);
        (is_host && self.bytes > 0 && !address.is_null()).then_some((address, self.bytes))
    }

    /// The bytes for writing; none for GPU memory.
    pub fn host_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: a dense tensor of that many bytes by its shape and strides, alive until we are dropped, and given to be written.
        self.host().map_or(&mut [], |(address, bytes)| unsafe { slice::from_raw_parts_mut(address, bytes) })
    }

    /// The bytes; none for GPU memory.
    pub fn host_bytes(&self) -> &[u8] {
        // SAFETY: as above; the caller ensures that nothing writes meanwhile, as with every library that releases the GIL.
        self.host().map_or(&[], |(address, bytes)| unsafe { slice::from_raw_parts(address, bytes) })
    }

    /// The stream on which the caller uses GPU memory.
    fn stream_on(&self, device: &Arc<CudaDevice>) -> CudaStream {
        let handle = usize::try_from(self.stream).unwrap_or(1).max(1);
        // SAFETY: the stream that the caller uses on this device, named by its library for this call.
        unsafe { CudaStream::foreign(device, handle) }
    }

    /// Copies from the start of GPU memory, on the stream of the array's owner.
    ///
    /// # Errors
    /// `Driver`.
    pub fn copy_from(&self, device: &Arc<CudaDevice>, buffer: &DeviceBuffer) -> Result<(), CudaError> {
        let stream = self.stream_on(device);
        // SAFETY: a dense tensor of that many bytes on this GPU; its uses are ordered on the caller's stream.
        unsafe { buffer.copy_to_foreign(0, self.address() as u64, self.bytes, &stream) }
    }
}

impl Foreign {
    /// Consecutive parts of equal length of GPU memory, for decoders to write after work queued on the owner's stream.
    ///
    /// # Errors
    /// `NoDriver`, `NoDevice`, `Driver`.
    pub fn into_buffers(self, count: usize) -> Result<Vec<DeviceBuffer>, CudaError> {
        let device = CudaDevice::open(u32::try_from(self.device.ordinal).unwrap_or(0))?;
        let ready = self.stream_on(&device).record()?;
        let (start, bytes) = (self.address() as u64, self.bytes / count.max(1));
        let whole = Arc::new(self);
        let part = |number: usize| {
            let place = (start + (number * bytes) as u64, bytes);
            // SAFETY: within a dense tensor on this GPU, which the kept value holds; parts do not overlap, and its owner passed it for writing.
            unsafe { DeviceBuffer::foreign(&device, place, ready.clone(), Box::new(Arc::clone(&whole))) }
        };
        Ok((0..count).map(part).collect())
    }
}

/// Makes a stream of the memory's owner wait until it is written.
///
/// # Errors
/// `Driver`.
pub fn order_behind(buffer: &DeviceBuffer, stream: isize) -> Result<(), CudaError> {
    let handle = usize::try_from(stream).unwrap_or(1).max(1);
    // SAFETY: the stream that the caller uses on this device, named by its library for this call.
    let stream = unsafe { CudaStream::foreign(buffer.device(), handle) };
    buffer.begin_read(&stream).map(drop)
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // SAFETY: the tensor is ours since its capsule was renamed; its deleter is called once. It may touch Python.
        let delete = || unsafe {
            if let Some(deleter) = (*self.managed).deleter {
                deleter(self.managed);
            }
        };
        Python::try_attach(|_| delete());
    }
}

/// One of equal parts of another library's host memory, for one thread to write.
pub struct ForeignPart {
    whole: Arc<Foreign>,
    start: usize,
    bytes: usize,
}

impl Foreign {
    /// This many consecutive parts of equal length; empty for GPU memory.
    pub fn into_parts(self, count: usize) -> Vec<ForeignPart> {
        let bytes = self.host().map_or(0, |(_, bytes)| bytes / count.max(1));
        let whole = Arc::new(self);
        (0..count).map(|part| ForeignPart { whole: Arc::clone(&whole), start: part * bytes, bytes }).collect()
    }
}

impl ClipMemory for ForeignPart {
    fn bytes_mut(&mut self) -> &mut [u8] {
        let Some((address, _)) = self.whole.host().filter(|_| self.bytes > 0) else { return &mut [] };
        // SAFETY: within the dense tensor, which is alive until the last part is dropped and given to be written; parts do not overlap, and
        // none can be made but by `into_parts`, which takes the whole.
        unsafe { slice::from_raw_parts_mut(address.add(self.start), self.bytes) }
    }
}

/// Makes PyTorch release its cached device memory, if it is in use, before framerail fails for lack of memory.
pub fn empty_torch_cache(_device: u32) {
    background::call(|py| {
        let given_back = || -> PyResult<()> {
            let modules = py.import("sys")?.getattr("modules")?;
            let Some(torch) = modules.cast::<PyDict>()?.get_item("torch")? else { return Ok(()) };
            let cuda = torch.getattr("cuda")?;
            if cuda.call_method0("is_initialized")?.is_truthy()? {
                cuda.call_method0("empty_cache")?;
            }
            Ok(())
        };
        if let Err(error) = given_back() {
            log::debug!("PyTorch's memory was not given back: {error}");
        }
    });
}

/// Memory of results on GPUs, kept for the next ones.
pub fn pool(device: &Arc<CudaDevice>) -> Result<DevicePool, CudaError> {
    static POOLS: Mutex<BTreeMap<u32, DevicePool>> = Mutex::new(BTreeMap::new());
    let mut pools = POOLS.lock();
    if let Some(pool) = pools.get(&device.info().ordinal) {
        return Ok(pool.clone());
    }
    let pool = DevicePool::new(device, KEPT_BYTES)?;
    pools.insert(device.info().ordinal, pool.clone());
    Ok(pool)
}

/// Augments frames on their GPU, queued on their owner's stream.
///
/// # Errors
/// As [`augment_foreign`].
pub fn augment(spec: &AugmentSpec, params: &[AugmentParams], images: &Foreign) -> Result<DeviceBuffer, CudaError> {
    let device = CudaDevice::open(u32::try_from(images.device.ordinal).unwrap_or(0))?;
    let (pool, stream) = (pool(&device)?, images.stream_on(&device));
    let buffer = pool.buffer(spec.output.image_bytes() * params.len())?;
    let (input, output) = (images.address() as u64, buffer.begin_write(&stream)?);
    // SAFETY: dense batches with an image for each set of parameters, by their shapes; ordered on the caller's stream.
    unsafe { augment_foreign(&stream, &pool, spec, params, input, output)? };
    buffer.end_write(&stream)?;
    Ok(buffer)
}

/// Whether a tensor is dense and of this shape, type and device.
///
/// # Safety
/// Shape and strides have as many entries as there are axes.
unsafe fn check(tensor: &DlTensor, shape: &[usize], dtype: DType, device: Device) -> Result<(), String> {
    let axes = usize::try_from(tensor.axes).unwrap_or(0);
    let list = |entries: *const i64| {
        // SAFETY: by this function's contract.
        if entries.is_null() || axes == 0 { Vec::new() } else { unsafe { slice::from_raw_parts(entries, axes) }.to_vec() }
    };
    let (have, strides) = (list(tensor.shape), list(tensor.strides));
    let need: Vec<i64> = shape.iter().map(|length| *length as i64).collect();
    if have != need {
        return Err(format!("has shape {have:?}; these frames need {need:?}"));
    }
    if tensor.dtype != dl_type(dtype) {
        let name = match tensor.dtype.code {
            INT => "int",
            UINT => "uint",
            FLOAT => "float",
            BFLOAT => "bfloat",
            _ => "another type of ",
        };
        let wanted = crate::options::dtype_name(dtype);
        return Err(format!("has elements of {name}{} bits; these frames need {wanted}", tensor.dtype.bits));
    }
    let (kind, ordinal) = device_pair(device);
    let is_host = kind == CPU && tensor.device.kind == CUDA_HOST;
    if !is_host && tensor.device != (DlDevice { kind, ordinal: if kind == CPU { tensor.device.ordinal } else { ordinal } }) {
        return Err(format!("is on another device than the frames, which are on {device}"));
    }
    let mut dense = 1;
    for (length, stride) in need.iter().zip(&strides).rev() {
        if *length > 1 && *stride != dense {
            return Err("is not contiguous; give a dense array in C order".into());
        }
        dense *= length;
    }
    Ok(())
}
