//! A small S3 server on loopback that can be slow, busy, cut off, or refuse credentials. The real one of the tests is moto's
//! (`make test-scale`).

use std::{
    collections::{BTreeMap, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use framerail_testkit::Cli;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Busy,
    /// The connection ends in the middle of the answer.
    Cut,
    Expired,
    Slow,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    parts: BTreeMap<(String, usize), Vec<u8>>,
    /// The method that fails, and the remaining faults.
    faults: VecDeque<(&'static str, Fault)>,
}

/// The server, with one bucket named `bucket`.
#[derive(Clone)]
pub struct S3 {
    state: Arc<Mutex<State>>,
    port: u16,
}

struct Answer {
    status: &'static str,
    headers: Vec<String>,
    body: Vec<u8>,
    is_cut: bool,
}

impl S3 {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Self { state: Arc::default(), port: listener.local_addr().expect("an address").port() };
        let own = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = own.clone();
                thread::spawn(move || while own.serve(&stream).is_some() {});
            }
        });
        server
    }

    /// The program with this server and its credentials in the environment.
    pub fn reached_by(&self, cli: Cli) -> Cli {
        cli.env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_ACCESS_KEY_ID", "testing")
            .env("AWS_SECRET_ACCESS_KEY", "testing")
            .env("AWS_REGION", "eu-west-1")
            // Google's XML requests are those of S3 but for credentials.
            .env("GOOGLE_BASE_URL", format!("http://127.0.0.1:{}", self.port))
            .env("GOOGLE_SERVICE_ACCOUNT_KEY", r#"{"private_key":"","private_key_id":"","client_email":"","disable_oauth":true}"#)
            .env_remove("AWS_SESSION_TOKEN")
            .env_remove("AWS_PROFILE")
    }

    pub fn put(&self, key: &str, bytes: Vec<u8>) {
        self.state.lock().expect("lock").objects.insert(key.to_owned(), bytes);
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().expect("lock").objects.get(key).cloned()
    }

    pub fn keys(&self) -> Vec<String> {
        self.state.lock().expect("lock").objects.keys().cloned().collect()
    }

    /// Parts of uploads that are neither completed nor aborted.
    pub fn parts(&self) -> usize {
        self.state.lock().expect("lock").parts.len()
    }

    /// Makes the next requests with this method fail in these ways.
    pub fn fail(&self, method: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().expect("lock").faults = faults.into_iter().map(|fault| (method, fault)).collect();
    }

    pub fn faults_left(&self) -> usize {
        self.state.lock().expect("lock").faults.len()
    }

    fn serve(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = self.answer(&method, &target, &headers, body);
        let mut text = format!("HTTP/1.1 {}\r\n", answer.status);
        if !answer.headers.iter().any(|header| header.starts_with("Content-Length")) {
            text += &format!("Content-Length: {}\r\n", answer.body.len());
        }
        answer.headers.iter().for_each(|header| text += &format!("{header}\r\n"));
        let mut stream = stream;
        stream.write_all(format!("{text}\r\n").as_bytes()).ok()?;
        let end = if answer.is_cut { answer.body.len() / 2 } else { answer.body.len() };
        stream.write_all(answer.body.get(..end)?).ok()?;
        if answer.is_cut {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return None;
        }
        Some(())
    }

    fn answer(&self, method: &str, target: &str, headers: &BTreeMap<String, String>, body: Vec<u8>) -> Answer {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = framerail::core::percent_decoded(path);
        let fault = {
            let mut state = self.state.lock().expect("lock");
            let is_due = state.faults.front().is_some_and(|(wanted, _)| *wanted == method);
            if is_due { state.faults.pop_front().map(|(_, fault)| fault) } else { None }
        };
        match fault {
            Some(Fault::Busy) => return failure("503 Slow Down", "SlowDown", "Please reduce your request rate."),
            Some(Fault::Expired) => return failure("400 Bad Request", "ExpiredToken", "The provided token has expired."),
            Some(Fault::Slow) => thread::sleep(Duration::from_millis(300)),
            Some(Fault::Cut) | None => {}
        }
        let mut answer = self.of_storage(method, &path, query, headers, body);
        answer.is_cut = fault == Some(Fault::Cut);
        if method == "HEAD" {
            let length = answer.body.len();
            answer.headers.push(format!("Content-Length: {length}"));
            answer.body.clear();
        }
        answer
    }

    fn of_storage(&self, method: &str, path: &str, query: &str, headers: &BTreeMap<String, String>, body: Vec<u8>) -> Answer {
        let Some(key) = path.strip_prefix("/bucket").map(|key| key.trim_start_matches('/').to_owned()) else {
            return failure("404 Not Found", "NoSuchBucket", "The specified bucket does not exist");
        };
        let mut state = self.state.lock().expect("lock");
        let parameter = |name: &str| {
            let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.map(framerail::core::percent_decoded)
        };
        match method {
            "GET" if key.is_empty() => listed(&state.objects, &parameter("prefix").unwrap_or_default(), parameter("delimiter").is_some()),
            "GET" | "HEAD" => match state.objects.get(&key) {
                Some(object) => part_of(object, headers.get("range")),
                None => failure("404 Not Found", "NoSuchKey", "The specified key does not exist."),
            },
            "PUT" => {
                if let Some(number) = parameter("partNumber") {
                    state.parts.insert((key, number.parse().expect("a number")), body);
                } else if headers.contains_key("if-none-match") && state.objects.contains_key(&key) {
                    return failure("412 Precondition Failed", "PreconditionFailed", "At least one of the preconditions did not hold");
                } else {
                    state.objects.insert(key, body);
                }
                Answer { headers: vec!["ETag: \"part\"".into()], ..success(Vec::new()) }
            }
            "POST" if query.starts_with("uploads") => success(
                b"<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>k</Key><UploadId>id</UploadId></InitiateMultipartUploadResult>"
                    .to_vec(),
            ),
            "POST" => {
                let parts: Vec<_> = state.parts.keys().filter(|(of, _)| *of == key).cloned().collect();
                let whole = parts.iter().flat_map(|part| state.parts.remove(part).expect("there")).collect();
                state.objects.insert(key, whole);
                success(b"<CompleteMultipartUploadResult><ETag>\"whole\"</ETag></CompleteMultipartUploadResult>".to_vec())
            }
            _ => {
                if !query.contains("uploadId") {
                    state.objects.remove(&key);
                }
                state.parts.retain(|(of, _), _| *of != key);
                success(Vec::new())
            }
        }
    }
}

fn success(body: Vec<u8>) -> Answer {
    Answer { status: "200 OK", headers: Vec::new(), body, is_cut: false }
}

fn failure(status: &'static str, code: &str, message: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>");
    Answer { status, ..success(body.into_bytes()) }
}

fn part_of(object: &[u8], range: Option<&String>) -> Answer {
    let size = object.len();
    let facts = ["ETag: \"tag\"".to_owned(), "Last-Modified: Tue, 01 Dec 2026 00:00:00 GMT".to_owned()];
    let Some((start, end)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return Answer { headers: facts.to_vec(), ..success(object.to_vec()) };
    };
    let start: usize = start.parse().expect("a number");
    let end = end.parse().map_or(size, |last: usize| (last + 1).min(size));
    if start >= size {
        return failure("416 Requested Range Not Satisfiable", "InvalidRange", "The requested range is not satisfiable");
    }
    let mut headers = facts.to_vec();
    headers.push(format!("Content-Range: bytes {start}-{}/{size}", end - 1));
    Answer { status: "206 Partial Content", headers, body: object[start..end].to_vec(), is_cut: false }
}

fn listed(objects: &BTreeMap<String, Vec<u8>>, prefix: &str, is_flat: bool) -> Answer {
    let is_shown = |key: &str| key.strip_prefix(prefix).is_some_and(|rest| !is_flat || !rest.contains('/'));
    let escaped = |key: &str| key.replace('&', "&amp;").replace('<', "&lt;");
    let entries: String = objects
        .iter()
        .filter(|(key, _)| is_shown(key))
        .map(|(key, object)| {
            let (key, size) = (escaped(key), object.len());
            format!("<Contents><Key>{key}</Key><LastModified>2026-12-01T00:00:00.000Z</LastModified><Size>{size}</Size></Contents>")
        })
        .collect();
    success(format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>").into_bytes())
}
