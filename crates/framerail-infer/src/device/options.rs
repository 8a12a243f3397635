//! How models run on a card.

use std::path::PathBuf;

use crate::SearchPath;

/// Which part of ONNX Runtime runs a model on a card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Provider {
    /// CUDA with cuDNN.
    #[default]
    Cuda,
    /// TensorRT where its libraries are installed; what it does not take runs on CUDA. Engines are built on first use, which takes
    /// minutes, and are cached. Not measured.
    TensorRt,
}

/// Options of models on a card. The defaults keep device memory small.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaOptions {
    /// What runs the model.
    pub provider: Provider,
    /// The most device memory that activations and workspaces may take, in bytes; no limit by default. A model that needs more
    /// fails. Weights come on top.
    pub memory_limit_bytes: Option<usize>,
    /// Whether cuDNN adds a convolution's bias in the same kernel: one pass over memory less, kernels compiled while loading.
    pub fuse_bias: bool,
    /// Whether layers run with channels last; by default in float16 only, whose tensor cores want it.
    pub channels_last: Option<bool>,
    /// Whether float32 models use TF32: inputs of products rounded to ten bits of mantissa, for several times the speed. Of no
    /// matter in float16.
    pub tf32: bool,
    /// Whether runs are recorded once as CUDA graphs and then replayed: less work for the host with small batches. The first runs
    /// record, and nothing else in the process may allocate device memory meanwhile.
    pub graphs: bool,
    /// Batches in flight; 1 to 32. They follow each other on one stream, so more than two gain little.
    pub slots: usize,
    /// Folder of TensorRT's engines; `FRAMERAIL_HOME/cache/tensorrt`, else the user's cache folder, by default.
    pub engine_cache: Option<PathBuf>,
}

impl Default for CudaOptions {
    fn default() -> Self {
        Self {
            provider: Provider::Cuda,
            memory_limit_bytes: None,
            fuse_bias: false,
            channels_last: None,
            tf32: true,
            graphs: false,
            slots: 2,
            engine_cache: None,
        }
    }
}

impl CudaOptions {
    /// The most batches in flight.
    pub const MAX_SLOTS: usize = 32;

    /// The folder of TensorRT's engines.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU needs it"))]
    pub(crate) fn engine_cache(&self, search: &SearchPath) -> PathBuf {
        let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.engine_cache
            .clone()
            .or_else(|| Some(search.home.as_ref()?.join("cache/tensorrt")))
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("framerail/tensorrt")))
            .or_else(|| Some(folder("HOME")?.join(".cache/framerail/tensorrt")))
            .unwrap_or_else(|| std::env::temp_dir().join("framerail-tensorrt"))
    }
}
