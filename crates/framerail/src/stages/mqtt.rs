//! The `mqtt` stage: sends records to an MQTT broker.

#[cfg(feature = "mqtt")]
mod sender;

use framerail_pipeline::{ConfigError, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec};

use super::publish::{DELIVERY, with_access, with_options, with_server};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), plan)
}

fn spec() -> StageSpec {
    let details = format!(
        "One message per frame: the JSON object that `save` writes as a line (docs/records.md). {{name}} and {{stream}} in the topic become \
         the stream's name and number; + # and / in a name become _.\n\n{DELIVERY} With qos=0 messages have no confirmation."
    );
    let spec = StageSpec::sink("mqtt", "sends a record of each frame to an MQTT broker").details(details);
    let spec = with_server(spec, "the broker's port; default: 1883, or 8883 with TLS")
        .option(OptionSpec::text("topic").default("framerail/{name}").help("topic of the messages"))
        .option(OptionSpec::integer("qos", 0..=2).default(1).help("0: sent once and forgotten; 1: until confirmed; 2: confirmed twice"))
        .option(OptionSpec::switch("retain").default("no").help("whether the broker keeps each topic's last message for new subscribers"))
        .option(OptionSpec::text("client_id").help("client ID; default: a new one for each run"));
    with_options(with_access(spec))
        .example("read in.mp4 ! infer centerface ! mqtt host=localhost topic=cameras/{name}/faces", "a message for each frame")
        .example("read rtsp://host/cam1 ! infer centerface ! mqtt host=broker only_found=yes qos=0", "faces only, immediately")
}

#[cfg(feature = "mqtt")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(super::publish::records::PublishPlan::new(sender::MqttSender::new(options)?, options)))
}

#[cfg(not(feature = "mqtt"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build has no MQTT").help("build with `--features mqtt`"))
}
