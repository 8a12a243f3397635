//! A model on the CPU.

use std::sync::Arc;

use framerail_core::{Detection, Frame};
use framerail_vision::Preprocessor;

use crate::{
    InferError,
    decode::Decode,
    onnx::HalfEnds,
    session::ModelSession,
    shared::{Counters, Shared},
    size::InputSize,
};

/// Sessions for different input sizes that one detector keeps. Each holds the model's weights and activations.
const MAX_SESSIONS: usize = 2;

/// Runs a model on the CPU.
pub(crate) struct HostDetector {
    shared: Arc<Shared>,
    /// The last used is at the end.
    sized: Vec<SizedModel>,
}

/// Everything for one input size.
struct SizedModel {
    size: InputSize,
    session: ModelSession,
    preprocessor: Preprocessor,
    decoder: Box<dyn Decode>,
}

impl HostDetector {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), sized: Vec::new() }
    }

    /// Makes what a size needs.
    pub(crate) fn warm_up(&mut self, size: InputSize) -> Result<(), InferError> {
        self.sized_for(size).map(drop)
    }

    /// One run of the model on frames that share an input size.
    pub(crate) fn run(&mut self, size: InputSize, frames: &[&Frame]) -> Result<Vec<Vec<Detection>>, InferError> {
        let shared = Arc::clone(&self.shared);
        let sized = self.sized_for(size)?;
        let mut mappings = Vec::with_capacity(frames.len());
        for (item, frame) in frames.iter().enumerate() {
            let mapping = sized.preprocessor.run(frame, sized.session.input_mut(item)).map_err(|source| InferError::Frame {
                index: frame.index,
                stream: frame.stream.0,
                pts: frame.pts.0,
                source,
            })?;
            mappings.push(mapping);
        }
        let decoder = &sized.decoder;
        sized.session.run(frames.len(), |tensors| {
            mappings.iter().enumerate().map(|(item, mapping)| shared.read(decoder.as_ref(), tensors, item, mapping)).collect()
        })
    }

    fn sized_for(&mut self, size: InputSize) -> Result<&mut SizedModel, InferError> {
        match self.sized.iter().position(|sized| sized.size == size) {
            Some(index) => {
                let used = self.sized.remove(index);
                self.sized.push(used);
            }
            None => {
                if self.sized.len() >= MAX_SESSIONS {
                    self.sized.remove(0);
                }
                self.sized.push(SizedModel::new(&self.shared, size)?);
            }
        }
        self.sized.last_mut().ok_or_else(|| self.shared.run_error("it has no session"))
    }
}

impl SizedModel {
    fn new(shared: &Shared, size: InputSize) -> Result<Self, InferError> {
        let model = &shared.model;
        let preprocessor = shared.preprocessor(size)?;
        let shape = model.shape(size, shared.batch);
        let bytes = match shared.precision.is_half() {
            // The host writes and reads float32; the model casts at both ends.
            true => shared.half_bytes(&shape, HalfEnds::default())?.into(),
            false => model.bytes(&shape)?,
        };
        let session = ModelSession::new(shared.runtime, &bytes, &model.card.name, shape, shared.batch, &shared.session)?;
        Counters::add(&shared.counters.sessions, 1);
        let decoder = model.card.output.decoder(&model.card, size);
        Ok(Self { size, session, preprocessor, decoder })
    }
}
