//! Shared parts of `mqtt` and `webhook`.

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
        ("drop", "the oldest record is dropped; counted"),
    ];
    spec.option(OptionSpec::switch("only_found").default("no").help("leave out frames without detections and events"))
        .option(OptionSpec::integer("buffer", 1..=1_000_000).default(1000).unit("records").help(
            "maximum number of records that wait for the \
                                                                                             network",
        ))
        .option(OptionSpec::choice("when_full", &when_full).default("auto").help("behaviour when the buffer is full"))
        .option(
            OptionSpec::time("patience")
                .default("30s")
                .help("maximum time without a delivery before a waiting run fails, and for the remaining records at the end"),
        )
}
