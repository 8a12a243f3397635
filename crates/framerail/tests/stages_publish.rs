//! `mqtt` and `webhook`: records arrive, also after a server was away, and none is lost unseen.

mod records_support;
mod stages_support;

use std::{sync::mpsc, thread};

use framerail::{core::DetectionOrigin, pipeline::Item};
use records_support::{Broker, HttpServer, LIMIT, certificate, free_port};
use serde_json::Value;
use stages_support::{Ran, end, face, run, seen, stream, try_run};

const OPEN: &str = "allow_anonymous true\nmax_queued_messages 0";

/// Frames with a face on every second one. All have the same pixels.
fn clip(name: &str, frames: u64) -> Vec<Item> {
    let first = seen(0, 0, vec![face(0.9, Some(3), DetectionOrigin::Detected)]);
    let numbered = |index: u64| {
        let mut item = first.clone();
        item.frame.index = index;
        item.detections.truncate(usize::from(index.is_multiple_of(2)));
        item.into()
    };
    let start = [Item::StreamStart(stream(0, name))];
    start.into_iter().chain((0..frames).map(numbered)).chain([end(0)]).collect()
}

fn frame_of(record: &Value) -> u64 {
    record["frame"].as_u64().expect("a number")
}

/// The frames of so many messages, and their topics.
fn take(received: &mpsc::Receiver<(String, Value)>, count: usize) -> (Vec<u64>, Vec<String>) {
    (0..count).map(|_| received.recv_timeout(LIMIT).expect("a message")).map(|(topic, record)| (frame_of(&record), topic)).unzip()
}

fn counts(ran: &Ran, names: [&str; 3]) -> [u64; 3] {
    names.map(|name| ran.counter(name))
}

const MQTT: [&str; 3] = ["records_sent", "records_dropped", "reconnects"];
const WEBHOOK: [&str; 3] = ["records_sent", "records_dropped", "records_rejected"];

#[test]
fn a_broker_gets_every_record_in_order() {
    let Some(broker) = Broker::start(OPEN) else { return };
    for qos in 0..=2 {
        let received = broker.subscribe(&format!("cams/{qos}/#"));
        let text = format!("mqtt host=127.0.0.1 port={} topic=cams/{qos}/{{stream}}/{{name}} qos={qos} buffer=20", broker.port);
        let ran = run(&text, clip("a/b+c#", 300));
        assert_eq!((ran.error().as_str(), counts(&ran, MQTT)), ("none", [300, 0, 0]));
        let (frames, topics) = take(&received, 300);
        assert_eq!(frames, (0..300).collect::<Vec<_>>(), "qos {qos}");
        assert!(topics.iter().all(|topic| *topic == format!("cams/{qos}/0/a_b_c_")), "{}", topics[0]);
    }
}

#[test]
fn messages_are_the_lines_of_save() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let received = broker.subscribe("#");
    let ran = run(&format!("mqtt host=127.0.0.1 port={} only_found=yes retain=yes", broker.port), clip("a", 4));
    assert_eq!((ran.error().as_str(), counts(&ran, MQTT)), ("none", [2, 0, 0]));
    let (topic, record) = received.recv_timeout(LIMIT).expect("a message");
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("a.jsonl");
    run(&format!("save {}", path.display()), clip("a", 4));
    let lines = std::fs::read_to_string(path).expect("written");
    assert_eq!(topic, "framerail/a");
    assert_eq!(record, serde_json::from_str::<Value>(lines.lines().next().expect("a line")).expect("JSON"));
    // Whoever comes later gets the last one.
    let later = broker.subscribe("framerail/a");
    assert_eq!(frame_of(&later.recv_timeout(LIMIT).expect("kept").1), 2);
}

#[test]
fn a_broker_that_crashes_and_comes_back_gets_the_rest() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let (port, received) = (broker.port, broker.subscribe("#"));
    let text = format!("mqtt host=127.0.0.1 port={port} buffer=100 patience=60s");
    let running = thread::spawn(move || run(&text, clip("a", 20_000)));
    let (first, _) = take(&received, 50);
    assert_eq!(first, (0..50).collect::<Vec<_>>());
    broker.kill();
    drop(received);
    let broker = Broker::start_on(port, OPEN).expect("installed");
    let received = broker.subscribe("#");
    let ran = running.join().expect("no panic");
    assert_eq!((ran.error().as_str(), counts(&ran, MQTT)), ("none", [20_000, 0, 1]));
    // What this subscriber was there for came in order, up to the end.
    let mut frames = Vec::new();
    while frames.last() != Some(&19_999) {
        frames.extend(take(&received, 1).0);
    }
    assert!(frames.windows(2).all(|pair| pair[0] <= pair[1]), "order");
}

#[test]
fn a_broker_that_is_late_is_waited_for_and_one_that_never_comes_is_reported() {
    let port = free_port();
    let text = format!("mqtt host=127.0.0.1 port={port} buffer=10 patience=500ms when_full=");
    let ran = run(&format!("{text}wait"), clip("a", 50));
    assert!(
        ran.error().contains(&format!("nothing was delivered to the MQTT broker 127.0.0.1:{port} for 0.5 s (connection refused)")),
        "{}",
        ran.error()
    );
    let ran = run(&format!("{text}drop"), clip("a", 50));
    assert_eq!((ran.error().as_str(), counts(&ran, MQTT)), ("none", [0, 50, 0]));
    let notices: Vec<&String> = ran.outcome.stats.stages.iter().flat_map(|stage| &stage.notices).collect();
    assert!(notices.iter().any(|notice| notice.contains("10 records are dropped at the end")), "{notices:?}");
    let text = format!("mqtt host=127.0.0.1 port={port}");
    let silent = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let running = thread::spawn(move || run(&text, clip("a", 50)));
    // It has tried, and is refused from now on.
    drop(silent.accept().expect("a connection"));
    drop(silent);
    let Some(_broker) = Broker::start_on(port, OPEN) else { return };
    let ran = running.join().expect("no panic");
    assert_eq!((ran.error().as_str(), counts(&ran, MQTT)), ("none", [50, 0, 0]));
}

#[test]
fn a_broker_may_want_a_password_and_encryption() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let passwords = folder.path().join("passwords");
    // A variable that cargo sets for tests, so that none has to be set here.
    let secret = std::env::var("CARGO_PKG_NAME").expect("cargo sets it");
    let made = std::process::Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(&passwords).args(["camera", &secret]).status();
    if !framerail_testkit::require("mqtt", made.is_ok_and(|status| status.success()), "install Debian's package mosquitto (make setup)") {
        return;
    }
    let (key, server, authority) = (certificate("server.key"), certificate("server.pem"), certificate("authority.pem"));
    let settings =
        format!("allow_anonymous false\npassword_file {}\ncertfile {}\nkeyfile {}", passwords.display(), server.display(), key.display());
    let Some(broker) = Broker::start(&settings) else { return };
    let port = broker.port;
    let reported = |options: &str| run(&format!("mqtt host=127.0.0.1 port={port} patience=5s {options}"), clip("a", 3));
    let trusted = format!("tls=yes ca={}", authority.display());
    let ran = reported(&format!("{trusted} username=camera password_env=CARGO_PKG_NAME"));
    assert_eq!((ran.error().as_str(), counts(&ran, MQTT)), ("none", [3, 0, 0]));
    let error = reported(&format!("{trusted} username=camera password_env=CARGO_PKG_VERSION when_full=drop")).error();
    assert!(error.contains("does not authorise this client") || error.contains("refuses the user name"), "{error}");
    let error = reported("tls=yes username=camera").error();
    assert!(error.contains("certificate"), "{error}");
}

#[test]
fn mistakes_of_mqtt_show_before_the_start() {
    let reported = |options: &str| try_run(&format!("mqtt {options}"), clip("a", 1), Some(1)).err().unwrap_or_default();
    assert!(reported("topic=a").contains("host"));
    assert!(reported("host=b topic=a/#").contains("is not a valid publish topic"));
    assert!(reported("host=b ca=x.pem").contains("tls is off"));
    assert!(reported("host=b tls=yes ca=/nowhere/x.pem").contains("/nowhere/x.pem"));
    assert!(reported("host=b username=a password_env=NO_SUCH_VARIABLE").contains("NO_SUCH_VARIABLE is not set"));
    assert!(reported("host=b qos=3").contains("qos"));
}

#[test]
fn a_server_gets_lists_of_records() {
    let server = HttpServer::start(&[]);
    let text = format!("webhook {} batch=40 batch_time=60s headers=X-Site=yard token_env=CARGO_PKG_NAME buffer=200", server.url());
    let ran = run(&text, clip("a", 100));
    assert_eq!((ran.error().as_str(), counts(&ran, WEBHOOK)), ("none", [100, 0, 0]));
    let requests = server.requests();
    let frames: Vec<u64> = requests.iter().flat_map(|request| request.frames()).collect();
    assert_eq!(frames, (0..100).collect::<Vec<_>>());
    assert!(requests.iter().all(|request| request.frames().len() <= 40));
    let first = &requests[0];
    assert_eq!((first.path.as_str(), first.header("content-type"), first.header("x-site")), ("/records", "application/json", "yard"));
    assert_eq!(first.header("authorization"), "Bearer framerail");
    assert_eq!(first.body[0]["detections"][0]["track_id"], 3);
}

#[test]
fn requests_are_made_again_under_the_same_key() {
    let server = HttpServer::start(&[(503, "Retry-After: 0\r\n"), (429, ""), (200, "")]);
    let ran = run(&format!("webhook {} batch=5 batch_time=60s buffer=5", server.url()), clip("a", 10));
    assert_eq!((ran.error().as_str(), counts(&ran, WEBHOOK), ran.counter("retries")), ("none", [10, 0, 0], 2));
    let requests = server.requests();
    let keys: Vec<&str> = requests.iter().map(|request| request.header("idempotency-key")).collect();
    assert_eq!(requests.iter().map(|request| request.status).collect::<Vec<_>>(), [503, 429, 200, 204]);
    assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[2] != keys[3] && !keys[0].is_empty(), "{keys:?}");
    assert_eq!(requests[0].frames(), requests[2].frames());
}

#[test]
fn refusals_end_a_run_on_files_and_are_counted_of_live_ones() {
    let server = HttpServer::start(&[(404, "")]);
    let error = run(&format!("webhook {} batch=5", server.url()), clip("a", 10)).error();
    assert!(error.contains("rejects records: it responds with 404") && !error.contains("/records"), "{error}");
    let server = HttpServer::start(&[(301, "Location: /elsewhere\r\n")]);
    let ran = run(&format!("webhook {} batch=5 batch_time=60s buffer=5 when_full=wait", server.url()), clip("a", 5));
    assert!(ran.error().contains("give the address that it points to"), "{}", ran.error());
    let server = HttpServer::start(&[(400, "")]);
    let ran = run(&format!("webhook {} batch=4 buffer=100 batch_time=0 when_full=drop", server.url()), clip("a", 12));
    let [sent, dropped, rejected] = counts(&ran, WEBHOOK);
    assert_eq!((ran.error().as_str(), sent + rejected, dropped), ("none", 12, 0));
    assert!((1..=4).contains(&rejected), "the first request of up to 4 records");
}

#[test]
fn an_unreachable_server_is_reported_or_costs_records() {
    let url = format!("http://127.0.0.1:{}/secret-key", free_port());
    let ran = run(&format!("webhook {url} buffer=10 patience=400ms"), clip("a", 50));
    assert!(ran.error().contains("connection refused") && !ran.error().contains("secret-key"), "{}", ran.error());
    let ran = run(&format!("webhook {url} buffer=10 patience=400ms when_full=drop"), clip("a", 50));
    assert_eq!((ran.error().as_str(), counts(&ran, WEBHOOK)), ("none", [0, 50, 0]));
    let reported = |text: &str| try_run(text, clip("a", 1), Some(1)).err().unwrap_or_default();
    assert!(reported("webhook ftp://host/x").contains("not an http or https URL"));
    assert!(reported("webhook http://host/x token_env=NO_SUCH_VARIABLE").contains("NO_SUCH_VARIABLE is not set"));
}
