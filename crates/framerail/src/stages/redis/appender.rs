//! The connection to the server.

use std::{fs, time::Duration};

use framerail_core::{CancelToken, StreamInfo};
use framerail_pipeline::{ConfigError, Options};
use redis::{
    Client, ClientTlsConfig, Connection, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates,
};

use crate::{
    sender::{Batch, Failure, Protocol, plain},
    stages::publish::{
        access::{TlsFiles, secret},
        records::{PlacedRecord, RecordProtocol, placed},
    },
};

/// Maximum entries per round trip.
const WINDOW: usize = 256;
const WINDOW_BYTES: usize = 4_000_000;
const CONNECT: Duration = Duration::from_secs(5);
/// Maximum time for a response.
const ANSWER: Duration = Duration::from_secs(10);

/// Appends records to streams.
pub(super) struct Appender {
    client: Client,
    target: String,
    stream: String,
    keep: Option<i64>,
}

impl Appender {
    pub(super) fn new(options: &Options) -> Result<Self, ConfigError> {
        let host = options.text("host").to_owned();
        let port = options.optional_integer("port").and_then(|port| u16::try_from(port).ok()).unwrap_or(6379);
        let mut own = RedisConnectionInfo::default().set_db(options.integer("database"));
        if let Some(name) = options.optional_text("username") {
            own = own.set_username(name);
        }
        // Redis also supports passwords without a user.
        if let Some(password) = secret(options, "password_env")? {
            own = own.set_password(password);
        }
        let target = format!("Redis at {host}:{port}");
        let bad = |error: RedisError| ConfigError::at("host", error);
        let client = match TlsFiles::of(options)? {
            None => {
                let info = ConnectionAddr::Tcp(host, port).into_connection_info().map_err(bad)?;
                Client::open(info.set_redis_settings(own)).map_err(bad)?
            }
            Some(files) => {
                // Checks the files here for better messages.
                files.client_config()?;
                let read = |path: &std::path::Path| {
                    fs::read(path).map_err(|error| ConfigError::at("tls", format_args!("{}: {error}", path.display())))
                };
                let root_cert = files.ca.as_deref().map(read).transpose()?;
                let client_tls = match &files.own {
                    None => None,
                    Some((cert, key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
                };
                let addr = ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None };
                let info = addr.into_connection_info().map_err(bad)?.set_redis_settings(own);
                Client::build_with_tls(info, TlsCertificates { client_tls, root_cert }).map_err(bad)?
            }
        };
        Ok(Self { client, target, stream: options.text("stream").to_owned(), keep: options.optional_integer("keep") })
    }
}

impl Protocol for Appender {
    type Message = PlacedRecord;
    type Connection = Connection;

    fn target(&self) -> String {
        self.target.clone()
    }

    fn batch(&self) -> Batch {
        Batch { messages: WINDOW, bytes: WINDOW_BYTES, wait: Duration::ZERO }
    }

    fn connect(&self, _: &CancelToken) -> Result<Connection, Failure> {
        let connect = || {
            let connection = self.client.get_connection_with_timeout(CONNECT)?;
            connection.set_read_timeout(Some(ANSWER))?;
            connection.set_write_timeout(Some(ANSWER))?;
            Ok(connection)
        };
        connect().map_err(|error| failure(&error))
    }

    fn send(&self, connection: &mut Connection, messages: &mut Vec<PlacedRecord>) -> Result<(), Failure> {
        let mut pipe = redis::pipe();
        for message in &*messages {
            let command = pipe.cmd("XADD").arg(&message.place);
            if let Some(keep) = self.keep {
                command.arg("MAXLEN").arg("~").arg(keep);
            }
            command.arg("*").arg("record").arg(&message.record);
        }
        let outcome: Vec<Result<String, RedisError>> = pipe.ignore_errors().query(connection).map_err(|error| failure(&error))?;
        let failed = outcome.iter().find_map(|one| one.as_ref().err()).map(failure);
        let mut outcome = outcome.iter();
        messages.retain(|_| outcome.next().is_none_or(Result::is_err));
        failed.map_or(Ok(()), Err)
    }
}

impl RecordProtocol for Appender {
    const NAME: &'static str = "redis";

    fn message(&self, info: &StreamInfo, record: Vec<u8>) -> PlacedRecord {
        PlacedRecord { place: placed(&self.stream, info, |_| true), record }
    }
}

fn failure(error: &RedisError) -> Failure {
    let words = plain(error);
    match (error.kind(), error.code()) {
        (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS" | "NOPERM")) => {
            Failure::lasting(format!("{words}; check username= and password_env="))
        }
        (ErrorKind::InvalidClientConfig, _) => Failure::lasting(words),
        // The key holds another kind of value.
        (_, Some("WRONGTYPE" | "ERR")) => Failure::rejected(words, 1),
        // Others are temporary: memory or disk full, a server that is loading its data.
        _ => Failure::transient(words),
    }
}
