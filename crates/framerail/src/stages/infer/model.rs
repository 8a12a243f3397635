//! The model of an `infer` stage, loaded once, on its device, for the first user.

use std::{
    fmt,
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::Instant,
};

use framerail_core::Device;
use framerail_cuda::{CudaDevice, device_count};
use framerail_infer::{DetectorOptions, InferError, InputSpec, Predictor, Runtime, load_ahead};
use framerail_pipeline::{DeviceChoice, PlanError};
use parking_lot::Mutex;

use super::{kept_models, lanes::SLOTS_OF_SEVERAL};
use crate::{
    convert::model_error,
    devices::{Devices, Settled, unusable},
};

/// Default batch on a GPU: most of the gain for little memory.
const BATCH_ON_CARD: usize = 8;

/// Frame size of a first session if the size is unknown before the start.
pub(super) const ANY_SIZE: (u32, u32) = (640, 360);

/// The model, and what is needed to load it.
pub(crate) struct Model {
    options: DetectorOptions,
    /// As given; the default depends on the device.
    batch: Option<usize>,
    devices: Arc<Devices>,
    choice: DeviceChoice,
    /// The GPU, once it was searched for.
    settled: Option<Settled>,
    loaded: Option<Predictor>,
    /// The same model on the other GPUs that share the work.
    others: Vec<Predictor>,
    /// Loads libraries while the source is opened; joined before they are used, and before the process can exit.
    ahead: Option<JoinHandle<()>>,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.wait_for_libraries();
    }
}

/// The models of one pipeline, so that stages with the same model share it. Entries are weak: they keep no model loaded.
#[derive(Default)]
pub(crate) struct SharedModels(Mutex<Vec<(String, Weak<Mutex<Model>>)>>);

impl fmt::Debug for SharedModels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedModels({})", self.0.lock().len())
    }
}

impl SharedModels {
    fn add(&self, key: String, model: &Arc<Mutex<Model>>) {
        let mut models = self.0.lock();
        models.retain(|(_, model)| model.strong_count() > 0);
        models.push((key, Arc::downgrade(model)));
    }

    /// Another stage's model with this key, loaded on this device.
    fn find(&self, key: &str, device: Device) -> Option<Predictor> {
        let others: Vec<Arc<Mutex<Model>>> = {
            let models = self.0.lock();
            models.iter().filter(|(known, _)| known == key).filter_map(|(_, model)| model.upgrade()).collect()
        };
        // The stage that asks holds its own lock and has no model yet.
        let loaded =
            |other: &Arc<Mutex<Model>>| other.try_lock()?.loaded.as_ref().filter(|found| found.device() == device).map(Predictor::share);
        others.iter().find_map(loaded)
    }
}

impl Model {
    pub(super) fn new(options: DetectorOptions, batch: Option<usize>, devices: &Arc<Devices>, choice: DeviceChoice) -> Arc<Mutex<Self>> {
        let is_for_the_cpu = choice == DeviceChoice::Auto && options.is_for_the_cpu();
        let choice = if is_for_the_cpu { DeviceChoice::On(Device::Cpu) } else { choice };
        let model =
            Self { options, batch, devices: Arc::clone(devices), choice, settled: None, loaded: None, others: Vec::new(), ahead: None };
        let (key, model) = (model.key(), Arc::new(Mutex::new(model)));
        devices.models.add(key, &model);
        model
    }

    /// What two stages must have in common to share a model: everything but the thresholds, which each has separately.
    fn key(&self) -> String {
        let same = DetectorOptions { confidence_threshold: None, iou_threshold: None, ..self.options.clone() };
        format!("{same:?} {:?} {:?}", self.batch, self.choice)
    }

    /// The model of another stage, with this stage's thresholds.
    fn shared(&self, device: Device, size: Option<(u32, u32)>) -> Option<Predictor> {
        let key = self.key();
        let mut predictor = self.devices.models.find(&key, device).or_else(|| kept_models::find(&key, device, size))?;
        let card = predictor.card().thresholds;
        predictor.set_confidence(self.options.confidence_threshold.unwrap_or(card.confidence)).ok()?;
        predictor.set_iou(self.options.iou_threshold.unwrap_or(card.iou)).ok()?;
        log::debug!("model {} on {device}: shared with another place", predictor.card().name);
        Some(predictor)
    }

    /// Starts to load ONNX Runtime and CUDA's libraries on another thread, if a GPU may be used: they are large.
    pub(super) fn load_libraries_ahead(&mut self) {
        if self.choice == DeviceChoice::On(Device::Cpu) || self.ahead.is_some() {
            return;
        }
        let (library, search) = (self.options.runtime_library.clone(), self.options.search.clone());
        let load = move || {
            if device_count().is_ok_and(|count| count > 0) {
                load_ahead(library.as_deref(), &search);
            }
        };
        // Without the thread, they are loaded later.
        self.ahead = std::thread::Builder::new().name("libraries".into()).spawn(load).ok();
    }

    fn wait_for_libraries(&mut self) {
        if self.ahead.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that loads libraries panicked; this is a bug, please report it");
        }
    }

    /// Loads the model on its device: the selected GPU, or, if the device is automatic and the model does not run there, the CPU. `at`
    /// is the device of the frames, `size` their size if known.
    pub(super) fn load(&mut self, at: Device, size: Option<(u32, u32)>) -> Result<&mut Predictor, PlanError> {
        self.wait_for_libraries();
        if self.loaded.is_none() {
            if self.settled.is_none() {
                let can = |card: &Arc<CudaDevice>| has_cuda_provider(&self.options, card.id());
                let settled = self.devices.settle(self.choice, at, "running the model", can)?;
                if !settled.others.is_empty() {
                    self.options.cuda.slots = SLOTS_OF_SEVERAL;
                }
                self.settled = Some(settled);
            }
            self.loaded = match (self.shared(self.card().unwrap_or(Device::Cpu), size), self.card()) {
                (Some(shared), _) => Some(shared),
                (None, Some(device)) => self.load_on_gpu(device, size)?,
                (None, None) => None,
            };
        }
        let runs_on = self.loaded.as_ref().map_or(Device::Cpu, Predictor::device);
        if at != runs_on {
            return Err(PlanError::NeedsDevice(runs_on));
        }
        let predictor = match self.loaded.take() {
            Some(predictor) => predictor,
            None => load_on(&self.options, Device::Cpu, self.batch.unwrap_or(1), size).map_err(model_error)?,
        };
        Ok(self.loaded.insert(predictor))
    }

    /// Loads the model on the other GPUs that share the work.
    ///
    /// # Errors
    /// `Resource` where one of them cannot run it.
    pub(super) fn load_on_others(&mut self, size: Option<(u32, u32)>) -> Result<(), PlanError> {
        let Some(batch) = self.loaded.as_ref().filter(|_| self.others.is_empty()).map(Predictor::batch) else { return Ok(()) };
        let cards = self.settled.as_ref().map(|settled| settled.others.clone()).unwrap_or_default();
        for card in cards {
            let loaded = load_on(&self.options, card.id(), batch, size.or(Some(ANY_SIZE)));
            self.others.push(loaded.map_err(|error| match error.is_about_device() {
                true => unusable(card.id(), &error.to_string()),
                false => model_error(error),
            })?);
        }
        Ok(())
    }

    /// The other GPUs on which the model runs.
    pub(super) fn other_devices(&self) -> Vec<Device> {
        self.others.iter().map(Predictor::device).collect()
    }

    /// The selected GPU.
    fn card(&self) -> Option<Device> {
        self.settled.as_ref()?.gpu.as_ref().map(|gpu| gpu.id())
    }

    /// `None` for the CPU.
    fn load_on_gpu(&mut self, device: Device, size: Option<(u32, u32)>) -> Result<Option<Predictor>, PlanError> {
        // The first session shows what ONNX Runtime lacks for GPUs: create one here, with any frame size.
        let load = |batch| load_on(&self.options, device, batch, size.or(Some(ANY_SIZE)));
        let loaded = match self.batch {
            Some(batch) => load(batch),
            // A model may support one frame at a time only: it declares that, or its graph turns out to be made for one.
            None => load(BATCH_ON_CARD).or_else(|error| {
                let is_declared = matches!(error, InferError::Option { option: "batch", .. });
                if !is_declared && !matches!(error, InferError::Run { .. }) {
                    return Err(error);
                }
                match load(1) {
                    Ok(one) if is_declared => Ok(one),
                    Ok(one) => {
                        log::warn!("{error}; with one frame at a time it runs, so batches of {BATCH_ON_CARD} are not used");
                        Ok(one)
                    }
                    Err(of_one) => Err(if is_declared { of_one } else { error }),
                }
            }),
        };
        match loaded {
            Ok(predictor) => Ok(Some(predictor)),
            Err(error) if !error.is_about_device() => Err(model_error(error).into()),
            Err(error) if self.choice != DeviceChoice::Auto => Err(unusable(device, &error.to_string()).into()),
            Err(error) => {
                let notice = self.devices.fall_back("running the model", error.to_string());
                self.settled = Some(Settled { notice, ..Settled::default() });
                Ok(None)
            }
        }
    }

    /// The loaded model, and notices about its device. A light copy stays, which knows the inputs of further sizes.
    pub(super) fn take(&mut self) -> (Vec<Predictor>, Option<String>) {
        let copy = self.loaded.as_ref().map(Predictor::fork);
        self.loaded = self.loaded.take().map(|loaded| kept_models::keep(self.key(), loaded));
        let loaded = std::mem::replace(&mut self.loaded, copy).into_iter().chain(self.others.drain(..)).collect();
        (loaded, self.settled.as_mut().and_then(|settled| settled.notice.take()))
    }

    /// What it was loaded with.
    pub(super) fn options(&self) -> &DetectorOptions {
        &self.options
    }

    /// Frames per run, once it is loaded.
    pub(super) fn frames_together(&self) -> usize {
        self.loaded.as_ref().map_or(self.batch.unwrap_or(1), Predictor::batch)
    }
}

/// Whether ONNX Runtime can run models on GPUs.
fn has_cuda_provider(options: &DetectorOptions, card: Device) -> Result<(), String> {
    let runtime = Runtime::load_for(card, options.runtime_library.as_deref(), &options.search).map_err(|error| error.to_string())?;
    let info = runtime.info();
    if info.providers.iter().any(|provider| provider == "cuda") {
        return Ok(());
    }
    Err(format!(
        "ONNX Runtime {} at {} runs on {} only; install onnxruntime-gpu",
        info.version,
        info.path.display(),
        info.providers.join(", ")
    ))
}

pub(super) fn load_on(options: &DetectorOptions, device: Device, batch: usize, size: Option<(u32, u32)>) -> Result<Predictor, InferError> {
    let began = Instant::now();
    let mut predictor = Predictor::load(&DetectorOptions { device, batch, ..options.clone() })?;
    let loaded = began.elapsed();
    if let Some((width, height)) = size {
        predictor.warm_up(width, height)?;
    }
    let session = began.elapsed() - loaded;
    log::debug!("model {} on {device}: loaded in {} ms, session in {} ms", options.model, loaded.as_millis(), session.as_millis());
    Ok(predictor)
}

/// The model's input, for a source that makes it while decoding.
#[derive(Clone)]
pub(crate) struct ModelInput(pub(super) Arc<Mutex<Model>>);

impl ModelInput {
    /// The model's input for frames of this size on this device; `None` if it runs elsewhere, or not at all, for a reason that linking
    /// its stage reports.
    pub(crate) fn spec(&self, device: Device, width: u32, height: u32) -> Option<InputSpec> {
        let mut model = self.0.lock();
        let first = match model.others.iter().any(|other| other.device() == device) {
            true => model.card()?,
            false => device,
        };
        model.load(first, Some((width, height))).ok()?.input_spec(width, height).ok()
    }
}
