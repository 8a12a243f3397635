//! OpenVINO's provider for ONNX Runtime: a plugin library with OpenVINO inside, from the Python package `onnxruntime-ep-openvino`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use ort::{device::Device as EpDevice, memory::DeviceType};

use crate::{InferError, Precision, Runtime, SearchPath, error::one_line};

/// The plugin's file.
const LIBRARY: &str = "libonnxruntime_providers_openvino_plugin.so";

/// Name of its devices and prefix of its options.
const PROVIDER: &str = "OpenVINOExecutionProvider";

/// Maximum number of cached compiled models; the oldest are removed first.
const MAX_CACHED: usize = 16;

/// Execution provider of models on [`framerail_core::Device::Cpu`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostProvider {
    /// ONNX Runtime's own kernels.
    #[default]
    OnnxRuntime,
    /// OpenVINO on this device.
    OpenVino(OpenVinoDevice),
}

/// Where OpenVINO runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OpenVinoDevice {
    /// The CPU.
    #[default]
    Cpu,
    /// An Intel GPU. Not measured.
    Gpu,
    /// An Intel NPU. Not measured.
    Npu,
}

impl fmt::Display for OpenVinoDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OpenVinoDevice::Cpu => "CPU",
            OpenVinoDevice::Gpu => "GPU",
            OpenVinoDevice::Npu => "NPU",
        })
    }
}

impl OpenVinoDevice {
    fn kind(self) -> DeviceType {
        match self {
            OpenVinoDevice::Cpu => DeviceType::CPU,
            OpenVinoDevice::Gpu => DeviceType::GPU,
            OpenVinoDevice::Npu => DeviceType::NPU,
        }
    }
}

/// The folder of compiled models.
pub(crate) fn cache_folder(search: &SearchPath, precision: Precision) -> Option<PathBuf> {
    Some(search.cache_folder()?.join("openvino").join(precision.to_string()))
}

/// The plugin's options for a session. The precision is always stated: OpenVINO's default is bfloat16 where the CPU has it.
pub(crate) fn session_options(device: OpenVinoDevice, precision: Precision, threads: usize, cache: Option<&Path>) -> Vec<(String, String)> {
    let hint = match precision {
        Precision::Auto | Precision::Fp32 | Precision::Int8 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Fp16 => "f16",
    };
    let mut config = vec![("INFERENCE_PRECISION_HINT", hint.to_owned())];
    match device {
        OpenVinoDevice::Cpu => config.extend([("INFERENCE_NUM_THREADS", threads.to_string()), ("NUM_STREAMS", "1".into())]),
        // It has a single precision.
        OpenVinoDevice::Npu => config.clear(),
        OpenVinoDevice::Gpu => {}
    }
    config.extend(cache.map(|folder| ("CACHE_DIR", folder.display().to_string())));
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let entries: Vec<String> = config.iter().map(|(key, value)| format!("{}:{}", quoted(key), quoted(value))).collect();
    vec![(format!("{PROVIDER}.load_config"), format!("{{{}:{{{}}}}}", quoted(&device.to_string()), entries.join(",")))]
}

/// Creates the folder of compiled models and removes old ones. `None` if it cannot be created.
pub(crate) fn tidy_cache(folder: &Path) -> Option<&Path> {
    if let Err(error) = std::fs::create_dir_all(folder) {
        log::debug!("compiled models are not cached: {} cannot be created: {error}", folder.display());
        return None;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut blobs: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "blob"))
        .filter_map(|path| Some((std::fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    blobs.sort();
    let beyond = blobs.len().saturating_sub(MAX_CACHED);
    for (_, path) in blobs.into_iter().take(beyond) {
        // Another process may have been faster.
        let _ = std::fs::remove_file(path);
    }
    Some(folder)
}

/// Whether this CPU multiplies bfloat16 in hardware; otherwise OpenVINO would silently run in float32.
pub(crate) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("bf16");
    #[allow(unreachable_code, reason = "other processors")]
    false
}

impl Runtime {
    /// Loads OpenVINO's plugin once per process; returns its file and available devices.
    ///
    /// # Errors
    /// `Missing` if it is not installed; `Runtime` if it does not load into this ONNX Runtime.
    pub fn load_openvino(&self, search: &SearchPath) -> Result<(PathBuf, Vec<OpenVinoDevice>), InferError> {
        let mut loaded = self.openvino.lock();
        if let Some(path) = loaded.as_ref() {
            return Ok((path.clone(), self.openvino_devices()));
        }
        let folders = search.openvino_folders(&self.info().path);
        let places = || search.openvino_library.iter().cloned().chain(folders.iter().map(|folder| folder.join(LIBRARY)));
        let found = places().find(|path| path.is_file()).ok_or_else(|| InferError::Missing {
            what: "OpenVINO's plugin for ONNX Runtime".into(),
            looked: if folders.is_empty() { search.environments() } else { places().collect() },
            hint: format!(
                "`pip install onnxruntime-ep-openvino` beside ONNX Runtime (1.23 or later), or set FRAMERAIL_OPENVINO to {LIBRARY}"
            ),
        })?;
        self.environment.register_ep_library("openvino", &found).map_err(|error| InferError::Runtime {
            path: self.info().path.clone(),
            reason: format!("cannot load {}: {}", found.display(), one_line(&error)),
        })?;
        Ok((loaded.insert(found).clone(), self.openvino_devices()))
    }

    fn openvino_devices(&self) -> Vec<OpenVinoDevice> {
        let all = [OpenVinoDevice::Cpu, OpenVinoDevice::Gpu, OpenVinoDevice::Npu];
        all.into_iter().filter(|device| self.openvino_device(*device).is_some()).collect()
    }

    pub(crate) fn openvino_device(&self, device: OpenVinoDevice) -> Option<EpDevice<'_>> {
        let is_it = |found: &EpDevice<'_>| found.ep().is_ok_and(|name| name == PROVIDER) && found.hardware_device().ty() == device.kind();
        self.environment.devices().find(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_precision_is_always_stated() {
        let options = |device, precision| session_options(device, precision, 2, Some(Path::new("/a \"b\"")));
        let [(key, value)] = &options(OpenVinoDevice::Cpu, Precision::Auto)[..] else { unreachable!("one option") };
        assert_eq!(key, "OpenVINOExecutionProvider.load_config");
        assert_eq!(
            value,
            r#"{"CPU":{"INFERENCE_PRECISION_HINT":"f32","INFERENCE_NUM_THREADS":"2","NUM_STREAMS":"1","CACHE_DIR":"/a \"b\""}}"#
        );
        let hint = |precision| options(OpenVinoDevice::Gpu, precision)[0].1.contains("bf16");
        assert_eq!((hint(Precision::Bf16), hint(Precision::Int8)), (true, false));
    }

    #[test]
    fn the_oldest_compiled_models_go() {
        let folder = tempfile::TempDir::new().expect("temporary folder");
        for number in 0..MAX_CACHED + 3 {
            let file = std::fs::File::create(folder.path().join(format!("{number}.blob"))).expect("writable");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + number as u64);
            file.set_modified(time).expect("a time");
        }
        std::fs::write(folder.path().join("other.txt"), "stays").expect("writable");
        assert_eq!(tidy_cache(folder.path()), Some(folder.path()));
        let is_there = |name: &str| folder.path().join(name).exists();
        assert!(!is_there("2.blob") && is_there("3.blob") && is_there("other.txt"));
    }
}
