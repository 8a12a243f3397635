//! The libraries of CUDA and cuDNN that ONNX Runtime's CUDA provider needs, where only Python packages brought them.

use std::path::{Path, PathBuf};

use crate::SearchPath;

/// In an order in which each finds those that it needs. cuDNN loads its parts itself; they must be there first.
const LIBRARIES: &[&str] = &[
    "cudart",
    "cublasLt",
    "cublas",
    "nvrtc",
    "nvJitLink",
    "curand",
    "cufft",
    "cudnn",
    "cudnn_graph",
    "cudnn_ops",
    "cudnn_heuristic",
    "cudnn_adv",
    "cudnn_cnn",
    "cudnn_engines_precompiled",
    "cudnn_engines_runtime_compiled",
];

/// Those without which the provider does not start.
const NEEDED: &[&str] = &["cudart", "cublasLt", "cublas", "curand", "cufft", "cudnn"];

/// What was looked for and not found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingLibraries {
    names: Vec<String>,
    /// Libraries that are there and do not load, with the reason.
    broken: Vec<String>,
}

impl MissingLibraries {
    /// One line to follow the provider's own complaint; empty when nothing is known to be missing.
    pub(crate) fn hint(&self) -> String {
        let mut hint = String::new();
        if !self.names.is_empty() {
            let names = self.names.join(", ");
            hint += &format!(
                "; not found: {names}. Install CUDA and cuDNN, or the Python packages nvidia-cudnn-cu13 and cuda-toolkit's (PyTorch brings them), or set LD_LIBRARY_PATH"
            );
        }
        if !self.broken.is_empty() {
            hint += &format!("; not loaded: {}", self.broken.join(", "));
        }
        hint
    }
}

/// Loads what is not in the system's folders out of Python packages, so that the provider finds it loaded already.
pub(crate) fn preload(search: &SearchPath, beside: Option<&Path>) -> MissingLibraries {
    let loader: Vec<&Path> = search.library_folders.iter().map(PathBuf::as_path).chain(beside).collect();
    let mut others = search.cuda_folders();
    others.push("/usr/local/cuda/lib64".into());
    let mut missing = MissingLibraries::default();
    for name in LIBRARIES {
        if loader.iter().any(|folder| find(folder, name).is_some()) {
            continue;
        }
        let found = others.iter().filter_map(|folder| find(folder, name)).max_by_key(|(number, _)| *number);
        match found {
            Some((_, path)) => {
                if let Err(error) = ort::util::preload_dylib(&path) {
                    missing.broken.push(format!("{} ({error})", path.display()));
                }
            }
            None if NEEDED.contains(name) => missing.names.push(format!("lib{name}.so")),
            None => {}
        }
    }
    missing
}

/// `libNAME.so.NUMBER` in a folder, the highest number first.
fn find(folder: &Path, name: &str) -> Option<(u32, PathBuf)> {
    let start = format!("lib{name}.so.");
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let numbered = entries.filter_map(|entry| {
        let number: u32 = entry.file_name().to_str()?.strip_prefix(&start)?.parse().ok()?;
        Some((number, entry.path()))
    });
    numbered.max_by_key(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_python_packages_are_looked_for_and_named_when_missing() {
        let folder = tempfile::TempDir::new().expect("temporary folder");
        let lib = folder.path().join("lib/python3.12/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&lib).expect("writable");
        std::fs::write(lib.join("libcufft.so.12"), "no library").expect("writable");
        std::fs::write(lib.join("libcufft.so.12.0.0.61"), "no library").expect("writable");
        let search = SearchPath { python_environments: vec![folder.path().to_owned()], ..SearchPath::default() };
        assert!(search.cuda_folders().contains(&lib));
        assert_eq!(find(&lib, "cufft"), Some((12, lib.join("libcufft.so.12"))));
        assert_eq!(find(&lib, "cudnn"), None);
        let hint = preload(&search, None).hint();
        assert!(hint.contains("libcufft.so.12 ("), "{hint}");
        let beside = preload(&search, Some(&lib));
        assert!(!beside.hint().contains("libcufft"), "the loader's own search finds it: {}", beside.hint());
    }
}
