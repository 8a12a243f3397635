//! The compiled part of the Python package `framerail`: readers, batches, pipelines, and tensors by DLPack.
//!
//! It is thin: `python/framerail` checks and documents arguments and sets defaults; here they arrive as JSON or plain values. Every call
//! that may take long releases the GIL and checks for signals ([`waiting`]).
#![deny(unsafe_code)]

mod attribute;
mod audio;
mod audio_writer;
mod augment;
mod background;
mod batches;
mod clip_loader;
mod clips;
mod dense_map;
mod detection;
mod dlpack;
mod errors;
mod fork;
mod frame_input;
mod frame_item;
mod frame_writer;
mod function_stage;
mod hosted;
mod info;
mod jobs;
mod kept_thread;
mod logging;
mod model_answers;
mod model_caller;
mod model_input;
mod model_stage;
mod options;
mod pipeline;
mod program;
mod reader;
mod source;
mod tensor;
mod video_index;
mod waiting;
mod watching;

use pyo3::prelude::*;

/// The compiled part of framerail. Use the package `framerail`.
// State that Python shares is behind locks or atomics, and calls on objects that Python may change borrow them: free-threaded
// builds need no GIL here.
#[pymodule(gil_used = false)]
mod _framerail {
    #[pymodule_export]
    use crate::{
        attribute::{Attribute, InstanceMask},
        audio::Audio,
        audio_writer::AudioFile,
        augment::Augment,
        batches::Batches,
        clip_loader::ClipLoader,
        clips::{mixed_seed, sample},
        dense_map::DenseMap,
        detection::Detection,
        frame_input::FrameInput,
        frame_item::FrameItem,
        frame_writer::Writer,
        info::{blur_faces_pipeline, cuda_devices, ffmpeg, models, onnxruntime, release_cuda_memory, stages, version},
        jobs::{container_start, join_pieces, keep_models},
        logging::set_log_level,
        model_input::FrameConverter,
        pipeline::Pipeline,
        program::program,
        reader::Reader,
        tensor::Tensor,
        video_index::{index_video, read_index, write_index},
    };

    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::logging::start();
        crate::background::watch_the_end(module)?;
        framerail::cuda::on_memory_pressure(crate::dlpack::empty_torch_cache);
        Ok(())
    }
}
