//! A run monitored over HTTP: every path, access, and that clients do not slow the run.
#![cfg(feature = "serve")]

mod serve_support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::Duration,
};

use framerail::pipeline::{
    EdgeFormat, Emitter, Flow, FrameItem, Graph, NodeOptions, RunOptions, Setting, SettingSpec, Source, Stage, StageContext, StageError,
    Work,
};
use framerail_serve::{BoundServer, Content, ImageOptions, LiveImages, ServeError, ServeOptions};
use framerail_testkit::{ClipSpec, read_frame_number};
use serde_json::{Value, json};
use serve_support::{Client, Reply, Watched, check_metrics, until};

const TOKEN: &str = "a-token-of-the-test";

/// A clip of a minute, which no test takes.
fn clip() -> ClipSpec {
    ClipSpec::default().frames(1500)
}

fn paced() -> Watched {
    Watched::start(&format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display()), None)
}

/// The number that a generated frame shows.
fn shown_number(jpeg: &[u8]) -> u64 {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("picture.jpg");
    std::fs::write(&path, jpeg).expect("written");
    let image = framerail::media::load_image(&path, &framerail::core::FramePool::new(0)).expect("a JPEG");
    read_frame_number(&image).expect("a generated frame")
}

#[test]
fn every_address_answers() {
    let watched = paced();
    let client = watched.client();
    for (path, kind) in [
        ("/", "text/html"),
        ("/watch.js", "text/javascript"),
        ("/charts.js", "text/javascript"),
        ("/pictures.js", "text/javascript"),
        ("/watch.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
        ("/graph.svg", "image/svg+xml"),
        ("/stats", "application/json"),
        ("/healthz", "application/json"),
        ("/streams", "application/json"),
        ("/settings", "application/json"),
        ("/metrics", "text/plain"),
        ("/frames/0.jpg", "image/jpeg"),
    ] {
        let reply = client.get(path);
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        assert!(reply.header("content-type").starts_with(kind), "{path}: {reply:?}");
        assert_eq!(reply.header("x-content-type-options"), "nosniff");
        assert!(reply.header("content-security-policy").starts_with("default-src 'none'"), "{path}");
        assert!(!reply.body.is_empty());
        let head = client.send("HEAD", path, &[], b"");
        assert!(head.status == 200 && head.body.is_empty(), "{path}: {head:?}");
    }
    for path in ["/nothing", "/frames/0.png", "/frames/9.jpg", "/frames/", "/../Cargo.toml", "/streams/0"] {
        let reply = client.get(path);
        assert!(reply.status == 404 && reply.json()["error"].is_string(), "{path}: {reply:?}");
    }
    for (method, path, allowed) in [
        ("PUT", "/streams", "GET, POST"),
        ("POST", "/stats", "GET"),
        ("GET", "/stop", "POST"),
        ("PATCH", "/settings", "GET, PUT"),
        ("POST", "/models", "GET, PUT"),
    ] {
        let reply = client.send(method, path, &[], b"");
        assert_eq!((reply.status, reply.header("allow")), (405, allowed), "{method} {path}");
    }
    watched.stop();
}

#[test]
fn statistics_are_those_of_the_run() {
    let watched = paced();
    let client = watched.client();
    until("frames", || client.get("/stats").json()["stages"][1]["frames_in"].as_u64() > Some(3));
    let served = client.get("/stats").json();
    let own = serde_json::to_value(watched.handle().stats()).expect("JSON");
    let keys = |value: &Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&served), keys(&own));
    assert_eq!(keys(&served["stages"][0]), keys(&own["stages"][0]));
    let text = client.get("/metrics").text();
    let metrics = check_metrics(&text);
    for name in [
        "framerail_stage_frames_total{stage=\"null\"}",
        "framerail_edge_queue_frames{from=\"read\",to=\"null\"}",
        "framerail_stage_time_seconds_total{stage=\"read\",state=\"busy\"}",
        "framerail_streams{state=\"running\"}",
        "process_resident_memory_bytes",
        "framerail_healthy",
    ] {
        assert!(metrics.contains_key(name), "{name} is missing:\n{text}");
    }
    assert!(metrics["framerail_stage_frames_total{stage=\"null\"}"] > 3.0 && metrics["process_resident_memory_bytes"] > 1e6);
    watched.stop();
}

#[test]
fn images_show_the_frames_and_are_made_on_demand() {
    let watched = paced();
    let client = watched.client();
    until("frames", || client.get("/stats").json()["stages"][1]["frames_in"].as_u64() > Some(3));
    assert_eq!(watched.images().made(), 0, "nobody has asked");
    let (mut after, mut last) = (0, None);
    for _ in 0..3 {
        let reply = client.get(&format!("/frames/{}.jpg?after={after}", watched.stream_name(0)));
        assert_eq!(reply.status, 200, "{reply:?}");
        let number: u64 = reply.header("x-framerail-frame").parse().expect("a number");
        assert_eq!(shown_number(&reply.body), number);
        assert!(last.is_none_or(|last| number > last), "{number} after {last:?}");
        (after, last) = (reply.header("x-framerail-sequence").parse::<u64>().expect("a number"), Some(number));
    }
    let parts = client.multipart("/frames/0.mjpg", 4);
    let numbers: Vec<u64> = parts.iter().map(|jpeg| shown_number(jpeg)).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    watched.stop();
}

#[test]
fn events_tell_how_it_goes_on_and_ends() {
    let clip = ClipSpec::default().frames(40).make();
    let watched = Watched::start(&format!("read '{}' realtime=yes ! null", clip.path().display()), None);
    let address = watched.address();
    let events = watched.client().events();
    let stats = watched.handle().stats();
    assert!(stats.wall_secs > 0.0);
    let outcome = watched.end();
    let reported = events.recv_timeout(Duration::from_secs(60)).expect("the connection ends");
    let names: Vec<&str> = reported.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.first() == Some(&"history") && names.last() == Some(&"end") && names.len() > 3, "{names:?}");
    let reports: Vec<&Value> = reported.iter().filter(|(name, _)| name == "report").map(|(_, data)| data).collect();
    let frames: Vec<u64> = reports.iter().filter_map(|report| report["sample"]["done"].as_u64()).collect();
    assert!(frames.windows(2).all(|pair| pair[0] <= pair[1]) && frames.last() == Some(&40), "{frames:?}");
    assert_eq!(reports[0]["state"], "running");
    assert_eq!(reports.last().expect("one")["state"], "ended");
    assert_eq!(outcome.stats.frames_done(), 40);
    std::net::TcpListener::bind(address).expect("the port is free again");
}

#[test]
fn strangers_are_refused() {
    let watched = paced();
    let client = watched.client();
    let own = format!("http://{}", watched.address());
    for (headers, status) in [
        (vec![("Host", "evil.example")], 421),
        (vec![("Host", "localhost")], 200),
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", own.as_str())], 200),
        (vec![("Origin", "null")], 403),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
    ] {
        let reply = client.send("GET", "/stats", &headers, b"");
        assert_eq!(reply.status, status, "{headers:?}: {reply:?}");
    }
    let stop = client.send("POST", "/stop", &[("Origin", "http://evil.example")], b"");
    assert!(stop.status == 403 && !watched.handle().switch().is_stopping());
    let form = client.send("POST", "/streams", &[("Content-Type", "application/x-www-form-urlencoded")], b"source=/etc/passwd");
    assert_eq!(form.status, 403, "without a token nothing is added");
    watched.stop();
}

#[test]
fn a_token_opens_the_door() {
    let watched = Watched::start(&format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display()), Some(TOKEN));
    let client = watched.client();
    for path in ["/", "/stats", "/metrics", "/frames/0.jpg", "/watch.js", "/events"] {
        let reply = client.get(path);
        assert_eq!((reply.status, reply.header("www-authenticate")), (401, "Bearer"), "{path}: {reply:?}");
    }
    let health = client.get("/healthz");
    assert_eq!((health.status, health.text().as_str()), (200, r#"{"state":"running"}"#), "no more than that");
    assert_eq!(client.send("POST", "/stop", &[], b"").status, 401);
    assert_eq!(client.send("GET", "/stats", &[("Authorization", &format!("Bearer {TOKEN}"))], b"").status, 200);
    assert_eq!(client.send("GET", "/stats", &[("Authorization", "Bearer wrong")], b"").status, 401);
    assert_eq!(client.get("/?token=wrong").status, 401);
    let visit = client.get(&format!("/?token={TOKEN}"));
    assert_eq!((visit.status, visit.header("location")), (303, "/"));
    let cookie = visit.header("set-cookie").split(';').next().expect("a cookie").to_owned();
    assert_eq!(client.send("GET", "/stats", &[("Cookie", &cookie)], b"").status, 200);
    watched.stop();
}

#[test]
fn what_cannot_be_served_is_reported_before_the_run() {
    let bind = |address: &str, token: Option<&str>| {
        BoundServer::bind(&ServeOptions { address: address.to_owned(), token: token.map(str::to_owned), ..ServeOptions::default() })
    };
    assert!(matches!(bind("nowhere", None), Err(ServeError::Address { .. })));
    assert!(matches!(bind("0.0.0.0:0", None), Err(ServeError::TokenNeeded { .. })));
    assert!(matches!(bind("127.0.0.1:0", Some("short")), Err(ServeError::Token)));
    let taken = bind("127.0.0.1:0", None).expect("a free port");
    let error = bind(&taken.address().to_string(), None).err().expect("in use");
    assert!(matches!(error, ServeError::InUse { .. }) && error.to_string().contains("is in use"), "{error}");
    assert!(bind("0.0.0.0:0", Some(TOKEN)).is_ok());
}

#[test]
fn requests_that_are_none_do_no_harm() {
    let watched = Watched::start(&format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display()), Some(TOKEN));
    let client = watched.known();
    let raw = |bytes: &[u8]| {
        let mut stream = TcpStream::connect(watched.address()).expect("connects");
        // The server may answer and close before everything is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    let long = [b"GET /".as_slice(), &vec![b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat();
    let many = [b"GET / HTTP/1.1\r\nHost: localhost\r\n".as_slice(), "X: y\r\n".repeat(1000).as_bytes(), b"\r\n"].concat();
    for bytes in [b"\x16\x03\x01\x02\x00".as_slice(), b"\r\n\r\n", b"GET", b"GET / HTTP/9.9\r\n\r\n", b"\0\0\0\0", &long, &many] {
        let answer = raw(bytes);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.0 4"), "{answer}");
    }
    let json = [("Content-Type", "application/json")];
    for (body, status) in [
        (b"".as_slice(), 400),
        (b"{", 400),
        (b"[]", 400),
        (b"{\"source\": 1}", 400),
        (b"{\"source\": \" \"}", 400),
        (b"{\"source\": \"a\", \"more\": 1}", 400),
        (b"{\"source\": \"/no/such/file.mp4\"}", 400),
        (&[b' '; 20_000], 413),
    ] {
        let reply = client.send("POST", "/streams", &json, body);
        assert_eq!(reply.status, status, "{reply:?}");
        assert!(reply.json()["error"].is_string());
    }
    // Requests whose headers never end occupy their own connection only, for a limited time.
    let open: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(watched.address()).expect("connects")).collect();
    assert_eq!(client.get("/healthz").status, 200);
    drop(open);
    watched.stop();
}

#[test]
fn half_open_connections_of_strangers_lock_nobody_out() {
    let watched = Watched::start(&format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display()), Some(TOKEN));
    // An authenticated client keeps its connection while unauthenticated ones arrive.
    let events = watched.known().events();
    for round in 0..3 {
        let open: Vec<TcpStream> = (0..70).map(|_| TcpStream::connect(watched.address()).expect("connects")).collect();
        for mut stream in &open {
            // Later ones replace the first.
            let _ = stream.write_all(b"GET /stats HTTP/1.1\r\nHost: localhost\r\n");
        }
        assert_eq!(watched.client().get("/healthz").status, 200, "round {round}");
        assert_eq!(watched.known().get("/stats").status, 200, "round {round}");
        drop(open);
    }
    assert!(matches!(events.try_recv(), Err(std::sync::mpsc::TryRecvError::Empty)), "the connection goes on");
    watched.stop();
}

#[test]
fn wrong_tokens_are_refused_however_they_are_sent() {
    let watched = Watched::start(&format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display()), Some(TOKEN));
    let address = watched.address();
    let guesses: Vec<_> = (0..3)
        .map(|number| {
            std::thread::spawn(move || match number {
                0 => Client::new(address).send("GET", "/stats", &[("Authorization", "Bearer wrong-guess")], b"").status,
                1 => Client::new(address).get("/?token=wrong-guess").status,
                _ => Client::new(address).send("GET", "/stats", &[("Cookie", "framerail_1=wrong-guess")], b"").status,
            })
        })
        .collect();
    // The right token is not delayed by guesses.
    assert_eq!(watched.known().get("/healthz").status, 200);
    let statuses: Vec<u16> = guesses.into_iter().map(|guess| guess.join().expect("answered")).collect();
    assert_eq!(statuses, [401; 3]);
    watched.stop();
}

#[test]
fn posted_sources_are_held_to_a_list() {
    let text = format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display());
    let open = Watched::start(&text, None);
    let refused = open.client().json("POST", "/streams", &json!({ "source": "rtsp://127.0.0.1:1/cam" }));
    assert!(refused.status == 403 && refused.text().contains("--serve-token"), "{refused:?}");
    open.stop();
    let watched = Watched::start(&text, Some(TOKEN));
    let client = watched.known();
    let post = |source: &str| client.json("POST", "/streams", &json!({ "source": source }));
    let form = client.send("POST", "/streams", &[("Content-Type", "application/x-www-form-urlencoded")], b"source=/etc/passwd");
    assert_eq!(form.status, 415, "forms of other pages need no leave to be sent");
    for source in ["tcp://127.0.0.1:1", "unix:///run/x", "gopher://h/x", "ftp://h/x", "rtsp://h:1?mode=listener"] {
        assert_eq!(post(source).status, 403, "{source}");
    }
    let secret = post("rtsp://me:s3cr3t@127.0.0.1:1/cam?token=s3cr3t");
    assert_eq!(secret.status, 201, "{secret:?}");
    for path in ["/streams", "/stats", "/metrics"] {
        let text = client.get(path).text();
        assert!(
            !text.contains("s3cr3t") && (path == "/metrics" || text.contains("rtsp://***@127.0.0.1:1/cam?token=***")),
            "{path}: {text}"
        );
    }
    let mut statuses = Vec::new();
    for number in 0..260 {
        statuses.push(post(&format!("rtsp://127.0.0.1:1/{number}")).status);
    }
    assert!(statuses.contains(&201) && statuses.last() == Some(&429), "{statuses:?}");
    watched.handle().stop();
    let _ = watched.end();
}

#[test]
fn streams_come_and_go_by_request() {
    let clip = clip().make();
    let watched = Watched::start(&format!("read '{}' realtime=yes stay=yes streams=all ! null", clip.path().display()), Some(TOKEN));
    let client = watched.known();
    let threads = || std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0);
    until("the first frame", || client.get("/stats").json()["streams"][0]["frames_delivered"].as_u64() > Some(0));
    let before = threads();
    for round in 0..50 {
        let added = client.json("POST", "/streams", &json!({ "source": clip.path() }));
        assert_eq!(added.status, 201, "{added:?}");
        let id = added.json()["id"].as_u64().expect("a number");
        if round % 10 == 0 {
            assert_eq!(client.get(&format!("/frames/{id}.jpg")).status, 200);
        }
        let removed = client.send("DELETE", &format!("/streams/{id}"), &[], b"");
        assert_eq!(removed.status, 200, "{removed:?}");
        assert_eq!(client.send("DELETE", "/streams/100000", &[], b"").status, 404);
    }
    until("the removed to be gone", || {
        let streams = client.get("/streams").json();
        let removed = streams.as_array().expect("a list").iter().filter(|stream| stream["state"] == "removed");
        removed.count() == 50
    });
    // A thread of the pool that added streams may still wait for work.
    until("threads to end", || threads() <= before + 4);
    let delivered = || client.get("/stats").json()["streams"][0]["frames_delivered"].as_u64().expect("a number");
    let count = delivered();
    until("the first stream going on", || delivered() > count);
    assert_eq!(client.get("/healthz").status, 200);
    let stop = client.send("POST", "/stop", &[], b"");
    assert_eq!(stop.status, 202);
    watched.end().result.expect("no failure");
}

#[test]
fn a_client_that_reads_nothing_holds_nothing_up() {
    let clip = ClipSpec::default().frames(600).make();
    let watched = Watched::start(&format!("read '{}' ! null", clip.path().display()), None);
    let mut asleep = Vec::new();
    for path in ["/frames/0.mjpg", "/events", "/frames/0.mjpg"] {
        let mut stream = TcpStream::connect(watched.address()).expect("connects");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("sent");
        asleep.push(stream);
    }
    let outcome = watched.end();
    assert_eq!(outcome.stats.frames_done(), 600);
}

/// Outputs a frame per message; never sleeps for long, so that it does not count as stalled.
struct OnDemand(Receiver<u64>);

impl Source for OnDemand {
    fn produce(&mut self, out: &mut dyn Emitter) -> Result<Flow, StageError> {
        match self.0.recv_timeout(Duration::from_millis(10)) {
            Ok(index) => out.push(serve_support::gray_frame(index).into())?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Flow::Done),
        }
        Ok(Flow::More)
    }
}

/// Reports its setting for each frame, and can be blocked by a message that is not sent.
struct Judge {
    setting: Option<Setting>,
    reported: std::sync::mpsc::Sender<f64>,
    may: Receiver<()>,
}

impl Stage for Judge {
    fn start(&mut self, context: &StageContext) -> Result<(), StageError> {
        self.setting = Some(context.setting(SettingSpec::new("confidence", 0.0..=1.0).help("least score"), 0.5));
        Ok(())
    }

    fn frame(&mut self, _: FrameItem, _: &mut dyn Emitter) -> Result<Flow, StageError> {
        let _ = self.reported.send(self.setting.as_ref().map_or(f64::NAN, Setting::value));
        // A test that fails must not hang.
        let _ = self.may.recv_timeout(Duration::from_secs(20));
        Ok(Flow::More)
    }
}

#[test]
fn settings_change_and_stalls_show() {
    let ((ask, asked), (reported, values), (let_go, may)) = (channel(), channel(), channel());
    let mut graph = Graph::new();
    let source = graph.add("source", Work::Source(Box::new(OnDemand(asked))), NodeOptions::default());
    let judge = graph.add("judge", Work::Stages(vec![Box::new(Judge { setting: None, reported, may })]), NodeOptions::default());
    graph.connect(source, judge, EdgeFormat::default());
    let handle = graph.start(RunOptions { stall_limit: Duration::from_millis(200), ..RunOptions::default() }).expect("a graph");
    let (images, _thread) = LiveImages::start(ImageOptions::default()).expect("a thread");
    let bound = BoundServer::bind(&ServeOptions { address: "127.0.0.1:0".into(), ..ServeOptions::default() }).expect("a free port");
    let content = Content::Run { run: handle.switch(), view: None, title: String::new() };
    let server = bound.serve(content, &images).expect("a thread");
    let client = Client::new(server.address());
    let next = |index: u64| {
        ask.send(index).expect("the source listens");
        values.recv().expect("the stage answers")
    };

    assert_eq!(next(0), 0.5);
    // A hand-written source also counts as stalled while it waits; only the sink is checked.
    let stalled = || {
        let health = client.get("/healthz");
        let is_reported = health.text().contains("judge: no progress for");
        assert_eq!(health.json()["state"] == "stalled", health.status == 503, "{health:?}");
        is_reported
    };
    until("the stall", stalled);
    let_go.send(()).expect("the stage listens");
    until("its end", || !stalled());
    assert_eq!(client.get("/settings").json()[0]["value"], 0.5);
    let set = |value: Value| client.json("PUT", "/settings", &json!({ "stage": "judge", "name": "confidence", "value": value }));
    let reply = set(json!(0.25));
    assert!(reply.status == 200 && reply.json()[0]["value"] == 0.25, "{reply:?}");
    assert_eq!(next(1), 0.25);
    let_go.send(()).expect("the stage listens");
    for (value, words) in [(json!(2), "must be from 0 to 1"), (json!("x"), "invalid JSON"), (json!(null), "invalid JSON")] {
        let reply: Reply = set(value);
        assert!(reply.status == 400 && reply.text().contains(words), "{reply:?}");
    }
    assert_eq!(client.get("/frames/0.jpg").status, 404);
    drop((ask, let_go));
    handle.wait().result.expect("no failure");
    assert_eq!(client.get("/healthz").json()["state"], "ended");
    server.close();
}

#[test]
fn models_are_replaced_with_a_token_only() {
    let asked = json!({ "stage": "null", "model": "cards/new.toml" });
    let open = paced();
    assert_eq!(open.client().get("/models").json(), json!([]));
    let reply = open.client().json("PUT", "/models", &asked);
    assert!(reply.status == 403 && reply.text().contains("--serve-token"), "{reply:?}");
    open.stop();
    let text = format!("read '{}' realtime=yes stay=yes ! null", clip().make().path().display());
    let guarded = Watched::start(&text, Some(TOKEN));
    let reply = guarded.known().json("PUT", "/models", &asked);
    assert!(reply.status == 400 && reply.text().contains("null has no model that can be replaced"), "{reply:?}");
    guarded.stop();
}

#[test]
fn the_mjpeg_stage_serves_its_streams() {
    let clip = clip().make();
    let text = format!("read '{}' realtime=yes ! mjpeg 127.0.0.1:0", clip.path().display());
    let handle = framerail::plan(&text).expect("valid").into_graph().expect("linked").graph.start(RunOptions::default()).expect("started");
    let mut notice = String::new();
    until("the address", || {
        notice = handle.stats().stage("mjpeg").and_then(|stage| stage.notices.first().cloned()).unwrap_or_default();
        !notice.is_empty()
    });
    let address = notice.trim_start_matches("serves at http://").trim_end_matches('/').parse().expect("an address");
    let client = Client::new(address);
    until("the stream", || client.get("/streams").json().as_array().is_some_and(|streams| !streams.is_empty()));
    let name = client.get("/streams").json()[0]["name"].as_str().expect("a name").to_owned();
    assert!(client.get("/").text().contains(&format!("alt=\"Live image of {name}\"")));
    let numbers: Vec<u64> = client.multipart(&format!("/{name}.mjpg"), 3).iter().map(|jpeg| shown_number(jpeg)).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    assert_eq!(client.get("/0.jpg").status, 200);
    for path in ["/stats", "/none.mjpg", "/settings"] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
    assert_eq!(client.send("POST", "/stop", &[], b"").status, 405);
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("no failure");
    assert!(outcome.stats.counter("pictures_made") >= 4);
    let error = framerail::run("read in.mp4 ! mjpeg 127.0.0.1:0 token_env=FRAMERAIL_NO_SUCH_VARIABLE").expect_err("no token");
    assert!(error.to_string().contains("is not set"), "{error}");
}
