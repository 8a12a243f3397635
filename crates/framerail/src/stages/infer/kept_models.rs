//! Models that stay loaded between the pipelines of one process, for workers that run one pipeline after another.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::SystemTime,
};

use framerail_core::Device;
use framerail_infer::Predictor;
use parking_lot::Mutex;

/// Maximum number of kept models: a worker runs one pipeline, or a few.
const MAX_MODELS: usize = 8;

static IS_WANTED: AtomicBool = AtomicBool::new(false);
static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

struct Kept {
    key: String,
    device: Device,
    /// State of the files from which it was loaded.
    files: Vec<(PathBuf, Option<State>)>,
    predictor: Predictor,
}

/// Size and modification time of a file.
type State = (u64, SystemTime);

/// Sets whether models stay loaded after a pipeline has ended, so that the next one of this process with the same model and options
/// starts at once. Off by default; switching it off releases the kept models.
pub fn keep_models(is_wanted: bool) {
    IS_WANTED.store(is_wanted, Ordering::Relaxed);
    if !is_wanted {
        KEPT.lock().clear();
    }
}

/// A model that an earlier pipeline loaded, ready for this frame size; `None` if there is none, or its files have changed.
pub(super) fn find(key: &str, device: Device, size: Option<(u32, u32)>) -> Option<Predictor> {
    let mut kept = KEPT.lock();
    kept.retain(|kept| kept.files.iter().all(|(path, state)| state_of(path) == *state));
    let found = kept.iter_mut().find(|kept| kept.key == key && kept.device == device)?;
    if let Some((width, height)) = size {
        // Its session is kept with it. An error here occurs again, with its reason, where the model is used.
        let _ = found.predictor.warm_up(width, height);
    }
    Some(found.predictor.share())
}

/// Keeps a model if enabled; returns the one to use.
pub(super) fn keep(key: String, predictor: Predictor) -> Predictor {
    if !IS_WANTED.load(Ordering::Relaxed) {
        return predictor;
    }
    let mut kept = KEPT.lock();
    let device = predictor.device();
    if kept.iter().any(|kept| kept.key == key && kept.device == device) {
        return predictor;
    }
    if kept.len() >= MAX_MODELS {
        kept.remove(0);
    }
    let share = predictor.share();
    let files = predictor.files().map(|path| (path.to_owned(), state_of(path))).collect();
    kept.push(Kept { key, device, files, predictor });
    share
}

fn state_of(path: &std::path::Path) -> Option<State> {
    let found = std::fs::metadata(path).ok()?;
    Some((found.len(), found.modified().ok()?))
}
