//! The stages `torch` and `python`, which run Python code.
//!
//! Their options are defined here, so that every program can list them. The Python package implements them; other programs refuse them.

use std::sync::Arc;

use framerail_pipeline::{
    ArgumentSpec, ConfigError, DeviceChoice, OptionKind, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec,
};

use crate::{frame_input::FrameGivers, sources::FindSource};

/// Creates a stage from checked options.
pub type Configure = Arc<dyn Fn(&Options) -> Result<Box<dyn StagePlan>, ConfigError> + Send + Sync>;

/// Implementation of the stages by a Python host. See [`crate::registry_with_python`].
#[derive(Clone, Default)]
pub struct PythonStages {
    /// Creates `torch` stages.
    pub torch: Option<Configure>,
    /// Creates `python` stages.
    pub python: Option<Configure>,
    /// Opens sources: bytes in memory and Python file objects.
    pub sources: Option<FindSource>,
    /// Sources whose frames the program provides.
    pub frames: FrameGivers,
}

pub(super) fn register(registry: &mut Registry, stages: PythonStages) -> Result<(), RegistryError> {
    add(registry, torch(), stages.torch, "Pipeline(...).model(\"NAME\", module)")?;
    add(registry, python(), stages.python, "Pipeline(...).function(\"NAME\", function)")
}

fn add(registry: &mut Registry, spec: StageSpec, configure: Option<Configure>, call: &'static str) -> Result<(), RegistryError> {
    registry.register_with(spec, move |options| match &configure {
        Some(configure) => configure(options),
        None => Err(ConfigError::new("it runs Python code, which this program cannot run")
            .help(format!("run the pipeline with the Python package framerail: {call}"))),
    })
}

fn torch() -> StageSpec {
    StageSpec::transform("torch", "runs a PyTorch model, or any Python function, on batches of frames and attaches the results")
        .other_names(["pytorch"])
        .details(
            "Only with the Python package framerail, where `Pipeline.model` sets the model, its preprocessing and its \
             postprocessing.\n\nFrames become one tensor in a single pass, on their device, and are passed without a copy. The model runs \
             on a separate thread, while the next batch is made. On a GPU two batches are in flight. If the output has a known form, \
             confidence can be changed during the run.",
        )
        .argument(ArgumentSpec::required("model", OptionKind::Text, "name used with Pipeline.model"))
        .option(OptionSpec::integer("batch", 1..=256).default(8).unit("frames").help("frames per model call"))
        .option(OptionSpec::time("max_wait").help(
            "maximum wait to fill a batch, such as 20ms; default: 40ms for live sources, 500ms for \
                                                   files",
        ))
        .option(OptionSpec::integer("every", 1..=1000).default(1).unit("frames").help(
            "run the model on every Nth frame; `hold` or `track` \
                                                                                       fill in between",
        ))
        .option(OptionSpec::switch("pad").default("no").help(
            "whether a call with fewer frames than `batch`, such as a file's last, is padded by repeating the last frame, so that the \
             model sees a single shape (torch.compile, cudnn.benchmark); the extra results are discarded",
        ))
        .option(DeviceChoice::option("where the model runs; default: its device if that is a GPU, else the frames' device"))
}

fn python() -> StageSpec {
    StageSpec::transform("python", "calls a Python function, which may change frames and detections, or drop frames")
        .details(
            "Only with the Python package framerail. `Pipeline.insert_after` and `Pipeline.insert_before` add it automatically; if it is \
             written in the pipeline, `Pipeline.function` sets the function. `@framerail.stage` at the function sets how many frames it \
             gets per call, and on which device.",
        )
        .argument(ArgumentSpec::required("function", OptionKind::Text, "name used with Pipeline.function"))
}

#[cfg(test)]
mod tests {
    use framerail_pipeline::{Description, check};

    #[test]
    fn without_python_they_are_refused_in_one_line() {
        for (stage, call) in [("torch detector batch=4", ".model("), ("python count", ".function(")] {
            let description = Description::parse(&format!("read in.mp4 ! {stage} ! null")).expect("well formed");
            let Err(problems) = check(&description, &crate::registry()) else { panic!("{stage} was accepted") };
            let text = problems.render(false);
            assert!(text.contains("it runs Python code") && text.contains(call), "{text}");
        }
    }
}
