//! Servers that receive records: Mosquitto, Redis and librdkafka's mock cluster from system packages, and a small HTTP server.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

mod kafka;
mod redis;

pub use self::{kafka::Kafka, redis::RedisServer};

use framerail_testkit::free_port;
use parking_lot::Mutex;
use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};
use tempfile::TempDir;

/// Maximum time that a test waits for an expected event.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A file of the certificates for 127.0.0.1 that tests use.
pub fn certificate(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../framerail-media/tests/certificates").join(name)
}

fn mosquitto() -> Option<PathBuf> {
    let found = ["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"].map(PathBuf::from);
    found.into_iter().find(|path| path.exists())
}

/// A Mosquitto for one test, on 127.0.0.1.
pub struct Broker {
    pub port: u16,
    folder: TempDir,
    process: Child,
}

impl Broker {
    /// Starts one; `None` if Mosquitto is missing and may be.
    pub fn start(settings: &str) -> Option<Self> {
        Self::start_on(free_port(), settings)
    }

    pub fn start_on(port: u16, settings: &str) -> Option<Self> {
        let program = mosquitto();
        framerail_testkit::require("mqtt", program.is_some(), "install Debian's package mosquitto (make setup)");
        let program = program?;
        let folder = tempfile::tempdir().expect("temporary folder");
        let config = folder.path().join("mosquitto.conf");
        fs::write(&config, format!("user root\nlistener {port} 127.0.0.1\nlog_type none\n{settings}\n")).expect("written");
        let mut process = Command::new(program).arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < LIMIT, "Mosquitto does not listen");
            assert!(process.try_wait().expect("known").is_none(), "Mosquitto does not start with: {settings}");
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self { port, folder, process })
    }

    /// A subscriber to a topic; its messages come with their topics.
    pub fn subscribe(&self, topic: &str) -> mpsc::Receiver<(String, serde_json::Value)> {
        let (mut options, topic) = (MqttOptions::new("test-subscriber", "127.0.0.1", self.port), topic.to_owned());
        options.set_keep_alive(Duration::from_secs(5)).set_max_packet_size(1 << 24, 1 << 24);
        let (client, mut connection) = Client::new(options, 100);
        let (send, received) = mpsc::channel();
        let (ready, is_ready) = mpsc::channel();
        thread::spawn(move || {
            client.subscribe(topic, QoS::ExactlyOnce).expect("asked");
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => drop(ready.send(())),
                    Ok(Event::Incoming(Incoming::Publish(message))) => {
                        let record = serde_json::from_slice(&message.payload).expect("JSON");
                        if send.send((message.topic, record)).is_err() {
                            return;
                        }
                    }
                    Ok(_) => {}
                    // The broker has exited, so the subscriber is no longer needed.
                    Err(_) => return,
                }
            }
        });
        is_ready.recv_timeout(LIMIT).expect("subscribed");
        received
    }

    /// Kills it as a crash would.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.end();
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Posted {
    pub path: String,
    /// In lower case.
    pub headers: Vec<(String, String)>,
    pub body: serde_json::Value,
    /// Bodies that are not JSON.
    pub bytes: Vec<u8>,
    /// The status of the response.
    pub status: u16,
}

impl Posted {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Numbers of the frames in it.
    pub fn frames(&self) -> Vec<u64> {
        self.body.as_array().expect("a list").iter().map(|record| record["frame"].as_u64().expect("a number")).collect()
    }
}

/// An HTTP server with scripted responses, then always 204.
pub struct HttpServer {
    pub port: u16,
    requests: Arc<Mutex<Vec<Posted>>>,
}

impl HttpServer {
    /// Answers the first requests with these status lines and further header lines.
    pub fn start(answers: &[(u16, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let requests: Arc<Mutex<Vec<Posted>>> = Arc::default();
        let answers: Vec<(u16, String)> = answers.iter().map(|(status, headers)| (*status, (*headers).to_owned())).collect();
        let (kept, answers) = (Arc::clone(&requests), Arc::new(Mutex::new(VecDeque::from(answers))));
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (Ok(connection), kept, answers) = (connection, Arc::clone(&kept), Arc::clone(&answers)) else { return };
                thread::spawn(move || while serve(&connection, &kept, &answers).is_some() {});
            }
        });
        Self { port, requests }
    }

    /// Scheme, host and port.
    pub fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/records", self.port)
    }

    pub fn requests(&self) -> Vec<Posted> {
        self.requests.lock().clone()
    }
}

fn serve(connection: &TcpStream, kept: &Mutex<Vec<Posted>>, answers: &Mutex<VecDeque<(u16, String)>>) -> Option<()> {
    let mut reader = BufReader::new(connection.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, more) = answers.lock().pop_front().unwrap_or((204, String::new()));
    let is_json = headers.iter().any(|(name, value)| name == "content-type" && value == "application/json");
    let (body, bytes) = if is_json { (serde_json::from_slice(&body).expect("JSON"), Vec::new()) } else { (serde_json::Value::Null, body) };
    kept.lock().push(Posted { path, headers, body, bytes, status });
    let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n{more}\r\n");
    (&mut &*connection).write_all(answer.as_bytes()).ok()
}
