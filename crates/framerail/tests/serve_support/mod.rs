//! A monitored run, and a small client.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use framerail::{
    core::*,
    pipeline::{FrameItem, RunHandle, RunOptions, RunOutcome},
};
use framerail_serve::{BoundServer, Content, ImageOptions, ImageThread, LiveImages, ServeOptions, Server, View};
use serde_json::Value;

/// Maximum time that a test waits for an expected event.
const LIMIT: Duration = Duration::from_secs(60);

/// Polls until a condition holds.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "{what}: waited for too long");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A running pipeline and its server.
pub struct Watched {
    handle: Option<RunHandle>,
    server: Option<Server>,
    images: LiveImages,
    _thread: ImageThread,
    address: SocketAddr,
    token: Option<String>,
}

impl Watched {
    pub fn start(text: &str, token: Option<&str>) -> Self {
        let mut planned = framerail::plan(text).unwrap_or_else(|problems| panic!("{problems}")).into_graph().expect("linked");
        let sources = Some(["file", "http", "rtsp"].map(str::to_owned).into());
        let options = ServeOptions { address: "127.0.0.1:0".into(), token: token.map(str::to_owned), hosts: Vec::new(), sources };
        let bound = BoundServer::bind(&options).expect("a free port");
        let view = View::find(&planned, None).expect("frames");
        // No limit on images: the test machine may be slow.
        let options = ImageOptions { rate: None, share: None, ..ImageOptions::default() };
        let (images, thread) = LiveImages::start(options).expect("a thread");
        view.attach(&mut planned, &images);
        let handle = planned.graph.start(RunOptions::default()).expect("started");
        let content = Content::Run { run: handle.switch(), view: Some(view.stage), title: "test".into() };
        let server = bound.serve(content, &images).expect("a thread");
        Self {
            address: server.address(),
            handle: Some(handle),
            server: Some(server),
            images,
            _thread: thread,
            token: token.map(str::to_owned),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn handle(&self) -> &RunHandle {
        self.handle.as_ref().expect("at work")
    }

    pub fn images(&self) -> &LiveImages {
        &self.images
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// A client with the token.
    pub fn known(&self) -> Client {
        Client { token: self.token.clone(), ..self.client() }
    }

    pub fn stream_name(&self, id: u32) -> String {
        self.handle().stats().stream(id).expect("listed").name.clone()
    }

    /// Waits for the run's own end, and closes the server.
    pub fn end(mut self) -> RunOutcome {
        let handle = self.handle.take().expect("at work");
        assert!(handle.wait_for(LIMIT), "the run hangs: {:#?}", handle.stats());
        let outcome = handle.wait();
        self.server.take().expect("serves").close();
        outcome
    }

    pub fn stop(self) {
        self.handle().stop();
        self.end().result.expect("no failure");
    }
}

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// Makes a connection for each request.
pub struct Client {
    address: SocketAddr,
    token: Option<String>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"")
    }

    pub fn json(&self, method: &str, path: &str, value: &Value) -> Reply {
        self.send(method, path, &[("Content-Type", "application/json")], value.to_string().as_bytes())
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.exchange(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn exchange(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Reply> {
        let mut reader = self.open(method, path, headers, body)?;
        let mut reply = head(&mut reader)?;
        reader.read_to_end(&mut reply.body)?;
        if reply.header("transfer-encoding") == "chunked" {
            reply.body = unchunked(&reply.body);
        }
        Ok(reply)
    }

    fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<BufReader<TcpStream>> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: {}\r\n", self.address);
        }
        if let Some(token) = &self.token {
            text += &format!("Authorization: Bearer {token}\r\n");
        }
        headers.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        // A body that is too large is answered before it has been sent.
        let _ = stream.write_all(body);
        Ok(BufReader::new(stream))
    }

    /// The first few images of an endless response.
    pub fn multipart(&self, path: &str, count: usize) -> Vec<Vec<u8>> {
        let mut reader = Chunks::new(self.open("GET", path, &[], b"").expect("connects"));
        assert!(reader.head.header("content-type").starts_with("multipart/x-mixed-replace; boundary="), "{:?}", reader.head);
        let mut parts = Vec::new();
        while parts.len() < count {
            let mut length = 0;
            loop {
                let line = reader.line();
                if line.is_empty() && length > 0 {
                    break;
                }
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.parse().expect("a number");
                }
            }
            parts.push(reader.bytes(length));
        }
        parts
    }

    /// All events of `/events` until it ends, received by a thread from now on.
    pub fn events(&self) -> Receiver<Vec<(String, Value)>> {
        let mut reader = Chunks::new(self.open("GET", "/events", &[], b"").expect("connects"));
        assert_eq!(reader.head.header("content-type"), "text/event-stream");
        let (tell, reported) = channel();
        thread::spawn(move || {
            let (mut events, mut name) = (Vec::new(), String::new());
            while let Some(line) = reader.next_line() {
                if let Some(event) = line.strip_prefix("event: ") {
                    event.clone_into(&mut name);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    events.push((name.clone(), serde_json::from_str(data).expect("JSON")));
                }
            }
            let _ = tell.send(events);
        });
        reported
    }
}

fn head(reader: &mut impl BufRead) -> std::io::Result<Reply> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines.first().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let pair = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Ok(Reply { status, headers: lines.iter().skip(1).filter_map(pair).collect(), body: Vec::new() })
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
        let length = usize::from_str_radix(&String::from_utf8_lossy(&bytes[..end]), 16).expect("a length");
        whole.extend_from_slice(&bytes[end + 2..end + 2 + length]);
        bytes = &bytes[end + 4 + length..];
    }
    whole
}

/// A body in chunks, as a stream of bytes.
struct Chunks {
    inner: BufReader<TcpStream>,
    head: Reply,
    buffer: Vec<u8>,
}

impl Chunks {
    fn new(mut inner: BufReader<TcpStream>) -> Self {
        let head = head(&mut inner).expect("an answer");
        assert_eq!(head.status, 200, "{head:?}");
        Self { inner, head, buffer: Vec::new() }
    }

    /// Reads another chunk; returns whether there was one.
    fn fill(&mut self) -> bool {
        let mut line = String::new();
        if self.inner.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let length = usize::from_str_radix(line.trim(), 16).expect("a length");
        let mut chunk = vec![0; length + 2];
        self.inner.read_exact(&mut chunk).expect("the chunk");
        self.buffer.extend_from_slice(&chunk[..length]);
        length > 0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "the answer ends early");
        }
        self.buffer.drain(..count).collect()
    }

    fn line(&mut self) -> String {
        self.next_line().expect("a line")
    }

    fn next_line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            if !self.fill() {
                return None;
            }
        }
    }
}

/// Reads metrics as strictly as Prometheus does, by its text format 0.0.4; samples by name and labels.
pub fn check_metrics(text: &str) -> BTreeMap<String, f64> {
    let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a kind");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(families.insert(name, kind).is_none(), "{name} comes twice");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (key, value) = line.rsplit_once(' ').expect("a value");
        let name = key.split('{').next().expect("a name");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
        assert!(families.contains_key(name), "{name} has no type before it");
        if let Some(labels) = key.strip_prefix(name).and_then(|labels| labels.strip_prefix('{')) {
            assert!(labels.ends_with("\"}") && labels.contains("=\""), "{line}");
        }
        assert!(samples.insert(key.to_owned(), value.parse().expect("a number")).is_none(), "{key} comes twice");
    }
    samples
}

/// A grey pixel with a number.
pub fn gray_frame(index: u64) -> FrameItem {
    let surface = FramePool::new(0).surface(PixelFormat::Gray8, 1, 1).expect("size in range");
    FrameItem::new(Frame { index, pts: Pts(index as i64), ..Frame::of(surface) })
}
