//! `kafka`, `mqtt`, `redis` and `webhook`: records arrive, also after a server outage, and every loss is counted.

mod records_support;
mod stages_support;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use framerail::{
    core::DetectionOrigin,
    otlp::{Otlp, OtlpOptions},
    pipeline::{Graph, Item, PlannedGraph, RunOptions},
};
use framerail_testkit::free_port;
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{KeyValue, any_value},
    metrics::v1::{metric, number_data_point},
    trace::v1::Span,
};
use prost::Message;
use records_support::{Broker, HttpServer, Kafka, LIMIT, RedisServer, certificate};
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

/// Frame numbers of the next messages, and their topics.
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
    // Later subscribers get the last one.
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
    // This subscriber received its records in order, to the end.
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
    // It has connected, and is refused from now on.
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

const KAFKA: [&str; 4] = ["records_sent", "records_dropped", "records_rejected", "reconnects"];

fn kafka_counts(ran: &Ran) -> [u64; 4] {
    KAFKA.map(|name| ran.counter(name))
}

/// Each of these frames at least once, and in order where repetitions are left out.
fn assert_each_in_order(frames: &[u64], count: u64) {
    let mut next = 0;
    for frame in frames {
        assert!(*frame <= next, "frame {frame} before frame {next}");
        next = next.max(frame + 1);
    }
    assert_eq!(next, count);
}

#[test]
fn a_kafka_topic_gets_every_record_in_order_with_its_key() {
    let Some(kafka) = Kafka::start(&["faces:4", "cams.a_b:1"]) else { return };
    for compression in ["none", "gzip", "snappy"] {
        let options = format!("topic=faces compression={compression} headers=site=yard,team=blue batch=40 buffer=100");
        let ran = run(&format!("kafka brokers={} {options}", kafka.address), clip("cam 1", 200));
        assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [200, 0, 0, 0]), "{compression}");
    }
    let consumed = kafka.read("faces");
    let frames: Vec<u64> = consumed.iter().map(|one| frame_of(&one.record)).collect();
    assert_eq!(frames, (0..200).cycle().take(600).collect::<Vec<_>>());
    assert!(consumed.iter().all(|one| one.key == "cam 1" && one.headers == "site=yard,team=blue"), "{:?}", consumed[0]);
    // kcat puts the key where librdkafka's partitioner of the Java client would.
    assert!(consumed.iter().all(|one| one.partition == consumed[0].partition));
    let ran = run(&format!("kafka brokers={} topic=cams.{{name}} only_found=yes", kafka.address), clip("a/b", 4));
    assert_eq!((ran.error().as_str(), kafka.read("cams.a_b").len()), ("none", 2));
}

#[test]
fn a_kafka_broker_that_restarts_gets_each_record_at_least_once() {
    let Some(mut kafka) = Kafka::start(&["faces:1"]) else { return };
    let text = format!("kafka brokers={} topic=faces buffer=50 batch=20 patience=60s", kafka.address);
    let running = thread::spawn(move || run(&text, clip("a", 3000)));
    let began = Instant::now();
    while kafka.read("faces").is_empty() {
        assert!(began.elapsed() < LIMIT, "nothing arrives");
    }
    for _ in 0..2 {
        kafka.tell("down");
        kafka.tell("up");
    }
    let ran = running.join().expect("no panic");
    let [sent, dropped, rejected, _] = kafka_counts(&ran);
    assert_eq!((ran.error().as_str(), sent, dropped, rejected), ("none", 3000, 0, 0));
    assert_each_in_order(&kafka.read("faces").iter().map(|one| frame_of(&one.record)).collect::<Vec<_>>(), 3000);
}

#[test]
fn a_slow_kafka_broker_costs_live_records_and_holds_up_files() {
    let Some(mut kafka) = Kafka::start(&["slow:1"]) else { return };
    kafka.tell("delay 40");
    let text = format!("kafka brokers={} topic=slow buffer=10 batch=5 full=", kafka.address);
    let ran = run(&format!("{text}drop"), clip("a", 100));
    let [sent, dropped, rejected, _] = kafka_counts(&ran);
    assert_eq!((ran.error().as_str(), sent + dropped, rejected), ("none", 100, 0));
    assert!(dropped > 0 && sent >= 10, "{sent} sent, {dropped} dropped");
    assert_eq!(kafka.read("slow").len() as u64, sent);
    let ran = run(&format!("{text}wait"), clip("a", 30));
    assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [30, 0, 0, 0]));
}

#[test]
fn records_that_kafka_refuses_are_counted_or_fail_the_run() {
    let Some(mut kafka) = Kafka::start(&["small:1"]) else { return };
    let text = format!("kafka brokers={} topic=small batch=1 full=", kafka.address);
    // MESSAGE_TOO_LARGE, for the batch and for the record alone.
    let refuse = |kafka: &mut Kafka| (0..2).for_each(|_| kafka.tell("refuse 10"));
    refuse(&mut kafka);
    let ran = run(&format!("{text}drop"), clip("a", 5));
    assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [4, 0, 1, 0]));
    assert_eq!(kafka.read("small").iter().map(|one| frame_of(&one.record)).collect::<Vec<_>>(), [1, 2, 3, 4]);
    refuse(&mut kafka);
    let error = run(&format!("{text}wait"), clip("a", 5)).error();
    assert!(error.contains("rejects records") && error.contains("larger than the broker accepts"), "{error}");
}

#[test]
fn a_kafka_broker_that_never_comes_is_reported() {
    let text = format!("kafka brokers=127.0.0.1:{} buffer=10 patience=1s full=", free_port());
    let error = run(&format!("{text}wait"), clip("a", 50)).error();
    assert!(error.contains("nothing was delivered to Kafka at 127.0.0.1:") && error.contains("(connection refused)"), "{error}");
    let ran = run(&format!("{text}drop"), clip("a", 50));
    assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [0, 50, 0, 0]));
    let told = |options: &str| try_run(&format!("kafka {options}"), clip("a", 1), Some(1)).err().unwrap_or_default();
    assert!(told("topic=a").contains("brokers"));
    assert!(told("brokers=host").contains("`host` is not a host and a port"));
    assert!(told("brokers=h:1 topic=a/b").contains("is not a valid topic"));
    assert!(told("brokers=h:1 sasl=plain").contains("SASL needs a user"));
    assert!(told("brokers=h:1 cert=x.pem").contains("tls is off"));
}

#[test]
fn a_redis_stream_gets_every_record_in_order_and_keeps_what_it_may() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let text = format!("redis host=127.0.0.1 port={}", server.port);
    let ran = run(&format!("{text} buffer=50"), clip("cam 1", 1000));
    assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [1000, 0, 0, 0]));
    assert_eq!(server.read("framerail:cam 1").iter().map(frame_of).collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
    let ran = run(&format!("{text} stream=short keep=100 database=0"), clip("a", 1000));
    let kept = server.read("short");
    assert_eq!((ran.error().as_str(), frame_of(&kept[kept.len() - 1])), ("none", 999));
    assert!((100..400).contains(&kept.len()), "{}", kept.len());
    redis::cmd("SET").arg("taken").arg("x").exec(&mut server.connect()).expect("set");
    let error = run(&format!("{text} stream=taken"), clip("a", 3)).error();
    assert!(error.contains("rejects records") && error.contains("wrong kind of value"), "{error}");
    let ran = run(&format!("{text} stream=taken full=drop"), clip("a", 3));
    assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [0, 0, 3, 0]));
}

#[test]
fn a_redis_server_that_crashes_and_comes_back_gets_the_rest() {
    let Some(mut server) = RedisServer::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let text = format!("redis host=127.0.0.1 port={} stream=s buffer=20 patience=60s", server.port);
    let running = thread::spawn(move || run(&text, clip("a", 3000)));
    let began = Instant::now();
    while server.read("s").is_empty() {
        assert!(began.elapsed() < LIMIT, "nothing arrives");
    }
    server.kill();
    server.start_again();
    let ran = running.join().expect("no panic");
    assert_eq!((ran.error().as_str(), ran.counter("records_sent"), ran.counter("records_dropped")), ("none", 3000, 0));
    assert_each_in_order(&server.read("s").iter().map(frame_of).collect::<Vec<_>>(), 3000);
}

#[test]
fn a_redis_server_may_want_a_password() {
    // A variable that cargo sets for tests, so that none has to be set here.
    let secret = std::env::var("CARGO_PKG_NAME").expect("cargo sets it");
    let Some(server) = RedisServer::start(&["--requirepass", &secret]) else { return };
    let text = format!("redis host=127.0.0.1 port={} patience=5s", server.port);
    let ran = run(&format!("{text} password_env=CARGO_PKG_NAME"), clip("a", 3));
    assert_eq!((ran.error().as_str(), kafka_counts(&ran)), ("none", [3, 0, 0, 0]));
    let error = run(&format!("{text} password_env=CARGO_PKG_VERSION"), clip("a", 3)).error();
    assert!(error.contains("check username= and password_env="), "{error}");
}

fn integer(attributes: &[KeyValue], key: &str) -> i64 {
    let found = attributes.iter().find(|attribute| attribute.key == key).and_then(|attribute| attribute.value.clone()?.value);
    match found {
        Some(any_value::Value::IntValue(value)) => value,
        other => panic!("{key}: {other:?}"),
    }
}

/// Runs a generated clip of 30 frames with an export; returns what the collector received and the number dropped.
fn exported(server: &HttpServer, trace_every: u64) -> (Vec<Span>, Vec<opentelemetry_proto::tonic::metrics::v1::Metric>, u64) {
    let clip = framerail_testkit::ClipSpec::default().frames(30).make();
    let text = format!("read '{}' ! tee ( flip horizontal ! null ) ! null", clip.path().display());
    let mut planned = framerail::plan(&text).unwrap_or_else(|problems| panic!("{problems}")).into_graph().expect("linked");
    let options = OtlpOptions { endpoint: Some(server.base()), trace_every, interval: Duration::from_secs(600) };
    let otlp = Otlp::prepare(&options, &mut planned).expect("a thread");
    let handle = planned.graph.start(RunOptions::default()).expect("started");
    let exporting = otlp.export(handle.switch()).expect("a thread");
    handle.wait().result.expect("no failure");
    let dropped = exporting.finish();
    let (mut spans, mut metrics) = (Vec::new(), Vec::new());
    for request in server.requests().iter().filter(|request| request.status < 300) {
        assert_eq!(request.header("content-type"), "application/x-protobuf");
        match request.path.as_str() {
            "/v1/traces" => {
                let request = ExportTraceServiceRequest::decode(request.bytes.as_slice()).expect("OTLP");
                spans.extend(request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans));
            }
            "/v1/metrics" => {
                let request = ExportMetricsServiceRequest::decode(request.bytes.as_slice()).expect("OTLP");
                let resource = request.resource_metrics[0].resource.clone().expect("a resource");
                assert!(integer(&resource.attributes, "process.pid") > 0);
                metrics = request.resource_metrics.into_iter().flat_map(|one| one.scope_metrics).flat_map(|scope| scope.metrics).collect();
            }
            other => panic!("{other}"),
        }
    }
    (spans, metrics, dropped)
}

#[test]
fn a_collector_gets_the_way_of_every_nth_frame_and_the_metrics() {
    let server = HttpServer::start(&[(503, ""), (429, "Retry-After: 0\r\n")]);
    let (spans, metrics, dropped) = exported(&server, 10);
    assert_eq!(dropped, 0);
    let roots: BTreeMap<Vec<u8>, &Span> =
        spans.iter().filter(|span| span.parent_span_id.is_empty()).map(|span| (span.span_id.clone(), span)).collect();
    let frames: BTreeSet<i64> = roots.values().map(|span| integer(&span.attributes, "framerail.frame")).collect();
    assert_eq!(frames, BTreeSet::from([0, 10, 20]));
    assert_eq!(roots.values().map(|span| &span.trace_id).collect::<BTreeSet<_>>().len(), 3);
    for root in roots.values() {
        let below: Vec<&Span> = spans.iter().filter(|span| span.parent_span_id == root.span_id).collect();
        let names: BTreeSet<&str> = below.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["read", "tee", "flip", "null", "null-2"]));
        for span in &below {
            assert!(span.trace_id == root.trace_id && span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
            assert!(span.start_time_unix_nano >= root.start_time_unix_nano && span.end_time_unix_nano <= root.end_time_unix_nano);
        }
    }
    let frames = metrics.iter().find(|metric| metric.name == "framerail_stage_frames").expect("a metric");
    let Some(metric::Data::Sum(sum)) = &frames.data else { panic!("{frames:?}") };
    assert!(sum.is_monotonic && sum.data_points.len() == 5);
    assert!(sum.data_points.iter().all(|point| point.value == Some(number_data_point::Value::AsDouble(30.0))), "{sum:?}");
    assert!(metrics.iter().any(|metric| matches!(metric.data, Some(metric::Data::Gauge(_)))));
}

#[test]
fn a_collector_that_refuses_costs_traces_and_not_the_run() {
    let mut planned = PlannedGraph { graph: Graph::new(), nodes: Vec::new(), edges: Vec::new() };
    for wrong in ["localhost:4318", "ftp://host"] {
        let options = OtlpOptions { endpoint: Some(wrong.into()), ..OtlpOptions::default() };
        let error = Otlp::prepare(&options, &mut planned).err().expect("not a URL");
        assert!(error.message.contains("write it as http://host:4318"), "{error}");
    }
    let refusing = HttpServer::start(&[(400, ""); 100]);
    let (spans, metrics, dropped) = exported(&refusing, 1);
    assert_eq!((spans.len(), metrics.len()), (0, 0));
    // All frames, and the metrics.
    assert_eq!(dropped, 31);
}
