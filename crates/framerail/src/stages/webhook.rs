//! The `webhook` stage: posts records to an HTTP server, many per request.

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
            "Each request is a POST of a JSON list of the objects that `save` writes as lines (docs/records.md), in order. A response from \
             200 to 299 confirms them. After no response, 408, 429 or 500 and above, the request is repeated after waits that grow from \
             0.25 to 30 s, or that the server sets with Retry-After. Its header Idempotency-Key stays the same, so that a server can \
             recognise repetitions.\n\nAny other response rejects the records: a run on files fails; a live run drops them, counts them as \
             records_rejected and reports it once. With a full buffer the pipeline waits, or, for live and paced streams, the oldest \
             record is dropped and counted. The token comes from an environment variable, to keep it out of pipelines.",
        )
        .argument(ArgumentSpec::required("url", OptionKind::Text, "URL to post to, http or https"))
        .option(OptionSpec::integer("batch", 1..=10_000).default(100).unit("records").help("maximum records per request"))
        .option(OptionSpec::time("batch_time").default("1s").help("maximum time that a record waits for others"))
        .option(OptionSpec::time("timeout").default("10s").help("timeout of a request"))
        .option(OptionSpec::key_values("headers").help("further headers, such as X-Site=yard,X-Team=blue"))
        .option(OptionSpec::text("token_env").help("environment variable whose value is sent as `Authorization: Bearer`"))
        .option(OptionSpec::path("ca").help("https: trusted certificates (PEM) instead of the system's"));
    with_options(spec)
        .example("read in.mp4 ! infer centerface ! webhook http://localhost:8000/records", "up to 100 frames per request")
        .example("read rtsp://host/cam1 ! infer centerface ! webhook https://host/in only_found=yes batch=1", "each detection immediately")
}

#[cfg(feature = "webhook")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(super::publish::records::PublishPlan::new(poster::Poster::new(options)?, options)))
}

#[cfg(not(feature = "webhook"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build has no webhooks").help("build with `--features webhook`"))
}
