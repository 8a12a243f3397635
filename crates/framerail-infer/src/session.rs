//! One model at one input size on ONNX Runtime: an input buffer, a run, outputs as slices.

use std::sync::Arc;

use ort::{
    ep,
    session::{Session, SessionOutputs, builder::GraphOptimizationLevel},
    value::{DynValue, TensorElementType, TensorRef},
};
use parking_lot::Mutex;

use crate::{
    InferError,
    decode::{Tensor, TensorData, Tensors},
    onnx::InputShape,
    runtime::Runtime,
};

/// How ONNX Runtime runs a model. The defaults are the leanest and fastest of those measured for CenterFace on two cores.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Threads that one run uses.
    pub intra_threads: usize,
    /// Whether idle threads spin while they wait. They take time from other stages.
    pub spin: bool,
    /// Whether memory is kept between runs. Without, every run pays for fresh pages: twice the time.
    pub arena: bool,
    /// Whether memory is laid out ahead as one block. Comes on top of what the arena holds already, and gains no time.
    pub memory_pattern: bool,
    /// More of ONNX Runtime's settings by key, for measuring.
    pub config_entries: Vec<(String, String)>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { intra_threads: 1, spin: false, arena: true, memory_pattern: false, config_entries: Vec::new() }
    }
}

/// A loaded model that takes inputs of one size, with an input buffer of its own.
pub struct ModelSession {
    shared: Arc<SharedSession>,
    input: Vec<f32>,
}

/// What several places share that run one session in turn.
pub(crate) struct SharedSession {
    session: Mutex<Session>,
    model: String,
    shape: InputShape,
    batch: usize,
    item_elements: usize,
}

impl SharedSession {
    /// The session for another place.
    pub(crate) fn with_own_input(self: Arc<Self>) -> ModelSession {
        let elements = self.item_elements * self.batch;
        ModelSession { shared: self, input: vec![0.0; elements] }
    }
}

impl ModelSession {
    /// Loads a model from its bytes.
    ///
    /// `shape` names the image input and its axes, the batch's first; `batch` frames fit in a run, and the input buffer is made for them.
    /// `model` is its name for messages.
    ///
    /// # Errors
    /// `Run` when ONNX Runtime refuses the model or an option.
    pub fn new(
        runtime: &Runtime,
        bytes: &[u8],
        model: &str,
        shape: InputShape,
        batch: usize,
        options: &SessionOptions,
    ) -> Result<Self, InferError> {
        let refused = |reason: String| InferError::Run { model: model.to_owned(), reason };
        let session = build(runtime, bytes, options).map_err(|error| refused(one_line(&error)))?;
        let mut sides = shape.dims.iter().skip(1).map(|dim| dim.unwrap_or(0) as usize);
        let item_elements = sides.try_fold(1_usize, |product, side| product.checked_mul(side));
        let elements = item_elements.and_then(|item| item.checked_mul(batch));
        let (Some(item_elements), Some(elements)) = (item_elements, elements) else { return Err(refused("its input is too large".into())) };
        let shared = SharedSession { session: Mutex::new(session), model: model.to_owned(), shape, batch, item_elements };
        Ok(Self { shared: Arc::new(shared), input: vec![0.0; elements] })
    }

    /// Frames that fit in one run.
    pub fn batch(&self) -> usize {
        self.shared.batch
    }

    /// What other places may run too.
    pub(crate) fn shared(&self) -> &Arc<SharedSession> {
        &self.shared
    }

    /// The elements of one item of the batch, to be written before a run; empty for an item beyond the batch.
    pub fn input_mut(&mut self, item: usize) -> &mut [f32] {
        self.input.chunks_exact_mut(self.shared.item_elements.max(1)).nth(item).unwrap_or_default()
    }

    /// Runs the first `items` items and hands the outputs to `read`; they live as long as that call. Waits while another place
    /// runs the session.
    ///
    /// # Errors
    /// `Run` when ONNX Runtime or `read` fails.
    pub fn run<R>(&mut self, items: usize, read: impl FnOnce(&Tensors<'_>) -> Result<R, String>) -> Result<R, InferError> {
        let shared = &self.shared;
        let failed = |reason: String| InferError::Run { model: shared.model.clone(), reason };
        let elements = items * shared.item_elements;
        let filled =
            self.input.get(..elements).ok_or_else(|| failed(format!("{items} frames do not fit in a batch of {}", shared.batch)))?;
        let sides = shared.shape.dims.iter().skip(1).map(|dim| dim.unwrap_or(0) as i64);
        let dims: Vec<i64> = std::iter::once(items as i64).chain(sides).collect();
        let input = TensorRef::from_array_view((dims, filled)).map_err(|error| failed(one_line(&error)))?;
        let mut session = shared.session.lock();
        let outputs = session.run(ort::inputs![input]).map_err(|error| failed(one_line(&error)))?;
        read(&tensors(&outputs).map_err(failed)?).map_err(failed)
    }
}

/// Outputs on the host as slices.
pub(crate) fn tensors<'a>(outputs: &'a SessionOutputs<'_>) -> Result<Tensors<'a>, String> {
    let mut tensors = Vec::with_capacity(outputs.len());
    for name in outputs.keys() {
        let Some(value) = outputs.get(name) else { continue };
        let (shape, data) = view(value).map_err(|error| format!("output '{name}': {error}"))?;
        tensors.push(Tensor { name, dims: shape, data });
    }
    Ok(Tensors::new(tensors))
}

fn build(runtime: &Runtime, bytes: &[u8], options: &SessionOptions) -> ort::Result<Session> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(options.spin)?
        .with_memory_pattern(options.memory_pattern)?
        .with_execution_providers([ep::CPU::default().with_arena_allocator(options.arena).build()])?;
    for (key, value) in &options.config_entries {
        builder = builder.with_config_entry(key, value)?;
    }
    builder.commit_from_memory(bytes)
}

fn view(value: &DynValue) -> Result<(Vec<usize>, TensorData<'_>), String> {
    let wrong = |error: ort::Error| one_line(&error);
    let dims = |shape: &ort::value::Shape| shape.iter().map(|dim| usize::try_from(*dim).unwrap_or(0)).collect();
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float32) => {
            value.try_extract_tensor().map(|(shape, data)| (dims(shape), TensorData::F32(data))).map_err(wrong)
        }
        Some(TensorElementType::Int64) => {
            value.try_extract_tensor().map(|(shape, data)| (dims(shape), TensorData::I64(data))).map_err(wrong)
        }
        Some(TensorElementType::Int32) => {
            value.try_extract_tensor().map(|(shape, data)| (dims(shape), TensorData::I32(data))).map_err(wrong)
        }
        Some(other) => Err(format!("elements of type {other:?} are not read; export the model with float32 outputs")),
        None => Err("is no tensor".into()),
    }
}

/// An error's text on one line.
pub(crate) fn one_line(error: &impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
