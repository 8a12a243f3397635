//! What `mqtt` and `webhook` have in common.

#[cfg(any(feature = "mqtt", feature = "webhook"))]
pub(super) mod outbox;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
pub(super) mod sending;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
pub(super) mod tls;

use framerail_pipeline::{OptionSpec, StageSpec};

/// Adds the options that both stages have.
pub(super) fn with_options(spec: StageSpec) -> StageSpec {
    let when_full = [
        ("auto", "wait for files, drop for live and paced streams"),
        ("wait", "the pipeline waits"),
        ("drop", "the oldest record gives way; counted"),
    ];
    spec.option(
        OptionSpec::switch("only_found")
            .default("no")
            .help("whether frames in which nothing was found, and nothing happened, are left out"),
    )
    .option(OptionSpec::integer("buffer", 1..=1_000_000).default(1000).unit("records").help("records that wait for the network at most"))
    .option(OptionSpec::choice("when_full", &when_full).default("auto").help("what happens when the buffer is full"))
    .option(
        OptionSpec::time("patience")
            .default("30s")
            .help("how long nothing may get through before a waiting run fails; and how long to wait for the rest at the end"),
    )
}
