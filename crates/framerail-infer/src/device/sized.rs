//! A model on a card at one input size: its session, and the memory of each batch in flight.

use framerail_core::{Detection, Frame};
use framerail_cuda::{DeviceBuffer, Traffic};
use framerail_vision::ModelMapping;

use super::{
    boxes::{CardBoxes, Pending, can_decode},
    input::InputWriter,
    memory::DeviceMemory,
    session::{DeviceSession, Recipe},
};
use crate::{
    InferError,
    binding::{BoundRun, BoundTensor, Element, Memory, Outputs},
    decode::Decode,
    onnx::{HalfEnds, InputShape},
    session::{one_line, tensors},
    shared::{Counters, Shared},
    size::InputSize,
};

/// Runs before the first batch when runs are recorded: one to settle memory, one to record, one to replay.
const GRAPH_WARM_UPS: usize = 3;

/// Everything for one input size.
pub(super) struct SizedModel {
    size: InputSize,
    // Before the session: they name it.
    slots: Vec<Slot>,
    session: DeviceSession,
    writer: InputWriter,
    decoder: Decoder,
}

/// The memory of one batch in flight.
struct Slot {
    run: BoundRun,
    is_free: bool,
}

/// Where outputs become boxes.
enum Decoder {
    Card(Box<CardBoxes>),
    /// For outputs that nothing on the card reads.
    Host(Box<dyn Decode>),
}

/// Where a run's boxes are.
pub(super) enum Results {
    /// Read already.
    Done(Vec<Vec<Detection>>),
    /// On their way to the host.
    Pending(Pending),
}

/// A run that was queued.
pub(super) struct Queued {
    pub(super) slot: usize,
    pub(super) mappings: Vec<ModelMapping>,
    pub(super) results: Results,
}

impl SizedModel {
    pub(super) fn new(shared: &Shared, size: InputSize, memory: &DeviceMemory) -> Result<Self, InferError> {
        let mut shape = shared.model.shape(size, shared.batch);
        if let Some(first) = shape.dims.first_mut() {
            // Always whole batches: kernels are chosen and buffers are bound once.
            *first = Some(shared.batch as u64);
        }
        let (session, decoder) = load(shared, size, &shape, memory)?;
        Counters::add(&shared.counters.sessions, 1);
        Counters::add(&shared.counters.sessions_partly_on_cpu, usize::from(session.runs_partly_on_cpu));
        Counters::add(&shared.counters.sessions_decoded_on_host, usize::from(matches!(decoder, Decoder::Host(_))));
        let element = if shared.precision.is_half() { Element::F16 } else { Element::F32 };
        let writer = InputWriter::new(shared.preprocessor(size)?, element);
        let mut sized = Self { size, slots: Vec::new(), session, writer, decoder };
        for number in 1..=shared.cuda.slots {
            let slot = sized.slot(number, &shape.name, element, shared, memory)?;
            sized.slots.push(slot);
        }
        Ok(sized)
    }

    pub(super) fn size(&self) -> InputSize {
        self.size
    }

    pub(super) fn has_free_slot(&self) -> bool {
        self.slots.iter().any(|slot| slot.is_free)
    }

    pub(super) fn free(&mut self, slot: usize) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.is_free = true;
        }
    }

    /// Runs the model on nothing, so that its memory is there and its kernels are loaded before the first frame.
    pub(super) fn warm_up(&mut self, shared: &Shared, memory: &DeviceMemory) -> Result<(), InferError> {
        let times = if shared.cuda.graphs { GRAPH_WARM_UPS } else { 1 };
        let slots = if shared.cuda.graphs { self.slots.len() } else { 1 };
        for slot in self.slots.iter_mut().filter(|slot| slot.is_free).take(slots) {
            for _ in 0..times {
                slot.queue(&mut self.session, shared, memory)?;
            }
            if let Decoder::Card(boxes) = &self.decoder {
                let DeviceMemory { pool, pinned, stream } = memory;
                let pending = boxes.queue(&slot.run.outputs, shared.batch, pool, pinned, stream);
                pending.and_then(Pending::finish).map_err(|error| shared.cuda_error(error))?;
            }
        }
        Ok(())
    }

    /// Queues a run in a free slot.
    pub(super) fn run(&mut self, frames: &[&Frame], shared: &Shared, memory: &DeviceMemory) -> Result<Queued, InferError> {
        let failed = |error| shared.cuda_error(error);
        let DeviceMemory { pool, pinned, stream } = memory;
        frames.iter().try_for_each(|frame| self.writer.check(frame, shared.device))?;
        let free = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.is_free);
        let Some((number, slot)) = free else { return Err(shared.run_error("no slot for a batch is free")) };
        let written = self.writer.write(frames, slot.input(shared)?, pool, stream, failed)?;
        let results = match &self.decoder {
            Decoder::Card(boxes) => {
                slot.queue(&mut self.session, shared, memory)?;
                Results::Pending(boxes.queue(&slot.run.outputs, frames.len(), pool, pinned, stream).map_err(failed)?)
            }
            Decoder::Host(decoder) => Results::Done(slot.read_on_host(&mut self.session, decoder.as_ref(), &written.mappings, shared)?),
        };
        slot.is_free = false;
        let counters = &shared.counters;
        Counters::add(&counters.runs, 1);
        Counters::add(&counters.uploaded, written.uploaded);
        Counters::add(&counters.padded, shared.batch.saturating_sub(frames.len()));
        Ok(Queued { slot: number, mappings: written.mappings, results })
    }

    fn slot(&self, number: usize, input: &str, element: Element, shared: &Shared, memory: &DeviceMemory) -> Result<Slot, InferError> {
        let failed = |error| shared.cuda_error(error);
        let refused = |error: ort::Error| shared.run_error(one_line(&error));
        let buffer = memory.pool.buffer(self.writer.item_bytes() * shared.batch).map_err(failed)?;
        // Items beyond the frames of an incomplete batch are computed too; they must be numbers.
        buffer.fill(0, &memory.stream).map_err(failed)?;
        let input = BoundTensor::new(input, element, &self.session.input_dims, Memory::Device(buffer)).map_err(refused)?;
        let outputs = match &self.decoder {
            Decoder::Host(_) => Outputs::OnHost(self.session.outputs.iter().map(|output| output.name.clone()).collect()),
            Decoder::Card(_) => Outputs::Bound(self.outputs(shared, memory)?),
        };
        let graph = shared.cuda.graphs.then_some(number);
        let run = BoundRun::new(&self.session.session, input, outputs, graph).map_err(refused)?;
        Ok(Slot { run, is_free: true })
    }

    /// Device memory for every output.
    fn outputs(&self, shared: &Shared, memory: &DeviceMemory) -> Result<Vec<BoundTensor>, InferError> {
        let mut outputs = Vec::with_capacity(self.session.outputs.len());
        for output in &self.session.outputs {
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
}

/// The session, and the decoder on the card or else on the host. Only a decoder on the card reads float16.
fn load(shared: &Shared, size: InputSize, shape: &InputShape, memory: &DeviceMemory) -> Result<(DeviceSession, Decoder), InferError> {
    let (card, is_half) = (&shared.model.card, shared.precision.is_half());
    let session = |outputs| {
        let ends = HalfEnds { inputs: true, outputs };
        let bytes = if is_half { shared.half_bytes(shape, ends)?.into() } else { shared.model.whole_bytes(shape)? };
        Recipe::new(shared, &memory.stream).session(&bytes, shape)
    };
    let on_card = can_decode(card, &shared.thresholds).map_err(Refusal::Decoder).and_then(|()| {
        let session = session(true).map_err(Refusal::Session)?;
        let boxes = CardBoxes::new(card, &shared.thresholds, size, &session.outputs, &memory.pool, &memory.stream)?;
        Ok((session, Decoder::Card(Box::new(boxes))))
    });
    match on_card {
        Ok(loaded) => Ok(loaded),
        Err(Refusal::Session(error)) => Err(error),
        Err(Refusal::Decoder(reason)) => {
            log::warn!("model {}: its outputs cross to the host whole and are read there: {reason}", card.name);
            Ok((session(false)?, Decoder::Host(card.output.decoder(card, size))))
        }
    }
}

/// Why a model's outputs are not decoded on the card.
enum Refusal {
    Session(InferError),
    Decoder(String),
}

impl From<String> for Refusal {
    fn from(reason: String) -> Self {
        Refusal::Decoder(reason)
    }
}

impl Slot {
    fn input(&self, shared: &Shared) -> Result<&DeviceBuffer, InferError> {
        self.run.input.memory.device().ok_or_else(|| shared.run_error("its input is not on the card"))
    }

    /// Queues the model's run on its stream; outputs stay on the card.
    fn queue(&mut self, session: &mut DeviceSession, shared: &Shared, memory: &DeviceMemory) -> Result<(), InferError> {
        let failed = |error| shared.cuda_error(error);
        let stream = &memory.stream;
        let outputs = |run: &BoundRun, mark: &dyn Fn(&DeviceBuffer) -> Result<(), InferError>| {
            run.outputs.iter().filter_map(|output| output.memory.device()).try_for_each(mark)
        };
        self.input(shared)?.begin_read(stream).map_err(failed)?;
        outputs(&self.run, &|buffer| buffer.begin_write(stream).map(drop).map_err(failed))?;
        self.run.run(&mut session.session).map_err(|error| shared.run_error(one_line(&error)))?;
        outputs(&self.run, &|buffer| buffer.end_write(stream).map_err(failed))?;
        self.input(shared)?.end_read(stream).map_err(failed)
    }

    /// Runs, waits for whole outputs on the host and decodes them there.
    fn read_on_host(
        &mut self,
        session: &mut DeviceSession,
        decoder: &dyn Decode,
        mappings: &[ModelMapping],
        shared: &Shared,
    ) -> Result<Vec<Vec<Detection>>, InferError> {
        let outputs = self.run.run(&mut session.session).map_err(|error| shared.run_error(one_line(&error)))?;
        let tensors = tensors(&outputs).map_err(|reason| shared.run_error(reason))?;
        let download_bytes = tensors.iter().map(|tensor| tensor.data.bytes() as u64).sum();
        Traffic::charge(Traffic { downloads: outputs.len() as u64, download_bytes, syncs: 1, ..Traffic::default() });
        let found = mappings.iter().enumerate().map(|(item, mapping)| shared.read(decoder, &tensors, item, mapping));
        found.collect::<Result<_, _>>().map_err(|reason| shared.run_error(reason))
    }
}
