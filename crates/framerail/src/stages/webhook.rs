//! The `webhook` stage: records to an HTTP server, many at once.

#[cfg(feature = "webhook")]
mod poster;

use framerail_pipeline::{ArgumentSpec, ConfigError, OptionKind, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec};

use super::publish::with_options;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), plan)
}

fn spec() -> StageSpec {
    let spec = StageSpec::sink("webhook", "posts records of frames to an HTTP server")
        .details(
            "Each request is a POST of a JSON list of the objects that `save` writes as lines (docs/records.md), in order. An answer \
             from 200 to 299 says that they have arrived. After no answer, 408, 429 or 500 and above the same request is made again, \
             after pauses that grow from 0.25 to 30 s, or that the server asks for with Retry-After. Its header Idempotency-Key stays the \
             same then, so that a server can tell a repetition.\n\n\
             With any other answer the records are not wanted: a run on files fails, a live one drops them, counts them as \
             records_rejected and says so once. With a full buffer the pipeline waits, or, for live and paced streams, the oldest record \
             is dropped and counted. The token comes from an environment variable, so that it stands in no pipeline.",
        )
        .argument(ArgumentSpec::required("url", OptionKind::Text, "where to post, http or https"))
        .option(OptionSpec::integer("batch", 1..=10_000).default(100).unit("records").help("records of a request at most"))
        .option(OptionSpec::time("batch_time").default("1s").help("how long a record waits for others at most"))
        .option(OptionSpec::time("timeout").default("10s").help("how long a request may take"))
        .option(OptionSpec::key_values("headers").help("further headers, as X-Site=yard,X-Team=blue"))
        .option(OptionSpec::text("token_env").help("environment variable whose value goes as `Authorization: Bearer`"))
        .option(OptionSpec::path("ca").help("https: certificates to trust (PEM) in place of the system's"));
    with_options(spec)
        .example("read in.mp4 ! infer centerface ! webhook http://localhost:8000/records", "up to 100 frames a request")
        .example("read rtsp://host/cam1 ! infer centerface ! webhook https://host/in only_found=yes batch=1", "each sighting at once")
}

#[cfg(feature = "webhook")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(super::publish::sending::PublishPlan::new(poster::Poster::new(options)?, options)))
}

#[cfg(not(feature = "webhook"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build has no webhooks").help("build with `--features webhook`"))
}
