//! A Redis server for one test.

use std::{
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use framerail_testkit::free_port;

use super::LIMIT;

pub struct RedisServer {
    pub port: u16,
    folder: TempDir,
    settings: Vec<String>,
    process: Child,
}

impl RedisServer {
    /// Starts one; `None` if it is missing and may be.
    pub fn start(settings: &[&str]) -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !framerail_testkit::require("redis", found, "install Debian's package redis-server (make setup)") {
            return None;
        }
        let (port, folder) = (free_port(), tempfile::tempdir().expect("temporary folder"));
        let settings: Vec<String> = settings.iter().map(|text| (*text).to_owned()).collect();
        let process = spawn(port, &folder, &settings);
        Some(Self { port, folder, settings, process })
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again on its port, with what it has on disk.
    pub fn start_again(&mut self) {
        self.process = spawn(self.port, &self.folder, &self.settings);
    }

    pub fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
        let began = Instant::now();
        loop {
            let loaded = client.get_connection().and_then(|mut connection| redis::cmd("PING").exec(&mut connection).map(|()| connection));
            match loaded {
                Ok(connection) => return connection,
                Err(error) => assert!(began.elapsed() < LIMIT, "{error}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The records of a stream.
    pub fn read(&self, stream: &str) -> Vec<Value> {
        type Entries = Vec<(String, Vec<String>)>;
        let entries: Entries = redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut self.connect()).expect("a stream");
        let record = |(_, fields): (String, Vec<String>)| {
            assert_eq!(fields[0], "record");
            serde_json::from_str(&fields[1]).expect("JSON")
        };
        entries.into_iter().map(record).collect()
    }
}

fn spawn(port: u16, folder: &TempDir, settings: &[String]) -> Child {
    let mut process = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder.path())
        .args(settings)
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < LIMIT, "Redis does not listen");
        assert!(process.try_wait().expect("known").is_none(), "Redis does not start with: {settings:?}");
        thread::sleep(Duration::from_millis(10));
    }
    process
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
