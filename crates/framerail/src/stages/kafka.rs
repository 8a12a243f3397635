//! The `kafka` stage: records to a Kafka cluster.

#[cfg(feature = "kafka")]
mod producer;

use framerail_pipeline::{ConfigError, OptionSpec, Options, Registry, RegistryError, StagePlan, StageSpec};

use super::publish::{DELIVERY, with_access, with_options};

pub(super) fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec(), plan)
}

fn spec() -> StageSpec {
    let details = format!(
        "One record per frame: the JSON object that `save` writes as a line (docs/records.md), as the value, with the stream's name as the \
         key. So the records of a stream come in order in one partition, the one where the Java client puts this key. {{name}} and \
         {{stream}} in the topic become the stream's name and number; characters that a topic cannot have become _. A record is confirmed \
         when all in-sync replicas have it (acks=all).\n\n{DELIVERY}"
    );
    let spec = StageSpec::sink("kafka", "sends a record of each frame to a Kafka topic")
        .details(details)
        .option(OptionSpec::text("brokers").required().help("brokers to ask for the cluster, such as host1:9092,host2:9092"))
        .option(OptionSpec::text("topic").default("framerail").help("topic of the records"))
        .option(
            OptionSpec::integer("partitions", 1..=10_000)
                .help("create a missing topic with this many partitions; default: as the broker creates topics, or not at all"),
        )
        .option(OptionSpec::integer("batch", 1..=10_000).default(500).unit("records").help("maximum records per request"))
        .option(OptionSpec::time("batch_time").default("20ms").help("maximum time that a record waits for others"))
        .option(
            OptionSpec::choice("compression", &[("none", "not compressed"), ("gzip", "smallest"), ("snappy", "fastest")])
                .default("none")
                .help("compression of the records"),
        )
        .option(OptionSpec::key_values("headers").help("headers of each record, such as site=yard,team=blue"))
        .option(
            OptionSpec::choice("sasl", &[("plain", "SASL/PLAIN"), ("scram-sha-256", "SCRAM-SHA-256"), ("scram-sha-512", "SCRAM-SHA-512")])
                .default("plain")
                .help("how username= and password_env= are sent"),
        );
    with_options(with_access(spec))
        .example("read in.mp4 ! infer centerface ! kafka brokers=localhost:9092 topic=faces", "a record for each frame")
        .example(
            "read rtsp://host/cam1 ! infer centerface ! kafka brokers=k1:9093,k2:9093 tls=yes topic=cameras.{name} compression=snappy",
            "a topic for each camera, over TLS",
        )
}

#[cfg(feature = "kafka")]
fn plan(options: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Ok(Box::new(super::publish::records::PublishPlan::new(producer::Producer::new(options)?, options)))
}

#[cfg(not(feature = "kafka"))]
fn plan(_: &Options) -> Result<Box<dyn StagePlan>, ConfigError> {
    Err(ConfigError::new("this build has no Kafka").help("build with `--features kafka`"))
}
