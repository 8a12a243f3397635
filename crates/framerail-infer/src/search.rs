//! Search paths of cards, models and ONNX Runtime.

use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder that `make setup` fills, below the project's root.
const HOME_FOLDER: &str = ".framerail";

/// The search paths, taken from the environment once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPath {
    /// `FRAMERAIL_HOME`.
    pub home: Option<PathBuf>,
    /// The folders that `FRAMERAIL_MODELS` names, with a colon between two of them.
    pub models: Vec<PathBuf>,
    /// The working directory.
    pub working_directory: PathBuf,
    /// The folder of the running program, so that a build finds what `make setup` put beside it.
    pub program_folder: Option<PathBuf>,
    /// The user's data folder: `XDG_DATA_HOME`, else `~/.local/share`.
    pub user_data: Option<PathBuf>,
    /// `VIRTUAL_ENV` and `CONDA_PREFIX`: Python environments that are active.
    pub python_environments: Vec<PathBuf>,
    /// `ORT_DYLIB_PATH`: ONNX Runtime's library file.
    pub runtime_library: Option<PathBuf>,
    /// `FRAMERAIL_OPENVINO`: the library file of OpenVINO's plugin for ONNX Runtime.
    pub openvino_library: Option<PathBuf>,
    /// The user's cache folder: `XDG_CACHE_HOME`, else `~/.cache`.
    pub user_cache: Option<PathBuf>,
    /// Folders of the system's libraries, `LD_LIBRARY_PATH` first.
    pub library_folders: Vec<PathBuf>,
}

impl SearchPath {
    /// The paths from the environment.
    pub fn from_env() -> Self {
        let folder = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let arch = env::consts::ARCH;
        let system = ["/usr/local/lib".into(), format!("/usr/lib/{arch}-linux-gnu"), "/usr/lib64".into(), "/usr/lib".into()];
        Self {
            home: folder("FRAMERAIL_HOME"),
            models: listed_folders("FRAMERAIL_MODELS"),
            working_directory: env::current_dir().unwrap_or_else(|_| PathBuf::from(".")),
            program_folder: env::current_exe().ok().and_then(|program| Some(program.parent()?.to_owned())),
            user_data: folder("XDG_DATA_HOME").or_else(|| Some(folder("HOME")?.join(".local/share"))),
            python_environments: ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(folder).collect(),
            runtime_library: folder("ORT_DYLIB_PATH"),
            openvino_library: folder("FRAMERAIL_OPENVINO"),
            user_cache: folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache"))),
            library_folders: listed_folders("LD_LIBRARY_PATH").into_iter().chain(system.into_iter().map(PathBuf::from)).collect(),
        }
    }

    /// `FRAMERAIL_HOME`, then `.framerail` of the working directory and its parents, then of the program's folder and its parents.
    fn homes(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let starts = [Some(self.working_directory.as_path()), self.program_folder.as_deref()];
        let above = starts.into_iter().flatten().flat_map(Path::ancestors).map(|folder| folder.join(HOME_FOLDER));
        self.home.iter().cloned().chain(above)
    }

    /// Files that may be the card of this name.
    pub fn card_files(&self, name: &str) -> Vec<PathBuf> {
        let file = format!("models/{name}.toml");
        let beside_home = self.home.as_deref().and_then(Path::parent).map(|project| project.join(&file));
        let above = self.homes().skip(usize::from(self.home.is_some())).filter(|home| home.is_dir());
        let mut files = vec![self.working_directory.join(&file)];
        files.extend(beside_home);
        files.extend(above.filter_map(|home| Some(home.parent()?.join(&file))));
        files.extend(self.user_data.as_ref().map(|data| data.join("framerail").join(&file)));
        without_repeats(files)
    }

    /// Places of a model file, given the folder of its card.
    pub fn model_files(&self, file: &Path, card_folder: Option<&Path>) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> = card_folder.map(Path::to_owned).into_iter().collect();
        folders.extend(self.models.clone());
        folders.extend(self.homes().filter(|home| home.is_dir() || Some(home) == self.home.as_ref()).map(|home| home.join("models")));
        // Archives and packages bring models beside the program.
        folders.extend(
            self.program_folder.iter().flat_map(|folder| ["models", "../share/framerail/models"].map(|models| folder.join(models))),
        );
        folders.extend(self.user_data.as_ref().map(|data| data.join("framerail/models")));
        without_repeats(folders.into_iter().map(|folder| folder.join(file)).collect())
    }

    /// Folders of ONNX Runtime's library: Python environments first, then the program's, the system's last.
    pub(crate) fn runtime_folders(&self) -> Vec<PathBuf> {
        let project = self.homes().map(|home| home.join("venv"));
        let environments = project.chain(self.python_environments.iter().cloned());
        let mut folders: Vec<PathBuf> = environments.flat_map(|root| python_folders(&root, "onnxruntime/capi")).collect();
        if let Some(program) = &self.program_folder {
            folders.extend([program.join("lib"), program.clone(), program.join("../lib")]);
        }
        folders.extend(self.library_folders.iter().cloned());
        without_repeats(folders)
    }

    /// The folders in which OpenVINO's plugin may be: beside ONNX Runtime in its Python environment, in the other environments.
    pub(crate) fn openvino_folders(&self, runtime_library: &Path) -> Vec<PathBuf> {
        const PACKAGE: &str = "onnxruntime_ep_openvino";
        // site-packages/onnxruntime/capi/libonnxruntime.so
        let packages = runtime_library.parent().and_then(Path::parent).and_then(Path::parent);
        let beside = packages.map(|packages| packages.join(PACKAGE)).filter(|folder| folder.is_dir());
        let project = self.homes().map(|home| home.join("venv"));
        let environments = project.chain(self.python_environments.iter().cloned());
        let others = environments.flat_map(|root| python_folders(&root, PACKAGE));
        without_repeats(beside.into_iter().chain(others).collect())
    }

    /// Where compiled models are kept: in `FRAMERAIL_HOME/cache`, else in the user's cache folder.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        let home = self.home.as_ref().map(|home| home.join("cache"));
        home.or_else(|| Some(self.user_cache.as_ref()?.join("framerail")))
    }

    /// Folders of CUDA's libraries in Python packages: of environments, of the user, of the system.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda_folders(&self) -> Vec<PathBuf> {
        let project = self.homes().map(|home| home.join("venv"));
        let user = self.user_data.as_deref().and_then(Path::parent).map(Path::to_owned);
        let system = ["/usr/local", "/usr", "/opt/conda"].map(PathBuf::from);
        let roots = project.chain(self.python_environments.iter().cloned()).chain(user).chain(system);
        let packages = roots.flat_map(|root| python_folders(&root, "nvidia"));
        let brought = packages.flat_map(|nvidia| {
            let entries = std::fs::read_dir(nvidia).into_iter().flatten().flatten();
            let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path().join("lib")).filter(|lib| lib.is_dir()).collect();
            // The newest release of CUDA first: cu13 before cu12.
            folders.sort_by(|a, b| b.cmp(a));
            folders
        });
        without_repeats(brought.collect())
    }

    /// The Python environments, for a message.
    pub(crate) fn environments(&self) -> Vec<PathBuf> {
        let project = self
            .homes()
            .map(|home| home.join("venv"))
            .filter(|venv| venv.is_dir() || self.home.is_some() && self.home.as_deref() == venv.parent());
        without_repeats(project.chain(self.python_environments.iter().cloned()).collect())
    }
}

/// The folders of a variable of the environment that lists several.
fn listed_folders(name: &str) -> Vec<PathBuf> {
    let listed = env::var_os(name).unwrap_or_default();
    env::split_paths(&listed).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

/// `ROOT/lib/python3*/site-packages/PACKAGE` of a Python installation, and the same where Debian puts it.
fn python_folders(root: &Path, package: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root.join("lib")) else { return Vec::new() };
    let python = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("python3"));
    let mut folders: Vec<PathBuf> = python
        .flat_map(|entry| ["site-packages", "dist-packages"].map(|packages| entry.path().join(packages).join(package)))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

fn without_repeats(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut unique: Vec<PathBuf> = Vec::with_capacity(paths.len());
    for path in paths {
        if !unique.contains(&path) {
            unique.push(path);
        }
    }
    unique
}
