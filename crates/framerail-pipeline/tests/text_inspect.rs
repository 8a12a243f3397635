//! Output of `inspect`.
#![allow(clippy::unwrap_used)]

mod text_support;

use framerail_pipeline::{OptionSpec, StageList, StageSpec};
use text_support::{blur_spec, registry};

#[test]
fn all_stages_by_role() {
    let (registry, _) = registry();
    let expected = "\
stage   role       what it does
read    source     Reads video.
blur    transform  Covers what was detected.
infer   transform  Detects.
sample  transform  Keeps some frames.
tee     transform  Gives every frame to each branch.
null    sink       Takes everything.
save    sink       Writes detections.
write   sink       Writes a video.

`inspect STAGE` shows the options of one.
";
    assert_eq!(StageList::new(&registry).text(), expected);
}

#[test]
fn one_stage_with_its_options() {
    let expected = "\
blur (transform)
  Covers what was detected.

  Faces are covered by an ellipse turned by the line of the eyes.

  Frames without detections pass unchanged.

usage
  blur [key=value ...]

options
  kind=      gaussian | mosaic | solid, default gaussian
             How to cover.
               gaussian     smooth
               mosaic       coarse cells
               solid        one colour
  strength=  number 0 to 2, default 1
             Relative to the size of the face.
  cells=     integer 1 to 64 cells, default 8
             Cells across a face, for mosaic.
  color=     colour such as #ff8800 or black, optional
             Colour, for solid.
  size=      size such as 640x384 or `auto`, default auto
             Size of the mask.
               auto         that of the frame

common options
  name=      text, optional
             Name in statistics and graphs; default: the stage's name.
  queue=     integer 1 to 1024 frames, default 4
             Frames that may wait before this stage.
  workers=   integer 1 to 64 threads or `auto`, default 1
             Threads that share the work; order is kept.
               auto         one per CPU

examples
  Covers every face.
    framerail run 'read in.mp4 ! infer centerface ! blur ! write out.mp4'
";
    let text = blur_spec().text();
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn long_lines_are_broken() {
    let long = "word ".repeat(60);
    let spec = StageSpec::sink("s", &long).details(&long).option(OptionSpec::choice("o", &[("v", &long)]).help(&long));
    assert!(spec.text().lines().all(|line| line.chars().count() <= 100), "{}", spec.text());
}

#[test]
fn json_has_every_option() {
    let json: serde_json::Value = serde_json::from_str(&blur_spec().json().unwrap()).unwrap();
    assert_eq!(json["role"], "transform");
    assert_eq!(json["options"][1]["name"], "strength");
    assert_eq!(json["options"][1]["kind"], serde_json::json!({ "type": "float", "min": 0.0, "max": 2.0 }));
    assert_eq!(json["options"][1]["presence"], serde_json::json!({ "default": "1" }));
    let (registry, _) = registry();
    let all: serde_json::Value = serde_json::from_str(&StageList::new(&registry).json().unwrap()).unwrap();
    assert_eq!(all["stages"].as_array().unwrap().len(), 8);
}
