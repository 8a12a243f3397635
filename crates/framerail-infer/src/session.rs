//! One model at one input size on ONNX Runtime: an input buffer, a run, outputs as slices.

use std::{path::PathBuf, sync::Arc};

use ort::{
    ep,
    session::{Session, builder::GraphOptimizationLevel},
};
use parking_lot::Mutex;

use crate::{
    HostProvider, InferError, Precision,
    decode::Tensors,
    element::{Element, Elements},
    error::one_line,
    memory,
    model::PICTURE_AXES,
    more_inputs::FilledInput,
    onnx::InputShape,
    openvino,
    outputs::HostOutputs,
    runtime::Runtime,
};

/// ONNX Runtime's setting for float32 products in bfloat16; it has such kernels for ARM only.
const ARM_BF16: &str = "mlas.enable_gemm_fastmath_arm64_bfloat16";

/// How ONNX Runtime runs a model. The defaults were the smallest and fastest of those measured for CenterFace on two cores.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Threads that one run uses.
    pub intra_threads: usize,
    /// Whether idle threads spin while they wait, which takes time from other stages.
    pub spin: bool,
    /// Whether memory is kept between runs. Without, every run allocates new pages: twice the time.
    pub arena: bool,
    /// Whether memory is planned as one block. It adds to the arena's memory, and saves no time.
    pub memory_pattern: bool,
    /// The execution provider.
    pub provider: HostProvider,
    /// The arithmetic, as far as the provider and not the file decides it.
    pub precision: Precision,
    /// Folder of compiled models, for providers that compile.
    pub cache: Option<PathBuf>,
    /// Further ONNX Runtime settings by key, for measuring.
    pub config_entries: Vec<(String, String)>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self {
            intra_threads: 1,
            spin: false,
            arena: true,
            memory_pattern: false,
            provider: HostProvider::default(),
            precision: Precision::default(),
            cache: None,
            config_entries: Vec::new(),
        }
    }
}

/// A loaded model that takes inputs of one size, with its own input buffer.
pub struct ModelSession {
    shared: Arc<SharedSession>,
    input: Elements,
    /// One item in float32 if the model takes another type; else empty.
    item: Vec<f32>,
}

/// State shared by users of one session, which take turns.
pub(crate) struct SharedSession {
    session: Mutex<Session>,
    model: String,
    shape: InputShape,
    /// Type of the image input's elements.
    element: Element,
    batch: usize,
    item_elements: usize,
}

impl SharedSession {
    /// The session for another user.
    pub(crate) fn with_own_input(self: Arc<Self>) -> ModelSession {
        let item = if self.element == Element::F32 { Vec::new() } else { vec![0.0; self.item_elements] };
        ModelSession { input: Elements::zeros(self.element, self.item_elements * self.batch), item, shared: self }
    }

    /// The shape of the image input for this many items.
    fn image_input_dims(&self, items: usize) -> Vec<i64> {
        let image = image_dims(&self.shape);
        let has_batch = image.len() < self.shape.dims.len();
        let sides = image.iter().map(|dim| dim.unwrap_or(0) as i64);
        has_batch.then_some(items as i64).into_iter().chain(sides).collect()
    }
}

impl ModelSession {
    /// Loads a model from its bytes.
    ///
    /// `shape` names the image input and its axes, the batch's first where it has one; `batch` frames fit in a run, and the input buffer is made for them.
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
        let session = build(runtime, bytes, options).map_err(|error| memory::failure(model, &error))?;
        let mut sides = image_dims(&shape).iter().map(|dim| dim.unwrap_or(0) as usize);
        let item_elements = sides.try_fold(1_usize, |product, side| product.checked_mul(side));
        let elements = item_elements.and_then(|item| item.checked_mul(batch));
        let (Some(item_elements), Some(_)) = (item_elements, elements) else { return Err(refused("its input is too large".into())) };
        let declared = session.inputs().iter().find(|input| input.name() == shape.name).and_then(|input| input.dtype().tensor_type());
        let element = declared.and_then(Element::of).filter(|element| element.image_dtype().is_some());
        let element = element.ok_or_else(|| refused(format!("its input '{}' is missing or does not take images", shape.name)))?;
        let image: Vec<u64> = image_dims(&shape).iter().map(|dim| dim.unwrap_or(0)).chain([batch as u64]).collect();
        memory::check(model, "its input", &image, element.bytes() as u64)?;
        memory::check_outputs(model, &session, batch)?;
        let shared = SharedSession { session: Mutex::new(session), model: model.to_owned(), shape, element, batch, item_elements };
        Ok(Arc::new(shared).with_own_input())
    }

    /// Frames that fit in one run.
    pub fn batch(&self) -> usize {
        self.shared.batch
    }

    /// State for sharing the session.
    pub(crate) fn shared(&self) -> &Arc<SharedSession> {
        &self.shared
    }

    /// Writes one item of the batch before a run: `write` gets its elements as float32, which are rounded to the model's type. None for
    /// an item beyond the batch.
    pub fn write_input<R>(&mut self, item: usize, write: impl FnOnce(&mut [f32]) -> R) -> R {
        let start = item.saturating_mul(self.shared.item_elements);
        if let Elements::F32(input) = &mut self.input {
            return write(input.get_mut(start..start.saturating_add(self.shared.item_elements)).unwrap_or_default());
        }
        let written = write(if item < self.shared.batch { &mut self.item } else { &mut [] });
        self.input.write(start, &self.item);
        written
    }

    /// A copy of the first item as another input.
    pub(crate) fn input_as(&self, name: &str) -> FilledInput {
        FilledInput { name: name.to_owned(), dims: self.shared.image_input_dims(1), elements: self.input.clone() }
    }

    /// Runs the first `items` items and passes the outputs to `read`; they live as long as that call. Waits while another user runs the
    /// session.
    ///
    /// # Errors
    /// `Run` when ONNX Runtime or `read` fails.
    pub fn run<R>(&mut self, items: usize, read: impl FnOnce(&Tensors<'_>) -> Result<R, String>) -> Result<R, InferError> {
        self.run_with(items, &[], read)
    }

    /// The same for a model with further inputs.
    pub(crate) fn run_with<R>(
        &mut self,
        items: usize,
        more: &[FilledInput],
        read: impl FnOnce(&Tensors<'_>) -> Result<R, String>,
    ) -> Result<R, InferError> {
        let shared = &self.shared;
        let failed = |reason: String| InferError::Run { model: shared.model.clone(), reason };
        if items > shared.batch {
            return Err(failed(format!("{items} frames do not fit in a batch of {}", shared.batch)));
        }
        let dims = shared.image_input_dims(items);
        let image = self.input.input(&dims).map(|input| (shared.shape.name.as_str(), input));
        let more = more.iter().map(|input| Ok((input.name.as_str(), input.elements.input(&input.dims)?)));
        let inputs = std::iter::once(image).chain(more).collect::<ort::Result<Vec<_>>>().map_err(|error| failed(one_line(&error)))?;
        let mut session = shared.session.lock();
        let outputs = session.run(inputs).map_err(|error| memory::failure(&shared.model, &error))?;
        read(&HostOutputs::new(&outputs).map_err(failed)?.tensors()).map_err(failed)
    }
}

/// The axes of one image: the last ones.
fn image_dims(shape: &InputShape) -> &[Option<u64>] {
    let first = shape.dims.len().saturating_sub(PICTURE_AXES);
    shape.dims.get(first..).unwrap_or_default()
}

fn build(runtime: &Runtime, bytes: &[u8], options: &SessionOptions) -> ort::Result<Session> {
    let mut builder = Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(options.intra_threads)?
        .with_inter_threads(1)?
        .with_intra_op_spinning(options.spin)?
        .with_memory_pattern(options.memory_pattern)?;
    builder = match options.provider {
        HostProvider::OnnxRuntime => builder.with_execution_providers([ep::CPU::default().with_arena_allocator(options.arena).build()])?,
        HostProvider::OpenVino(device) => {
            let cache = options.cache.as_deref().and_then(openvino::tidy_cache);
            let settings = openvino::session_options(device, options.precision, options.intra_threads, cache);
            builder.with_devices(runtime.openvino_device(device), Some(&settings))?
        }
    };
    if options.precision == Precision::Bf16 {
        builder = builder.with_config_entry(ARM_BF16, "1")?;
    }
    for (key, value) in &options.config_entries {
        builder = builder.with_config_entry(key, value)?;
    }
    builder.commit_from_memory(bytes)
}
