//! The `redis` stage: records to Redis streams.

#[cfg(feature = "redis")]
mod appender;

use framerail_pipeline::{ConfigError, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec};

use super::publish::{DELIVERY, with_access, with_options, with_server};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), plan)
}

fn spec() -> StageSpec {
    let details = format!(
        "One entry per frame (XADD), with a field `record`: the JSON object that `save` writes as a line (docs/records.md). {{name}} and \
         {{stream}} in the stream's name become the name and number of the video stream. Valkey and other servers with streams work \
         too.\n\n{DELIVERY}"
    );
    let spec = StageSpec::sink("redis", "appends a record of each frame to a Redis stream").details(details);
    let spec = with_server(spec, "the server's port; default: 6379")
        .option(OptionSpec::text("stream").default("framerail:{name}").help("name of the Redis stream"))
        .option(
            OptionSpec::integer("keep", 1..=1_000_000_000).unit("entries").help("about how many entries the stream keeps; default: all"),
        )
        .option(OptionSpec::integer("database", 0..=1_000_000).default(0).help("number of the database"));
    with_options(with_access(spec))
        .example("read in.mp4 ! infer centerface ! redis host=localhost", "an entry for each frame")
        .example("read rtsp://host/cam1 ! infer centerface ! redis host=localhost stream=faces keep=10000", "the last 10000 frames")
}

#[cfg(feature = "redis")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(super::publish::records::PublishPlan::new(appender::Appender::new(options)?, options)))
}

#[cfg(not(feature = "redis"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build has no Redis").help("build with `--features redis`"))
}
