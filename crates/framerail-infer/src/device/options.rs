//! Options of models on a GPU.

use std::path::PathBuf;

use crate::SearchPath;

/// The execution provider of ONNX Runtime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Provider {
    /// CUDA with cuDNN.
    #[default]
    Cuda,
    /// TensorRT if its libraries are installed; unsupported operators run on CUDA. Engines are built on first use, which takes minutes,
    /// and are cached. Not measured.
    TensorRt,
}

/// Options of models on a GPU. The defaults keep device memory small.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CudaOptions {
    /// The execution provider.
    pub provider: Provider,
    /// Maximum device memory of activations and workspaces, in bytes; no limit by default. A model that needs more fails. Weights are
    /// additional.
    pub memory_limit_bytes: Option<usize>,
    /// Whether cuDNN fuses a convolution's bias into its kernel: one memory pass less, but kernels are compiled while loading.
    pub fuse_bias: bool,
    /// Whether layers run channels-last; by default in float16 only, whose tensor cores need it.
    pub channels_last: Option<bool>,
    /// Whether float32 models use TF32: inputs of products rounded to ten mantissa bits, for several times the speed. No effect in
    /// float16.
    pub tf32: bool,
    /// Whether runs are recorded once as CUDA graphs and then replayed: less host work with small batches. The first runs record, and
    /// nothing else in the process may allocate device memory meanwhile.
    pub graphs: bool,
    /// Batches in flight; 1 to 32. They run one after another on one stream, so more than two gain little.
    pub slots: usize,
    /// Folder of TensorRT's engines; default: `FRAMERAIL_HOME/cache/tensorrt`, else the user's cache folder.
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
    /// Maximum number of batches in flight.
    pub const MAX_SLOTS: usize = 32;

    /// The folder of TensorRT's engines.
    #[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "only a GPU needs it"))]
    pub(crate) fn engine_cache(&self, search: &SearchPath) -> PathBuf {
        let kept = || Some(search.cache_folder()?.join("tensorrt"));
        self.engine_cache.clone().or_else(kept).unwrap_or_else(|| std::env::temp_dir().join("framerail-tensorrt"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_tensorrt_are_kept_where_asked_else_in_the_home_else_with_the_user() {
        let search =
            |home: Option<&str>| SearchPath { home: home.map(PathBuf::from), user_cache: Some("/cache".into()), ..SearchPath::from_env() };
        let folder = |options: &CudaOptions, home| options.engine_cache(&search(home));
        let asked = CudaOptions { engine_cache: Some("/engines".into()), ..CudaOptions::default() };
        assert_eq!(folder(&asked, Some("/home")), PathBuf::from("/engines"));
        assert_eq!(folder(&CudaOptions::default(), Some("/home")), PathBuf::from("/home/cache/tensorrt"));
        assert_eq!(folder(&CudaOptions::default(), None), PathBuf::from("/cache/framerail/tensorrt"));
    }
}
