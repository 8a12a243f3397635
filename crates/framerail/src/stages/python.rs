//! The stages `torch` and `python`: work that Python code does.
//!
//! Their options are known here, so that every program can say what they are. The Python package brings what does the work;
//! elsewhere they are refused in one line.

use std::sync::Arc;

use framerail_pipeline::{
    ArgumentSpec, ConfigError, DeviceChoice, OptionKind, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec,
};

/// Makes a stage from checked options.
pub type Configure = Arc<dyn Fn(&Options) -> Result<Box<dyn StagePlan>, ConfigError> + Send + Sync>;

/// What does the work of the stages, where there is a Python that can. See [`crate::registry_with_python`].
#[derive(Clone, Default)]
pub struct PythonStages {
    /// Makes `torch` stages.
    pub torch: Option<Configure>,
    /// Makes `python` stages.
    pub python: Option<Configure>,
}

pub(super) fn register(registry: &mut Registry, stages: PythonStages) -> Result<(), RegistryError> {
    add(registry, torch(), stages.torch, "Pipeline(...).model(\"NAME\", module)")?;
    add(registry, python(), stages.python, "Pipeline(...).function(\"NAME\", function)")
}

fn add(registry: &mut Registry, spec: StageSpec, configure: Option<Configure>, call: &'static str) -> Result<(), RegistryError> {
    registry.register_with(spec, move |options| match &configure {
        Some(configure) => configure(options),
        None => Err(ConfigError::new("its work is done by Python code, which this program does not run")
            .help(format!("run the pipeline with the Python package framerail: {call}"))),
    })
}

fn torch() -> StageSpec {
    StageSpec::transform("torch", "runs a PyTorch model, or any Python function, on batches of frames and attaches what it finds")
        .details(
            "Only with the Python package framerail, where `Pipeline.model` gives the model, what frames are made into for it, and what \
             is made of its outputs.\n\n\
             Frames become one tensor in a single pass, on the device where they lie, and are handed over without a copy. The model runs on \
             a thread of its own: the next batch is made meanwhile. On a card two batches are in flight. Where outputs of a known \
             form are read, confidence may be changed while it runs.",
        )
        .argument(ArgumentSpec::required("model", OptionKind::Text, "the name that Pipeline.model gives it"))
        .option(OptionSpec::integer("batch", 1..=256).default(8).unit("frames").help("frames in one call of the model"))
        .option(OptionSpec::time("max_wait").help("longest wait for a batch to fill, such as 20ms, for live sources; none otherwise"))
        .option(OptionSpec::integer("every", 1..=1000).default(1).unit("frames").help("look at every Nth frame; `hold` fills in between"))
        .option(OptionSpec::switch("pad").default("no").help(
            "whether a call with fewer frames than `batch`, such as a file's last, is filled up with its last frame again, so that the model \
             sees one shape only (torch.compile, cudnn.benchmark); what comes of them is cut off",
        ))
        .option(DeviceChoice::option("where the model runs; otherwise where it lies when that is a card, else where the frames are"))
}

fn python() -> StageSpec {
    StageSpec::transform("python", "calls a Python function with frames, which may change them, their detections, or take them out")
        .details(
            "Only with the Python package framerail. `Pipeline.insert_after` and `Pipeline.insert_before` put it in by themselves; where it \
             is written in the pipeline, `Pipeline.function` gives the function. How many frames it gets at once, and where they lie, is \
             said at the function, with `@framerail.stage`.",
        )
        .argument(ArgumentSpec::required("function", OptionKind::Text, "the name that Pipeline.function gives it"))
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
            assert!(text.contains("its work is done by Python code") && text.contains(call), "{text}");
        }
    }
}
