//! The `mqtt` stage: sends records to an MQTT broker.

#[cfg(feature = "mqtt")]
mod sender;

use framerail_pipeline::{ConfigError, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec};

use super::publish::with_options;

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), plan)
}

fn spec() -> StageSpec {
    let spec = StageSpec::sink("mqtt", "sends a record of each frame to an MQTT broker")
        .details(
            "One message per frame: the JSON object that `save` writes as a line (docs/records.md). {name} and {stream} in the topic \
             become the stream's name and number; + # and / in a name become _.\n\nA broken connection is reopened, after waits that grow \
             from 0.25 to 30 s. Messages wait meanwhile; those that the broker has not confirmed are sent again, so with qos=1 and qos=2 \
             duplicates are possible, but only after a broken connection. With a full buffer the pipeline waits, or, for live and paced \
             streams, the oldest message is dropped and counted.\n\nA run on files fails when the broker is unreachable for patience=; a \
             live run continues. The password comes from an environment variable, to keep it out of pipelines.",
        )
        .option(OptionSpec::text("host").required().help("the broker's name or address"))
        .option(OptionSpec::integer("port", 1..=65535).help("the broker's port; default: 1883, or 8883 with TLS"))
        .option(OptionSpec::text("topic").default("framerail/{name}").help("topic of the messages"))
        .option(OptionSpec::integer("qos", 0..=2).default(1).help("0: sent once and forgotten; 1: until confirmed; 2: confirmed twice"))
        .option(OptionSpec::switch("retain").default("no").help("whether the broker keeps each topic's last message for new subscribers"))
        .option(OptionSpec::text("client_id").help("client ID; default: a new one for each run"))
        .option(OptionSpec::text("username").help("user name"))
        .option(OptionSpec::text("password_env").help("environment variable that holds the password"))
        .option(OptionSpec::switch("tls").default("no").help("encrypt the connection and verify the broker's certificate"))
        .option(OptionSpec::path("ca").help("TLS: trusted certificates (PEM) instead of the system's"))
        .option(OptionSpec::path("cert").help("TLS: this client's certificate (PEM)"))
        .option(OptionSpec::path("key").help("TLS: its key (PEM)"));
    with_options(spec)
        .example("read in.mp4 ! infer centerface ! mqtt host=localhost topic=cameras/{name}/faces", "a message for each frame")
        .example("read rtsp://host/cam1 ! infer centerface ! mqtt host=broker only_found=yes qos=0", "faces only, immediately")
}

#[cfg(feature = "mqtt")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(super::publish::sending::PublishPlan::new(sender::MqttSender::new(options)?, options)))
}

#[cfg(not(feature = "mqtt"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build has no MQTT").help("build with `--features mqtt`"))
}
