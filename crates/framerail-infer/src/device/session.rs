//! A session on a stream of a GPU, with its inputs and outputs.

use framerail_cuda::{CudaStream, KeptContext};
use ort::{
    ep::{self, ExecutionProviderDispatch},
    session::{Session, builder::GraphOptimizationLevel},
};

use super::{
    CudaOptions, Provider,
    libraries::{self, MissingLibraries},
};
use crate::{
    InferError, SearchPath, binding, element::Element, error::one_line, model::PICTURE_AXES, onnx::InputShape, runtime::Runtime,
    shared::Shared,
};

/// An output as the session declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Declared {
    pub(super) name: String,
    /// `None` for element types that cannot be bound.
    pub(super) element: Option<Element>,
    /// `None` if a dimension is open until the model has run.
    pub(super) dims: Option<Vec<i64>>,
}

/// A session on a stream.
pub(super) struct DeviceSession {
    // Dropped before the stream that it runs on.
    pub(super) session: Session,
    pub(super) outputs: Vec<Declared>,
    pub(super) input_dims: Vec<i64>,
    /// Whether some operators run on the CPU, with copies in both directions.
    pub(super) runs_partly_on_cpu: bool,
    _stream: CudaStream,
}

/// What is needed to create a session.
pub(super) struct Recipe<'a> {
    runtime: &'a Runtime,
    search: &'a SearchPath,
    options: &'a CudaOptions,
    stream: &'a CudaStream,
    model: &'a str,
    is_half: bool,
}

impl<'a> Recipe<'a> {
    pub(super) fn new(shared: &'a Shared, stream: &'a CudaStream) -> Self {
        Self {
            runtime: shared.runtime,
            search: &shared.search,
            options: &shared.cuda,
            stream,
            model: &shared.model.card.name,
            is_half: shared.precision.is_half(),
        }
    }

    /// Whether the provider is there and loads.
    pub(super) fn check(&self) -> Result<(), InferError> {
        if !self.runtime.info().providers.iter().any(|name| name == self.provider_name()) {
            let path = self.runtime.info().path.display();
            let reason = format!(
                "ONNX Runtime {path} has no {} provider; `pip install onnxruntime-gpu` instead of onnxruntime, or set ORT_DYLIB_PATH",
                self.provider_name()
            );
            return Err(InferError::Device { device: self.stream.device().id(), reason });
        }
        let _caller = KeptContext::note();
        self.builder(&libraries::preload(self.search)).map(drop)
    }

    /// Loads a model from its bytes; every dimension of `shape` is fixed.
    pub(super) fn session(&self, bytes: &[u8], shape: &InputShape) -> Result<DeviceSession, InferError> {
        let missing = libraries::preload(self.search);
        let (session, runs_partly_on_cpu) = self.build(bytes, &missing)?;
        let input_dims: Vec<i64> = shape.dims.iter().map(|dim| dim.map_or(1, |dim| dim as i64)).collect();
        let batch = if input_dims.len() > PICTURE_AXES { input_dims.first().copied() } else { None };
        crate::memory::check_outputs(self.model, &session, batch.map_or(1, |batch| usize::try_from(batch).unwrap_or(1)))?;
        let outputs = session.outputs().iter().map(|outlet| Declared {
            name: outlet.name().to_owned(),
            element: outlet.dtype().tensor_type().and_then(Element::of),
            dims: outlet.dtype().tensor_shape().and_then(|dims| known_dims(dims, batch)),
        });
        Ok(DeviceSession { outputs: outputs.collect(), session, input_dims, runs_partly_on_cpu, _stream: self.stream.clone() })
    }

    fn provider_name(&self) -> &'static str {
        match self.options.provider {
            Provider::Cuda => "cuda",
            Provider::TensorRt => "tensorrt",
        }
    }

    /// Entirely on the GPU if possible, else with unsupported operators on the CPU.
    fn build(&self, bytes: &[u8], missing: &MissingLibraries) -> Result<(Session, bool), InferError> {
        // ONNX Runtime sets its device and does not restore it.
        let _caller = KeptContext::note();
        let refused =
            |error: &ort::Error| InferError::Run { model: self.model.to_owned(), reason: format!("{}{}", one_line(error), missing.hint()) };
        match self
            .builder(missing)?
            .with_disable_cpu_fallback()
            .map_err(ort::Error::from)
            .and_then(|mut builder| builder.commit_from_memory(bytes))
        {
            Ok(session) => Ok((session, false)),
            Err(error) if error.to_string().contains("fallback") && !self.options.graphs => {
                let session = self.builder(missing)?.commit_from_memory(bytes).map_err(|error| refused(&error))?;
                log::warn!(
                    "model {}: some operators are not supported on the GPU and run on the CPU, with copies in both directions",
                    self.model
                );
                Ok((session, true))
            }
            Err(error) => Err(refused(&error)),
        }
    }

    fn builder(&self, missing: &MissingLibraries) -> Result<ort::session::builder::SessionBuilder, InferError> {
        let plain = || {
            let builder = Session::builder(&self.runtime.environment)?
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_intra_threads(1)?
                .with_inter_threads(1)?
                .with_intra_op_spinning(false)?
                // Laid out as one block, activations would come on top of what the arena holds from the first run.
                .with_memory_pattern(false)?
                .with_device_allocated_initializers()?;
            Ok::<_, ort::Error>(builder)
        };
        let builder = plain().map_err(|error| InferError::Run { model: self.model.to_owned(), reason: one_line(&error) })?;
        builder.with_execution_providers(self.providers()).map_err(|error| {
            let reason = format!("{}{}", one_line(&error), missing.hint());
            InferError::Device { device: self.stream.device().id(), reason }
        })
    }

    fn providers(&self) -> Vec<ExecutionProviderDispatch> {
        let number = i32::try_from(self.stream.device().info().ordinal).unwrap_or(0);
        let mut cuda = ep::CUDA::default()
            .with_device_id(number)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            .with_fuse_conv_bias(self.options.fuse_bias)
            // Without, ONNX Runtime leaves out tensor cores altogether, for float16 too.
            .with_tf32(self.options.tf32 || self.is_half)
            .with_cuda_graph(self.options.graphs)
            .with_prefer_nhwc(self.options.channels_last.unwrap_or(self.is_half));
        if let Some(limit) = self.options.memory_limit_bytes {
            cuda = cuda.with_memory_limit(limit);
        }
        let cuda = binding::on_stream(cuda, self.stream).build().error_on_failure();
        match self.options.provider {
            Provider::Cuda => vec![cuda],
            Provider::TensorRt => vec![self.tensorrt(number).build().error_on_failure(), cuda],
        }
    }

    fn tensorrt(&self, number: i32) -> ep::TensorRT {
        let cache = self.options.engine_cache(self.search);
        if let Err(error) = std::fs::create_dir_all(&cache) {
            log::warn!("TensorRT engines are not cached: {} cannot be created: {error}", cache.display());
        }
        let provider = ep::TensorRT::default()
            .with_device_id(number)
            .with_fp16(self.is_half)
            .with_engine_cache(true)
            .with_engine_cache_path(cache.display())
            .with_timing_cache(true)
            .with_timing_cache_path(cache.display());
        binding::tensorrt_on_stream(provider, self.stream)
    }
}

/// An output's shape, whose first axis is the batch's where the model leaves it open and has a batch; `None` when any other is open.
fn known_dims(dims: &[i64], batch: Option<i64>) -> Option<Vec<i64>> {
    let (first, rest) = dims.split_first()?;
    let first = if *first > 0 { *first } else { batch? };
    rest.iter().all(|dim| *dim > 0).then(|| std::iter::once(first).chain(rest.iter().copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_batch_is_that_of_the_input() {
        assert_eq!(known_dims(&[-1, 8732, 4], Some(32)), Some(vec![32, 8732, 4]));
        assert_eq!(known_dims(&[1, 8732, 4], Some(32)), Some(vec![1, 8732, 4]));
        assert_eq!(known_dims(&[32, -1, 4], Some(32)), None);
        assert_eq!(known_dims(&[], Some(32)), None);
        assert_eq!(known_dims(&[-1, 4], None), None, "of a model for one picture");
    }
}
