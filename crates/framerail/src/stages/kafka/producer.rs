//! The connection to the cluster.
//!
//! # Why one request at a time for each partition
//! Concurrent requests may be stored in another order if one is repeated. Batches compensate for the lost throughput.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use framerail_core::{CancelToken, StreamInfo};
use framerail_pipeline::{ConfigError, Options};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::{Error, ProtocolError},
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};
use rustls::ClientConfig;
use tokio::runtime::Runtime;

use crate::{
    sender::{Batch, Failure, Message, Protocol, plain},
    stages::publish::{
        access::{TlsFiles, credentials},
        records::{RecordProtocol, placed},
    },
};

/// Maximum size of a request; brokers accept 1 MB by default.
const BATCH_BYTES: usize = 900_000;
/// Maximum time for a response of the cluster, including a change of leader.
const ANSWER: Duration = Duration::from_secs(20);
/// Maximum wait without checking whether the run was aborted.
const WAIT_SLICE: Duration = Duration::from_millis(50);
/// The library's own retries, for changes of leader. The sender does the rest.
const RETRIES: BackoffConfig = BackoffConfig {
    init_backoff: Duration::from_millis(50),
    max_backoff: Duration::from_millis(500),
    base: 2.0,
    deadline: Some(Duration::from_millis(200)),
};

/// A record with its topic and key.
pub(super) struct KeyedRecord {
    topic: String,
    key: Vec<u8>,
    value: Vec<u8>,
    time: DateTime<Utc>,
}

impl Message for KeyedRecord {
    fn bytes(&self) -> usize {
        self.topic.len() + self.key.len() + self.value.len()
    }
}

/// Sends records to a cluster.
pub(super) struct Producer {
    brokers: Vec<String>,
    topic: String,
    partitions: Option<i32>,
    batch: usize,
    batch_time: Duration,
    compression: Compression,
    headers: BTreeMap<String, Vec<u8>>,
    sasl: Option<SaslConfig>,
    tls: Option<Arc<ClientConfig>>,
}

/// A client of the cluster, with its topics.
pub(super) struct Cluster {
    runtime: Runtime,
    client: Client,
    cancel: CancelToken,
    topics: HashMap<String, Vec<i32>>,
    partitions: HashMap<(String, i32), PartitionClient>,
}

/// Whether all characters may be in a topic's name.
fn is_topic_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&letter)
}

impl Producer {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let brokers: Vec<String> = options.text("brokers").split(',').map(|broker| broker.trim().to_owned()).collect();
        let has_port =
            |broker: &String| broker.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if let Some(wrong) = brokers.iter().find(|broker| !has_port(broker)) {
            return Err(ConfigError::at("brokers", format_args!("`{wrong}` is not a host and a port")).help("write it as host:9092"));
        }
        let topic = options.text("topic").to_owned();
        let rest = topic.replace("{name}", "").replace("{stream}", "");
        if topic.is_empty() || !rest.chars().all(is_topic_letter) {
            let words = format_args!("`{topic}` is not a valid topic: letters, digits, `.`, `_` and `-`, with {{name}} and {{stream}}");
            return Err(ConfigError::at("topic", words));
        }
        let user = credentials(options)?.map(|(name, password)| Credentials::new(name, password));
        if user.is_none() && options.is_given("sasl") {
            return Err(ConfigError::at("sasl", "SASL needs a user").help("give username= and password_env="));
        }
        let sasl = user.map(|user| match options.choice("sasl") {
            "scram-sha-256" => SaslConfig::ScramSha256(user),
            "scram-sha-512" => SaslConfig::ScramSha512(user),
            _ => SaslConfig::Plain(user),
        });
        let compression = match options.choice("compression") {
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            _ => Compression::NoCompression,
        };
        let headers = options.optional_key_values("headers").unwrap_or_default();
        Ok(Self {
            brokers,
            topic,
            partitions: options.optional_integer("partitions").and_then(|count| i32::try_from(count).ok()),
            batch: options.count("batch"),
            batch_time: options.time("batch_time"),
            compression,
            headers: headers.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect(),
            sasl,
            tls: TlsFiles::of(options)?.map(|files| files.client_config()).transpose()?,
        })
    }

    fn record(&self, message: &KeyedRecord) -> Record {
        Record {
            key: Some(message.key.clone()),
            value: Some(message.value.clone()),
            headers: self.headers.clone(),
            timestamp: message.time,
        }
    }
}

impl Cluster {
    /// Finds the partitions of a topic; creates it if that is allowed.
    fn find(&mut self, topic: &str, new_partitions: Option<i32>) -> Result<(), Failure> {
        if self.topics.contains_key(topic) {
            return Ok(());
        }
        let client = &self.client;
        let found = waited(&self.runtime, &self.cancel, async {
            // Requesting a partition makes brokers create the topic, if they are configured to.
            let asked = client.partition_client(topic, 0, UnknownTopicHandling::Error).await;
            if let (Err(Error::ServerError { protocol_error: ProtocolError::UnknownTopicOrPartition, .. }), Some(count)) =
                (&asked, new_partitions)
            {
                let made = client.controller_client()?.create_topic(topic, count, -1, ANSWER.as_millis() as i32).await;
                if !matches!(made, Ok(()) | Err(Error::ServerError { protocol_error: ProtocolError::TopicAlreadyExists, .. })) {
                    made?;
                }
                client.partition_client(topic, 0, UnknownTopicHandling::Retry).await?;
            } else {
                asked?;
            }
            client.list_topics().await
        })?;
        self.topics = found.into_iter().map(|topic| (topic.name, topic.partitions.into_iter().collect())).collect();
        match self.topics.contains_key(topic) {
            true => Ok(()),
            false => Err(Failure::transient(format!("it has no topic `{topic}`; create it, or give partitions="))),
        }
    }

    /// Stores records in a partition.
    fn store(&mut self, topic: &str, partition: i32, records: Vec<Record>, compression: Compression) -> Result<(), Failure> {
        let client = match self.partitions.entry((topic.to_owned(), partition)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let asked = self.client.partition_client(topic, partition, UnknownTopicHandling::Retry);
                place.insert(waited(&self.runtime, &self.cancel, asked)?)
            }
        };
        waited(&self.runtime, &self.cancel, client.produce(records, compression)).map(|_| ())
    }

    /// The partition of a key, as the Java client chooses it.
    fn place(&self, topic: &str, key: &[u8]) -> i32 {
        let partitions = self.topics.get(topic).map(Vec::as_slice).unwrap_or_default();
        let positive = murmur2(key) & 0x7fff_ffff;
        partitions.get(positive as usize % partitions.len().max(1)).copied().unwrap_or(0)
    }
}

impl Protocol for Producer {
    type Message = KeyedRecord;
    type Connection = Cluster;

    fn target(&self) -> String {
        format!("Kafka at {}", self.brokers.join(","))
    }

    fn batch(&self) -> Batch {
        Batch { messages: self.batch, bytes: BATCH_BYTES, wait: self.batch_time }
    }

    fn connect(&self, cancel: &CancelToken) -> Result<Cluster, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::transient)?;
        let mut builder = ClientBuilder::new(self.brokers.clone()).client_id("framerail").backoff_config(RETRIES);
        if let Some(sasl) = &self.sasl {
            builder = builder.sasl_config(sasl.clone());
        }
        if let Some(tls) = &self.tls {
            builder = builder.tls_config(Arc::clone(tls));
        }
        let client = waited(&runtime, cancel, builder.build())?;
        Ok(Cluster { runtime, client, cancel: cancel.clone(), topics: HashMap::new(), partitions: HashMap::new() })
    }

    fn send(&self, cluster: &mut Cluster, messages: &mut Vec<KeyedRecord>) -> Result<(), Failure> {
        while let Some(first) = messages.first() {
            let topic = first.topic.clone();
            cluster.find(&topic, self.partitions)?;
            let place = cluster.place(&topic, &first.key);
            let is_same = |message: &KeyedRecord| message.topic == topic && cluster.place(&topic, &message.key) == place;
            let belongs: Vec<bool> = messages.iter().map(is_same).collect();
            let together = messages.iter().zip(&belongs).filter(|(_, belongs)| **belongs);
            let records: Vec<Record> = together.map(|(message, _)| self.record(message)).collect();
            let count = records.len();
            match cluster.store(&topic, place, records, self.compression) {
                Ok(()) => {
                    let mut belongs = belongs.into_iter();
                    messages.retain(|_| belongs.next() == Some(false));
                }
                Err(failure) if failure.words.contains(TOO_LARGE) => return self.send_singly(cluster, messages, &topic, place, count),
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// Text in errors about records that are too large.
const TOO_LARGE: &str = "larger than the broker accepts";

impl Producer {
    /// Sends messages in separate requests, because together they are too large, up to the first that is refused.
    fn send_singly(
        &self,
        cluster: &mut Cluster,
        messages: &mut Vec<KeyedRecord>,
        topic: &str,
        place: i32,
        count: usize,
    ) -> Result<(), Failure> {
        for _ in 0..count {
            let own = |message: &KeyedRecord| message.topic == topic && cluster.place(topic, &message.key) == place;
            let Some(position) = messages.iter().position(own) else { break };
            // The refused one is now first.
            let message = messages.remove(position);
            if let Err(failure) = cluster.store(topic, place, vec![self.record(&message)], self.compression) {
                messages.insert(0, message);
                let is_too_large = failure.words.contains(TOO_LARGE);
                return Err(if is_too_large { Failure::rejected(failure.words, 1) } else { failure });
            }
        }
        Ok(())
    }
}

impl RecordProtocol for Producer {
    const NAME: &'static str = "kafka";

    fn message(&self, info: &StreamInfo, record: Vec<u8>) -> KeyedRecord {
        KeyedRecord {
            topic: placed(&self.topic, info, is_topic_letter),
            key: info.name.clone().into_bytes(),
            value: record,
            time: Utc::now(),
        }
    }
}

/// Runs a request until it is done, times out or is cancelled.
fn waited<T>(runtime: &Runtime, cancel: &CancelToken, request: impl Future<Output = Result<T, Error>>) -> Result<T, Failure> {
    let began = Instant::now();
    runtime.block_on(async {
        let mut request = pin!(request);
        loop {
            match tokio::time::timeout(WAIT_SLICE, &mut request).await {
                Ok(outcome) => return outcome.map_err(|error| failure(&error)),
                Err(_) if cancel.is_cancelled() => return Err(Failure::transient("the run has ended")),
                Err(_) if began.elapsed() > ANSWER => return Err(Failure::transient("it does not answer")),
                Err(_) => {}
            }
        }
    })
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::ServerError { protocol_error, .. } => match protocol_error {
            ProtocolError::MessageTooLarge | ProtocolError::RecordListTooLarge => {
                Failure::transient(format!("a record is {TOO_LARGE}; raise the topic's max.message.bytes"))
            }
            ProtocolError::TopicAuthorizationFailed
            | ProtocolError::ClusterAuthorizationFailed
            | ProtocolError::SaslAuthenticationFailed => {
                Failure::lasting(format!("it does not authorise this client ({protocol_error:?}); check username= and password_env="))
            }
            ProtocolError::InvalidTopicException => Failure::lasting("it refuses the topic's name; give another with topic="),
            ProtocolError::UnknownTopicOrPartition => Failure::transient("it has no such topic; create it, or give partitions="),
            other => Failure::transient(format!("{other:?}")),
        },
        other => {
            let words = innermost(other);
            let is_lasting = ["sasl", "authentication", "certificate"].iter().any(|word| words.contains(word));
            if is_lasting { Failure::lasting(words) } else { Failure::transient(words) }
        }
    }
}

/// The cause of an error, without the wording around it.
fn innermost(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let words = plain(&deepest);
    match words.rsplit_once("io error: ") {
        Some((_, cause)) => cause.to_owned(),
        None => words,
    }
}

/// MurmurHash2 with the seed of Kafka's default partitioner.
///
/// Source: A. Appleby's MurmurHash2, 32 bits; the seed is that of Apache Kafka's `Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const MULTIPLIER: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ data.len() as u32;
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut value = u32::from_le_bytes(*word).wrapping_mul(MULTIPLIER);
        value ^= value >> 24;
        hash = hash.wrapping_mul(MULTIPLIER) ^ value.wrapping_mul(MULTIPLIER);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| (tail << 8) | u32::from(*byte));
        hash = (hash ^ tail).wrapping_mul(MULTIPLIER);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MULTIPLIER);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_hashed_as_by_the_java_client() {
        // From the tests of Apache Kafka's Utils.
        let known = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }
}
