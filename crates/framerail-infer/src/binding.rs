//! Binds model inputs and outputs to memory that this crate owns, on the host or a GPU. The only file of this crate with `unsafe`.
//!
//! ort's safe `bind_input` cannot be given borrowed memory: it clones such a tensor by running a session that is locked already,
//! and deadlocks. So tensors are made and bound through ONNX Runtime's C interface here.
#![allow(unsafe_code, reason = "ONNX Runtime takes addresses")]

use std::{ffi::CString, ptr::NonNull};

use framerail_cuda::{CudaStream, DeviceBuffer};
use ort::{
    AsPointer,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, NoSelectedOutputs, RunOptions, Session, SessionOutputs},
    sys::{ONNXTensorElementDataType as SysElement, OrtValue},
};

use crate::{
    element::{Element, Elements},
    more_inputs::FilledInput,
};

/// Memory of a tensor.
pub(crate) enum Memory {
    Host(Elements),
    Device(DeviceBuffer),
}

impl Memory {
    fn start(&mut self) -> *mut std::ffi::c_void {
        match self {
            Memory::Host(Elements::F32(elements)) => elements.as_mut_ptr().cast(),
            Memory::Host(Elements::F16(elements)) => elements.as_mut_ptr().cast(),
            Memory::Host(Elements::U8(elements)) => elements.as_mut_ptr().cast(),
            Memory::Host(Elements::Bool(elements)) => elements.as_mut_ptr().cast(),
            Memory::Host(Elements::I32(elements)) => elements.as_mut_ptr().cast(),
            Memory::Host(Elements::I64(elements)) => elements.as_mut_ptr().cast(),
            Memory::Device(buffer) => std::ptr::with_exposed_provenance_mut(buffer.address() as usize),
        }
    }

    fn len_bytes(&self) -> usize {
        match self {
            Memory::Host(elements) => elements.len_bytes(),
            Memory::Device(buffer) => buffer.len(),
        }
    }

    fn info(&self) -> ort::Result<MemoryInfo<'static>> {
        let (device, number) = match self {
            Memory::Host(_) => (AllocationDevice::CPU, 0),
            Memory::Device(buffer) => (AllocationDevice::CUDA, buffer.device().info().ordinal),
        };
        MemoryInfo::new(device, i32::try_from(number).unwrap_or(0), AllocatorType::Device, MemoryType::Default)
    }

    /// The buffer, if it is on the GPU.
    pub(crate) fn device(&self) -> Option<&DeviceBuffer> {
        match self {
            Memory::Host(_) => None,
            Memory::Device(buffer) => Some(buffer),
        }
    }
}

/// An input or output in memory of this crate.
pub(crate) struct BoundTensor {
    pub(crate) name: String,
    pub(crate) memory: Memory,
    value: Value,
}

/// An ONNX Runtime tensor over borrowed memory.
struct Value(NonNull<OrtValue>);

// SAFETY: an address and a shape, used by one thread at a time as its owner is.
unsafe impl Send for Value {}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: made by us and released once; a binding that still knows it holds its own count.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) };
    }
}

impl BoundTensor {
    /// A tensor of these dimensions in `memory`.
    pub(crate) fn new(name: &str, element: Element, dims: &[i64], mut memory: Memory) -> ort::Result<Self> {
        let counted = dims.iter().try_fold(element.bytes(), |bytes, dim| bytes.checked_mul(usize::try_from(*dim).ok()?));
        let bytes = counted.filter(|bytes| *bytes <= memory.len_bytes() && *bytes > 0);
        let bytes = bytes.ok_or_else(|| ort::Error::new(format!("'{name}' of {dims:?} does not fit into {} bytes", memory.len_bytes())))?;
        let sys_element = match element {
            Element::F32 => SysElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
            Element::F16 => SysElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
            Element::U8 => SysElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
            Element::Bool => SysElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
            Element::I32 => SysElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
            Element::I64 => SysElement::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        };
        let (info, mut value) = (memory.info()?, std::ptr::null_mut());
        // SAFETY: live memory of at least `bytes` bytes, which this value keeps as long as the tensor; info and dims are only read.
        let status = unsafe {
            (ort::api().CreateTensorWithDataAsOrtValue)(
                info.ptr(),
                memory.start(),
                bytes,
                dims.as_ptr(),
                dims.len(),
                sys_element,
                &mut value,
            )
        };
        // SAFETY: a status that the call above gave.
        unsafe { ort::Error::result_from_status(status)? };
        let value = NonNull::new(value).ok_or_else(|| ort::Error::new(format!("no tensor was made for '{name}'")))?;
        Ok(Self { name: name.to_owned(), memory, value: Value(value) })
    }
}

/// Destination of a run's outputs.
pub(crate) enum Outputs {
    /// Memory of this crate.
    Bound(Vec<BoundTensor>),
    /// Host memory that ONNX Runtime allocates, by name; a run waits until they are there.
    OnHost(Vec<String>),
}

/// One run of a session with its bound tensors.
pub(crate) struct BoundRun {
    // Dropped first: it refers to the memory below.
    binding: IoBinding,
    options: RunOptions<NoSelectedOutputs>,
    pub(crate) input: BoundTensor,
    /// Inputs other than the image.
    more: Vec<BoundTensor>,
    pub(crate) outputs: Vec<BoundTensor>,
}

impl BoundRun {
    /// Binds the tensors.
    pub(crate) fn new(session: &Session, input: BoundTensor, outputs: Outputs) -> ort::Result<Self> {
        let mut options = RunOptions::new()?;
        if matches!(outputs, Outputs::Bound(_)) {
            // Order is kept by the stream; readers of the outputs wait.
            options.disable_device_sync()?;
        }
        let mut binding = session.create_binding()?;
        bind_input(&mut binding, &input)?;
        let outputs = match outputs {
            Outputs::OnHost(names) => {
                let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default)?;
                names.into_iter().try_for_each(|name| binding.bind_output_to_device(name, &host))?;
                Vec::new()
            }
            Outputs::Bound(outputs) => outputs,
        };
        for output in &outputs {
            let name = c_name(&output.name)?;
            // SAFETY: as for the input.
            let status = unsafe { (ort::api().BindOutput)(binding.ptr_mut(), name.as_ptr(), output.value.0.as_ptr()) };
            // SAFETY: a status that the call above gave.
            unsafe { ort::Error::result_from_status(status)? };
        }
        Ok(Self { binding, options, input, more: Vec::new(), outputs })
    }

    /// Binds new values of the inputs other than the image. ONNX Runtime copies them into memory that queued runs may still read, so
    /// the caller waits for these first.
    pub(crate) fn bind_more(&mut self, inputs: Vec<FilledInput>) -> ort::Result<()> {
        let bound = |input: FilledInput| BoundTensor::new(&input.name, input.elements.element(), &input.dims, Memory::Host(input.elements));
        let bound: Vec<BoundTensor> = inputs.into_iter().map(bound).collect::<ort::Result<_>>()?;
        let before = std::mem::replace(&mut self.more, bound);
        if let Err(error) = self.more.iter().try_for_each(|input| bind_input(&mut self.binding, input)) {
            // The binding may know the memory of either.
            self.more.extend(before);
            return Err(error);
        }
        self.binding.synchronize_inputs()
    }

    /// Runs, or queues the run on the session's stream. Returns the outputs that ONNX Runtime allocated on the host.
    pub(crate) fn run<'s>(&'s mut self, session: &'s mut Session) -> ort::Result<SessionOutputs<'s>> {
        session.run_binding_with_options(&self.binding, &self.options)
    }
}

fn bind_input(binding: &mut IoBinding, input: &BoundTensor) -> ort::Result<()> {
    let name = c_name(&input.name)?;
    // SAFETY: a live binding and a live value; the binding takes a count of the value, and its owner keeps the memory.
    let status = unsafe { (ort::api().BindInput)(binding.ptr_mut(), name.as_ptr(), input.value.0.as_ptr()) };
    // SAFETY: a status that the call above gave.
    unsafe { ort::Error::result_from_status(status) }
}

fn c_name(name: &str) -> ort::Result<CString> {
    CString::new(name).map_err(|_| ort::Error::new(format!("'{}' is not the name of an input or output", name.escape_default())))
}

/// The CUDA provider on a stream of ours, which [`crate::device`] keeps as long as the session.
pub(crate) fn on_stream(provider: ort::ep::CUDA, stream: &CudaStream) -> ort::ep::CUDA {
    // SAFETY: a live stream of the provider's device, kept by the session's owner.
    unsafe { provider.with_compute_stream(stream.raw().cast()) }
}

/// The same for TensorRT.
pub(crate) fn tensorrt_on_stream(provider: ort::ep::TensorRT, stream: &CudaStream) -> ort::ep::TensorRT {
    // SAFETY: as above.
    unsafe { provider.with_compute_stream(stream.raw().cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_too_small_is_refused() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.framerail/models/centerface.onnx");
        assert!(std::path::Path::new(file).is_file(), "{file} is missing: run `make setup` first");
        let search =
            crate::SearchPath { home: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.framerail").into()), ..Default::default() };
        let runtime = crate::Runtime::load(None, &search).expect("installed library");
        let tensor =
            |floats: usize| BoundTensor::new("input.1", Element::F32, &[1, 3, 32, 32], Memory::Host(Elements::F32(vec![0.5; floats])));
        assert!(tensor(3071).err().expect("one short").to_string().contains("does not fit"));
        let file = crate::onnx::OnnxFile::read(file.as_ref()).expect("installed model");
        let shape = crate::onnx::InputShape { name: "input.1".into(), dims: vec![Some(1), Some(3), Some(32), Some(32)] };
        let bytes = file.prepared(std::slice::from_ref(&shape), &["537"]).expect("sound model");
        let mut builder = Session::builder(&runtime.environment).expect("environment");
        let mut session = builder.commit_from_memory(&bytes).expect("sound model");
        let declared = session.outputs()[0].dtype().tensor_shape().map(|shape| shape.to_vec());
        assert_eq!(declared, Some(vec![1, 1, 8, 8]), "outputs have a shape before the first run, so that memory can be bound");
        let ours = BoundTensor::new("537", Element::F32, &[1, 1, 8, 8], Memory::Host(Elements::F32(vec![-1.0; 64]))).expect("fits");
        let mut run = BoundRun::new(&session, tensor(3072).expect("fits"), Outputs::Bound(vec![ours])).expect("fitting names");
        assert_eq!(run.run(&mut session).expect("runs").len(), 0);
        let Memory::Host(Elements::F32(found)) = &run.outputs[0].memory else { unreachable!("bound to the host") };
        assert!(found.iter().all(|score| (0.0..=1.0).contains(score)), "{found:?}");
        let mut other = BoundRun::new(&session, tensor(3072).expect("fits"), Outputs::OnHost(vec!["537".into()])).expect("fitting names");
        let outputs = other.run(&mut session).expect("runs");
        let (dims, scores) = outputs["537"].try_extract_tensor::<f32>().expect("floats");
        assert_eq!((dims.to_vec(), scores), (vec![1, 1, 8, 8], found.as_slice()));
        drop(outputs);
        let wrong = BoundTensor::new("image", Element::F32, &[1, 3, 32, 32], Memory::Host(Elements::F32(vec![0.0; 3072]))).expect("fits");
        assert!(BoundRun::new(&session, wrong, Outputs::OnHost(Vec::new())).is_err(), "no such input");
    }

    /// `sum = x + y`, each of two floats.
    fn sum_model() -> Vec<u8> {
        use crate::onnx::{
            number,
            wire::{write_bytes, write_number},
        };
        let message = |parts: &[(u32, &[u8])]| {
            let mut out = Vec::new();
            parts.iter().for_each(|(field, bytes)| write_bytes(*field, bytes, &mut out));
            out
        };
        let (mut dim, mut tensor, mut opset, mut model) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        write_number(number::DIM_VALUE, 2, &mut dim);
        write_number(number::TENSOR_TYPE_ELEM, crate::onnx::ELEM_FLOAT, &mut tensor);
        write_bytes(number::TENSOR_TYPE_SHAPE, &message(&[(number::SHAPE_DIM, &dim)]), &mut tensor);
        let value = |name: &str| {
            message(&[(number::VALUE_NAME, name.as_bytes()), (number::VALUE_TYPE, &message(&[(number::TYPE_TENSOR, &tensor)]))])
        };
        let node = message(&[(1, b"x"), (1, b"y"), (2, b"sum"), (4, b"Add")]);
        let (x, y, sum) = (value("x"), value("y"), value("sum"));
        let inputs = [(number::GRAPH_INPUT, x.as_slice()), (number::GRAPH_INPUT, &y)];
        let graph = message(&[(number::GRAPH_NODE, node.as_slice()), (2, b"g"), inputs[0], inputs[1], (number::GRAPH_OUTPUT, &sum)]);
        write_number(number::OPSET_VERSION, 13, &mut opset);
        write_number(number::MODEL_IR_VERSION, 8, &mut model);
        write_bytes(number::MODEL_GRAPH, &graph, &mut model);
        write_bytes(number::MODEL_OPSET, &opset, &mut model);
        model
    }

    #[test]
    fn further_inputs_change_between_runs() {
        let search =
            crate::SearchPath { home: Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.framerail").into()), ..Default::default() };
        let runtime = crate::Runtime::load(None, &search).expect("installed library");
        let mut builder = Session::builder(&runtime.environment).expect("environment");
        let mut session = builder.commit_from_memory(&sum_model()).expect("sound model");
        let floats = |values: [f32; 2]| Memory::Host(Elements::F32(values.to_vec()));
        let tensor = |name: &str, values| BoundTensor::new(name, Element::F32, &[2], floats(values)).expect("fits");
        let mut run =
            BoundRun::new(&session, tensor("x", [1.0, 2.0]), Outputs::Bound(vec![tensor("sum", [0.0; 2])])).expect("fitting names");
        let given =
            |name: &str, values: [f32; 2]| FilledInput { name: name.into(), dims: vec![2], elements: Elements::F32(values.to_vec()) };
        assert!(run.run(&mut session).is_err(), "y is missing");
        let mut sum = |more| {
            run.bind_more(vec![more])?;
            run.run(&mut session).map(drop)?;
            let Memory::Host(Elements::F32(found)) = &run.outputs[0].memory else { unreachable!("bound to the host") };
            Ok::<_, ort::Error>(found.clone())
        };
        assert_eq!(sum(given("y", [10.0, 20.0])).expect("runs"), [11.0, 22.0]);
        assert_eq!(sum(given("y", [-1.0, 0.5])).expect("runs"), [0.0, 2.5]);
        assert!(sum(given("z", [0.0; 2])).is_err(), "no such input");
    }
}
