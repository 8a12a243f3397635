//! The connection to the broker.
//!
//! # Why messages are kept by the sender
//! The client library forgets messages when a broker comes back without the old session. So each connection is a new
//! session with its own client, and a message leaves the buffer only when the broker has confirmed it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use framerail_core::{CancelToken, StreamInfo};
use framerail_pipeline::{ConfigError, Options};
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, Incoming, MqttOptions, Outgoing, QoS, RecvTimeoutError,
    TlsConfiguration, Transport,
};

use crate::{
    sender::{Batch, Failure, Protocol, plain},
    stages::publish::{
        access::{TlsFiles, credentials},
        records::{PlacedRecord, RecordProtocol, placed},
    },
};

/// Maximum number of unconfirmed messages.
const WINDOW: usize = 64;
const WINDOW_BYTES: usize = 4_000_000;
/// Packet numbers in use; far more than the window, so that a broker may confirm in any order.
const PACKET_NUMBERS: u16 = 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const CONNECT_SECS: u64 = 5;
/// Maximum time without any confirmation.
const ANSWER: Duration = Duration::from_secs(30);
/// Maximum wait without checking whether the run was aborted.
const WAIT_SLICE: Duration = Duration::from_millis(50);
/// A packet may be 256 MB; a record of thousands of boxes is some hundred KB.
const MAX_PACKET_BYTES: usize = 64 * 1024 * 1024;

/// Sends records to a broker.
pub(super) struct MqttSender {
    mqtt: MqttOptions,
    topic: String,
    qos: QoS,
    retain: bool,
}

/// A session with the broker.
pub(super) struct Session {
    client: Client,
    connection: Connection,
    cancel: CancelToken,
}

impl Session {
    /// The next event; `None` if there is none for a while.
    fn next(&mut self, wait: Duration) -> Result<Option<Event>, Failure> {
        match self.connection.recv_timeout(wait) {
            Ok(Ok(event)) => Ok(Some(event)),
            Ok(Err(error)) => Err(failure(&error)),
            Err(RecvTimeoutError::Timeout) if self.cancel.is_cancelled() => Err(Failure::transient("the run has ended")),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(Failure::transient("it closed the connection")),
        }
    }
}

impl MqttSender {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let topic = options.text("topic").to_owned();
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            let words = format_args!("`{topic}` is not a valid publish topic; it must not be empty or contain + or #");
            return Err(ConfigError::at("topic", words));
        }
        let transport = match TlsFiles::of(options)? {
            None => Transport::tcp(),
            Some(files) => Transport::tls_with_config(TlsConfiguration::Rustls(files.client_config()?)),
        };
        let port = options.optional_integer("port").and_then(|port| u16::try_from(port).ok());
        let port = port.unwrap_or(if options.switch("tls") { 8883 } else { 1883 });
        let client_id = options.optional_text("client_id").map_or_else(client_id, str::to_owned);
        let mut mqtt = MqttOptions::new(client_id, options.text("host"), port);
        mqtt.set_transport(transport).set_keep_alive(KEEP_ALIVE).set_clean_session(true).set_inflight(PACKET_NUMBERS);
        mqtt.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        if let Some((name, password)) = credentials(options)? {
            mqtt.set_credentials(name, password);
        }
        let qos = match options.integer("qos") {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        };
        Ok(Self { mqtt, topic, qos, retain: options.switch("retain") })
    }
}

impl Protocol for MqttSender {
    type Message = PlacedRecord;
    type Connection = Session;

    fn target(&self) -> String {
        let (host, port) = self.mqtt.broker_address();
        format!("the MQTT broker {host}:{port}")
    }

    fn batch(&self) -> Batch {
        Batch { messages: WINDOW, bytes: WINDOW_BYTES, wait: Duration::ZERO }
    }

    fn connect(&self, cancel: &CancelToken) -> Result<Session, Failure> {
        let (client, mut connection) = Client::new(self.mqtt.clone(), WINDOW * 2);
        connection.eventloop.network_options.set_connection_timeout(CONNECT_SECS);
        // Opening a connection must not be interrupted: the library would start again.
        let mut session = Session { client, connection, cancel: cancel.clone() };
        let limit = Duration::from_secs(CONNECT_SECS + 1);
        match session.next(limit)? {
            Some(Event::Incoming(Incoming::ConnAck(_))) => Ok(session),
            _ => Err(Failure::transient("it does not answer")),
        }
    }

    fn send(&self, session: &mut Session, messages: &mut Vec<PlacedRecord>) -> Result<(), Failure> {
        for message in &*messages {
            // The channel holds twice the window, so there is room.
            let (topic, payload) = (message.place.as_str(), message.record.clone());
            session.client.try_publish(topic, self.qos, self.retain, payload).map_err(Failure::transient)?;
        }
        // Messages to be written, and unconfirmed ones by packet number; both as indices of the list.
        let (mut submitted, mut unconfirmed) = ((0..messages.len()).collect::<VecDeque<_>>(), Vec::new());
        let mut is_through = vec![false; messages.len()];
        let mut moved = Instant::now();
        let mut outcome = Ok(());
        while submitted.len() + unconfirmed.len() > 0 {
            let through = match session.next(WAIT_SLICE) {
                Ok(Some(Event::Outgoing(Outgoing::Publish(number)))) => match (submitted.pop_front(), self.qos) {
                    (Some(place), QoS::AtMostOnce) => Some(place),
                    (Some(place), _) => {
                        unconfirmed.push((number, place));
                        None
                    }
                    (None, _) => None,
                },
                Ok(Some(Event::Incoming(Incoming::PubAck(ack)))) => confirmed(&mut unconfirmed, ack.pkid),
                Ok(Some(Event::Incoming(Incoming::PubComp(complete)))) => confirmed(&mut unconfirmed, complete.pkid),
                Ok(_) if moved.elapsed() < ANSWER => None,
                Ok(_) => {
                    outcome = Err(Failure::transient("it does not confirm messages"));
                    break;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            };
            if let Some(place) = through {
                (is_through[place], moved) = (true, Instant::now());
            }
        }
        let mut places = is_through.into_iter();
        messages.retain(|_| places.next() == Some(false));
        outcome
    }

    fn idle(&self, session: &mut Session) -> Result<(), Failure> {
        // Sends and receives keep-alive messages.
        while session.next(Duration::from_millis(1))?.is_some() {}
        Ok(())
    }

    fn finish(&self, mut session: Session) -> Result<(), Failure> {
        session.client.try_disconnect().map_err(Failure::transient)?;
        while let Some(event) = session.next(WAIT_SLICE)? {
            if matches!(event, Event::Outgoing(Outgoing::Disconnect)) {
                break;
            }
        }
        Ok(())
    }
}

fn confirmed(unconfirmed: &mut Vec<(u16, usize)>, number: u16) -> Option<usize> {
    let found = unconfirmed.iter().position(|(known, _)| *known == number)?;
    Some(unconfirmed.remove(found).1)
}

impl RecordProtocol for MqttSender {
    const NAME: &'static str = "mqtt";

    fn message(&self, info: &StreamInfo, record: Vec<u8>) -> PlacedRecord {
        // A name must not add topic levels or wildcards.
        PlacedRecord { place: placed(&self.topic, info, |letter| !['+', '#', '/', '\0'].contains(&letter)), record }
    }
}

/// A unique client ID.
fn client_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
    format!("framerail-{:x}-{now:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn failure(error: &ConnectionError) -> Failure {
    if is_lasting(error) { Failure::lasting(words(error)) } else { Failure::transient(words(error)) }
}

/// Whether retrying cannot help.
fn is_lasting(error: &ConnectionError) -> bool {
    use ConnectReturnCode::{BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion};
    match error {
        ConnectionError::ConnectionRefused(code) => {
            matches!(code, RefusedProtocolVersion | BadClientId | BadUserNamePassword | NotAuthorized)
        }
        ConnectionError::Tls(rumqttc::TlsError::Io(error)) => error.kind() == std::io::ErrorKind::InvalidData,
        ConnectionError::Tls(_) => true,
        _ => false,
    }
}

fn words(error: &ConnectionError) -> String {
    use ConnectReturnCode::{BadClientId, BadUserNamePassword, NotAuthorized, RefusedProtocolVersion, ServiceUnavailable};
    match error {
        ConnectionError::ConnectionRefused(code) => match code {
            BadUserNamePassword => "it refuses the user name or password".into(),
            NotAuthorized => "it does not authorise this client; give username= and password_env=".into(),
            BadClientId => "it refuses the client ID; give another with client_id=".into(),
            RefusedProtocolVersion => "it does not support MQTT 3.1.1".into(),
            ServiceUnavailable => "it is not available".into(),
            ConnectReturnCode::Success => "it refuses".into(),
        },
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => "it does not answer".into(),
        ConnectionError::Io(error) | ConnectionError::Tls(rumqttc::TlsError::Io(error)) => plain(error),
        ConnectionError::MqttState(rumqttc::StateError::ConnectionAborted) => "it closed the connection".into(),
        other => other.to_string(),
    }
}
