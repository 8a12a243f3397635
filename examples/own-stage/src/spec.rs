//! The stage's specification: shown by `framerail inspect`, and used to check options.

use framerail_pipeline::{OptionSpec, StageSpec};

pub(crate) fn spec() -> StageSpec {
    StageSpec::transform("movement", "tells how much of the picture moves, and leaves still frames out")
        .details(
            "Compares the brightness of every fourth pixel of every fourth row with that of the frame before. The share of those that \
             changed goes with the frame as an attachment. Frames left out are counted as frames_still.",
        )
        .option(OptionSpec::float("least", 0.0..=1.0).default(0.005).help("share of the picture from which on it moves"))
        .option(
            OptionSpec::integer("change", 1..=255).default(12).help("difference in brightness that is a change, of 255: above the noise"),
        )
        .option(
            OptionSpec::choice("keep", &[("all", "every frame"), ("moving", "those that move, and the first")])
                .default("all")
                .help("which frames are passed on"),
        )
        .example("read rtsp://host/cam ! movement keep=moving ! infer centerface ! save faces.jsonl", "no model where nothing moves")
}
