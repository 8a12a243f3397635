//! Stages for tests of pipeline texts: they check formats and do nothing else.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use framerail_core::{PixelFormat, Rational};
use framerail_pipeline::{
    ArgumentSpec, ConfigError, DetectionFormat, EdgeFormat, Emitter, ErrorKind, Flow, FrameItem, LinkContext, LinkMismatch, OptionKind,
    OptionSpec, Options, PlanError, Registry, Source, Stage, StageError, StagePlan, StageSpec, Work,
};

/// Behaviour of a stage when it links.
#[derive(Clone, Copy, PartialEq)]
pub enum Links {
    /// Outputs video.
    Video,
    /// Passes its input on.
    Pass,
    /// Adds detections.
    Detect,
    /// Requires detections and passes them on.
    NeedDetections,
    /// Accepts any input and has no output.
    End,
}

pub struct TestPlan {
    links: Links,
    options: Options,
    packets: bool,
    /// Stages that were asked to pass packets on.
    asked: Arc<Mutex<Vec<String>>>,
}

impl StagePlan for TestPlan {
    fn link(&mut self, input: Option<&EdgeFormat>, context: &LinkContext) -> Result<Option<EdgeFormat>, PlanError> {
        if context.packets_wanted {
            self.asked.lock().unwrap().push(self.options.stage().to_owned());
        }
        if self.options.stage() == "read" && self.options.text("input") == "missing.mp4" {
            return Err(StageError::new(ErrorKind::Input, "missing.mp4: no such file").into());
        }
        let with_detections = |input: Option<&EdgeFormat>| {
            let labels = vec!["face".into()];
            let found = DetectionFormat { model: "centerface".into(), labels, landmarks: 5, ..DetectionFormat::default() };
            input.map(|input| EdgeFormat { detections: Some(found), ..input.clone() })
        };
        match (self.links, input) {
            (Links::Video, _) => Ok(Some(video())),
            (Links::Pass, input) => Ok(input.cloned()),
            (Links::Detect, input) => Ok(with_detections(input)),
            (Links::End, _) => Ok(None),
            (Links::NeedDetections, Some(input)) if input.detections.is_some() => Ok(Some(input.clone())),
            (Links::NeedDetections, _) => {
                let hint = "put `infer MODEL` before it".into();
                Err(PlanError::Link(LinkMismatch { needs: "frames with detections".into(), hint }))
            }
        }
    }

    fn wants_packets(&self) -> bool {
        self.packets
    }

    fn into_work(self: Box<Self>) -> Result<Work, StageError> {
        match self.links {
            Links::Video => Ok(Work::Source(Box::new(Nothing))),
            _ => Ok(Work::Stages((0..self.options.workers()).map(|_| Box::new(Nothing) as Box<dyn Stage>).collect())),
        }
    }
}

struct Nothing;

impl Source for Nothing {
    fn produce(&mut self, _out: &mut dyn Emitter) -> Result<Flow, StageError> {
        Ok(Flow::Done)
    }
}

impl Stage for Nothing {
    fn frame(&mut self, _item: FrameItem, _out: &mut dyn Emitter) -> Result<Flow, StageError> {
        Ok(Flow::More)
    }
}

/// Output format of `read`.
pub fn video() -> EdgeFormat {
    EdgeFormat {
        streams: Some(1),
        size: Some((1280, 720)),
        pixel_format: Some(PixelFormat::Yuv420p),
        frame_rate: Rational::new(25, 1),
        ..EdgeFormat::default()
    }
}

/// The specification of `blur` in these tests.
pub fn blur_spec() -> StageSpec {
    let kinds = [("gaussian", "smooth"), ("mosaic", "coarse cells"), ("solid", "one colour")];
    StageSpec::transform("blur", "Covers what was detected.")
        .details("Faces are covered by an ellipse turned by the line of the eyes.\n\nFrames without detections pass unchanged.")
        .option(OptionSpec::choice("kind", &kinds).default("gaussian").help("How to cover."))
        .option(OptionSpec::float("strength", 0.0..=2.0).default(1).help("Relative to the size of the face."))
        .option(OptionSpec::integer("cells", 1..=64).default(8).unit("cells").help("Cells across a face, for mosaic."))
        .option(OptionSpec::color("color").help("Colour, for solid."))
        .option(OptionSpec::size("size").or_word("auto", "that of the frame").default("auto").help("Size of the mask."))
        .workers(1)
        .example("read in.mp4 ! infer centerface ! blur ! write out.mp4", "Covers every face.")
}

/// A registry of stages that do nothing, and the list of those that were asked to pass packets on.
pub fn registry() -> (Registry, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let mut registry = Registry::new();
    let mut add = |spec: StageSpec, links: Links, packets: bool| {
        let asked = Arc::clone(&asked);
        let configure = move |options: &Options| {
            if options.stage() == "blur" && options.choice("kind") == "solid" && options.optional_color("color").is_none() {
                return Err(ConfigError::at("kind", "kind=solid needs a colour").help("add `color=black`"));
            }
            let plan = TestPlan { links, options: options.clone(), packets, asked: Arc::clone(&asked) };
            Ok(Box::new(plan) as Box<dyn StagePlan>)
        };
        registry.register_with(spec, configure).unwrap();
    };
    let path = |name: &str| ArgumentSpec::required(name, OptionKind::Path, "The file to write.");
    let read = StageSpec::source("read", "Reads video.").argument(ArgumentSpec::required("input", OptionKind::Text, "The video to read."));
    add(read.option(OptionSpec::time("start").help("Where to begin.")), Links::Video, false);
    let model = ArgumentSpec::required("model", OptionKind::Text, "The model card.");
    add(StageSpec::transform("infer", "Detects.").argument(model), Links::Detect, false);
    let every = OptionSpec::integer("every", 1..=i64::MAX).required().help("Keeps one frame of so many.");
    add(StageSpec::transform("sample", "Keeps some frames.").option(every), Links::Pass, false);
    add(blur_spec(), Links::NeedDetections, false);
    add(StageSpec::transform("tee", "Gives every frame to each branch.").branches(), Links::Pass, false);
    add(StageSpec::sink("write", "Writes a video.").argument(path("output")), Links::End, true);
    add(StageSpec::sink("save", "Writes detections.").argument(path("output")), Links::End, false);
    add(StageSpec::sink("null", "Takes everything."), Links::End, false);
    (registry, asked)
}
