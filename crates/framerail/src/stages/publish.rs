//! Stages that send a record of each frame to a server: `kafka`, `mqtt`, `redis`, `webhook`. Each has a
//! protocol; everything else is here and in the sender.

#[cfg(any(feature = "kafka", feature = "mqtt", feature = "redis", feature = "webhook"))]
pub(super) mod access;
#[cfg(any(feature = "kafka", feature = "mqtt", feature = "redis", feature = "webhook"))]
pub(super) mod records;

use framerail_pipeline::{OptionSpec, StageSpec};

/// How a broken connection, a full buffer and an unreachable server are handled: for the stages' details.
pub(super) const DELIVERY: &str = "A broken connection is reopened, after waits that grow from 0.25 to 30 s. Records wait meanwhile; those \
                                   that the server has not confirmed are sent again, so duplicates are possible, but only after a broken \
                                   connection. With a full buffer the pipeline waits, or, for live and paced streams, the oldest record is \
                                   dropped and counted. A run on files fails when nothing is delivered for patience=; a live run \
                                   continues. The password comes from an environment variable, to keep it out of pipelines.";

/// Adds the options that all these stages have.
pub(super) fn with_options(spec: StageSpec) -> StageSpec {
    let when_full = [
        ("auto", "wait for files, drop for live and paced streams"),
        ("wait", "the pipeline waits"),
        ("drop", "the oldest record is dropped; counted"),
    ];
    spec.option(OptionSpec::switch("only_found").default("no").help("leave out frames without detections and events"))
        .option(
            OptionSpec::integer("buffer", 1..=1_000_000)
                .default(1000)
                .unit("records")
                .help("maximum number of records that wait for the network"),
        )
        .option(OptionSpec::integer("buffer_size", 1..=100_000).default(64).unit("MB").help("maximum size of these records"))
        .option(OptionSpec::choice("when_full", &when_full).default("auto").alias("full").help("behaviour when the buffer is full"))
        .option(OptionSpec::time("patience").default("30s").help("maximum time without a delivery before a waiting run fails"))
        .option(OptionSpec::time("linger").help("maximum time for the remaining records at the end; default: as long as patience= allows"))
}

/// Adds the options of a server that is named by host and port, with a user and TLS.
pub(super) fn with_server(spec: StageSpec, port_help: &str) -> StageSpec {
    spec.option(OptionSpec::text("host").required().help("the server's name or address"))
        .option(OptionSpec::integer("port", 1..=65535).help(port_help))
}

/// Adds the options for the user and TLS.
pub(super) fn with_access(spec: StageSpec) -> StageSpec {
    spec.option(OptionSpec::text("username").help("user name"))
        .option(OptionSpec::text("password_env").help("environment variable that holds the password"))
        .option(OptionSpec::switch("tls").default("no").help("encrypt the connection and verify the server's certificate"))
        .option(OptionSpec::path("ca").help("TLS: trusted certificates (PEM) instead of the system's"))
        .option(OptionSpec::path("cert").help("TLS: this client's certificate (PEM)"))
        .option(OptionSpec::path("key").help("TLS: its key (PEM)"))
}
