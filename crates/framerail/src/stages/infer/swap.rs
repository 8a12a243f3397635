//! Replacing the model of a running stage.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use framerail_core::Device;
use framerail_infer::{DetectorOptions, InputSpec, Predictor, Task};
use framerail_pipeline::{ErrorKind, Replace, StageError};
use parking_lot::Mutex;

use super::model::load_on;
use crate::convert::model_error;

/// The model of a stage, which can be replaced by one with the same task and classes.
pub(super) struct Swap {
    options: DetectorOptions,
    device: Device,
    batch: usize,
    /// Size of frames, if known.
    size: Option<(u32, u32)>,
    /// The first model's.
    contract: Contract,
    state: Mutex<State>,
    /// Number of replacements, so that workers can check without a lock.
    generation: AtomicU64,
}

/// Properties that later stages and the source rely on.
struct Contract {
    task: Task,
    labels: Vec<String>,
    landmarks: usize,
    /// On a GPU, where the source may make inputs for the model.
    input: Option<InputSpec>,
}

impl Contract {
    fn of(model: &Predictor, size: Option<(u32, u32)>) -> Self {
        let size = size.filter(|_| model.device() != Device::Cpu);
        Self {
            task: model.task(),
            labels: model.labels().iter().map(|label| label.name.to_string()).collect(),
            landmarks: model.card().landmarks.len(),
            input: size.and_then(|(width, height)| model.input_spec(width, height).ok()),
        }
    }
}

struct State {
    name: String,
    /// The model that workers fork; `None` for the initial one.
    latest: Option<Predictor>,
}

impl Swap {
    pub(super) fn new(options: &DetectorOptions, first: &Predictor, size: Option<(u32, u32)>) -> Self {
        let state = State { name: options.model.clone(), latest: None };
        Self {
            options: options.clone(),
            device: first.device(),
            batch: first.batch(),
            size,
            contract: Contract::of(first, size),
            state: Mutex::new(state),
            generation: AtomicU64::new(0),
        }
    }

    /// A fork of the latest model for a worker, unless it already has one.
    pub(super) fn newer_than(&self, generation: &mut u64) -> Option<Predictor> {
        let latest = self.generation.load(Ordering::Acquire);
        if latest == *generation {
            return None;
        }
        *generation = latest;
        self.state.lock().latest.as_ref().map(Predictor::fork)
    }

    /// Why later stages could not continue with a model.
    fn mismatch(&self, model: &Predictor) -> Option<String> {
        let (old, new) = (&self.contract, Contract::of(model, self.size));
        if old.task != new.task {
            return Some(format!("it is a model for {}, and the stage runs one for {}", new.task, old.task));
        }
        if old.labels != new.labels {
            return Some(format!("its classes are {}, and those of the first model are {}", shown(&new.labels), shown(&old.labels)));
        }
        if old.landmarks != new.landmarks {
            return Some(format!("it has {} landmarks, and the first model {}", new.landmarks, old.landmarks));
        }
        (old.input != new.input).then(|| "its input differs in size or normalisation, and the source follows the first model's".into())
    }
}

/// A few of the names, for a message.
fn shown(names: &[String]) -> String {
    const MOST: usize = 5;
    let more = names.len().saturating_sub(MOST);
    let first = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{first} and {more} more") } else { first }
}

impl Replace for Swap {
    fn current(&self) -> String {
        self.state.lock().name.clone()
    }

    fn replace(&self, with: &str) -> Result<(), StageError> {
        let options = DetectorOptions { model: with.to_owned(), ..self.options.clone() };
        let model = load_on(&options, self.device, self.batch, self.size).map_err(model_error)?;
        if let Some(why) = self.mismatch(&model) {
            return Err(StageError::new(ErrorKind::Model, format!("{with} cannot replace {}: {why}", self.current())));
        }
        *self.state.lock() = State { name: with.to_owned(), latest: Some(model) };
        self.generation.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

/// The model that a worker should use.
pub(super) struct Followed {
    pub(super) swap: Arc<Swap>,
    pub(super) generation: u64,
}
