//! A Kafka broker: librdkafka's mock cluster in a process, and kcat, which reads topics.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;

pub struct Kafka {
    pub address: String,
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// A record as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Consumed {
    pub topic: String,
    pub partition: i32,
    pub key: String,
    pub headers: String,
    pub record: Value,
}

impl Kafka {
    /// Starts one with these topics, `NAME:PARTITIONS`; `None` if kcat or librdkafka is missing and may be.
    pub fn start(topics: &[&str]) -> Option<Self> {
        let has_kcat = Command::new("kcat").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !framerail_testkit::require("kafka", has_kcat, "install Debian's package kcat (make setup)") {
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka_broker.py");
        let mut process = Command::new("python3")
            .arg(script)
            .args(topics)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python3 starts");
        let (commands, answers) = (process.stdin.take().expect("piped"), process.stdout.take().expect("piped"));
        let mut kafka = Self { address: String::new(), process, commands, answers: BufReader::new(answers) };
        kafka.address = kafka.answer();
        assert!(kafka.address.contains(':'), "librdkafka's mock cluster does not start");
        Some(kafka)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        line.trim().to_owned()
    }

    /// A command of kafka_broker.py.
    pub fn tell(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it runs");
        assert_eq!(self.answer(), "ok", "{command}");
    }

    /// All records of a topic, by partition.
    pub fn read(&self, topic: &str) -> Vec<Consumed> {
        let arguments = ["-C", "-e", "-q", "-o", "beginning", "-f", "%t\t%p\t%k\t%h\t%s\n"];
        let output = Command::new("kcat").args(["-b", &self.address, "-t", topic]).args(arguments).output().expect("kcat runs");
        let text = String::from_utf8(output.stdout).expect("JSON");
        let consumed = |line: &str| {
            let [topic, partition, key, headers, record] = line.splitn(5, '\t').collect::<Vec<_>>().try_into().expect("five fields");
            Consumed {
                topic: topic.into(),
                partition: partition.parse().expect("a number"),
                key: key.into(),
                headers: headers.into(),
                record: serde_json::from_str(record).expect("JSON"),
            }
        };
        text.lines().map(consumed).collect()
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
