//! ONNX Runtime's library: finds it, loads it once, and reports its capabilities.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use framerail_core::Device;
use ort::{
    LoadDynamicError,
    environment::Environment,
    ep::{self, ExecutionProvider},
    logging::LogLevel,
};
use parking_lot::Mutex;

use crate::{InferError, SearchPath};

/// ONNX Runtime as `doctor` reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeInfo {
    /// The library file.
    pub path: PathBuf,
    /// Version, such as `1.31.1`; from the file's name if the library's build text lacks it.
    pub version: String,
    /// Execution providers that this build of the library has.
    pub providers: Vec<String>,
}

/// The loaded library. There is one per process, and it stays loaded.
pub struct Runtime {
    pub(crate) environment: Environment,
    info: RuntimeInfo,
    /// OpenVINO's plugin, once it is loaded.
    pub(crate) openvino: Mutex<Option<PathBuf>>,
}

/// The CUDA provider of ONNX Runtime, a file beside the library.
const CUDA_PROVIDER: &str = "libonnxruntime_providers_cuda.so";

static LOADED: OnceLock<Runtime> = OnceLock::new();
static LOADING: Mutex<()> = Mutex::new(());

impl Runtime {
    /// Loads the library, or returns the loaded one.
    ///
    /// Searched as `explicit`, `ORT_DYLIB_PATH`, in `FRAMERAIL_HOME/venv` and `.framerail/venv` upwards from the working
    /// directory, in the active Python environment, in the system's library folders.
    ///
    /// # Errors
    /// `Missing` with the places that were searched; `Runtime` for a file that is not a library, is too old, or another one than is loaded.
    pub fn load(explicit: Option<&Path>, search: &SearchPath) -> Result<&'static Runtime, InferError> {
        Self::load_for(Device::Cpu, explicit, search)
    }

    /// The same for a device: of several libraries, one that runs models there takes precedence.
    ///
    /// # Errors
    /// As [`Runtime::load`].
    pub fn load_for(device: Device, explicit: Option<&Path>, search: &SearchPath) -> Result<&'static Runtime, InferError> {
        let _one_at_a_time = LOADING.lock();
        if let Some(runtime) = LOADED.get() {
            return runtime.unless_other_is_wanted(explicit);
        }
        let path = find_library(device, explicit, search)?;
        let environment = load_environment(&path)?;
        let info = RuntimeInfo { version: version(&path), providers: providers(&path), path };
        Ok(LOADED.get_or_init(|| Runtime { environment, info, openvino: Mutex::new(None) }))
    }

    /// Path, version and providers.
    pub fn info(&self) -> &RuntimeInfo {
        &self.info
    }

    fn unless_other_is_wanted(&'static self, explicit: Option<&Path>) -> Result<&'static Runtime, InferError> {
        match explicit {
            Some(path) if !same_file(path, &self.info.path) => Err(InferError::Runtime {
                path: path.to_owned(),
                reason: format!("{} is loaded already, and a process can hold one only", self.info.path.display()),
            }),
            _ => Ok(self),
        }
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn find_library(device: Device, explicit: Option<&Path>, search: &SearchPath) -> Result<PathBuf, InferError> {
    let named = explicit.map(Path::to_owned).or_else(|| search.runtime_library.clone());
    if let Some(path) = named {
        let origin = if explicit.is_some() { "the path as given" } else { "ORT_DYLIB_PATH" };
        return if path.is_file() {
            Ok(path)
        } else {
            let hint = format!("{origin} must name the library file (libonnxruntime.so); `make setup` installs one");
            Err(InferError::Missing { what: "ONNX Runtime's library".into(), looked: vec![path], hint })
        };
    }
    let found: Vec<PathBuf> = search.runtime_folders().iter().filter_map(|folder| newest_library(folder)).collect();
    let fitting = found.iter().find(|path| device == Device::Cpu || path.with_file_name(CUDA_PROVIDER).is_file());
    fitting.or(found.first()).cloned().ok_or_else(|| InferError::Missing {
        what: "ONNX Runtime's library".into(),
        looked: search.environments().into_iter().chain(search.library_folders.clone()).collect(),
        hint: "run `make setup`, or `pip install onnxruntime` in an active environment, or set ORT_DYLIB_PATH to libonnxruntime.so".into(),
    })
}

/// `libonnxruntime.so` or `libonnxruntime.so.VERSION` in a folder, the highest version first.
fn newest_library(folder: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    let names = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so."))
    });
    names.map(|entry| entry.path()).filter(|path| path.is_file()).max_by_key(|path| version_numbers(path))
}

fn version_numbers(path: &Path) -> Vec<u32> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.trim_start_matches("libonnxruntime.so").split('.').filter_map(|part| part.parse().ok()).collect()
}

fn load_environment(path: &Path) -> Result<Environment, InferError> {
    let wrong = |reason: String| InferError::Runtime { path: path.to_owned(), reason };
    // ort resolves a relative path beside the program first; ours is relative to the working directory.
    let absolute = std::path::absolute(path).map_err(|error| wrong(error.to_string()))?;
    let builder = ort::init_from(&absolute).map_err(|error| wrong(describe(&error)))?;
    let environment = builder
        .with_name("framerail")
        .with_telemetry(false)
        .with_logger(Arc::new(|level: LogLevel, _category: &str, _id: &str, _place: &str, message: &str| {
            log::log!(target: "onnxruntime", to_log_level(level), "{message}");
        }))
        .build()
        .map_err(|error| wrong(format!("cannot be initialised: {error}")))?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

fn describe(error: &LoadDynamicError) -> String {
    match error {
        LoadDynamicError::Dlopen { error, .. } => {
            let text = error.to_string();
            let reason = text.rsplit(": ").next().unwrap_or(&text).to_owned();
            format!("is not a library that can be loaded here ({reason}); `make setup` installs one")
        }
        LoadDynamicError::MissingApi { .. } => "is a library, but not ONNX Runtime; `make setup` installs one".into(),
        LoadDynamicError::BadVersion { version_str, .. } => {
            format!("is version {version_str}, which is too old; 1.{} or later is needed: `pip install -U onnxruntime`", ort::MINOR_VERSION)
        }
        other => other.to_string(),
    }
}

fn to_log_level(level: LogLevel) -> log::Level {
    match level {
        LogLevel::Fatal | LogLevel::Error => log::Level::Error,
        LogLevel::Warning => log::Level::Warn,
        LogLevel::Info => log::Level::Debug,
        LogLevel::Verbose => log::Level::Trace,
    }
}

/// The release in the library's build text (`git-branch=rel-1.31.1`), else in the file's name.
fn version(path: &Path) -> String {
    let from_build = ort::info().split("rel-").nth(1).and_then(|rest| rest.split([',', ' ']).next());
    match from_build {
        Some(version) if version.starts_with(|digit: char| digit.is_ascii_digit()) => version.to_owned(),
        _ => {
            let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let numbers: Vec<String> = version_numbers(&real).iter().map(u32::to_string).collect();
            if numbers.is_empty() { "unknown".into() } else { numbers.join(".") }
        }
    }
}

/// Providers compiled into the library or found beside it: those for GPUs are separate libraries.
fn providers(library: &Path) -> Vec<String> {
    let real = library.canonicalize().unwrap_or_else(|_| library.to_owned());
    let is_there = |name: &str| name == "cpu" || real.with_file_name(format!("libonnxruntime_providers_{name}.so")).exists();
    let asked = [("cpu", ep::CPU::is_available()), ("cuda", ep::CUDA::is_available()), ("tensorrt", ep::TensorRT::is_available())];
    asked
        .into_iter()
        .filter(|(_, available)| matches!(available, Ok(true)))
        .map(|(name, _)| name)
        .filter(|name| is_there(name))
        .map(str::to_owned)
        .collect()
}
