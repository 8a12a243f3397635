//! Finds the CUDA and cuDNN libraries of ONNX Runtime's CUDA provider in Python packages.

use std::path::PathBuf;

use crate::SearchPath;

/// A library by name and release numbers, newest first.
struct Library {
    name: &'static str,
    releases: &'static [u32],
    is_needed: bool,
}

/// In an order in which each finds its dependencies. cuDNN loads its parts from its own folder, and NVRTC by name.
const LIBRARIES: &[Library] = &[
    Library { name: "cudart", releases: &[13, 12], is_needed: true },
    Library { name: "cublasLt", releases: &[13, 12], is_needed: true },
    Library { name: "cublas", releases: &[13, 12], is_needed: true },
    Library { name: "nvrtc", releases: &[13, 12], is_needed: false },
    Library { name: "curand", releases: &[10], is_needed: true },
    Library { name: "cufft", releases: &[12, 11], is_needed: false },
    Library { name: "cudnn", releases: &[9], is_needed: true },
];

/// Libraries that were not found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MissingLibraries {
    names: Vec<String>,
    /// Libraries that do not load, with the reason.
    broken: Vec<String>,
}

impl MissingLibraries {
    /// One line to append to the provider's error; empty if nothing is known to be missing.
    pub(crate) fn hint(&self) -> String {
        let mut hint = String::new();
        if !self.names.is_empty() {
            let names = self.names.join(", ");
            hint += &format!(
                "; not found: {names}. Install CUDA and cuDNN, or the Python packages nvidia-cublas, nvidia-curand and nvidia-cudnn-cu13 (PyTorch brings them), or set LD_LIBRARY_PATH"
            );
        }
        if !self.broken.is_empty() {
            hint += &format!("; not loaded: {}", self.broken.join(", "));
        }
        hint
    }
}

/// Loads libraries that the system's search does not find from Python packages, so that the provider finds them loaded.
pub(crate) fn preload(search: &SearchPath) -> MissingLibraries {
    let mut folders = search.cuda_folders();
    folders.push("/usr/local/cuda/lib64".into());
    let mut missing = MissingLibraries::default();
    for library in LIBRARIES {
        if !library.load(&folders, &mut missing.broken) && library.is_needed {
            missing.names.push(format!("lib{}.so", library.name));
        }
    }
    missing
}

impl Library {
    fn load(&self, folders: &[PathBuf], broken: &mut Vec<String>) -> bool {
        self.releases.iter().any(|release| {
            let file = format!("lib{}.so.{release}", self.name);
            if ort::util::preload_dylib(&file).is_ok() {
                return true;
            }
            let Some(path) = find(folders, &file) else { return false };
            let loaded = ort::util::preload_dylib(&path);
            if let Err(error) = &loaded {
                broken.push(format!("{} ({error})", path.display()));
            }
            loaded.is_ok()
        })
    }
}

fn find(folders: &[PathBuf], file: &str) -> Option<PathBuf> {
    folders.iter().map(|folder| folder.join(file)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_python_packages_are_found_and_named_when_missing() {
        let folder = tempfile::TempDir::new().expect("temporary folder");
        let lib = folder.path().join("lib/python3.12/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&lib).expect("writable");
        std::fs::write(lib.join("libcufft.so.12"), "no library").expect("writable");
        let search = SearchPath { python_environments: vec![folder.path().to_owned()], ..SearchPath::default() };
        let folders = search.cuda_folders();
        assert!(folders.contains(&lib));
        assert_eq!((find(&folders, "libcufft.so.12"), find(&folders, "libcudnn.so.0")), (Some(lib.join("libcufft.so.12")), None));
        let nowhere = Library { name: "framerail-none", releases: &[2, 1], is_needed: true };
        let mut missing = MissingLibraries { names: vec!["libframerail-none.so".into()], broken: Vec::new() };
        assert!(!nowhere.load(&folders, &mut missing.broken));
        let damaged = Library { name: "cufft", releases: &[12], is_needed: true };
        // On a machine with the real one, that goes first.
        assert_eq!(damaged.load(&folders, &mut missing.broken), missing.broken.is_empty());
        assert!(missing.hint().starts_with("; not found: libframerail-none.so. Install CUDA and cuDNN"), "{}", missing.hint());
    }
}
