//! A model on the CPU.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use framerail_core::StreamId;
use framerail_vision::Preprocessor;
use parking_lot::Mutex;

use crate::{
    HostProvider, InferError, Prediction, View,
    card::Thresholds,
    decode::Decoder,
    more_inputs::{FilledInput, FilledInputs},
    onnx::HalfEnds,
    session::{ModelSession, SharedSession},
    shared::{Counters, Shared, frame_error},
    size::InputSize,
};

/// Sessions for different input sizes that one predictor keeps. Each holds the model's weights and activations.
const MAX_SESSIONS: usize = 2;

/// Sessions by input size, for all that share them; weak, so unused ones are released.
type SessionPool = Arc<Mutex<Vec<(InputSize, Weak<SharedSession>)>>>;

/// Runs a model on the CPU.
pub(crate) struct HostPredictor {
    shared: Arc<Shared>,
    /// The most recently used is last.
    sized: Vec<SizedModel>,
    pool: SessionPool,
}

/// Everything for one input size.
struct SizedModel {
    size: InputSize,
    session: ModelSession,
    preprocessor: Preprocessor,
    decoder: Decoder,
    more: FilledInputs,
    /// The last input of each stream, for models that compare two frames.
    before: HashMap<StreamId, FilledInput>,
}

impl HostPredictor {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), sized: Vec::new(), pool: SessionPool::default() }
    }

    /// Another predictor with the same sessions.
    pub(crate) fn share(&self, shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), sized: Vec::new(), pool: Arc::clone(&self.pool) }
    }

    /// Creates the session for a size.
    pub(crate) fn warm_up(&mut self, size: InputSize) -> Result<(), InferError> {
        self.sized_for(size).map(drop)
    }

    /// Forgets the last input of a stream.
    pub(crate) fn forget(&mut self, stream: StreamId) {
        self.sized.iter_mut().for_each(|sized| drop(sized.before.remove(&stream)));
    }

    /// One run of the model on views that share an input size.
    pub(crate) fn run(&mut self, size: InputSize, views: &[View<'_>], thresholds: &Thresholds) -> Result<Vec<Prediction>, InferError> {
        let shared = Arc::clone(&self.shared);
        let sized = self.sized_for(size)?;
        let mut seen = Vec::with_capacity(views.len());
        for (item, view) in views.iter().enumerate() {
            let (frame, preprocessor) = (view.frame(), &mut sized.preprocessor);
            let mapping = sized.session.write_input(item, |input| match view.area() {
                None => preprocessor.run(frame, input),
                Some(area) => preprocessor.run_crop(frame, area, input),
            });
            seen.push(Shared::seen(view, mapping.map_err(|error| frame_error(frame, error))?));
        }
        let geometry: Vec<_> = seen.iter().map(|seen| seen.geometry(size)).collect();
        shared.model.more.refill(size, &geometry, &mut sized.more).map_err(|reason| shared.run_error(reason))?;
        let given = sized.more.inputs.len();
        if let (Some(name), [view]) = (&shared.model.previous, views) {
            let Some(before) = sized.before.insert(view.frame().stream, sized.session.input_as(name)) else {
                return Ok(vec![Prediction::Description(None)]);
            };
            sized.more.inputs.push(before);
        }
        let decoder = &sized.decoder;
        let found = sized.session.run_with(views.len(), &sized.more.inputs, |tensors| {
            seen.iter().enumerate().map(|(item, seen)| shared.read(decoder, tensors, item, seen, thresholds)).collect()
        });
        sized.more.inputs.truncate(given);
        found
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
                self.sized.push(SizedModel::new(&self.shared, size, &self.pool)?);
            }
        }
        self.sized.last_mut().ok_or_else(|| self.shared.run_error("it has no session"))
    }
}

impl SizedModel {
    fn new(shared: &Shared, size: InputSize, pool: &SessionPool) -> Result<Self, InferError> {
        let preprocessor = shared.preprocessor(size)?;
        // Held while the session is created, so that others that share it wait instead of creating another.
        let mut pool = pool.lock();
        pool.retain(|(_, session)| session.strong_count() > 0);
        let known = pool.iter().find(|(known, _)| *known == size).and_then(|(_, session)| session.upgrade());
        let session = match known {
            Some(known) => known.with_own_input(),
            None => {
                let session = new_session(shared, size)?;
                pool.push((size, Arc::downgrade(session.shared())));
                Counters::add(&shared.counters.sessions, 1);
                session
            }
        };
        let decoder = shared.model.card.output.decoder(&shared.model.card, size);
        Ok(Self { size, session, preprocessor, decoder, more: FilledInputs::default(), before: HashMap::new() })
    }
}

fn new_session(shared: &Shared, size: InputSize) -> Result<ModelSession, InferError> {
    let model = &shared.model;
    let shape = model.shape(size, shared.batch);
    // OpenVINO converts by itself.
    let is_converted = shared.precision.is_half() && shared.session.provider == HostProvider::OnnxRuntime;
    let bytes = match is_converted {
        // The host writes and reads float32; the model casts at both ends.
        true => shared.half_bytes(&shape, HalfEnds::default())?.into(),
        false => model.bytes(&shape)?,
    };
    ModelSession::new(shared.runtime, &bytes, &model.card.name, shape, shared.batch, &shared.session)
}
