//! A model on a GPU at one input size: its session and memory.
//!
//! All batches use the same input and output memory: they follow each other on one stream, so a batch's boxes are decoded before the next
//! one's input is written. Only boxes are separate for each batch in flight.

use framerail_cuda::{DeviceBuffer, KeptContext, Traffic};
use framerail_vision::ModelMapping;

use super::{
    boxes::{GpuBoxes, Pending, can_decode},
    input::InputWriter,
    memory::DeviceMemory,
    session::{DeviceSession, Recipe},
};
use crate::{
    InferError, Prediction, View,
    binding::{BoundRun, BoundTensor, Memory, Outputs},
    card::Thresholds,
    decode::{self, Task},
    error::one_line,
    more_inputs::{FilledInputs, ViewGeometry},
    onnx::{HalfEnds, InputShape},
    outputs::HostOutputs,
    shared::{Counters, Shared},
    size::InputSize,
};

/// Runs before the first batch if runs are recorded: one to settle memory, one to record, one to replay.
const GRAPH_WARM_UPS: usize = 3;

/// Everything for one input size.
pub(super) struct SizedModel {
    size: InputSize,
    // Before the session: it names it.
    run: BoundRun,
    session: DeviceSession,
    writer: InputWriter,
    decoder: Decoder,
    more: FilledInputs,
}

/// Where outputs are decoded.
enum Decoder {
    Card(Box<GpuBoxes>),
    /// For outputs that are not decoded on the GPU.
    Host(decode::Decoder),
}

/// State of a run's results.
pub(super) enum Results {
    /// Read already.
    Done(Vec<Prediction>),
    /// Boxes being copied to the host.
    Pending(Pending),
}

/// A run that was queued.
pub(super) struct Queued {
    pub(super) mappings: Vec<ModelMapping>,
    pub(super) results: Results,
}

impl SizedModel {
    pub(super) fn new(shared: &Shared, size: InputSize, memory: &DeviceMemory) -> Result<Self, InferError> {
        let mut shape = shared.model.shape(size, shared.batch);
        // Always a whole batch: kernels are selected and buffers bound once.
        if let [first @ None, ..] = shape.dims.as_mut_slice() {
            *first = Some(shared.batch as u64);
        }
        let (session, decoder) = load(shared, size, &shape, memory)?;
        Counters::add(&shared.counters.sessions, 1);
        Counters::add(&shared.counters.sessions_partly_on_cpu, usize::from(session.runs_partly_on_cpu));
        Counters::add(&shared.counters.sessions_decoded_on_host, usize::from(matches!(decoder, Decoder::Host(_))));
        let (element, dtype) = (shared.input_element(), shared.input_dtype());
        let writer = InputWriter::new(shared.preprocessor(size)?, dtype);
        let refused = |error: ort::Error| shared.run_error(one_line(&error));
        let buffer = memory.pool.buffer(writer.item_bytes() * shared.batch).map_err(|error| shared.cuda_error(error))?;
        // Items beyond the frames of an incomplete batch are computed too; their values must be finite.
        buffer.fill(0, &memory.stream).map_err(|error| shared.cuda_error(error))?;
        let input = BoundTensor::new(&shape.name, element, &session.input_dims, Memory::Device(buffer)).map_err(refused)?;
        let outputs = match &decoder {
            Decoder::Host(_) => Outputs::OnHost(session.outputs.iter().map(|output| output.name.clone()).collect()),
            Decoder::Card(_) => Outputs::Bound(bind_outputs(&session, shared, memory)?),
        };
        let run = BoundRun::new(&session.session, input, outputs).map_err(refused)?;
        let mut sized = Self { size, run, session, writer, decoder, more: FilledInputs::default() };
        // For runs before the first frame: one of just the model's size.
        let one_to_one = ModelMapping { scale_x: 1.0, scale_y: 1.0, offset_x: 0.0, offset_y: 0.0 };
        sized.fill_more(&[ViewGeometry::new(size.width as f32, size.height as f32, &one_to_one, size)], shared, memory)?;
        Ok(sized)
    }

    pub(super) fn size(&self) -> InputSize {
        self.size
    }

    /// Runs the model on zeros, so that memory is allocated and kernels are loaded before the first frame.
    pub(super) fn warm_up(&mut self, shared: &Shared, memory: &DeviceMemory, thresholds: &Thresholds) -> Result<(), InferError> {
        let Decoder::Card(boxes) = &self.decoder else { return Ok(()) };
        for _ in 0..if shared.cuda.graphs { GRAPH_WARM_UPS } else { 1 } {
            queue(&mut self.run, &mut self.session, shared, memory)?;
        }
        let pending = boxes.queue(&self.run.outputs, shared.batch, thresholds, memory);
        pending.and_then(Pending::finish).map(drop).map_err(|error| shared.cuda_error(error))
    }

    /// Fills the other inputs; unused places of the batch repeat the last image's values.
    fn fill_more(&mut self, geometry: &[ViewGeometry], shared: &Shared, memory: &DeviceMemory) -> Result<(), InferError> {
        let Some(last) = geometry.last().filter(|_| !shared.model.more.is_empty()) else { return Ok(()) };
        let whole: Vec<ViewGeometry> = geometry.iter().chain(std::iter::repeat(last)).copied().take(shared.batch).collect();
        if shared.model.more.refill(self.size, &whole, &mut self.more).map_err(|reason| shared.run_error(reason))? {
            // Queued runs may still read the previous values; frames of one size do not reach this again.
            memory.stream.synchronize().map_err(|error| shared.cuda_error(error))?;
            let inputs = std::mem::take(&mut self.more.inputs);
            let upload_bytes = inputs.iter().map(|input| input.elements.len_bytes() as u64).sum();
            Traffic::charge(Traffic { uploads: inputs.len() as u64, upload_bytes, ..Traffic::default() });
            self.run.bind_more(inputs).map_err(|error| shared.run_error(one_line(&error)))?;
        }
        Ok(())
    }

    /// Queues a run.
    pub(super) fn run(
        &mut self,
        views: &[View<'_>],
        shared: &Shared,
        memory: &DeviceMemory,
        thresholds: &Thresholds,
    ) -> Result<Queued, InferError> {
        let _caller = KeptContext::note();
        let failed = |error| shared.cuda_error(error);
        views.iter().try_for_each(|view| self.writer.check(view, shared.device))?;
        let written = self.writer.write(views, input(&self.run, shared)?, memory, failed)?;
        let seen = views.iter().zip(&written.mappings).map(|(view, mapping)| Shared::seen(view, *mapping));
        let geometry: Vec<ViewGeometry> = seen.map(|seen| seen.geometry(self.size)).collect();
        self.fill_more(&geometry, shared, memory)?;
        let results = match &self.decoder {
            Decoder::Card(boxes) => {
                queue(&mut self.run, &mut self.session, shared, memory)?;
                Results::Pending(boxes.queue(&self.run.outputs, views.len(), thresholds, memory).map_err(failed)?)
            }
            Decoder::Host(decoder) => {
                let outputs = Whole { run: &mut self.run, session: &mut self.session, decoder };
                Results::Done(outputs.read(views, &written.mappings, shared, thresholds)?)
            }
        };
        let counters = &shared.counters;
        Counters::add(&counters.runs, 1);
        Counters::add(&counters.uploaded, written.uploaded);
        Counters::add(&counters.padded, shared.batch.saturating_sub(views.len()));
        Ok(Queued { mappings: written.mappings, results })
    }
}

/// Device memory for every output.
fn bind_outputs(session: &DeviceSession, shared: &Shared, memory: &DeviceMemory) -> Result<Vec<BoundTensor>, InferError> {
    let mut outputs = Vec::with_capacity(session.outputs.len());
    for output in &session.outputs {
        let (Some(element), Some(dims)) = (output.element, &output.dims) else {
            return Err(shared.run_error(format!("output '{}' is of a type or shape that cannot be bound", output.name)));
        };
        let elements = dims.iter().try_fold(1_usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?));
        let bytes = elements.and_then(|count| count.checked_mul(element.bytes()));
        let bytes = bytes.ok_or_else(|| shared.run_error(format!("output '{}' is too large", output.name)))?;
        let buffer = memory.pool.buffer(bytes).map_err(|error| shared.cuda_error(error))?;
        let bound = BoundTensor::new(&output.name, element, dims, Memory::Device(buffer));
        outputs.push(bound.map_err(|error| shared.run_error(one_line(&error)))?);
    }
    Ok(outputs)
}

/// The session, with the decoder on the GPU or else on the host. Only the GPU decoder reads float16.
fn load(shared: &Shared, size: InputSize, shape: &InputShape, memory: &DeviceMemory) -> Result<(DeviceSession, Decoder), InferError> {
    let (card, is_half) = (&shared.model.card, shared.precision.is_half());
    let session = |outputs| {
        let ends = HalfEnds { input: Some(&shape.name), outputs };
        let bytes = if is_half { shared.half_bytes(shape, ends)?.into() } else { shared.model.bytes(shape)? };
        Recipe::new(shared, &memory.stream).session(&bytes, shape)
    };
    let on_gpu = can_decode(card, shared.max_detections).map_err(Refusal::Decoder).and_then(|()| {
        let session = session(true).map_err(Refusal::Session)?;
        let boxes = GpuBoxes::new(card, (size, shared.batch), &session.outputs, memory)?;
        Ok((session, Decoder::Card(Box::new(boxes))))
    });
    match on_gpu {
        Ok(loaded) => Ok(loaded),
        Err(Refusal::Session(error)) => Err(error),
        Err(Refusal::Decoder(reason)) => {
            // Only boxes have a decoder on the GPU.
            let level = if card.output.task() == Task::Detection { log::Level::Warn } else { log::Level::Debug };
            log::log!(level, "model {}: its outputs are copied to the host and decoded there: {reason}", card.name);
            Ok((session(false)?, Decoder::Host(card.output.decoder(card, size))))
        }
    }
}

/// Why a model's outputs are not decoded on the GPU.
enum Refusal {
    Session(InferError),
    Decoder(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Decoder(reason)
    }
}

fn input<'r>(run: &'r BoundRun, shared: &Shared) -> Result<&'r DeviceBuffer, InferError> {
    run.input.memory.device().ok_or_else(|| shared.run_error("its input is not on the GPU"))
}

/// Queues the model's run on its stream; outputs stay on the GPU.
fn queue(run: &mut BoundRun, session: &mut DeviceSession, shared: &Shared, memory: &DeviceMemory) -> Result<(), InferError> {
    let failed = |error| shared.cuda_error(error);
    let stream = &memory.stream;
    let outputs = |run: &BoundRun, mark: &dyn Fn(&DeviceBuffer) -> Result<(), InferError>| {
        run.outputs.iter().filter_map(|output| output.memory.device()).try_for_each(mark)
    };
    input(run, shared)?.begin_read(stream).map_err(failed)?;
    outputs(run, &|buffer| buffer.begin_write(stream).map(drop).map_err(failed))?;
    run.run(&mut session.session).map_err(|error| shared.run_error(one_line(&error)))?;
    outputs(run, &|buffer| buffer.end_write(stream).map_err(failed))?;
    input(run, shared)?.end_read(stream).map_err(failed)
}

/// A run whose outputs are copied to the host and decoded there.
struct Whole<'r> {
    run: &'r mut BoundRun,
    session: &'r mut DeviceSession,
    decoder: &'r decode::Decoder,
}

impl Whole<'_> {
    /// Runs and waits.
    fn read(
        self,
        views: &[View<'_>],
        mappings: &[ModelMapping],
        shared: &Shared,
        thresholds: &Thresholds,
    ) -> Result<Vec<Prediction>, InferError> {
        let outputs = self.run.run(&mut self.session.session).map_err(|error| shared.run_error(one_line(&error)))?;
        let on_host = HostOutputs::new(&outputs).map_err(|reason| shared.run_error(reason))?;
        let download_bytes = on_host.bytes() as u64;
        Traffic::charge(Traffic { downloads: outputs.len() as u64, download_bytes, syncs: 1, ..Traffic::default() });
        let tensors = on_host.tensors();
        let seen = views.iter().zip(mappings).map(|(view, mapping)| Shared::seen(view, *mapping));
        let found = seen.enumerate().map(|(item, seen)| shared.read(self.decoder, &tensors, item, &seen, thresholds));
        found.collect::<Result<_, _>>().map_err(|reason| shared.run_error(reason))
    }
}
