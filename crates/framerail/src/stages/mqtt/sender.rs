//! The connection to the broker.
//!
//! # Why messages are kept here
//! The client library forgets messages when a broker comes back without the old session. So each connection is a new
//! session with its own client, and a message leaves this side only when the broker has confirmed it.

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use framerail_core::StreamInfo;
use framerail_pipeline::{ConfigError, ErrorKind, Options, StageContext, StageError};
use parking_lot::Mutex;
use rumqttc::{
    Client, ConnectReturnCode, Connection, ConnectionError, Event, Incoming, MqttOptions, Outgoing, QoS, TlsConfiguration, Transport,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{PrivateKeyDer, pem::PemObject},
};

use crate::stages::publish::{
    outbox::{Outbox, WhenFull},
    sending::{Carrier, CarrierCounters, EndGuard, Sender},
    tls,
};

/// Maximum number of unconfirmed messages.
const WINDOW: usize = 64;
/// Packet numbers in use; far more than the window, so that a broker may confirm in any order.
const PACKET_NUMBERS: u16 = 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const CONNECT_SECS: u64 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A packet may be 256 MB; a record of thousands of boxes is some hundred KB.
const MAX_PACKET_BYTES: usize = 64 * 1024 * 1024;

/// A message in flight.
pub(super) struct Message {
    topic: String,
    payload: Vec<u8>,
}

/// Sends records to a broker.
pub(super) struct MqttSender {
    mqtt: MqttOptions,
    topic: String,
    qos: QoS,
    retain: bool,
    link: Mutex<Link>,
}

/// The current connection and its messages.
#[derive(Default)]
struct Link {
    client: Option<Client>,
    /// Passed to the client, in order.
    submitted: VecDeque<Message>,
    /// Sent, by packet number, in order.
    unconfirmed: Vec<(u16, Message)>,
}

impl MqttSender {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let topic = options.text("topic").to_owned();
        if topic.is_empty() || topic.contains(['+', '#', '\0']) {
            return Err(ConfigError::at(
                "topic",
                format_args!(
                    "`{topic}` is not a valid publish topic; it must not be empty or contain + or \
                                                              #"
                ),
            ));
        }
        let transport = transport(options)?;
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
        Ok(Self { mqtt, topic, qos, retain: options.switch("retain"), link: Mutex::default() })
    }

    /// Connects, serves, and reconnects until the outbox is closed.
    fn run(&self, outbox: &Arc<Outbox<Message>>, counters: &CarrierCounters) {
        let _guard = EndGuard(Arc::clone(outbox));
        let mut pause = FIRST_PAUSE;
        let mut connections = 0;
        while !outbox.is_closed() {
            let (client, mut connection) = Client::new(self.mqtt.clone(), WINDOW * 2);
            connection.eventloop.network_options.set_connection_timeout(CONNECT_SECS);
            let before = connections;
            let error = self.serve(client, &mut connection, outbox, &mut || {
                connections += 1;
                if connections > 1 {
                    counters.again.add(1);
                }
            });
            self.take_back(outbox);
            let Some(error) = error else { return };
            if connections == 0 && is_lasting(&error) {
                let message = format!("{}: {}", self.target(), words(&error));
                return outbox.fail(StageError::new(ErrorKind::Output, message));
            }
            outbox.trouble(words(&error));
            if connections > before {
                counters.context.notice(format_args!("the connection to {} broke ({}); trying again", self.target(), words(&error)));
                pause = FIRST_PAUSE;
            }
            outbox.pause(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Serves one connection until it breaks; `None` when this side ended it.
    fn serve(
        &self,
        client: Client,
        connection: &mut Connection,
        outbox: &Outbox<Message>,
        connected: &mut dyn FnMut(),
    ) -> Option<ConnectionError> {
        loop {
            match connection.recv() {
                Ok(Ok(Event::Incoming(Incoming::ConnAck(_)))) => {
                    connected();
                    outbox.reached();
                    self.link.lock().client = Some(client.clone());
                }
                Ok(Ok(Event::Outgoing(Outgoing::Publish(number)))) => self.published(number, outbox),
                Ok(Ok(Event::Incoming(Incoming::PubAck(ack)))) => self.confirmed(ack.pkid, outbox),
                Ok(Ok(Event::Incoming(Incoming::PubComp(complete)))) => self.confirmed(complete.pkid, outbox),
                Ok(Ok(Event::Outgoing(Outgoing::Disconnect))) => return None,
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Some(error),
                Err(_) => return None,
            }
            self.pump(outbox);
        }
    }

    /// Passes messages to the client up to the window, or disconnects once the outbox is closed.
    fn pump(&self, outbox: &Outbox<Message>) {
        let mut link = self.link.lock();
        let link = &mut *link;
        let Some(client) = &link.client else { return };
        if outbox.is_closed() {
            // The channel holds twice the window, so there is room.
            if client.try_disconnect().is_ok() {
                link.client = None;
            }
            return;
        }
        while link.submitted.len() + link.unconfirmed.len() < WINDOW {
            let Some(message) = outbox.try_take() else { return };
            if client.try_publish(message.topic.as_str(), self.qos, self.retain, message.payload.clone()).is_err() {
                // The client is closing; later messages fail.
                outbox.put_back([message]);
                return;
            }
            link.submitted.push_back(message);
        }
    }

    fn published(&self, number: u16, outbox: &Outbox<Message>) {
        let mut link = self.link.lock();
        let Some(message) = link.submitted.pop_front() else { return };
        if self.qos == QoS::AtMostOnce {
            outbox.sent(1);
        } else {
            link.unconfirmed.push((number, message));
        }
    }

    fn confirmed(&self, number: u16, outbox: &Outbox<Message>) {
        let mut link = self.link.lock();
        if let Some(place) = link.unconfirmed.iter().position(|(known, _)| *known == number) {
            link.unconfirmed.remove(place);
            outbox.sent(1);
        }
    }

    /// Returns unconfirmed messages to the outbox, in order.
    fn take_back(&self, outbox: &Outbox<Message>) {
        let mut link = self.link.lock();
        link.client = None;
        let mut messages: Vec<Message> = std::mem::take(&mut link.unconfirmed).into_iter().map(|(_, message)| message).collect();
        messages.extend(std::mem::take(&mut link.submitted));
        outbox.put_back(messages);
    }
}

impl Carrier for MqttSender {
    type Message = Message;

    fn target(&self) -> String {
        let (host, port) = self.mqtt.broker_address();
        format!("the MQTT broker {host}:{port}")
    }

    fn counters(&self, context: &StageContext) -> CarrierCounters {
        CarrierCounters { again: context.counter("reconnects"), rejected: None, context: context.clone() }
    }

    fn message(&self, info: &StreamInfo, record: Vec<u8>) -> Message {
        // A name must not add topic levels or wildcards.
        let name = info.name.replace(['+', '#', '/', '\0'], "_");
        Message { topic: self.topic.replace("{stream}", &info.id.to_string()).replace("{name}", &name), payload: record }
    }

    fn start(self: Arc<Self>, outbox: Arc<Outbox<Message>>, counters: CarrierCounters) -> Result<Sender, StageError> {
        let (sender, own) = (Arc::clone(&self), Arc::clone(&outbox));
        let spawned = thread::Builder::new().name("mqtt".into()).spawn(move || sender.run(&own, &counters));
        let thread = spawned.map_err(|error| StageError::new(ErrorKind::Resource, format!("no thread for MQTT: {error}")))?;
        if outbox.limits().when_full == WhenFull::Wait {
            // A wrong address fails at once rather than with a full buffer.
            outbox.wait_until_reached()?;
        }
        Ok(Sender { thread, wake: Box::new(move || self.pump(&outbox)) })
    }
}

/// A unique client ID.
fn client_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_micros());
    format!("framerail-{:x}-{now:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn credentials(options: &Options) -> Result<Option<(String, String)>, ConfigError> {
    let password = match options.optional_text("password_env") {
        None => None,
        Some(name) => Some(std::env::var(name).map_err(|_| {
            ConfigError::at("password_env", format_args!("the environment variable {name} is not set"))
                .help(format_args!("set it before the run: export {name}=..."))
        })?),
    };
    match (options.optional_text("username"), password) {
        (Some(name), password) => Ok(Some((name.to_owned(), password.unwrap_or_default()))),
        (None, Some(_)) => Err(ConfigError::at("password_env", "a password needs a username").help("give username= too")),
        (None, None) => Ok(None),
    }
}

fn transport(options: &Options) -> Result<Transport, ConfigError> {
    if !options.switch("tls") {
        return match ["ca", "cert", "key"].into_iter().find(|option| options.is_given(option)) {
            Some(option) => Err(ConfigError::at(option, format_args!("`{option}` is for TLS, and tls is off")).help("give tls=yes")),
            None => Ok(Transport::tcp()),
        };
    }
    let bad = |error: &dyn Display| ConfigError::at("tls", error);
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(tls::trusted(options.optional_path("ca"))?);
    let config = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| bad(&error))?
        .with_root_certificates(roots);
    let config = match (options.optional_path("cert"), options.optional_path("key")) {
        (None, None) => config.with_no_client_auth(),
        (Some(cert), Some(key)) => {
            let certificates = tls::certificates("cert", cert)?;
            let key =
                PrivateKeyDer::from_pem_file(key).map_err(|error| ConfigError::at("key", format_args!("{}: {error}", key.display())))?;
            config.with_client_auth_cert(certificates, key).map_err(|error| ConfigError::at("cert", error))?
        }
        _ => return Err(ConfigError::at("tls", "a client's certificate needs its key").help("give both cert= and key=, or neither")),
    };
    Ok(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))))
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
        ConnectionError::Io(error) | ConnectionError::Tls(rumqttc::TlsError::Io(error)) => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or_default().to_lowercase()
        }
        ConnectionError::MqttState(rumqttc::StateError::ConnectionAborted) => "it closed the connection".into(),
        other => other.to_string(),
    }
}
